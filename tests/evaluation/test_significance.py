"""Resampling and swapping of dialogues against doing it by hand, calibration of intervals and tests."""

import itertools

import numpy as np
import pytest

from ecr_jax import metrics
from ecr_jax.evaluation.significance import (
    BatchAuc,
    Coverage,
    Mean,
    PooledAuc,
    averaged,
    holm,
    interval,
    number_dialogues,
    randomisation,
    resample,
    resampled,
    swaps,
)

DIALOGUES = ["b", "a", "b", "c", "a", "c", "c"]
SCORE = np.array([3.0, 1, 2, 2, 5, 4, 2])
OTHER = np.array([1.0, 1, 4, 2, 2, 3, 3])
LIKED = np.array([1, 0, 0, 1, 1, 0, -1])


def rows_of(samples, r):
    """The targets of resample r, written out."""
    return np.repeat(np.arange(len(DIALOGUES)), samples.draws[r][samples.dialogue].astype(int))


def brute_batch_auc(score, liked, weight, size):
    """The mean over batches of the share of pairs won, pairs counted by weight."""
    aucs = []
    for start in range(0, len(score), size):
        rows = range(start, min(start + size, len(score)))
        pairs = [(i, j) for i in rows for j in rows if liked[i] == 1 and liked[j] == 0 and weight[i] * weight[j]]
        if pairs:
            won = sum(weight[i] * weight[j] * ((score[i] > score[j]) + 0.5 * (score[i] == score[j])) for i, j in pairs)
            aucs.append(won / sum(weight[i] * weight[j] for i, j in pairs))
    return np.mean(aucs) if aucs else np.nan


def test_dialogues_are_numbered_by_name():
    index, size = number_dialogues(DIALOGUES)
    assert index.tolist() == [1, 0, 1, 2, 0, 2, 2] and size == 3


def test_same_seed_same_draws():
    first, again, other = resample(DIALOGUES, 50, 3), resample(DIALOGUES, 50, 3), resample(DIALOGUES, 50, 4)
    np.testing.assert_array_equal(first.draws, again.draws)
    assert (first.draws != other.draws).any()
    assert (first.draws.sum(axis=1) == 3).all()
    np.testing.assert_array_equal(swaps(3, 9, 1), swaps(3, 9, 1))
    assert set(swaps(3, 9, 1).ravel()) == {0, 1}


def test_means_are_means_of_the_drawn_rows():
    samples = resample(DIALOGUES, 20, 0)
    values = np.random.default_rng(1).normal(size=(7, 2))
    for r, mean in enumerate(samples.means(values)):
        np.testing.assert_allclose(mean, values[rows_of(samples, r)].mean(axis=0))
    some = np.array([1, 3, 3])  # units of some dialogues only, one of them twice
    measure = Mean.of(values[some, 0], samples.dialogue[some], 3)
    assert (measure.value, measure.n) == (pytest.approx(values[some, 0].mean()), 3)
    for r, mean in enumerate(measure.resampled(samples.draws)):
        drawn = rows_of(samples, r).tolist()
        drawn_values = [values[row, 0] for row in some for _ in range(drawn.count(row))]
        np.testing.assert_allclose(mean, np.mean(drawn_values) if drawn_values else np.nan)


def test_resampled_aucs_are_those_of_the_drawn_rows():
    samples = resample(DIALOGUES, 30, 0)
    pooled = PooledAuc(SCORE, LIKED, samples.dialogue, 3)
    batched = BatchAuc(SCORE, LIKED, samples.dialogue, 3, batch_size=4)
    actual = resampled({"pooled": pooled, "batched": batched}, samples.draws)
    for r in range(30):
        drawn = rows_of(samples, r)
        np.testing.assert_allclose(actual["pooled"][r], metrics.auc_pooled(SCORE[drawn], LIKED[drawn]))
        weight = samples.draws[r][samples.dialogue]
        np.testing.assert_allclose(actual["batched"][r], brute_batch_auc(SCORE, LIKED, weight, 4))
    assert (pooled.n, batched.n) == (6, 6)
    assert batched.value == pytest.approx(brute_batch_auc(SCORE, LIKED, np.ones(7), 4))


