"""AutoRec: an autoencoder with one hidden layer, from what a dialogue mentions to the item it recommends."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp


class AutoRec(nn.Module):
    """W sigmoid(sum of V_e over the entities e mentioned + m) + b.

    ReDial's baseline as CRSLab trains it: mentioned entities in place of ratings, and cross-entropy of the recommended
    item. CRSLab applies a sigmoid before its softmax, which bounds every logit to [0, 1]; here logits are unbounded.

    Attributes:
      entities: N; `entities` [B, E] of the batch are ids below it.
      items: I.
      width: width of the hidden layer (published: 1000).
      dropout: dropout rate of the hidden layer.

    Reference: Sedhain et al. 2015, "AutoRec: Autoencoders Meet Collaborative Filtering", Eq. 1; Li et al. 2018,
    "Towards Deep Conversational Recommendations".
    """

    entities: int
    items: int
    width: int
    dropout: float

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], frozen: Mapping[str, jax.Array]) -> jax.Array:
        """Logits [B, I]; reads `entities` and `entity_mask` [B, E] of the batch."""
        table = self.param("table", nn.initializers.normal(self.width**-0.5), (self.entities + 1, self.width))
        mentioned = jnp.where(batch["entity_mask"][..., None], table[batch["entities"]], 0)  # [B, E, W]
        hidden = nn.sigmoid(mentioned.sum(axis=1) + self.param("bias", nn.initializers.zeros, (self.width,)))
        hidden = nn.Dropout(self.dropout)(hidden, deterministic=not self.has_rng("dropout"))
        return nn.Dense(self.items, name="out")(hidden)
