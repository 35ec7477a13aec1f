"""The labelled seeker turns, and what is measured on them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import emotion
from benchmarks.emotion import LabelledTurn
from ecr_jax.data.schema import Conversation, Role, Split, Turn
from ecr_jax.emotion.labels import EMOTIONS, VALENCES


def test_the_labels_are_ids_of_200_dialogues_and_nothing_else():
    labelled = emotion.read_labelled()
    assert len(labelled) == len({turn.conversation for turn in labelled}) == 200
    assert all(1 <= len(turn.emotions) <= 2 for turn in labelled)
    assert {label for turn in labelled for label in turn.emotions} == set(range(len(EMOTIONS)))
    assert all(valence in VALENCES for turn in labelled for valence in turn.films)
    for line in emotion.LABELLED.read_text().splitlines():
        assert len(line) < 160  # no text


def test_they_are_seeker_turns_of_redial(real_data):
    from ecr_jax.data import redial

    conversations = redial.read(real_data / "redial" / "valid.jsonl", Split.VALID, {}).conversations
    labelled = emotion.read_labelled()
    for turn, found in zip(labelled, emotion.seeker_turns(list(conversations), labelled), strict=True):
        assert len(turn.films) == sum(mention.film for mention in found.mentions)


def test_another_corpus_is_named():
    other = Conversation("1", Split.VALID, (Turn(Role.RECOMMENDER, "hi"),))
    for turn in (LabelledTurn("1", 0, (0,), ()), LabelledTurn("1", 3, (0,), ()), LabelledTurn("2", 0, (0,), ())):
        with pytest.raises(ValueError, match=f"no seeker turn {turn.turn} in dialogue {turn.conversation}"):
            emotion.seeker_turns([other], [turn])


def test_calibration_by_hand():
    # one bin of two at .9 with one hit: |1.8 - 1|; one bin of one at .35 that missed: .35; over three
    assert emotion.calibration_error(np.array([0.9, 0.9, 0.35]), np.array([1.0, 0, 0])) == pytest.approx(1.15 / 3)
    assert emotion.calibration_error(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 0


def test_measures_by_hand(monkeypatch):
    monkeypatch.setattr(emotion, "_RESAMPLES", 100)
    labelled = [LabelledTurn(str(i), 0, labels, ()) for i, labels in enumerate([(0, 1), (2,), (5,)])]
    probabilities = np.full((3, 9), 0.01)
    probabilities[0, [0, 3]] = 0.6, 0.3  # one of two labels among the first two
    probabilities[1, [1, 2]] = 0.6, 0.3  # second
    probabilities[2, [1, 0]] = 0.6, 0.3  # not at all
    figures = {figure.metric: figure for figure in emotion.measure("x", probabilities, labelled)}
    assert figures["recall@2"].value == pytest.approx((0.5 + 1 + 0) / 3)
    assert figures["top label right"].value == pytest.approx(1 / 3)
    assert figures["macro F1"].value == pytest.approx((1 + 0 + 0) / 3)  # emotions 0, 2 and 5
    assert figures["calibration error"].value == pytest.approx(abs(3 * 0.6 - 1) / 3)
    assert figures["recall@2"].low < 0.5 < figures["recall@2"].high
