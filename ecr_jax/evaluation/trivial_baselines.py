"""Baselines that learn nothing: popularity, copying the last film, co-occurrence, nearest contexts, and a hybrid.

Each maps contexts to a distribution over the items, so they are ranked and measured like any model. All counts come
from the train split. Except for popularity, a baseline is a score (`ItemScores`), made a distribution by `Ties`, in
which popularity orders the items that the score does not tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from ecr_jax.config import EvaluationConfig
from ecr_jax.features.dialogues import Dialogue, TextContext
from ecr_jax.features.film_text import FilmText
from ecr_jax.features.nearest_contexts import NearestContexts
from ecr_jax.knowledge.cooccurrence import Cooccurrence, EmotionLabelledMention, count_cooccurrence

ContextScorer = Callable[[Sequence[TextContext]], np.ndarray]
"""B contexts -> probabilities of the items, float64 [B, I]."""

ItemScores = Callable[[Sequence[TextContext]], np.ndarray]
"""B contexts -> scores of the items, float64 [B, I], at least 0; a row of zeros where nothing is known."""


def trivial_baselines(
    dialogues: Sequence[Dialogue],
    recommended: Iterable[int],
    items: np.ndarray,
    entity_text: Callable[[], np.ndarray],
    settings: EvaluationConfig,
) -> dict[str, ContextScorer]:
    """All of them, by the names that reports use.

    Args:
      dialogues: of the train split.
      recommended: entity ids of the train split's targets.
      items: int [I], sorted entity ids.
      entity_text: gives a text feature of each entity, float [N, W], zero where it has no description; called only if
        the hybrid reads it.
      settings: `tie_break`, `nearest_contexts` and `hybrid` are read.
    """
    mentioned = [[entity for turn in dialogue.turns for entity in turn.entities] for dialogue in dialogues]
    popular = popularity(recommended, items)
    ties = Ties(popular, settings.tie_break)
    nearest = settings.nearest_contexts
    near = nearest_contexts(NearestContexts.of(dialogues, items, count=nearest.contexts, power=nearest.power))
    last = last_films(items)
    weights = settings.hybrid
    parts = [
        (weights.cooccurrence, lambda: normalised_cooccurrence(mentioned, items)),
        (weights.nearest_contexts, lambda: near),
        (weights.film_text, lambda: similar_films(FilmText(entity_text(), items, weights.film_text_power))),
        (weights.copy_last, lambda: last),
    ]
    return {
        "popularity": popular,
        "copy-last": ties(last),
        "co-occurrence": ties(cooccurrence(mentioned, items)),
        "nearest contexts": ties(near),
        "hybrid": ties(mixture([(weight, part()) for weight, part in parts if weight])),
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

    def score(contexts: Sequence[TextContext]) -> np.ndarray:
        return np.tile(share, (len(contexts), 1))

    return score


@dataclass(frozen=True)
class Ties:
    """Makes scores a distribution in which popularity orders tied items, and all items where nothing is known.

    Attributes:
      popular: the popularity.
      weight: what it adds to a distribution; a small one changes no other order.
    """

    popular: ContextScorer
    weight: float

    def __call__(self, scores: ItemScores) -> ContextScorer:
        """The baseline that ranks by these scores."""

        def score(contexts: Sequence[TextContext]) -> np.ndarray:
            return _shares(_shares(scores(contexts)) + self.weight * self.popular(contexts))

        return score


def last_films(items: np.ndarray) -> ItemScores:
    """The film mentioned last, then those mentioned before it.

    Args:
      items: int [I], sorted entity ids.
    """

    def score(contexts: Sequence[TextContext]) -> np.ndarray:
        recency = np.zeros((len(contexts), len(items)))
        for row, context in enumerate(contexts):
            films = _columns(context.entities, items)
            recency[row, films] = 1 + np.arange(len(films))  # a film mentioned twice has its last position
        return recency

    return score


def cooccurrence(dialogues: Iterable[Sequence[int]], items: np.ndarray) -> ItemScores:
    """Films that appear in dialogues with the context's films: the sum of P(y given x) over the context's films x.

    Args:
      dialogues: entity ids of each train dialogue; the films among them are counted, each once a dialogue.
      items: int [I], sorted entity ids.
    """
    _, counts = _film_pairs(dialogues, items)
    return _from_films(counts.probabilities, items)


def normalised_cooccurrence(dialogues: Iterable[Sequence[int]], items: np.ndarray) -> ItemScores:
    """As `cooccurrence`, of the number of dialogues with x and y over the square root of the number with x.

    P(y given x) divides by all pairs of x, which takes too much from the films that are mentioned often.

    Args:
      dialogues, items: as for `cooccurrence`.
    """
    films, counts = _film_pairs(dialogues, items)
    number = np.bincount(np.concatenate([np.zeros(0, np.int64), *films]), minlength=len(items))
    weights = scipy.sparse.diags_array(np.maximum(number, 1) ** -0.5) @ counts.matrix
    return _from_films(scipy.sparse.csr_array(weights), items)


def nearest_contexts(nearest: NearestContexts) -> ItemScores:
    """Films that were recommended after the most similar contexts of the train split."""

    def score(contexts: Sequence[TextContext]) -> np.ndarray:
        parts = [nearest.scores(contexts[start : start + _ROWS]).toarray() for start in range(0, len(contexts), _ROWS)]
        return np.concatenate([np.zeros((0, len(nearest.items))), *parts])

    return score


def similar_films(film_text: FilmText) -> ItemScores:
    """Films whose descriptions resemble those of the context's films, other than these."""

    def score(contexts: Sequence[TextContext]) -> np.ndarray:
        items = film_text.items
        films = [np.unique(_columns(context.entities, items)) for context in contexts]
        distinct = np.unique(np.concatenate([np.zeros(0, np.int64), *films]))
        similarities = film_text.similarities(distinct)  # [distinct, I]
        scores = np.zeros((len(contexts), len(items)))
        for row, own in enumerate(films):
            scores[row] = similarities[np.searchsorted(distinct, own)].sum(axis=0)
            scores[row, own] = 0
        return scores

    return score


