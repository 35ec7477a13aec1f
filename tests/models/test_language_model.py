"""The state of the last token behind a prefix, read from a cache of what came before."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.models.language_model import attend, context_cache, read_last
from tests import tiny

CONFIG = tiny.llama(20, layers=2)
MODEL = tiny.random_model(CONFIG)
LENGTHS = np.array([6, 3, 1])
SLOTS = 4


def batch(width=6, filler=0):
    rng = np.random.default_rng(1)
    tokens = np.where(np.arange(6) < LENGTHS[:, None], rng.integers(1, 20, (3, 6)), filler)
    tokens = np.pad(tokens, ((0, 0), (0, width - 6)), constant_values=filler).astype(np.int32)
    return tokens, np.arange(width) < LENGTHS[:, None]


def prefixes(seed=2):
    rng = np.random.default_rng(seed)
    shape = (CONFIG.layers, 3, CONFIG.kv_heads, SLOTS, CONFIG.head_dim)
    return tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(2))


SEEN = np.array([[True] * 4, [True, False, True, False], [False] * 4])


@functools.partial(jax.jit, static_argnames="half")
def last(tokens, mask, prefix, seen, half=False):
    cache = context_cache(MODEL.module, MODEL.params, tokens, mask, jnp.float16 if half else jnp.float32)
    return read_last(MODEL.module, MODEL.params, tokens, mask, prefix, seen, cache)


@jax.jit
def whole(tokens, mask):
    return MODEL.module.apply({"params": MODEL.params}, tokens, mask).hidden


def test_hidden_prefix_is_the_full_forward():
    tokens, mask = batch()
    expected = np.asarray(whole(tokens, mask))[np.arange(3), LENGTHS - 1]
    np.testing.assert_allclose(last(tokens, mask, prefixes(), np.zeros((3, SLOTS), bool)), expected, atol=2e-5)


def test_prefix_is_seen_where_its_mask_says():
    tokens, mask = batch()
    seen, unseen = last(tokens, mask, prefixes(), SEEN), last(tokens, mask, prefixes(), np.zeros((3, SLOTS), bool))
    assert (np.abs(seen - unseen).max(axis=1) > 1e-2).tolist() == [True, True, False]
    # what a masked position holds does not matter
    other = tuple(jnp.where(SEEN[None, :, None, :, None], a, b) for a, b in zip(prefixes(), prefixes(3), strict=True))
    np.testing.assert_allclose(last(tokens, mask, other, SEEN), seen, atol=1e-6)


def test_one_token_context_equals_the_ordinary_prefix():
    """With nothing before it, the last token behind a prefix is what the model itself makes of it."""
    tokens = np.array([[5, 0], [7, 0], [9, 0]], np.int32)
    mask = np.array([[True, False]] * 3)
    seen = np.ones((3, SLOTS), bool)
    forward = jax.jit(MODEL.module.apply)
    direct = forward({"params": MODEL.params}, tokens[:, :1], mask[:, :1], prefixes(), seen).hidden[:, 0]
    np.testing.assert_allclose(last(tokens, mask, prefixes(), seen), direct, atol=2e-5)


def test_padding_changes_nothing():
    narrow = last(*batch(), prefixes(), SEEN)
    wide = last(*batch(width=10, filler=13), prefixes(), SEEN)
    np.testing.assert_allclose(narrow, wide, atol=2e-5)


def test_half_precision_cache_is_close():
    np.testing.assert_allclose(last(*batch(), prefixes(), SEEN), last(*batch(), prefixes(), SEEN, half=True), atol=2e-2)


@jax.jit
def gradients(tokens, mask, prefix):
    return jax.grad(lambda prefix: jnp.sin(last(tokens, mask, prefix, SEEN)).sum())(prefix)


def test_gradient_reaches_the_seen_prefix_only():
    for part in map(np.asarray, gradients(*batch(), prefixes())):
        assert np.isfinite(part).all()
        assert (np.abs(part).max(axis=(0, 2, 4)) > 0).tolist() == SEEN.tolist()  # [B, P]


def test_row_without_tokens_is_finite():
    tokens, mask = batch()
    mask[1] = False
    assert all(np.isfinite(part).all() for part in gradients(tokens, mask, prefixes()))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_attention_by_hand(dtype):
    """One head of one feature: softmax of q k over what is seen, nothing where nothing is seen."""
    queries = jnp.array([1.0, 2.0], dtype).reshape(1, 2, 1, 1)
    keys = jnp.array([0.0, 1.0], dtype).reshape(1, 2, 1, 1)
    values = jnp.array([8.0, 4.0], dtype).reshape(1, 2, 1, 1)
    visible = jnp.array([[[False, False], [True, True]]])
    context, cache = attend(queries, keys, values, visible)
    share = 1 / (1 + np.exp(2.0))
    np.testing.assert_allclose(np.asarray(context, float)[0, :, 0], [0, 8 * share + 4 * (1 - share)], rtol=1e-2)
    assert context.dtype == dtype and cache is None