def test_coverage_lies_around_its_value():
    recommended = np.array([[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [1, 0, 0, 1, 0]], bool)
    samples = resample(DIALOGUES, 400, 0)
    coverage = Coverage(recommended)
    assert (coverage.value, coverage.n) == (0.8, 5)
    drawn = np.array([recommended[draw > 0].any(axis=0).mean() for draw in samples.draws])
    actual = coverage.resampled(samples.draws)
    np.testing.assert_allclose(actual, drawn + 0.8 - drawn.mean(), rtol=1e-6)
    assert actual.mean() == pytest.approx(0.8) and drawn.mean() < 0.7


def exchanged(swap):
    """The two models' scores after the dialogues of a swap [D] have changed sides."""
    dialogue, _ = number_dialogues(DIALOGUES)
    theirs = swap[dialogue] == 1
    return np.where(theirs, OTHER, SCORE), np.where(theirs, SCORE, OTHER)


def test_swapped_values_are_those_of_the_swapped_predictions():
    dialogue, size = number_dialogues(DIALOGUES)
    every = np.array(list(itertools.product([0.0, 1.0], repeat=size)))
    for measure_of, direct in {
        (lambda s: Mean.of(s, dialogue, size)): np.mean,
        (lambda s: PooledAuc(s, LIKED, dialogue, size)): lambda s: metrics.auc_pooled(s, LIKED),
        (lambda s: BatchAuc(s, LIKED, dialogue, size, 4)): lambda s: metrics.auc_batch(s, LIKED, 4),
    }.items():
        actual = measure_of(SCORE).swapped(measure_of(OTHER), every)
        np.testing.assert_allclose(actual, [direct(exchanged(swap)[0]) for swap in every])
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((2, size, 6)) < 0.3
    actual = Coverage(ours).swapped(Coverage(theirs), every)
    mixed = [np.where(swap[:, None] == 1, theirs, ours).any(axis=0).mean() for swap in every]
    np.testing.assert_allclose(actual, mixed)


def test_randomisation_counts_exchanges():
    dialogue, size = number_dialogues(DIALOGUES)
    every = np.array(list(itertools.product([0.0, 1.0], repeat=size)))
    seen = SCORE.mean() - OTHER.mean()
    null = [np.subtract(*(s.mean() for s in exchanged(swap))) for swap in every]
    p = randomisation(Mean.of(SCORE, dialogue, size), Mean.of(OTHER, dialogue, size), every)
    assert p == pytest.approx((1 + sum(abs(d) >= abs(seen) - 1e-12 for d in null)) / 9)
    same = Mean.of(SCORE, dialogue, size)
    assert randomisation(same, same, every) == 1


def test_randomisation_finds_as_much_as_it_says():
    """Where two models are alike, p below .1 comes about one time in ten; where they are not, it is small."""
    rng, size = np.random.default_rng(0), 40
    dialogue = np.repeat(np.arange(size), 3)
    exchanges = swaps(size, 300, 1)
    rejected = []
    for _ in range(200):
        shared = np.repeat(rng.normal(size=(size, 2)), 3, axis=0)  # targets of a dialogue are alike
        ours, theirs = (Mean.of(column, dialogue, size) for column in shared.T)
        rejected.append(randomisation(ours, theirs, exchanges) <= 0.1)
    assert 8 <= sum(rejected) <= 34
    ours, theirs = (Mean.of(v, dialogue, size) for v in (rng.normal(1, 1, 120), rng.normal(0, 1, 120)))
    assert randomisation(ours, theirs, exchanges) == 1 / 301


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.5]), [1, 1])
    assert holm([]).shape == (0,)


def test_runs_are_repeated_measures():
    dialogue, size = number_dialogues(DIALOGUES)
    samples, exchanges = resample(DIALOGUES, 15, 2).draws, swaps(size, 15, 2)
    for measure_of in (
        lambda s: Mean.of(s, dialogue, size),
        lambda s: PooledAuc(s, LIKED, dialogue, size),
        lambda s: BatchAuc(s, LIKED, dialogue, size, 4),
    ):
        runs = [measure_of(SCORE), measure_of(OTHER)]
        both, third = averaged(runs), measure_of(SCORE[::-1])
        assert (both.value, both.n) == (pytest.approx((runs[0].value + runs[1].value) / 2), runs[0].n)
        np.testing.assert_allclose(both.resampled(samples), np.mean([run.resampled(samples) for run in runs], axis=0))
        expected = np.mean([run.swapped(third, exchanges) for run in runs], axis=0)
        np.testing.assert_allclose(both.swapped(averaged([third]), exchanges), expected)


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
