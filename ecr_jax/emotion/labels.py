"""The nine emotions: their ids, and the selection of emotions from predicted probabilities."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ecr_jax.data.schema import EMOTIONS

__all__ = ["EMOTIONS", "PAD", "VALENCES", "from_names", "select", "select_rows"]

PAD = len(EMOTIONS)
"""The pad id, which stands for no emotion (9)."""

VALENCES = ("like", "dislike", "unclear")
"""How a seeker may feel about a film or another mention."""


def from_names(names: Iterable[str]) -> tuple[int, ...]:
    """Ids of named emotions, in the same order.

    Raises:
      ValueError: a name is not one of the nine.
    """
    names = tuple(names)
    if unknown := [name for name in names if name not in EMOTIONS]:
        raise ValueError(f"unknown emotion {unknown[0]!r}; the nine are {', '.join(EMOTIONS)}")
    return tuple(EMOTIONS.index(name) for name in names)


def select(probs: np.ndarray, beta: float) -> list[tuple[int, float]]:
    """The emotions of one utterance: those above the threshold, and always the most probable one.

    Args:
      probs: [9] probabilities.
      beta: a label is selected if its probability is strictly greater (`EmotionConfig.beta`; ECR 5.4: 0.1).

    Returns:
      (label id, probability), most probable first, ties by id. (The published code uses the order in which the corpus
      stores them, and one of its two scripts does not fall back to the most probable one.)

    Reference: ECR 4.1.1 and its `process.py`.
    """
    ids, values = select_rows(np.asarray(probs)[None], PAD, beta)
    return [(int(i), float(p)) for i, p in zip(ids[0], values[0], strict=True) if i != PAD]


def select_rows(probs: np.ndarray, count: int, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """`select` for many utterances at once, with at most `count` emotions each.

    Args:
      probs: [N, 9] probabilities.
      count: the most emotions per utterance (the paper's n_f is 3).
      beta: as in `select`.

    Returns:
      ids int32 [N, count] padded with `PAD`, and their probabilities float32 [N, count] padded with 0.
    """
    probs = np.asarray(probs)
    if probs.ndim != 2 or probs.shape[1] != PAD:
        raise ValueError(f"probabilities have the shape {probs.shape}; expected [utterances, {PAD}]")
    if not (np.isfinite(probs).all() and (probs >= 0).all()):
        raise ValueError("probabilities must be finite and not negative; pass soft-max outputs, not logits")
    if not 1 <= count <= PAD:
        raise ValueError(f"count is {count}; expected 1 to {PAD}")
    order = np.argsort(-probs, axis=1, kind="stable")[:, :count]  # stable: ties by id
    values = np.take_along_axis(probs, order, axis=1)
    # A Python float takes the array's type here, so that float32's 0.1 is not greater than 0.1.
    selected = values > float(beta)
    selected[:, 0] = True
    return np.where(selected, order, PAD).astype(np.int32), np.where(selected, values, 0).astype(np.float32)
