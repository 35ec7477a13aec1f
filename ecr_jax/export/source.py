"""What every target exports from and reports: a trained stage of a run, and the result of a check."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecr_jax.runs.context import ExperimentContext


@dataclass(frozen=True)
class Source:
    """A trained stage of a run.

    Attributes:
      experiment: the run.
      stage: the stage's name.
    """

    experiment: ExperimentContext
    stage: str


@dataclass(frozen=True)
class Check:
    """A comparison of what the consumer computes from an export with what the run computes.

    Attributes:
      reader: the program and version that read the export.
      compared: what was compared, such as "logits".
      cases: how many inputs.
      difference: the largest absolute difference, as a share of the largest absolute value.
      tolerance: the largest difference that passes.
      notes: what else was measured, one sentence each.
    """

    reader: str
    compared: str
    cases: int
    difference: float
    tolerance: float
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; NaN is not."""
        return self.difference <= self.tolerance


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest absolute difference of two arrays, as a share of the largest absolute value of `ours`.

    Raises:
      ValueError: arrays of different shapes.

    >>> difference(np.array([2.0, -4.0]), np.array([2.0, -3.0]))
    0.25
    """
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"the export computes an array {theirs.shape}, the run one {ours.shape}")
    return float(np.abs(ours - theirs).max() / max(np.abs(ours).max(), 1e-30))
