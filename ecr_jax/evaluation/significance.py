"""Confidence intervals and significance tests that resample or swap whole dialogues, the independent unit.

A `Measure` is a metric of one model's predictions, stored by dialogue, so that its value can be computed for any
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

Key = TypeVar("Key")

_CHUNK = 500
"""Resamples processed at a time where a table of resamples x pairs (or x items) is built; bounds memory."""


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of dialogues, drawn by `resample`.

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
    index, size = number_dialogues(dialogues)
    draws = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / max(size, 1)), resamples)
    return Resamples(index, draws.astype(np.float64))


def swaps(dialogues: int, permutations: int, seed: int = 0) -> np.ndarray:
    """Draws the dialogues whose predictions two models exchange: 0 or 1 with equal probability, float [R, D]."""
    return np.random.default_rng(seed).integers(0, 2, (permutations, dialogues)).astype(np.float64)


def number_dialogues(dialogues: Sequence[str]) -> tuple[np.ndarray, int]:
    """Numbers dialogues in the order of their names: int [n] in 0..D-1, and D."""
    names, index = np.unique(np.asarray(dialogues, dtype=object).astype(str), return_inverse=True)
    return index.reshape(-1), len(names)


class Measure(Protocol):
    """A metric of one model's predictions that can be resampled by dialogue."""

    @property
    def value(self) -> float:
        """The metric over all dialogues; NaN if it is not defined."""
        ...

    @property
    def n(self) -> int:
        """The number of units that it is a mean over."""
        ...

    def resampled(self, draws: np.ndarray) -> np.ndarray:
        """The value in every resample: draws [R, D] -> [R]; NaN where it is not defined."""
        ...

    def swapped(self, other: Self, swaps: np.ndarray) -> np.ndarray:
        """The value if the dialogues with a 1 had the predictions of `other`: swaps [R, D] -> [R]."""
        ...


@dataclass(frozen=True)
class Mean:
    """A mean over units (targets, turns, pairs of one dialogue): their sum and number in each dialogue, float [D]."""

    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, dialogue: np.ndarray, dialogues: int) -> Mean:
        """Builds it from the units' values [m], the dialogue of each, int [m], and the number of dialogues."""
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
    """`metrics.auc_pooled` of targets: scores [n], feedback codes [n] and their dialogues, int [n] in 0..D-1."""

    score: np.ndarray
    feedback: np.ndarray
    dialogue: np.ndarray
    dialogues: int

    @property
    def value(self) -> float:
        return metrics.auc_pooled(self.score, self.feedback)

    @property
    def n(self) -> int:
        return int((self.feedback != metrics.UNSAID).sum())

    def _class(self, feedback: int) -> tuple[np.ndarray, np.ndarray, sparse.csr_array]:
        """The targets with this feedback [c], their dialogues [G], and which target is in which, float [c, G]."""
        targets = np.flatnonzero(self.feedback == feedback)
        groups, index = np.unique(self.dialogue[targets], return_inverse=True)
        return targets, groups, sparse.csr_array((np.ones(len(targets)), (np.arange(len(targets)), index)))

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
        wins = [[a._wins(b) for b in (self, other)] for a in (self, other)]
        return _mixed(wins, swaps[:, of_like], swaps[:, of_dislike]) / (len(likes) * len(dislikes))


