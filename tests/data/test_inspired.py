from __future__ import annotations

import json

import pytest

from ecr_jax.data import inspired
from ecr_jax.data.schema import Feedback, Role, Split


def turn(text, films=(), entities=(), role="SEEKER", **changes):
    """A raw turn; `films` and `entities` are names, each linked to <name>."""
    record = {"role": role, "text": text, "movie": [f"{name} (2000)" for name in films]}
    for kind, names in (("movie", films), ("entity", entities)):
        record |= {f"{kind}_name": list(names), f"{kind}_link": [f"<{name}>" for name in names]}
    return {**record, **changes}


def read(tmp_path, *lines):
    path = tmp_path / "x.jsonl"
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8")
    return inspired.read(path, Split.VALID)


def mention_texts(conversation):
    return [[(t.text[m.start : m.end], m.film, m.entity, m.feedback) for m in t.mentions] for t in conversation.turns]


def test_names_are_found_in_the_text(tmp_path):
    reading = read(
        tmp_path,
        "",
        [
            turn("I  liked up &amp; Up, with Amy and amy", films=["Up"], entities=["Amy", "Amy"]),
            turn("Heat, then heat.", films=["Heat", "Heat"], role="RECOMMENDER"),
            turn("Up"),
        ],
    )
    assert reading.bad == []
    (conversation,) = reading.conversations
    assert (conversation.id, conversation.split) == ("valid-2", Split.VALID)
    assert [t.role for t in conversation.turns] == [Role.SEEKER, Role.RECOMMENDER, Role.SEEKER]
    assert conversation.turns[0].text == "I liked up & Up, with Amy and amy"
    assert mention_texts(conversation) == [
        [("Up", True, "<Up>", Feedback.UNSAID), ("Amy", False, "<Amy>", None), ("amy", False, "<Amy>", None)],
        [("Heat", True, "<Heat>", Feedback.UNSAID), ("heat", True, "<Heat>", Feedback.UNSAID)],
        [],
    ]
    assert conversation.turns[0].mentions[0].start == 13  # as written before any case
    counts = reading.counts
    assert (counts["films"], counts["mentions"], counts["lost_films"], counts["loose_films"]) == (3, 5, 0, 0)


def test_what_is_not_found_is_counted(tmp_path):
    reading = read(
        tmp_path,
        [
            turn(
                "Heatwave in Star Wars",
                films=["Heat", "Star Wars"],
                entities=["Wars", "heatwave", "Rome"],
                movie=["Heat (1995)", "Star Wars (1977)", "In (2000)"],
            )
        ],
    )
    assert mention_texts(reading.conversations[0]) == [
        [("Heatwave", False, "<heatwave>", None), ("Star Wars", True, "<Star Wars>", Feedback.UNSAID)]
    ]
    counts = reading.counts
    assert (counts["lost_films"], counts["lost_entities"], counts["films_without_link"]) == (1, 2, 1)


@pytest.mark.parametrize(
    ("text", "name", "expected", "loose"),
    [
        ("see It or it", "it", "it", False),
        ("see It or it", "IT", "It", False),
        ("airplane?", "Airplane!", "airplane", True),
        ("Avengers Endgame", "Avengers: Endgame", "Avengers Endgame", True),
        ("spiderman", "Spider-Man", "spiderman", True),
        ("shawshank redemption", "The Shawshank Redemption", "shawshank redemption", True),
        ("an American drama", "The American", None, False),
        ("queen and slim", "Queen & Slim", "queen and slim", True),
        ("star of wars", "Star Wars", None, False),
        ("a (weird.* one", "(weird.*", "(weird.*", False),
        ("anything", "", None, False),
    ],
)
def test_find(text, name, expected, loose):
    span, was_loose = inspired.find_name(text, name, 0, [])
    assert (None if span is None else text[slice(*span)], was_loose) == (expected, loose)


def test_find_goes_on_from_the_last_and_avoids_what_is_taken():
    text = "Up, Up, Up"
    assert inspired.find_name(text, "Up", 2, [])[0] == (4, 6)
    assert inspired.find_name(text, "Up", 9, [])[0] == (0, 2)  # none after: from the beginning
    assert inspired.find_name(text, "Up", 0, [(0, 2), (5, 6)])[0] == (8, 10)
    assert inspired.find_name(text, "Up", 0, [(0, 10)])[0] is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({}, "the line is {}; expected a list"),
        ([], "the dialogue holds no words"),
        (["x"], "turn 0 is 'x'; expected an object"),
        ([turn("x", role="user")], "turn 0.role is 'user'; expected SEEKER or RECOMMENDER"),
        ([turn("x"), turn(None)], "turn 1.text is None; expected a text"),
        ([turn("Up", films=["Up"], movie_link=[])], "turn 0 has 1 movie_name but 0 movie_link; they must be parallel"),
        ([turn("Up", entities=["Up"], entity_link=[1])], "turn 0.entity_link[0] is 1; expected a text"),
    ],
)
def test_a_malformed_line_is_refused_with_its_reason(tmp_path, line, reason):
    reading = read(tmp_path, [turn("fine")], line)
    assert [str(b) for b in reading.bad] == [f"{tmp_path / 'x.jsonl'}:2: {reason}"]
    assert len(reading.conversations) == 1


@pytest.mark.parametrize(
    ("split", "conversations", "turns", "named", "films"),
    [("train", 801, 16982, 3502, 3080), ("valid", 99, 2053, 479, 434), ("test", 99, 2089, 415, 362)],
)
def test_the_real_corpus(real_data, split, conversations, turns, named, films):
    reading = inspired.read(real_data / "inspired" / f"{split}.jsonl", Split(split))
    counts = reading.counts
    assert reading.bad == []
    assert [counts[key] for key in ("conversations", "turns", "films")] == [conversations, turns, films]
    assert counts["films"] + counts["lost_films"] == named
