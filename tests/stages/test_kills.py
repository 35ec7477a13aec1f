"""`ecr train` of every stage, killed again and again: it ends as if nothing had happened, but for the time it took."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ecr_jax.config import TrainConfig, registry
from ecr_jax.stages import train

pytestmark = pytest.mark.slow

STAGES = tuple(spec.name for spec in registry.stages() if not spec.optional)
KILLS = 2
"""Of each stage."""
OF_TIME = {"seconds", "train_seconds", "evaluate_seconds", "examples_per_second", "peak_memory_mb"}
"""What `summary.json` and `cost.json` say of the machine and not of the outcome."""
COMMAND = [sys.executable, "-c", "import sys; from ecr_jax.cli import main; sys.exit(main())", "train"]


@pytest.fixture(scope="module")
def config(prepared_config):
    """Six steps of each stage, with an evaluation and a checkpoint at every second one."""
    settings = TrainConfig(steps=6, batch_size=8, eval_every=2, checkpoint_every=1)
    changes = {stage: dataclasses.replace(getattr(prepared_config, stage), train=settings) for stage in STAGES}
    return dataclasses.replace(prepared_config, **changes)


@pytest.fixture(scope="module")
def undisturbed(config):
    for stage in STAGES:
        train(config, stage)
    return config


def start(config, stage):
    """The command as a user gives it."""
    file = config.runs.with_suffix(".py")
    values = json.dumps(config.as_json())
    file.write_text(
        f"import json\nfrom ecr_jax.config import records\nconfig = records.from_json(json.loads({values!r}))"
    )
    return subprocess.Popen(
        [*COMMAND, stage, "--config", str(file)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
    )


def steps_of(folder):
    metrics = folder / "metrics.jsonl"
    return metrics.read_text().count('"split": "train"') if metrics.is_file() else 0


def outcome(folder):
    """Everything that a stage wrote, but for what depends on the machine."""
    contents = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not {"checkpoints", "tensorboard", "speed.jsonl"} & set(path.relative_to(folder).parts)
    }
    for name in ("summary.json", "cost.json"):
        values = json.loads(contents.pop(name))
        contents[name] = {key: None if key in OF_TIME else value for key, value in values.items()}
    return contents


def test_killed_stages_end_where_undisturbed_ones_end(undisturbed, tmp_path):
    config = dataclasses.replace(undisturbed, runs=tmp_path / "killed")
    moments, deaths = random.Random(3), 0
    for stage in STAGES:
        folder = config.stage_folder(stage)
        for _ in range(KILLS):
            process, at = start(config, stage), moments.randint(1, 5)
            while process.poll() is None and steps_of(folder) < at:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.5))  # into the next step, an evaluation, a checkpoint
            process.send_signal(signal.SIGKILL)
            deaths += process.wait() == -signal.SIGKILL
        assert start(config, stage).wait() == 0
        assert outcome(folder) == outcome(undisturbed.stage_folder(stage)), stage
    assert deaths >= len(STAGES)
