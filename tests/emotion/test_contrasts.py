from __future__ import annotations

import json

import pytest

from ecr_jax.data.schema import Feedback, Role
from ecr_jax.emotion import contrasts


def test_the_sentences_of_the_package():
    found = contrasts.read()
    assert len(found) >= 40 and len({contrast.turn.text for contrast in found}) == len(found)
    for contrast in found:
        assert contrast.turn.role == Role.SEEKER
        assert {mention.feedback for mention in contrast.turn.mentions} == {Feedback.LIKE, Feedback.DISLIKE}
        assert all(contrast.turn.text[m.start : m.end] == m.name for m in contrast.turn.mentions)
    assert any(not mention.film for contrast in found for mention in contrast.turn.mentions)


def test_films_are_told_from_genres_and_people(tmp_path):
    line = {"text": "Heat (1995) yes, Al Capp and horror no", "like": ["Heat (1995)"], "dislike": ["horror", "Al Capp"],
            "others": ["Al Capp"]}  # fmt: skip
    (tmp_path / "c.jsonl").write_text(json.dumps(line))
    (contrast,) = contrasts.read(tmp_path / "c.jsonl")
    assert [(m.name, m.film) for m in contrast.turn.mentions] == [
        ("Heat (1995)", True),
        ("Al Capp", False),
        ("horror", False),
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("[1", "Expecting"),
        ('{"like": ["a"]}', "no text"),
        ('{"text": "a or b", "like": ["a"]}', "no names in 'dislike'"),
        ('{"text": "a or b", "like": ["a"], "dislike": ["c"]}', "'c' occurs 0 times"),
        ('{"text": "a or a", "like": ["a"], "dislike": ["or"]}', "'a' occurs 2 times"),
    ],
)
def test_a_line_that_is_not_of_the_format(tmp_path, line, fault):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "x over y", "like": ["x"], "dislike": ["y"]}\n' + line)
    with pytest.raises(ValueError, match=rf"c.jsonl:2: .*{fault}"):
        contrasts.read(path)
