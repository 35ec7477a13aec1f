"""Strata and metrics of prediction rows by hand; several runs; tests; the published evaluator's golden numbers."""

import dataclasses

import numpy as np
import pytest

from ecr_jax import metrics
from ecr_jax.data.schema import Feedback
from ecr_jax.evaluation import measures, predictions
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.predictions import Prediction, Target
from ecr_jax.evaluation.rows import ReportRow, measure_models

LIKE, DISLIKE, UNSAID = Feedback.LIKE, Feedback.DISLIKE, Feedback.UNSAID
CATALOGUE = Catalogue("films", "test", "default", np.array([2, 3, 5, 7, 11]), np.array([6, 2, 2, 0, 0]))


def row(conversation, turn, target, feedback, repeated, rank, score=0.1, top=(2, 3, 5, 7, 11)):
    return Prediction("ecr", conversation, turn, target, feedback, repeated, rank, score, tuple(top))


ROWS = [
    row("a", 1, 2, LIKE, False, 1, 0.5, top=(2, 3, 5, 7, 11)),
    row("a", 1, 3, DISLIKE, False, 12, 0.2, top=(2, 3, 5, 7, 11)),
    row("a", 3, 7, UNSAID, True, 3, 0.1, top=(2, 5, 7, 3, 11)),
    row("b", 1, 5, LIKE, False, 60, 0.1, top=(3, 2, 5, 7, 11)),
    row("b", 5, 2, LIKE, True, 10, 0.3, top=(5, 2, 3, 7, 11)),
]


def value(stratum, metric, catalogue=CATALOGUE, rows=ROWS, auc_batch=2):
    actual = measures.measures(rows, catalogue, auc_batch)[stratum, metric]
    return pytest.approx(actual.value), actual.n


def test_strata_by_hand():
    held = {name: np.flatnonzero(where).tolist() for name, where in measures.strata(ROWS, CATALOGUE).items()}
    assert held == {
        "all": [0, 1, 2, 3, 4],
        "new": [0, 1, 3],
        "repeated": [2, 4],
        "like": [0, 3, 4],
        "dislike": [1],
        "unsaid": [2],
        "head": [0, 4],  # six of ten
        "tail": [1, 3],
        "cold": [2],
    }
    assert "cold" not in measures.strata(ROWS)


def test_every_part_of_the_odds_of_being_liked_has_its_own_auc(tmp_path):
    """Of one dialogue's pair, and of all three pairs of a liked and the disliked target."""
    parts = ([0.2, 0.9], [0.5, 0.1], [0.0, 0.0], [0.1, 0.0], [0.7, 0.3])
    names = ("item", "total")
    rows = [
        dataclasses.replace(row, liking=dict(zip(names, of_row, strict=True)))
        for row, of_row in zip(ROWS, parts, strict=True)
    ]
    assert (0, 1) == value("all", "auc_dialogue:item", rows=rows) == value("new", "auc_dialogue:item", rows=rows)
    assert (1, 1) == value("all", "auc_dialogue:total", rows=rows)
    assert (1 / 3, 4) == value("all", "auc_pooled:item", rows=rows)  # 0.2, 0.1 and 0.7 against 0.5
    assert (2 / 3, 4) == value("all", "auc_pooled:total", rows=rows)
    assert value("all", "auc_pooled", rows=rows) == value("all", "auc_pooled")  # by the ranking score
    assert not any(":" in metric for _, metric in measures.measures(ROWS))
    predictions.write(tmp_path / "rows.jsonl", rows)
    assert predictions.read(tmp_path / "rows.jsonl") == {"ecr": rows}


