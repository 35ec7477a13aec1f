"""A run with a base: which stages are taken from it, which are trained, what is said; training is a stand-in here."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax import stages
from ecr_jax.data.prepare import prepare
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import complete, dependencies, train
from tests import tiny


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    corpus, prepared = tiny.write_corpus(folder / "data"), folder / "prepared"
    made = dataclasses.replace(configs.load("demo"), name="first", corpus=corpus, prepared=prepared)
    prepare(made, console=Console(quiet=True))
    return made


@pytest.fixture
def first(prepared, tmp_path, monkeypatch):
    """A config with a prepared corpus and no stages; a training writes what it was asked for, as `trained` lists."""

    def stand_in(name):
        def train(experiment, *baseline):
            stage = "/".join([name.rpartition(".")[2], *baseline])
            folder = experiment.config.stage_folder(stage)
            folder.mkdir(parents=True, exist_ok=True)
            for path, value in {"config.json": experiment.recorded(stage), "summary.json": {}}.items():
                (folder / path).write_text(json.dumps(value))
            (folder / "cooccurrence.npz").write_bytes(b"")
            trained.append((experiment.config.name, stage))

        return SimpleNamespace(train=train)

    trained.clear()
    monkeypatch.setattr(stages.importlib, "import_module", stand_in)
    monkeypatch.setattr(stages.rich, "get_console", lambda: Console(width=500))
    return dataclasses.replace(prepared, runs=tmp_path)


trained: list[tuple[str, str]] = []


def on(first, **changes):
    return dataclasses.replace(first, name="second", base="first", **changes)


def seeded(config, stage, seed):
    settings = getattr(config, stage)
    return dataclasses.replace(config, **{stage: dataclasses.replace(
        settings, train=dataclasses.replace(settings.train, seed=seed))})  # fmt: skip


def without_emotions(config):
    prompt = dataclasses.replace(config.recommender.prompt, emotions=False, global_entities=False)
    return dataclasses.replace(config, recommender=dataclasses.replace(config.recommender, prompt=prompt))


def linked(config):
    home = config.runs / config.name
    return {path.name for path in home.iterdir() if path.is_symlink()} if home.is_dir() else set()


def test_the_same_is_taken(first, capsys):
    for stage in ("emotion", "fusion", "recommendation", "baselines/ease"):
        train(first, stage)
    second = on(first)
    assert second.prepared_folder == first.prepared_folder
    train(second, "recommendation")
    assert linked(second) == {"emotion", "fusion", "recommendation"}
    assert all(second.stage_folder(stage).samefile(first.stage_folder(stage)) for stage in linked(second))
    train(second, "baselines/ease")
    assert second.stage_folder("baselines/ease").is_symlink()
    assert not any(name == "second" for name, _ in trained)
    said = capsys.readouterr().out
    assert "second/fusion is now a link:" in said and "first/fusion has the same settings" in said
    train(second, "recommendation")
    assert "is complete" in capsys.readouterr().out
    assert not second.stage_folder("fusion").readlink().is_absolute()  # `runs` may be moved


def test_a_stage_that_differs_is_trained_and_so_is_what_rests_on_it(first, capsys):
    for stage in stages.STAGES:
        train(first, stage)
    second = seeded(on(first), "fusion", 5)
    for stage in stages.STAGES:
        train(second, stage)
    assert linked(second) == {"emotion", "response"}
    assert [stage for name, stage in trained if name == "second"] == ["fusion", "conversation", "recommendation"]
    said = capsys.readouterr().out
    assert "first/fusion has other settings (fusion.train.seed: 0 → 5)" in said
    assert "first/conversation is not taken:" in said


def test_what_the_emotions_do_not_follow_from_is_no_matter(first):
    """UniCRS hears the emotions that ECR hears, and leaves them out of its prompt."""
    for stage in stages.STAGES:
        train(first, stage)
    unicrs = without_emotions(on(first))
    for stage in stages.STAGES:
        train(unicrs, stage)
    assert linked(unicrs) == {"emotion", "response"}
    directional = dataclasses.replace(first.recommender, directional=True)
    third = dataclasses.replace(on(first), name="third", recommender=directional)
    train(third, "emotion")
    assert linked(third) == set() and trained[-1] == ("third", "emotion")


def test_what_stands_in_the_folder_counts_not_only_what_is_asked_for(first):
    """A fusion stage that was trained with other settings: nothing that rests on the base's is taken."""
    for stage in ("emotion", "fusion", "recommendation"):
        train(first, stage)
    second = on(first)
    train(seeded(second, "fusion", 5), "fusion")
    train(second, "recommendation")
    assert trained[-1] == ("second", "recommendation") and linked(second) == {"emotion"}


