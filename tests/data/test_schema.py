"""The data model: spans, joined messages, masked text, and Parquet."""

from __future__ import annotations

import pytest

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import (
    BadLine,
    Conversation,
    Feedback,
    Mention,
    Role,
    Split,
    Turn,
    is_blank,
    merge_messages,
    read_conversations,
    write_conversations,
)

TEXT = "I like Heat and De Niro."
HEAT = Mention(7, 11, "Heat (1995)", True, "<heat>", Feedback.LIKE)
NIRO = Mention(16, 23, "Robert De Niro", False, "<niro>")


@pytest.mark.parametrize(
    "spans",
    [[(0, 0)], [(3, 2)], [(-1, 2)], [(0, 25)], [(24, 25)], [(0, 4), (3, 6)], [(5, 8), (0, 3)]],
    ids=["empty", "backwards", "before", "past the end", "beyond", "overlap", "unsorted"],
)
def test_wrong_spans_are_refused(spans):
    mentions = tuple(Mention(start, end, "x", True) for start, end in spans)
    with pytest.raises(ValueError, match=r"mention 'x' has the span .* in a text of 24 characters; spans must be"):
        Turn(Role.SEEKER, TEXT, mentions)


def test_touching_spans_are_fine():
    turn = Turn(Role.SEEKER, TEXT, (Mention(0, 4, "a", True), Mention(4, 24, "b", True)))
    assert turn.masked() == "<movie><movie>"


def test_a_turn_may_have_films_and_no_text():
    turn = Turn(Role.UNKNOWN, "", (Mention(0, 0, "Heat (1995)", True), Mention(0, 0, "Ronin (1998)", True)))
    assert turn.masked() == ""
    for role, text in ((Role.SEEKER, ""), (Role.UNKNOWN, "Heat")):  # only where nobody knows who speaks, and no text
        with pytest.raises(ValueError, match="spans must be sorted, not empty"):
            Turn(role, text, turn.mentions)


def test_masked_hides_films_only():
    assert Turn(Role.SEEKER, TEXT, (HEAT, NIRO)).masked() == "I like <movie> and De Niro."
    assert Turn(Role.SEEKER, TEXT, (NIRO,)).masked() == TEXT
    assert Turn(Role.SEEKER, "Heat", (Mention(0, 4, "Heat", True),)).masked() == "<movie>"


def test_merge_messages():
    merged = merge_messages(
        [
            Turn(Role.SEEKER, "Hi!", emotions=("happy",)),
            Turn(Role.SEEKER, ""),
            Turn(Role.SEEKER, TEXT, (HEAT, NIRO), ("like", "happy")),
            Turn(Role.SEEKER, "Heat!", (Mention(0, 4, "Heat (1995)", True),)),
            Turn(Role.RECOMMENDER, "Ok."),
            Turn(Role.SEEKER, "Bye."),
        ]
    )
    assert [turn.role for turn in merged] == [Role.SEEKER, Role.RECOMMENDER, Role.SEEKER]
    first = merged[0]
    assert first.text == f"Hi! {TEXT} Heat!" and first.emotions == ("happy", "like")
    assert [first.text[m.start : m.end] for m in first.mentions] == ["Heat", "De Niro", "Heat"]
    assert first.mentions[0].feedback == Feedback.LIKE and first.mentions[1].entity == "<niro>"
    assert merge_messages([]) == () == merge_messages([Turn(Role.SEEKER, "")])


def test_messages_of_unknown_role_are_not_joined():
    pieces = tuple(Turn(Role.UNKNOWN, text) for text in ("one", "two"))
    assert merge_messages(pieces) == pieces


def test_empty_message_does_not_part_a_speaker():
    merged = merge_messages([Turn(Role.SEEKER, "a"), Turn(Role.RECOMMENDER, ""), Turn(Role.SEEKER, "b")])
    assert [turn.text for turn in merged] == ["a b"]


def test_parquet_round_trip(tmp_path):
    written = [
        Conversation(
            "1", Split.TRAIN, (Turn(Role.SEEKER, TEXT, (HEAT, NIRO), ("like",)), Turn(Role.RECOMMENDER, "ü "))
        ),
        Conversation("two", Split.TEST, (Turn(Role.RECOMMENDER, "?", (Mention(0, 1, "x", True),)),)),
        Conversation("none", Split.VALID, ()),
    ]
    write_conversations(tmp_path / "c.parquet", written)
    read = read_conversations(tmp_path / "c.parquet")
    assert read == written
    assert isinstance(read[0].turns[0].role, Role) and isinstance(read[0].turns[0].mentions[0].feedback, Feedback)
    assert [path.name for path in tmp_path.iterdir()] == ["c.parquet"]


def test_no_conversations_round_trip(tmp_path):
    write_conversations(tmp_path / "c.parquet", [])
    assert read_conversations(tmp_path / "c.parquet") == []


def test_bad_line_words():
    assert str(BadLine("f.jsonl", 2, "why", "text")) == "f.jsonl:2: why"


def test_acts_are_written_and_read(tmp_path):
    acts = (Act(ActName.QUESTION, Attribute.DIRECTOR), Act(ActName.REJECT))
    assert [str(act) for act in acts] == ["question:director", "reject"]
    conversation = Conversation("1", Split.TRAIN, (Turn(Role.SEEKER, "Who made it? No.", acts=acts),))
    write_conversations(tmp_path / "conversations.parquet", [conversation])
    assert read_conversations(tmp_path / "conversations.parquet") == [conversation]
    joined = merge_messages([Turn(Role.SEEKER, "a", acts=acts[:1]), Turn(Role.SEEKER, "b", acts=acts)])
    assert joined[0].acts == acts


@pytest.mark.parametrize("text", ["", "sing", "question:colour", "question:director:x"])
def test_what_is_no_act(text):
    with pytest.raises(ValueError, match="is not an act; acts are greet, chat"):
        Act.parse(text)


@pytest.mark.parametrize(
    "text", ["", " \n\t", "\u200b\u200d\ufeff", "\u0301", "\x00\x1b", "\u3164\u2800", "\u202e\xad"]
)
def test_what_shows_nothing_is_no_message(text):
    assert is_blank(text)
    assert merge_messages([Turn(Role.SEEKER, "a"), Turn(Role.RECOMMENDER, text), Turn(Role.SEEKER, "b")]) == (
        Turn(Role.SEEKER, "a b"),
    )


@pytest.mark.parametrize("text", ["!", "😀", "é", "\u200bx", "🫨", "\ue000"])
def test_what_shows_something_is_a_message(text):
    assert not is_blank(text) and merge_messages([Turn(Role.SEEKER, text)]) == (Turn(Role.SEEKER, text),)


def test_joining_many_messages_keeps_spans():
    messages = [Turn(Role.SEEKER, "see Up", (Mention(4, 6, "Up", True),), ("like",))] * 1000
    (turn,) = merge_messages(messages)
    assert len(turn.mentions) == 1000 and {turn.text[m.start : m.end] for m in turn.mentions} == {"Up"}
    assert turn.emotions == ("like",) and turn.text == " ".join(["see Up"] * 1000)
