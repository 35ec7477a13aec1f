"""Every stage under every strategy: eight devices have the losses of one, and each holds a part of the parameters."""

from __future__ import annotations

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from ecr_jax.config import TrainConfig, registry
from ecr_jax.stages import train
from ecr_jax.stages.abstract import STAGES
from ecr_jax.training.options import OptimConfig, ShardingConfig

pytestmark = pytest.mark.slow

STRATEGIES = {
    "data": ShardingConfig(),
    "fsdp": ShardingConfig("fsdp"),
    "tensor": ShardingConfig("tensor", 2),
    "fsdp_tensor": ShardingConfig("fsdp_tensor", 2),
}
STEPS = 50


@pytest.mark.parametrize("stage", STAGES)
def test_every_strategy_has_the_losses_of_one_device(run, stage, tmp_path, monkeypatch, capsys):
    settings = TrainConfig(steps=STEPS, batch_size=8, eval_every=25, optim=OptimConfig(learning_rate=1e-4))

    def rows(name, sharding):
        changed = dataclasses.replace(getattr(run, stage), train=dataclasses.replace(settings, sharding=sharding))
        config = dataclasses.replace(run, runs=tmp_path / name, **{stage: changed})
        for before in registry.find(stage).dependencies(run):
            shutil.copytree(run.stage_folder(before), config.stage_folder(before))
        train(config, stage)
        return [json.loads(line) for line in (config.stage_folder(stage) / "metrics.jsonl").read_text().splitlines()]

    with monkeypatch.context() as patch:
        one = jax.devices()[:1]
        patch.setattr(jax, "devices", lambda *_: one)
        expected = rows("one", ShardingConfig())
    for name, sharding in STRATEGIES.items():
        capsys.readouterr()
        found = rows(name, sharding)
        assert (f"{name} over {8 // sharding.model} data" in capsys.readouterr().out) == (name != "data")
        assert len(found) == len(expected)
        for row, other in zip(found, expected, strict=True):
            assert row.keys() == other.keys()
            if row["split"] == "train":
                np.testing.assert_allclose(row["loss"], other["loss"], rtol=1e-6, err_msg=f"{name}, {row['step']}")
