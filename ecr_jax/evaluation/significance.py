"""Intervals by resampling dialogues: targets of one dialogue depend on each other, so dialogues are the unit.

Models that are compared share the resamples, so their difference is paired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of dialogues. Made by `resample`.

    Attributes:
      dialogue: int [n], index 0..D-1 of each target's dialogue.
      draws: int [R, D], how often each resample holds each dialogue.
    """

    dialogue: np.ndarray
    draws: np.ndarray

    def means(self, values: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Mean of per-target values in every resample.

        Args:
          values: float [m, M], M metrics.
          rows: int [m], target that each value belongs to (may repeat, may leave out); all n in order by default.

        Returns:
          float [R, M]; NaN where a resample holds no target.
        """
        dialogue = self.dialogue if rows is None else self.dialogue[rows]
        sums = np.zeros((self.draws.shape[1], values.shape[1] + 1))
        np.add.at(sums, dialogue, np.concatenate([values, np.ones((len(values), 1))], axis=1))
        drawn = self.draws @ sums  # [R, M+1], the last is how many
        number = drawn[:, -1:]
        return np.divide(drawn[:, :-1], number, out=np.full(drawn[:, :-1].shape, np.nan), where=number > 0)

    def statistics(self, statistic: Callable[[np.ndarray], float]) -> np.ndarray:
        """Any statistic in every resample: float [R]. It is given how often each target counts, float [n]."""
        return np.array([statistic(draw[self.dialogue].astype(np.float64)) for draw in self.draws])


def resample(dialogues: Sequence[str], resamples: int = 1000, seed: int = 0) -> Resamples:
    """Draws as many dialogues as there are, with replacement, `resamples` times.

    Args:
      dialogues: dialogue of each target, [n].
      resamples: R.
      seed: the same seed and dialogues give the same draws.
    """
    names, index = np.unique(np.asarray(dialogues, dtype=object).astype(str), return_inverse=True)
    size = len(names)
    draws = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / max(size, 1)), resamples)
    return Resamples(index.reshape(-1), draws)


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float] | None:
    """Percentile interval of bootstrap samples [R]; those where the statistic is undefined (NaN) are left out.

    None if it is undefined in most of them: there is too little to say how sure one is.
    """
    defined = samples[~np.isnan(samples)]
    if 2 * len(defined) <= len(samples):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
