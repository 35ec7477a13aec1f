"""Rewards against numbers worked out by hand, and their sum."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.losses import rewards
from ecr_jax.losses.rewards import Reward

INPUTS = {
    "rank": np.array([1.0, 3.0, 11.0, np.inf]),
    "replies": ["how about <movie> ?", "a b c d", "x", ""],
    "references": ["How about <movie>?", "a b c d e f g h", "y", "z"],
    "detected": np.array([True, False, True, False]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hit(k=10)", [1, 1, 0, 0]),
        ("hit(k=1)", [1, 0, 0, 0]),
        ("mrr", [1, 1 / 3, 0, 0]),
        ("ndcg(k=11)", [1, 1 / 2, 1 / np.log2(12), 0]),
        ("detection", [1, 0, 1, 0]),
        # four of eight words, all in order: the brevity penalty is e^(1 - 8/4)
        ("bleu", [1, np.exp(-1), 0, 0]),
        ("bleu(order=1)", [1, np.exp(-1), 0, 0]),
    ],
)
def test_by_hand(text, expected):
    (values,) = Reward(text)(INPUTS).values()
    np.testing.assert_allclose(values, expected, atol=1e-9)


def test_bleu_is_smoothed():
    """Two of three words, none in order: precisions 2/3, and half a hit of two bigrams."""
    (value,) = rewards.bleu(replies=["b x a"], references=["a b c"], order=2)
    np.testing.assert_allclose(value, np.sqrt(2 / 3 * 0.5 / 2))


def test_order_one_pays_for_words_out_of_any_sentence():
    salad, sentence, said = (
        "you it the a to i and is",
        "have you seen this one before",
        "do you like it ? i think it is a fun one to see",
    )
    by_order = {k: rewards.bleu(replies=[salad, sentence], references=[said] * 2, order=k) for k in (1, 2)}
    assert by_order[1][0] > 2 * by_order[1][1]
    assert by_order[2][0] < by_order[1][0] / 2


def test_the_total_is_the_weighted_sum():
    reward = Reward("0.25*hit(k=10) + 0.75*bleu(order=2)")
    parts = reward(INPUTS)
    assert list(parts) == ["hit(k=10)", "bleu(order=2)"]
    np.testing.assert_allclose(reward.total(parts), [1, 0.25 + 0.75 * np.exp(-1), 0, 0], atol=1e-9)


def test_unknown_rewards_are_refused():
    with pytest.raises(ValueError, match="there is no reward 'rouge'; there are hit, mrr, ndcg, bleu, detection"):
        Reward("0.5*rouge")
