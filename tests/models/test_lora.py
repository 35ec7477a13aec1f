"""LoRA: nothing at the start, a low-rank change afterwards, gradients to the adapter alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.models import llama, lora

CONFIG = llama.LlamaConfig(vocab_size=20, width=16, layers=3, heads=4, kv_heads=2, head_dim=6, hidden=12)
MODEL = llama.Llama(CONFIG)
TOKENS = jnp.array([[1, 2, 3, 4]])
MASK = TOKENS > 0


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), TOKENS, MASK)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32), shapes)


def test_a_new_adapter_changes_nothing(params):
    adapter = lora.init(jax.random.key(1), params, lora.ATTENTION, rank=2)
    attention = adapter["layers"]["attention"]
    assert sorted(attention) == sorted("koqv")
    assert attention["k"]["kernel"]["a"].shape == (3, 16, 2)
    assert attention["k"]["kernel"]["b"].shape == (3, 2, 12)
    bound = np.abs(attention["q"]["kernel"]["a"]).max()
    assert 0.2 < bound <= 0.25  # 1 / sqrt(16)
    jax.tree.map(np.testing.assert_array_equal, params, lora.merge(params, adapter, 2.0))


def test_merging_adds_scale_a_b_by_hand():
    params = {"layers": {"up": {"kernel": jnp.zeros((2, 2, 3))}, "norm": {"scale": jnp.ones((2, 2))}}}
    a = jnp.array([[[1.0], [2.0]], [[0.0], [1.0]]])  # [L, in, r]
    b = jnp.array([[[1.0, 0.0, -1.0]], [[3.0, 0.0, 0.0]]])  # [L, r, out]
    merged = lora.merge(params, {"layers": {"up": {"kernel": {"a": a, "b": b}}}}, 0.5)
    want = [[[0.5, 0, -0.5], [1, 0, -1]], [[0, 0, 0], [1.5, 0, 0]]]
    np.testing.assert_allclose(merged["layers"]["up"]["kernel"], want)
    np.testing.assert_array_equal(merged["layers"]["norm"]["scale"], 1)


def test_gradients_reach_the_adapter_only(params):
    adapter = lora.init(jax.random.key(1), params, (r"layers/attention/[qv]/kernel",), rank=2)
    adapter = jax.tree.map(lambda leaf: leaf + 0.1, adapter)

    def loss(params, adapter):
        return jnp.sum(MODEL.apply({"params": lora.merge(params, adapter, 1.0)}, TOKENS, MASK).hidden[0, -1, :4])

    frozen, trained = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, adapter)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(frozen))
    assert all(np.any(leaf[0]) for leaf in jax.tree.leaves(trained))


def test_every_matrix_starts_with_its_own_numbers_whatever_else_is_adapted():
    shapes = {name: {"kernel": jax.ShapeDtypeStruct((4, 4), jnp.float32)} for name in ("p", "q")}
    adapter = lora.init(jax.random.key(0), shapes, (r".*/kernel",), rank=4)
    assert not np.allclose(adapter["p"]["kernel"]["a"], adapter["q"]["kernel"]["a"])


def test_bad_input_is_refused(params):
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="'layers/mlp/gates.*' matches no parameter; there are embed/embedding"):
        lora.init(key, params, (r"layers/.*/kernel", r"layers/mlp/gates.*"), rank=2)
    with pytest.raises(ValueError, match="norm/scale is none"):
        lora.init(key, params, (r".*norm/scale",), rank=2)
    with pytest.raises(ValueError, match="rank=0"):
        lora.init(key, params, lora.ATTENTION, rank=0)
    with pytest.raises(ValueError, match="layers/nowhere/kernel"):
        lora.merge(params, {"layers": {"nowhere": {"kernel": {"a": jnp.ones((1, 1)), "b": jnp.ones((1, 1))}}}}, 1.0)
