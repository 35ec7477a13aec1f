"""The five trainings and that of the rivals, one short file each; `train` runs one of them by name."""

from __future__ import annotations

import importlib
import json
import shutil
import time

import rich

from ecr_jax.config import Config
from ecr_jax.files import peak_memory_mb, write_json
from ecr_jax.stages.ground import Ground

STAGES = ("emotion", "fusion", "conversation", "recommendation", "response")
"""In the order they are trained: each may read what those before it wrote."""


def train(config: Config, stage: str, *, force: bool = False, ground: Ground | None = None) -> None:
    """Trains a stage, or goes on with it; `cost.json` adds up the seconds it took and names the most memory.

    Args:
      config: the experiment.
      stage: one of `STAGES`, or `rivals/NAME`.
      force: removes what the stage wrote before.
      ground: shared by the stages of one process; a new one where None.
    """
    room, _, rival = stage.partition("/")
    if stage not in STAGES and room != "rivals":
        raise ValueError(f"no stage {stage!r}; there are {', '.join(STAGES)}")
    folder, ground = config.stage_folder(stage), ground or Ground(config)
    if force and folder.exists():
        shutil.rmtree(folder)
    if complete(ground, stage):
        rich.get_console().print(f"{folder} is complete; --force trains it again")
        return
    started, cost = time.monotonic(), folder / "cost.json"
    kept = json.loads(cost.read_text(encoding="utf-8")) if cost.is_file() else {"seconds": 0.0, "peak_memory_mb": 0.0}
    try:
        importlib.import_module(f"ecr_jax.stages.{room}").train(ground, *filter(None, [rival]))
    finally:
        if (folder / "config.json").is_file():
            seconds = kept["seconds"] + time.monotonic() - started
            memory = max(kept["peak_memory_mb"], peak_memory_mb())
            write_json(cost, {"seconds": seconds, "peak_memory_mb": memory})


def complete(ground: Ground, stage: str) -> bool:
    """Whether the stage's folder holds all that the stage writes, made with the same settings and corpus."""
    folder = ground.config.stage_folder(stage)
    last = {"emotion": "together.npz"}.get(stage, "summary.json")
    if not (folder / "summary.json").is_file() or not (folder / last).is_file():
        return False
    kept = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return all(kept.get(name) == value for name, value in ground.recorded(stage).items())
