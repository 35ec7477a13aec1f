"""`ecr compare`: what is named is result, what differs is refused, what is written can be read."""

import dataclasses
import io
import shutil

import numpy as np
import pytest
from rich.console import Console

from ecr_jax.data.schema import Feedback, Split
from ecr_jax.evaluation import predictions, report, terminal
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.compare import Group, compare
from ecr_jax.evaluation.predictions import Prediction
from ecr_jax.evaluation.tables import in_tables

ITEMS = np.array([2, 3, 5, 7, 11])
CATALOGUE = Catalogue("films", "test", "default", ITEMS, np.array([6, 2, 2, 0, 0]))


def predicted(model, seed, better=0.0, dialogues=25):
    rng, shared = np.random.default_rng(seed), np.random.default_rng(9)
    rows = []
    for d in range(dialogues):
        for turn in (1, 3):
            feedback = [Feedback.LIKE, Feedback.DISLIKE][shared.choice(2, p=[0.6, 0.4])]
            rank = max(1.0, float(rng.integers(1, 80)) * (1 - better))
            target, top = int(ITEMS[shared.integers(5)]), tuple(rng.permutation(ITEMS).tolist())
            rows.append(Prediction(model, f"c{d}", turn, target, feedback, False, rank, 1 / (1 + rank), top))
    return rows


@pytest.fixture
def runs(tmp_path):
    """Three seeds of one model beside a baseline, and a run of another model."""
    for seed in range(3):
        folder = tmp_path / f"good-s{seed}" / "test"
        predictions.write(folder / "predictions.jsonl", predicted("ecr", seed, 0.9) + predicted("popularity", 7))
        CATALOGUE.save(folder)
    predictions.write(tmp_path / "bad" / "test" / "predictions.jsonl", predicted("unicrs", 5))
    CATALOGUE.save(tmp_path / "bad" / "test")
    return tmp_path


def run(folder, *groups, **options):
    console = Console(quiet=True)
    return compare(groups, split=Split.TEST, into=folder / "out", console=console, resamples=200, **options)


def test_seeds_are_one_group(runs):
    seeds = ",".join(f"{runs}/good-s{seed}" for seed in range(3))
    result = run(runs, seeds, f"{runs}/bad", f"pop={runs}/good-s0/test/predictions.jsonl:popularity")
    assert list(dict.fromkeys(row.model for row in result.rows)) == [
        "good-s* (3 runs)", "bad", "pop", "good-s* (3 runs) - bad", "good-s* (3 runs) - pop",
    ]  # fmt: skip
    values = [np.mean([r.rank <= 10 for r in predicted("ecr", seed, 0.9)]) for seed in range(3)]
    ours = result.value("good-s* (3 runs)", "recall@10")
    assert ours.seeds == pytest.approx(values) and ours.value == pytest.approx(np.mean(values))
    assert (ours.corpus, ours.split, ours.n) == ("films", "test", 50)
    difference = result.value("good-s* (3 runs) - bad", "recall@10")
    bad = np.mean([r.rank <= 10 for r in predicted("unicrs", 5)])
    assert difference.value == pytest.approx(np.mean(values) - bad)
    assert difference.low > 0 and difference.p == 1 / 201 and difference.p <= difference.p_holm <= 1
    assert result.value("bad", "recall@10", "cold").n and result.value("bad", "coverage@10").value == 1
    # the differences that the tables show are tested, and no others
    tested = {(row.stratum, row.metric) for row in result.rows if row.p is not None}
    measured = {(row.stratum, row.metric) for row in result.rows}
    assert tested == set(in_tables()) & measured
    assert result.provenance["tests"].startswith(f"{2 * len(tested)} paired randomisation tests, 200 permutations")
    assert report.read(runs / "out" / "report.json").rows == result.rows
    page = (runs / "out" / "report.html").read_text()
    assert "p 0." in page and "sd 0." in page and "good-s* (3 runs) - bad" in page


def test_family_and_pairs(runs):
    named = {"metrics": ["mrr@10", "recall@10"], "strata": ["all"], "every_pair": True}
    result = run(runs, *(f"{runs}/{name}" for name in ("good-s0", "good-s1", "bad")), **named)
    tests = [row for row in result.rows if row.p is not None]
    assert [(row.model, row.metric) for row in tests] == [
        (pair, metric)
        for pair in ("good-s0 - good-s1", "good-s0 - bad", "good-s1 - bad")
        for metric in ("recall@10", "mrr@10")
    ]
    assert max(row.p_holm for row in tests) <= 1 and min(row.p_holm for row in tests) == pytest.approx(6 / 201)
    console = Console(width=200, file=io.StringIO())
    terminal.print_tables(result, console)
    assert "mrr@10" in console.file.getvalue()  # it is in no table: listed apart
    with pytest.raises(ValueError, match="nothing measures the metric 'recal@10' here; choose from recall@1, "):
        run(runs, f"{runs}/bad", metrics=["recal@10"])


