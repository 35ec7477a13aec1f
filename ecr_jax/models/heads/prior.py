"""The prior head: items that training recommends often score higher."""

from __future__ import annotations

import flax.linen as nn
import jax

from ecr_jax.models.layers import scatter_by_entity


class Prior(nn.Module):
    """A learned multiple of the items' log popularity, less the part that a training dialogue contributes itself."""

    @nn.compact
    def __call__(
        self,
        *,
        log_popularity: jax.Array,
        own_columns: jax.Array | None = None,
        own_shift: jax.Array | None = None,
    ) -> jax.Array:
        """Logits [B, I], or [I], the same for every row, without `own_columns`.

        Args:
          log_popularity: [I] of each candidate, a constant.
          own_columns: int [B, R] columns of the items that the dialogue itself recommends; I where it is no candidate.
          own_shift: [B, R] what to add to these items' log popularity so that the dialogue is left out.
        """
        prior = log_popularity
        if own_columns is not None and own_shift is not None:
            prior = prior + scatter_by_entity(own_columns, own_shift, log_popularity.shape[0])
        return self.param("scale", nn.initializers.constant(0.5), ()) * prior
