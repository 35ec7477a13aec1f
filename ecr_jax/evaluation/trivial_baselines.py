"""Baselines that learn nothing: popularity, copying the last film, co-occurrence of films.

Each maps contexts (entity ids in the order they were mentioned) to a distribution over the items, so they are ranked
and measured like any model. All counts come from the train split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ecr_jax.knowledge.cooccurrence import EmotionLabelledMention, count_cooccurrence

ContextScorer = Callable[[Sequence[Sequence[int]]], np.ndarray]
"""B contexts -> probabilities of the items, float64 [B, I]."""


def trivial_baselines(
    dialogues: Sequence[Sequence[int]], recommended: Sequence[int], items: np.ndarray, tie_break: float
) -> dict[str, ContextScorer]:
    """All of them, by the names that reports use.

    Args:
      dialogues: entity ids that each train dialogue mentions.
      recommended: entity ids of the train split's targets.
      items: int [I], sorted entity ids.
      tie_break: see `copy_last` and `cooccurrence`.
    """
    popular = popularity(recommended, items)
    return {
        "popularity": popular,
        "copy-last": copy_last(popular, items, tie_break),
        "co-occurrence": cooccurrence(dialogues, popular, items, tie_break),
    }


def popularity(recommended: Iterable[int], items: np.ndarray) -> ContextScorer:
    """Items by how often recommenders recommend them, whatever the context.

    Args:
      recommended: entity ids of the train split's targets.
      items: int [I], sorted entity ids.
    """
    columns = np.searchsorted(items, np.fromiter(recommended, np.int64))
    counts = np.bincount(columns, minlength=len(items)).astype(np.float64)
    share = counts / max(counts.sum(), 1)

    def score(contexts: Sequence[Sequence[int]]) -> np.ndarray:
        return np.tile(share, (len(contexts), 1))

    return score


def copy_last(popular: ContextScorer, items: np.ndarray, tie_break: float) -> ContextScorer:
    """The film mentioned last, then those mentioned before it, then the popular ones.

    Args:
      popular: orders the films that were not mentioned.
      items: int [I], sorted entity ids.
      tie_break: weight of `popular`; a small one orders tied items and changes no other order.
    """

    def score(contexts: Sequence[Sequence[int]]) -> np.ndarray:
        recency = np.zeros((len(contexts), len(items)))
        for row, context in enumerate(contexts):
            films = _columns(context, items)
            recency[row, films] = 1 + np.arange(len(films))  # a film mentioned twice has its last position
        return _mix(recency, popular(contexts), tie_break)

    return score


def cooccurrence(
    dialogues: Iterable[Sequence[int]], popular: ContextScorer, items: np.ndarray, tie_break: float
) -> ContextScorer:
    """Films that appear in dialogues with the context's films: the sum of P(y given x) over the context's films x.

    Args:
      dialogues: entity ids of each train dialogue; the films among them are counted, each once a dialogue.
      popular: orders the films that were never seen together with those of the context.
      items: int [I], sorted entity ids.
      tie_break: weight of `popular`; a small one orders tied items and changes no other order.
    """
    films = ([EmotionLabelledMention(int(c), ()) for c in np.unique(_columns(d, items))] for d in dialogues)
    probabilities = count_cooccurrence(films, len(items), require_emotion=False).probabilities

    def score(contexts: Sequence[Sequence[int]]) -> np.ndarray:
        present = np.zeros((len(contexts), len(items)))
        for row, context in enumerate(contexts):
            present[row, _columns(context, items)] = 1
        return _mix((probabilities.T @ present.T).T, popular(contexts), tie_break)

    return score


def _columns(context: Sequence[int], items: np.ndarray) -> np.ndarray:
    """Columns of the context's items, in order; entities that are no items are skipped."""
    entities = np.asarray(context, np.int64)
    columns = np.minimum(np.searchsorted(items, entities), len(items) - 1)
    return columns[items[columns] == entities]


def _mix(scores: np.ndarray, popular: np.ndarray, tie_break: float) -> np.ndarray:
    """Scores as a distribution [B, I]; popularity orders tied items, and all items of a row of zeros."""
    total = scores.sum(axis=1, keepdims=True)
    share = np.divide(scores, total, out=np.zeros_like(scores), where=total > 0)
    mixed = share + tie_break * popular
    mass = mixed.sum(axis=1, keepdims=True)
    return np.divide(mixed, mass, out=np.zeros_like(mixed), where=mass > 0)
