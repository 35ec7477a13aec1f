"""How sure a number is and whether two differ: resampling and swapping of dialogues, the unit that is independent.

A `Measure` is something measured of one model's predictions, kept by dialogue, so that its value can be had for any
resample of dialogues and, where two models share their targets, for any exchange of their predictions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
from scipy import sparse

from ecr_jax import metrics

K = TypeVar("K")

_CHUNK = 500
"""Resamples at a time where a table of resamples x pairs (or x items) is made; bounds memory."""


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of dialogues. Made by `resample`.

    Attributes:
      dialogue: int [n], index 0..D-1 of each target's dialogue.
      draws: float [R, D], how often each resample holds each dialogue.
    """

    dialogue: np.ndarray
    draws: np.ndarray

    def means(self, values: np.ndarray) -> np.ndarray:
        """Mean of per-target values in every resample.

        Args:
          values: float [n, M], M metrics.

        Returns:
          float [R, M]; NaN where a resample holds no target.
        """
        means = {i: Mean.of(column, self.dialogue, self.draws.shape[1]) for i, column in enumerate(values.T)}
        return np.stack(list(resampled(means, self.draws).values()), axis=1)


def resample(dialogues: Sequence[str], resamples: int = 1000, seed: int = 0) -> Resamples:
    """Draws as many dialogues as there are, with replacement, `resamples` times.

    Args:
      dialogues: dialogue of each target, [n].
      resamples: R.
      seed: the same seed and dialogues give the same draws.
    """
    index, size = number(dialogues)
    draws = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / max(size, 1)), resamples)
    return Resamples(index, draws.astype(np.float64))


def swaps(dialogues: int, permutations: int, seed: int = 0) -> np.ndarray:
    """Which dialogues' predictions two models exchange: 0 or 1, float [R, D], each with probability one half."""
    return np.random.default_rng(seed).integers(0, 2, (permutations, dialogues)).astype(np.float64)


def number(dialogues: Sequence[str]) -> tuple[np.ndarray, int]:
    """Dialogues as numbers: int [n] in 0..D-1, sorted by name, and D."""
    names, index = np.unique(np.asarray(dialogues, dtype=object).astype(str), return_inverse=True)
    return index.reshape(-1), len(names)


class Measure(Protocol):
    """A number of one model's predictions and what it takes to resample it.

    Attributes:
      value: of all dialogues; NaN if it is not defined.
      n: what it is a mean over.
    """

    value: float
    n: int

    def resampled(self, draws: np.ndarray) -> np.ndarray:
        """The value in every resample: draws [R, D] -> [R]; NaN where it is not defined."""
        ...

    def swapped(self, other: Self, swaps: np.ndarray) -> np.ndarray:
        """The value where the dialogues with a 1 take the predictions of `other`: swaps [R, D] -> [R]."""
        ...


@dataclass(frozen=True)
class Mean:
    """A mean over units (targets, turns, pairs of one dialogue): their sum and their number by dialogue, float [D]."""

    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, dialogue: np.ndarray, dialogues: int) -> Mean:
        """From units' values [m], the dialogue of each, int [m], and the number of dialogues."""
        return cls(np.bincount(dialogue, values, dialogues), np.bincount(dialogue, minlength=dialogues).astype(float))

    @property
    def value(self) -> float:
        return float(self.sums.sum() / self.counts.sum()) if self.counts.any() else float("nan")

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    def resampled(self, draws: np.ndarray) -> np.ndarray:
        return _ratio(draws @ self.sums, draws @ self.counts)

    def swapped(self, other: Mean, swaps: np.ndarray) -> np.ndarray:
        # The units are the same in both: an exchange never changes their number.
        return (self.sums.sum() + swaps @ (other.sums - self.sums)) / self.counts.sum()


