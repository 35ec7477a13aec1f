"""The table of stages: what needs what, what follows from which fields, and a baseline that another package adds."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecr_jax import config as configs
from ecr_jax.config import records, registry, replace

DEMO = configs.load("demo")

PACKAGE = '''
"""A baseline in one file: it scores every item by the bias that training gives it."""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp

from ecr_jax.config.registry import StageSpec
from ecr_jax.training.options import TrainConfig


@dataclass(frozen=True)
class BiasConfig:
    """Item biases. `scale`: of the scores."""

    train: TrainConfig = TrainConfig(steps=2, batch_size=4)
    scale: float = 1.0


SPEC = StageSpec(
    "item_bias",
    "a bias for each item",
    "ecr_jax.stages.baselines:train",
    reads=("corpus", "seed", "recommender.max_entities"),
    needs=("emotion",),
    kind="baseline",
    build="item_bias:build",
    settings=BiasConfig(),
)


class Bias(nn.Module):
    items: int
    scale: float

    @nn.compact
    def __call__(self, batch, frozen):
        bias = self.param("bias", nn.initializers.zeros, (self.items,))
        return jnp.broadcast_to(self.scale * bias, (batch["entities"].shape[0], self.items))


def build(experiment, settings):
    from ecr_jax.stages.baselines.autorec import build as autorec
    import dataclasses

    reference = autorec(experiment, experiment.config.baselines.autorec)
    items = len(experiment.corpus.graph.items)
    return dataclasses.replace(reference, module=Bias(items, settings.scale))
'''


def names(specs):
    return [spec.name for spec in specs]


def test_stages_come_after_what_they_need():
    order = list(registry.specs())
    for spec in registry.specs().values():
        assert all(order.index(needed) < order.index(spec.name) for needed in spec.needs)


def test_stages_of_other_packages_are_put_in_order():
    def spec(name, *needs):
        return dataclasses.replace(registry.find("fusion"), name=name, needs=needs, needs_if={})

    table = {name: spec(name, *needs) for name, needs in {"a": "c", "b": "", "c": "b"}.items()}
    assert list(registry._in_order(table)) == ["b", "c", "a"]
    with pytest.raises(ValueError, match="stages need each other: a needs c needs a"):
        registry._in_order({"a": spec("a", "c"), "c": spec("c", "a")})


def test_dependencies():
    needs = {spec.name: names(spec.dependencies(DEMO)) for spec in registry.specs().values()}
    assert needs["emotion"] == []
    assert needs["fusion"] == needs["kbrd"] == ["emotion"]
    assert needs["response"] == ["emotion"]
    assert needs["conversation"] == needs["recommendation"] == ["emotion", "fusion"]
    reading_replies = replace(DEMO, "recommendation.use_resp", True)
    assert names(registry.find("recommendation").dependencies(reading_replies)) == ["emotion", "fusion", "conversation"]
    reranking = registry.StageSpec("reranking", "", "package:train", needs=("recommendation",))
    assert names(reranking.dependencies(DEMO)) == ["emotion", "fusion", "recommendation"]  # and what that one needs
    assert "conversation" in names(reranking.dependencies(reading_replies))


def test_an_optional_stage_is_required_where_another_needs_it(monkeypatch):
    all_but_valence = ["emotion", "acts", "fusion", "conversation", "recommendation", "response"]
    assert names(registry.required_stages(DEMO)) == all_but_valence
    reading = dataclasses.replace(registry.find("recommendation"), needs=("valence",))
    monkeypatch.setitem(registry.specs(), "recommendation", reading)
    assert names(registry.required_stages(DEMO)) == ["emotion", "valence", *all_but_valence[1:]]


@pytest.mark.parametrize("spec", registry.specs().values(), ids=registry.specs())
def test_what_a_stage_reads_exists_and_is_recorded(spec):
    for path in (*spec.reads, spec.section, *spec.needs_if):
        DEMO.value(path)
    assert json.loads(json.dumps(records.record(DEMO, spec))) == records.record(DEMO, spec)
    assert callable(spec.import_function("train"))
    assert (spec.build is not None) == (spec.kind == "baseline")


@pytest.mark.parametrize(
    ("path", "value", "changed"),
    [
        ("recommender.heads.two_hop", False, {"recommendation"}),
        ("recommender.facts_per_item", 3, {"recommendation"}),
        ("fusion.train.seed", 1, {"fusion"}),
        ("recommender.prompt.bases", 2, {"fusion", "conversation", "recommendation"}),
        ("baselines.kbrd.train.seed", 1, {"kbrd"}),
        ("recommender.max_states", 3, {"fusion", "conversation", "recommendation", "text_encoder", "tg_redial"}),
        ("evaluation.resamples", 3, set()),
    ],
)
def test_a_field_changes_the_records_of_the_stages_that_use_it(path, value, changed):
    other = replace(DEMO, path, value)
    specs = registry.specs().values()
    assert {spec.name for spec in specs if records.record(DEMO, spec) != records.record(other, spec)} == changed


def test_an_unknown_stage_is_named_with_those_there_are():
    with pytest.raises(
        ValueError, match="no stage 'cooking'; choose one of emotion, valence, acts, fusion, .*text_encoder"
    ):
        registry.find("cooking")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The folder of an installed package that adds the baseline `item_bias`."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "item_bias.py").write_text(PACKAGE)
    info = folder / "item_bias-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: item_bias\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ecr_jax.stages]\nitem_bias = item_bias:SPEC\n")
    return folder


def run(package: Path, code: str) -> str:
    """What a process prints in which the package is installed."""
    path = os.pathsep.join([str(package), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_baseline_of_another_package_is_in_the_table_the_config_and_the_command_line(package):
    out = run(
        package,
        """
