"""BERT and RoBERTa encoders (MiniLM, RoBERTa-base): bidirectional, post-LayerNorm, exact gelu.

The layers are one module scanned over parameters stacked as [L, ...]; there is no cache and no prefix.
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
from ecr_jax.models.lm.language_model import Output, apply_layers, attend, positions_of
from ecr_jax.models.lm.linear import Dense

SHARDING_RULES = (
    (r"embed/embedding", ("vocab", "features")),
    (r"(position|token_type)/embedding", ("positions", "features")),
    (r"layers/attention/[qkv]/(kernel|codes|scales)", ("layers", "width", "heads")),
    (r"layers/attention/[qkv]/bias", ("layers", "heads")),
    (r"layers/attention/o/(kernel|codes|scales)", ("layers", "heads", "width")),
    (r"layers/mlp/up/(kernel|codes|scales)", ("layers", "width", "hidden")),
    (r"layers/mlp/up/bias", ("layers", "hidden")),
    (r"layers/mlp/down/(kernel|codes|scales)", ("layers", "hidden", "width")),
    (r"layers/(attention/o|mlp/down)/bias", ("layers", None)),
    (r"layers/(attention|mlp)_norm/(scale|bias)", ("layers", None)),
    (r"embed_norm/(scale|bias)", (None,)),
)
"""(pattern of parameter paths, logical axes) pairs; `training.sharding` decides over which devices they are split."""


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT.

    Attributes:
      vocab_size: tokens.
      width: of a state, D.
      layers: L.
      heads: H.
      hidden: width of the feed-forward part.
      positions: rows of the position table, including the offset.
      token_types: segments.
      position_offset: 0 for BERT, the padding id + 1 for RoBERTa.
      eps: of LayerNorm.
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    hidden: int
    positions: int = 512
    token_types: int = 2
    position_offset: int = 0
    eps: float = 1e-12

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width={self.width} must be a multiple of heads={self.heads}")

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


def _norm(config: BertConfig, dtype: Any, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(config.eps, dtype=dtype, use_fast_variance=False, name=name)


class Attention(nn.Module):
    """Multi-head self-attention of one layer."""

    config: BertConfig
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array, visible: jax.Array) -> jax.Array:  # x [B, T, D]
        c = self.config
        shape = (*x.shape[:2], c.heads, c.head_dim)
        queries, keys, values = (self.dense(c.width, name=name)(x).reshape(shape) for name in "qkv")
        context, _ = attend(queries, keys, values, visible)
        return self.dense(c.width, name="o")(context)


class Mlp(nn.Module):
    """Feed-forward part with the exact gelu."""

    config: BertConfig
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # [B, T, D]
        x = nn.gelu(self.dense(self.config.hidden, name="up")(x), approximate=False)
        return self.dense(self.config.width, name="down")(x)


class Layer(nn.Module):
    """One encoder layer; called by `language_model.apply_layers`, without prefix and cache."""

    config: BertConfig
    dtype: Any
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self, x: jax.Array, shared: tuple[jax.Array], prefix: None, cached: None, start: int
    ) -> tuple[jax.Array, None]:
        c = self.config
        x = _norm(c, self.dtype, "attention_norm")(x + Attention(c, self.dense, name="attention")(x, shared[0]))
        x = _norm(c, self.dtype, "mlp_norm")(x + Mlp(c, self.dense, name="mlp")(x))
        return x, None


class Bert(nn.Module):
    """A BERT or RoBERTa encoder: tokens and masks in, states of the last layer out. Attributes as in `llama.Llama`."""

    config: BertConfig
    dtype: Any = jnp.float32
    remat: Remat = "dots"
    adapter_dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        mask: jax.Array,
        token_types: jax.Array | None = None,
        positions: jax.Array | None = None,
    ) -> Output:
        """Encodes tokens.

        Args:
          tokens: int [B, T].
          mask: bool [B, T], True for real tokens.
          token_types: int [B, T] segments; all 0 when None.
          positions: int [B, T], before the offset; counted over real tokens when None.

        Returns:
          hidden [B, T, D] of the last layer; no cache.

        Raises:
          ValueError: more tokens than the model has positions.
        """
        c = self.config
        longest = c.positions - c.position_offset
        if tokens.shape[1] > longest:
            raise ValueError(f"{tokens.shape[1]} tokens, but this model has {longest} positions; shorten the text")
        mask = mask.astype(bool)
        embed = nn.initializers.normal(0.02)

        def table(rows: int, name: str) -> nn.Embed:
            return nn.Embed(rows, c.width, dtype=self.dtype, embedding_init=embed, name=name)

        positions = (positions_of(mask) if positions is None else positions) + c.position_offset
        token_types = jnp.zeros_like(tokens) if token_types is None else token_types
        x = table(c.vocab_size, "embed")(tokens) + table(c.positions, "position")(positions)
        x = _norm(c, self.dtype, "embed_norm")(x + table(c.token_types, "token_type")(token_types))  # [B, T, D]
        visible = jnp.broadcast_to(mask[:, None, :], (*tokens.shape, tokens.shape[1]))  # [B, T, T]

        dense = partial(Dense, dtype=self.dtype, dropout=self.adapter_dropout)
        x, _ = apply_layers(self, Layer, (c, self.dtype, dense), x, (visible,))
        return Output(x, None)
