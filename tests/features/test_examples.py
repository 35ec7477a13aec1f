"""Examples by hand: who is met with which emotion, what is known before a turn, rows, arrays; no future in them."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.data.schema import Conversation, Feedback, Mention, Role, Split, Turn
from ecr_jax.emotion.labels import EMOTIONS, PAD
from ecr_jax.features.examples import (
    Context,
    ContextFeaturizer,
    Dialogue,
    ReplyExamples,
    Row,
    Sizes,
    TargetExamples,
    Utterance,
    conversation_rows,
    dialogues,
    emotion_labelled_mentions,
    fields,
    fusion_rows,
    ratings,
    reaction,
    recommendation_rows,
    recommended,
    reply_fields,
    target_fields,
)
from ecr_jax.features.text_states import States
from ecr_jax.features.tokenizer import DialogueTokenizer
from ecr_jax.knowledge.cooccurrence import EmotionLabelledMention, count_cooccurrence
from tests import tiny

LIKE, DISLIKE, UNSAID = Feedback.LIKE, Feedback.DISLIKE, Feedback.UNSAID
N = 8


def seeker(text, entities=(), emotions=(), films=()):
    return Utterance(Role.SEEKER, text, text, tuple(entities), tuple(films), tuple(emotions))


def recommender(text, entities=(), films=(), masked=None):
    return Utterance(Role.RECOMMENDER, text, masked or text, tuple(entities), tuple(films))


TURNS = (
    seeker("a b", [0, 1], [(2, 0.7), (4, 0.2)], [(0, LIKE)]),
    recommender("c d e", [2, 3], [(2, DISLIKE)], "<movie> d e"),
    seeker("f", [], [(8, 0.9)]),
    recommender("g h", [0, 4], [(0, LIKE), (4, UNSAID), (0, LIKE)], "<movie> h"),
    seeker("b", [2], []),
)
DIALOGUE = Dialogue("one", Split.TRAIN, TURNS)
MOOD = np.bincount([2, 4, 8], [0.7, 0.2, 0.9], minlength=9)
"""What the seeker felt in the first three turns."""


def test_dialogues():
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
    (made,) = dialogues([conversation], {"<a>": 0, "<b>": 1, "<c>": 2, "<d>": 3}, np.array([0, 2]), emotions)
    first, second, third = made.turns
    assert (made.id, made.split) == ("c", Split.VALID)
    assert first == Utterance(Role.SEEKER, "a b ?", "<movie> b <movie>", (0, 1), ((0, LIKE),), ((2, 0.5),))
    # <d> is a film and no item, <e> is not in the graph; only a seeker feels
    assert second == Utterance(Role.RECOMMENDER, "c d e", "<movie> <movie> <movie>", (2, 3), ((2, UNSAID),), ())
    assert (third.entities, third.films) == ((2,), ())  # a film the corpus does not mark is context, no target
    assert first.unit == "User: a b ?"


def test_felt():
    assert emotion_labelled_mentions(TURNS) == [
        EmotionLabelledMention(0, (2, 4), (0.7, 0.2), 0),
        EmotionLabelledMention(1, (2, 4), (0.7, 0.2), 0),
        EmotionLabelledMention(2, (8,), (0.9,), 1),
        EmotionLabelledMention(3, (8,), (0.9,), 1),
        EmotionLabelledMention(0, (), (), 3),
        EmotionLabelledMention(4, (), (), 3),
        EmotionLabelledMention(2, (), (), 4),
    ]


def test_felt_does_not_look_ahead():
    # after the recommender's turn the seeker's answer is not known yet
    assert [f.emotions for f in emotion_labelled_mentions(TURNS[:2])] == [(2, 4), (2, 4), (), ()]
    for end in range(len(TURNS) + 1):
        assert emotion_labelled_mentions(TURNS[:end]) == emotion_labelled_mentions((*TURNS[:end],))
        if end and TURNS[end - 1].role == Role.SEEKER:  # nor does a later turn change what was felt before
            assert (
                emotion_labelled_mentions(TURNS[:end])
                == emotion_labelled_mentions(TURNS)[: len(emotion_labelled_mentions(TURNS[:end]))]
            )


def test_context_keeps_the_latest_of_an_entity():
    context = Context.of(TURNS, 10)
    assert context.entities == (1, 3, 0, 4, 2) and context.turns == TURNS
    known = dict(zip(context.entities, context.emotions, strict=True))
    assert known[1] == ((2, 0.7), (4, 0.2)) and known[3] == ((8, 0.9),) and known[4] == ()
    assert known[0] == ((2, 0.7), (4, 0.2))  # named again without a feeling: what was felt before is still known
    assert known[2] == ((8, 0.9),)
    # turns ago, by the seeker, how often
    assert context.mentions == ((5, True, 1), (4, False, 1), (2, False, 2), (2, False, 1), (1, True, 2))


def test_context_takes_a_newer_feeling():
    turns = (seeker("a", [0], [(1, 0.5)]), recommender("b"), seeker("c", [0], [(2, 0.6)]))
    assert Context.of(turns, 5).emotions == (((2, 0.6),),)


def test_context_limit():
    assert Context.of(TURNS, 2).entities == (4, 2)
    assert Context.of(TURNS, 2).emotions == ((), ((8, 0.9),))
    assert Context.of(TURNS, 0).entities == () == Context.of((), 5).entities


def test_recommendation_rows():
    opening = Dialogue("two", Split.TRAIN, (recommender("x", [0], [(0, LIKE)]), seeker("y"), recommender("z", [1])))
    rows = recommendation_rows([opening, DIALOGUE])
    # not the turn that opens a dialogue, not a turn that names no item; a film named twice is one target
    assert rows == [
        Row(1, 1, ((2, DISLIKE, False),)),
        Row(1, 3, ((0, LIKE, True), (4, UNSAID, False))),
    ]


def test_fusion_rows():
    assert [(row.turn, [entity for entity, _, _ in row.targets]) for row in fusion_rows([DIALOGUE])] == [
        (1, [2, 3]), (3, [0, 4]), (4, [2]),
    ]  # fmt: skip
    twice = Dialogue("two", Split.TRAIN, (seeker("x"), seeker("y", [3, 1, 3])))
    assert fusion_rows([twice])[0].targets == ((3, UNSAID, False), (1, UNSAID, False))


def test_conversation_rows():
    opening = Dialogue("two", Split.TRAIN, (recommender("x"), seeker("y"), recommender("z")))
    assert conversation_rows([DIALOGUE, opening]) == [Row(0, 1), Row(0, 3), Row(1, 2)]


OTHER = Dialogue("two", Split.TRAIN, (seeker("a", [0], [(2, 0.6)]), recommender("c", [5]), seeker("f", [], [(2, 1.0)])))
SPOKEN = [DIALOGUE, OTHER]
SIZES = Sizes(tokens=9, states=7, entities=3, emotions=1, neighbours=2, cooccurring_items=3)
COUNTS = np.full(N + 1, 2.5)


@pytest.fixture(scope="module")
def words():
    return DialogueTokenizer.of(tiny.tokenizer("User: System: a b c d e f g h".split()))


@pytest.fixture(scope="module")
def featurizer(words):
    units = sorted({turn.unit for dialogue in SPOKEN for turn in dialogue.turns})
    lengths = [len(unit.split()) for unit in units]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.arange(offsets[-1], dtype=np.float16)[:, None]
    mentions = [emotion_labelled_mentions(dialogue.turns) for dialogue in SPOKEN]
    related, together = (
        count_cooccurrence(mentions, N, emotions_per_mention=1),
        count_cooccurrence(mentions, N, require_emotion=False),
    )
    states = States(tokens, offsets, {unit: i for i, unit in enumerate(units)})
    return ContextFeaturizer(words, states, related, together.restricted_to(np.array([0, 2, 4, 5])), SIZES)


def test_context_arrays(words, featurizer):
    context = Context.of(TURNS[:3], SIZES.entities)
    arrays = featurizer.context(context, words.turns([(t.role, t.text) for t in TURNS[:3]]))
    # turns of 4, 5 and 3 tokens, limit 9: the first does not fit
    assert words.tokenizer.decode(arrays["tokens"]).split() == "System: c d e <end> User: f <end>".split()
    assert arrays["text_states"].shape == (6, 1)  # units of 3, 4 and 2, limit 7
    assert arrays["text_ages"].tolist() == [2, 2, 2, 2, 1, 1]
    np.testing.assert_allclose(arrays["emotion_totals"], MOOD, rtol=1e-6)
    assert arrays["entities"].tolist() == [1, 2, 3]
    assert arrays["emotions"].tolist() == [[2], [8], [8]]  # the most probable one
    np.testing.assert_allclose(arrays["emotion_probs"], [[0.7], [0.9], [0.9]], rtol=1e-6)
    assert arrays["mentions"].tolist() == [[3, 1, 1], [2, 0, 1], [2, 0, 1]]
    # felt alike: 0-1 in `one`, 2-3 in `one`, 0-5 in `two`
    assert arrays["neighbours"].tolist() == [[0, N], [3, N], [2, N]]
    assert arrays["neighbour_weights"].tolist() == [[1, 0], [1, 0], [1, 0]]
    # items said together with 1: 0 twice, 2 twice, 4 once
    assert arrays["cooccurring_items"][0].tolist() == [0, 2, 4]
    np.testing.assert_allclose(arrays["cooccurrence_weights"][0], [0.4, 0.4, 0.2], rtol=1e-6)
    expected = {
        "tokens": np.int32, "text_states": np.float16, "text_ages": np.int32, "emotion_totals": np.float32,
        "entities": np.int32, "emotions": np.int32,
        "emotion_probs": np.float32, "mentions": np.int32, "neighbours": np.int32, "neighbour_weights": np.float32,
        "cooccurring_items": np.int32, "cooccurrence_weights": np.float32,
    }  # fmt: skip
    assert {name: array.dtype for name, array in arrays.items()} == expected
    assert set(arrays) == set(fields(N))


def test_unfelt_entity_is_padded(words, featurizer):
    context = Context.of(TURNS[:2], SIZES.entities)
    arrays = featurizer.context(context, words.turns([(t.role, t.text) for t in TURNS[:2]]))
    assert arrays["entities"].tolist() == [1, 2, 3] and arrays["emotions"].tolist() == [[2], [PAD], [PAD]]
    assert arrays["emotion_probs"][1:].tolist() == [[0], [0]]


def test_empty_context(words, featurizer):
    arrays = featurizer.context(Context.of((), 3), [])
    assert {name: array.shape for name, array in arrays.items()} == {
        "tokens": (0,), "text_states": (0, 1), "text_ages": (0,), "emotion_totals": (9,),
        "entities": (0,), "emotions": (0, 1), "emotion_probs": (0, 1),
        "mentions": (0, 3), "neighbours": (0, 2), "neighbour_weights": (0, 2), "cooccurring_items": (0, 3), "cooccurrence_weights": (0, 3),
    }  # fmt: skip


def targets(featurizer, leave_out, rows=recommendation_rows):
    weights = {LIKE: 2.0, DISLIKE: 1.0, UNSAID: 0.5}
    return TargetExamples(SPOKEN, rows(SPOKEN), featurizer, leave_out, weights=weights, counts=COUNTS)


def test_target_examples(featurizer):
    examples = targets(featurizer, leave_out=False)
    assert len(examples) == 2 and [examples.name(i) for i in range(2)] == ["one:1", "one:3"]
    example = examples[1]
    assert example["targets"].tolist() == [0, 4] and example["target_weight"].tolist() == [2.0, 0.5]
    assert example["feedback"].tolist() == [1, 0] and examples[0]["feedback"].tolist() == [-1]
    assert example["entities"].tolist() == [1, 2, 3]  # of the turns before only
    assert set(example) == set(target_fields(N))


def test_what_the_losses_read_of_the_whole_dialogue(featurizer):
    asked, again = targets(featurizer, leave_out=False)
    # films that were rated_items, whoever named them; the unsaid one is not among them
    assert asked["rated_items"].tolist() == again["rated_items"].tolist() == [0, 2]
    assert asked["ratings"].tolist() == again["ratings"].tolist() == [1, -1]
    neutral = np.eye(9, dtype=np.float32)[EMOTIONS.index("neutral")]
    np.testing.assert_allclose(asked["reaction"], 0.9 * np.eye(9)[8], rtol=1e-6)  # of the seeker's next turn
    np.testing.assert_array_equal(again["reaction"], neutral)  # which felt nothing
    np.testing.assert_array_equal(reaction(DIALOGUE, 4), neutral)  # nobody ratings
    unsure = Dialogue("d", Split.TRAIN, (seeker("a", [0], (), [(0, DISLIKE)]), recommender("b", [0], [(0, UNSAID)])))
    assert ratings(unsure) == {0: -1} and ratings(Dialogue("d", Split.TRAIN, ())) == {}


def test_own_dialogue_is_left_out_of_the_counts(featurizer):
    whole, left = targets(featurizer, leave_out=False)[1], targets(featurizer, leave_out=True)[1]
    assert (whole["neighbours"] != N).any() and (whole["cooccurring_items"] != N).any()
    # 1, 2 and 3 are spoken of in this dialogue only
    assert (left["neighbours"] == N).all() and not left["neighbour_weights"].any()
    assert (left["cooccurring_items"] == N).all() and not left["cooccurrence_weights"].any()
    left_out = {
        "neighbours",
        "neighbour_weights",
        "cooccurring_items",
        "cooccurrence_weights",
        "own_recommendations",
        "own_log_shift",
    }
    same = set(whole) - left_out
    assert all(np.array_equal(whole[name], left[name]) for name in same)
    # 0 is in the other dialogue too, whose counts stay
    first = targets(featurizer, leave_out=True)[0]
    at = first["entities"].tolist().index(0)
    assert first["neighbours"][at].tolist() == [5, N] and first["neighbour_weights"][at].tolist() == [1, 0]
    assert first["cooccurring_items"][at].tolist() == [5, N, N]


def test_reply_examples(words, featurizer):
    examples = ReplyExamples(SPOKEN, conversation_rows(SPOKEN), featurizer, False, max_reply=9)
    example = examples[0]
    text = words.tokenizer.decode(example["tokens"]).split()
    assert text == "User: a b <end> System: <movie> d e <end>".split()
    learned = np.asarray(text)[example["loss_mask"]].tolist()
    assert learned == "<movie> d e <end>".split()  # neither the context nor the word that opens the reply
    assert set(example) == set(reply_fields(N)) and example["loss_mask"].dtype == bool


def test_long_reply_is_cut_without_an_end(words, featurizer):
    examples = ReplyExamples(SPOKEN, conversation_rows(SPOKEN), featurizer, False, max_reply=4)
    text = words.tokenizer.decode(examples[0]["tokens"]).split()
    assert text == "User: a b <end> System: <movie> d e".split()


def test_examples_do_not_know_the_future(words, featurizer):
    """What comes at or after a turn changes its example in the answer only."""
    changed = Dialogue("one", Split.TRAIN, (*TURNS[:3], recommender("h", [7], [(5, LIKE)]), seeker("a", [6])))
    rows = [Row(0, 3, ((0, LIKE, False),))]
    weights = {LIKE: 2.0, DISLIKE: 1.0, UNSAID: 0.5}
    one, other = (
        TargetExamples([dialogue, OTHER], rows, featurizer, True, weights=weights, counts=COUNTS)[0]
        for dialogue in (DIALOGUE, changed)
    )
    # What a dialogue recommends is taken out of the popularity as a whole, so that none of it is seen. The losses may
    # read what was said afterwards.
    answer = {"own_recommendations", "own_log_shift", "rated_items", "ratings", "reaction"}
    assert all(np.array_equal(one[name], other[name]) for name in one if name not in answer)


def test_own_recommendations_are_taken_out_of_the_popularity(featurizer):
    """Log popularity plus the shift is what it would be without the dialogue."""
    weights = {LIKE: 2.0, DISLIKE: 1.0, UNSAID: 0.5}
    counts = np.full(len(COUNTS), 0.5)
    for item, number in recommended(SPOKEN).items():
        counts[item] += number
    without = np.full(len(COUNTS), 0.5)
    for item, number in recommended(SPOKEN[1:]).items():
        without[item] += number
    row = recommendation_rows(SPOKEN)[0]
    example = TargetExamples(SPOKEN, [row], featurizer, True, weights=weights, counts=counts)[0]
    shifted = np.log(counts)
    shifted[example["own_recommendations"]] += example["own_log_shift"]
    assert row.dialogue == 0 and len(example["own_recommendations"])
    np.testing.assert_allclose(shifted, np.log(without), rtol=1e-6)
    held_out = TargetExamples(SPOKEN, [row], featurizer, False, weights=weights, counts=counts)[0]
    assert len(held_out["own_recommendations"]) == 0
