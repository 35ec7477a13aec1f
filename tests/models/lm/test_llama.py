"""Llama: equal to transformers, indifferent to padding, the same with and without a cache."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.models.lm import convert, language_model, llama

GOLDEN = Path(__file__).parents[2] / "golden"
CONFIG = llama.LlamaConfig(vocab_size=20, width=16, layers=2, heads=4, kv_heads=2, head_dim=6, hidden=12)
MODEL = llama.Llama(CONFIG)


@pytest.fixture(scope="module")
def params():
    tokens, mask = jax.ShapeDtypeStruct((1, 4), jnp.int32), jax.ShapeDtypeStruct((1, 4), bool)
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), tokens, mask)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32), shapes)


@pytest.fixture(scope="module")
def batch():
    """Two right-padded rows, with a prefix of which the second row has a padded position."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, 20, (2, 7)).astype(np.int32)
    mask = np.arange(7) < np.array([[7], [4]])
    prefix = tuple(rng.normal(size=(2, 2, 2, 3, 6)).astype(np.float32) for _ in range(2))
    return tokens, mask, prefix, np.array([[True, True, True], [True, False, True]])


forward = jax.jit(lambda params, *args, **more: MODEL.apply({"params": params}, *args, **more))


def tiny(name):
    arrays = np.load(GOLDEN / f"tiny_{name}.npz")
    config = convert.config_from_hf(json.loads(str(arrays["config"])))
    weights = {key.removeprefix("weights/"): arrays[key] for key in arrays.files if key.startswith("weights/")}
    return arrays, config, convert.from_hf(weights, config)


@pytest.mark.parametrize("name", ["llama", "llama3"])
def test_tiny_models_equal_transformers(name):
    arrays, config, params = tiny(name)
    assert (config.rope_scaling is not None, config.tied) == (name == "llama3",) * 2
    mask = arrays["mask"]
    hidden = jax.jit(llama.Llama(config).apply)({"params": params}, arrays["tokens"], mask).hidden
    np.testing.assert_allclose(np.asarray(hidden)[mask], arrays["hidden"][mask], atol=2e-5)
    logits = np.asarray(language_model.logits(params, hidden))
    np.testing.assert_allclose(logits[mask], arrays["logits"][mask], atol=5e-5)


def test_prefill_and_steps_equal_the_whole(params, batch):
    tokens, mask, prefix, prefix_mask = batch
    mask = np.ones_like(mask)
    whole = forward(params, tokens, mask, prefix=prefix, prefix_mask=prefix_mask).hidden
    cache = language_model.init_cache(CONFIG, 2, 9)
    output = forward(params, tokens[:, :4], mask[:, :4], prefix=prefix, prefix_mask=prefix_mask, cache=cache)
    np.testing.assert_allclose(output.hidden, whole[:, :4], atol=1e-5)
    for t in range(4, 7):
        step = (tokens[:, t : t + 1], mask[:, t : t + 1])
        output = forward(params, *step, prefix=prefix, prefix_mask=prefix_mask, cache=output.cache)
        np.testing.assert_allclose(output.hidden[:, 0], whole[:, t], atol=1e-5)
    assert int(output.cache.length) == 7
    np.testing.assert_array_equal(output.cache.mask, np.arange(9) < np.array([[7], [7]]))


@pytest.mark.parametrize("side", ["left", "right"])
def test_decoding_behind_padding_equals_decoding_alone(params, batch, side):
    tokens, _, prefix, _ = batch
    prompt, rest = tokens[:1, :4], tokens[:1, 4:]
    whole = forward(params, tokens[:1], np.ones((1, 7), bool), prefix=tuple(part[:, :1] for part in prefix)).hidden
    gap, real = np.full((1, 3), 19, np.int32), np.ones((1, 4), bool)
    parts = ([gap, prompt], [~real[:, :3], real]) if side == "left" else ([prompt, gap], [real, ~real[:, :3]])
    padded, mask = (np.concatenate(part, axis=1) for part in parts)
    cache = language_model.init_cache(CONFIG, 1, 10)
    prefix_of_row = {"prefix": tuple(part[:, :1] for part in prefix)}
    output = forward(params, padded, mask, cache=cache, **prefix_of_row)
    np.testing.assert_allclose(np.asarray(output.hidden)[mask], whole[0, :4], atol=1e-5)
    output = forward(params, rest, np.ones((1, 3), bool), cache=output.cache, **prefix_of_row)
    np.testing.assert_allclose(output.hidden, whole[:, 4:], atol=1e-5)


def test_padding_and_neighbours_change_nothing(params, batch):
    tokens, mask, prefix, prefix_mask = batch
    both = forward(params, tokens, mask, prefix=prefix, prefix_mask=prefix_mask).hidden
    # the second row alone, cut to its 4 tokens and 2 prefix positions
    unmasked_prefix = tuple(part[:, 1:, :, [0, 2]] for part in prefix)
    alone = forward(params, tokens[1:, :4], mask[1:, :4], prefix=unmasked_prefix).hidden
    np.testing.assert_allclose(both[1, :4], alone[0], atol=1e-5)
    noisy = np.where(mask, tokens, 3)
    other = tuple(np.where(prefix_mask[None, :, None, :, None], part, 1e3) for part in prefix)
    again = forward(params, noisy, mask, prefix=other, prefix_mask=prefix_mask).hidden
    np.testing.assert_allclose(np.asarray(again)[mask], np.asarray(both)[mask], atol=1e-5)


