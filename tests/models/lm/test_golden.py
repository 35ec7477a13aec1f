"""What test_parity.py asks live, asked of stored arrays of transformers: scores, states, gradients, positions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ecr_jax.models.lm import convert
from ecr_jax.pretrained.language_models import Pretrained
from tests.parity import TOLERANCE, Ours, gap, sample, scale

GOLDEN = Path(__file__).parents[2] / "golden"
NAMES = ("llama", "llama_full", "llama3", "gpt2", "bert", "roberta")


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    """The arrays, our functions of the model, and the batch: two rows, the second padded on the right."""
    arrays = dict(np.load(GOLDEN / f"tiny_{request.param}.npz"))
    config = convert.config_from_hf(json.loads(str(arrays["config"])))
    weights = {key.removeprefix("weights/"): value for key, value in arrays.items() if key.startswith("weights/")}
    module = convert.module_of(config)(config)
    batch = {name: arrays[name] for name in ("tokens", "mask", "positions", "token_types") if name in arrays}
    return arrays, Ours(Pretrained(module, convert.from_hf(weights, config), config)), batch


def test_the_cases_differ_in_what_matters():
    files = [np.load(GOLDEN / f"tiny_{name}.npz") for name in NAMES]
    configs = [convert.config_from_hf(json.loads(str(file["config"]))) for file in files]
    assert [(c.kv_heads, c.tied, c.rope_scaling is not None) for c in configs[:3]] == [
        (2, False, False),
        (4, True, False),
        (1, True, True),
    ]
    assert [c.position_offset for c in configs[4:]] == [0, 2]


@pytest.mark.slow
def test_scores_states_and_gradients_equal_transformers(case):
    arrays, ours, batch = case
    read, mask = ours.read(batch), batch["mask"]
    assert abs(read["loss"] - arrays["loss"]) <= TOLERANCE * abs(arrays["loss"])
    for name in ("logits", "hidden"):
        assert gap(np.asarray(read[name])[mask], arrays[name][mask]) <= TOLERANCE, name
    assert gap(read["states"][:, mask], arrays["states"][:, mask]) <= TOLERANCE
    theirs = dict(zip(arrays["gradient_names"].tolist(), arrays["gradients"], strict=True))
    assert set(read["gradients"]) == set(theirs)
    for name, expected in theirs.items():
        assert gap(sample(read["gradients"][name]), expected, scale(name, theirs)) <= TOLERANCE, name


def test_padding_on_the_left_gives_the_same(case):
    arrays, ours, batch = case
    shift = [len(row) - row.sum() for row in batch["mask"]]
    rolled = {name: np.stack([np.roll(row, by) for row, by in zip(values, shift, strict=True)])
              for name, values in batch.items()}  # fmt: skip
    scores = np.asarray(ours.scores(rolled))
    assert gap(scores[rolled["mask"]], arrays["logits"][batch["mask"]]) <= TOLERANCE


def test_positions_are_counted_where_none_are_given(case):
    arrays, ours, batch = case
    inputs = {name: values for name, values in batch.items() if name != "positions"}
    assert gap(np.asarray(ours.scores(inputs))[batch["mask"]], arrays["logits"][batch["mask"]]) <= TOLERANCE


def test_far_positions_equal_transformers(case):
    """9000 tokens on for a Llama whose original context is 16; the last ones of a table."""
    arrays, ours, batch = case
    if "far_positions" not in arrays:
        pytest.skip("transformers' RoBERTa counts positions by itself")
    scores = np.asarray(ours.scores(batch | {"positions": arrays["far_positions"]}))
    assert gap(scores[batch["mask"]], arrays["far_logits"][batch["mask"]]) <= TOLERANCE
