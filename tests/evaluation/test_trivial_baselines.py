"""The three baselines on a hand-made corpus; prediction rows."""

import numpy as np
import pytest

from ecr_jax.data.schema import Feedback, Role, Split
from ecr_jax.evaluation import predictions, rankings, trivial_baselines
from ecr_jax.evaluation.predictions import Target
from ecr_jax.evaluation.protocol import PROTOCOLS
from ecr_jax.features.dialogues import Dialogue, Utterance

ITEMS = np.array([2, 3, 5, 7, 11])
TIE_BREAK = 1e-6


def order(scores):
    """Entity ids, best first."""
    return [ITEMS[np.argsort(-row, kind="stable")].tolist() for row in scores]


@pytest.fixture
def popular():
    return trivial_baselines.popularity([7, 7, 7, 3, 3, 11], ITEMS)


def test_popularity(popular):
    scores = popular([(), (2, 3)])
    np.testing.assert_allclose(scores, [[0, 2 / 6, 0, 3 / 6, 1 / 6]] * 2)


def test_copy_last(popular):
    scores = trivial_baselines.copy_last(popular, ITEMS, TIE_BREAK)([(2, 4, 5, 2, 99), ()])
    assert order(scores)[0] == [2, 5, 7, 3, 11]  # 4 and 99 are no items; 2 was mentioned again
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    np.testing.assert_allclose(scores[1], popular([()])[0])


def test_cooccurrence(popular):
    dialogues = [(2, 3, 3, 3), (2, 3, 8), (2, 5), (7, 11)]
    scores = trivial_baselines.cooccurrence(dialogues, popular, ITEMS, TIE_BREAK)([(2,), (2, 7), (9,)])
    # P(3|2) = 2/3, P(5|2) = 1/3; the rest by popularity: 7, 11, then none of 2
    assert order(scores)[0] == [3, 5, 7, 11, 2]
    np.testing.assert_allclose(scores[0, 1], 2 / 3, atol=1e-5)
    assert order(scores)[1][:3] == [11, 3, 5]
    np.testing.assert_allclose(scores[1, [1, 2, 4]], [1 / 3, 1 / 6, 1 / 2], atol=1e-5)
    np.testing.assert_allclose(scores[2], popular([()])[0])


def test_rows(popular, tmp_path):
    targets = [
        Target("a", 1, 3, Feedback.LIKE, False),
        Target("a", 3, 5, Feedback.DISLIKE, True),
        Target("b", 1, 2, Feedback.UNSAID, False),
    ]
    rows = predictions.rank_targets("popularity", targets, popular([()] * 3), ITEMS)
    assert [(r.rank, r.score) for r in rows] == [(2.0, 2 / 6), (4.5, 0.0), (4.5, 0.0)]
    assert rows[0].top == (7, 3, 11, 2, 5)
    assert [(r.conversation, r.turn, r.repeated) for r in rows] == [("a", 1, False), ("a", 3, True), ("b", 1, False)]
    predictions.write(tmp_path / "predictions.jsonl", rows)
    assert predictions.read(tmp_path / "predictions.jsonl") == {"popularity": rows}
    assert predictions.rank_targets("popularity", [], np.zeros((0, 5)), ITEMS) == []


def test_stray_target_is_refused(popular):
    with pytest.raises(ValueError, match="target 4 of a:1 is not among the 5 items"):
        predictions.rank_targets("popularity", [Target("a", 1, 4, Feedback.LIKE, False)], popular([()]), ITEMS)


def test_bad_row_is_named(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"model": "ecr", "feedback": "maybe"}\n')
    with pytest.raises(ValueError, match="p.jsonl:1 is no prediction row"):
        predictions.read(tmp_path / "p.jsonl")


@pytest.mark.parametrize("protocol", ["default", "published"])
def test_contexts_are_scored_in_batches(monkeypatch, protocol):
    """Whatever the batches, each target has its own context, and a protocol's ties and repeated mentions."""
    monkeypatch.setattr(rankings, "_TRIVIAL_BATCH", 1)
    turns = (
        Utterance(Role.SEEKER, "", "", (5,)),
        Utterance(Role.RECOMMENDER, "", "", (5,), ((5, Feedback.LIKE),)),
        Utterance(Role.RECOMMENDER, "", "", (7, 7), ((7, Feedback.LIKE), (5, Feedback.LIKE), (7, Feedback.LIKE))),
    )
    dialogues, chosen = [Dialogue("a", Split.TEST, turns)], PROTOCOLS[protocol]
    targets = rankings.RankedTargets(dialogues, chosen.instances(dialogues), ITEMS, chosen, top_items=2)
    scorer = trivial_baselines.copy_last(trivial_baselines.popularity([], ITEMS), ITEMS, TIE_BREAK)
    rows = targets.predictions("copy-last", rankings.score_contexts(targets, scorer))
    assert {row.turn for row in rows} == {1, 2}
    assert all(len(row.top) == 2 and row.model == "copy-last" for row in rows)
    by_target = [(row.turn, row.target, row.rank) for row in rows]
    tied = 3.5 if protocol == "default" else 4.0  # four items are not mentioned: ranks 2 to 5, in order 2, 3, 7, 11
    repeated = [(2, 7, tied)] if protocol == "published" else []
    assert by_target == [(1, 5, 1.0), (2, 7, tied), (2, 5, 1.0), *repeated]
