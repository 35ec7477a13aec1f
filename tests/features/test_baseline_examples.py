"""What baselines read of a turn: nothing of the turn itself, nothing after it."""

from __future__ import annotations

import numpy as np

from ecr_jax.data.schema import Feedback, Role, Split
from ecr_jax.features.baseline_examples import ContextExamples
from ecr_jax.features.examples import Dialogue, Utterance, recommendation_rows

LIKE = Feedback.LIKE
TURNS = (
    Utterance(Role.SEEKER, "a", "a", (4, 2)),
    Utterance(Role.RECOMMENDER, "b", "b", (3,), ((3, LIKE),)),
    Utterance(Role.SEEKER, "c", "c", (2,)),
    Utterance(Role.RECOMMENDER, "d", "d", (1, 5, 1), ((1, LIKE), (5, LIKE), (1, LIKE))),
)


def examples(turns=TURNS):
    spoken = [Dialogue("one", Split.TRAIN, turns)]
    rows = recommendation_rows(spoken)
    columns = {"place": np.arange(10, 10 + len(rows))}
    return ContextExamples(spoken, rows, {"said": lambda before: np.array([ord(t.text) for t in before])}, columns)


def test_rows_and_targets_are_those_of_the_recommender():
    made = examples()
    assert len(made) == 2 and [made.name(i) for i in range(2)] == ["one:1", "one:3"]
    assert [made[i]["targets"].tolist() for i in range(2)] == [[3], [1, 5]]
    assert made[1]["targets"].dtype == np.int32 and [made[i]["place"] for i in range(2)] == [10, 11]


def test_only_what_was_said_before_is_read():
    assert [made["said"].tolist() for made in examples()] == [[97], [97, 98, 99]]
    later = (*TURNS[:3], Utterance(Role.RECOMMENDER, "z", "z", (1,), ((1, LIKE),)))
    assert examples(later)[1]["said"].tolist() == [97, 98, 99]
