"""Choosing tokens: thresholds against sorting, n-grams against brute force, draws against their probabilities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.inference.decoding import Decoding
from ecr_jax.inference.sampling import (
    argmax,
    choose_token,
    completes_ngram,
    keep_highest,
    penalise_repetition,
    restrict,
    sample,
    truncate,
)
from tests.inference.repeats import completes

INF = np.inf


def rules(ends=(99,), batch=1, width=4, start=0, **settings):
    return Decoding(**settings).rules(np.asarray(ends, np.int32), np.full(batch, start, np.int32), width)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_repeats_against_brute_force(n):
    rng = np.random.default_rng(n)
    tokens = rng.integers(0, 3, (6, 9)).astype(np.int32)
    first = rng.integers(0, 5, 6).astype(np.int32)
    check = jax.jit(completes_ngram, static_argnums=3)
    for column in range(10):
        marked = np.asarray(check(tokens, first, column, n))
        for row in range(6):
            banned = {int(token) for token, mark in zip(tokens[row], marked[row], strict=True) if mark}
            assert banned == completes(tokens[row, first[row] : column].tolist(), n), (column, row)


def test_penalty_by_hand():
    scores = jnp.array([[2.0, -2.0, 4.0, -4.0], [1.0, 1.0, -1.0, 0.0]])
    tokens = jnp.array([[2, 3, 2, 0], [1, 1, 2, 3]])
    counted = jnp.array([[True, True, True, False], [False, True, True, True]])
    changed = jax.jit(penalise_repetition)(scores, tokens, counted, jnp.float32(2))
    np.testing.assert_array_equal(changed, [[2, -2, 2, -8], [1, 0.5, -2, 0]])


def test_restrictions_by_hand():
    """Tokens of the prompt are 3 and 1 (column 0 is padding), the output so far is 1 3; n-grams of length 2."""
    scores, tokens = jnp.array([[1.0, 2, 3, 4, 5]]), jnp.array([[2, 3, 1, 1, 3, 0]])
    options = dict(width=3, start=1, no_repeat_ngram=2, repetition_penalty=2.0, min_new=3, ends=(4, 77))
    forbid = jax.jit(restrict, static_argnums=5)
    actual = [
        forbid(scores, rules(**options, count_prompt_ngrams=prompt), tokens, jnp.int32(5), jnp.array([count]), 2)[0]
        for prompt in (False, True) for count in (2, 3)
    ]  # fmt: skip
    assert [row.tolist() for row in actual] == [
        [1, 1, 3, 2, -INF],  # 3 was not followed by anything in the output; the end comes too early
        [1, 1, 3, 2, 5],
        [1, -INF, 3, 2, -INF],  # in the prompt 3 was followed by 1
        [1, -INF, 3, 2, 5],
    ]


def by_sorting(scores, top_k, top_p, min_p, temperature):
    """The textbook's way, in float64; the scores have no ties."""
    scores = scores.astype(np.float64) / temperature
    order = np.argsort(-scores, axis=1)
    for row, ids in zip(scores, order, strict=True):
        if top_k:
            row[ids[top_k:]] = -INF
        if top_p < 1:
            shares = np.exp(row[ids] - row.max())
            before = np.cumsum(shares / shares.sum()) - shares / shares.sum()
            row[ids[before >= top_p]] = -INF
        row[row < row.max() + np.log(max(min_p, 1e-300))] = -INF
    return scores


@pytest.mark.parametrize("settings", [
    dict(top_k=0, top_p=1.0, min_p=0.0), dict(top_k=1, top_p=1.0, min_p=0.0), dict(top_k=40, top_p=1.0, min_p=0.0),
    dict(top_k=1000, top_p=1.0, min_p=0.0), dict(top_k=0, top_p=0.5, min_p=0.0), dict(top_k=0, top_p=1e-6, min_p=0.0),
    dict(top_k=0, top_p=0.99, min_p=0.0), dict(top_k=0, top_p=1.0, min_p=0.05), dict(top_k=0, top_p=1.0, min_p=1.0),
    dict(top_k=20, top_p=0.7, min_p=0.1),
])  # fmt: skip
@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_what_sampling_keeps_equals_sorting(settings, temperature):
    scores = np.random.default_rng(0).normal(0, 4, (5, 300)).astype(np.float32)
    actual = np.asarray(heat(scores, rules(temperature=temperature, **settings)))
    expected = by_sorting(scores, temperature=temperature, **settings)
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


heat = jax.jit(truncate)


