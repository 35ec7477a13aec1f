"""Head, tail and cold by training counts; round trip; unknown entities."""

import numpy as np
import pytest

from ecr_jax.evaluation.catalogue import Catalogue

ITEMS = np.array([2, 3, 5, 7, 11, 13])


def catalogue(counts):
    return Catalogue("films", "test", "default", ITEMS, np.asarray(counts))


def test_counts_are_of_training_targets():
    saved = Catalogue.of("films", "test", "default", ITEMS, [7, 3, 7, 2, 7])
    assert saved.counts.tolist() == [1, 1, 0, 3, 0, 0]
    assert saved.count(np.array([[7, 2], [11, 3]])).tolist() == [[3, 1], [0, 1]]


@pytest.mark.parametrize(
    ("counts", "least"),
    [
        ([10, 4, 3, 2, 1, 0], 10),  # ten of twenty: the first item is half
        ([9, 5, 3, 2, 1, 0], 5),
        ([4, 3, 3, 3, 1, 0], 3),  # four and one three are half of fourteen; all threes are in it
        ([0, 0, 0, 0, 0, 0], 1),  # nothing is recommended: nothing is head
    ],
)
def test_head_by_hand(counts, least):
    assert catalogue(counts).head() == least


def test_head_is_at_least_half_and_no_more_than_needed():
    rng = np.random.default_rng(0)
    for _ in range(20):
        saved = catalogue(rng.integers(0, 6, 6))
        head, total = saved.counts[saved.counts >= saved.head()], saved.counts.sum()
        assert 2 * head.sum() >= total
        assert 2 * head[head > saved.head()].sum() < max(total, 1)


def test_round_trip(tmp_path):
    saved = catalogue([3, 0, 1, 0, 0, 2])
    saved.save(tmp_path)
    loaded = Catalogue.load(tmp_path)
    assert (loaded.corpus, loaded.split, loaded.protocol) == ("films", "test", "default")
    np.testing.assert_array_equal(loaded.items, saved.items)
    np.testing.assert_array_equal(loaded.counts, saved.counts)
    assert Catalogue.load(tmp_path / "elsewhere") is None


def test_unknown_entities_are_refused():
    with pytest.raises(ValueError, match="entity 4 is not among the 6 items of the catalogue of films"):
        catalogue(np.zeros(6, int)).count(np.array([3, 4]))
