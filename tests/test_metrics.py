"""Metrics against hand-worked numbers, brute force with ties, and the published evaluator's golden numbers."""

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


def brute_auc(score, liked, weight):
    won = total = 0.0
    for s, a, w in zip(score, liked, weight, strict=True):
        for t, b, v in zip(score, liked, weight, strict=True):
            if a == LIKE and b == DISLIKE:
                total += w * v
                won += w * v * (1.0 if s > t else 0.5 if s == t else 0.0)
    return won / total if total else float("nan")


def columns(seed, n=60):
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, 7, n).astype(float),
        rng.choice([LIKE, DISLIKE, UNSAID], n, p=[0.5, 0.3, 0.2]),
        rng.integers(0, 9, n),
        rng.integers(0, 3, n).astype(float),
    )


@pytest.mark.parametrize("seed", range(5))
def test_aucs_against_brute_force_with_ties(seed):
    score, liked, dialogue, weight = columns(seed)
    ones = np.ones(len(score))
    assert metrics.auc_pooled(score, liked) == pytest.approx(brute_auc(score, liked, ones))
    assert metrics.auc_pooled(score, liked, weight) == pytest.approx(brute_auc(score, liked, weight))

    batches = [slice(i, i + 8) for i in range(0, len(score), 8)]
    for w, given in ((ones, None), (weight, weight)):
        expected = np.nanmean([brute_auc(score[b], liked[b], w[b]) for b in batches])
        assert metrics.auc_batch(score, liked, 8, given) == pytest.approx(expected)

    won = total = 0.0
    for d in range(9):
        s, y = score[dialogue == d], liked[dialogue == d]
        pairs = (y == LIKE).sum() * (y == DISLIKE).sum()
        if pairs:
            won += pairs * brute_auc(s, y, np.ones(len(s)))
            total += pairs
    assert metrics.auc_dialogue(score, liked, dialogue) == pytest.approx(won / total)


def test_aucs_without_a_class_are_nan():
    score, liked = np.arange(4.0), np.array([LIKE, UNSAID, LIKE, LIKE])
    assert np.isnan(metrics.auc_pooled(score, liked))
    assert np.isnan(metrics.auc_batch(score, liked))
    assert np.isnan(metrics.auc_dialogue(score, liked, np.zeros(4, int)))
    assert np.isnan(metrics.auc_pooled(score[:0], liked[:0]))


def test_published_evaluator(golden):
    with np.load(golden / "model.npz") as arrays:
        a = {k.removeprefix("eval/"): arrays[k] for k in arrays.files if k.startswith("eval/")}
    items = a["item_ids"]
    rank, score, liked, batch_aucs = [], [], [], []
    for b in range(4):
        logits, labels, gt = a[f"logits{b}"], a[f"labels{b}"], a[f"gt{b}"].astype(int)
        column = np.argmax(items == labels[:, None], axis=1)
        r = metrics.ranks(logits[:, items], column, ties="first")
        inside = r <= 50
        place = np.argmax(a[f"ranks{b}"] == labels[:, None], axis=1) + 1
        np.testing.assert_array_equal(r[inside], place[inside])
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        s = (p / p.sum(axis=1, keepdims=True))[np.arange(len(labels)), labels]
        np.testing.assert_allclose(metrics.auc_batch(s, gt), a[f"auc_of_batch{b}"], rtol=1e-12)
        rank.append(r)
        score.append(s)
        liked.append(gt)
        batch_aucs.append(metrics.auc_batch(s, gt))
    rank, liked = np.concatenate(rank), np.concatenate(liked)
    for k in (1, 10, 50):
        np.testing.assert_allclose(metrics.recall_at(rank, k).mean(), a[f"out/recall@{k}"])
        np.testing.assert_allclose(metrics.mrr_at(rank, k).mean(), a[f"out/mrr@{k}"])
        np.testing.assert_allclose(metrics.ndcg_at(rank, k).mean(), a[f"out/ndcg@{k}"])
        np.testing.assert_allclose(metrics.recall_at(rank, k)[liked == LIKE].mean(), a[f"out/recall_true@{k}"])
    # the first batches are full, so batches of 8 in a row are the published ones
    np.testing.assert_allclose(metrics.auc_batch(np.concatenate(score), liked, 8), a["out/auc"], rtol=1e-6)
    np.testing.assert_allclose(np.nanmean(batch_aucs), a["out/auc"], rtol=1e-6)