def mixture(parts: Sequence[tuple[float, ItemScores]]) -> ItemScores:
    """The weighted sum of scores, each of them as shares of its sum in a context.

    Args:
      parts: (weight, scores) of each part. One that knows nothing of a context contributes nothing there.
    """

    def score(contexts: Sequence[TextContext]) -> np.ndarray:
        (weight, first), *others = parts
        mixed = weight * _shares(first(contexts))
        for weight, part in others:
            mixed += weight * _shares(part(contexts))
        return mixed

    return score


_ROWS = 128
"""Contexts whose similarities to all training contexts are in memory at once."""


def _film_pairs(dialogues: Iterable[Sequence[int]], items: np.ndarray) -> tuple[list[np.ndarray], Cooccurrence]:
    """The columns of each dialogue's films, each once, and how many dialogues have each pair of films."""
    films = [np.unique(_columns(dialogue, items)) for dialogue in dialogues]
    mentions = ([EmotionLabelledMention(int(column), ()) for column in each] for each in films)
    return films, count_cooccurrence(mentions, len(items), require_emotion=False)


def _from_films(weights: scipy.sparse.csr_array, items: np.ndarray) -> ItemScores:
    """The sum over the context's films, each once, of their rows of `weights` [I, I]."""

    def score(contexts: Sequence[TextContext]) -> np.ndarray:
        present = np.zeros((len(contexts), len(items)))
        for row, context in enumerate(contexts):
            present[row, _columns(context.entities, items)] = 1
        return (weights.T @ present.T).T

    return score


def _columns(entities: Sequence[int], items: np.ndarray) -> np.ndarray:
    """Columns of the items among some entities, in order; entities that are no items are skipped."""
    ids = np.asarray(entities, np.int64)
    columns = np.minimum(np.searchsorted(items, ids), len(items) - 1)
    return columns[items[columns] == ids]


def _shares(scores: np.ndarray) -> np.ndarray:
    """Rows [B, I] divided by their sums; a row of zeros stays one."""
    total = scores.sum(axis=1, keepdims=True)
    return np.divide(scores, total, out=np.zeros_like(scores), where=total > 0)
