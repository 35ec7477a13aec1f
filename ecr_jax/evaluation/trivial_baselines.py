"""What anyone can do without learning: popularity, copying the last film, co-occurrence of films.

A baseline maps contexts (entity ids in the order mentioned, one a target) to a distribution over the items, so it is
measured by the same rows as a model. All that is counted comes from the train split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from ecr_jax.evaluation.predictions import Prediction, Target, predictions
from ecr_jax.knowledge.cooccurrence import EmotionLabelledMention, count

Baseline = Callable[[Sequence[Sequence[int]]], np.ndarray]
"""Contexts of B targets -> probabilities float64 [B, I]."""

TIE_BREAK = 1e-6
"""Share of popularity in the other baselines: orders what they leave tied, changes no order they give."""


def popularity(recommended: Iterable[int], items: np.ndarray) -> Baseline:
    """Items by how often recommenders recommended them, whatever the context.

    Args:
      recommended: entity ids of the train split's targets.
      items: int [I], sorted entity ids.
    """
    wanted = np.fromiter(recommended, np.int64)
    columns = np.searchsorted(items, wanted)
    counts = np.bincount(columns, minlength=len(items)).astype(np.float64)
    share = counts / max(counts.sum(), 1)

    def score(contexts: Sequence[Sequence[int]]) -> np.ndarray:
        return np.tile(share, (len(contexts), 1))

    return score


def copy_last(popular: Baseline, items: np.ndarray) -> Baseline:
    """The film mentioned last, then those before it, then the popular ones.

    Args:
      popular: what orders the films not mentioned.
      items: int [I], sorted entity ids.
    """

    def score(contexts: Sequence[Sequence[int]]) -> np.ndarray:
        recency = np.zeros((len(contexts), len(items)))
        for row, context in enumerate(contexts):
            films = _columns(context, items)
            recency[row, films] = 1 + np.arange(len(films))  # a film mentioned twice keeps its last place
        return _mix(recency, popular(contexts))

    return score


def cooccurrence(dialogues: Iterable[Sequence[int]], popular: Baseline, items: np.ndarray) -> Baseline:
    """Films that appear in dialogues with the context's films: the sum of P(y given x) over the context's films x.

    Args:
      dialogues: entity ids of each train dialogue; the films among them are used, each once a dialogue.
      popular: what orders the films never seen together with the context's.
      items: int [I], sorted entity ids.
    """
    films = ([EmotionLabelledMention(int(c), ()) for c in np.unique(_columns(d, items))] for d in dialogues)
    together = count(films, len(items), require_emotion=False).probabilities

    def score(contexts: Sequence[Sequence[int]]) -> np.ndarray:
        present = np.zeros((len(contexts), len(items)))
        for row, context in enumerate(contexts):
            present[row, _columns(context, items)] = 1
        return _mix((together.T @ present.T).T, popular(contexts))

    return score


def predict(
    model: str,
    baseline: Baseline,
    targets: Sequence[Target],
    items: np.ndarray,
    *,
    ties: Literal["mean", "first"] = "mean",
    chunk: int = 512,
) -> list[Prediction]:
    """Prediction rows of a baseline, made `chunk` targets at a time to bound memory; `ties` as in `predictions`."""
    rows = []
    for start in range(0, len(targets), chunk):
        part = targets[start : start + chunk]
        rows += predictions(model, part, baseline([t.context for t in part]), items, ties=ties)
    return rows


def _columns(context: Sequence[int], items: np.ndarray) -> np.ndarray:
    """Columns of the context's items, in order; what is no item is passed over."""
    context = np.asarray(context, np.int64)
    columns = np.minimum(np.searchsorted(items, context), len(items) - 1)
    return columns[items[columns] == context]


def _mix(scores: np.ndarray, popular: np.ndarray) -> np.ndarray:
    """Scores as a distribution [B, I], ties (and rows of zeros) settled by popularity."""
    total = scores.sum(axis=1, keepdims=True)
    share = np.divide(scores, total, out=np.zeros_like(scores), where=total > 0)
    mixed = share + TIE_BREAK * popular
    mass = mixed.sum(axis=1, keepdims=True)
    return np.divide(mixed, mass, out=np.zeros_like(mixed), where=mass > 0)
