from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.features.item_odds import ItemOdds

DIALOGUES = [{0: 1, 1: -1}, {0: 1}, {0: -1, 2: 1}]
"""Answers of three dialogues about entities 0 to 3: four likes or dislikes of five."""


def test_shrunk_odds_by_hand():
    odds = ItemOdds.of(DIALOGUES, entities=4, shrinkage=2.0)
    assert odds.likes.tolist() == [2, 0, 1, 0, 0] and odds.dislikes.tolist() == [1, 1, 0, 0, 0]
    p = 4 / 7  # three of five, and one of each
    assert odds.like_rate == pytest.approx(p)
    prior = np.log(p / (1 - p))
    expected = [np.log((2 + 2 * p) / (1 + 2 * (1 - p))), np.log(2 * p / (1 + 2 * (1 - p)))]
    expected += [np.log((1 + 2 * p) / (2 * (1 - p))), prior, prior]
    np.testing.assert_allclose(odds.log_odds(), np.array(expected) - prior, atol=1e-12)


def test_much_shrinkage_makes_all_films_alike():
    assert np.abs(ItemOdds.of(DIALOGUES, 4, 1e6).log_odds()).max() < 1e-5


@pytest.mark.parametrize("number", range(3))
def test_a_dialogue_is_left_out_of_its_own_odds(number):
    """The shifted odds are those of the other dialogues, apart from the mean film's, which all dialogues give."""
    odds, own = ItemOdds.of(DIALOGUES, 4, 2.0), DIALOGUES[number]
    others = ItemOdds.of([d for d in DIALOGUES if d is not own], 4, 2.0)
    p = odds.like_rate
    left = np.log(others.likes + 2 * p) - np.log(others.dislikes + 2 * (1 - p)) - np.log(p / (1 - p))
    shifted = odds.log_odds()[[*own]] + odds.own_shift(own)
    np.testing.assert_allclose(shifted, left[[*own]], rtol=1e-6, atol=1e-6)
    assert odds.own_shift({}).shape == (0,)
