"""Fixtures of the tests of stages: a prepared tiny experiment, and one whose stages are trained."""

from __future__ import annotations

import pytest
from rich.console import Console

from ecr_jax.config import registry
from ecr_jax.data.prepare import prepare
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages import train
from tests import tiny


@pytest.fixture(scope="session")
def contents():
    """A function from a folder to its files' bytes, by relative path."""
    return lambda folder: {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def prepared_config(tmp_path_factory):
    """A tiny config whose corpus is prepared and which has no trained stage."""
    config = tiny.tiny_config(tmp_path_factory.mktemp("run"))
    prepare(config, console=Console(quiet=True))
    return config


@pytest.fixture(scope="module")
def run(prepared_config):
    """The tiny config with all stages and EASE trained."""
    experiment = open_experiment(prepared_config)
    for stage in (*(spec.name for spec in registry.stages()), "ease"):
        train(prepared_config, stage, experiment=experiment)
    return prepared_config
