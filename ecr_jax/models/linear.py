"""The linear map of every language model here: a kernel, whole or quantised, and what an adapter adds to it.

What is given decides: with `codes` and `scales` among the parameters the kernel is dequantised where it is used, with a
collection "lora" beside the parameters the adapter's (x a) b is added. Neither costs anything where it is absent.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecr_jax.models import quantized


def times(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., in] times a kernel [in, out], as one product of two matrices.

    XLA's CPU backend takes the kernel's gradient of a product with more axes by transposing first, at half the speed.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


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
            codes, scales = (self.get_variable("params", name) for name in ("codes", "scales"))
            kernel = quantized.dequantize(codes, scales, self.dtype)
        else:
            kernel = self.param("kernel", nn.initializers.normal(0.02), (x.shape[-1], self.features))
        y = times(x, kernel.astype(self.dtype))
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        if self.has_variable("lora", "a"):
            a, b = (self.get_variable("lora", name).astype(self.dtype) for name in ("a", "b"))
            read = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(x)
            y = y + (times(times(read, a), b) if a.ndim == 2 else (read @ a) @ b)
        return y
