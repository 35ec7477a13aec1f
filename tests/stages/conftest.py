"""Fixtures of the tests of stages: a prepared tiny experiment, and one whose stages are trained."""

from __future__ import annotations

import pytest
from rich.console import Console

from ecr_jax.config import registry
from ecr_jax.data.prepare import prepare
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages import train
from tests import tiny
from tests.recording import recording


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
def reads():
    """Stage -> the config fields that its training read."""
    return {}


@pytest.fixture(scope="module")
def run(prepared_config, reads):
    """The tiny config with all stages and EASE trained."""
    for stage in (*(spec.name for spec in registry.stages() if not spec.optional), "ease"):
        experiment = open_experiment(recording(prepared_config, reads.setdefault(stage, set())))
        train(prepared_config, stage, experiment=experiment)
    return prepared_config


@pytest.fixture(scope="session")
def undeclared():
    """A function from a stage and the fields it read to those that its spec does not declare.

    Left out are places, the settings of the stages that it needs, which say how to open what these wrote, and fields
    that the shared context reads but that change nothing in the stage's outcome.
    """
    harmless = (
        *("name", "base", "prepared", "runs"),
        "encoder.name",  # to open the encoder
        *("emotion.limit", "emotion.annotations"),  # which utterances are encoded beside the turns
        *("recommendation.context_cache_gib", "recommendation.weights"),  # size of the cache; arrays of other losses
        *("recommender.facts_per_item", "recommender.max_entities"),  # facts and entities that are not used
        "recommender.heads.odds_shrinkage",  # odds that the recommendation alone uses
    )

    def fields(stage, paths):
        spec = registry.find(stage)
        needed = (registry.find(name).section for name in (*spec.needs, *spec.needs_if.values()))
        declared = (*spec.reads, spec.section, *needed, *harmless)
        return {path for path in paths if not any(path == name or path.startswith(f"{name}.") for name in declared)}

    return fields
