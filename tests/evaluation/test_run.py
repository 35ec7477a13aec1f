"""When a run is measured, how often, and what may be missing. The recommender is a stand-in (see tests/stages)."""

from __future__ import annotations

import dataclasses
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.config import registry
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Split
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.evaluation import predictions, rankings, run
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.protocol import PROTOCOLS
from ecr_jax.features.dialogues import recommendation_counts
from ecr_jax.files import read_jsonl_rows
from ecr_jax.runs.context import InMemoryEmotionLabels, open_experiment
from tests import tiny


def write_trained(config, name):
    """Writes the files of a complete stage, as far as the evaluation reads them."""
    spec = registry.find(name)
    folder = config.stage_folder(spec)
    folder.mkdir(parents=True)
    for file in spec.writes:
        (folder / file).write_bytes(name.encode())
    (folder / "metrics.jsonl").write_text('{"step": 1, "split": "valid", "loss": 1.0}\n')
    (folder / "cost.json").write_text('{"seconds": 3.0, "peak_memory_mb": 2048}')


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = dataclasses.replace(
        configs.load("demo"), name="tiny", corpus=tiny.write_corpus(folder / "data"), prepared=folder / "prepared",
        encoder=configs.EncoderConfig(str(tiny.write_bert(folder / "bert", tiny.WORDS)), entity_tokens=16),
        evaluation=configs.EvaluationConfig(resamples=10),
    )  # fmt: skip
    prepare(config, console=Console(quiet=True))
    return config


@pytest.fixture
def measured(prepared, tmp_path, monkeypatch):
    """Evaluates a run without the stages of replies, by a fixed ranking, and returns what was printed."""
    config = dataclasses.replace(prepared, runs=tmp_path)
    for stage in ("emotion", "recommendation"):
        write_trained(config, stage)
    figures = dict.fromkeys(("recall@2", "macro_f1", "accuracy", "majority_recall@2"), 0.5)
    figures |= {"utterances": 9, "confusion": np.eye(9, dtype=int).tolist()}
    classifier = {split.value: figures for split in Split}
    (config.stage_folder("emotion") / "classifier.json").write_text(json.dumps(classifier))
    experiment = dataclasses.replace(open_experiment(config), emotions=InMemoryEmotionLabels({}))
    calls = []

    def rank_stage(experiment, stage, split, protocol=PROTOCOLS["default"]):
        calls.append((stage.name, split, protocol.name))
        targets = rankings.RankedTargets.of(experiment, split, protocol)
        scores = np.tile(np.linspace(0.3, 0.0, len(targets.items)), (len(targets.instances), 1))
        name = "ecr" if stage.name == "recommendation" else stage.name
        return targets.predictions(name, [(np.arange(len(scores)), scores)])

    monkeypatch.setattr(rankings, "rank_stage", rank_stage)

    def evaluate(split=Split.TEST, changed=None, **options):
        console = Console(file=io.StringIO(), width=300)
        context = experiment.with_config(changed or config)
        report = run.evaluate(context.config, split=split, console=console, experiment=context, **options)
        return report, console.file.getvalue()

    return SimpleNamespace(evaluate=evaluate, calls=calls, config=config, experiment=experiment)


def test_a_split_is_read_once(measured):
    folder = measured.config.folder / "test"
    first, text = measured.evaluate()
    assert "test was read once by this run, with 1 set of parameters" in text
    assert {path.name for path in folder.iterdir()} == {
        "predictions.jsonl", "catalogue.json", "reads.jsonl", "report.html", "report.json"
    }  # fmt: skip
    before = {path: path.read_bytes() for path in folder.iterdir()}
    again, text = measured.evaluate()
    assert "is complete for these parameters and settings; --force measures it again" in text
    assert "test was read once" in text
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert (again.rows, again.provenance) == (first.rows, json.loads(json.dumps(first.provenance)))
    assert measured.calls == [("recommendation", Split.TEST, "default")]


