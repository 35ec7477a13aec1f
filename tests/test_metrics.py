"""Metrics against hand-worked numbers, brute force with ties, and another library."""

import numpy as np
import pytest

from ecr_jax import metrics
from ecr_jax.metrics import DISLIKE, LIKE, UNSAID


def test_ranks_by_hand():
    scores = np.array([[0.1, 0.9, 0.5, 0.5], [1.0, 1.0, 1.0, 1.0]])
    assert metrics.ranks(scores, np.array([2, 0])).tolist() == [2.5, 2.5]
    assert metrics.ranks(scores, np.array([3, 1]), ties="first").tolist() == [3, 2]


def test_ranks_against_all_orders_of_ties():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (40, 9)).astype(float)
    targets = rng.integers(0, 9, 40)
    for row, target, mean, first in zip(
        scores, targets, metrics.ranks(scores, targets), metrics.ranks(scores, targets, ties="first"), strict=True
    ):
        order = np.argsort(-row, kind="stable").tolist()
        places = [p + 1 for p, item in enumerate(order) if row[item] == row[target]]
        assert mean == np.mean(places)
        assert first == order.index(target) + 1


def test_ranks_refuse_nan():
    with pytest.raises(ValueError, match="first in row 1"):
        metrics.ranks(np.array([[1.0, 2.0], [np.nan, 1.0]]), np.array([0, 1]))


def test_cut_offs_by_hand():
    rank = np.array([1, 3, 10, 11, 1.5])
    assert metrics.recall_at(rank, 10).tolist() == [1, 1, 1, 0, 1]
    assert metrics.recall_at(rank, 1).tolist() == [1, 0, 0, 0, 0]
    np.testing.assert_allclose(metrics.mrr_at(rank, 10), [1, 1 / 3, 0.1, 0, 2 / 3])
    np.testing.assert_allclose(metrics.ndcg_at(rank, 10), [1, 0.5, 1 / np.log2(11), 0, 1 / np.log2(2.5)])


def brute_auc(score, liked):
    won = [
        1.0 if s > t else 0.5 if s == t else 0.0
        for s, a in zip(score, liked, strict=True)
        for t, b in zip(score, liked, strict=True)
        if a == LIKE and b == DISLIKE
    ]
    return np.mean(won) if won else np.nan


@pytest.mark.parametrize("seed", range(5))
def test_aucs_against_brute_force_with_ties(seed):
    rng = np.random.default_rng(seed)
    score, dialogue = rng.integers(0, 7, 60).astype(float), rng.integers(0, 9, 60)
    liked = rng.choice([LIKE, DISLIKE, UNSAID], 60, p=[0.5, 0.3, 0.2])
    assert metrics.auc_pooled(score, liked) == pytest.approx(brute_auc(score, liked))

    batches = [brute_auc(score[i : i + 8], liked[i : i + 8]) for i in range(0, 60, 8)]
    assert metrics.auc_batch(score, liked, 8) == pytest.approx(np.nanmean(batches))

    won = total = 0.0
    for d in range(9):
        s, y = score[dialogue == d], liked[dialogue == d]
        pairs = (y == LIKE).sum() * (y == DISLIKE).sum()
        if pairs:
            won += pairs * brute_auc(s, y)
            total += pairs
    assert metrics.auc_dialogue(score, liked, dialogue) == pytest.approx(won / total)


def test_aucs_without_a_class_are_nan():
    score, liked = np.arange(4.0), np.array([LIKE, UNSAID, LIKE, LIKE])
    assert np.isnan(metrics.auc_pooled(score, liked))
    assert np.isnan(metrics.auc_batch(score, liked))
    assert np.isnan(metrics.auc_dialogue(score, liked, np.zeros(4, int)))
    assert np.isnan(metrics.auc_pooled(score[:0], liked[:0]))


@pytest.mark.slow  # ranx compiles for a minute
@pytest.mark.filterwarnings("ignore:unsafe cast")
def test_as_ranx_measures():
    """Without ties, and for rows of one relevant item, the field's metrics are those of ranx."""
    ranx = pytest.importorskip("ranx")
    rng = np.random.default_rng(0)
    scores, targets = rng.random((60, 40)), rng.integers(0, 40, 60)
    ids = [f"q{i:02d}" for i in range(60)]
    items = [f"d{j:02d}" for j in range(40)]
    qrels = ranx.Qrels({q: {items[t]: 1} for q, t in zip(ids, targets, strict=True)})
    run = ranx.Run({q: dict(zip(items, row.tolist(), strict=True)) for q, row in zip(ids, scores, strict=True)})
    names = [f"{name}@{k}" for name in ("hit_rate", "recall", "mrr", "ndcg") for k in (1, 10, 30)]
    theirs = ranx.evaluate(qrels, run, names)
    rank = metrics.ranks(scores, targets)
    ours = {"hit_rate": metrics.recall_at, "recall": metrics.recall_at, "mrr": metrics.mrr_at, "ndcg": metrics.ndcg_at}
    for name in names:
        kind, k = name.split("@")
        assert ours[kind](rank, int(k)).mean() == pytest.approx(theirs[name], abs=1e-12), name
