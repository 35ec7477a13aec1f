from __future__ import annotations

import pytest

from ecr_jax.data.parsing import join_pieces, plain_text, read_jsonl, require_field, require_type
from ecr_jax.data.schema import Conversation, CorpusError, FieldError, Mention, Role, Split, Turn


def test_plain_text():
    assert plain_text("  Q &amp; A\n\t&quot;x&nbsp;&nbsp;y&quot; ") == 'Q & A "x y"'


def test_join_pieces_collapses_white_space_across_pieces():
    pieces = [" \n so  ", ("Big (1988)", {"film": True}), "  , or \t", ("Alien", {"film": False}), " "]
    text, (first, second) = join_pieces(pieces)
    assert text == "so Big (1988) , or Alien"
    assert [text[m.start : m.end] for m in (first, second)] == ["Big (1988)", "Alien"]
    assert (first.film, second.film) == (True, False)


def test_join_pieces_joins_names_that_touch():
    text, mentions = join_pieces([("Big", {"film": True}), ("Up", {"film": True}), "!"])
    assert text == "BigUp!"
    assert [(m.start, m.end) for m in mentions] == [(0, 3), (3, 5)]


def test_join_pieces_keeps_one_space_where_an_empty_stretch_stands_between():
    assert join_pieces(["a ", "", " b"])[0] == "a b"
    assert join_pieces([])[0] == ""


@pytest.mark.parametrize(
    ("record", "kinds", "reason"),
    [
        ({}, str, "at.x is missing"),
        ({"x": 3}, str, "at.x is 3; expected a text"),
        ({"x": True}, int, "at.x is True; expected a whole number"),
        ({"x": None}, (dict, list), "at.x is None; expected an object or a list"),
        ({"x": "\ud83d"}, str, "at.x holds half of a surrogate pair, which is no character"),
    ],
)
def test_require_field_says_what_is_wrong(record, kinds, reason):
    with pytest.raises(FieldError) as error:
        require_field(record, "x", kinds, "at")
    assert str(error.value) == reason


def test_true_is_a_boolean():
    assert require_type(True, bool, "x") is True


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


def test_id_of_a_rejected_line_can_be_used_again(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": "a", "end": 9}\n{"id": "a"}\n')
    conversations, bad = read_jsonl(path, parse)
    assert [c.id for c in conversations] == ["a"] and [line.line for line in bad] == [1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "not a record: JSON that is nested too deeply to be read"),
        (b'{"id": ' + b'{"x": ' * 100_000, "not a record: JSON that is nested too deeply to be read"),
        (b'{"id": "caf\xe9"}', "not UTF-8: byte 12 of the line is 0xe9"),
        (b'{"id": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
        (b'{"id": "\\ud83d", "end": 9}', "mention 'x' has the span"),
    ],
    ids=["lists", "objects", "latin-1", "digits", "surrogate"],
)
def test_lines_that_break_a_reader_are_named_and_the_others_read(tmp_path, line, reason):
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"id": "a"}\n' + line + b'\n{"id": "b"}\n')
    conversations, bad = read_jsonl(path, parse)
    assert [c.id for c in conversations] == ["a", "b"]
    assert [b.line for b in bad] == [2] and bad[0].reason.startswith(reason)


def test_a_reason_can_be_written_whatever_it_quotes(tmp_path):
    def parse(value, _):
        raise FieldError(f"unknown {next(iter(value))}")

    (tmp_path / "c.jsonl").write_text('{"\\ud83d": 1}\n')
    (bad,) = read_jsonl(tmp_path / "c.jsonl", parse)[1]
    assert bad.reason == "unknown \\ud83d"


def test_a_byte_order_mark_and_other_line_ends(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a"}\r\n\r\n{"id": "b"}\r\n{oh}\r\n')
    conversations, bad = read_jsonl(path, parse)
    assert [c.id for c in conversations] == ["a", "b"] and [(b.line, b.text) for b in bad] == [(4, "{oh}")]
    path.write_bytes(b'{"id": "a"}\n\xef\xbb\xbf{"id": "b"}\n')  # only a file's first bytes are a mark
    assert [b.line for b in read_jsonl(path, parse)[1]] == [2]
