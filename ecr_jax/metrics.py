"""Ranking metrics, AUCs and the calibration error as plain functions of per-target columns.

`rank`, `score`, `feedback` and `dialogue` are arrays over targets, [n]. Metrics that are means over targets return one
value a target, so that the caller takes the mean (and its bootstrap) over any subset of targets.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

LIKE, DISLIKE, UNSAID = 1, 0, -1
"""Codes of the column `feedback`."""


def ranks(scores: np.ndarray, targets: np.ndarray, ties: Literal["mean", "first"] = "mean") -> np.ndarray:
    """1-based rank of each target among the items.

    Args:
      scores: [n, I], higher is better.
      targets: int [n], column of the target.
      ties: `mean` gives the mean of the ranks that the tied items share (1 + better + other ties / 2), so that a model
        with equal scores ranks everything in the middle, whatever the order of the items. `first` gives the rank in a
        stable descending sort, as the published evaluator's top-k does.

    Returns:
      float64 [n].

    Raises:
      ValueError: if a score is NaN.

    >>> ranks(np.array([[0.1, 0.9, 0.5, 0.5]]), np.array([2])).tolist()
    [2.5]
    >>> ranks(np.array([[0.1, 0.9, 0.5, 0.5]]), np.array([2]), ties="first").tolist()
    [2.0]
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    if np.isnan(scores).any():
        rows = np.flatnonzero(np.isnan(scores).any(axis=1))
        raise ValueError(f"scores of {len(rows)} target(s) hold NaN, first in row {rows[0]}; ranks are undefined")
    own = np.take_along_axis(scores, targets[:, None], axis=1)  # [n, 1]
    better = (scores > own).sum(axis=1)
    tied = scores == own  # [n, I], the target itself among them
    if ties == "first":
        return 1.0 + better + (tied & (np.arange(scores.shape[1]) < targets[:, None])).sum(axis=1)
    return 1.0 + better + (tied.sum(axis=1) - 1) / 2


def recall_at(rank: np.ndarray, k: int) -> np.ndarray:
    """1 where the target is among the first k, else 0: float [n]. A shared (mean) rank counts if it is at most k.

    Its mean over all targets is R@k (disliked ones included), over liked ones RT@k, over disliked ones dislike@k.

    Reference: ECR 5.2.

    >>> recall_at(np.array([1.0, 10.0, 11.0]), k=10).tolist()
    [1.0, 1.0, 0.0]
    """
    return (np.asarray(rank) <= k).astype(np.float64)


def mrr_at(rank: np.ndarray, k: int) -> np.ndarray:
    """1 / rank within the first k, else 0: float [n].

    >>> mrr_at(np.array([1.0, 4.0, 11.0]), k=10).tolist()
    [1.0, 0.25, 0.0]
    """
    rank = np.asarray(rank, np.float64)
    return np.where(rank <= k, 1 / rank, 0.0)


def ndcg_at(rank: np.ndarray, k: int) -> np.ndarray:
    """1 / log2(rank + 1) within the first k, else 0: float [n] (one relevant item, so the ideal gain is 1).

    >>> ndcg_at(np.array([1.0, 3.0, 11.0]), k=10).tolist()
    [1.0, 0.5, 0.0]
    """
    rank = np.asarray(rank, np.float64)
    return np.where(rank <= k, 1 / np.log2(rank + 1), 0.0)


def auc_pooled(score: np.ndarray, feedback: np.ndarray) -> float:
    """Probability that a liked target scores above a disliked one, over all pairs; a tie counts 0.5.

    Args:
      score: [n].
      feedback: int [n], LIKE, DISLIKE or UNSAID (left out).

    Returns:
      The AUC; NaN if a class is empty.

    >>> auc_pooled(np.array([0.9, 0.2, 0.5]), np.array([LIKE, LIKE, DISLIKE]))
    0.5
    """
    score, feedback = np.asarray(score), np.asarray(feedback)
    likes, dislikes = score[feedback == LIKE], np.sort(score[feedback == DISLIKE])
    below = np.searchsorted(dislikes, likes, "left") + np.searchsorted(dislikes, likes, "right")  # a tie counts once
    return float(below.sum() / (2 * len(likes) * len(dislikes))) if len(likes) and len(dislikes) else float("nan")


def like_dislike_pairs(
    score: np.ndarray, feedback: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of a liked and a disliked target of one group.

    Args:
      score: [n].
      feedback: int [n].
      group: int [n].

    Returns:
      The indices of the liked and of the disliked target of each pair, int [p] each, and 1, 0.5 or 0 where the liked
      one scores higher, the same or lower, float [p].
    """
    score, feedback, group = np.asarray(score), np.asarray(feedback), np.asarray(group)
    winners, losers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    order = np.argsort(group, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        likes, dislikes = members[feedback[members] == LIKE], members[feedback[members] == DISLIKE]
        winners.append(np.repeat(likes, len(dislikes)))
        losers.append(np.tile(dislikes, len(likes)))
    winner, loser = np.concatenate(winners), np.concatenate(losers)
    difference = score[winner] - score[loser]
    return winner, loser, np.where(difference > 0, 1.0, np.where(difference == 0, 0.5, 0.0))


def auc_dialogue(score: np.ndarray, feedback: np.ndarray, dialogue: np.ndarray) -> float:
    """AUC over the pairs of a liked and a disliked target of the same dialogue, every pair counting the same.

    Unlike the other two it never compares the scores of different seekers. NaN if there is no pair.

    >>> auc_dialogue(np.array([0.9, 0.2, 0.5]), np.array([LIKE, LIKE, DISLIKE]), np.array([0, 1, 0]))
    1.0
    """
    wins = like_dislike_pairs(score, feedback, dialogue)[2]
    return float(wins.mean()) if len(wins) else float("nan")


def auc_batch(score: np.ndarray, feedback: np.ndarray, batch_size: int = 32) -> float:
    """The published AUC: within batches of consecutive targets, then the plain mean over batches with both classes.

    It depends on the order of the file and on the batch size; use it only to compare with published numbers.

    Args:
      score: [n], in file order.
      feedback: int [n].
      batch_size: targets a batch.

    Returns:
      The AUC; NaN if no batch has both classes.
    """
    winner, _, wins = like_dislike_pairs(score, feedback, np.arange(len(feedback)) // batch_size)
    pairs, won = np.bincount(winner // batch_size), np.bincount(winner // batch_size, wins)
    return float((won[pairs > 0] / pairs[pairs > 0]).mean()) if len(winner) else float("nan")


def calibration_error(probabilities: np.ndarray, classes: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: how far the highest probability is from how often that class is right.

    Args:
      probabilities: [n, C], rows sum to 1.
      classes: int [n], the true class.
      bins: of equal width, over the highest probability.

    Returns:
      The mean over examples of the absolute difference of accuracy and mean probability in their bin; NaN without
      examples.

    Reference: Guo et al. 2017, "On calibration of modern neural networks".

    >>> calibration_error(np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1]))
    0.3
    """
    probabilities, classes = np.asarray(probabilities, np.float64), np.asarray(classes)
    if not len(probabilities):
        return float("nan")
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == classes
    bin_of = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(bin_of, right, bins) - np.bincount(bin_of, confidence, bins)
    return float(np.abs(gap).sum() / len(probabilities))
