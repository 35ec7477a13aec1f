"""The report: numbers against the metrics themselves, pairing, pages that stand alone."""

import json

import numpy as np
import pytest
from rich.console import Console

from ecr_jax.data.schema import Feedback
from ecr_jax.evaluation import report
from ecr_jax.evaluation.predictions import Prediction
from ecr_jax.evaluation.report import Reply, Row

FEEDBACK = [Feedback.LIKE, Feedback.DISLIKE, Feedback.UNSAID]


def made(model, seed, better=0.0, dialogues=40):
    rng, same = np.random.default_rng(seed), np.random.default_rng(9)
    rows = []
    for d in range(dialogues):
        for turn in range(1, 6, 2):
            feedback = FEEDBACK[same.choice(3, p=[0.6, 0.2, 0.2])]
            rank = float(rng.integers(1, 80)) * (1 - better)
            rows.append(
                Prediction(model, f"c{d}", turn, 7, feedback, bool(same.random() < 0.3), max(rank, 1.0), 1 / (1 + rank))
            )
    return rows


@pytest.fixture(scope="module")
def built():
    predictions = {"popularity": made("popularity", 0), "ecr": made("ecr", 1, better=0.8)[::-1]}
    extra = [Row("ecr", "films", "test", "all", "bleu@1", 0.25, None, None, 3)]
    curves = {"fusion": [{"step": s, "split": split, "loss": 3 / s, "ids": "a"} for s in (1, 2) for split in "ab"]}
    reply = Reply((("seeker", "I <b>love</b> heists"),), ("Heat (1995)",), "Try Heat (1995)", "So tense!", "hm")
    return report.build(
        predictions, "films", "test", resamples=200, extra=extra, curves=curves, replies=[reply],
        provenance={"commit": "abc", "times": {"fusion": 12.5}},
    )  # fmt: skip


def test_values_by_hand(built):
    rows = made("ecr", 1, better=0.8)
    for stratum, where in {
        "all": lambda r: True,
        "new": lambda r: not r.repeated,
        "repeated": lambda r: r.repeated,
        "like": lambda r: r.feedback == Feedback.LIKE,
        "dislike": lambda r: r.feedback == Feedback.DISLIKE,
    }.items():
        chosen = [r for r in rows if where(r)]
        found = built.value("ecr", "recall@10", stratum)
        assert found.n == len(chosen)
        assert found.value == pytest.approx(np.mean([r.rank <= 10 for r in chosen]))
        assert found.low < found.value < found.high
    assert built.value("ecr", "recall@10", "like").value == built.value("ecr", "recall_true@10").value
    assert built.value("ecr", "recall@10", "dislike").value == built.value("ecr", "dislike@10").value
    aucs = {r.metric for r in built.rows if r.metric.startswith("auc")}
    assert aucs == {"auc_batch", "auc_pooled", "auc_dialogue"}
    assert built.value("ecr", "auc_pooled", "like") is None


def test_differences_are_paired(built):
    difference = built.value("ecr - popularity", "recall@10")
    ours, theirs = built.value("ecr", "recall@10"), built.value("popularity", "recall@10")
    assert difference.value == pytest.approx(ours.value - theirs.value)
    assert 0 < difference.low < difference.value < difference.high
    same = report.build({"ecr": made("ecr", 1), "twin": made("twin", 1)}, "films", "test", resamples=50)
    for row in same.rows:
        if row.model == "ecr - twin":
            assert (row.value, row.low, row.high) == (0, 0, 0)


def test_same_seed_same_report():
    predictions = {"ecr": made("ecr", 1)}
    assert report.build(predictions, "a", "b", resamples=30) == report.build(predictions, "a", "b", resamples=30)


