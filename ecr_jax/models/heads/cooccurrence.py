"""The co-occurrence heads: items that training dialogues name together with the context's entities."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecr_jax.models.heads.feeling import FeelingWeight
from ecr_jax.models.layers import Linear, scatter_by_entity


class MassCooccurrence(nn.Module):
    """A learned multiple of log(1 + c m) of the co-occurrence mass m of an item, in which mentions count by recency.

    Attributes:
      recency_slots: number of recency parameters; mentions further back share the last one.
    """

    recency_slots: int

    @nn.compact
    def __call__(
        self,
        *,
        columns: jax.Array,
        weights: jax.Array,
        recency: jax.Array,
        candidates: int,
        feelings: jax.Array | None = None,
    ) -> jax.Array:
        """Logits [B, I].

        Args:
          columns: int [B, E, C] the candidates' columns of what co-occurs with each mention, I for no candidate.
          weights: [B, E, C] the share of dialogues in which it does; 0 where padded.
          recency: int [B, E] how many mentions follow each mention.
          candidates: I.
          feelings: [B, E, 10] about each mention, see `feelings_of`; None leaves them out.
        """
        mention_weights = jnp.exp(self.param("recency", nn.initializers.zeros, (self.recency_slots,))[recency])
        if feelings is not None:
            mention_weights *= jnp.exp(FeelingWeight(name="feeling")(feelings))
        mass = scatter_by_entity(columns, mention_weights[..., None] * weights, candidates)
        # 100: an item that follows a mention in one of a hundred dialogues gets log 2
        unit = jnp.exp(self.param("unit", nn.initializers.constant(jnp.log(100.0)), ()))
        return self.param("scale", nn.initializers.ones, ()) * jnp.log1p(unit * mass)


class PublishedCooccurrence(nn.Module):
    """The optional head of ECR's released code: co-occurrence times a scalar of each mention's emotion, times 0.5.

    Reference: ECR's released code; not in the paper.
    """

    @nn.compact
    def __call__(
        self, *, columns: jax.Array, weights: jax.Array, emotion: jax.Array, width: int, candidates: int
    ) -> jax.Array:
        """Logits [B, I].

        Args:
          columns: int [B, E, K] the candidates' columns of each mention's neighbours, I for no candidate.
          weights: [B, E, K] of the neighbours; 0 where padded.
          emotion: [B, E, M] the emotion vector of each mention.
          width: D, the hidden width.
          candidates: I.
        """
        hidden = nn.relu(Linear(emotion.shape[-1] // 2, name="down")(emotion))
        mention_weights = Linear(1, name="out")(Linear(width, name="up")(hidden))  # [B, E, 1]
        return 0.5 * scatter_by_entity(columns, mention_weights * weights, candidates)
