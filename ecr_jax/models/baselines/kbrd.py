"""KBRD: the entities of a dialogue, encoded over the knowledge graph and pooled by self-attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jraph

from ecr_jax.models.layers import masked_softmax
from ecr_jax.models.rgcn import RGCN


class EntityGraph(nn.Module):
    """A table of entities, dropout and one relational graph convolution.

    KBRD's code has one vector for each entity and basis (a one-hot input, `bases` x N x W numbers, 32 million for
    ReDial); with a table of N x W the bases are the W x W matrices of Schlichtkrull et al.
    """

    entities: int
    relations: int
    width: int
    bases: int
    dropout: float

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple) -> jax.Array:
        """The encoded entities [N + 1, W], the padding entity last."""
        nodes = self.param("nodes", nn.initializers.normal(self.width**-0.5), (self.entities + 1, self.width))
        nodes = nn.Dropout(self.dropout)(nodes, deterministic=not self.has_rng("dropout"))
        return RGCN(self.relations, self.bases, name="rgcn")(nodes, graph)


class SelfAttention(nn.Module):
    """sum_e a_e h_e with a = softmax(b^T tanh(A h)) over the real rows; zero if there is none.

    Reference: Chen et al. 2019, Eqs. 5-6; Lin et al. 2017.
    """

    @nn.compact
    def __call__(self, rows: jax.Array, mask: jax.Array) -> jax.Array:
        """rows [B, E, W], mask bool [B, E] -> [B, W]."""
        hidden = nn.tanh(nn.Dense(rows.shape[-1], use_bias=False, name="hidden")(rows))
        scores = nn.Dense(1, use_bias=False, name="score")(hidden)[..., 0]  # [B, E]
        return (masked_softmax(scores, mask, axis=1)[..., None] * rows).sum(axis=1)


class Kbrd(nn.Module):
    """user . entity + bias for each item; the user vector is self-attention over the mentioned entities.

    Reads `entities` [B, E], `entity_mask`; `graph` and `items` int [I]. Published: width 128, 8 bases.

    Reference: Chen et al. 2019, "Towards Knowledge-Based Recommender Dialog System", 3.2.
    """

    entities: int
    relations: int
    items: int
    width: int
    bases: int
    dropout: float

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], frozen: Mapping[str, Any]) -> jax.Array:
        """Logits [B, I]."""
        graph = EntityGraph(self.entities, self.relations, self.width, self.bases, self.dropout, name="graph")
        table = graph(frozen["graph"])  # [N + 1, W]
        user = SelfAttention(name="attention")(table[batch["entities"]], batch["entity_mask"])
        return user @ table[frozen["items"]].T + self.param("bias", nn.initializers.zeros, (self.items,))
