"""`ecr shardings`: the shapes are those that training has, and what does not fit is refused."""

from __future__ import annotations

import dataclasses
import importlib
import io

import jax
import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.cli import main
from ecr_jax.config import registry
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages import shardings
from ecr_jax.stages.abstract import STAGES, abstract_stage
from ecr_jax.training import sharding
from tests import gguf_files, tiny


class _Seen(Exception):
    """Ends a training where `fit` would begin."""


def shapes(tree):
    paths = jax.tree.leaves(sharding.leaf_paths(tree))
    return {path: (leaf.shape, leaf.dtype) for path, leaf in zip(paths, jax.tree.leaves(tree), strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_shapes_are_those_of_training(request, prepared_config, stage, monkeypatch, tmp_path):
    spec, seen = registry.find(stage), {}
    run = request.getfixturevalue("run") if spec.dependencies(prepared_config) else prepared_config
    if stage == "manager":  # whose choices need a tokenizer that tells them apart: of bytes
        sizes = tiny.llama(280)
        path = gguf_files.write(tmp_path / "model.gguf", sizes, tiny.random_model(sizes).params)
        run = dataclasses.replace(run, language_model=str(path))

    def capture(folder, **arguments):
        seen.update(arguments)
        raise _Seen

    monkeypatch.setattr(importlib.import_module(f"ecr_jax.stages.{stage}"), "fit", capture)
    with pytest.raises(_Seen):
        spec.import_function("train")(open_experiment(run), spec)
    found = abstract_stage(run, stage)
    assert shapes(found.params) == shapes(jax.device_put(seen["params"]))
    expected = shapes(jax.device_put(seen["frozen"]))
    if stage == "recommendation":  # in training, fewer entities may be encoded
        expected = {path: value for path, value in expected.items() if not path.startswith("graph")}
    abstract = shapes(found.frozen)
    assert expected == {path: abstract[path] for path in expected}
    assert found.rules == seen["rules"] and found.train == seen["config"]
    batch = seen["batches"][0]
    assert found.batch.keys() == batch.keys() - {"past"}
    for name, array in found.batch.items():
        assert array.dtype == batch[name].dtype and array.ndim == batch[name].ndim, name


def test_a_7b_needs_what_its_shapes_say(monkeypatch):
    """Llama-2-7B with `<movie>`: 6,738,415,616 parameters in 16 bits, an eighth of all that divides by eight."""
    monkeypatch.setenv("COLUMNS", "200")
    config = configs.replace(configs.load("redial_paper"), "response.dtype", "bfloat16")
    config = configs.replace(config, "response.train.batch_size", 32)
    output = io.StringIO()
    found = shardings.show(config, "response", devices=8, strategy="fsdp", model=None, memory="80GiB",
                           console=Console(file=output, width=200))  # fmt: skip
    whole = 2 * 6_738_415_616
    assert whole / 8 < found.frozen < whole / 8 * 1.001
    assert "language_model/layers/mlp/up/kernel (frozen)" in output.getvalue()
    assert "response: fsdp over 8 data x 1 model devices" in output.getvalue()
    alone = shardings.show(config, "response", devices=1, strategy="data", model=None, memory=None,
                           console=Console(quiet=True))  # fmt: skip
    assert alone.frozen == whole + 2 * 4096 * 2  # one more row of both vocabularies
    with pytest.raises(ValueError, match=r"response needs .* GiB a device, and there are 16.00: take more devices"):
        shardings.show(config, "response", devices=1, strategy="data", model=None, memory="16GiB",
                       console=Console(quiet=True))  # fmt: skip


def test_the_command_ends_with_status_1_where_it_does_not_fit(capsys):
    arguments = ["shardings", "emotion", "--config", "redial_paper", "--devices", "4096", "--strategy", "fsdp"]
    assert main([*arguments, "--memory", "1GiB"]) == 0
    assert main([*arguments, "--memory", "1KiB"]) == 1
    assert "emotion needs" in capsys.readouterr().err
    assert main([*arguments, "--memory", "much"]) == 1
    assert "memory 'much': give a number and KiB, MiB, GiB or TiB" in capsys.readouterr().err


def test_stages_without_shapes_are_named():
    with pytest.raises(ValueError, match="the shapes of 'kbrd' are not known; choose one of emotion"):
        abstract_stage(configs.load("redial_paper"), "kbrd")