from ecr_jax import config as configs
from ecr_jax.cli import parse
from ecr_jax.config import records, registry
from ecr_jax.runs.sweep import trials
spec = registry.find("item_bias")
assert spec in registry.baselines() and [s.name for s in spec.dependencies(configs.load("demo"))] == ["emotion"]
command = parse(["train", "item_bias", "--baselines.item-bias.scale", "3"])
assert (command.stage, command.settings.baselines.item_bias.scale) == ("item_bias", 3.0)
assert records.record(command.settings, spec)["baselines"]["item_bias"]["scale"] == 3.0
assert configs.from_json(command.settings.as_json()) == command.settings
planned = trials(configs.load("demo"), spec, [], ["baselines.item_bias.scale=1,2"], [0, 1])
print([(trial.label, trial.seed, trial.config.baselines.item_bias.train.seed) for trial in planned])
""",
    )
    label = "baselines.item_bias.scale"
    assert out.strip() == str([(f"{label}={scale}", seed, seed) for scale in (1, 2) for seed in (0, 1)])


@pytest.mark.slow
def test_a_baseline_of_another_package_is_trained_swept_and_in_the_report(package, tmp_path):
    out = run(
        package,
        """
import dataclasses, sys
from pathlib import Path
from rich.console import Console
from ecr_jax.config import registry, replace
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Split
from ecr_jax.evaluation.run import evaluate
from ecr_jax.runs import sweep
from ecr_jax.stages import train
from tests.tiny import tiny_config
config = tiny_config(Path(sys.argv[1]) if sys.argv[1:] else Path("."))
console = Console(quiet=True)
prepare(config, console=console)
for stage in ("emotion", "fusion", "recommendation", "item_bias"):
    train(config, stage)
report = evaluate(config, split=Split.VALID, console=console)
table = sweep.run(config, stage="item_bias", grid=["baselines.item_bias.scale=1,2"], seeds=(0,), console=console)
print(sorted({row.model for row in report.rows if "item_bias" in row.model}), sorted({row.model for row in table.rows}))
""".replace('Path(sys.argv[1]) if sys.argv[1:] else Path(".")', repr(tmp_path).replace("Posix", "")),
    )
    assert "'item_bias'" in out and "ecr - item_bias" in out and "baselines.item_bias.scale=2" in out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("emotion = item_bias:SPEC", None),
        ("other = item_bias:BiasConfig", "is a type, not a StageSpec"),
    ],
)
def test_entry_points_that_are_no_stage_are_named(package, tmp_path, line, message):
    (tmp_path / "item_bias.py").write_text(PACKAGE)
    info = tmp_path / "wrong-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wrong\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ecr_jax.stages]\n{line}\n")
    code = "from ecr_jax.config import registry\ntry: print(list(registry.specs()))\nexcept ValueError as e: print(e)"
    out = run(tmp_path, code)
    assert (message or "item_bias") in out
