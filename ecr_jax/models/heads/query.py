"""The query vector of a context, whose inner products with the entity table are logits."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecr_jax.models.layers import AttentionPool, Linear


class PooledQuery(nn.Module):
    """The language model's last state plus attention pools of the fused entities and of the text states.

    The pools keep a small frozen language model from being a bottleneck.

    Attributes:
      recency_slots: number of recency parameters; mentions further back share the last one.
    """

    recency_slots: int

    @nn.compact
    def __call__(
        self,
        *,
        state: jax.Array,
        prompt: jax.Array,
        prompt_mask: jax.Array,
        tokens: jax.Array,
        text_mask: jax.Array,
        recency: jax.Array,
    ) -> jax.Array:
        """The query [B, D].

        Args:
          state: [B, D] the language model's last state.
          prompt: [B, P, D] the fused entities: local, or local then global, so that P is E or 2 E.
          prompt_mask: bool [B, P].
          tokens: [B, S, D] the projected text states.
          text_mask: bool [B, S].
          recency: int [B, E] how many mentions follow each mention, below `recency_slots`.
        """
        width, parts = state.shape[-1], prompt.shape[1] // recency.shape[1]
        bias = self.param("recency", nn.initializers.zeros, (self.recency_slots,))[jnp.tile(recency, (1, parts))]
        return (
            Linear(width, name="state")(nn.LayerNorm(name="state_norm")(state))
            + AttentionPool(name="entity_pool")(prompt, prompt_mask, bias)
            + AttentionPool(name="token_pool")(tokens, text_mask)
        )