def test_without_a_catalogue_its_strata_are_left_out(runs):
    (runs / "bad" / "test" / "catalogue.json").unlink()
    result = run(runs, f"{runs}/good-s0", f"{runs}/bad")
    assert {"all", "new", "like", "dislike"} == {row.stratum for row in result.rows}
    assert not any(row.metric.startswith(("coverage", "popularity")) for row in result.rows)
    assert str(runs / "bad") in result.provenance["left out"]
    assert result.rows[0].corpus == "unknown"


def test_published_predictions_are_measured_as_published(runs):
    for name, seed in (("a", 0), ("b", 1)):
        folder = runs / name / "test" / "published"
        predictions.write(folder / "predictions.jsonl", predicted("ecr", seed) + predicted("popularity", 7))
        dataclasses.replace(CATALOGUE, protocol="published").save(folder)
    result = run(runs, f"{runs}/a/test/published", f"{runs}/b/test/published")
    assert {row.model for row in result.rows} == {"a", "b", "a - b"}
    assert all(row.metric.startswith("published/") for row in result.rows)
    assert result.value("a - b", "published/auc").p is not None
    with pytest.raises(ValueError, match="do not have the same protocol"):
        run(runs, f"{runs}/a/test/published", f"{runs}/bad")


def test_other_candidates_and_targets_are_refused(runs):
    dataclasses.replace(CATALOGUE, items=ITEMS + 1).save(runs / "bad" / "test")
    with pytest.raises(ValueError, match="do not have the same items"):
        run(runs, f"{runs}/good-s0", f"{runs}/bad")
    CATALOGUE.save(runs / "bad" / "test")
    predictions.write(runs / "bad" / "test" / "predictions.jsonl", predicted("unicrs", 5, dialogues=24))
    with pytest.raises(ValueError, match=r"'bad' \(48 rows\) and 'good-s0' \(50 rows\).*2 are in one only"):
        run(runs, f"{runs}/good-s0", f"{runs}/bad")
    other_feedback = [dataclasses.replace(row, repeated=True) for row in predicted("unicrs", 5)]
    predictions.write(runs / "bad" / "test" / "predictions.jsonl", other_feedback)
    with pytest.raises(ValueError, match="'bad' and 'good-s0' disagree on target .* of c0:1 .*repeated True"):
        run(runs, f"{runs}/good-s0", f"{runs}/bad")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "nothing to compare: name runs"),
        (["good-s0", "nowhere"], "nowhere has no predictions for the split 'test': evaluate the run first"),
        (["good-s0:kgsf"], "holds no model 'kgsf'; it holds ecr, popularity"),
        (["good-s0", "good-s0"], "'good-s0' cannot name a group here"),
        (["a - b=good-s0"], "'a - b' cannot name a group here"),
        (["good-s0,good-s0"], "names a run twice"),
    ],
)
def test_bad_groups(runs, monkeypatch, groups, message):
    monkeypatch.chdir(runs)
    with pytest.raises(ValueError, match=message):
        run(runs, *groups)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("bad", "bad"),
        ("bad:unicrs", "bad:unicrs"),
        ("bad/test/predictions.jsonl", "bad"),
        ("mine=bad", "mine"),
        ("good-s0,good-s2", "good-s* (2 runs)"),
        ("good-s0,bad", "good-s0+bad"),
    ],
)
def test_labels(runs, monkeypatch, text, label):
    monkeypatch.chdir(runs)
    assert Group.parse(text, Split.TEST).label == label


def test_a_folder_of_a_sweep_has_an_equals_sign_in_its_name(runs, monkeypatch, tmp_path):
    shutil.copytree(runs / "bad", tmp_path / "dropout=0.1-seed0")
    monkeypatch.chdir(tmp_path)
    assert Group.parse("dropout=0.1-seed0", Split.TEST).label == "dropout=0.1-seed0"
    assert Group.parse("mine=dropout=0.1-seed0", Split.TEST).label == "mine"
