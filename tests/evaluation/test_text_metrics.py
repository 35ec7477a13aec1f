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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("v11051_gen_output.txt", (0.304, 0.115, 0.370, 2.221)),
        ("v1116_gpt2_gen_output.txt", (0.277, 0.097, 0.290, 1.868)),
        ("output_test_both_epoch_-1.txt", (0.285, 0.072, 0.204, 1.207)),
    ],
)
def test_published_replies_of_tgredial(real_data, name, expected):
    """Turns of TG-ReDial's test split beside what published models wrote, with characters as words, or in words.

    BLEU is that of NLTK's definition, computed here by itself; the expected numbers are of these files. Distinct is a
    number a reply, as CRSLab counts it.
    """
    path = real_data / "tgredial" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there: it is in the repository Zyh716/TG_CRS_Code")
    references, predictions = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        for mark, texts in (("[GroundTruth]", references), ("[Generated]", predictions)):
            said = line.removeprefix(mark)
            if said.startswith(": "):
                texts.append(" ".join(said.removeprefix(": ").replace(" ", "")))
            elif said != line:
                texts.append(said.partition(" _split_")[0])
    assert len(references) == len(predictions) == 4126
    measured = text_metrics.measure(predictions, references, published=True)
    found = [measured[key] for key in ("bleu@1", "bleu@2", "dist@1", "dist@2")]
    assert found == pytest.approx(expected, abs=6e-4)
    for place in range(0, len(references), 400):
        ours, theirs = predictions[place].split(), references[place].split()
        grams = [list(zip(words, words[1:], strict=False)) for words in (ours, theirs)]
        shared = sum(min(grams[0].count(gram), grams[1].count(gram)) for gram in set(grams[0]))
        penalty = min(1.0, np.exp(1 - len(theirs) / len(ours)))
        bleu = text_metrics.bleu(predictions[place], references[place], 2)
        assert bleu == pytest.approx(penalty * shared / max(len(grams[0]), 1))
