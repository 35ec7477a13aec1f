"""TG-ReDial's recommender: SASRec's state of the films beside a text encoder's state of the dialogue."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecr_jax.models.baselines.sasrec import SasRec
from ecr_jax.models.layers import AttentionPool, last_state


class TgRedial(nn.Module):
    """Linear map of SASRec's last state and of an attention pool of the context's token states to the items.

    The published model fine-tunes BERT and takes its [CLS] state, and its SASRec reads films that the user watched
    before the dialogue; here the encoder is frozen, only the pool is trained, and the films are those of the context.

    Reads what `SasRec` and `TextEncoder` read.

    Reference: Zhou et al. 2020, "Towards Topic-Guided Conversational Recommender System", 5.1; CRSLab's `TGReDial`.
    """

    items: int
    length: int
    width: int
    layers: int
    heads: int
    dropout: float
    recency_slots: int

    def setup(self) -> None:
        self.sasrec = SasRec(
            self.items, self.length, self.width, self.layers, self.heads, self.dropout, self.recency_slots
        )
        self.pool = AttentionPool()
        self.drop = nn.Dropout(self.dropout)
        self.out = nn.Dense(self.items)

    def __call__(self, batch: Mapping[str, jax.Array], frozen: Mapping[str, jax.Array]) -> jax.Array:
        """Logits [B, I]."""
        films = last_state(*self.sasrec.states(batch["films"], batch["film_mask"]))
        pooled = self.pool(batch["text_states"].astype("float32"), batch["text_mask"])
        text = self.drop(pooled, deterministic=not self.has_rng("dropout"))
        return self.out(jnp.concatenate([films, text], axis=-1))
