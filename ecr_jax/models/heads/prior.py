"""The prior head: items that training recommends often score higher."""

from __future__ import annotations

import flax.linen as nn
import jax


class Prior(nn.Module):
    """A learned multiple of the items' log popularity."""

    @nn.compact
    def __call__(self, log_popularity: jax.Array) -> jax.Array:
        """Logits of the shape of `log_popularity`, [B, I] or [I]."""
        return self.param("scale", nn.initializers.constant(0.5), ()) * log_popularity
