"""The dialogue bootstrap against drawing rows out by hand, and its calibration."""

import numpy as np
import pytest

from ecr_jax import metrics
from ecr_jax.evaluation.significance import interval, resample

DIALOGUES = ["b", "a", "b", "c", "a", "c", "c"]


def rows_of(samples, r):
    """The targets of resample r, written out."""
    return np.repeat(np.arange(len(DIALOGUES)), samples.draws[r][samples.dialogue])


def test_same_seed_same_draws():
    first, again, other = resample(DIALOGUES, 50, 3), resample(DIALOGUES, 50, 3), resample(DIALOGUES, 50, 4)
    np.testing.assert_array_equal(first.draws, again.draws)
    assert (first.draws != other.draws).any()
    assert (first.draws.sum(axis=1) == 3).all()


def test_means_are_means_of_the_drawn_rows():
    samples = resample(DIALOGUES, 20, 0)
    values = np.random.default_rng(1).normal(size=(7, 2))
    for r, mean in enumerate(samples.means(values)):
        np.testing.assert_allclose(mean, values[rows_of(samples, r)].mean(axis=0))
    some = np.array([1, 3, 3])
    for r, mean in enumerate(samples.means(values[some], some)):
        drawn = rows_of(samples, r).tolist()
        kept = [values[row] for row in some for _ in range(drawn.count(row))]
        np.testing.assert_allclose(mean, np.mean(kept, axis=0) if kept else [np.nan, np.nan])


def test_weighted_auc_is_the_auc_of_the_drawn_rows():
    samples = resample(DIALOGUES, 20, 0)
    score = np.array([3.0, 1, 2, 2, 5, 4, 2])
    liked = np.array([1, 0, 0, 1, 1, 0, -1])
    for r, auc in enumerate(samples.statistics(lambda w: metrics.auc_pooled(score, liked, w))):
        drawn = rows_of(samples, r)
        np.testing.assert_allclose(auc, metrics.auc_pooled(score[drawn], liked[drawn]))


def test_interval_holds_the_truth_about_as_often_as_it_says():
    rng, inside = np.random.default_rng(0), 0
    for trial in range(100):
        # 60 dialogues of five targets that are all alike: the interval must be that of 60 values, not of 300
        values = np.repeat(rng.normal(size=60), 5)[:, None]
        low, high = interval(resample(np.repeat(np.arange(60), 5), 400, trial).means(values)[:, 0])
        inside += low < 0 < high
    assert 88 <= inside <= 100


def test_interval_leaves_out_the_undefined():
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert interval(np.array([np.nan, np.nan, 1.0])) is None
    assert interval(np.arange(101.0), level=0.9) == pytest.approx((5, 95))
