"""Agreement of judges: Cohen's kappa on ranks, Krippendorff's alpha."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Level = Literal["nominal", "ordinal", "interval"]
"""How far apart two values are: any two alike; by the values between them; by their difference."""


def ranks(scores: np.ndarray) -> np.ndarray:
    """The rank of each system in each row, 1 for the best; equal scores share the better rank.

    Args:
      scores: float [n, S], S systems; no value is missing.

    Returns:
      int [n, S].
    """
    return 1 + (scores[:, None, :] > scores[:, :, None]).sum(axis=2)


def cohen_kappa(
    one: Sequence[int], other: Sequence[int], weights: Literal["linear", "quadratic"] | None = None
) -> float:
    r"""Agreement of two judges beyond chance.

    .. math:: \kappa = 1 - \frac{\sum_{ij} w_{ij} o_{ij}}{\sum_{ij} w_{ij} e_{ij}}

    with observed and expected shares o, e of the pairs of categories, and weights w: 1 for i ≠ j, \|i - j\|, or its
    square.

    Args:
      one, other: the judges' categories of the same units, [n] each.
      weights: None counts every disagreement alike.

    Returns:
      1 for full agreement, 0 for that of chance; NaN where both use one and the same category only.

    Reference: Cohen 1960 and 1968.
    """
    a, b = np.asarray(one), np.asarray(other)
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} and {len(b)} ratings; two judges must rate the same units")
    if not len(a):
        return float("nan")
    low = min(a.min(), b.min())
    size = int(max(a.max(), b.max()) - low) + 1
    observed = np.zeros((size, size))
    np.add.at(observed, (a - low, b - low), 1 / len(a))
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0))
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(float)
    cost = {None: (distance > 0).astype(float), "linear": distance, "quadratic": distance**2}[weights]
    chance = (cost * expected).sum()
    return float(1 - (cost * observed).sum() / chance) if chance else float("nan")


def krippendorff_alpha(ratings: np.ndarray, level: Level = "interval") -> float:
    r"""Agreement of any number of judges, who need not have rated all units.

    .. math:: \alpha = 1 - D_o / D_e

    with the observed and the expected squared distance of two ratings: of the same unit, and of any units.

    Args:
      ratings: float [judges, units], NaN where a judge gave none. Units with fewer than two ratings do not count.
      level: the distance of two ratings.

    Returns:
      1 for full agreement, 0 for that of chance; NaN where there is nothing to disagree about.

    Reference: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability".
    """
    ratings = np.asarray(ratings, float)
    pairable = (~np.isnan(ratings)).sum(axis=0) > 1
    ratings = ratings[:, pairable]
    values = np.unique(ratings[~np.isnan(ratings)])
    counts = np.array([[(unit == value).sum() for value in values] for unit in ratings.T], float)  # [units, values]
    if not counts.size:
        return float("nan")
    size = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :]
    same = np.arange(len(values))
    pairs[:, same, same] -= counts
    coincidences = (pairs / (size - 1)[:, None, None]).sum(axis=0)
    totals = coincidences.sum(axis=1)
    total = totals.sum()
    expected = (np.outer(totals, totals) - np.diag(totals)) / (total - 1)
    distance = _squared_distance(values, totals, level)
    disagreement = (expected * distance).sum()
    return float(1 - (coincidences * distance).sum() / disagreement) if disagreement else float("nan")


def _squared_distance(values: np.ndarray, totals: np.ndarray, level: Level) -> np.ndarray:
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "interval":
        return np.subtract.outer(values, values) ** 2
    below = np.cumsum(totals)
    middle = below - totals / 2  # the ratings up to the middle of each value
    return np.subtract.outer(middle, middle) ** 2
