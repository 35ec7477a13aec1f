"""Kernels in 8 and 4 bits: codes by hand, bounds of the error, models that compute with what the codes stand for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import lora, quantized
from ecr_jax.models.lm.gpt2 import Gpt2, Gpt2Config
from ecr_jax.models.lm.linear import weight_matmul
from tests import tiny

CONFIG = Gpt2Config(vocab_size=30, width=16, layers=3, heads=2, hidden=24, positions=16)
TOKENS = np.array([[1, 2, 3, 4]])


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def whole(weight):
    return np.asarray(quantized.decode(**weight, dtype=jnp.float32))


def test_int8_by_hand():
    kernel = np.array([[127.0, -1.0, 0.0], [-63.4, 0.5, 0.0]])
    encoded = quantized.encode(kernel, "int8")
    np.testing.assert_allclose(encoded["scales"], [[1.0, 1 / 127, 0.0]], rtol=1e-6)
    np.testing.assert_array_equal(encoded["codes"], [[127, -127, 0], [-63, 64, 0]])
    np.testing.assert_allclose(whole(encoded), [[127, -1, 0], [-63, 64 / 127, 0]], rtol=1e-6)


def test_nf4_by_hand():
    """A block is the largest divisor up to 64, here all four inputs; of two in a byte the first has the low bits."""
    kernel = np.array([[2.0, 0.0], [-2.0, 0.0], [0.1, 0.0], [0.9, 0.0]])
    encoded = quantized.encode(kernel, "nf4")
    assert encoded["codes"].dtype == jnp.uint8 and encoded["scales"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(encoded["scales"].astype(jnp.float32), [[2.0, 0.0]])
    # 1 is code 15, -1 code 0; 0.05 is nearer to 0.0796 (code 8) than to 0 (7), 0.45 to 0.4407 (12) than to 0.5626 (13)
    np.testing.assert_array_equal(encoded["codes"][:, 0], [15 + 16 * 0, 8 + 16 * 12])
    np.testing.assert_array_equal(encoded["codes"][:, 1], [7 + 16 * 7] * 2)
    np.testing.assert_allclose(whole(encoded), [[2, 0], [-2, 0], [2 * 0.0795803, 0], [2 * 0.44070983, 0]], rtol=1e-6)


def test_normal_float_is_made_of_the_normals_quantiles():
    """Appendix E: evenly spread from the offset to one half, one more on the positive side, and an exact zero."""
    offset = 1 - (1 / 32 + 1 / 30) / 2
    above = scipy.stats.norm.ppf(np.linspace(offset, 0.5, 9)[:-1])
    below = -scipy.stats.norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    values = np.sort([*above, 0.0, *below])
    np.testing.assert_allclose(quantized.NORMAL_FLOAT, values / values.max(), atol=3e-7)


def test_errors_are_bounded_and_codes_stay():
    kernel = random(192, 10)
    eight, four = (quantized.encode(kernel, format) for format in ("int8", "nf4"))
    assert four["scales"].shape == (3, 10)
    error = np.abs(whole(eight) - kernel)
    assert (error <= eight["scales"] * 0.5001).all()
    widest = np.diff(quantized.NORMAL_FLOAT).max() / 2  # from a value to the farther of two codes beside it
    largest = np.repeat(four["scales"].astype(np.float32), 64, axis=0)
    error = np.abs(whole(four) - kernel)
    assert (error <= (widest + 2**-8) * largest).all()  # the block's largest is off by the rounding of its scale
    assert 0.05 < np.sqrt(np.mean(error**2)) / np.std(kernel) < 0.12  # of normal weights, about a tenth
    for format, encoded in (("int8", eight), ("nf4", four)):
        again = quantized.encode(whole(encoded), format)
        np.testing.assert_array_equal(again["codes"], encoded["codes"])


def test_trees_are_quantised_and_come_back():
    params = tiny.random_model(CONFIG).params
    encoded = quantized.quantize(params, (r"layers/mlp/.*/kernel",), "nf4")
    assert quantized.is_quantized(encoded) and not quantized.is_quantized(params)
    assert encoded["layers"]["attention"] is not params["layers"]["attention"]
    jax.tree.map(np.testing.assert_array_equal, encoded["layers"]["attention"], params["layers"]["attention"])
    up = encoded["layers"]["mlp"]["up"]
    assert sorted(up) == ["bias", "codes", "scales"]
    assert up["codes"].shape == (3, 8, 24) and up["scales"].shape == (3, 1, 24)
    assert quantized.shape_of(up) == (3, 16, 24)
    each = [quantized.encode(kernel, "nf4") for kernel in params["layers"]["mlp"]["up"]["kernel"]]
    np.testing.assert_array_equal(up["codes"], jnp.stack([layer["codes"] for layer in each]))
    back = quantized.dequantize(encoded)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    np.testing.assert_array_equal(back["layers"]["mlp"]["up"]["kernel"][1], whole(each[1]))
    every = quantized.quantize(jax.tree.map(np.asarray, params), quantized.KERNELS, "int8")
    assert quantized.shape_of(every["layers"]["attention"]["qkv"]) == (3, 16, 48)
    shapes = jax.eval_shape(lambda tree: quantized.quantize(tree, quantized.KERNELS, "int8"), params)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), every
    )


def test_memory():
    """4.25 and 8 bits a weight, and 8 scales' bytes a column."""
    params = {"layers": {"up": {"kernel": jnp.zeros((2, 4096, 64))}}}
    sizes = {
        format: sum(leaf.nbytes for leaf in jax.tree.leaves(quantized.quantize(params, (".*",), format)))
        for format in ("int8", "nf4")
    }
    weights = 2 * 4096 * 64
    assert sizes == {"int8": weights + 4 * 2 * 64, "nf4": weights * 4.25 / 8}


