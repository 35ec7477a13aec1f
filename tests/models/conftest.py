"""Fixtures of the tests of models."""

from __future__ import annotations

import pytest

from tests.models.published import Published


@pytest.fixture(scope="module")
def published(golden):
    """The arrays of the published code, with its graph, sizes and batch."""
    return Published(golden)
