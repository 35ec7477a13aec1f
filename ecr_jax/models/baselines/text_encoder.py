"""A frozen text encoder as a recommender: a linear map of an attention pool of its states."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax

from ecr_jax.models.layers import AttentionPool


class TextEncoder(nn.Module):
    """Linear map of an attention pool over the context's token states to the items.

    The published row fine-tunes BERT and uses its [CLS] state; here the encoder is frozen (its states are computed
    once) and only the pool is trained.

    Reads `text_states` [B, S, D] and `text_mask`.

    Reference: the BERT row of CRSLab and of LLMCRS (Feng et al. 2023), Table 3.
    """

    items: int
    dropout: float

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], frozen: Mapping[str, jax.Array]) -> jax.Array:
        """Logits [B, I]."""
        states = batch["text_states"].astype("float32")
        pooled = AttentionPool(name="pool")(states, batch["text_mask"])
        pooled = nn.Dropout(self.dropout)(pooled, deterministic=not self.has_rng("dropout"))
        return nn.Dense(self.items, name="out")(pooled)
