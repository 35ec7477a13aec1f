"""A batch spec: what it refuses, and the toy batches and loss inputs that follow from it."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.features.batch_spec import BatchSpec, Field
from ecr_jax.features.batches import pad_batch

SPEC = BatchSpec(
    "toy",
    (
        Field("tokens", np.int32, ("T",), 5, "token_mask", below=5),
        Field("neighbours", np.int32, ("E", 2), 7, below=7),
        Field("weight", np.float32, ("T",), 0, loss_input="weights"),
        Field("targets", np.int32, ("E",), 3, "target_mask", loss_input="targets"),
        Field("label", np.int32, (), -1),
    ),
)


def test_zeros_are_a_batch_of_padding():
    batch, padded = SPEC.zeros(2, {"T": 3, "E": 4}), pad_batch(SPEC, [], [], {"T": 3, "E": 4}, 2)
    assert batch.keys() == padded.keys() and all(np.array_equal(batch[name], padded[name]) for name in batch)
    assert batch["neighbours"].shape == (2, 4, 2) and (batch["neighbours"] == 7).all()
    assert not any(batch[name].any() for name in ("token_mask", "target_mask", "example_mask"))
    assert SPEC.zeros(1)["tokens"].shape == (1, 1)


def test_toy_batches_have_real_values():
    batch, again = SPEC.toy(3, {"T": 4, "E": 6}, seed=1), SPEC.toy(3, {"T": 4, "E": 6}, seed=1)
    assert all(np.array_equal(batch[name], again[name]) for name in batch)
    assert batch["tokens"].max() < 5 and batch["neighbours"].max() < 7 and batch["weight"].dtype == np.float32
    assert batch["token_mask"].all() and batch["example_mask"].all() and batch["example"].tolist() == [0, 1, 2]
    zeros = SPEC.zeros(3, {"T": 4, "E": 6})
    assert {name: (a.shape, a.dtype) for name, a in batch.items()} == {
        name: (a.shape, a.dtype) for name, a in zeros.items()
    }
    other = SPEC.toy(3, {"T": 4, "E": 6}, seed=2)
    assert not np.array_equal(batch["weight"], other["weight"])


def test_loss_inputs():
    batch = SPEC.toy(2)
    inputs = SPEC.loss_inputs(batch)
    assert inputs.keys() == {"weights", "targets", "where"}
    assert inputs["where"] is batch["target_mask"] and inputs["weights"] is batch["weight"]


def test_axes_and_extension():
    assert SPEC.axes == ("T", "E") and "label" in SPEC and SPEC["label"].pad == -1
    more = SPEC.extended("more", Field("words", np.int32, ("W",)))
    assert more.axes == ("T", "E", "W") and more.name == "more" and "words" not in SPEC


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="'twice' names tokens more than once"):
        BatchSpec("twice", (Field("tokens", np.int32), Field("tokens", np.int32)))
    with pytest.raises(ValueError, match="'x': a mask needs a first axis of differing length"):
        Field("x", np.int32, (3,), mask="x_mask")
    good = {
        "tokens": np.zeros(1, np.int32), "neighbours": np.zeros((1, 2), np.int32), "weight": np.zeros(3, np.float32),
        "targets": np.zeros(0, np.int32), "label": np.int32(1),
    }  # fmt: skip
    assert SPEC.lengths(good, "this example") == {"T": 3, "E": 1}
    with pytest.raises(ValueError, match=r"example 7: neighbours has shape \(1, 3\), its Field names the axes"):
        SPEC.lengths(good | {"neighbours": np.zeros((1, 3), np.int32)}, "example 7")
    with pytest.raises(ValueError, match="example 7: weight has dtype float64, its Field float32"):
        SPEC.lengths(good | {"weight": np.zeros(3)}, "example 7")
