"""Adapters that stages begin with: what is written is read, and what does not fit is refused."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

from ecr_jax.config import presets
from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import lora
from ecr_jax.pretrained import starting_adapters
from ecr_jax.pretrained.starting_adapters import StartingAdapter, load, write
from tests import tiny

MODEL = tiny.random_model(tiny.llama(9))
CONFIG = LoraConfig(rank=2, alpha=4.0, dropout=0.1)
ADAPTER = jax.tree.map(lambda x: np.asarray(x) + 0.25, lora.init(jax.random.key(0), MODEL.params, CONFIG))
MADE_WITH = {"command": "ecr train", "commit": "abc", "seed": 3}


@pytest.fixture
def folder(tmp_path):
    rows = np.full((1, 16), 0.5, np.float32)
    stages = {
        "conversation": StartingAdapter({"adapter": ADAPTER, "movie": {"rows": rows}}, CONFIG),
        "response": StartingAdapter({"adapter": ADAPTER}, CONFIG),
    }
    write(tmp_path / "adapter", "base", stages, MADE_WITH)
    return tmp_path / "adapter"


def test_round_trip(folder):
    read = load(str(folder), "conversation", "base", dataclasses.replace(CONFIG, dropout=0.5))
    assert set(read.params) == {"adapter", "movie"} and read.params["movie"]["rows"].tolist() == [[0.5] * 16]
    differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), read.params["adapter"], ADAPTER)
    assert max(jax.tree.leaves(differences)) < 1e-3  # stored in float16
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(read.params))
    assert "movie" not in load(str(folder), "response", "base", CONFIG).params
    assert json.loads((folder / "adapter.json").read_text())["made_with"] == MADE_WITH


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("response", "other", CONFIG), "is one of 'base', and 'response' adapts 'other': set response.begin_with"),
        (("fusion", "base", CONFIG), "has adapters of conversation, response, and none of 'fusion'"),
        (("response", "base", LoraConfig(rank=4, alpha=4.0)), "other settings than response.adapter: rank 2, not 4"),
        (("response", "base", LoraConfig(rank=2, alpha=8.0)), "alpha 4.0, not 8.0"),
    ],
)
def test_what_does_not_fit_is_refused(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        load(str(folder), *arguments)


def test_a_changed_or_missing_file_is_refused(folder):
    file = folder / "response.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is not the file that adapter.json names"):
        load(str(folder), "response", "base", CONFIG)
    load(str(folder), "conversation", "base", CONFIG)
    file.unlink()
    with pytest.raises(ValueError, match="is not the file that adapter.json names"):
        load(str(folder), "response", "base", CONFIG)


def test_unknown_names_and_folders_in_the_way(folder):
    with pytest.raises(ValueError, match="no adapter 'cooking' to begin with"):
        load("cooking", "response", "base", CONFIG)
    with pytest.raises(ValueError, match="is there already"):
        write(folder, "base", {}, {})


@pytest.mark.parametrize("path", sorted(starting_adapters.SHIPPED.glob("*/adapter.json")), ids=lambda p: p.parent.name)
def test_shipped_adapters(path):
    description = json.loads(path.read_text())
    for stage in ("conversation", "response"):
        read = load(path.parent.name, stage, description["base"], presets.films_adapter())
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(read.params))
        assert any(part["b"].any() for part in lora.flat(read.params["adapter"]).values())
    assert {"command", "commit", "corpus"} <= set(description["made_with"])
    assert sum(file.stat().st_size for file in path.parent.iterdir()) <= 6 * 2**20
