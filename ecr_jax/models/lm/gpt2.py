"""GPT-2 decoders (GPT-2, DialoGPT): learned positions, pre-LayerNorm, tied head.

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

from ecr_jax.models.hyperparameters import Remat
from ecr_jax.models.lm.language_model import Cache, Output, Prefix, apply_layers, attend, positions_of, visibility
from ecr_jax.models.lm.linear import Dense

SHARDING_RULES = (
    (r"embed/embedding", ("vocab", "features")),
    (r"position/embedding", ("positions", "features")),
    (r"layers/attention/qkv/(kernel|codes|scales)", ("layers", "width", "heads")),
    (r"layers/attention/qkv/bias", ("layers", "heads")),
    (r"layers/attention/o/(kernel|codes|scales)", ("layers", "heads", "width")),
    (r"layers/mlp/up/(kernel|codes|scales)", ("layers", "width", "hidden")),
    (r"layers/mlp/up/bias", ("layers", "hidden")),
    (r"layers/mlp/down/(kernel|codes|scales)", ("layers", "hidden", "width")),
    (r"layers/(attention/o|mlp/down)/bias", ("layers", None)),
    (r"layers/(attention|mlp)_norm/(scale|bias)", ("layers", None)),
    (r"norm/(scale|bias)", (None,)),
)
"""(pattern of parameter paths, logical axes) pairs; `training.sharding` decides over which devices they are split."""


@dataclass(frozen=True)
class Gpt2Config:
    """Sizes of a GPT-2; `hidden` is the width of the feed-forward part."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    hidden: int
    positions: int = 1024
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width={self.width} must be a multiple of heads={self.heads}")

    @property
    def kv_heads(self) -> int:
        return self.heads

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


def _norm(config: Gpt2Config, dtype: Any, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(config.eps, dtype=dtype, use_fast_variance=False, name=name)


class Attention(nn.Module):
    """Multi-head self-attention of one layer; queries, keys and values come from one matrix, as in the weights."""

    config: Gpt2Config
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self, x: jax.Array, visible: jax.Array, prefix: Prefix | None, cached: Prefix | None, start: jax.Array | int
    ) -> tuple[jax.Array, Prefix | None]:  # x [B, T, D]
        c = self.config
        shape = (*x.shape[:2], c.heads, c.head_dim)
        parts = jnp.split(self.dense(3 * c.width, name="qkv")(x), 3, axis=-1)
        queries, keys, values = (part.reshape(shape) for part in parts)  # [B, T, H, Dh]
        context, cached = attend(queries, keys, values, visible, prefix, cached, start)
        return self.dense(c.width, name="o")(context), cached


class Mlp(nn.Module):
    """Feed-forward part with the tanh approximation of gelu (`gelu_new`)."""

    config: Gpt2Config
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # [B, T, D]
        x = nn.gelu(self.dense(self.config.hidden, name="up")(x), approximate=True)
        return self.dense(self.config.width, name="down")(x)


class Layer(nn.Module):
    """One decoder layer; called by `language_model.apply_layers`."""

    config: Gpt2Config
    dtype: Any
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        shared: tuple[jax.Array],
        prefix: Prefix | None,
        cached: Prefix | None,
        start: jax.Array | int,
    ) -> tuple[jax.Array, Prefix | None]:
        c = self.config
        attention = Attention(c, self.dense, name="attention")
        (visible,) = shared
        change, cached = attention(_norm(c, self.dtype, "attention_norm")(x), visible, prefix, cached, start)
        x = x + change
        x = x + Mlp(c, self.dense, name="mlp")(_norm(c, self.dtype, "mlp_norm")(x))
        return x, cached


class Gpt2(nn.Module):
    """A GPT-2 decoder: tokens and masks in, states after the final norm out. Attributes as in `llama.Llama`."""

    config: Gpt2Config
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
        """Runs the decoder over tokens; arguments and result as in `llama.Llama.__call__`.

        Raises:
          ValueError: more tokens than the model has positions.
        """
        c = self.config
        length = tokens.shape[1] if cache is None else cache.mask.shape[1]
        if length > c.positions:
            raise ValueError(f"{length} tokens, but this model has {c.positions} positions; shorten the context")
        embed = nn.initializers.normal(0.02)
        x = nn.Embed(c.vocab_size, c.width, dtype=self.dtype, embedding_init=embed, name="embed")(tokens)  # [B, T, D]
        positions = positions_of(mask, cache) if positions is None else positions
        x = x + nn.Embed(c.positions, c.width, dtype=self.dtype, embedding_init=embed, name="position")(positions)
        visible, keys_mask = visibility(mask, prefix, prefix_mask, cache)
        dense = partial(Dense, dtype=self.dtype, dropout=self.adapter_dropout)
        x, written = apply_layers(self, Layer, (c, self.dtype, dense), x, (visible,), prefix, cache)
        x = _norm(c, self.dtype, "norm")(x)
        if cache is None or written is None:
            return Output(x, None)
        return Output(x, Cache(*written, keys_mask, cache.length + tokens.shape[1]))
