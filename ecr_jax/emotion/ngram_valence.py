"""Logistic regressions over hashed n-grams around a mention: a pair of them for each fold of the training dialogues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

SCORES = 2
"""Log-odds of like against dislike, and of unclear against both."""


@dataclass(frozen=True)
class NgramModel:
    """The regressions of K folds, each fitted without the dialogues of its fold.

    Attributes:
      idf: float32 [buckets], the weight of each n-gram; 0 where the training mentions have it fewer than twice.
      weights: float32 [K, 2, buckets].
      intercepts: float32 [K, 2].
    """

    idf: np.ndarray
    weights: np.ndarray
    intercepts: np.ndarray

    def scores(self, ngrams: Sequence[np.ndarray]) -> np.ndarray:
        """The log-odds that each fold's regressions give mentions: float32 [K, n, 2].

        Args:
          ngrams: of each mention its distinct hashed n-grams, int [W].
        """
        inputs = _unit_rows(ngrams, self.idf)
        of_folds = [
            inputs @ weights.T + intercept for weights, intercept in zip(self.weights, self.intercepts, strict=True)
        ]
        return np.stack(of_folds).astype(np.float32)


def fit(
    ngrams: Sequence[np.ndarray],
    classes: np.ndarray,
    folds: np.ndarray,
    *,
    count: int,
    buckets: int,
    inverse_strength: float,
) -> NgramModel:
    """Fits the regressions of all folds, with class weights.

    Args:
      ngrams: of each training mention its distinct hashed n-grams, int [W].
      classes: int [n], 0 for like, 1 for dislike, 2 for unclear.
      folds: int [n], the fold of each mention's dialogue.
      count: K.
      buckets: of the hashed n-grams.
      inverse_strength: of the L2 regulariser (scikit-learn's C).
    """
    frequency = np.bincount(np.concatenate([np.zeros(0, np.int64), *ngrams]), minlength=buckets)
    idf = np.where(frequency >= 2, np.log((1 + len(ngrams)) / (1 + frequency)) + 1, 0).astype(np.float32)
    inputs = _unit_rows(ngrams, idf)
    weights, intercepts = np.zeros((count, SCORES, buckets), np.float32), np.zeros((count, SCORES), np.float32)
    for fold in range(count):
        learned_from = folds != fold
        for row, (rows, positive) in enumerate(((learned_from & (classes < 2), 0), (learned_from, 2))):
            labels = classes[rows] == positive
            if labels.all() or not labels.any():
                continue  # nothing to tell apart
            regression = LogisticRegression(C=inverse_strength, class_weight="balanced", solver="liblinear")
            regression.fit(inputs[rows], labels)
            weights[fold, row], intercepts[fold, row] = regression.coef_[0], np.ravel(regression.intercept_)[0]
    return NgramModel(idf, weights, intercepts)


def _unit_rows(ngrams: Sequence[np.ndarray], idf: np.ndarray) -> csr_matrix:
    """TF-IDF rows of unit length: [n, buckets]."""
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in ngrams], dtype=np.int64)])
    columns = np.concatenate([np.zeros(0, np.int64), *ngrams]).astype(np.int64)
    values = idf[columns].astype(np.float64)
    squares = np.add.reduceat(np.append(values**2, 0.0), starts[:-1]) if len(ngrams) else np.zeros(0)
    squares = np.where(np.diff(starts) > 0, squares, 0.0)
    lengths = np.sqrt(np.maximum(squares, 1e-12))
    values /= np.repeat(lengths, np.diff(starts))
    return csr_matrix((values, columns, starts), shape=(len(ngrams), len(idf)))
