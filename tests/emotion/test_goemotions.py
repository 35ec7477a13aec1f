from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.data.schema import CorpusError, Split
from ecr_jax.emotion import goemotions
from ecr_jax.emotion.labels import EMOTIONS

NAMES = ["joy", "love", "caring", "neutral", "anger"]


def folder(path, train="", dev="", test="", names=NAMES):
    for name, text in (("train", train), ("dev", dev), ("test", test)):
        (path / f"{name}.tsv").write_text(text, encoding="utf-8")
    (path / "labels.txt").write_text("\n".join(names), encoding="utf-8")
    return path


def test_labels_become_the_nine(tmp_path):
    train = "Great &amp;  fun\t1,0\ta\nTake care\t2\tb\nI adored it as a kid\t1\tc\n\nHm\t3,2\td\n"
    folder(tmp_path, train=train, dev="Grr\t4\te\n")
    assert goemotions.read(tmp_path, Split.TRAIN) == [
        ("Great & fun", (0, 2)),
        ("I adored it as a kid", (0, 6)),
        ("Hm", (5,)),
    ]
    assert goemotions.read(tmp_path, Split.VALID) == [("Grr", (4,))]
    assert goemotions.read(tmp_path, Split.TEST) == []


def test_every_label_is_mapped_into_the_nine():
    assert len(goemotions.MAPPING) == 28
    assert set(goemotions.MAPPING.values()) - {None} == set(EMOTIONS) - {"nostalgia"}


def test_reminiscence_needs_words_and_a_warm_label():
    assert goemotions.reminisces("That takes me back", ["joy"])
    assert not goemotions.reminisces("That takes me back", ["anger", "neutral"])
    assert not goemotions.reminisces("That takes a while", ["joy"])
    assert not goemotions.reminisces("She has a kid now", ["joy"])


def test_malformed_lines_are_all_named(tmp_path):
    folder(tmp_path, dev="fine\t0\ta\nno label\n \t1\tb\nx\t5\tc\nx\t²\tc\nx\t0,\td\n")
    with pytest.raises(CorpusError) as error:
        goemotions.read(tmp_path, Split.VALID)
    assert [(b.line, b.reason) for b in error.value.bad] == [
        (2, "1 columns; expected 3: text, label numbers, id"),
        (3, "the text is empty"),
        (4, "'5' is not a label number; expected 0 to 4"),
        (5, "'²' is not a label number; expected 0 to 4"),
        (6, "'' is not a label number; expected 0 to 4"),
    ]
    assert str(error.value.bad[0]).startswith(f"{tmp_path / 'dev.tsv'}:2: ")


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match="'hunger', which is not a GoEmotions label"):
        goemotions.read(folder(tmp_path, names=["joy", "hunger"]), Split.TRAIN)


@pytest.mark.parametrize(
    ("split", "texts", "labels"),
    [
        (Split.TRAIN, 42162, [6607, 3347, 6179, 2662, 9839, 14219, 37, 2939, 1060]),
        (Split.VALID, 5256, [787, 381, 766, 358, 1241, 1766, 4, 397, 129]),
        (Split.TEST, 5250, [801, 415, 701, 352, 1262, 1787, 8, 351, 141]),
    ],
)
def test_the_real_corpus(real_data, split, texts, labels):
    examples = goemotions.read(real_data / "goemotions", split)
    assert len(examples) == texts
    assert np.bincount([i for _, ids in examples for i in ids]).tolist() == labels
