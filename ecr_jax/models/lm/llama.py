"""Llama decoders (Llama 2 and 3, SmolLM2): grouped-query attention, rotary positions, RMSNorm, SwiGLU.

The layers are one module scanned over parameters stacked as [L, ...], so that depth costs no compile time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.models.hyperparameters import Remat
from ecr_jax.models.lm.language_model import Cache, Output, Prefix, apply_layers, attend, positions_of, visibility
from ecr_jax.models.lm.linear import Dense

SHARDING_RULES = (
    (r"embed/embedding|head", ("vocab", "features")),
    (r"layers/attention/q/(kernel|codes|scales)", ("layers", "width", "heads")),
    (r"layers/attention/[kv]/(kernel|codes|scales)", ("layers", "width", "kv_heads")),
    (r"layers/attention/o/(kernel|codes|scales)", ("layers", "heads", "width")),
    (r"layers/mlp/(gate|up)/(kernel|codes|scales)", ("layers", "width", "hidden")),
    (r"layers/mlp/down/(kernel|codes|scales)", ("layers", "hidden", "width")),
    (r"layers/(attention|mlp)_norm/scale", ("layers", None)),
    (r"norm/scale", (None,)),
)
"""(pattern of parameter paths, logical axes) pairs; `training.sharding` decides over which devices they are split."""


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3.1's stretching of slow rotary frequencies (`rope_type` "llama3").

    Attributes:
      factor: slow frequencies are divided by it.
      low, high: `low_freq_factor` and `high_freq_factor`: wavelengths above positions / low are stretched, those below
        positions / high stay, those between are interpolated.
      positions: `original_max_position_embeddings`, the context length before the stretching.
    """

    factor: float
    low: float
    high: float
    positions: int


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a Llama; `hidden` is the width of the feed-forward part."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    positions: int = 8192
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    eps: float = 1e-5
    tied: bool = False

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads={self.heads} must be a multiple of kv_heads={self.kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even: rotary positions rotate pairs of features")


def frequencies(config: LlamaConfig) -> np.ndarray:
    """Angles per position, float32 [Dh / 2], rounded after every step as transformers rounds them.

    A unit in the last place of a frequency moves a cosine at position 8192 by 3e-4, so the rounding is part of the
    model: `1 / theta^x` and `theta^-x` are not the same numbers.
    """
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    angles = 1 / np.power(config.rope_theta, exponents, dtype=np.float64).astype(np.float32)
    scaling = config.rope_scaling
    if scaling is None:
        return angles
    wavelengths = np.float32(2 * np.pi) / angles
    unscaled = (scaling.positions / wavelengths - scaling.low) / (scaling.high - scaling.low)
    between = (1 - unscaled) * angles / scaling.factor + unscaled * angles
    slow, fast = wavelengths > scaling.positions / scaling.low, wavelengths < scaling.positions / scaling.high
    return np.select([slow, fast], [angles / scaling.factor, angles], between).astype(np.float32)


def rotation(config: LlamaConfig, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines [B, T, 1, Dh / 2] for positions [B, T]."""
    angles = positions[..., None, None].astype(jnp.float32) * frequencies(config)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, rotations: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotary positions in Hugging Face's convention: feature i is rotated with feature i + Dh/2. x [B, T, H, Dh]."""
    cos, sin = rotations
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


class Attention(nn.Module):
    """Grouped-query self-attention of one layer."""

    config: LlamaConfig
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        visible: jax.Array,
        rotations: tuple[jax.Array, jax.Array],
        prefix: Prefix | None,
        cached: Prefix | None,
        start: jax.Array | int,
    ) -> tuple[jax.Array, Prefix | None]:  # x [B, T, D]
        c = self.config
        size, groups = c.heads * c.head_dim, c.kv_heads * c.head_dim
        shape = (*x.shape[:2], -1, c.head_dim)
        queries = rotate(self.dense(size, name="q")(x).reshape(shape), rotations)  # [B, T, H, Dh]
        keys = rotate(self.dense(groups, name="k")(x).reshape(shape), rotations)  # [B, T, Hkv, Dh]
        values = self.dense(groups, name="v")(x).reshape(shape)
        context, cached = attend(queries, keys, values, visible, prefix, cached, start)
        return self.dense(c.width, name="o")(context), cached


class Mlp(nn.Module):
    """SwiGLU."""

    config: LlamaConfig
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # [B, T, D]
        c = self.config
        gate = nn.silu(self.dense(c.hidden, name="gate")(x))
        return self.dense(c.width, name="down")(gate * self.dense(c.hidden, name="up")(x))


class Layer(nn.Module):
    """One decoder layer; called by `language_model.apply_layers`."""

    config: LlamaConfig
    dtype: Any
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        shared: tuple[jax.Array, tuple[jax.Array, jax.Array]],
        prefix: Prefix | None,
        cached: Prefix | None,
        start: jax.Array | int,
    ) -> tuple[jax.Array, Prefix | None]:
        c = self.config
        attention = Attention(c, self.dense, name="attention")
        normed = nn.RMSNorm(c.eps, dtype=self.dtype, name="attention_norm")(x)
        visible, rotations = shared
        change, cached = attention(normed, visible, rotations, prefix, cached, start)
        x = x + change
        x = x + Mlp(c, self.dense, name="mlp")(nn.RMSNorm(c.eps, dtype=self.dtype, name="mlp_norm")(x))
        return x, cached


class Llama(nn.Module):
    """A Llama decoder: tokens and masks in, states after the final norm out.

    Attributes:
      config: the sizes.
      dtype: of the computation (parameters keep theirs).
      remat: what the backward pass computes again to save memory; "dots" is the fastest on CPUs.
      adapter_dropout: dropout rate of the adapters' input, in effect where an rng named "dropout" is given.
    """

    config: LlamaConfig
    dtype: Any = jnp.float32
    remat: Remat = "dots"
    adapter_dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        mask: jax.Array,
        prefix: Prefix | None = None,
        prefix_mask: jax.Array | None = None,
        cache: Cache | None = None,
        positions: jax.Array | None = None,
    ) -> Output:
        """Runs the decoder over tokens.

        Args:
          tokens: int [B, T].
          mask: bool [B, T], True for real tokens; padding may lie on either side.
          prefix: keys and values [L, B, Hkv, P, Dh] that all queries attend to, without positions.
          prefix_mask: bool [B, P]; all real when None.
          cache: earlier tokens; this call's tokens are written after them.
          positions: int [B, T]; counted over real tokens when None.

        Returns:
          hidden [B, T, D] and the cache with the tokens written (None if none was passed).
        """
        c = self.config
        x = nn.Embed(
            c.vocab_size, c.width, dtype=self.dtype, embedding_init=nn.initializers.normal(0.02), name="embed"
        )(tokens)  # [B, T, D]
        if not c.tied:  # used by `logits`; declared here so that `init` creates it
            self.param("head", nn.initializers.normal(0.02), (c.vocab_size, c.width))
        visible, keys_mask = visibility(mask, prefix, prefix_mask, cache)
        rotations = rotation(c, positions_of(mask, cache) if positions is None else positions)
        dense = partial(Dense, use_bias=False, dtype=self.dtype, dropout=self.adapter_dropout)
        x, written = apply_layers(self, Layer, (c, self.dtype, dense), x, (visible, rotations), prefix, cache)
        x = nn.RMSNorm(c.eps, dtype=self.dtype, name="norm")(x)
        if cache is None or written is None:
            return Output(x, None)
        return Output(x, Cache(*written, keys_mask, cache.length + tokens.shape[1]))
