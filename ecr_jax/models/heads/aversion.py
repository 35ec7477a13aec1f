"""The aversion head: what the seeker dislikes counts against the items that resemble it."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecr_jax.models.heads.two_hop import Facts
from ecr_jax.models.layers import scatter_by_entity


class Aversion(nn.Module):
    """A logit of at most 0: the less, the more an item shares with what is disliked.

    A disliked film counts against the items that share facts with it (people, genres, ...) and against those that
    co-occur with it; a disliked genre or person counts against the items that have it. The strengths are learned, but
    stay positive: liking can be learned from what was recommended, disliking hardly, for few films are disliked.
    """

    @nn.compact
    def __call__(
        self,
        *,
        dislike: jax.Array,
        entities: jax.Array,
        facts: Facts,
        item_ids: jax.Array,
        columns: jax.Array,
        weights: jax.Array,
    ) -> jax.Array:
        """Logits [B, I], zero where nothing is disliked.

        Args:
          dislike: [B, E] how much each mention is disliked, in [0, 1]; 0 where padded.
          entities: int [B, E] the mentioned entities.
          facts: of every entity.
          item_ids: int [I] the candidates.
          columns: int [B, E, C] the candidates' columns of what co-occurs with each mention, I for no candidate.
          weights: [B, E, C] how often it does; 0 where padded.
        """
        padding = facts.entities.shape[0] - 1  # N
        strength = jax.nn.softplus(self.param("relations", nn.initializers.constant(1.0), (facts.relations + 1,)))
        itself = jax.nn.softplus(self.param("itself", nn.initializers.constant(4.0), ()))
        # the last row of relations is "its own fact", which only entities that are no items have
        strength = strength.at[facts.relations].set(itself)
        fact_ids, types = facts.entities[entities], facts.types[entities]  # [B, E, A]
        first_hop = dislike[..., None] * strength[types] * specificity(facts.weights[entities], padding)
        first_hop = jnp.where(types == facts.relations, dislike[..., None] * itself, first_hop)
        rows = jnp.arange(fact_ids.shape[0])[:, None, None]
        reached = jnp.zeros((padding + 1, fact_ids.shape[0]), first_hop.dtype).at[fact_ids, rows].add(first_hop)
        reached = reached.at[padding].set(0)  # [N + 1, B]
        shared = jnp.einsum("iab,ia->bi", reached[facts.entities[item_ids]], facts.weights[item_ids] > 0)
        strongest = jnp.max(weights, axis=-1, keepdims=True, initial=1e-12)
        # the square root lets the less frequent of them count as well
        together = scatter_by_entity(columns, dislike[..., None] * jnp.sqrt(weights / strongest), item_ids.shape[0])
        return -shared - jax.nn.softplus(self.param("cooccurrence", nn.initializers.constant(3.0), ())) * together


def specificity(weights: jax.Array, entities: int) -> jax.Array:
    """1 - log(k) / log(N) of facts that k triples touch, whose weights are k ** -0.5; 0 where padded.

    >>> specificity(jnp.array([1.0, 0.1, 0.0]), 10000).round(3).tolist()
    [1.0, 0.5, 0.0]
    """
    degree = jnp.maximum(weights, 1e-6) ** -2.0
    return jnp.where(weights > 0, jnp.clip(1 - jnp.log(degree) / jnp.log(float(entities)), 0, 1), 0)
