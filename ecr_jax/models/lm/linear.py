"""The linear layer of every language model here: a kernel, whole or quantised, plus an optional LoRA adapter.

The variables decide: with `codes` and `scales` among the parameters the kernel is decoded where it is used; with a
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
    """x [..., in] times a kernel [in, out], computed as a product of two matrices.

    For a product with more axes, XLA's CPU backend transposes before it computes the kernel's gradient, at half the
    speed.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def weight_matmul(x: jax.Array, weight: Mapping[str, jax.Array]) -> jax.Array:
    """x [..., in] times a weight, {"kernel"} or {"codes", "scales"}, in the dtype of x.

    The decoded (or cast) kernel is computed again in the backward pass instead of stored: otherwise those of all layers
    would be in memory at once.
    """
    if "kernel" in weight and weight["kernel"].dtype == x.dtype:
        return matmul(x, weight["kernel"])

    def decode_and_multiply(x: jax.Array, weight: Mapping[str, jax.Array]) -> jax.Array:
        if "kernel" in weight:
            return matmul(x, weight["kernel"].astype(x.dtype))
        codes, scales = weight["codes"], weight["scales"]
        if codes.dtype == jnp.int8:  # one scale a column: scaling the result is cheaper than scaling the kernel
            return matmul(x, codes.astype(x.dtype)) * scales[0].astype(x.dtype)
        return matmul(x, quantized.decode(codes, scales, x.dtype))

    return jax.checkpoint(decode_and_multiply, prevent_cse=False)(x, dict(weight))


class Dense(nn.Module):
    """y = x W + bias, plus dropout(x) a b where the collection "lora" holds `a` and `b` at the module's path.

    W is [in, out]. The adapter's leaves are [in, r] and [r, out], already scaled; or [B, in, r] and [B, r, out], one
    adapter for each row of x [B, T, in].

    Attributes:
      features: the output width.
      use_bias: whether there is a bias [out].
      dtype: of the computation; products of bfloat16 are accumulated in float32 by every backend.
      dropout: dropout rate of the adapter's input, in effect where an rng named "dropout" is given.
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
        y = weight_matmul(x, weight)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        if self.has_variable("lora", "a"):
            a, b = (self.get_variable("lora", name).astype(self.dtype) for name in ("a", "b"))
            adapter_input = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(x)
            y = y + (matmul(matmul(adapter_input, a), b) if a.ndim == 2 else (adapter_input @ a) @ b)
        return y
