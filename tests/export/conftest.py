"""A run whose parameters are random, exported by many tests."""

from __future__ import annotations

import pytest

from tests import random_run


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The config of a run: a Llama of two layers, an adapter on a base in int8."""
    return random_run.write(tmp_path_factory.mktemp("run"))
