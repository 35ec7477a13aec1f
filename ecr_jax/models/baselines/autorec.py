"""AutoRec: an autoencoder with one hidden layer, from what a dialogue mentions to the item it recommends."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp


class AutoRec(nn.Module):
    """W sigmoid(sum of V_e over the entities e mentioned + m) + b.

    What is not mentioned takes no part in the sum. ReDial's baseline as CRSLab trains it: entities for ratings (what a
    seeker thinks of a film is said in words, which it does not read) and cross-entropy of the item that is recommended.
    CRSLab squashes the outputs before its soft-max, which bounds every logit to [0, 1]; here they are free.

    Attributes:
      entities: N; `entities` [B, E] of the batch are ids below it.
      items: I.
      width: of the hidden layer (published: 1000).
      dropout: rate on the hidden layer.

    Reference: Sedhain et al. 2015, "AutoRec: Autoencoders Meet Collaborative Filtering", Eq. 1; Li et al. 2018,
    "Towards Deep Conversational Recommendations".
    """

    entities: int
    items: int
    width: int
    dropout: float

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], frozen: Mapping[str, jax.Array]) -> jax.Array:
        table = self.param("table", nn.initializers.normal(self.width**-0.5), (self.entities + 1, self.width))
        seen = jnp.where(batch["entity_mask"][..., None], table[batch["entities"]], 0)  # [B, E, W]
        hidden = nn.sigmoid(seen.sum(axis=1) + self.param("bias", nn.initializers.zeros, (self.width,)))
        hidden = nn.Dropout(self.dropout)(hidden, deterministic=not self.has_rng("dropout"))
        return nn.Dense(self.items, name="out")(hidden)
