"""The trainings of the stages and baselines, one short file each; `train` runs one of them.

What there is, and what each needs, reads and writes, is in `ecr_jax.config.registry`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich

from ecr_jax import files
from ecr_jax.config import Config, records, registry
from ecr_jax.config.registry import StageSpec

if TYPE_CHECKING:
    from ecr_jax.runs.context import ExperimentContext


def train(config: Config, stage: str, *, force: bool = False, experiment: ExperimentContext | None = None) -> None:
    """Trains a stage or a baseline, or resumes it.

    A run with a `base` links the base's stage where training it would give the same, and likewise what the stage needs.
    `cost.json` in the stage's folder sums up the seconds that it took and has the peak memory.

    Args:
      config: the experiment.
      stage: a name in the registry.
      force: remove what the stage wrote before, and train it in any case.
      experiment: the experiment's context, to share it between stages of one process; opened where None.

    Raises:
      ValueError: no such stage, a stage before it is missing, or the folder holds a training with other settings.
    """
    from ecr_jax.runs.context import open_experiment

    spec = registry.find(stage)
    experiment = open_experiment(config) if experiment is None else experiment
    folder = experiment.folder(spec)
    if force:
        files.remove(folder)
    files.remove_partial(folder)
    if is_complete(experiment, spec):
        rich.get_console().print(f"{folder} is complete; --force trains it again")
        return
    for needed in spec.dependencies(config):
        _link_from_base(experiment, needed)
    if not force and _link_from_base(experiment, spec):
        return
    started, cost = time.monotonic(), folder / "cost.json"
    before = json.loads(cost.read_text(encoding="utf-8")) if cost.is_file() else {"seconds": 0.0, "peak_memory_mb": 0.0}
    try:
        spec.import_function("train")(experiment, spec)
        records.write_run(config, spec)  # not before: a training that is refused leaves the run as it is
    finally:
        if (folder / "config.json").is_file():
            seconds = before["seconds"] + time.monotonic() - started
            memory = max(before["peak_memory_mb"], files.peak_memory_mb())
            files.write_json(cost, {"seconds": seconds, "peak_memory_mb": memory})


def is_complete(experiment: ExperimentContext, stage: StageSpec) -> bool:
    """Whether the stage's folder has all its files, written with the same settings for the same corpus."""
    folder = experiment.folder(stage)
    return _is_finished(folder, stage) and not _differences(folder, experiment.record(stage))


def _is_finished(folder: Path, stage: StageSpec) -> bool:
    return all((folder / name).is_file() for name in (*stage.writes, "config.json"))


def _record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def _differences(folder: Path, record: dict[str, Any]) -> list[str]:
    """How a record differs from that of a folder, which also holds how `fit` selects."""
    stored = _record(folder)
    return records.differences({name: stored.get(name) for name in record}, record)


def _link_from_base(experiment: ExperimentContext, stage: StageSpec) -> bool:
    """Links a stage that the run lacks to the base's, if that is the same and comes after the same stages.

    Returns:
      Whether it was linked. Where the base's is another one, a message says why.
    """
    config, console = experiment.config, rich.get_console()
    folder = experiment.folder(stage)
    if config.base is None:
        return False
    if folder.is_symlink() and not is_complete(experiment, stage):
        folder.unlink()  # its target was removed or trained again; nothing may be written through the link
    base = config.runs / config.base
    if folder.exists() or not base.is_dir():
        return False
    for spec in (*stage.dependencies(config), stage):
        own, other = experiment.folder(spec), base / spec.folder
        if not _is_finished(other, spec):
            reason = f"{other} is not trained to its end"
        elif changed := _differences(other, _own_record(experiment, spec, own)):
            reason = f"{other} has other settings ({'; '.join(changed)})"
        else:
            continue
        console.print(f"{base / stage.folder} is not linked: {reason}", highlight=False, markup=False)
        return False
    records.write_run(config, stage)
    files.link(base / stage.folder, folder)
    console.print(f"{folder} is now a link: {base / stage.folder} has the same settings", highlight=False, markup=False)
    return True


def _own_record(experiment: ExperimentContext, stage: StageSpec, folder: Path) -> dict[str, Any]:
    """The record of the stage in the run's own folder where there is one, else of how it would be trained."""
    wanted = experiment.record(stage)
    if not folder.exists():
        return wanted
    stored = _record(folder)
    return {name: stored.get(name) for name in wanted}