def test_metrics_by_hand():
    assert (3 / 5, 5) == value("all", "recall@10")
    assert (2 / 3, 3) == value("all", "recall_true@10")
    assert (0, 1) == value("all", "dislike@10") and (1, 1) == value("all", "dislike@50")
    assert (0, 1) == value("dislike", "recall@10")
    assert (1, 1) == value("cold", "recall@10") and (1, 2) == value("head", "recall@10")
    assert (0, 2) == value("tail", "recall@10")
    assert ((1 + 1 / 3 + 1 / 10) / 5, 5) == value("all", "mrr@10")
    assert ((1 + 1 / np.log2(4) + 1 / np.log2(11)) / 5, 5) == value("all", "ndcg@10")


def test_a_turn_is_hit_once():
    # turns a:1, a:3, b:1, b:5; of a:1 one of two targets is found
    assert (3 / 4, 4) == value("all", "hit@10")
    assert (1 / 4, 4) == value("all", "hit@1")
    assert (1 / 2, 2) == value("new", "hit@10")
    twice = [*ROWS, row("a", 1, 5, LIKE, False, 2)]
    assert (3 / 4, 4) == value("all", "hit@10", rows=twice) and (4 / 6, 6) == value("all", "recall@10", rows=twice)


def test_aucs_are_the_metrics_own():
    actual = measures.measures(ROWS, None, 2)
    score, liked = np.array([r.score for r in ROWS]), np.array([1, 0, -1, 1, 1])
    assert actual["all", "auc_pooled"].value == metrics.auc_pooled(score, liked)
    assert actual["all", "auc_batch"].value == metrics.auc_batch(score, liked, 2) == 1
    assert (actual["all", "auc_dialogue"].value, actual["all", "auc_dialogue"].n) == (1, 1)
    assert ("repeated", "auc_pooled") not in actual and ("like", "auc_pooled") not in actual


def test_coverage_and_popularity_by_hand():
    assert (3 / 5, 5) == value("all", "coverage@1")  # 2, 2, 3, 5 come first
    assert (1, 5) == value("all", "coverage@10")  # five items in all: ten of them are all
    counts = {2: 6, 3: 2, 5: 2, 7: 0}
    lift = [np.log1p(counts[r.top[0]]) - np.log1p(counts[r.target]) for r in ROWS]
    assert (np.mean(lift), 5) == value("all", "popularity_lift@1")


def test_what_cannot_be_known_is_left_out():
    short = [dataclasses.replace(r, top=r.top[:1]) for r in ROWS]
    actual = measures.measures(short, CATALOGUE)
    assert ("all", "coverage@1") in actual and ("all", "coverage@10") not in actual
    none = measures.measures(ROWS)
    assert not any(stratum == "head" or metric.startswith(("coverage", "popularity")) for stratum, metric in none)


def runs(seed, better=0.0, dialogues=30):
    rng, same = np.random.default_rng(seed), np.random.default_rng(9)
    predicted = []
    for d in range(dialogues):
        for turn in (1, 3):
            feedback = [LIKE, DISLIKE, UNSAID][same.choice(3, p=[0.5, 0.4, 0.1])]
            rank = max(1.0, float(rng.integers(1, 80)) * (1 - better))
            top = tuple(rng.permutation([2, 3, 5, 7, 11]).tolist())
            predicted.append(row(f"c{d}", turn, 7, feedback, bool(same.random() < 0.3), rank, 1 / (1 + rank), top))
    return predicted


def test_several_runs_are_averaged_over_the_same_resamples():
    seeds = [runs(0, 0.5), runs(1, 0.5), runs(2, 0.5)]
    options = dict(catalogue=CATALOGUE, resamples=60)
    rows = measure_models({"ecr": seeds, "other": [runs(5)]}, "films", "test", pairs=[("ecr", "other")], **options)
    alone = [{(r.stratum, r.metric): r for r in measure_models({"x": [s]}, "a", "b", **options)} for s in seeds]
    for actual in rows:
        key = actual.stratum, actual.metric
        if actual.model == "ecr":
            assert actual.seeds == tuple(one[key].value for one in alone)
            assert actual.value == pytest.approx(np.mean(actual.seeds)) and actual.n == alone[0][key].n
        else:
            assert actual.seeds == ()
    spread = {r.metric: r.high - r.low for r in rows if (r.model, r.stratum) == ("ecr", "all")}
    mean = {r.metric: np.mean([one["all", r.metric].high - one["all", r.metric].low for one in alone]) for r in rows
            if r.stratum == "all"}  # fmt: skip
    assert spread["recall@10"] < mean["recall@10"]  # a mean of three is surer


