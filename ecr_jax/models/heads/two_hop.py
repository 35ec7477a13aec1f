"""The two-hop knowledge-graph head: items that share facts (director, genre, ...) with what the context mentions."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ecr_jax.models.heads.feeling import FeelingWeight
from ecr_jax.models.layers import Linear


@struct.dataclass
class Facts:
    """The facts of each entity, which join items in two hops.

    Attributes:
      entities: int32 [N + 1, A] the facts, padded with N. An entity that is not an item has one fact: itself.
      types: int32 [N + 1, A] the relation to each, `relations` for itself.
      weights: float32 [N + 1, A] how specific each fact is, 0 where padded.
      relations: number of relations R.
    """

    entities: jax.Array
    types: jax.Array
    weights: jax.Array
    relations: int = struct.field(pytree_node=False)


def facts_of(triples: np.ndarray, items: np.ndarray, entities: int, relations: int, most: int) -> Facts:
    """Collects the facts of items from triples in either direction.

    A fact that k triples touch weighs k ** -0.5, so that a shared director counts more than a shared language; of items
    with more than `most` facts the rarest facts remain.

    Args:
      triples: int [E, 3] (head, relation, tail).
      items: int [I] entity ids.
      entities: N.
      relations: R.
      most: A.
    """
    degree = np.bincount(triples[:, [0, 2]].reshape(-1), minlength=entities)
    both = np.concatenate([triples, triples[:, ::-1]])
    both = np.unique(both[np.isin(both[:, 0], items) & (both[:, 0] != both[:, 2])], axis=0)
    order = np.lexsort((both[:, 2], degree[both[:, 2]], both[:, 0]))
    both = both[order]
    slot = np.arange(len(both)) - np.searchsorted(both[:, 0], both[:, 0])
    both, slot = both[slot < most], slot[slot < most]
    ids = np.full((entities + 1, most), entities, np.int32)
    types, weights = np.full(ids.shape, relations, np.int32), np.zeros(ids.shape, np.float32)
    ids[:entities, 0], weights[:entities, 0] = np.arange(entities), 1.0
    ids[items, 0], weights[items, 0] = entities, 0.0
    ids[both[:, 0], slot], types[both[:, 0], slot] = both[:, 2], both[:, 1]
    weights[both[:, 0], slot] = np.maximum(degree[both[:, 2]], 1) ** -0.5
    return Facts(jnp.asarray(ids), jnp.asarray(types), jnp.asarray(weights), relations)


class TwoHop(nn.Module):
    """A learned multiple of asinh(c m) of the mass m that reaches an item in two hops over the graph.

    The first hop goes from a mention to its facts, the second to the items that share them. A mention's weight is
    learned from its fused state and may be negative; a relation has a learned weight in each direction.

    Attributes:
      recency_slots: number of recency parameters; mentions further back share the last one.
      initial_scale: of the multiple; 0 where the head corrects another one.
    """

    recency_slots: int
    initial_scale: float = 1.0

    @nn.compact
    def __call__(
        self,
        *,
        mention_states: jax.Array,
        entities: jax.Array,
        entity_mask: jax.Array,
        recency: jax.Array,
        facts: Facts,
        item_ids: jax.Array,
        feelings: jax.Array | None = None,
    ) -> jax.Array:
        """Logits [B, I].

        Args:
          mention_states: [B, E, D] the fused local entities.
          entities: int [B, E] the mentioned entities.
          entity_mask: bool [B, E].
          recency: int [B, E] how many mentions follow each mention.
          facts: of every entity.
          item_ids: int [I] the candidates.
          feelings: [B, E, 10] about each mention, see `feelings_of`; None leaves them out.
        """
        padding = facts.entities.shape[0] - 1  # N
        states = nn.LayerNorm(name="norm")(mention_states)
        mention_weights = 1.0 + Linear(1, scale=0.0, name="mention")(states)[..., 0]  # [B, E]
        mention_weights *= jnp.exp(self.param("recency", nn.initializers.zeros, (self.recency_slots,))[recency])
        if feelings is not None:
            mention_weights *= jnp.exp(FeelingWeight(name="feeling")(feelings))
        mention_weights = jnp.where(entity_mask, mention_weights, 0)
        # Two weights a relation: on the way to a fact and on the way back. The last row is "its own fact".
        relation_weights = jnp.exp(self.param("relations", nn.initializers.zeros, (2, facts.relations + 1)))
        fact_ids = facts.entities[entities]  # [B, E, A]
        first_hop = mention_weights[..., None] * relation_weights[0, facts.types[entities]] * facts.weights[entities]
        rows = jnp.arange(fact_ids.shape[0])[:, None, None]
        # Entities first: what is then gathered, and in the gradient added up, are whole rows and not single numbers.
        reached = jnp.zeros((padding + 1, fact_ids.shape[0]), first_hop.dtype).at[fact_ids, rows].add(first_hop)
        reached = reached.at[padding].set(0)  # [N + 1, B]
        second_hop = relation_weights[1, facts.types[item_ids]] * facts.weights[item_ids]  # [I, A]
        mass = jnp.einsum("iab,ia->bi", reached[facts.entities[item_ids]], second_hop)
        unit = jnp.exp(self.param("unit", nn.initializers.constant(jnp.log(10.0)), ()))
        scale = self.param("scale", nn.initializers.constant(self.initial_scale), ())
        return scale * jnp.arcsinh(unit * mass)
