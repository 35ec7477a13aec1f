"""Kappa and alpha against published worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from ecr_jax.evaluation.agreement import cohen_kappa, krippendorff_alpha, ranks

MISSING = math.nan
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, MISSING, MISSING, MISSING],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, MISSING, 3],
        [MISSING, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, MISSING],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, MISSING],
    ]
)
"""Four observers and twelve units: example D of Krippendorff 2011."""


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_example(level, alpha):
    assert krippendorff_alpha(KRIPPENDORFF, level) == pytest.approx(alpha, abs=5e-4)


def test_alpha_of_two_observers_as_published():
    # example B of Krippendorff 2011: two observers, nominal data of five categories
    one = [1, 1, 2, 2, 4, 3, 3, 3, 5, 4, 4, 1]
    other = [2, 1, 2, 2, 2, 3, 3, 3, 5, 4, 4, 4]
    assert krippendorff_alpha(np.array([one, other]), "nominal") == pytest.approx(0.692, abs=5e-4)


def test_alpha_at_its_ends():
    agreed = np.array([[1.0, 2, 3], [1, 2, 3]])
    assert krippendorff_alpha(agreed) == 1
    assert math.isnan(krippendorff_alpha(np.array([[4.0, 4], [4, 4]])))
    assert math.isnan(krippendorff_alpha(np.array([[1.0, MISSING], [MISSING, 2]])))  # no unit has two
    assert krippendorff_alpha(np.array([[0.0, 9, 0, 9], [9, 0, 9, 0]])) < 0


def test_kappa_of_the_published_example():
    # Cohen 1960: two judges, three categories, 200 patients, agreement .29 by chance and .50 as observed: kappa .492
    # is of the table [[88, 14, 18], [10, 40, 10], [2, 6, 12]]
    table = np.array([[88, 14, 18], [10, 40, 10], [2, 6, 12]])
    one = np.repeat([0, 0, 0, 1, 1, 1, 2, 2, 2], table.ravel())
    other = np.repeat([0, 1, 2] * 3, table.ravel())
    assert cohen_kappa(one, other) == pytest.approx(0.492, abs=5e-4)


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_kappa_is_that_of_scikit_learn(weights):
    rng = np.random.default_rng(0)
    one = rng.integers(1, 6, 60)
    other = np.clip(one + rng.integers(-1, 3, 60), 1, 5)
    assert cohen_kappa(one, other, weights) == pytest.approx(cohen_kappa_score(one, other, weights=weights))


def test_kappa_at_its_ends():
    assert cohen_kappa([1, 2, 3], [1, 2, 3], "linear") == 1
    assert cohen_kappa([1, 2], [2, 1]) == -1
    assert math.isnan(cohen_kappa([2, 2], [2, 2])) and math.isnan(cohen_kappa([], []))
    with pytest.raises(ValueError, match="2 and 1 ratings"):
        cohen_kappa([1, 2], [1])


def test_ranks_by_hand():
    assert ranks(np.array([[3.0, 9, 3], [1, 1, 1], [0, 5, 9]])).tolist() == [[2, 1, 2], [1, 1, 1], [3, 2, 1]]
