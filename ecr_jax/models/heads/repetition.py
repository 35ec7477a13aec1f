"""The repetition head: whether what the context already mentions is recommended again."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecr_jax.models.heads.feeling import FeelingWeight
from ecr_jax.models.layers import Linear, scatter_by_entity


def mention_kind(mentions: jax.Array, turns: int, counts: int) -> jax.Array:
    """Numbers the kinds of mentions.

    Args:
      mentions: int [..., 3] how many turns ago the entity was mentioned last, whether by the seeker, and how often.
      turns: number of distinguished ages; older mentions count as this old.
      counts: number of distinguished counts; more mentions count as this many.

    Returns:
      int [...] below 2 * turns * counts.

    >>> mention_kind(jnp.array([[1, 0, 1], [2, 1, 9]]), turns=6, counts=3).tolist()
    [0, 11]
    """
    age, by_seeker, number = (mentions[..., i].astype(jnp.int32) for i in range(3))
    age, number = jnp.clip(age, 1, turns) - 1, jnp.clip(number, 1, counts) - 1
    return (age * 2 + by_seeker) * counts + number


class Repetition(nn.Module):
    """A learned score for the entities that the context mentions: by whom, how long ago, how often, in which state.

    Attributes:
      recency_slots: number of recency parameters; mentions further back share the last one.
      mention_turns, mention_counts: see `mention_kind`.
    """

    recency_slots: int
    mention_turns: int
    mention_counts: int

    @nn.compact
    def __call__(
        self,
        *,
        columns: jax.Array,
        entity_mask: jax.Array,
        recency: jax.Array,
        mentions: jax.Array,
        local: jax.Array,
        candidates: int,
        feelings: jax.Array | None = None,
    ) -> jax.Array:
        """Logits [B, I], zero for what is not mentioned.

        Args:
          columns: int [B, E] the candidates' columns of the mentioned entities, I for those that are no candidates.
          entity_mask: bool [B, E].
          recency: int [B, E] how many mentions follow each mention.
          mentions: int [B, E, 3], see `mention_kind`.
          local: [B, E, D] the context entities after cross-attention to the words.
          candidates: I.
          feelings: [B, E, 10] about each mention, see `feelings_of`; None leaves them out.
        """
        scores = self.param("recency", nn.initializers.zeros, (self.recency_slots,))[recency]
        kinds = self.param("kind", nn.initializers.zeros, (self.mention_turns * 2 * self.mention_counts,))
        scores += kinds[mention_kind(mentions, self.mention_turns, self.mention_counts)]
        scores += Linear(1, scale=0.0, name="score")(nn.LayerNorm(name="norm")(local))[..., 0]
        if feelings is not None:
            scores += FeelingWeight(name="feeling")(feelings)  # odds are multiplied by the factor
        return scatter_by_entity(columns, jnp.where(entity_mask, scores, 0), candidates)
