"""Every baseline through the loop: what it writes, what the evaluation finds, that it learns the built-in corpus."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax import metrics
from ecr_jax.config import CorpusConfig, OptimConfig, TrainConfig
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Split
from ecr_jax.evaluation.protocol import PROTOCOLS
from ecr_jax.evaluation.run import _rivals
from ecr_jax.features.examples import recommendation_rows, recommended
from ecr_jax.files import read_jsonl_rows
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import baselines, train
from tests.stages.test_stages import contents, tiny_config

pytestmark = pytest.mark.slow


def with_training(config, train):
    """The config with the same training for every baseline that is stepped."""
    stepped = [name for name in baselines.BASELINES if name != "ease"]
    made = {name: dataclasses.replace(getattr(config.baselines, name), train=train) for name in stepped}
    made["kgsf"] = dataclasses.replace(made["kgsf"], pretraining=dataclasses.replace(train, epochs=None, steps=1))
    return dataclasses.replace(config, baselines=dataclasses.replace(config.baselines, **made))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A prepared config with a stage that labels emotions and all baselines, two steps each."""
    config = with_training(tiny_config(tmp_path_factory.mktemp("run")), TrainConfig(steps=2, batch_size=8))
    short = dataclasses.replace(config.baselines.language_model, layers=1)  # the tiny model has no more
    config = dataclasses.replace(config, baselines=dataclasses.replace(config.baselines, language_model=short))
    prepare(config, console=Console(quiet=True))
    experiment = ExperimentContext(config)
    for stage in ("emotion", *(f"baselines/{name}" for name in baselines.BASELINES)):
        train(config, stage, experiment=experiment)
    return config


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_each_rival_writes_its_run(run, name):
    folder = run.stage_folder(f"baselines/{name}")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["best"]["metrics"].keys() >= {"recall@1", "recall@10", "recall@50"}
    assert json.loads((folder / "config.json").read_text())["baselines"].keys() == {name}
    assert (folder / "pretraining" / "summary.json").is_file() == (name == "kgsf")
    if name == "ease":
        rows = read_jsonl_rows(folder / "metrics.jsonl")
        assert [row["strength"] for row in rows] == list(run.baselines.ease.strengths)
        assert summary["best"]["value"] == max(row["recall@10"] for row in rows)


def test_done_is_not_done_again(run):
    before = contents(run.stage_folder("baselines/kgsf"))
    train(run, "baselines/kgsf")
    after = contents(run.stage_folder("baselines/kgsf"))
    assert {path.name for path in after if after[path] != before.get(path)} <= {"cost.json"}


def test_the_evaluation_finds_them(run):
    experiment = ExperimentContext(run)
    assert baselines.trained(run.runs / run.name) == baselines.BASELINES
    found = _rivals(experiment, Split.TEST, PROTOCOLS["default"])
    wanted = [
        (experiment.dialogues(Split.TEST)[row.dialogue].id, row.turn, item)
        for row in recommendation_rows(experiment.dialogues(Split.TEST))
        for item, _, _ in row.targets
    ]
    assert tuple(found) == baselines.BASELINES
    for name, rows in found.items():
        assert [row.key for row in rows] == wanted and {row.model for row in rows} == {name}
        assert all(1 <= row.rank <= 6 and 0 < row.score < 1 for row in rows)


def test_validation_is_that_of_the_prediction_rows(run):
    """What selection saw is what the evaluation measures."""
    for name, rows in _rivals(ExperimentContext(run), Split.VALID, PROTOCOLS["default"]).items():
        best = json.loads((run.stage_folder(f"baselines/{name}") / "summary.json").read_text())["best"]["metrics"]
        assert np.mean([row.rank <= 1 for row in rows]) == pytest.approx(best["recall@1"])


def test_wrong_names_and_missing_stages(run, tmp_path):
    with pytest.raises(ValueError, match="no baseline 'cooking'; there are autorec, ease, kbrd"):
        train(run, "baselines/cooking")
    with pytest.raises(ValueError, match="run `ecr train emotion` with this config first"):
        train(dataclasses.replace(run, runs=tmp_path), "baselines/kbrd")


@pytest.fixture(scope="module")
def films(tmp_path_factory, hub_model):
    """The built-in corpus, small, with the models that packages ship; nobody is felt, for no baseline asks."""
    for name in ("wikidata-films", "minilm-l6", "smollm2-135m-instruct"):
        hub_model(name)
    folder = tmp_path_factory.mktemp("films")
    config = dataclasses.replace(
        configs.load("demo"), name="films", corpus=CorpusConfig(name="films", dialogues=400, film_reviews=20),
        prepared=folder / "prepared", runs=folder / "runs",
    )  # fmt: skip
    slow = TrainConfig(epochs=12, batch_size=64, optim=OptimConfig(learning_rate=1e-2))
    config = with_training(config, slow)
    # Sums that go through a sigmoid want larger steps.
    fast = dataclasses.replace(slow, optim=OptimConfig(learning_rate=3e-2))
    tuned = dataclasses.replace(config.baselines, autorec=dataclasses.replace(config.baselines.autorec, train=fast))
    config = dataclasses.replace(config, baselines=tuned)
    prepare(config, console=Console(quiet=True))
    experiment = ExperimentContext(config)
    experiment.emotions = {}
    return experiment


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_learns_the_built_in_corpus(films, name):
    """Better than popularity among the first ten, and its loss falls well below the start."""
    counts = recommended(films.dialogues(Split.TRAIN))
    popular = np.asarray([counts[item] for item in films.prepared.graph.items.tolist()], float)
    targets = [item for row in recommendation_rows(films.dialogues(Split.VALID)) for item, _, _ in row.targets]
    places = np.searchsorted(films.prepared.graph.items, targets)
    known = metrics.recall_at(metrics.ranks(np.tile(popular, (len(places), 1)), places), 10).mean()
    train(films.config, f"baselines/{name}", experiment=films)
    folder = films.config.stage_folder(f"baselines/{name}")
    best = json.loads((folder / "summary.json").read_text())["best"]["metrics"]
    assert best["recall@10"] > 1.5 * known
    losses = (
        [row["cross_entropy"] for row in read_jsonl_rows(folder / "metrics.jsonl") if row["split"] == "train"]
        if name != "ease"
        else [1.0, 0.0]
    )
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
