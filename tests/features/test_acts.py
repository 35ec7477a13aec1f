"""What the act classifier reads and learns."""

from __future__ import annotations

import numpy as np

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import MOVIE, Conversation, Mention, Role, Split, Turn
from ecr_jax.features.acts import REPLY_LABELS, SEEKER_LABELS, act_instances, features, is_complete, read_texts, targets
from ecr_jax.features.dialogues import Utterance
from ecr_jax.features.text_states import TextStates

PREFER, SEEN, RECOMMEND = Act(ActName.PREFER), Act(ActName.SEEN), Act(ActName.RECOMMEND)
DIRECTOR = Act(ActName.QUESTION, Attribute.DIRECTOR)


def test_instances_are_labelled_seeker_turns():
    heat = Turn(Role.RECOMMENDER, "Try Heat!", (Mention(4, 8, "Heat (1995)", True),), acts=(RECOMMEND,))
    turns = (
        Turn(Role.RECOMMENDER, "Hi.", acts=(Act(ActName.GREET),)),
        Turn(Role.SEEKER, "I like crime films.", acts=(PREFER,)),
        heat,
        Turn(Role.SEEKER, "Hm."),  # neither it nor its reply is labelled
        Turn(Role.RECOMMENDER, "Well."),
        Turn(Role.SEEKER, "Seen it.", acts=(SEEN,)),
    )
    first, last = act_instances([Conversation("1", Split.TRAIN, turns)])
    assert (first.acts, first.reply, len(first.turns)) == ((PREFER,), (RECOMMEND,), 2)
    assert (last.acts, last.reply, len(last.turns)) == ((SEEN,), (), 6)
    assert last.turns[2].masked == f"Try {MOVIE}!"


def test_features_by_hand():
    said = (
        Utterance(Role.SEEKER, "a b", f"{MOVIE} b"),
        Utterance(Role.RECOMMENDER, "c?", f"{MOVIE} {MOVIE}?"),
        Utterance(Role.SEEKER, "d", "d"),
    )
    texts = [turn.text_with_role for turn in said]
    states = TextStates(
        np.asarray([[1, 0], [3, 0], [0, 2], [5, 5]], np.float16),
        np.asarray([0, 2, 3, 4]),
        {t: i for i, t in enumerate(texts)},
    )
    assert read_texts(said) == texts
    row = features(said, states)
    assert row[:6].tolist() == [5, 5, 0, 2, 2, 0]  # the latest turn first
    assert np.allclose(row[6:], [3 / 16, 0, 2 / 4, 3 / 8, 1 / 32, 0, 1])
    assert np.allclose(features(said[:1], states)[:6], [2, 0, 0, 0, 0, 0])


def test_targets():
    row = targets((DIRECTOR, SEEN), SEEKER_LABELS)
    assert {SEEKER_LABELS[i] for i in np.flatnonzero(row)} == {DIRECTOR, SEEN}
    assert not targets((Act(ActName.QUESTION),), SEEKER_LABELS).any()  # about what, is not known
    assert is_complete((DIRECTOR,)) and not is_complete(()) and not is_complete((SEEN, Act(ActName.QUESTION)))
    asked = targets((Act(ActName.ASK, Attribute.GENRE),), REPLY_LABELS)
    assert [REPLY_LABELS[i] for i in np.flatnonzero(asked)] == [Act(ActName.ASK)]
    assert len(set(SEEKER_LABELS)) == len(SEEKER_LABELS)
