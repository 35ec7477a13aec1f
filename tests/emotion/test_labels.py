from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.emotion import labels

BETA = 0.1
"""The threshold of the paper (ECR 5.4)."""


def test_the_order_is_binding():
    assert labels.EMOTIONS == (
        "like", "curious", "happy", "grateful", "negative", "neutral", "nostalgia", "agreement", "surprise",
    )  # fmt: skip
    assert labels.PAD == 9


def test_from_names():
    assert labels.from_names(["surprise", "like"]) == (8, 0)
    assert labels.from_names([]) == ()
    with pytest.raises(ValueError, match="unknown emotion 'joy'; the nine are like"):
        labels.from_names(["like", "joy"])


def row(**probs):
    return np.array([probs.get(name, 0.0) for name in labels.EMOTIONS])


def test_most_probable_first_and_strictly_above():
    selected = labels.select(row(happy=0.3, like=0.1, negative=0.45, neutral=0.15), BETA)
    assert [i for i, _ in selected] == [4, 2, 5]
    np.testing.assert_allclose([p for _, p in selected], [0.45, 0.3, 0.15], rtol=1e-6)


def test_the_threshold_is_strict_in_single_precision_too():
    # 0.1 rounded to float32 is a little more than 0.1; it must count as equal.
    probs = np.array([0.8, 0.1, 0.1, 0, 0, 0, 0, 0, 0], np.float32)
    assert [i for i, _ in labels.select(probs, BETA)] == [0]


def test_the_most_probable_is_kept_below_the_threshold():
    assert [i for i, _ in labels.select(row(grateful=0.09, surprise=0.08), BETA)] == [3]
    assert [i for i, _ in labels.select(row(grateful=0.5, surprise=0.3), beta=0.6)] == [3]


def test_equal_ones_by_id():
    assert [i for i, _ in labels.select(row(surprise=0.3, like=0.3, neutral=0.3), BETA)] == [0, 5, 8]


def test_rows_agree_with_brute_force():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(9, 0.5), size=50).astype(np.float32)
    for count in (1, 3, 9):
        ids, values = labels.select_rows(probs, count, BETA)
        assert (ids.dtype, values.dtype, ids.shape) == (np.int32, np.float32, (50, count))
        for n in range(50):
            order = sorted(range(9), key=lambda i: (-probs[n, i], i))
            expected = [i for place, i in enumerate(order) if place == 0 or probs[n, i] > np.float32(0.1)][:count]
            assert ids[n].tolist() == expected + [labels.PAD] * (count - len(expected))
            assert values[n].tolist() == [probs[n, i] for i in expected] + [0.0] * (count - len(expected))


def test_no_rows():
    ids, values = labels.select_rows(np.zeros((0, 9)), 3, BETA)
    assert ids.shape == values.shape == (0, 3)


@pytest.mark.parametrize(
    ("probs", "count", "reason"),
    [
        (np.zeros((2, 8)), 3, r"shape \(2, 8\); expected \[utterances, 9\]"),
        (np.full((1, 9), np.nan), 3, "finite"),
        (np.full((1, 9), -1.0), 3, "not negative"),
        (np.zeros((1, 9)), 0, "count is 0; expected 1 to 9"),
        (np.zeros((1, 9)), 10, "count is 10"),
    ],
)
def test_bad_input(probs, count, reason):
    with pytest.raises(ValueError, match=reason):
        labels.select_rows(probs, count, BETA)
