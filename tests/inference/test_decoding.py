"""Decoding against a loop without a cache, n-grams against brute force, padding, ends; and how replies are cut."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.inference.decoding import Decoding, generate, pad_left, repeats
from ecr_jax.inference.pipeline import fill, whole_sentences
from ecr_jax.models.language_model import logits
from tests import tiny

VOCAB, NEVER = 12, 99
MODEL = tiny.random_model(tiny.llama(VOCAB, layers=2), scale=0.6)
PROMPTS = [[1, 2, 3, 4, 5], [6, 7], [8]]
LENGTH = 8
PREFIX = tuple(jnp.asarray(np.random.default_rng(i).normal(size=(2, 3, 1, 2, 8)), jnp.float32) for i in (1, 2))
SEEN = np.array([[True, True], [True, False], [False, False]])


def run(rows, key=0, end=NEVER, length=LENGTH, prefix=True, **decoding):
    tokens, mask = pad_left(rows, length)
    given = dict(prefix=tuple(p[:, : len(rows)] for p in PREFIX), prefix_mask=SEEN[: len(rows)]) if prefix else {}
    settings = Decoding(**{"max_new": 6, "min_new": 0, "no_repeat": 0, **decoding})
    made = generate(MODEL.module, MODEL.params, tokens, mask, jax.random.key(key), decoding=settings, end=end, **given)
    return np.asarray(made)


WIDE = 16
forward = jax.jit(lambda tokens, mask, prefix, seen: logits(
    MODEL.params, MODEL.module.apply({"params": MODEL.params}, tokens, mask, prefix, seen).hidden
))  # fmt: skip


def naive(row, prompt, steps, banned=lambda output: set(), end=NEVER):
    """Greedy choice over the whole text again for every token; right-padded, so that shapes stay."""
    output = []
    while len(output) < steps:
        text = prompt + output
        tokens = np.zeros((1, WIDE), np.int32)
        tokens[0, : len(text)] = text
        mask = np.arange(WIDE)[None] < len(text)
        scores = np.array(forward(tokens, mask, tuple(p[:, row : row + 1] for p in PREFIX), SEEN[row : row + 1]))
        scores = scores[0, len(text) - 1]
        scores[list(banned(output))] = -np.inf
        output.append(int(scores.argmax()))
        if output[-1] == end:
            return output + [end] * (steps - len(output))
    return output


def completes(output, n):
    """Tokens that would make the last n tokens stand twice in `output`."""
    if len(output) < n - 1:
        return set()
    start = output[len(output) - (n - 1) :]
    return {output[i + n - 1] for i in range(len(output) - n + 1) if output[i : i + n - 1] == start}


def test_greedy_equals_the_naive_loop():
    expected = [naive(row, prompt, 6) for row, prompt in enumerate(PROMPTS)]
    assert run(PROMPTS).tolist() == expected and run(PROMPTS).dtype == np.int32
    assert len({tuple(row) for row in expected}) == 3


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_repeat_equals_the_naive_loop(n):
    made = run(PROMPTS, no_repeat=n, max_new=8).tolist()
    assert made == [naive(r, p, 8, lambda output: completes(output, n)) for r, p in enumerate(PROMPTS)]
    for row in made:
        grams = [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]
        assert len(set(grams)) == len(grams)


def test_prompt_may_be_repeated():
    everything = [[*range(VOCAB)]]
    np.testing.assert_array_equal(*(run(everything, length=VOCAB, max_new=1, no_repeat=n) for n in (0, 1)))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_repeats_against_brute_force(n):
    rng = np.random.default_rng(n)
    output = rng.integers(0, 3, (6, 9)).astype(np.int32)
    check = jax.jit(repeats, static_argnums=2)
    for length in range(10):
        marked = np.asarray(check(output, length, n))
        for row in range(6):
            banned = {int(token) for token, mark in zip(output[row], marked[row], strict=True) if mark}
            assert banned == completes(output[row, :length].tolist(), n), (length, row)


def test_padding_changes_nothing():
    np.testing.assert_array_equal(run(PROMPTS), run(PROMPTS, length=13))
    np.testing.assert_array_equal(run(PROMPTS)[:1], run(PROMPTS[:1]))


def test_prefix_matters_where_it_is_seen():
    seen, unseen = run(PROMPTS, max_new=8), run(PROMPTS, max_new=8, prefix=False)
    assert (seen != unseen).any(axis=1)[:2].any()
    np.testing.assert_array_equal(seen[2], unseen[2])  # its prefix is masked


def test_end_token_ends_a_row():
    free = run(PROMPTS)
    end = int(free[0, 2])
    ended = run(PROMPTS, end=end)
    for row in range(3):
        assert ended[row].tolist() == naive(row, PROMPTS[row], 6, end=end)
    first = free[0].tolist().index(end)
    assert (ended[0, first:] == end).all() and ended[0, :first].tolist() == free[0, :first].tolist()


def test_all_ended_stops_at_once():
    end = int(run(PROMPTS[:1])[0, 0])
    assert (run(PROMPTS[:1], end=end) == end).all()


def test_no_end_before_the_least_length():
    end = int(run(PROMPTS)[0, 0])
    made = run(PROMPTS, end=end, min_new=3).tolist()
    for row, prompt in enumerate(PROMPTS):
        assert end not in made[row][:3]
        assert made[row] == naive(row, prompt, 6, lambda output: {end} if len(output) < 3 else set(), end=end)


def test_sampling():
    kwargs = dict(temperature=1.0, top_p=0.95)
    one = run(PROMPTS, key=1, **kwargs)
    np.testing.assert_array_equal(one, run(PROMPTS, key=1, **kwargs))
    assert any((run(PROMPTS, key=key, **kwargs) != one).any() for key in range(2, 6))
    assert ((one >= 0) & (one < VOCAB)).all()
    # with next to no mass kept only the most probable token is left; with next to no heat too, though all is kept
    np.testing.assert_array_equal(run(PROMPTS, temperature=1.0, top_p=1e-6), run(PROMPTS))
    np.testing.assert_array_equal(run(PROMPTS, temperature=1e-4, top_p=1.0), run(PROMPTS))


@pytest.mark.parametrize("wrong", [dict(max_new=0), dict(temperature=-1), dict(top_p=0), dict(top_p=1.5),
                                   dict(no_repeat=-1)])  # fmt: skip
def test_wrong_settings(wrong):
    with pytest.raises(ValueError, match="cannot be: max_new >= 1"):
        Decoding(**wrong)


def test_pad_left():
    tokens, mask = pad_left([[1, 2, 3, 4], [5], []], 3)
    assert tokens.tolist() == [[2, 3, 4], [0, 0, 5], [0, 0, 0]] and tokens.dtype == np.int32
    assert mask.tolist() == [[True] * 3, [False, False, True], [False] * 3]


@pytest.mark.parametrize(
    ("template", "titles", "text"),
    [
        ("I like <movie> and <movie>.", ["A (1990)", "B"], "I like A (1990) and B."),
        ("I like <movie> .", ["A"], "I like A."),
        ("Try <movie> , it is fun !", ["A"], "Try A, it is fun!"),
        ("No film here.", [], "No film here."),
        ("Try <movie>.", ["A", "B"], "Try A. You could also watch B."),
        ("Try <movie>!", ["A", "B", "C", "D"], "Try A! You could also watch B, C or D."),
        ("<movie>", ["A"], "A"),
        ("  <movie>   \n is good ", ["A"], "A is good"),
        ("", [], ""),
    ],
)
def test_fill(template, titles, text):
    assert fill(template, titles) == text


def test_every_slot_needs_a_title():
    with pytest.raises(ValueError, match="2 slots in 'See <movie> or <movie>.', but 1 titles"):
        fill("See <movie> or <movie>.", ["A"])


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One. Two! Thr", "One. Two!"),
        ("One?", "One?"),
        ("no end at all", "no end at all"),
        (" a  b.\n c", "a b."),
        ("", ""),
        ("... and", "..."),
    ],
)
def test_whole_sentences(text, kept):
    assert whole_sentences(text) == kept
