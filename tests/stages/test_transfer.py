"""What a stage takes over from an earlier one, what is said of the rest, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from ecr_jax.stages import transfer as module
from ecr_jax.stages.transfer import transfer, with_key_value_layers


@pytest.fixture
def said(monkeypatch):
    """What is printed."""
    console = Console(file=io.StringIO(), width=500)
    monkeypatch.setattr(module.rich, "get_console", lambda: console)
    return console.file.getvalue


def test_arrays_of_the_same_path_are_taken(said):
    new = {"a": {"kernel": np.zeros(2), "bias": np.zeros(1)}, "c": {"x": {"y": np.zeros(1)}, "z": np.zeros(1)}}
    old = {"a": {"kernel": np.ones(2), "other": np.ones(1)}, "d": {"x": np.ones(1)}}
    initial = transfer(new, old, "fusion")
    assert initial["a"]["kernel"].tolist() == [1, 1] and initial["a"]["bias"].tolist() == [0]
    assert initial.keys() == new.keys() and initial["a"].keys() == new["a"].keys()
    assert said() == "begins with 1 arrays of fusion; new: a/bias, c; left behind: a/other, d\n"
    assert new["a"]["kernel"].tolist() == [0, 0]


def test_nothing_is_apart(said):
    transfer({"a": np.zeros(1)}, {"a": np.ones(1)}, "fusion")
    assert said() == "begins with 1 arrays of fusion; all there are\n"


def test_other_shapes_are_refused(said):
    new = {"head": {"query": {"recency": np.zeros(8)}}, "b": np.zeros((2, 3)), "c": np.zeros(1)}
    old = {"head": {"query": {"recency": np.ones(32)}}, "b": np.ones((2, 4)), "c": np.ones(1)}
    message = (
        r"'fusion' learned does not fit.*: b \(2, 4\) → \(2, 3\); head/query/recency \(32,\) → \(8,\)\. Give `fusion"
    )
    with pytest.raises(ValueError, match=message):
        transfer(new, old, "fusion")
    assert not said()


def encoder(layers, fill, width=3, inputs=2):
    """Of each layer, `width` columns."""
    columns = fill + np.arange(layers * width, dtype=np.float32)
    return {"nodes": np.zeros(1), "key_values": {"kernel": np.tile(columns, (inputs, 1)), "bias": columns}}


def test_lowest_layers_are_shared():
    learned, initial = encoder(2, 100), encoder(4, 0)
    taken = with_key_value_layers(learned, initial, 3, shared=True)
    expected = [100, 101, 102, 103, 104, 105, 6, 7, 8, 9, 10, 11]
    np.testing.assert_array_equal(taken["key_values"]["bias"], expected)
    np.testing.assert_array_equal(taken["key_values"]["kernel"], [expected, expected])
    assert taken["nodes"] is learned["nodes"]
    deeper = with_key_value_layers(encoder(4, 100), encoder(2, 0), 3, shared=True)
    np.testing.assert_array_equal(deeper["key_values"]["bias"], 100 + np.arange(6))


def test_projection_begins_anew_or_is_whole():
    learned = encoder(2, 100)
    assert with_key_value_layers(learned, encoder(4, 0), 3, shared=False).keys() == {"nodes"}
    for shared in (False, True):
        assert with_key_value_layers(learned, encoder(2, 0), 3, shared=shared) is learned
