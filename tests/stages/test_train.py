"""A run with a base: which stages it links, which it trains, what it prints; a stand-in replaces the training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax import stages
from ecr_jax.config import registry
from ecr_jax.config.registry import StageSpec, find
from ecr_jax.data.prepare import prepare
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages import is_complete, train
from tests import tiny

STAGES = [spec.name for spec in registry.stages() if not spec.optional]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    corpus, prepared = tiny.write_corpus(folder / "data"), folder / "prepared"
    config = dataclasses.replace(configs.load("demo"), name="first", corpus=corpus, prepared=prepared)
    prepare(config, console=Console(quiet=True))
    return config


@pytest.fixture
def first(prepared, tmp_path, monkeypatch):
    """A config with a prepared corpus and no stages; a training writes what its spec says, as `trained` lists."""

    def stand_in(experiment, spec):
        folder = experiment.folder(spec)
        folder.mkdir(parents=True, exist_ok=True)
        for name in spec.writes:
            (folder / name).write_bytes(b"")
        (folder / "config.json").write_text(json.dumps(experiment.record(spec)))
        trained.append((experiment.config.name, spec.name))

    trained.clear()
    monkeypatch.setattr(StageSpec, "import_function", lambda self, name: stand_in)
    monkeypatch.setattr(stages.rich, "get_console", lambda: Console(width=500))
    return dataclasses.replace(prepared, runs=tmp_path)


trained: list[tuple[str, str]] = []


def on(first, **changes):
    return dataclasses.replace(first, name="second", base="first", **changes)


def seeded(config, stage, seed):
    return configs.replace(config, f"{stage}.train.seed", seed)


def without_emotions(config):
    config = configs.replace(config, "recommender.prompt.emotions", False)
    return configs.replace(config, "recommender.prompt.global_entities", False)


def linked(config):
    home = config.runs / config.name
    return {path.name for path in home.iterdir() if path.is_symlink()} if home.is_dir() else set()


def test_the_same_stages_are_linked(first, capsys):
    for stage in ("emotion", "fusion", "recommendation", "ease"):
        train(first, stage)
    second = on(first)
    assert second.prepared_folder == first.prepared_folder
    train(second, "recommendation")
    assert linked(second) == {"emotion", "fusion", "recommendation"}
    assert all(second.stage_folder(stage).samefile(first.stage_folder(stage)) for stage in linked(second))
    train(second, "ease")
    assert second.stage_folder("ease").is_symlink()
    assert not any(name == "second" for name, _ in trained)
    printed = capsys.readouterr().out
    assert "second/fusion is now a link:" in printed and "first/fusion has the same settings" in printed
    train(second, "recommendation")
    assert "is complete" in capsys.readouterr().out
    assert not second.stage_folder("fusion").readlink().is_absolute()  # `runs` may be moved


def test_a_stage_that_differs_is_trained_and_so_are_those_that_need_it(first, capsys):
    for stage in STAGES:
        train(first, stage)
    second = seeded(on(first), "fusion", 5)
    for stage in STAGES:
        train(second, stage)
    assert linked(second) == {"emotion", "acts", "response"}
    assert [stage for name, stage in trained if name == "second"] == ["fusion", "conversation", "recommendation"]
    printed = capsys.readouterr().out
    assert "first/fusion has other settings (fusion.train.seed: 0 → 5)" in printed
    assert "first/conversation is not linked:" in printed


def test_fields_that_the_emotion_stage_does_not_read_leave_it_linked(first):
    """UniCRS has the same emotion stage as ECR and leaves emotions out of its prompt only."""
    for stage in STAGES:
        train(first, stage)
    unicrs = without_emotions(on(first))
    for stage in STAGES:
        train(unicrs, stage)
    assert linked(unicrs) == {"emotion", "acts", "response"}
    third = dataclasses.replace(on(first), name="third")
    third = configs.replace(third, "recommender.directional_cooccurrence", True)
    train(third, "emotion")
    assert linked(third) == set() and trained[-1] == ("third", "emotion")


def test_the_settings_of_a_trained_stage_count_not_those_of_the_config(first):
    """A fusion stage of its own with other settings: no stage after it is linked to the base's."""
    for stage in ("emotion", "fusion", "recommendation"):
        train(first, stage)
    second = on(first)
    train(seeded(second, "fusion", 5), "fusion")
    train(second, "recommendation")
    assert trained[-1] == ("second", "recommendation") and linked(second) == {"emotion"}


def test_a_base_that_is_not_there_or_not_at_its_end(first, capsys):
    second = on(first)
    train(second, "emotion")
    assert trained == [("second", "emotion")] and "not linked" not in capsys.readouterr().out
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
    assert is_complete(open_experiment(first), find("emotion"))


