"""From dialogue to tokens: turns whole, the latest kept, `<movie>` one token, decoding up to the end."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from ecr_jax.data.schema import Role
from ecr_jax.features.tokenizer import DialogueTokenizer, last_turns, pad
from tests import tiny


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(6, [1, 2, 3, 4, 5, 6]), (5, [4, 5, 6]), (3, [4, 5, 6]), (9, [1, 2, 3, 4, 5, 6]), (2, [5, 6]), (1, [6])],
)
def test_last_turns(limit, expected):
    assert last_turns([[1, 2, 3], [4, 5, 6]], limit) == expected


def test_a_turn_that_does_not_fit_ends_it():
    # the short first turn would fit, but a dialogue has no holes
    assert last_turns([[1], [2, 3, 4, 5], [6, 7]], 4) == [6, 7]
    assert last_turns([], 4) == []


@pytest.fixture(scope="module")
def tokenizer():
    return DialogueTokenizer.of(tiny.tokenizer("User: System: try it again".split()))


def test_turns(tokenizer):
    ids = dict(tokenizer.tokenizer.get_vocab())
    first, second = tokenizer.encode_turns([(Role.SEEKER, "try it"), (Role.RECOMMENDER, "again <movie> now")])
    assert first == [ids["User:"], ids["try"], ids["it"], tokenizer.end]
    assert second == [ids["System:"], ids["again"], tokenizer.movie, ids["<unknown>"], tokenizer.end]
    assert tokenizer.movie == ids["<movie>"] == len(ids) - 1
    assert second[: len(tokenizer.opening())] == tokenizer.opening() == [ids["System:"]]
    assert tokenizer.opening(Role.SEEKER) == [ids["User:"]]
    assert tokenizer.encode_turns([]) == [] == tokenizer.encode([])


def test_movie_is_added_once(tokenizer):
    assert DialogueTokenizer.of(tokenizer.tokenizer).movie == tokenizer.movie


def test_slot_touching_other_characters_is_one_token(tokenizer):
    assert tokenizer.encode(["again<movie>it"])[0].count(tokenizer.movie) == 1


def test_decode(tokenizer):
    ids = tokenizer.encode(["try <movie> again"])[0]
    assert tokenizer.decode(ids) == "try <movie> again"
    assert tokenizer.decode(np.array([*ids, tokenizer.end, *ids])) == "try <movie> again"
    assert tokenizer.decode([tokenizer.end, *ids]) == "" == tokenizer.decode([])


def test_no_end_token():
    without_end = tiny.tokenizer(["a"])
    with pytest.raises(ValueError, match="end-of-sequence token"):
        DialogueTokenizer.of(PreTrainedTokenizerFast(tokenizer_object=without_end.backend_tokenizer))


def test_pad():
    ids, mask = pad([[5, 6], [], [7, 8, 9]], 3, value=1)
    assert ids.tolist() == [[5, 6, 1], [1, 1, 1], [7, 8, 9]] and ids.dtype == np.int32
    assert mask.tolist() == [[True, True, False], [False] * 3, [True] * 3]