def test_every_reading_is_counted(measured):
    folder = measured.config.folder / "test"
    first, _ = measured.evaluate()
    forced, text = measured.evaluate(force=True)
    assert forced.rows == first.rows
    assert "test was read 2 times by this run, with 1 set of parameters" in text
    fewer = dataclasses.replace(measured.config, evaluation=configs.EvaluationConfig(resamples=5))
    assert "3 times" in measured.evaluate(changed=fewer)[1]  # other settings are another report
    (measured.config.stage_folder("recommendation") / "params.safetensors").write_bytes(b"trained again")
    report, text = measured.evaluate(changed=fewer)
    assert "test was read 4 times by this run, with 2 sets of parameters" in text
    assert report.provenance["readings"] in (folder / "report.html").read_text()
    reads = read_jsonl_rows(folder / "reads.jsonl")
    assert len(reads) == 4 and reads[0].keys() == {"when", "protocol", "parameters", "commit", "command"}
    # another protocol is another report, and another reading
    _, text = measured.evaluate(changed=fewer, protocol="published")
    assert "test was read 5 times" in text and "is complete" in measured.evaluate(changed=fewer)[1]


def test_published_protocol_has_a_folder_and_names_of_its_own(measured):
    report, _ = measured.evaluate(Split.VALID, protocol="published")
    folder = measured.config.folder / "valid" / "published"
    assert {path.name for path in folder.iterdir()} == {
        "predictions.jsonl", "catalogue.json", "report.html", "report.json"
    }  # fmt: skip
    assert all(row.metric.startswith("published/") and row.stratum == "all" for row in report.rows)
    assert Catalogue.load(folder).protocol == "published"
    assert set(predictions.read(folder / "predictions.jsonl")) == {
        "ecr", "popularity", "copy-last", "co-occurrence", "nearest contexts", "hybrid"
    }  # fmt: skip
    ours, _ = measured.evaluate(Split.VALID)
    assert not any(row.metric.startswith("published/") for row in ours.rows)


def test_catalogue_counts_training_targets(measured):
    measured.evaluate()
    catalogue = Catalogue.load(measured.config.folder / "test")
    assert catalogue.items.tolist() == measured.experiment.corpus.graph.items.tolist()
    counts = recommendation_counts(measured.experiment.dialogues(Split.TRAIN))
    assert catalogue.counts.tolist() == [counts[item] for item in catalogue.items.tolist()]


def test_every_complete_baseline_is_in_the_report(measured):
    """Baselines come from the registry; one that is not trained to its end is left out."""
    write_trained(measured.config, "kbrd")
    write_trained(measured.config, "ease")
    (measured.config.stage_folder("ease") / "summary.json").unlink()
    report, _ = measured.evaluate()
    assert [name for name, _, _ in measured.calls] == ["recommendation", "kbrd"]
    assert report.value("kbrd", "recall@10") is not None and report.value("ecr - kbrd", "recall@10") is not None
    assert report.value("ease", "recall@10") is None
    assert set(report.provenance["fingerprint"]["parameters"]) == {"emotion", "recommendation", "baselines/kbrd"}


def test_settings_of_rankings_are_recorded(measured):
    change = configs.EvaluationConfig(resamples=10, top_items=50, tie_break=0.5)
    report, _ = measured.evaluate(changed=dataclasses.replace(measured.config, evaluation=change))
    assert report.provenance["fingerprint"]["evaluation"]["tie_break"] == 0.5
    rows = predictions.read(measured.config.folder / "test" / "predictions.jsonl")
    assert {len(row.top) for row in rows["ecr"]} == {min(50, len(measured.experiment.corpus.graph.items))}


def test_stages_of_replies_may_be_missing(measured):
    report, text = measured.evaluate()
    why = "not trained: conversation, response"
    parts = ("text metrics of u^r", "measures of whole replies", "sample replies")
    assert report.provenance["left out"] == dict.fromkeys(parts, why)
    assert f"left out: sample replies ({why})" in text
    assert report.value("ecr", "recall@10") is not None and report.value("classifier", "emotion_accuracy").value == 0.5
    assert set(report.provenance["stages"]) == {"prepare", "emotion", "recommendation"}
    assert tuple(report.confusion) == EMOTIONS
    none = dataclasses.replace(
        measured.config, evaluation=configs.EvaluationConfig(resamples=10, replies=0, whole_replies=0, samples=0)
    )
    assert "left out" not in measured.evaluate(changed=none)[0].provenance


def test_stages_of_rankings_may_not(measured):
    (measured.config.stage_folder("recommendation") / "summary.json").unlink()
    with pytest.raises(ValueError, match="recommendation is not trained to its end; run `ecr train recommendation`"):
        measured.evaluate()
    assert not measured.calls and not (measured.config.folder / "test").exists()