def test_a_base_that_is_not_there_or_not_at_its_end(first, capsys):
    second = on(first)
    train(second, "emotion")
    assert trained == [("second", "emotion")] and "not taken" not in capsys.readouterr().out
    train(first, "emotion")
    train(first, "fusion")
    (first.stage_folder("fusion") / "summary.json").unlink()
    train(second, "fusion")
    assert trained[-1] == ("second", "fusion")
    assert "first/fusion is not trained to its end" in capsys.readouterr().out


def test_force_trains_here_and_leaves_the_base_alone(first):
    train(first, "emotion")
    second = on(first)
    train(second, "emotion")
    before = (first.stage_folder("emotion") / "config.json").read_bytes()
    train(second, "emotion", force=True)
    assert trained[-1] == ("second", "emotion") and linked(second) == set()
    assert (first.stage_folder("emotion") / "config.json").read_bytes() == before
    assert complete(ExperimentContext(first), "emotion")


def test_a_link_to_what_changed_is_not_written_through(first):
    """The base's stage is trained anew with other settings: the run trains its own, in a folder of its own."""
    train(first, "emotion")
    second = on(first)
    train(second, "emotion")
    other = seeded(first, "emotion", 3)
    train(other, "emotion", force=True)
    train(second, "emotion")
    assert trained[-1] == ("second", "emotion") and linked(second) == set()
    assert complete(ExperimentContext(other), "emotion") and complete(ExperimentContext(second), "emotion")


def test_stages_of_two_runs_are_read_as_one(first):
    for stage in stages.STAGES:
        train(first, stage)
    second = seeded(on(first), "recommendation", 2)
    for stage in stages.STAGES:
        train(second, stage)
    kept = configs.read_recorded(second.runs / "second", stages.STAGES, second)
    assert kept == second
    backwards = configs.read_recorded(second.runs / "second", stages.STAGES[::-1], second)
    assert backwards == second  # whichever stage is read last
    (second.runs / "second").rename(second.runs / "renamed")
    renamed = configs.read_recorded(second.runs / "renamed", stages.STAGES, second)
    assert renamed == dataclasses.replace(second, name="renamed")
    (first.runs / "first").rename(first.runs / "moved")
    moved = configs.read_recorded(first.runs / "moved", stages.STAGES, first)
    assert moved == dataclasses.replace(first, name="moved", base="first")
    assert moved.prepared_folder == first.prepared_folder


def test_stages_that_do_not_fit_are_told(first):
    train(first, "emotion")
    train(dataclasses.replace(first, recommender=dataclasses.replace(first.recommender, emotions=2)), "fusion")
    with pytest.raises(ValueError, match="'fusion' has another 'recommender' than the stages before it"):
        configs.read_recorded(first.runs / "first", ("emotion", "fusion"))


def test_a_corpus_of_its_own_is_not_written_over_the_base(first):
    second = on(first)
    assert prepare(second, console=Console(quiet=True)).folder == first.prepared_folder
    other = dataclasses.replace(second, corpus=dataclasses.replace(second.corpus, reviews=None))
    with pytest.raises(ValueError, match=r"first is the corpus of 'first', prepared from other .* \(base=None\)"):
        prepare(other, force=True, console=Console(quiet=True))


@pytest.mark.parametrize("name", ["", "a b", "../up", "first"])
def test_names_of_a_base_that_cannot_be(first, name):
    with pytest.raises(configs.ConfigError, match="Config.base = .* cannot be"):
        dataclasses.replace(first, base=name)


def test_what_rests_on_what(first):
    assert [dependencies(first, stage) for stage in stages.STAGES] == [
        (), ("emotion",), ("emotion", "fusion"), ("emotion", "fusion"), ()
    ]  # fmt: skip
    assert dependencies(first, "baselines/kbrd") == ("emotion",)
    reads = dataclasses.replace(first, recommendation=dataclasses.replace(first.recommendation, use_resp=True))
    assert dependencies(reads, "recommendation") == ("emotion", "fusion", "conversation")