def test_undefined_numbers_have_no_row():
    rows = [Prediction("ecr", f"c{i}", 1, 1, Feedback.LIKE, False, 1.0, 0.5) for i in range(3)]
    metrics = {row.metric for row in report.build({"ecr": rows}, "a", "b", resamples=10).rows}
    assert "recall_true@1" in metrics and not any(m.startswith(("auc", "dislike")) for m in metrics)
    assert report.build({}, "a", "b").rows == ()


def test_other_targets_are_refused():
    with pytest.raises(ValueError, match=r"'other' \(117 rows\) and 'ecr' \(120 rows\).*3 are in one only"):
        report.build({"ecr": made("ecr", 0), "other": made("other", 0, dialogues=39)}, "a", "b")


def test_written(built, tmp_path):
    report.write(built, tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    assert set(written["rows"][0]) == {
        "model", "corpus", "split", "stratum", "metric", "value", "low", "high", "n"
    }  # fmt: skip
    found = report.read(tmp_path / "report.json")
    assert (found.rows, found.replies, found.provenance) == (built.rows, built.replies, built.provenance)
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page and "Heat (1995)" in page and "bleu@1" in page and "abc" in page
    assert "I &lt;b&gt;love&lt;/b&gt; heists" in page
    assert "src=" not in page and 'href="http' not in page
    again = report.html(built)
    assert again == page


def test_printed(built):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    report.print_tables(built, console)
    text = console.export_text()
    console.file.close()
    assert "all targets, n = 120" in text and "ecr - popularity" in text and "bleu@1" in text
    assert "recall@10 by kind of target" in text and "hit@10" in text


def test_tables_show_strata_and_what_is_beside_the_ranks():
    """Of every table the head of its columns, and its numbers where they are measured."""
    rows = [
        Row("ecr", "films", "test", "cold", "recall@10", 0.125, 0.1, 0.15, 8),
        Row("ecr", "films", "test", "all", "coverage@10", 0.5, 0.4, 0.6, 50),
        Row("ecr", "films", "test", "all", "popularity_lift@10", 0.25, None, None, 50),
        Row("ecr", "films", "test", "all", "published/auc", 0.541, 0.5, 0.58, 40),
        Row("ecr", "films", "test", "all", "published/recall@10", 0.22, 0.2, 0.24, 60, seeds=(0.21, 0.23)),
        Row("ecr - unicrs", "films", "test", "all", "published/auc", 0.03, -0.01, 0.07, 40, p=0.01, p_holm=0.0004),
        Row("ecr - unicrs", "films", "test", "head", "mrr@10", 0.02, 0.01, 0.03, 40, p=0.01, p_holm=0.02),
        Row("ecr", "films", "test", "head", "mrr@10", 0.02, 0.01, 0.03, 40),
    ]
    page = report.html(report.Report(tuple(rows)))
    for text in (
        "<caption>recall@10 by kind of target</caption>", "<th>cold, n = 8</th>", "0.125<small>[0.100, 0.150]</small>",
        "<caption>all targets, beside their ranks</caption>", "<td>+0.250</td>",
        "<caption>published protocol, n = 60</caption>", "<small>sd 0.014, 2 runs</small>",
        "<caption>published protocol, n = 60: paired differences</caption>",
        "<td>+0.030<small>[-0.010, +0.070]</small><small>p 4e-04</small></td>",
    ):  # fmt: skip
        assert text in page, text
    # a number that nobody tested and no table shows is in report.json only; one that was tested is listed
    assert page.count("mrr@10") == 1 and "p 0.020" in page


def test_reports_of_before_are_read(tmp_path):
    row = {"model": "ecr", "corpus": "a", "split": "test", "stratum": "all", "metric": "recall@10", "value": 0.2,
           "low": 0.1, "high": 0.3, "n": 9}  # fmt: skip
    kept = {"rows": [row], "provenance": {"commit": "abc"}, "replies": [], "confusion": {}}
    (tmp_path / "report.json").write_text(json.dumps(kept))
    (found,) = report.read(tmp_path / "report.json").rows
    assert found == Row(**row) and found.plain() == row
