"""The report: numbers against the metrics themselves, pairing, pages that stand alone."""

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

from ecr_jax.data.schema import Feedback
from ecr_jax.evaluation import report, terminal
from ecr_jax.evaluation.html_report import html_page
from ecr_jax.evaluation.predictions import Prediction
from ecr_jax.evaluation.report import SampleReply
from ecr_jax.evaluation.rows import ReportRow

FEEDBACK = [Feedback.LIKE, Feedback.DISLIKE, Feedback.UNSAID]


def predicted(model, seed, better=0.0, dialogues=40):
    rng, shared = np.random.default_rng(seed), np.random.default_rng(9)
    rows = []
    for d in range(dialogues):
        for turn in range(1, 6, 2):
            feedback = FEEDBACK[shared.choice(3, p=[0.6, 0.2, 0.2])]
            rank = float(rng.integers(1, 80)) * (1 - better)
            rows.append(
                Prediction(
                    model, f"c{d}", turn, 7, feedback, bool(shared.random() < 0.3), max(rank, 1.0), 1 / (1 + rank)
                )
            )
    return rows


@pytest.fixture(scope="module")
def built():
    predictions = {"popularity": predicted("popularity", 0), "ecr": predicted("ecr", 1, better=0.8)[::-1]}
    extra = [ReportRow("ecr", "films", "test", "all", "bleu@1", 0.25, None, None, 3)]
    curves = {"fusion": [{"step": s, "split": split, "loss": 3 / s, "ids": "a"} for s in (1, 2) for split in "ab"]}
    reply = SampleReply((("seeker", "I <b>love</b> heists"),), ("Heat (1995)",), "Try Heat (1995)", "So tense!", "hm")
    return report.build(
        predictions, "films", "test", resamples=200, extra=extra, curves=curves, replies=[reply],
        provenance={"commit": "abc", "times": {"fusion": 12.5}},
    )  # fmt: skip


def test_values_by_hand(built):
    rows = predicted("ecr", 1, better=0.8)
    for stratum, where in {
        "all": lambda r: True,
        "new": lambda r: not r.repeated,
        "repeated": lambda r: r.repeated,
        "like": lambda r: r.feedback == Feedback.LIKE,
        "dislike": lambda r: r.feedback == Feedback.DISLIKE,
    }.items():
        chosen = [r for r in rows if where(r)]
        actual = built.value("ecr", "recall@10", stratum)
        assert actual.n == len(chosen)
        assert actual.value == pytest.approx(np.mean([r.rank <= 10 for r in chosen]))
        assert actual.low < actual.value < actual.high
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
    same = report.build({"ecr": predicted("ecr", 1), "twin": predicted("twin", 1)}, "films", "test", resamples=50)
    for row in same.rows:
        if row.model == "ecr - twin":
            assert (row.value, row.low, row.high) == (0, 0, 0)


def test_same_seed_same_report():
    predictions = {"ecr": predicted("ecr", 1)}
    assert report.build(predictions, "a", "b", resamples=30) == report.build(predictions, "a", "b", resamples=30)


def test_undefined_numbers_have_no_row():
    rows = [Prediction("ecr", f"c{i}", 1, 1, Feedback.LIKE, False, 1.0, 0.5) for i in range(3)]
    metrics = {row.metric for row in report.build({"ecr": rows}, "a", "b", resamples=10).rows}
    assert "recall_true@1" in metrics and not any(m.startswith(("auc", "dislike")) for m in metrics)
    assert report.build({}, "a", "b").rows == ()


def test_other_targets_are_refused():
    with pytest.raises(ValueError, match=r"'other' \(117 rows\) and 'ecr' \(120 rows\).*3 are in one only"):
        report.build({"ecr": predicted("ecr", 0), "other": predicted("other", 0, dialogues=39)}, "a", "b")


