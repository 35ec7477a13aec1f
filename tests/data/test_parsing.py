from __future__ import annotations

import pytest

from ecr_jax.data.parsing import join_pieces, plain_text, require_field, require_type
from ecr_jax.data.schema import FieldError


def test_plain_text():
    assert plain_text("  Q &amp; A\n\t&quot;x&nbsp;&nbsp;y&quot; ") == 'Q & A "x y"'


def test_compose_collapses_white_space_across_pieces():
    pieces = [" \n so  ", ("Big (1988)", {"film": True}), "  , or \t", ("Alien", {"film": False}), " "]
    text, (first, second) = join_pieces(pieces)
    assert text == "so Big (1988) , or Alien"
    assert [text[m.start : m.end] for m in (first, second)] == ["Big (1988)", "Alien"]
    assert (first.film, second.film) == (True, False)


def test_compose_joins_names_that_touch():
    text, mentions = join_pieces([("Big", {"film": True}), ("Up", {"film": True}), "!"])
    assert text == "BigUp!"
    assert [(m.start, m.end) for m in mentions] == [(0, 3), (3, 5)]


def test_compose_keeps_one_space_where_an_empty_stretch_stands_between():
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
def test_field_says_what_is_wrong(record, kinds, reason):
    with pytest.raises(FieldError) as error:
        require_field(record, "x", kinds, "at")
    assert str(error.value) == reason


def test_true_is_a_boolean():
    assert require_type(True, bool, "x") is True
