"""Categories of films: the genres that a recommendation can be asked for, and how they change a ranking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ecr_jax.data.acts import Attribute
from ecr_jax.features.dialogues import Utterance
from ecr_jax.knowledge.attributes import attribute_values, spoken_name
from ecr_jax.knowledge.graph import KnowledgeGraph


def categories(graph: KnowledgeGraph, most: int) -> tuple[str, ...]:
    """The genres of the most items, as one says them, the most frequent first.

    Args:
      graph: with the items and their genres.
      most: how many.
    """
    counts = Counter(name for item in graph.items for name in attribute_values(graph, int(item), Attribute.GENRE))
    return tuple(name for name, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most])


def category_table(graph: KnowledgeGraph, names: Sequence[str]) -> np.ndarray:
    """Which item has which category: bool [C, I], items in the order of the graph's."""
    places = {name: place for place, name in enumerate(names)}
    table = np.zeros((len(names), len(graph.items)), bool)
    for column, item in enumerate(graph.items):
        for name in attribute_values(graph, int(item), Attribute.GENRE):
            if name in places:
                table[places[name], column] = True
    return table


def reweighted(scores: np.ndarray, members: np.ndarray, weight: float) -> np.ndarray:
    """Log-probabilities of items [..., I] with `weight` added to those of a category (bool [..., I])."""
    return scores + weight * members


def named_categories(turns: Sequence[Utterance], graph: KnowledgeGraph) -> tuple[str, ...]:
    """The genres that were named in turns, as one says them, each once, the latest last."""
    named: dict[str, None] = {}
    for turn in turns:
        for entity in turn.entities:
            if graph.kinds[entity] == "genre":
                name = spoken_name(graph, entity)
                named.pop(name, None)
                named[name] = None
    return tuple(named)
