"""KGSF: a word graph and an entity graph, aligned by mutual information maximisation and fused by a gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecr_jax.models.baselines.kbrd import EntityGraph, SelfAttention
from ecr_jax.models.layers import scatter_by_entity


class WordGraph(nn.Module):
    """A table of words and one graph convolution: Y = A X W + b with A = D^-1/2 (edges + I) D^-1/2.

    Reference: Kipf and Welling 2017, Eq. 2; Zhou et al. 2020, 4.1.1.
    """

    words: int
    width: int
    dropout: float

    @nn.compact
    def __call__(self, graph: Mapping[str, jax.Array]) -> jax.Array:
        """The encoded words [V + 1, W], the padding word last.

        Args:
          graph: the entries of A as `senders`, `receivers` (sorted) and `weights`.
        """
        nodes = self.param("nodes", nn.initializers.normal(self.width**-0.5), (self.words + 1, self.width))
        nodes = nn.Dropout(self.dropout)(nodes, deterministic=not self.has_rng("dropout"))
        messages = nn.Dense(self.width, use_bias=False, name="map")(nodes)[graph["senders"]] * graph["weights"][:, None]
        table = jax.ops.segment_sum(messages, graph["receivers"], self.words + 1, indices_are_sorted=True)
        return table + self.param("bias", nn.initializers.zeros, (self.width,))


class Kgsf(nn.Module):
    """user . entity + bias for each item; user = g e + (1 - g) w, g = sigmoid(W2 W1 [e; w]).

    e and w are pooled by self-attention from the entities and from the words of the context. The mutual information
    term is sown into "losses": the words alone predict the entities, with the squared error between their scores of all
    entities and the 0/1 vector of the mentioned ones, summed and divided by the number mentioned; 0 for a row without
    entities.

    Reads `entities` [B, E], `words` [B, K] and their masks; `graph`, `word_graph`, `items` int [I]. Published: width
    128, 8 bases.

    Attributes:
      information: weight of the mutual information term (published: 0.025).

    Reference: Zhou et al. 2020, "Improving Conversational Recommender Systems via Knowledge Graph based Semantic
    Fusion", 4.1-4.2, with the loss of its code for the mutual information.
    """

    entities: int
    relations: int
    words: int
    items: int
    width: int
    bases: int
    dropout: float
    information: float

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], frozen: Mapping[str, Any]) -> jax.Array:
        """Logits [B, I]."""
        graph = EntityGraph(self.entities, self.relations, self.width, self.bases, self.dropout, name="graph")
        table = graph(frozen["graph"])  # [N + 1, W]
        vocabulary = WordGraph(self.words, self.width, self.dropout, name="word_graph")(frozen["word_graph"])
        entities = SelfAttention(name="entity_attention")(table[batch["entities"]], batch["entity_mask"])
        words = SelfAttention(name="word_attention")(vocabulary[batch["words"]], batch["word_mask"])
        both = nn.Dense(self.width, use_bias=False, name="join")(jnp.concatenate([entities, words], axis=-1))
        gate = nn.sigmoid(nn.Dense(self.width, use_bias=False, name="gate")(both))
        user = gate * entities + (1 - gate) * words

        predicted = nn.Dense(self.width, name="entity_map")(words) @ table[: self.entities].T
        predicted += self.param("entity_bias", nn.initializers.zeros, (self.entities,))  # [B, N]
        mask = batch["entity_mask"]
        mentioned = scatter_by_entity(batch["entities"], mask.astype(predicted.dtype), self.entities)
        number = mask.sum(axis=1)
        information = jnp.where(number > 0, jnp.square(predicted - mentioned).sum(axis=1) / jnp.maximum(number, 1), 0)
        self.sow("losses", "information", self.information * information)
        return user @ table[frozen["items"]].T + self.param("bias", nn.initializers.zeros, (self.items,))