def test_written(built, tmp_path):
    report.write(built, tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    assert set(written["rows"][0]) == {
        "model", "corpus", "split", "stratum", "metric", "value", "low", "high", "n"
    }  # fmt: skip
    actual = report.read(tmp_path / "report.json")
    assert (actual.rows, actual.replies, actual.provenance) == (built.rows, built.replies, built.provenance)
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page and "Heat (1995)" in page and "bleu@1" in page and "abc" in page
    assert "I &lt;b&gt;love&lt;/b&gt; heists" in page
    assert "src=" not in page and 'href="http' not in page
    again = html_page(built)
    assert again == page


def printed(function, *arguments, width=80):
    console = Console(width=width, file=io.StringIO())
    function(*arguments, console)
    return console.file.getvalue()


def test_everything_is_printed_within_80_columns(built):
    text = printed(terminal.print_tables, built)
    assert "all targets, n = 120" in text and "ecr - popularity" in text and "bleu@1" in text
    assert "recall@10 by kind of target" in text and "hit@10" in text
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text


def test_summary_is_the_main_table(built):
    text = printed(terminal.print_summary, built)
    assert text.count("all targets, n = 120") == 1 and "R@1 " in text and "NDCG@10" in text and "AUC" in text
    value = built.value("ecr", "recall@10")
    short = [f"{number:.3f}".removeprefix("0") for number in (value.value, value.low, value.high)]
    assert short[0] in text and f"{short[1]}–{short[2]}" in text
    assert " - popularity" not in text and "new targets" not in text


def test_default_output_has_the_differences_in_short(built):
    text = printed(terminal.print_report, built)
    difference = built.value("ecr - popularity", "recall@10")
    assert f"+{difference.value:.3f}*".replace("0.", ".") in text and "excludes 0" in text
    assert "new targets" not in text and "bleu" not in text
    tested = dataclasses.replace(difference, p=0.2, p_holm=0.4)
    rows = [tested if row is difference else row for row in built.rows]
    text = printed(terminal.print_report, report.Report(tuple(rows)))
    assert "p 0.400" in text and f"+{difference.value:.3f} ".replace("0.", ".") in text and "* p < 0.05" in text


def test_long_names_are_wrapped_and_never_cut():
    name = "feedback_cross_entropy + 0.5*pairwise_dialogue"
    rows = [ReportRow(name, "a", "b", "all", f"recall@{k}", 0.125, 0.1, 0.15, 8) for k in (1, 10, 50)]
    rows += [ReportRow(name, "a", "b", "all", metric, 0.125, 0.1, 0.15, 8) for metric in ("ndcg@10", "auc_pooled")]
    text = printed(terminal.print_summary, report.Report(tuple(rows)))
    pieces = terminal.wrap_name(name, 16).split("\n")
    assert all(len(piece) <= 16 for piece in pieces) and "0.5*pairwise_" in pieces
    assert "".join(pieces).replace(" ", "") == name.replace(" ", "")
    assert all(piece in text for piece in pieces) and "…" not in text and max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("heading", "short"),
    [
        ("recall@10", "R@10"),
        ("recall_true@10", "RT@10"),
        ("ndcg@10", "NDCG@10"),
        ("auc_pooled", "AUC"),
        ("head, n = 7", "head\nn = 7"),
        ("hit@10", "hit@10"),
    ],
)
def test_short_headings(heading, short):
    assert terminal.short_name(heading) == short


def test_tables_show_strata_and_what_is_beside_the_ranks():
    """Of every table the head of its columns, and its numbers where they are measured."""
    rows = [
        ReportRow("ecr", "films", "test", "cold", "recall@10", 0.125, 0.1, 0.15, 8),
        ReportRow("ecr", "films", "test", "all", "coverage@10", 0.5, 0.4, 0.6, 50),
        ReportRow("ecr", "films", "test", "all", "popularity_lift@10", 0.25, None, None, 50),
        ReportRow("ecr", "films", "test", "all", "published/auc", 0.541, 0.5, 0.58, 40),
        ReportRow("ecr", "films", "test", "all", "published/recall@10", 0.22, 0.2, 0.24, 60, seeds=(0.21, 0.23)),
        ReportRow(
            "ecr - unicrs", "films", "test", "all", "published/auc", 0.03, -0.01, 0.07, 40, p=0.01, p_holm=0.0004
        ),
        ReportRow("ecr - unicrs", "films", "test", "head", "mrr@10", 0.02, 0.01, 0.03, 40, p=0.01, p_holm=0.02),
        ReportRow("ecr", "films", "test", "head", "mrr@10", 0.02, 0.01, 0.03, 40),
    ]
    page = html_page(report.Report(tuple(rows)))
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


def test_reports_without_optional_fields_are_read(tmp_path):
    row = {"model": "ecr", "corpus": "a", "split": "test", "stratum": "all", "metric": "recall@10", "value": 0.2,
           "low": 0.1, "high": 0.3, "n": 9}  # fmt: skip
    content = {"rows": [row], "provenance": {"commit": "abc"}, "replies": [], "confusion": {}}
    (tmp_path / "report.json").write_text(json.dumps(content))
    (read,) = report.read(tmp_path / "report.json").rows
    assert read == ReportRow(**row) and read.to_json() == row
