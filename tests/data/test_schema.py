"""The one shape of a corpus: spans, joined messages, masked text, Parquet and back, and refused lines."""

from __future__ import annotations

import pytest

from ecr_jax.data.parsing import read_jsonl
from ecr_jax.data.schema import (
    BadLine,
    Conversation,
    CorpusError,
    Feedback,
    FieldError,
    Mention,
    Role,
    Split,
    Turn,
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


def parse(value, number):
    if "id" not in value:
        raise FieldError("id is missing")
    mention = Mention(0, value.get("end", 1), "x", True)
    return Conversation(value["id"], Split.TRAIN, (Turn(Role.SEEKER, "abc", (mention,)),))


def test_read_jsonl(tmp_path):
    path = tmp_path / "c.jsonl"
    lines = ['{"id": "a"}', "", "{oh", "   ", "{}", '{"id": "a"}', '{"id": "b", "end": 9}', '{"id": "c"}']
    path.write_text("\n".join(lines))
    conversations, bad = read_jsonl(path, parse)
    assert [conversation.id for conversation in conversations] == ["a", "c"]
    assert [line.line for line in bad] == [3, 5, 6, 7]
    assert bad[0].reason.startswith("not JSON") and "column 2" in bad[0].reason and bad[0].text == "{oh"
    assert bad[1].reason == "id is missing"
    assert bad[2].reason == "id 'a' was already used in line 1"
    assert "span [0, 9) in a text of 3" in bad[3].reason
    assert str(bad[1]) == f"{path}:5: id is missing"
    error = CorpusError(bad)
    assert error.bad == tuple(bad) and str(error).startswith("4 malformed line(s):")
    assert all(f"{path}:{number}: " in str(error) for number in (3, 5, 6, 7)) and "--skip-bad" in str(error)


def test_id_of_a_refused_line_is_free(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": "a", "end": 9}\n{"id": "a"}\n')
    conversations, bad = read_jsonl(path, parse)
    assert [c.id for c in conversations] == ["a"] and [line.line for line in bad] == [1]


def test_bad_line_words():
    assert str(BadLine("f.jsonl", 2, "why", "text")) == "f.jsonl:2: why"