@pytest.mark.parametrize("format", ["int8", pytest.param("nf4", marks=pytest.mark.slow)])
def test_an_adapter_is_trained_on_a_quantised_base(format):
    """Values and the adapter's gradients are those of the whole kernels that the codes stand for."""
    model, config = tiny.random_model(CONFIG), LoraConfig((r"layers/.*",), rank=2)
    base = quantized.quantize(model.params, quantized.KERNELS, format)
    adapter = lora.init(jax.random.key(0), base, config)
    adapter = jax.tree.map(lambda leaf: leaf + 0.1, adapter)
    module = Gpt2(CONFIG, remat="full" if format == "int8" else "none")

    @jax.jit
    @jax.value_and_grad
    def loss(adapter, base):
        hidden = module.apply(lora.variables(base, adapter, config), TOKENS, TOKENS > 0).hidden
        return jnp.mean(jnp.sin(hidden))

    value, grads = loss(adapter, base)
    expected, others = loss(adapter, quantized.dequantize(base))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(others))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5 * largest), grads, others)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("format", ["int8", "nf4"])
def test_products_are_in_the_dtype_of_what_is_read(format):
    kernel, x = random(64, 8), random(3, 64, seed=1)
    encoded = quantized.encode(kernel, format)
    exact = weight_matmul(x, encoded)
    np.testing.assert_allclose(exact, x @ whole(encoded), rtol=1e-5, atol=1e-5)
    low = weight_matmul(jnp.asarray(x, jnp.bfloat16), encoded)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(np.float32), exact, atol=0.15)  # of sums around 4


@pytest.mark.parametrize("format", ["bfloat16", "int8", "nf4"])
def test_decoded_kernels_are_not_kept_for_the_backward_pass(format):
    """Of 16 layers, few kernels exist at a time in the computation's dtype."""
    layers, width = 16, 128
    params = {"layers": {"up": {"kernel": jnp.zeros((layers, width, width))}}}
    if format == "bfloat16":
        weights = {"kernel": params["layers"]["up"]["kernel"].astype(jnp.bfloat16)}
    else:
        weights = quantized.quantize(params, (".*",), format)["layers"]["up"]

    def loss(x, weights):
        return jnp.sum(jax.lax.scan(lambda x, w: (jnp.tanh(weight_matmul(x, w)), None), x, weights)[0])

    compiled = jax.jit(jax.grad(loss)).lower(jnp.ones((2, width)), weights).compile()
    whole = 4 * width * width
    # XLA's CPU backend itself casts all bfloat16 kernels at once; the residuals of that would be as large again.
    allowed = layers + 3 if format == "bfloat16" else 6
    assert compiled.memory_analysis().temp_size_in_bytes < allowed * whole


def test_kernels_that_cannot_be_quantised_are_named():
    params = {"layers": {"up": {"kernel": jnp.zeros((2, 5, 4)), "bias": jnp.zeros((2, 4))}}}
    with pytest.raises(ValueError, match="layers/up/kernel: nf4 packs two inputs in a byte, so 5 inputs"):
        quantized.quantize(params, quantized.KERNELS, "nf4")
    with pytest.raises(ValueError, match="format='int3': must be one of int8, nf4"):
        quantized.quantize(params, quantized.KERNELS, "int3")
    with pytest.raises(ValueError, match="'layers/down/kernel' must match kernels; it matches nothing"):
        quantized.quantize(params, ("layers/down/kernel",), "int8")
    with pytest.raises(ValueError, match="it matches layers/up/kernel, layers/up/bias"):
        quantized.quantize(params, ("layers/.*",), "int8")
    small = quantized.quantize(params, quantized.KERNELS, "int8")
    adapter = lora.init(jax.random.key(0), small, LoraConfig(("layers/up",), rank=1))
    with pytest.raises(ValueError, match="layers/up is quantised: .* beside the parameters"):
        lora.merge(small, adapter, LoraConfig(("layers/up",), rank=1))