def test_one_program_heats_for_all_settings():
    before = heat._cache_size()
    for temperature, top_k in ((0.3, 7), (2.0, 0)):
        heat(np.zeros((5, 300), np.float32), rules(temperature=temperature, top_k=top_k, top_p=0.3, min_p=0.2))
    assert heat._cache_size() <= max(before, 1)


def test_equal_scores_stay_together_and_forbidden_ones_stay_out():
    scores = jnp.array([[1.0, 3.0, 3.0, -INF, 2.0], [-1.0, -2.0, -INF, -2.0, -INF]])
    cut = jax.jit(keep_highest)
    actual = cut(scores, jnp.ones_like(scores), jnp.float32(1))
    np.testing.assert_array_equal(actual, [[-INF, 3, 3, -INF, -INF], [-1, -INF, -INF, -INF, -INF]])
    actual = cut(scores, jnp.ones_like(scores), jnp.float32(2))
    np.testing.assert_array_equal(actual, [[-INF, 3, 3, -INF, -INF], [-1, -2, -INF, -2, -INF]])


def test_best_is_the_first_of_the_highest():
    scores = np.array([[1, 5, 5, 2], [-INF, -INF, -3, -4], [-INF] * 4, [7, 7, 7, 7]], np.float32)
    actual = argmax(jnp.asarray(scores))
    assert actual.tolist() == scores.argmax(axis=1).tolist() and actual.dtype == jnp.int32


@pytest.mark.parametrize("vocabulary", [1, 2, 7, 50])
def test_draws_have_their_probabilities(vocabulary):
    scores = np.random.default_rng(vocabulary).normal(0, 1.5, vocabulary).astype(np.float32)
    scores[vocabulary // 2 + 1 :: 5] = -INF
    count = 40_000
    drawn = np.asarray(jax.jit(sample)(np.tile(scores, (count, 1)), jax.random.split(jax.random.key(0), count)))
    expected = np.exp(scores) / np.exp(scores).sum()
    frequencies = np.bincount(drawn, minlength=vocabulary) / count
    assert (frequencies[expected == 0] == 0).all() and len(frequencies) == vocabulary
    # five standard errors
    assert (np.abs(frequencies - expected) <= 5 * np.sqrt(expected * (1 - expected) / count) + 1e-9).all()


def test_a_draw_is_its_rows_own():
    keys = jax.random.split(jax.random.key(1), 64)
    scores = np.random.default_rng(1).normal(size=(64, 30)).astype(np.float32)
    drawn = np.asarray(jax.jit(sample)(scores, keys))
    turned, alone = jax.jit(sample)(scores[::-1], keys[::-1]), jax.jit(sample)(scores[5:6], keys[5:6])
    np.testing.assert_array_equal(turned, drawn[::-1])
    np.testing.assert_array_equal(alone, drawn[5:6])


def test_temperature_decides_between_best_and_draw():
    scores = jnp.tile(jnp.array([[0.0, 0.1, 0.0]]), (200, 1))
    keys = jax.random.split(jax.random.key(2), 200)
    count = np.zeros(200, np.int32)
    for temperature, expected in ((0.0, {1}), (1.0, {0, 1, 2}), (1e-3, {1})):
        options = rules(batch=200, temperature=temperature), keys
        first, second = (np.asarray(jax.jit(choose_token)(scores, *options, count + number)) for number in (0, 1))
        assert set(first.tolist()) == expected
        assert (first != second).any() == (len(expected) > 1)  # each position has its own draw


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(max_new=0), "max_new=0 must be at least 1"),
        (dict(max_new=3, min_new=4), "min_new=4 must be between 0 and max_new=3"),
        (dict(temperature=-1), "temperature=-1 must be 0"),
        (dict(temperature=float("nan")), "temperature=nan"),
        (dict(top_k=-1), "top_k=-1"),
        (dict(top_p=0), "top_p=0 must be above 0"),
        (dict(top_p=1.5), "top_p=1.5"),
        (dict(min_p=-0.1), "min_p=-0.1"),
        (dict(repetition_penalty=0), "repetition_penalty=0"),
        (dict(no_repeat_ngram=-1), "no_repeat_ngram=-1"),
        (dict(count_prompt_ngrams=True), "count_prompt_ngrams=True must be False while no_repeat_ngram is 0"),
        (dict(stop="end"), "stop='end' must be a tuple"),
        (dict(stop=("",)), "strings that are not empty"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(ValueError, match=message):
        Decoding(**wrong)
