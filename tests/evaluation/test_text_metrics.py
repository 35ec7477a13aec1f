"""Text metrics by hand and against the published evaluator's report."""

import json

import numpy as np
import pytest

from ecr_jax.evaluation import text_metrics


def test_bleu_by_hand():
    # 3 of 4 words are in the reference, "the" clipped to 1; one bigram of three
    assert text_metrics.bleu("the the cat sat", "the cat ran sat", 1) == pytest.approx(0.75)
    assert text_metrics.bleu("the the cat sat", "the cat ran sat", 2) == pytest.approx(1 / 3)
    assert text_metrics.bleu("the cat", "the cat ran sat", 1) == pytest.approx(np.exp(-1))
    assert text_metrics.bleu("", "the", 1) == text_metrics.bleu("a", "the", 1) == text_metrics.bleu("a", "a", 2) == 0


def test_distinct_and_items_by_hand():
    replies = ["a b a", "a b", ""]
    assert text_metrics.distinct(replies, 1) == 2 / 5
    assert text_metrics.distinct(replies, 2) == 2 / 3
    assert text_metrics.distinct([""], 1) == 0
    assert text_metrics.item_ratio(["<movie> and <movie>", "", "no"]) == pytest.approx(2 / 3)


def test_empty_replies_count_unless_as_published():
    fixed = text_metrics.measure(["a b", ""], ["a b", "c"])
    published = text_metrics.measure(["a b", ""], ["a b", "c"], published=True)
    assert (fixed["bleu@1"], published["bleu@1"]) == (0.5, 1.0)
    assert (fixed["dist@1"], published["dist@1"]) == (1.0, 2.0)
    assert set(text_metrics.measure([], []).values()) == {0.0}


def test_lengths_must_agree():
    with pytest.raises(ValueError):
        text_metrics.measure(["a"], [])


def test_published_evaluator(golden):
    case = json.loads((golden / "process_conv_eval.json").read_text())

    def clean(line):
        return line.replace("<pad>", "").replace("<|endoftext|>", "").strip()

    measured = text_metrics.measure(
        [clean(p) for p in case["preds"]], [clean(r) for r in case["labels"]], published=True
    )
    assert measured == pytest.approx({k: v for k, v in case["report"].items() if k != "sent_cnt"})
