"""Fixtures of the tests of features."""

from __future__ import annotations

import pytest

from tests.features import sample_dialogues


@pytest.fixture(scope="session")
def tokenizer():
    return sample_dialogues.make_tokenizer()


@pytest.fixture(scope="session")
def featurizer(tokenizer):
    return sample_dialogues.make_featurizer(tokenizer)
