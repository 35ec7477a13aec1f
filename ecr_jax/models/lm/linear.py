"""The linear map of every language model here: a kernel, whole or quantised, and what an adapter adds to it.

What is given decides: with `codes` and `scales` among the parameters the kernel is decoded where it is used, with a
collection "lora" beside the parameters the adapter's (x a) b is added. Neither costs anything where it is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecr_jax.models.lm import quantized


def matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., in] times a kernel [in, out], as one product of two matrices.

    XLA's CPU backend takes the kernel's gradient of a product with more axes by transposing first, at half the speed.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def product(x: jax.Array, weight: Mapping[str, jax.Array]) -> jax.Array:
    """x [..., in] times {"kernel"} or {"codes", "scales"}, in the dtype of x.

    What the weight is turned into for that is not kept for the backward pass but computed again there: otherwise the
    decoded (or cast) kernels of all layers would be in memory at once.
    """
    if "kernel" in weight and weight["kernel"].dtype == x.dtype:
        return matmul(x, weight["kernel"])

    def turned(x: jax.Array, weight: Mapping[str, jax.Array]) -> jax.Array:
        if "kernel" in weight:
            return matmul(x, weight["kernel"].astype(x.dtype))
        codes, scales = weight["codes"], weight["scales"]
        if codes.dtype == jnp.int8:  # one scale a column, so what comes out is scaled: it is smaller than the kernel
            return matmul(x, codes.astype(x.dtype)) * scales[0].astype(x.dtype)
        return matmul(x, quantized.decode(codes, scales, x.dtype))

    return jax.checkpoint(turned, prevent_cse=False)(x, dict(weight))


class Dense(nn.Module):
    """y = x W + bias, plus dropout(x) a b where the collection "lora" holds `a` and `b` at the module's path.

    W is [in, out]. The adapter's leaves are [in, r] and [r, out], already scaled; or [B, in, r] and [B, r, out], one
    adapter a row of x [B, T, in].

    Attributes:
        features: out.
        use_bias: whether there is a bias [out].
        dtype: of the computation; products of bfloat16 are accumulated in float32 by every backend.
        dropout: rate on what the adapter reads, where an rng named "dropout" is given.
    """

    features: int
    use_bias: bool = True
    dtype: Any = jnp.float32
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(self.dtype)
        if self.has_variable("params", "codes"):
            weight = {name: self.get_variable("params", name) for name in ("codes", "scales")}
        else:
            weight = {"kernel": self.param("kernel", nn.initializers.normal(0.02), (x.shape[-1], self.features))}
        y = product(x, weight)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        if self.has_variable("lora", "a"):
            a, b = (self.get_variable("lora", name).astype(self.dtype) for name in ("a", "b"))
            read = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(x)
            y = y + (matmul(matmul(read, a), b) if a.ndim == 2 else (read @ a) @ b)
        return y
