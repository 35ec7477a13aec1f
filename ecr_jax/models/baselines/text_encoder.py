"""The words alone: states of a frozen text encoder, pooled by attention, scored against the items."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax

from ecr_jax.models.layers import AttentionPool


class TextEncoder(nn.Module):
    """Linear map of an attention pool over the context's token states to the items.

    The published row tunes BERT and reads its [CLS] state; here the encoder is frozen (its states are computed once)
    and the pool learns what it would.

    Reads `text_states` [B, S, D] and `text_mask`.

    Reference: the BERT row of CRSLab and of LLMCRS (Feng et al. 2023), Table 3.
    """

    items: int
    dropout: float

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], frozen: Mapping[str, jax.Array]) -> jax.Array:
        states = batch["text_states"].astype("float32")
        pooled = AttentionPool(name="pool")(states, batch["text_mask"])
        pooled = nn.Dropout(self.dropout)(pooled, deterministic=not self.has_rng("dropout"))
        return nn.Dense(self.items, name="out")(pooled)
