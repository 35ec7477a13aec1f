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
from ecr_jax.models.lm import language_model
from ecr_jax.models.lm.language_model import Cache, Output, Prefix, apply_layers, attend, positions_of, visibility
from ecr_jax.models.lm.linear import Dense

logits = language_model.logits

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
"""Path of a parameter -> its logical axes; `training/sharding.py` says over which devices they are split."""


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3.1's stretching of slow rotary frequencies (`rope_type` "llama3")."""

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
            raise ValueError(f"head_dim={self.head_dim} must be even: rotary positions turn pairs")


def frequencies(config: LlamaConfig) -> np.ndarray:
    """Angles per position, float32 [Dh / 2], rounded after every step as transformers rounds them.

    A unit in the last place of a frequency moves a cosine at position 8192 by 3e-4, so the rounding is part of the
    model: `1 / theta^x` and `theta^-x` are not the same numbers.
    """
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    turns = 1 / np.power(config.rope_theta, exponents, dtype=np.float64).astype(np.float32)
    scaling = config.rope_scaling
    if scaling is None:
        return turns
    # Wavelengths shorter than positions/high stay, longer than positions/low are stretched, between: interpolated.
    wavelengths = np.float32(2 * np.pi) / turns
    keep = (scaling.positions / wavelengths - scaling.low) / (scaling.high - scaling.low)
    between = (1 - keep) * turns / scaling.factor + keep * turns
    slow, fast = wavelengths > scaling.positions / scaling.low, wavelengths < scaling.positions / scaling.high
    return np.select([slow, fast], [turns / scaling.factor, turns], between).astype(np.float32)


def rotation(config: LlamaConfig, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines [B, T, 1, Dh / 2] for positions [B, T]."""
    angles = positions[..., None, None].astype(jnp.float32) * frequencies(config)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, turn: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotary positions in Hugging Face's convention: feature i turns with feature i + Dh/2. x [B, T, H, Dh]."""
    cos, sin = turn
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


class Attention(nn.Module):
    """Grouped-query self-attention of one layer."""

    config: LlamaConfig
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x, visible, turn, prefix, cached, start):  # x [B, T, D]
        c = self.config
        size, groups = c.heads * c.head_dim, c.kv_heads * c.head_dim
        shape = (*x.shape[:2], -1, c.head_dim)
        queries = rotate(self.dense(size, name="q")(x).reshape(shape), turn)  # [B, T, H, Dh]
        keys = rotate(self.dense(groups, name="k")(x).reshape(shape), turn)  # [B, T, Hkv, Dh]
        values = self.dense(groups, name="v")(x).reshape(shape)
        context, cached = attend(queries, keys, values, visible, prefix, cached, start)
        return self.dense(c.width, name="o")(context), cached


class Mlp(nn.Module):
    """SwiGLU."""

    config: LlamaConfig
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x):  # [B, T, D]
        c = self.config
        gate = nn.silu(self.dense(c.hidden, name="gate")(x))
        return self.dense(c.width, name="down")(gate * self.dense(c.hidden, name="up")(x))


class Layer(nn.Module):
    """One decoder layer; its call is as `language_model.apply_layers` wants it."""

    config: LlamaConfig
    dtype: Any
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x, shared, prefix, cached, start):
        c = self.config
        attention = Attention(c, self.dense, name="attention")
        normed = nn.RMSNorm(c.eps, dtype=self.dtype, name="attention_norm")(x)
        visible, turn = shared
        change, cached = attention(normed, visible, turn, prefix, cached, start)
        x = x + change
        x = x + Mlp(c, self.dense, name="mlp")(nn.RMSNorm(c.eps, dtype=self.dtype, name="mlp_norm")(x))
        return x, cached


class Llama(nn.Module):
    """A Llama decoder: tokens and masks in, states after the final norm out.

    Attributes:
        config: the sizes.
        dtype: of the computation (parameters keep theirs).
        remat: what the backward pass computes again, to save memory.
        adapter_dropout: rate on what adapters read, where an rng named "dropout" is given.
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
        """Reads tokens.

        Args:
            tokens: int [B, T].
            mask: bool [B, T], True for real tokens; padding may lie on either side.
            prefix: keys and values [L, B, Hkv, P, Dh] that all queries see, without positions.
            prefix_mask: bool [B, P]; all real when None.
            cache: what came before; the tokens are written behind it.
            positions: int [B, T]; counted over real tokens when None.

        Returns:
            hidden [B, T, D] and the cache with the tokens written (None if none was given).
        """
        c = self.config
        x = nn.Embed(
            c.vocab_size, c.width, dtype=self.dtype, embedding_init=nn.initializers.normal(0.02), name="embed"
        )(tokens)  # [B, T, D]
        if not c.tied:  # read by `logits`; declared here so that `init` makes it
            self.param("head", nn.initializers.normal(0.02), (c.vocab_size, c.width))
        visible, keys_mask = visibility(mask, prefix, prefix_mask, cache)
        turn = rotation(c, positions_of(mask, cache) if positions is None else positions)
        dense = partial(Dense, use_bias=False, dtype=self.dtype, dropout=self.adapter_dropout)
        x, cached = apply_layers(self, Layer, (c, self.dtype, dense), x, (visible, turn), prefix, cache)
        x = nn.RMSNorm(c.eps, dtype=self.dtype, name="norm")(x)
        if cache is not None and cached is not None:
            cache = Cache(*cached, keys_mask, cache.length + tokens.shape[1])
        return Output(x, cache)
