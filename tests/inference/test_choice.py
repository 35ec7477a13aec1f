"""Scores of a closed set of continuations against whole forward passes, one continuation at a time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.inference.choice import choose, score
from ecr_jax.inference.decoding import pad_left
from ecr_jax.models.language_model import logits
from tests import tiny

VOCAB = 12
MODEL = tiny.random_model(tiny.llama(VOCAB, layers=2), scale=0.6)
PROMPTS = [[1, 2, 3, 4], [5, 6], [7]]
CHOICES = [[1], [1, 2, 3], [4, 4], [9, 8, 7], [0]]
PREFIX = tuple(jnp.asarray(np.random.default_rng(i).normal(size=(2, 3, 1, 2, 8)), jnp.float32) for i in (1, 2))
SEEN = np.array([[True, True], [True, False], [False, False]])
LOW = np.random.default_rng(5).normal(0, 0.4, (2, 2, 16, 3)).astype(np.float32)  # [a b, L, in, r]
LORA = {"layers": {"attention": {"q": {"a": LOW[0], "b": LOW[1].swapaxes(-1, -2)}}}}  # one for all rows
VARIABLES = {"params": MODEL.params, "lora": LORA}


def pad_right(rows, length=3):
    tokens = np.array([row + [0] * (length - len(row)) for row in rows], np.int32)
    return tokens, np.arange(length) < np.array([[len(row)] for row in rows])


@jax.jit
def shares(tokens, mask, prefix, seen):
    out = MODEL.module.apply(VARIABLES, tokens, mask, prefix, seen)
    return jax.nn.log_softmax(logits(MODEL.params, out.hidden))


def by_hand(row, choice):
    text = PROMPTS[row] + choice
    tokens, mask = pad_right([text], 8)
    prefix = tuple(part[:, row : row + 1] for part in PREFIX)
    found = np.asarray(shares(tokens, mask, prefix, SEEN[row : row + 1]))[0]
    return sum(float(found[at - 1, text[at]]) for at in range(len(PROMPTS[row]), len(text)))


EXPECTED = np.array([[by_hand(row, choice) for choice in CHOICES] for row in range(3)])
LENGTHS = np.array([len(choice) for choice in CHOICES])


def call(function=score, choices=None, width=4, **given):
    tokens, mask = pad_left(PROMPTS, width)
    choices = pad_right(CHOICES) if choices is None else choices
    return function(MODEL.module, VARIABLES, tokens, mask, *choices, prefix=PREFIX, prefix_mask=SEEN, **given)


def test_scores_equal_whole_forward_passes():
    scores = call(at_once=2)  # five of them: the last is read alone
    np.testing.assert_allclose(scores.total, EXPECTED, rtol=1e-5)
    np.testing.assert_allclose(scores.mean, EXPECTED / LENGTHS, rtol=1e-5)
    assert scores.total.dtype == scores.mean.dtype == np.float32


def test_each_prompt_may_have_its_own_choices():
    tokens, marks = pad_right(CHOICES)
    turned = np.stack([np.roll(tokens, row, axis=0) for row in range(3)])
    shown = np.stack([np.roll(marks, row, axis=0) for row in range(3)])
    expected = np.stack([np.roll(EXPECTED[row], row) for row in range(3)])
    noise = np.where(shown, turned, 11)  # what is padding does not matter
    np.testing.assert_allclose(call(choices=(noise, shown)).total, expected, rtol=1e-5)


def test_all_single_tokens_share_the_whole_probability():
    every = np.arange(VOCAB, dtype=np.int32)[:, None]
    scores = call(choices=(every, np.ones_like(every)), width=6)
    np.testing.assert_allclose(np.exp(scores.total).sum(axis=1), 1, rtol=1e-5)


def test_choice_is_the_best():
    assert call(choose).tolist() == EXPECTED.argmax(axis=1).tolist()
    assert call(choose, per_token=True).tolist() == (EXPECTED / LENGTHS).argmax(axis=1).tolist()
    assert (EXPECTED.argmax(axis=1) != (EXPECTED / LENGTHS).argmax(axis=1)).any()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (([[1, 2]], [[True]]), r"choices \(1, 2\) and their mask \(1, 1\)"),
        (([1, 2], [True, True]), r"must both be \[choices, tokens\] or \[3, choices, tokens\]"),
        (([[[1]]] * 2, [[[True]]] * 2), r"\[3, choices, tokens\]"),
        (([[1, 2], [1, 2]], [[True, True], [False, False]]), "every choice needs a token"),
        (([[1, 2, 3]], [[True, False, True]]), "its padding on the right"),
        (([[1] * 512], [[True] * 512]), "need 516 positions, but this model has 512"),
    ],
)
def test_wrong_choices(choices, message):
    with pytest.raises(ValueError, match=message):
        call(choices=choices)
