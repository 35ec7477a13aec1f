"""Beam search: exhaustive where the beams suffice, greedy where there is one, indifferent to padding and neighbours."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.inference.beam import beam_search
from ecr_jax.inference.decoding import Decoding, pad_left
from ecr_jax.models.language_model import Output, init_cache, logits, take_rows, unstack
from tests import tiny

VOCAB, END, NEW = 5, 4, 3
MODEL = tiny.random_model(tiny.llama(VOCAB, layers=2), seed=3, scale=0.8)
VARIABLES = {"params": MODEL.params}
PROMPTS = [[1, 2, 3], [0, 2]]
PREFIX = tuple(jnp.asarray(np.random.default_rng(i).normal(size=(2, 2, 1, 2, 8)), jnp.float32) for i in (1, 2))
SEEN = np.array([[True, True], [True, False]])
LOW = np.random.default_rng(5).normal(0, 0.4, (2, 2, 2, 16, 3)).astype(np.float32)  # [a b, L, B, in, r]
LORA = {"layers": {"attention": {"q": {"a": LOW[0], "b": LOW[1].swapaxes(-1, -2)}}}}  # one adapter a row


def adapter(rows):
    """The rows' adapters, one a row; of a single row (an int) its own, shared."""
    return jax.tree.map(lambda leaf: leaf[:, rows], LORA)


def search(rows=(0, 1), width=3, beams=VOCAB**2, lora=None, form=dict, **given):
    rows = list(rows)
    tokens, mask = pad_left([PROMPTS[row] for row in rows], width)
    variables = {**VARIABLES, "lora": adapter(rows) if lora is None else lora}
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


@functools.cache
def every_reply(row):
    """{reply: log-probabilities of its tokens up to the end} of all replies, by a whole forward pass over each."""
    replies = sorted({(*r[: r.index(END)], *[END] * (NEW - r.index(END))) if END in r else r
                      for r in itertools.product(range(VOCAB), repeat=NEW)})  # fmt: skip
    texts = np.array([PROMPTS[row] + list(reply) for reply in replies], np.int32)
    prefix = tuple(jnp.repeat(part[:, row : row + 1], len(texts), axis=1) for part in PREFIX)
    found = np.asarray(shares(texts, prefix, np.repeat(SEEN[row : row + 1], len(texts), axis=0), adapter(row)))
    start, made = len(PROMPTS[row]), {}
    for reply, share in zip(replies, found, strict=True):
        length = reply.index(END) + 1 if END in reply else NEW
        made[reply] = [float(share[start + t - 1, reply[t]]) for t in range(length)]
    return made


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_enough_beams_find_the_best_of_all(penalty):
    found = search(early_stopping="never", length_penalty=penalty)
    for row in range(2):
        shares = {reply: sum(parts) / len(parts) ** penalty for reply, parts in every_reply(row).items()}
        ranked = sorted(shares, key=shares.get, reverse=True)
        # at each length R replies go on: the very best are all found, the worst may have left the search
        assert [tuple(reply) for reply in found.tokens[row, :4].tolist()] == ranked[:4]
        np.testing.assert_allclose(found.scores[row, :4], [shares[reply] for reply in ranked[:4]], rtol=1e-5)
        assert (np.diff(found.scores[row]) <= 0).all()


def test_one_beam_is_greedy():
    found = search(beams=1)
    for row in range(2):
        known = every_reply(row)
        reply = ()
        while len(reply) < NEW and END not in reply:
            going_on = [other for other in known if other[: len(reply)] == reply]
            reply = max(going_on, key=lambda other: known[other][len(reply)])[: len(reply) + 1]
        reply += (END,) * (NEW - len(reply))
        assert tuple(found.tokens[row, 0].tolist()) == reply
        np.testing.assert_allclose(found.scores[row, 0], np.mean(known[reply]), rtol=1e-5)


def test_padding_and_neighbours_change_nothing():
    both, alone = search(), search((1,), width=6, lora=adapter(1))
    np.testing.assert_array_equal(both.tokens[1], alone.tokens[0])
    np.testing.assert_allclose(both.scores[1], alone.scores[0], rtol=1e-5)


class Chain:
    """A model whose next token depends on the last one only, so that searches can be followed by hand."""

    config, dtype = MODEL.config, jnp.float32

    def apply(self, variables, tokens, mask, prefix, prefix_mask, cache):
        return Output(variables["params"]["embed"]["embedding"][tokens], cache)


CHAIN = Chain()
SHARES = np.array([
    [0.69, 0.005, 0.005, 0.3],  # 0 likes to follow itself
    [0.05, 0.05, 0.4, 0.5],  # 1 ends, or 2 follows
    [0.04, 0.03, 0.03, 0.9],  # after 2 comes the end
    [0.25, 0.25, 0.25, 0.25],
])  # fmt: skip


def chain(prompt, **given):
    params = {"embed": {"embedding": jnp.eye(4)}, "head": jnp.asarray(np.log(SHARES.T), jnp.float32)}
    found = beam_search(CHAIN, {"params": params}, [[prompt]], [[True]], end=3, **given)
    return found.tokens[0].tolist(), found.scores[0].tolist()


def test_early_stopping_by_hand():
    """From 0 with two beams: after 3 and 03 two replies have ended, but 000 and 003 are to come."""
    given = dict(beams=2, decoding=Decoding(max_new=3))
    tokens, scores = chain(0, early_stopping=True, **given)
    assert tokens == [[0, 3, 3], [3, 3, 3]]
    assert scores == pytest.approx([np.log(0.69 * 0.3) / 2, np.log(0.3)], rel=1e-5)
    for early in (False, "never"):
        tokens, scores = chain(0, early_stopping=early, **given)
        assert tokens == [[0, 0, 0], [0, 0, 3]]
        assert scores == pytest.approx([np.log(0.69**3) / 3, np.log(0.69**2 * 0.3) / 3], rel=1e-5)


def test_hope_for_a_longer_reply_by_hand():
    """From 1 with one beam, length squared: 3 ended; 2 is worse at its length, yet 23 will be better."""
    given = dict(beams=1, decoding=Decoding(max_new=4), length_penalty=2.0)
    for early in (True, False):
        tokens, scores = chain(1, early_stopping=early, **given)
        assert tokens == [[3] * 4] and scores == pytest.approx([np.log(0.5)], rel=1e-5)
    tokens, scores = chain(1, early_stopping="never", **given)
    assert tokens == [[2, 3, 3, 3]] and scores == pytest.approx([np.log(0.4 * 0.9) / 4], rel=1e-5)


def test_layers_apart_are_searched_alike():
    whole, apart = search(), search(form=unstack)
    np.testing.assert_array_equal(whole.tokens[:, :9], apart.tokens[:, :9])
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
