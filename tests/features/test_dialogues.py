"""Dialogues by hand: the emotions of mentions, the context before a turn, feedback, reactions; no later turns."""

from __future__ import annotations

import numpy as np

from ecr_jax.data.schema import Conversation, Mention, Role, Split, Turn
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.features.dialogues import (
    Context,
    Dialogue,
    Utterance,
    dialogues_of,
    emotion_labelled_mentions,
    recommendation_counts,
    seeker_ratings,
    seeker_reaction,
)
from ecr_jax.knowledge.cooccurrence import EmotionLabelledMention
from tests.features.sample_dialogues import DIALOGUE, DISLIKE, LIKE, TURNS, UNSAID, recommender, seeker


def test_dialogues_of_conversations():
    def mention(start, name, film=True, feedback=None):
        return Mention(start, start + 1, name, film, f"<{name}>" if name != "?" else None, feedback)

    conversation = Conversation(
        "c",
        Split.VALID,
        (
            Turn(Role.SEEKER, "a b ?", (mention(0, "a", True, LIKE), mention(2, "b", False), mention(4, "?"))),
            Turn(
                Role.RECOMMENDER, "c d e", (mention(0, "c", True, UNSAID), mention(2, "d", True, LIKE), mention(4, "e"))
            ),
            Turn(Role.SEEKER, "c", (mention(0, "c"),)),
        ),
    )
    emotions = {("c", 0): ((2, 0.5),), ("c", 1): ((3, 0.5),), ("other", 0): ((1, 1.0),)}
    (dialogue,) = dialogues_of([conversation], {"<a>": 0, "<b>": 1, "<c>": 2, "<d>": 3}, np.array([0, 2]), emotions)
    first, second, third = dialogue.turns
    assert (dialogue.id, dialogue.split) == ("c", Split.VALID)
    assert first == Utterance(Role.SEEKER, "a b ?", "<movie> b <movie>", (0, 1), ((0, LIKE),), ((2, 0.5),))
    # <d> is a film but not an item, <e> is not in the graph; only seekers have emotions
    assert second == Utterance(Role.RECOMMENDER, "c d e", "<movie> <movie> <movie>", (2, 3), ((2, UNSAID),), ())
    assert (third.entities, third.films) == ((2,), ())  # a film the corpus does not mark is context, not a target
    assert first.text_with_role == "User: a b ?"


def test_turns_without_roles_or_text():
    films = Utterance(Role.UNKNOWN, "", "", (1,), ((1, DISLIKE),))
    words = Utterance(Role.UNKNOWN, "so it was", "so it was", (2,))
    turns = (films, words, seeker("hi", [3], emotions=((2, 0.5),)))
    # what the seeker feels in the next turn is not about them
    assert [mention.emotions for mention in emotion_labelled_mentions(turns)] == [(), (), (2,)]
    context = Context(turns, 8)
    assert context.entities == (1, 2, 3) and context.turns_read == turns[1:]
    assert not any(mentioned.by_seeker for mentioned in context.mentioned[:2])
    assert words.text_with_role == "so it was"
    assert seeker_ratings(Dialogue("d", Split.TRAIN, turns)) == {1: -1}


def test_emotion_labelled_mentions():
    assert emotion_labelled_mentions(TURNS) == [
        EmotionLabelledMention(0, (2, 4), (0.7, 0.2), 0),
        EmotionLabelledMention(1, (2, 4), (0.7, 0.2), 0),
        EmotionLabelledMention(2, (8,), (0.9,), 1),
        EmotionLabelledMention(3, (8,), (0.9,), 1),
        EmotionLabelledMention(0, (), (), 3),
        EmotionLabelledMention(4, (), (), 3),
        EmotionLabelledMention(2, (), (), 4),
    ]


def test_mentions_do_not_look_ahead():
    # after the recommender's turn the seeker's emotions are not known yet
    assert [mention.emotions for mention in emotion_labelled_mentions(TURNS[:2])] == [(2, 4), (2, 4), (), ()]
    for end in range(len(TURNS) + 1):
        before = emotion_labelled_mentions(TURNS[:end])
        assert before == emotion_labelled_mentions((*TURNS[:end],))
        if end and TURNS[end - 1].role == Role.SEEKER:  # nor does a later turn change earlier emotions
            assert before == emotion_labelled_mentions(TURNS)[: len(before)]


def test_context_has_the_latest_of_an_entity():
    context = Context(TURNS, 10)
    assert context.entities == (1, 3, 0, 4, 2) and context.turns == TURNS
    known = {mentioned.entity: mentioned.emotions for mentioned in context.mentioned}
    assert known[1] == ((2, 0.7), (4, 0.2)) and known[3] == ((8, 0.9),) and known[4] == ()
    assert known[0] == ((2, 0.7), (4, 0.2))  # mentioned again without emotions: the earlier ones are still known
    assert known[2] == ((8, 0.9),)
    assert [(m.turns_ago, m.by_seeker, m.mentions) for m in context.mentioned] == [
        (5, True, 1), (4, False, 1), (2, False, 2), (2, False, 1), (1, True, 2),
    ]  # fmt: skip


def test_context_takes_newer_emotions():
    turns = (seeker("a", [0], [(1, 0.5)]), recommender("b"), seeker("c", [0], [(2, 0.6)]))
    (mentioned,) = Context(turns, 5).mentioned
    assert mentioned.emotions == ((2, 0.6),)


def test_context_limit():
    assert Context(TURNS, 2).entities == (4, 2)
    assert [mentioned.emotions for mentioned in Context(TURNS, 2).mentioned] == [(), ((8, 0.9),)]
    assert Context(TURNS, 0).entities == () == Context((), 5).entities
    for limit in range(7):
        for end in range(len(TURNS) + 1):
            context = Context(TURNS[:end], limit)
            assert context.entity_count == len(context.entities)


def test_a_reply_adds_text_and_no_entities():
    context = Context(TURNS[:2], 5, reply=recommender("x", [7]))
    assert context.entities == Context(TURNS[:2], 5).entities
    assert [turn.text for turn in context.turns_read] == ["a b", "c d e", "x"]
    assert context.mentioned == Context(TURNS[:2], 5).mentioned


def test_feedback_and_reactions():
    assert seeker_ratings(DIALOGUE) == {0: 1, 2: -1}  # whoever named the film; without the unsaid one
    unsure = Dialogue("d", Split.TRAIN, (seeker("a", [0], (), [(0, DISLIKE)]), recommender("b", [0], [(0, UNSAID)])))
    assert seeker_ratings(unsure) == {0: -1} and seeker_ratings(Dialogue("d", Split.TRAIN, ())) == {}
    neutral = np.eye(9, dtype=np.float32)[EMOTIONS.index("neutral")]
    np.testing.assert_allclose(seeker_reaction(DIALOGUE, 1), 0.9 * np.eye(9)[8], rtol=1e-6)  # of the next turn
    np.testing.assert_array_equal(seeker_reaction(DIALOGUE, 3), neutral)  # whose emotions are unknown
    np.testing.assert_array_equal(seeker_reaction(DIALOGUE, 4), neutral)  # there is no next turn
    assert recommendation_counts([DIALOGUE]) == {2: 1, 0: 2, 4: 1}
