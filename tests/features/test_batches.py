"""Buckets, padding, order and resumption of batches."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.features.batch_spec import BatchSpec, Field
from ecr_jax.features.batches import Batches, InMemoryExamples, bucket_shapes, pad_batch, plan_epoch

SPEC = BatchSpec(
    "toy",
    (
        Field("tokens", np.int32, ("T",), pad=9, mask="token_mask"),
        Field("neighbours", np.int32, ("E", 2), pad=7),
        Field("label", np.int32, pad=-1),
    ),
)
SHAPES = ({"T": 2, "E": 2}, {"T": 4, "E": 2}, {"T": 4, "E": 4})


def example(number, tokens, entities):
    return {
        "tokens": np.full(tokens, number, np.int32),
        "neighbours": np.full((entities, 2), number, np.int32),
        "label": np.int32(number),
        "name": "left out",
    }


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    return InMemoryExamples(SPEC, [example(i, rng.integers(0, 5), rng.integers(0, 5)) for i in range(41)])


def test_padding_by_hand():
    batch = pad_batch(SPEC, [example(1, 1, 2), example(2, 3, 0)], [5, 8], {"T": 4, "E": 2}, 3)
    assert set(batch) == {"tokens", "token_mask", "neighbours", "label", "example", "example_mask"}
    np.testing.assert_array_equal(batch["tokens"], [[1, 9, 9, 9], [2, 2, 2, 9], [9] * 4])
    np.testing.assert_array_equal(batch["token_mask"], [[1, 0, 0, 0], [1, 1, 1, 0], [0] * 4])
    np.testing.assert_array_equal(batch["neighbours"], [[[1, 1], [1, 1]], [[7, 7], [7, 7]], [[7, 7], [7, 7]]])
    np.testing.assert_array_equal(batch["label"], [1, 2, -1])
    np.testing.assert_array_equal(batch["example"], [5, 8, 0])
    np.testing.assert_array_equal(batch["example_mask"], [True, True, False])
    assert batch["tokens"].dtype == np.int32 and batch["token_mask"].dtype == bool
    assert batch["example"].dtype == np.int32


def test_every_example_once_an_epoch_in_its_own_bucket(examples):
    batches = Batches(examples, SHAPES, 4, seed=3, epochs=1)
    seen = []
    for batch in batches:
        shape = {"T": batch["tokens"].shape[1], "E": batch["neighbours"].shape[1]}
        for row, number in enumerate(batch["example"]):
            if not batch["example_mask"][row]:
                assert not batch["token_mask"][row].any()
                continue
            seen.append(int(number))
            need = {"T": len(examples[number]["tokens"]), "E": len(examples[number]["neighbours"])}
            first = next(s for s in SHAPES if all(need[axis] <= s[axis] for axis in need))
            assert shape == first
            assert batch["token_mask"][row].sum() == need["T"]
            assert (batch["tokens"][row][: need["T"]] == number).all()
    assert sorted(seen) == list(range(41))
    assert len(batches) == batches.per_epoch


def test_order_is_decided_by_seed_and_epoch(examples):
    def order(seed, epochs=2):
        return [b["example"].tolist() for b in Batches(examples, SHAPES, 4, seed=seed, epochs=epochs)]

    first = order(1)
    assert first == order(1)
    assert first != order(2)
    assert first[: len(first) // 2] != first[len(first) // 2 :]


def test_without_shuffling_the_order_is_the_examples_own():
    plan = plan_epoch(np.array([0, 1, 0, 0, 1]), 2, seed=None, epoch=4)
    assert [(b, rows.tolist()) for b, rows in plan] == [(0, [0, 2]), (0, [3]), (1, [1, 4])]


def test_state_is_restored_mid_epoch_exactly(examples):
    batches = Batches(examples, SHAPES, 4, seed=5)
    one = iter(batches)
    for _ in range(batches.per_epoch + 3):  # in the second epoch; read ahead must not count
        next(one)
    state = one.get_state()
    rest = [next(one) for _ in range(batches.per_epoch)]
    other = iter(Batches(examples, SHAPES, 4, seed=5))
    other.set_state(state)
    for batch in rest:
        again = next(other)
        assert batch.keys() == again.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], again[name])


def test_bucket_shapes_take_what_their_examples_need():
    rows = [example(0, 3, 1), example(1, 4, 9), example(2, 12, 2), example(3, 5, 1)]
    sets = [InMemoryExamples(SPEC, rows[:1]), InMemoryExamples(SPEC, rows[1:])]
    assert bucket_shapes(sets, {"T": (4, 8, 10, 16)}) == (
        {"T": 4, "E": 12},
        {"T": 8, "E": 12},
        {"T": 16, "E": 12},
    )
    with pytest.raises(ValueError, match="needs 12, the largest bucket is 8; truncate"):
        bucket_shapes(sets, {"T": (4, 8)})


def test_bad_input_says_what_to_do(examples):
    with pytest.raises(ValueError, match="no examples"):
        Batches(InMemoryExamples(SPEC, []), SHAPES, 4)
    with pytest.raises(ValueError, match="no examples to batch: does any turn"):
        bucket_shapes([InMemoryExamples(SPEC, [])], {"T": (4,)})
    with pytest.raises(ValueError, match=r"1 examples fit in no bucket; example 1 needs {'T': 5, 'E': 1}.*truncate"):
        Batches(InMemoryExamples(SPEC, [example(0, 1, 1), example(1, 5, 1)]), SHAPES, 4)
    with pytest.raises(ValueError, match=r"no length for the axes \['E'\]"):
        Batches(examples, [{"T": 4}], 4)
    with pytest.raises(ValueError, match="example 0 has no field 'label'"):
        InMemoryExamples(SPEC, [{"tokens": np.zeros(1, np.int32), "neighbours": np.zeros((1, 2), np.int32)}])
    with pytest.raises(ValueError, match="batch_size=0"):
        Batches(examples, SHAPES, 0)


def test_repeated_batches_follow_each_other():
    """Each batch as often as is asked for, over all epochs, with its own numbers."""
    spec = BatchSpec("numbers", (Field("x", np.int32, ("T",)),))
    examples = InMemoryExamples(spec, [{"x": np.full(length, length, np.int32)} for length in range(1, 6)])
    once = Batches(examples, ({"T": 5},), 2, seed=4, epochs=2)
    thrice = once.repeated(3)
    assert len(thrice) == 3 * len(once) == 18 and thrice.per_epoch == 3 * once.per_epoch
    for index in range(len(thrice)):
        assert thrice.example_numbers(index) == once.example_numbers(index // 3)
        np.testing.assert_array_equal(thrice[index]["x"], once[index // 3]["x"])
    assert len(Batches(examples, ({"T": 5},), 2).repeated(3)) > 10**9
