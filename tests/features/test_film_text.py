"""Similar films by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.features import film_text
from ecr_jax.features.film_text import FilmText

ITEMS = np.array([1, 2, 4, 5])
# less their mean (0, 0): 1 and 2 are at 45 degrees, 4 is opposite to 1; 5 has no description
TEXT = np.array([[9.0, 9], [1, 0], [1, 1], [9, 9], [-2, -1], [0, 0]])


@pytest.mark.parametrize("rows", [1, 512])
def test_most_similar(rows, monkeypatch):
    monkeypatch.setattr(film_text, "_ROWS", rows)
    ids, weights = FilmText(TEXT, ITEMS, 2.0).most_similar(entities=6, count=2)
    assert ids.shape == weights.shape == (7, 2)
    assert ids[1].tolist() == [2, 6] and ids[2].tolist() == [1, 6]
    np.testing.assert_allclose(weights[[1, 2]], [[0.5, 0], [0.5, 0]], rtol=1e-5)
    assert (ids[[0, 3, 4, 5, 6]] == 6).all() and not weights[[0, 3, 4, 5, 6]].any()


def test_fewer_items_than_asked_for():
    ids, weights = FilmText(TEXT, ITEMS, 2.0).most_similar(entities=6, count=9)
    assert sorted(ids[1].tolist()) == [2, *[6] * 8] and np.count_nonzero(weights) == 2
