"""`ecr_jax.load`: plain values in and out, the same alone, in a batch and from threads, compiled once."""

from __future__ import annotations

import doctest
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import pytest

import ecr_jax
from ecr_jax.inference.loaded_run import turns_of
from tests import random_run

CONVERSATIONS = [
    [("seeker", "hello i liked Ronin (1998) a lot")],
    [
        {"role": "seeker", "text": "hello i liked Thief (1981) a lot"},
        {"role": "recommender", "text": "then you should see Zodiac (2007) tonight ."},
        {"role": "seeker", "text": "what else ?"},
    ],
    [("seeker", "hello")],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with random parameters."""
    return random_run.write(tmp_path_factory.mktemp("run")).folder


@pytest.fixture(scope="module")
def loaded(folder):
    return ecr_jax.load(folder)


def test_films_are_plain_values_and_none_was_mentioned(loaded):
    films = loaded.recommend(CONVERSATIONS[1], k=3)
    assert json.loads(json.dumps(films)) == films and len(films) == 3
    assert not {"Thief (1981)", "Zodiac (2007)"} & {film["title"] for film in films}
    probabilities = [film["probability"] for film in films]
    assert probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) <= 1 + 1e-6
    assert all(film["uri"].startswith("<http://dbpedia.org/resource/") for film in films)
    assert len(loaded.recommend(CONVERSATIONS[0], k=100)) == 5  # of six films one was mentioned


def test_a_conversation_is_ranked_the_same_alone_in_a_batch_and_from_threads(loaded):
    alone = [loaded.recommend(conversation, k=6) for conversation in CONVERSATIONS]
    many = CONVERSATIONS * 3  # more than one batch
    with ThreadPoolExecutor(4) as threads:
        threaded = list(threads.map(lambda conversation: loaded.recommend(conversation, k=6), many))
    for films, expected in zip(loaded.recommend_all(many, k=6) + threaded, (alone * 3) * 2, strict=True):
        assert [film["title"] for film in films] == [film["title"] for film in expected]
        for film, other in zip(films, expected, strict=True):
            assert film["probability"] == pytest.approx(other["probability"], rel=1e-4)
    assert loaded.recommend_all([]) == []


@pytest.mark.slow
def test_a_reply_is_plain_and_nothing_is_compiled_after_the_warm_up(loaded, caplog):
    def compiled():
        return [record.message for record in caplog.records if record.message.startswith("Compiling ")]

    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        loaded.warm_up()
        assert compiled()
        caplog.clear()
        answer = loaded.reply(CONVERSATIONS[1], items=1)
        loaded.recommend(CONVERSATIONS[0])
        loaded.recommend_all([*CONVERSATIONS, [("seeker", "hello " * 40)]])
        assert not compiled()
    assert json.loads(json.dumps(answer)) == answer and loaded.reply(CONVERSATIONS[1], items=1) == answer
    assert answer["text"] == f"{answer['recommendation']} {answer['emotional']}".strip()
    assert len(answer["items"]) >= 1 and answer["items"] == answer["ranked"][: len(answer["items"])]
    assert answer["entities"] == ["Thief (1981)", "Zodiac (2007)"] and sum(answer["emotions"].values()) <= 1 + 1e-6


@pytest.mark.slow
def test_the_examples_of_the_page(folder):
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text().replace('"runs/demo"', repr(str(folder)))
    examples = doctest.DocTestParser().get_doctest(page, {}, "serving.md", None, None)
    assert len(examples.examples) >= 7
    assert doctest.DocTestRunner().run(examples).failed == 0


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ([], "ends with what the seeker said"),
        ([("seeker", "hi"), ("recommender", "hello")], "ends with what the seeker said"),
        ([("seeker", "hi"), ("user", "hello")], r"turn 2 is \('user', 'hello'\): give the role seeker or recommender"),
        ([{"role": "seeker"}], "turn 1 is {'role': 'seeker'}: give a role and a text"),
        ([("seeker", 3)], "turn 1 is .*and a text"),
        ([("seeker", "  ")], "turn 1 is .*and a text"),
        (["hello"], "turn 1 is 'hello': give a role and a text"),
        ([3], "turn 1 is 3: give a role and a text"),
    ],
)
def test_conversations_that_are_none(conversation, message):
    with pytest.raises(ValueError, match=message):
        turns_of(conversation)


def test_numbers_that_cannot_be(loaded):
    with pytest.raises(ValueError, match="k = 0: ask for at least one film"):
        loaded.recommend(CONVERSATIONS[0], k=0)
    with pytest.raises(ValueError, match="items = -1: give 0 or more"):
        loaded.reply(CONVERSATIONS[0], items=-1)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ValueError, match="is not the folder of a run"):
        ecr_jax.load(tmp_path)
