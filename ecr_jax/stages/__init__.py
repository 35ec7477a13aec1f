"""The five trainings and that of the baselines, one short file each; `train` runs one of them by name."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from typing import Any

import rich

from ecr_jax import files
from ecr_jax.config import PLACE, Config
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.training.loop import differences

STAGES = ("emotion", "fusion", "conversation", "recommendation", "response")
"""In the order they are trained: each may read what those before it wrote."""

_NEEDS = {"fusion": ("emotion",), "conversation": ("emotion", "fusion"), "recommendation": ("emotion", "fusion"),
          "baselines": ("emotion",)}  # fmt: skip


def dependencies(config: Config, stage: str) -> tuple[str, ...]:
    """The stages whose outcome a stage reads, in the order they are trained."""
    needed = _NEEDS.get(stage.partition("/")[0], ())
    return (*needed, "conversation") if stage == "recommendation" and config.recommendation.use_resp else needed


def train(config: Config, stage: str, *, force: bool = False, experiment: ExperimentContext | None = None) -> None:
    """Trains a stage, or goes on with it; `cost.json` adds up the seconds it took and names the most memory.

    A run with a `base` takes the base's stage where it would train the very same, and likewise what the stage rests on.

    Args:
      config: the experiment.
      stage: one of `STAGES`, or `baselines/NAME`.
      force: removes what the stage wrote before, and trains it in any case.
      experiment: shared by the stages of one process; a new one where None.
    """
    room, _, baseline = stage.partition("/")
    if stage not in STAGES and room != "baselines":
        raise ValueError(f"no stage {stage!r}; there are {', '.join(STAGES)}")
    folder, experiment = config.stage_folder(stage), experiment or ExperimentContext(config)
    if force:
        files.remove(folder)
    if complete(experiment, stage):
        rich.get_console().print(f"{folder} is complete; --force trains it again")
        return
    for needed in dependencies(config, stage):
        _take(experiment, needed)
    if not force and _take(experiment, stage):
        return
    started, cost = time.monotonic(), folder / "cost.json"
    kept = json.loads(cost.read_text(encoding="utf-8")) if cost.is_file() else {"seconds": 0.0, "peak_memory_mb": 0.0}
    try:
        importlib.import_module(f"ecr_jax.stages.{room}").train(experiment, *filter(None, [baseline]))
    finally:
        if (folder / "config.json").is_file():
            seconds = kept["seconds"] + time.monotonic() - started
            memory = max(kept["peak_memory_mb"], files.peak_memory_mb())
            files.write_json(cost, {"seconds": seconds, "peak_memory_mb": memory})


def complete(experiment: ExperimentContext, stage: str) -> bool:
    """Whether the stage's folder holds all that the stage writes, made with the same settings and corpus."""
    folder = experiment.config.stage_folder(stage)
    return _finished(folder) and not _differences(folder, experiment.recorded(stage))


def _finished(folder: Path) -> bool:
    last = {"emotion": "cooccurrence.npz"}.get(folder.name, "summary.json")
    return (folder / "summary.json").is_file() and (folder / last).is_file()


def _kept(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def _differences(folder: Path, wanted: dict[str, Any]) -> list[str]:
    """What of a stage's settings is not what its folder was made with; where the two are is no matter."""
    kept, names = _kept(folder), wanted.keys() - {*PLACE}
    return differences({name: kept.get(name) for name in names}, {name: wanted[name] for name in names})


def _take(experiment: ExperimentContext, stage: str) -> bool:
    """Links a stage that the run has not to its base's, if this one is the same and rests on the same; says which."""
    config, console = experiment.config, rich.get_console()
    folder = config.stage_folder(stage)
    if config.base is None:
        return False
    if folder.is_symlink() and not complete(experiment, stage):
        folder.unlink()  # it leads to what was removed or trained anew, and nothing may be written there
    base = config.runs / config.base
    if folder.exists() or not base.is_dir():
        return False
    for each in (*dependencies(config, stage), stage):
        own = config.stage_folder(each)
        if not _finished(base / each):
            why = f"{base / each} is not trained to its end"
        elif found := _differences(base / each, _kept(own) if own.exists() else experiment.recorded(each)):
            why = f"{base / each} has other settings ({'; '.join(found)})"
        else:
            continue
        console.print(f"{base / stage} is not taken: {why}", highlight=False, markup=False)
        return False
    files.link(base / stage, folder)
    console.print(f"{folder} is now a link: {base / stage} has the same settings", highlight=False, markup=False)
    return True
