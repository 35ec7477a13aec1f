"""Beam search: exhaustive where the beams suffice, greedy where there is one, indifferent to padding and neighbours."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.inference.beam import beam_search
from ecr_jax.inference.decoding import Decoding, generate, pad_left
from ecr_jax.models.language_model import init_cache, logits, take_rows, unstack
from tests import tiny

VOCAB, END, NEW = 5, 4, 3
MODEL = tiny.random_model(tiny.llama(VOCAB, layers=2), seed=3, scale=0.8)
VARIABLES = {"params": MODEL.params}
PROMPTS = [[1, 2, 3], [0, 2]]
PREFIX = tuple(jnp.asarray(np.random.default_rng(i).normal(size=(2, 2, 1, 2, 8)), jnp.float32) for i in (1, 2))
SEEN = np.array([[True, True], [True, False]])
LOW = np.random.default_rng(5).normal(0, 0.4, (2, 2, 2, 16, 3)).astype(np.float32)  # [a b, L, B, in, r]
LORA = {"layers": {"attention": {"q": {"a": LOW[0], "b": LOW[1].swapaxes(-1, -2)}}}}  # one adapter a row


def search(rows=(0, 1), width=3, beams=VOCAB**2, form=dict, **given):
    rows = list(rows)
    tokens, mask = pad_left([PROMPTS[row] for row in rows], width)
    variables = {**VARIABLES, "lora": jax.tree.map(lambda leaf: leaf[:, rows], LORA)}
    variables = {name: form(tree) for name, tree in variables.items()}
    decoding = given.pop("decoding", Decoding(max_new=NEW))
    return beam_search(
        MODEL.module, variables, tokens, mask, decoding=decoding, end=END, beams=beams,
        prefix=tuple(part[:, rows] for part in PREFIX), prefix_mask=SEEN[rows], **given,
    )  # fmt: skip


@jax.jit
def shares(tokens, prefix, seen, lora):
    out = MODEL.module.apply({**VARIABLES, "lora": lora}, tokens, tokens >= 0, prefix, seen)
    return jax.nn.log_softmax(logits(MODEL.params, out.hidden))


def every_reply(row):
    """(tokens, log-probability, length) of all replies, by a whole forward pass over each."""
    replies = sorted({(*r[: r.index(END)], *[END] * (NEW - r.index(END))) if END in r else r
                      for r in itertools.product(range(VOCAB), repeat=NEW)})  # fmt: skip
    texts = np.array([PROMPTS[row] + list(reply) for reply in replies], np.int32)
    prefix = tuple(jnp.repeat(part[:, row : row + 1], len(texts), axis=1) for part in PREFIX)
    lora = jax.tree.map(lambda leaf: leaf[:, row], LORA)
    found = np.asarray(shares(texts, prefix, np.repeat(SEEN[row : row + 1], len(texts), axis=0), lora))
    start, made = len(PROMPTS[row]), []
    for reply, share in zip(replies, found, strict=True):
        length = reply.index(END) + 1 if END in reply else NEW
        made.append((reply, sum(share[start + t - 1, reply[t]] for t in range(length)), length))
    return made


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_enough_beams_find_the_best_of_all(penalty):
    found = search(early_stopping="never", length_penalty=penalty)
    for row in range(2):
        ranked = sorted(((share / length**penalty, reply) for reply, share, length in every_reply(row)), reverse=True)
        # at each length R replies go on: the very best are all found, the worst may have left the search
        assert [tuple(reply) for reply in found.tokens[row, :4].tolist()] == [reply for _, reply in ranked[:4]]
        np.testing.assert_allclose(found.scores[row, :4], [share for share, _ in ranked[:4]], rtol=1e-5)
        assert (np.diff(found.scores[row]) <= 0).all()


def test_one_beam_is_greedy():
    tokens, mask = pad_left(PROMPTS, 3)
    for settings in (dict(), dict(min_new=4)):
        decoding = Decoding(max_new=6, no_repeat=2, **settings)
        found = beam_search(MODEL.module, VARIABLES, tokens, mask, decoding=decoding, end=END, beams=1)
        greedy = generate(MODEL.module, VARIABLES, tokens, mask, decoding=decoding, end=END).tokens
        np.testing.assert_array_equal(found.tokens[:, 0], greedy)


def test_padding_and_neighbours_change_nothing():
    both, alone = search(), search((1,), width=6)
    np.testing.assert_array_equal(both.tokens[1], alone.tokens[0])
    np.testing.assert_allclose(both.scores[1], alone.scores[0], rtol=1e-5)


def test_early_stopping_takes_the_first_to_end():
    """Early stopping ends a search no later, so with no penalty on length it finds nothing better."""
    settings = dict(beams=2, length_penalty=0.0, decoding=Decoding(max_new=6))
    soon, late = search(early_stopping=True, **settings), search(early_stopping="never", **settings)
    assert (soon.scores <= late.scores + 1e-6).all()
    assert soon.tokens.shape == (2, 2, 6) and soon.scores.shape == (2, 2)


def test_layers_apart_are_searched_alike():
    whole, apart = search(beams=2), search(beams=2, form=unstack)
    np.testing.assert_array_equal(whole.tokens, apart.tokens)
    np.testing.assert_allclose(whole.scores, apart.scores, atol=1e-5)


def test_rows_of_a_cache():
    cache = init_cache(MODEL.config, 2, 3)
    mark = jnp.arange(2.0)
    cache = cache._replace(keys=cache.keys + mark[:, None, None, None], mask=jnp.array([[True] * 3, [False] * 3]))
    taken = take_rows(cache, jnp.array([1, 0, 1]))
    assert taken.keys[0, :, 0, 0, 0].tolist() == [1, 0, 1] and taken.values.shape[1] == 3
    assert taken.mask[:, 0].tolist() == [False, True, False] and int(taken.length) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(decoding=Decoding(temperature=1.0, stop=("a",))), "leave temperature, stop as it is"),
        (dict(beams=0), "beams=0 must be at least 1"),
        (dict(early_stopping="soon"), "early_stopping='soon' True, False or 'never'"),
        (dict(decoding=Decoding(max_new=512)), "need 515 positions, but this model has 512"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        search(**wrong)