def test_tests_are_adjusted_over_the_family():
    models = {"ecr": [runs(0, 0.9)], "twin": [runs(0, 0.9)], "bad": [runs(1)]}
    pairs = [("ecr", "twin"), ("ecr", "bad")]
    tested = {("all", "recall@10"), ("new", "recall@10"), ("all", "auc_pooled")}
    rows = measure_models(models, "films", "test", pairs=pairs, resamples=400, tested=lambda *key: key in tested)
    tests = [r for r in rows if r.p is not None]
    assert len(tests) == 6 and {(r.stratum, r.metric) for r in tests} == tested
    by = {(r.model, r.stratum, r.metric): r for r in tests}
    assert all(r.p == r.p_holm == 1 and r.value == 0 for key, r in by.items() if key[0] == "ecr - twin")
    best = by["ecr - bad", "all", "recall@10"]
    assert best.p == 1 / 401 and best.p_holm == pytest.approx(6 / 401)
    assert all(r.is_difference for r in tests) and best.to_json()["p_holm"] == best.p_holm
    assert ReportRow.from_json(best.to_json()) == best


def published(arrays):
    """The golden evaluator's batches as prediction rows of the published protocol."""
    items, rows, instance = arrays["item_ids"], [], 0
    for b in range(4):
        logits, labels, answers = arrays[f"logits{b}"], arrays[f"labels{b}"], arrays[f"gt{b}"].astype(int)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)  # over all entities
        feedback = {1: LIKE, 0: DISLIKE, -1: UNSAID}
        targets = []
        for label, answer in zip(labels, answers, strict=True):
            targets.append(Target(f"d{instance}", 1, int(label), feedback[int(answer)], False))
            instance += 1
        order = np.sort(items)
        rows += predictions.rank_targets("ecr", targets, shares[:, order], order, ties="first")
    return rows


def test_published_evaluator(golden):
    with np.load(golden / "model.npz") as file:
        arrays = {key.removeprefix("eval/"): file[key] for key in file.files if key.startswith("eval/")}
    rows = published(arrays)
    # its items are shuffled, ours sorted; where no items tie, the best are the same
    best = np.concatenate([arrays[f"ranks{b}"] for b in range(4)])
    np.testing.assert_array_equal([r.top for r in rows], best)
    actual = measures.published_measures(rows, auc_batch=8)  # the first three batches are full
    assert actual["all", "published/recall@1"].n == arrays["out/count"] == 29
    assert actual["all", "published/recall_true@1"].n == arrays["out/count_true"] == 12
    compared = set()
    for (stratum, name), measure in actual.items():
        theirs = float(arrays[f"out/{name.removeprefix('published/')}"])
        # counts are exact; what the original adds up in float32 is so to its precision
        assert stratum == "all" and measure.value == pytest.approx(theirs, rel=3e-7), name
        compared.add(name.removeprefix("published/"))
    assert compared == {key[4:] for key in arrays if key.startswith("out/")} - {"count", "count_true", "auc_batches"}
    score = np.split(np.array([r.score for r in rows]), [8, 16, 24])
    aucs = [metrics.auc_batch(score[b], arrays[f"gt{b}"]) for b in range(4)]
    np.testing.assert_allclose(aucs, [arrays[f"auc_of_batch{b}"] for b in range(4)], rtol=1e-12)
    assert sum(np.isfinite(arrays[f"auc_of_batch{b}"]) for b in range(4)) == arrays["out/auc_batches"] == 3
