"""When a run is measured, how often, and what may be missing; what ranks is a stand-in (the real one: tests/stages)."""

from __future__ import annotations

import dataclasses
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Split
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.evaluation import predictions, run
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.features.examples import recommended
from ecr_jax.files import read_jsonl_rows
from ecr_jax.runs.context import ExperimentContext
from tests import tiny


def trained(config, stage):
    """What a stage leaves that is trained to its end, as far as the evaluation looks at it."""
    folder = config.stage_folder(stage)
    folder.mkdir(parents=True)
    (folder / "params.safetensors").write_bytes(stage.encode())
    (folder / "metrics.jsonl").write_text('{"step": 1, "split": "valid", "loss": 1.0}\n')
    (folder / "cost.json").write_text('{"seconds": 3.0, "peak_memory_mb": 2048}')
    (folder / "summary.json").write_text("{}")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    made = dataclasses.replace(
        configs.load("demo"), name="tiny", corpus=tiny.write_corpus(folder / "data"), prepared=folder / "prepared",
        evaluation=configs.EvaluationConfig(resamples=10),
    )  # fmt: skip
    prepare(made, console=Console(quiet=True))
    return made


@pytest.fixture
def measured(prepared, tmp_path, monkeypatch):
    """Evaluates a run whose replies' stages are missing, by a fixed ranking, and gives what was printed."""
    config = dataclasses.replace(prepared, runs=tmp_path)
    for stage in ("emotion", "recommendation"):
        trained(config, stage)
    figures = dict.fromkeys(("recall@2", "macro_f1", "accuracy", "majority_recall@2"), 0.5)
    figures |= {"utterances": 9, "confusion": np.eye(9, dtype=int).tolist()}
    classifier = {split.value: figures for split in Split}
    (config.stage_folder("emotion") / "classifier.json").write_text(json.dumps(classifier))
    experiment = ExperimentContext(config)
    experiment.emotions = {}
    calls = []

    def ranked(agent, split, by):
        calls.append((split, by.name))
        spoken, items = experiment.dialogues(split), np.asarray(experiment.prepared.graph.items)
        targets = [target for row in by.rows(spoken) for target in run._targets(spoken, row)]
        shares = np.tile(np.linspace(0.3, 0.0, len(items)), (len(targets), 1))
        return predictions.predictions("ecr", targets, shares, items, ties=by.ties)

    monkeypatch.setattr(run, "ranked", ranked)

    def evaluate(split=Split.TEST, changed=None, **options):
        console = Console(file=io.StringIO(), width=300)
        experiment.config = changed or config
        agent = SimpleNamespace(experiment=experiment, config=experiment.config)
        report = run.evaluate(experiment.config, split=split, console=console, agent=agent, **options)
        return report, console.file.getvalue()

    return SimpleNamespace(evaluate=evaluate, calls=calls, config=config, experiment=experiment)


def test_a_split_is_read_once(measured):
    folder = measured.config.stage_folder("test")
    first, said = measured.evaluate()
    assert "test was read once by this run, with 1 set of parameters" in said
    assert {path.name for path in folder.iterdir()} == {
        "predictions.jsonl", "catalogue.json", "reads.jsonl", "report.html", "report.json"
    }  # fmt: skip
    before = {path: path.read_bytes() for path in folder.iterdir()}
    again, said = measured.evaluate()
    assert "is complete for these parameters and settings; --force measures it again" in said
    assert "test was read once" in said
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert (again.rows, again.provenance) == (first.rows, json.loads(json.dumps(first.provenance)))
    assert measured.calls == [(Split.TEST, "default")]


def test_every_reading_is_counted(measured):
    folder = measured.config.stage_folder("test")
    first, _ = measured.evaluate()
    forced, said = measured.evaluate(force=True)
    assert forced.rows == first.rows
    assert "test was read 2 times by this run, with 1 set of parameters" in said
    fewer = dataclasses.replace(measured.config, evaluation=configs.EvaluationConfig(resamples=5))
    assert "3 times" in measured.evaluate(changed=fewer)[1]  # other settings are another report
    (measured.config.stage_folder("recommendation") / "params.safetensors").write_bytes(b"trained again")
    report, said = measured.evaluate(changed=fewer)
    assert "test was read 4 times by this run, with 2 sets of parameters" in said
    assert report.provenance["readings"] in (folder / "report.html").read_text()
    reads = read_jsonl_rows(folder / "reads.jsonl")
    assert len(reads) == 4 and reads[0].keys() == {"when", "protocol", "parameters", "commit", "command"}
    # another protocol is another report, and another reading
    _, said = measured.evaluate(changed=fewer, protocol="published")
    assert "test was read 5 times" in said and "is complete" in measured.evaluate(changed=fewer)[1]


def test_published_protocol_has_a_folder_and_names_of_its_own(measured):
    report, _ = measured.evaluate(Split.VALID, protocol="published")
    folder = measured.config.stage_folder("valid") / "published"
    assert {path.name for path in folder.iterdir()} == {
        "predictions.jsonl", "catalogue.json", "report.html", "report.json"
    }  # fmt: skip
    assert all(row.metric.startswith("published/") and row.stratum == "all" for row in report.rows)
    assert Catalogue.load(folder).protocol == "published"
    assert set(predictions.read(folder / "predictions.jsonl")) == {"ecr", "popularity", "copy-last", "co-occurrence"}
    ours, _ = measured.evaluate(Split.VALID)
    assert not any(row.metric.startswith("published/") for row in ours.rows)


def test_catalogue_counts_training_targets(measured):
    measured.evaluate()
    found = Catalogue.load(measured.config.stage_folder("test"))
    assert found.items.tolist() == measured.experiment.prepared.graph.items.tolist()
    assert dict(zip(found.items.tolist(), found.counts.tolist(), strict=True)) == {
        item: recommended(measured.experiment.dialogues(Split.TRAIN))[item] for item in found.items.tolist()
    }


def test_what_replies_need_may_be_missing(measured):
    report, said = measured.evaluate()
    why = "not trained: conversation, response"
    assert report.provenance["left out"] == {"text metrics of u^r": why, "sample replies": why}
    assert f"left out: sample replies ({why})" in said
    assert report.value("ecr", "recall@10") is not None and report.value("classifier", "emotion_accuracy").value == 0.5
    assert set(report.provenance["stages"]) == {"prepare", "emotion", "recommendation"}
    assert tuple(report.confusion) == EMOTIONS
    none = dataclasses.replace(measured.config, evaluation=configs.EvaluationConfig(resamples=10, replies=0, shown=0))
    assert "left out" not in measured.evaluate(changed=none)[0].provenance  # nobody asked for replies


def test_what_ranking_needs_may_not(measured):
    (measured.config.stage_folder("recommendation") / "summary.json").unlink()
    with pytest.raises(ValueError, match="recommendation is not trained to its end; run `ecr train recommendation`"):
        measured.evaluate()
    assert not measured.calls and not measured.config.stage_folder("test").exists()