@dataclass(frozen=True)
class BatchAuc:
    """`metrics.auc_batch` of targets in file order; the attributes are those of `PooledAuc`, and the batch size."""

    score: np.ndarray
    feedback: np.ndarray
    dialogue: np.ndarray
    dialogues: int
    batch_size: int

    @property
    def value(self) -> float:
        return metrics.auc_batch(self.score, self.feedback, self.batch_size)

    @property
    def n(self) -> int:
        return int((self.feedback != metrics.UNSAID).sum())

    def _pairs(self) -> tuple[np.ndarray, np.ndarray, sparse.csr_array]:
        """Liked and disliked target of each pair of a batch, int [p] each, and which pair is in which, [p, batches]."""
        batch_of_target = np.arange(len(self.feedback)) // self.batch_size
        liked, disliked, _ = metrics.like_dislike_pairs(self.score, self.feedback, batch_of_target)
        batches, batch = np.unique(liked // self.batch_size, return_inverse=True)
        in_batch = sparse.csr_array((np.ones(len(liked)), (np.arange(len(liked)), batch)), (len(liked), len(batches)))
        return liked, disliked, in_batch

    def resampled(self, draws: np.ndarray) -> np.ndarray:
        liked, disliked, in_batch = self._pairs()
        wins = _wins(self.score[liked], self.score[disliked])
        values = []
        for chunk in _chunks(draws):
            weights = chunk[:, self.dialogue[liked]] * chunk[:, self.dialogue[disliked]]  # [r, p]
            of_batch = _ratio((weights * wins) @ in_batch, weights @ in_batch)  # [r, batches]
            defined = ~np.isnan(of_batch)
            values.append(_ratio(np.where(defined, of_batch, 0).sum(axis=1), defined.sum(axis=1)))
        return np.concatenate(values)

    def swapped(self, other: BatchAuc, swaps: np.ndarray) -> np.ndarray:
        liked, disliked, in_batch = self._pairs()
        weight = in_batch @ (1 / in_batch.sum(axis=0)) / in_batch.shape[1]  # of each pair in the mean over batches
        dialogues = self.dialogue[liked], self.dialogue[disliked]

        def wins_by_dialogue(ours: BatchAuc, theirs: BatchAuc) -> sparse.csr_array:
            wins = weight * _wins(ours.score[liked], theirs.score[disliked])
            return sparse.csr_array((wins, dialogues), (self.dialogues, self.dialogues))

        return _mixed([[wins_by_dialogue(a, b) for b in (self, other)] for a in (self, other)], swaps, swaps)


@dataclass(frozen=True)
class Coverage:
    """Share of the candidates that are recommended in some dialogue.

    Attributes:
      recommended: bool [D, I], whether an item is among the first k of some turn of a dialogue.
    """

    recommended: np.ndarray

    @property
    def value(self) -> float:
        return float(self.recommended.any(axis=0).mean())

    @property
    def n(self) -> int:
        return self.recommended.shape[1]

    def _share(self, dialogues_of_item: np.ndarray) -> np.ndarray:
        return (dialogues_of_item > 0).sum(axis=1) / self.n

    def resampled(self, draws: np.ndarray) -> np.ndarray:
        """A resample holds fewer distinct dialogues and so fewer items: its values are shifted to centre on `value`."""
        recommended = self.recommended[:, self.recommended.any(axis=0)].astype(np.float32)
        shares = np.concatenate([self._share(chunk.astype(np.float32) @ recommended) for chunk in _chunks(draws)])
        return shares + self.value - shares.mean()

    def swapped(self, other: Coverage, swaps: np.ndarray) -> np.ndarray:
        ever = self.recommended.any(axis=0) | other.recommended.any(axis=0)
        own, theirs = (coverage.recommended[:, ever].astype(np.float32) for coverage in (self, other))
        own_counts, change = own.sum(axis=0), theirs - own  # whole numbers of dialogues, and so exact
        return np.concatenate([self._share(own_counts + chunk.astype(np.float32) @ change) for chunk in _chunks(swaps)])


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
        """Swaps run by run; each run of either side counts the same, also where one side has fewer runs."""
        repeats = math.lcm(len(self.runs), len(other.runs))
        pairs = [(self.runs[i % len(self.runs)], other.runs[i % len(other.runs)]) for i in range(repeats)]
        return np.mean([ours.swapped(theirs, swaps) for ours, theirs in pairs], axis=0)


def averaged(runs: Sequence[Measure]) -> Measure:
    """One measure of several runs on the same targets."""
    means = [run for run in runs if isinstance(run, Mean)]
    if len(means) == len(runs):  # the mean of means over the same units is one
        return Mean(np.mean([mean.sums for mean in means], axis=0), means[0].counts)
    return Repeated(tuple(runs))


def resampled(measures: Mapping[Key, Measure], draws: np.ndarray) -> dict[Key, np.ndarray]:
    """Every measure in every resample, [R] each; all means at once."""
    means = {key: measure for key, measure in measures.items() if isinstance(measure, Mean)}
    values: dict[Key, np.ndarray] = {}
    if means:
        sums = draws @ np.stack([mean.sums for mean in means.values()], axis=1)
        counts = draws @ np.stack([mean.counts for mean in means.values()], axis=1)
        values = dict(zip(means, _ratio(sums, counts).T, strict=True))
    return {key: values[key] if key in values else measure.resampled(draws) for key, measure in measures.items()}


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float] | None:
    """Percentile interval of bootstrap samples [R]; those where the statistic is undefined (NaN) are left out.

    None if it is undefined in half of them or more: the data are too few for an interval.
    """
    defined = samples[~np.isnan(samples)]
    if 2 * len(defined) <= len(samples):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def randomisation(ours: Measure, theirs: Measure, swaps: np.ndarray) -> float:
    """Two-sided p of a paired randomisation test.

    Under the null hypothesis that the two models are alike, a dialogue's predictions might as well have come from the
    other model, so every exchange of dialogues is as likely as the observed assignment.

    Args:
      ours, theirs: the same measure of two models on the same targets.
      swaps: [R, D], see `swaps`.

    Returns:
      (1 + exchanges that differ at least as much) / (1 + R).

    Reference: Noreen 1989, "Computer-Intensive Methods for Testing Hypotheses"; Smucker et al. 2007.
    """
    observed = abs(ours.value - theirs.value)
    null = np.abs(ours.swapped(theirs, swaps) - theirs.swapped(ours, swaps))
    return float((1 + (null >= observed - 1e-12).sum()) / (1 + len(swaps)))  # equal values may differ in rounding


def holm(p: Sequence[float]) -> np.ndarray:
    """p values [m] of a family of tests, adjusted so that the chance of any false one stays below the level: [m].

    Reference: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.maximum.accumulate((len(values) - np.arange(len(values))) * values[order])
    result = np.empty(len(p))
    result[order] = np.minimum(adjusted, 1)
    return result


def _wins(like: np.ndarray, dislike: np.ndarray) -> np.ndarray:
    """1, 0.5 or 0 where the liked target scores higher, the same or lower."""
    return (like > dislike) + 0.5 * (like == dislike)


def _mixed(wins: Sequence[Sequence], like: np.ndarray, dislike: np.ndarray) -> np.ndarray:
    """Pairs won if the liked targets of some dialogues and the disliked ones of some come from the other model.

    Args:
      wins: [2][2] matrices [G, H] of pairs won by dialogue, for the liked target of (our, their) predictions against
        the disliked one of (our, their) predictions.
      like: [R, G] 1 where the liked target is theirs.
      dislike: [R, H] the same of the disliked one.
    """
    from_models = [
        ((g @ wins[i][j]) * h).sum(axis=1)
        for i, g in enumerate((1 - like, like))
        for j, h in enumerate((1 - dislike, dislike))
    ]
    return sum(from_models[1:], start=from_models[0])


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """numerator / denominator, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, max(1, -(-len(rows) // _CHUNK)))