def test_later_tokens_do_not_reach_back(params, batch):
    tokens, _, prefix, _ = batch
    mask = np.ones_like(tokens, bool)
    before = forward(params, tokens, mask, prefix=prefix).hidden
    changed = tokens.copy()
    changed[:, 5] = (changed[:, 5] + 1) % 20
    after = forward(params, changed, mask, prefix=prefix).hidden
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert np.abs(before[:, 5:] - after[:, 5:]).min(axis=-1).max() > 1e-4


def test_an_empty_row_gives_no_nan_and_no_nan_gradient(params):
    tokens, mask = jnp.zeros((2, 3), jnp.int32), jnp.array([[True] * 3, [False] * 3])

    def loss(params):
        return jnp.sum(MODEL.apply({"params": params}, tokens, mask).hidden ** 2)

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_rotation_depends_on_distance_only():
    x, y = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 6))

    def product(i, j):
        turned = [llama.rotate(v, llama.rotation(CONFIG, jnp.array([[at]]))) for v, at in ((x, i), (y, j))]
        return float(jnp.sum(turned[0] * turned[1]))

    assert product(2, 5) == pytest.approx(product(11, 14), abs=1e-5)
    assert product(0, 0) == pytest.approx(float(jnp.sum(x * y)), abs=1e-6)
    # By hand: at position 1 the first pair (features 0 and 3) turns by one radian.
    turned = llama.rotate(jnp.eye(6)[None, None, :1], llama.rotation(CONFIG, jnp.array([[1]])))
    np.testing.assert_allclose(turned[0, 0, 0], [np.cos(1), 0, 0, np.sin(1), 0, 0], atol=1e-6)


def test_remat_changes_nothing_and_bfloat16_little(params, batch):
    tokens, mask, prefix, prefix_mask = batch

    def loss(params, module):
        hidden = module.apply({"params": params}, tokens, mask, prefix, prefix_mask).hidden
        return jnp.sum(jnp.where(mask[..., None], hidden, 0).astype(jnp.float32) ** 2)

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    plain, saving = gradient(params, MODEL), gradient(params, MODEL.clone(remat="full"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), plain, saving)
    exact = forward(params, tokens, mask, prefix, prefix_mask).hidden
    low = jax.jit(MODEL.clone(dtype=jnp.bfloat16).apply)({"params": params}, tokens, mask, prefix, prefix_mask).hidden
    assert low.dtype == jnp.bfloat16
    assert np.abs(np.asarray(low, np.float32) - exact)[mask].mean() < 0.05


@pytest.mark.parametrize("tied", [True, False])
def test_added_tokens_follow_the_old_ones(params, tied):
    params = {name: value for name, value in params.items() if name != "head" or not tied}
    rows = jnp.arange(32.0).reshape(2, 16) / 32
    longer = language_model.extend_vocabulary(params, rows)
    config = dataclasses.replace(CONFIG, vocab_size=22, tied=tied)
    tokens = np.array([[1, 20, 21]])
    hidden = jax.jit(llama.Llama(config).apply)({"params": longer}, tokens, tokens > 0).hidden
    logits = language_model.logits(longer, hidden)
    np.testing.assert_allclose(logits[..., :20], language_model.logits(params, hidden), atol=1e-6)
    np.testing.assert_allclose(logits[..., 20:], hidden @ rows.T, atol=1e-5)

    def loss(rows):
        return jnp.sum(language_model.logits(language_model.extend_vocabulary(params, rows), hidden))

    assert np.abs(jax.grad(loss)(rows)).max() > 0
    with pytest.raises(ValueError, match=r"\[n, 16\], not \(2, 5\)"):
        language_model.extend_vocabulary(params, jnp.ones((2, 5)))


def test_prefix_mask_needs_a_prefix(params):
    tokens = np.zeros((1, 2), np.int32)
    with pytest.raises(ValueError, match="without a prefix"):
        MODEL.apply({"params": params}, tokens, tokens == 0, prefix_mask=np.ones((1, 3), bool))


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="heads=4 must be a multiple of kv_heads=3"):
        dataclasses.replace(CONFIG, kv_heads=3)
    with pytest.raises(ValueError, match="head_dim=5 must be even"):
        dataclasses.replace(CONFIG, head_dim=5)


def test_llama_2_7b_has_its_size():
    config = llama.LlamaConfig(32000, 4096, 32, 32, 32, 128, 11008, positions=4096)
    tokens = jax.ShapeDtypeStruct((2, 8), jnp.int32)
    mask = jax.ShapeDtypeStruct((2, 8), bool)
    shapes = jax.eval_shape(llama.Llama(config).init, jax.random.key(0), tokens, mask)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 6_738_415_616
    assert jax.eval_shape(llama.Llama(config).apply, shapes, tokens, mask).hidden.shape == (2, 8, 4096)
