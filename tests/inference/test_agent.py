"""How replies are put together from what the models write."""

from __future__ import annotations

import pytest

from ecr_jax.inference.agent import fill, whole_sentences


@pytest.mark.parametrize(
    ("template", "titles", "text"),
    [
        ("I like <movie> and <movie>.", ["A (1990)", "B"], "I like A (1990) and B."),
        ("I like <movie> .", ["A"], "I like A."),
        ("Try <movie> , it is fun !", ["A"], "Try A, it is fun!"),
        ("No film here.", [], "No film here."),
        ("Try <movie>.", ["A", "B"], "Try A. You could also watch B."),
        ("Try <movie>!", ["A", "B", "C", "D"], "Try A! You could also watch B, C or D."),
        ("<movie>", ["A"], "A"),
        ("  <movie>   \n is good ", ["A"], "A is good"),
        ("", [], ""),
    ],
)
def test_fill(template, titles, text):
    assert fill(template, titles) == text


def test_every_slot_needs_a_title():
    with pytest.raises(ValueError, match="2 slots in 'See <movie> or <movie>.', but 1 titles"):
        fill("See <movie> or <movie>.", ["A"])


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One. Two! Thr", "One. Two!"),
        ("One?", "One?"),
        ("no end at all", "no end at all"),
        (" a  b.\n c", "a b."),
        ("", ""),
        ("... and", "..."),
    ],
)
def test_whole_sentences(text, kept):
    assert whole_sentences(text) == kept
