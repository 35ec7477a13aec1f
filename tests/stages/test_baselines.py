"""Every baseline through the loop: what it writes, what the evaluation finds, that it learns the built-in corpus."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax import metrics
from ecr_jax.config import CorpusConfig, OptimConfig, TrainConfig, registry
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Split
from ecr_jax.evaluation import provenance
from ecr_jax.evaluation.rankings import rank_stage
from ecr_jax.features.batches import Batches
from ecr_jax.features.dialogues import recommendation_counts
from ecr_jax.features.instances import recommendation_instances
from ecr_jax.files import read_jsonl_rows
from ecr_jax.runs.context import InMemoryEmotionLabels, open_experiment
from ecr_jax.stages import baselines, train
from tests.recording import recording

pytestmark = pytest.mark.slow

BASELINES = tuple(spec.name for spec in registry.baselines())


def with_training(config, train):
    """The config with the same training for every baseline that is trained by gradients."""
    for name in BASELINES:
        if name != "ease":
            config = configs.replace(config, f"baselines.{name}.train", train)
    return configs.replace(config, "baselines.kgsf.pretraining", dataclasses.replace(train, epochs=None, steps=1))


@pytest.fixture(scope="module")
def run(prepared_config, reads):
    """The tiny config with the emotion stage and all baselines trained, two steps each."""
    config = with_training(prepared_config, TrainConfig(steps=2, batch_size=8))
    config = configs.replace(config, "baselines.language_model.layers", 1)  # the tiny model has no more
    for stage in ("emotion", *BASELINES):
        experiment = open_experiment(recording(config, reads.setdefault(stage, set())))
        train(config, stage, experiment=experiment)
    return config


def test_baselines_read_the_fields_that_they_declare(run, reads, undeclared):
    assert {stage: undeclared(stage, paths) for stage, paths in reads.items()} == {stage: set() for stage in reads}


@pytest.mark.parametrize("name", BASELINES)
def test_each_baseline_writes_its_run(run, name):
    folder = run.stage_folder(name)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["best"]["metrics"].keys() >= {"recall@1", "recall@10", "recall@50"}
    assert json.loads((folder / "config.json").read_text())["baselines"].keys() == {name}
    assert (folder / "pretraining" / "summary.json").is_file() == (name == "kgsf")
    if name == "ease":
        rows = read_jsonl_rows(folder / "metrics.jsonl")
        assert [row["strength"] for row in rows] == list(run.baselines.ease.strengths)
        assert summary["best"]["value"] == max(row["recall@10"] for row in rows)


def test_done_is_not_done_again(run, contents):
    before = contents(run.stage_folder("kgsf"))
    train(run, "kgsf")
    after = contents(run.stage_folder("kgsf"))
    assert {path.name for path in after if after[path] != before.get(path)} <= {"cost.json"}


@pytest.fixture(scope="module")
def predictions(run):
    """A function from a split to the prediction rows of every baseline."""
    experiment = open_experiment(run)
    return lambda split: {name: rank_stage(experiment, registry.find(name), split) for name in BASELINES}


def test_the_evaluation_finds_them(run, predictions):
    trained = [spec.name for spec in provenance.complete_stages(run) if spec.kind == "baseline"]
    assert tuple(trained) == BASELINES
    dialogues = open_experiment(run).dialogues(Split.TEST)
    expected = [
        (dialogues[instance.dialogue].id, instance.turn, item)
        for instance in recommendation_instances(dialogues)
        for item, _, _ in instance.targets
    ]
    for name, rows in predictions(Split.TEST).items():
        assert [row.key for row in rows] == expected and {row.model for row in rows} == {name}
        assert all(1 <= row.rank <= 6 and 0 < row.score < 1 for row in rows)


def test_validation_is_that_of_the_prediction_rows(run, predictions):
    """What selection saw is what the evaluation measures."""
    for name, rows in predictions(Split.VALID).items():
        best = json.loads((run.stage_folder(name) / "summary.json").read_text())["best"]["metrics"]
        assert np.mean([row.rank <= 1 for row in rows]) == pytest.approx(best["recall@1"])


def test_wrong_names_and_missing_stages(run, tmp_path):
    with pytest.raises(ValueError, match="no stage 'cooking'; choose one of .*autorec, ease, kbrd"):
        train(run, "cooking")
    with pytest.raises(ValueError, match="run `ecr train emotion` with this config first"):
        train(dataclasses.replace(run, runs=tmp_path), "kbrd")


def test_shapes(run):
    """Two buckets of half the longest context and of the longest; one for a baseline with a graph."""
    experiment = open_experiment(run)
    for name, lengths in (("autorec", [2, 4]), ("kbrd", [4])):
        baseline = baselines.build(experiment, registry.find(name))
        examples = baselines.examples(experiment, baseline, Split.TRAIN)
        shapes = baselines.shapes(baseline, examples)
        assert [shape["E"] for shape in shapes] == lengths and {shape["M"] for shape in shapes} == {1}
        assert sum(batch["example_mask"].sum() for batch in Batches.in_order(examples, shapes, 8)) == len(examples)


@pytest.fixture(scope="module")
def films(tmp_path_factory, hub_model):
    """The built-in corpus, small, with the models that packages ship; without emotions, which no baseline reads."""
    for name in ("wikidata-films", "minilm-l6", "smollm2-135m-instruct"):
        hub_model(name)
    folder = tmp_path_factory.mktemp("films")
    config = dataclasses.replace(
        configs.load("demo"), name="films", corpus=CorpusConfig(name="films", dialogues=400, film_reviews=20),
        prepared=folder / "prepared", runs=folder / "runs",
    )  # fmt: skip
    slow = TrainConfig(epochs=12, batch_size=64, optim=OptimConfig(learning_rate=1e-2))
    config = with_training(config, slow)
    # Sums that go through a sigmoid need larger steps.
    fast = dataclasses.replace(slow, optim=OptimConfig(learning_rate=3e-2))
    config = configs.replace(config, "baselines.autorec.train", fast)
    prepare(config, console=Console(quiet=True))
    return dataclasses.replace(open_experiment(config), emotions=InMemoryEmotionLabels({}))


@pytest.mark.parametrize("name", BASELINES)
def test_learns_the_built_in_corpus(films, name):
    """Better than popularity among the first ten, and its loss falls well below the start."""
    items = films.corpus.graph.items
    counts = recommendation_counts(films.dialogues(Split.TRAIN))
    popular = np.asarray([counts[item] for item in items.tolist()], float)
    instances = recommendation_instances(films.dialogues(Split.VALID))
    targets = [item for instance in instances for item, _, _ in instance.targets]
    columns = np.searchsorted(items, targets)
    popularity = metrics.recall_at(metrics.ranks(np.tile(popular, (len(columns), 1)), columns), 10).mean()
    train(films.config, name, experiment=films)
    folder = films.folder(name)
    best = json.loads((folder / "summary.json").read_text())["best"]["metrics"]
    assert best["recall@10"] > 1.5 * popularity
    if name != "ease":
        rows = read_jsonl_rows(folder / "metrics.jsonl")
        losses = [row["cross_entropy"] for row in rows if row["split"] == "train"]
        assert np.mean(losses[-5:]) < 0.8 * losses[0]