def test_a_link_to_what_changed_is_not_written_through(first):
    """The base's stage is trained again with other settings: the run trains its own, in a folder of its own."""
    train(first, "emotion")
    second = on(first)
    train(second, "emotion")
    other = seeded(first, "emotion", 3)
    train(other, "emotion", force=True)
    train(second, "emotion")
    assert trained[-1] == ("second", "emotion") and linked(second) == set()
    assert is_complete(open_experiment(other), find("emotion")) and is_complete(
        open_experiment(second), find("emotion")
    )


def test_stages_of_two_runs_are_read_as_one(first):
    for stage in STAGES:
        train(first, stage)
    second = seeded(on(first), "recommendation", 2)
    for stage in STAGES:
        train(second, stage)
    specs = registry.required_stages(first)
    assert configs.read_run(second.folder, specs) == second
    assert configs.read_run(second.folder, specs[::-1]) == second  # whichever stage is read last
    second.folder.rename(second.runs / "renamed")
    renamed = configs.read_run(second.runs / "renamed", specs)
    assert renamed == dataclasses.replace(second, name="renamed")
    first.folder.rename(first.runs / "moved")
    moved = configs.read_run(first.runs / "moved", specs)
    assert moved == dataclasses.replace(first, name="moved", base="first")
    assert moved.prepared_folder == first.prepared_folder


def test_a_run_holds_one_resolved_config(first):
    """Each training leaves the settings of the stages before it as they were trained with."""
    train(configs.replace(first, "emotion.beta", 0.25), "emotion")
    train(configs.replace(first, "recommender.heads.like_power", 1.0), "recommendation")
    stored = configs.read_run(first.folder, [find("emotion"), find("recommendation")])
    assert (stored.emotion.beta, stored.recommender.heads.like_power) == (0.25, 1.0)
    assert json.loads((first.folder / "config.json").read_text()) == stored.as_json()


def test_a_run_has_the_corpus_that_was_prepared(first):
    """`ecr prepare --corpus.data DIR` is told once; the commands after it need not be told again."""
    for stage in ("emotion", "fusion"):
        train(configs.replace(first, "corpus.data", Path("elsewhere")), stage)
    stored = configs.read_run(first.folder, [find("emotion"), find("fusion")])
    assert stored.corpus == first.corpus


def test_a_run_can_be_ranked_with_another_power_of_the_odds_of_being_liked(first):
    """Training does not depend on it, so the stage is still complete."""
    for stage in ("emotion", "fusion", "recommendation"):
        train(first, stage)
    other = configs.replace(first, "recommender.heads.like_power", 0.5)
    assert is_complete(open_experiment(other), find("recommendation"))
    stored = configs.read_run(first.folder, [find("emotion"), find("fusion"), find("recommendation")])
    assert stored.recommender.heads.like_power == first.recommender.heads.like_power


def test_stages_with_different_settings_are_named(first):
    train(first, "emotion")
    train(configs.replace(first, "recommender.emotions_per_entity", 2), "fusion")
    message = r"'emotion' was trained with other settings .*\(recommender.emotions_per_entity: 3 → 2\); train it again"
    with pytest.raises(ValueError, match=message):
        configs.read_run(first.folder, [find("emotion"), find("fusion")])
    with pytest.raises(ValueError, match="has no trained stage 'response'; run `ecr train response`"):
        configs.read_run(first.folder, [find("response")])
    with pytest.raises(ValueError, match="holds no run"):
        configs.read_run(first.runs / "nothing", [find("emotion")])


def test_a_corpus_of_its_own_is_not_written_over_the_base(first):
    second = on(first)
    assert prepare(second, console=Console(quiet=True)).folder == first.prepared_folder
    other = dataclasses.replace(second, corpus=dataclasses.replace(second.corpus, reviews=None))
    with pytest.raises(ValueError, match=r"first is the corpus of 'first', prepared from other .* \(base=None\)"):
        prepare(other, force=True, console=Console(quiet=True))


@pytest.mark.parametrize("name", ["", "a b", "../up", "first"])
def test_names_of_a_base_that_cannot_be(first, name):
    with pytest.raises(configs.ConfigError, match="Config.base = .* is not allowed"):
        dataclasses.replace(first, base=name)


def test_changing_a_scoring_head_does_not_pre_train_again(first):
    for stage in ("emotion", "fusion", "recommendation"):
        train(first, stage)
    heads = dataclasses.replace(first.recommender.heads, cooccurrence="none", two_hop=False, prior=False)
    second = on(configs.replace(first, "recommender.heads", heads))
    train(second, "recommendation")
    assert linked(second) == {"emotion", "fusion"} and trained[-1] == ("second", "recommendation")
