"""The report: numbers against the metrics themselves, pairing, pages that stand alone."""

import json

import numpy as np
import pytest
from rich.console import Console

from ecr_jax.corpus.schema import Feedback
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
    assert {r.metric for r in built.rows if r.metric.startswith("auc")} == {"auc_batch", "auc_pooled", "auc_dialogue"}
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
    assert report.read_rows(tmp_path / "report.json") == list(built.rows)
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page and "Heat (1995)" in page and "bleu@1" in page and "abc" in page
    assert "I &lt;b&gt;love&lt;/b&gt; heists" in page
    assert "src=" not in page and "href=\"http" not in page
    again = report.html(built)
    assert again == page


def test_printed(built):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    report.print_tables(built, console)
    text = console.export_text()
    console.file.close()
    assert "all targets, n = 120" in text and "ecr - popularity" in text and "bleu@1" in text