@dataclass(frozen=True)
class PooledAuc:
    """`metrics.auc_pooled` of targets with scores [n], feedback [n] and dialogues, int [n] in 0..`dialogues` - 1."""

    score: np.ndarray
    liked: np.ndarray
    dialogue: np.ndarray
    dialogues: int

    @property
    def value(self) -> float:
        return metrics.auc_pooled(self.score, self.liked)

    @property
    def n(self) -> int:
        return int((self.liked != metrics.UNSAID).sum())

    def _class(self, feedback: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Its targets [c], their dialogues [G], and which target is of which, float [c, G]."""
        chosen = np.flatnonzero(self.liked == feedback)
        groups, index = np.unique(self.dialogue[chosen], return_inverse=True)
        return chosen, groups, sparse.csr_array((np.ones(len(chosen)), (np.arange(len(chosen)), index)))

    def _wins(self, other: PooledAuc) -> np.ndarray:
        """Pairs in which our liked target scores above the other's disliked one, by their dialogues: [G, H]."""
        likes, _, of_like = self._class(metrics.LIKE)
        dislikes, _, of_dislike = self._class(metrics.DISLIKE)
        wins = _wins(self.score[likes, None], other.score[None, dislikes])
        return of_like.T @ (wins @ of_dislike)

    def resampled(self, draws: np.ndarray) -> np.ndarray:
        (_, likes, of_like), (_, dislikes, of_dislike) = self._class(metrics.LIKE), self._class(metrics.DISLIKE)
        like, dislike = draws[:, likes], draws[:, dislikes]
        pairs = (like @ of_like.sum(axis=0)) * (dislike @ of_dislike.sum(axis=0))
        return _ratio(((like @ self._wins(self)) * dislike).sum(axis=1), pairs)

    def swapped(self, other: PooledAuc, swaps: np.ndarray) -> np.ndarray:
        (likes, of_like, _), (dislikes, of_dislike, _) = self._class(metrics.LIKE), self._class(metrics.DISLIKE)
        parts = [[a._wins(b) for b in (self, other)] for a in (self, other)]
        return _mixed(parts, swaps[:, of_like], swaps[:, of_dislike]) / (len(likes) * len(dislikes))


@dataclass(frozen=True)
class BatchAuc:
    """`metrics.auc_batch` of targets in file order; the attributes are those of `PooledAuc`, and the batch size."""

    score: np.ndarray
    liked: np.ndarray
    dialogue: np.ndarray
    dialogues: int
    batch_size: int

    @property
    def value(self) -> float:
        return metrics.auc_batch(self.score, self.liked, self.batch_size)

    @property
    def n(self) -> int:
        return int((self.liked != metrics.UNSAID).sum())

    def _pairs(self) -> tuple[np.ndarray, np.ndarray, sparse.csr_array]:
        """Liked and disliked target of each pair of a batch, int [p] each, and which pair is of which, [p, batches]."""
        place = np.arange(len(self.liked)) // self.batch_size
        winner, loser, _ = metrics.like_dislike_pairs(self.score, self.liked, place)
        batches, batch = np.unique(winner // self.batch_size, return_inverse=True)
        of = sparse.csr_array((np.ones(len(winner)), (np.arange(len(winner)), batch)), (len(winner), len(batches)))
        return winner, loser, of

    def resampled(self, draws: np.ndarray) -> np.ndarray:
        winner, loser, of = self._pairs()
        wins = _wins(self.score[winner], self.score[loser])
        found = []
        for part in _chunks(draws):
            weights = part[:, self.dialogue[winner]] * part[:, self.dialogue[loser]]  # [r, p]
            of_batch = _ratio((weights * wins) @ of, weights @ of)  # [r, batches]
            defined = ~np.isnan(of_batch)
            found.append(_ratio(np.where(defined, of_batch, 0).sum(axis=1), defined.sum(axis=1)))
        return np.concatenate(found)

    def swapped(self, other: BatchAuc, swaps: np.ndarray) -> np.ndarray:
        winner, loser, of = self._pairs()
        share = of @ (1 / of.sum(axis=0)) / of.shape[1]  # what a pair counts
        where = self.dialogue[winner], self.dialogue[loser]

        def matrix(liked: BatchAuc, disliked: BatchAuc) -> sparse.csr_array:
            wins = share * _wins(liked.score[winner], disliked.score[loser])
            return sparse.csr_array((wins, where), (self.dialogues, self.dialogues))

        return _mixed([[matrix(a, b) for b in (self, other)] for a in (self, other)], swaps, swaps)


@dataclass(frozen=True)
class Coverage:
    """Share of the candidates that are recommended to anyone.

    Attributes:
      shown: bool [D, I], whether a dialogue was shown an item among its first k.
    """

    shown: np.ndarray

    @property
    def value(self) -> float:
        return float(self.shown.any(axis=0).mean())

    @property
    def n(self) -> int:
        return self.shown.shape[1]

    def _share(self, reached: np.ndarray) -> np.ndarray:
        return (reached > 0).sum(axis=1) / self.n

    def resampled(self, draws: np.ndarray) -> np.ndarray:
        """A resample holds fewer different dialogues and so fewer items: their values are moved to lie around ours."""
        shown = self.shown[:, self.shown.any(axis=0)].astype(np.float32)
        found = np.concatenate([self._share(part.astype(np.float32) @ shown) for part in _chunks(draws)])
        return found + self.value - found.mean()

    def swapped(self, other: Coverage, swaps: np.ndarray) -> np.ndarray:
        ever = self.shown.any(axis=0) | other.shown.any(axis=0)
        own, theirs = (m.shown[:, ever].astype(np.float32) for m in (self, other))
        reached, more = own.sum(axis=0), theirs - own  # by how many dialogues, whole numbers and so exact
        return np.concatenate([self._share(reached + part.astype(np.float32) @ more) for part in _chunks(swaps)])


@dataclass(frozen=True)
class Repeated:
    """The mean of a measure over several runs of one model (seeds): repeated measures of the same targets."""

    runs: tuple[Measure, ...]

    @property
    def value(self) -> float:
        return float(np.mean([run.value for run in self.runs]))

    @property
    def n(self) -> int:
        return self.runs[0].n

    def resampled(self, draws: np.ndarray) -> np.ndarray:
        return np.mean([run.resampled(draws) for run in self.runs], axis=0)

    def swapped(self, other: Repeated, swaps: np.ndarray) -> np.ndarray:
        """Run by run; each run of either side counts the same, also where one side has fewer."""
        number = math.lcm(len(self.runs), len(other.runs))
        pairs = [(self.runs[i % len(self.runs)], other.runs[i % len(other.runs)]) for i in range(number)]
        return np.mean([ours.swapped(theirs, swaps) for ours, theirs in pairs], axis=0)


def averaged(runs: Sequence[Measure]) -> Measure:
    """One measure of several runs on the same targets."""
    if all(isinstance(run, Mean) for run in runs):  # the mean of means over the same units is one
        return Mean(np.mean([run.sums for run in runs], axis=0), runs[0].counts)
    return Repeated(tuple(runs))


def resampled(measures: Mapping[K, Measure], draws: np.ndarray) -> dict[K, np.ndarray]:
    """Every measure in every resample, [R] each; all means at once."""
    means = {key: one for key, one in measures.items() if isinstance(one, Mean)}
    found: dict[K, np.ndarray] = {}
    if means:
        above = draws @ np.stack([mean.sums for mean in means.values()], axis=1)
        below = draws @ np.stack([mean.counts for mean in means.values()], axis=1)
        found = dict(zip(means, _ratio(above, below).T, strict=True))
    return {key: found[key] if key in found else one.resampled(draws) for key, one in measures.items()}


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float] | None:
    """Percentile interval of bootstrap samples [R]; those where the statistic is undefined (NaN) are left out.

    None if it is undefined in most of them: there is too little to say how sure one is.
    """
    defined = samples[~np.isnan(samples)]
    if 2 * len(defined) <= len(samples):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def randomisation(ours: Measure, theirs: Measure, swaps: np.ndarray) -> float:
    """Two-sided p of a paired randomisation test: were the two models alike, could they differ as much?

    Under the null hypothesis a dialogue's predictions might as well have come from the other model, so every exchange
    of dialogues is as likely as what was seen.

    Args:
      ours, theirs: the same measure of two models on the same targets.
      swaps: [R, D], see `swaps`.

    Returns:
      (1 + exchanges that differ at least as much) / (1 + R).

    Reference: Noreen 1989, "Computer-Intensive Methods for Testing Hypotheses"; Smucker et al. 2007.
    """
    seen = abs(ours.value - theirs.value)
    null = np.abs(ours.swapped(theirs, swaps) - theirs.swapped(ours, swaps))
    return float((1 + (null >= seen - 1e-12).sum()) / (1 + len(swaps)))  # what equals in theory may differ in rounding


def holm(p: Sequence[float]) -> np.ndarray:
    """p values [m] of a family of tests, adjusted so that the chance of any false one stays below the level: [m].

    Reference: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    found = np.empty(len(p))
    found[order] = np.minimum(adjusted, 1)
    return found


def _wins(like: np.ndarray, dislike: np.ndarray) -> np.ndarray:
    """1, 0.5 or 0 where the liked one scores higher, the same or lower."""
    return (like > dislike) + 0.5 * (like == dislike)


def _mixed(wins: Sequence[Sequence], like: np.ndarray, dislike: np.ndarray) -> np.ndarray:
    """Pairs won where the liked targets of some dialogues and the disliked ones of some come from another model.

    Args:
      wins: [2][2] matrices [G, H] of pairs won by dialogue, for the liked target of (our, their) predictions against
        the disliked one of (our, their) predictions.
      like: [R, G] 1 where the liked target is theirs.
      dislike: [R, H] the same of the disliked one.
    """
    return sum(
        ((g @ wins[i][j]) * h).sum(axis=1)
        for i, g in enumerate((1 - like, like))
        for j, h in enumerate((1 - dislike, dislike))
    )


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where nothing is below."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, max(1, -(-len(rows) // _CHUNK)))
