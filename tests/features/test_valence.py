"""What the valence model reads of a mention: which turns, which words, which token states, and where they lie."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.data.schema import Conversation, Feedback, Mention, Role, Split, Turn
from ecr_jax.features.text_states import TextStates
from ecr_jax.features.valence import (
    BARRIERS,
    PLACES,
    MentionInContext,
    ValenceExamples,
    hashed,
    mentions_of,
    ngrams,
    places,
    token_spans,
)
from tests import tiny

WORDS = "User: System: i loved Ronin (1998) . but hated Thief (1981) , so bad horror seen it ?".split()


def turn(role, text, **feedback):
    """A turn whose mentions are the keywords (with _ for a space); None as feedback is what is not a film."""
    mentions = []
    for key, value in feedback.items():
        name = {"Ronin": "Ronin (1998)", "Thief": "Thief (1981)"}.get(key, key)
        start = text.index(name)
        mentions.append(Mention(start, start + len(name), name, value is not None, f"<{name}>", value))
    return Turn(role, text, tuple(mentions))


CONTRAST = turn(
    Role.SEEKER, "i loved Ronin (1998) . but hated Thief (1981) , so bad", Ronin=Feedback.LIKE, Thief=Feedback.DISLIKE
)
DIALOGUE = Conversation(
    "d",
    Split.TRAIN,
    (
        turn(Role.RECOMMENDER, "seen Thief (1981) ?", Thief=Feedback.DISLIKE),
        CONTRAST,
        turn(Role.RECOMMENDER, "horror it ?", horror=None),
    ),
)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer(WORDS, marks=True)


def states_of(tokenizer, turns):
    """States that number the tokens: row i of a text is full of its position."""
    texts = sorted({f"{'User' if t.role == Role.SEEKER else 'System'}: {t.text}" for t in turns})
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    rows = np.concatenate([np.arange(length) for length in lengths])
    tokens = np.repeat(rows[:, None], 3, axis=1).astype(np.float16)
    return TextStates(tokens, np.concatenate([[0], np.cumsum(lengths)]), {text: i for i, text in enumerate(texts)})


def test_a_seekers_mention_is_read_with_the_turn_before_and_never_the_one_after():
    found = list(mentions_of([DIALOGUE]))
    assert [(m.turn, m.mention.name, m.class_index) for m in found] == [(1, "Ronin (1998)", 0), (1, "Thief (1981)", 1)]
    assert all(m.turns == DIALOGUE.turns[:2] for m in found)


def test_a_recommenders_mention_is_read_with_the_answer():
    offered, genre = mentions_of([DIALOGUE], Role.RECOMMENDER)
    assert offered.turns == DIALOGUE.turns[:2] and offered.class_index == 1
    assert genre.turns == DIALOGUE.turns[2:] and genre.class_index is None


def test_ngrams_tell_what_is_said_of_which_film():
    liked, disliked = (ngrams(MentionInContext("d", 0, number, CONTRAST)) for number in (0, 1))
    assert {"L+loved", "c:loved", "L0:loved", "a:hated"} <= set(liked)
    assert {"L+hated", "c:bad", "R1:bad", "films before 1"} <= set(disliked)
    assert "c:loved" not in disliked  # another film lies between
    assert not any("ronin" in gram or "1998" in gram for gram in (*liked, *disliked))


def test_words_after_a_negation_are_marked_up_to_the_next_film_or_comma():
    text = "i don't like Ronin (1998) much, not Thief (1981) either"
    negated = turn(Role.SEEKER, text, Ronin=Feedback.DISLIKE, Thief=Feedback.DISLIKE)
    grams = ngrams(MentionInContext("d", 0, 0, negated))
    assert {"L:!like", "R:much", "R:not", "R:either"} <= set(grams)


def test_the_turn_before_and_the_answer_have_places_of_their_own():
    seeker = list(mentions_of([DIALOGUE]))[1]
    assert {"P:seen", "named before"} <= set(ngrams(seeker))
    assert "new" in ngrams(next(iter(mentions_of([DIALOGUE]))))
    offered = next(mentions_of([DIALOGUE], Role.RECOMMENDER))
    assert {"o L:seen", "a:hated", "c:bad"} <= set(ngrams(offered))


def test_hashes_are_sorted_distinct_and_the_same_everywhere():
    assert hashed(["a", "b", "a"], 1000).tolist() == sorted({3904355907 % 1000, 1908338681 % 1000})


def test_token_spans_are_those_of_the_text_without_the_role(tokenizer):
    spans = token_spans(tokenizer, CONTRAST, 64)
    assert [CONTRAST.text[a:b] for a, b in spans] == ["", "", *CONTRAST.text.split(), ""]
    assert len(token_spans(tokenizer, CONTRAST, 6)) == 6


def test_places_by_hand(tokenizer):
    """Tokens: [CLS] User: i loved Ronin (1998) . but hated Thief (1981) , so bad [SEP]; the mention is Thief."""
    place, barriers, read = places(token_spans(tokenizer, CONTRAST, 64), CONTRAST, 1)
    kept = np.flatnonzero(read)
    assert kept.tolist() == [2, 3, 6, 7, 8, 11, 12, 13]  # i loved . but hated | , so bad
    right = 7  # left distances take buckets 0 to 6
    assert place[kept].tolist() == [4, 4, 2, 1, 0, right, right + 1, right + 2]
    # Ronin lies between the first two words and Thief, and so does the end of the sentence.
    assert barriers[kept].tolist() == [3 + 1, 3 + 1, 0, 0, 0, 0, 0, 0]
    assert place.max() < PLACES and barriers.max() < BARRIERS


def test_a_mention_behind_the_cut_has_every_token_on_its_left(tokenizer):
    place, _, read = places(token_spans(tokenizer, CONTRAST, 5), CONTRAST, 1)
    assert (place < 7).all() and read.tolist() == [False, False, True, True, False]


def test_examples_hold_the_states_that_are_read(tokenizer):
    mentions = list(mentions_of([DIALOGUE]))
    examples = ValenceExamples(mentions, states_of(tokenizer, DIALOGUE.turns), tokenizer, limit=64, folds=[2, 2])
    example = examples[1]
    before = [2, 3, 4, 5]  # seen Thief (1981) ?: the turn before is read whole
    assert example["states"][:, 0].tolist() == [*before, 2, 3, 6, 7, 8, 11, 12, 13]
    assert example["place"][:4].tolist() == [PLACES - 2] * 4
    assert (int(example["target"]), int(example["fold"])) == (1, 2)
    assert examples.lengths()["T"].tolist() == [len(examples[0]["states"]), 12]
    (second,) = examples.select([1])
    assert all(np.array_equal(second[name], example[name]) for name in example)


def test_a_mention_alone_has_no_states(tokenizer):
    alone = turn(Role.SEEKER, "Ronin (1998)", Ronin=Feedback.LIKE)
    (example,) = ValenceExamples(
        [MentionInContext("d", 0, 0, alone)], states_of(tokenizer, [alone]), tokenizer, limit=64
    )
    assert example["states"].shape == (0, 3) and int(example["fold"]) == -1


def test_a_turn_whose_films_alone_are_known_is_no_answer():
    films = Turn(Role.UNKNOWN, "", (Mention(0, 0, "Thief (1981)", True, "<Thief>", Feedback.LIKE),))
    offered = turn(Role.RECOMMENDER, "seen Thief (1981) ?", Thief=Feedback.LIKE)
    (mention,) = mentions_of([Conversation("d", Split.TRAIN, (offered, films))], Role.RECOMMENDER)
    assert mention.answer is None
