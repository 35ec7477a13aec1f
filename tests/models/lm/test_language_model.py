"""What all language models share: the last token behind a prefix, layers stacked or apart, what is computed again."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import lora
from ecr_jax.models.lm.bert import BertConfig
from ecr_jax.models.lm.gpt2 import Gpt2Config
from ecr_jax.models.lm.language_model import attend, context_cache, init_cache, read_last, unstack
from ecr_jax.models.lm.llama import Llama
from tests import tiny

CONFIG = tiny.llama(20, layers=2)
MODEL = tiny.random_model(CONFIG)
LENGTHS = np.array([6, 3, 1])
RECENCY_SLOTS = 4


def batch(width=6, filler=0):
    rng = np.random.default_rng(1)
    tokens = np.where(np.arange(6) < LENGTHS[:, None], rng.integers(1, 20, (3, 6)), filler)
    tokens = np.pad(tokens, ((0, 0), (0, width - 6)), constant_values=filler).astype(np.int32)
    return tokens, np.arange(width) < LENGTHS[:, None]


def prefixes(seed=2):
    rng = np.random.default_rng(seed)
    shape = (CONFIG.layers, 3, CONFIG.kv_heads, RECENCY_SLOTS, CONFIG.head_dim)
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
    np.testing.assert_allclose(last(tokens, mask, prefixes(), np.zeros((3, RECENCY_SLOTS), bool)), expected, atol=2e-5)


def test_prefix_is_seen_where_its_mask_says():
    tokens, mask = batch()
    seen, unseen = (
        last(tokens, mask, prefixes(), SEEN),
        last(tokens, mask, prefixes(), np.zeros((3, RECENCY_SLOTS), bool)),
    )
    assert (np.abs(seen - unseen).max(axis=1) > 1e-2).tolist() == [True, True, False]
    # what a masked position holds does not matter
    other = tuple(jnp.where(SEEN[None, :, None, :, None], a, b) for a, b in zip(prefixes(), prefixes(3), strict=True))
    np.testing.assert_allclose(last(tokens, mask, other, SEEN), seen, atol=1e-6)


def test_one_token_context_equals_the_ordinary_prefix():
    """With nothing before it, the last token behind a prefix is what the model itself makes of it."""
    tokens = np.array([[5, 0], [7, 0], [9, 0]], np.int32)
    mask = np.array([[True, False]] * 3)
    seen = np.ones((3, RECENCY_SLOTS), bool)
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


FAMILIES = [
    CONFIG,
    Gpt2Config(vocab_size=20, width=12, layers=3, heads=2, hidden=20, positions=16),
    BertConfig(vocab_size=20, width=12, layers=3, heads=2, hidden=20, positions=16),
]
families = pytest.mark.parametrize("config", FAMILIES, ids=["llama", "gpt2", "bert"])
slow_but_first = pytest.mark.parametrize(
    "config",
    [FAMILIES[0], *(pytest.param(config, marks=pytest.mark.slow) for config in FAMILIES[1:])],
    ids=["llama", "gpt2", "bert"],
)


def read(model, variables, cache=None, end=6):
    """States of the batch behind a prefix, where the model has prefixes; of its first `end` tokens."""
    tokens, mask = batch()
    if isinstance(model.config, BertConfig):
        return model.module.apply(variables, tokens[:, :end], mask[:, :end])
    rng = np.random.default_rng(3)
    shape = (model.config.layers, 3, model.config.kv_heads, RECENCY_SLOTS, model.config.head_dim)
    prefix = tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(2))
    return model.module.apply(variables, tokens[:, :end], mask[:, :end], prefix, SEEN, cache)


@pytest.mark.slow
@slow_but_first
def test_unstacked_layers_compute_the_same(config):
    model = tiny.random_model(config)
    apart = unstack(model.params)
    assert "layers" not in apart and f"layers_{config.layers - 1}" in apart
    settings = LoraConfig(rank=2)
    adapter = jax.tree.map(lambda leaf: leaf + 0.1, lora.init(jax.random.key(0), model.params, settings))
    beside = lora.variables(model.params, adapter, settings)["lora"]
    for more, more_apart in (({}, {}), ({"lora": beside}, {"lora": unstack(beside)})):
        want = read(model, {"params": model.params, **more}).hidden
        np.testing.assert_allclose(read(model, {"params": apart, **more_apart}).hidden, want, atol=1e-5)
    if not isinstance(config, BertConfig):
        cache = init_cache(config, 3, 8, params=apart)
        written = read(model, {"params": apart}, cache).cache
        stacked = read(model, {"params": model.params}, init_cache(config, 3, 8)).cache
        np.testing.assert_allclose(np.stack(written.keys), stacked.keys, atol=1e-5)


@families
@pytest.mark.slow
def test_what_is_computed_again_changes_nothing(config):
    model = tiny.random_model(config)
    mask = batch()[1]

    def gradient(policy):
        def loss(params):
            return jnp.sum(jnp.where(mask[..., None], read(again, {"params": params}).hidden, 0) ** 2)

        again = model._replace(module=model.module.clone(remat=policy))
        return jax.jit(jax.grad(loss))(model.params)

    want = gradient("none")
    for policy in ("dots", "full"):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), gradient(policy), want)


def test_compile_time_does_not_grow_with_depth():
    def lines(layers):
        config = dataclasses.replace(CONFIG, layers=layers)
        module = Llama(config)
        tokens = jax.ShapeDtypeStruct((2, 8), jnp.int32)
        params = jax.eval_shape(module.init, jax.random.key(0), tokens, tokens)["params"]

        def total(params):
            return module.apply({"params": params}, jnp.ones((2, 8), jnp.int32), jnp.ones((2, 8), bool)).hidden.sum()

        return len(jax.jit(jax.grad(total)).lower(params).as_text().splitlines())

    assert lines(3) == lines(24)
