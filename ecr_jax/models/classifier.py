"""A classifier over pooled text states, the only part that the emotion stage trains."""

from __future__ import annotations

import flax.linen as nn
import jax


class Classifier(nn.Module):
    """One hidden layer over a pooled state.

    Attributes:
      hidden: width of the hidden layer.
      classes: number of labels.
    """

    hidden: int
    classes: int

    @nn.compact
    def __call__(self, state: jax.Array) -> jax.Array:
        """Pooled states [B, D] -> logits [B, classes]."""
        x = nn.LayerNorm(name="norm")(state)
        x = nn.gelu(nn.Dense(self.hidden, name="hidden")(x))
        return nn.Dense(self.classes, name="out")(x)
