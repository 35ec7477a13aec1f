from __future__ import annotations

import json

import pytest

from ecr_jax.data import jsonl
from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import Conversation, CorpusError, Feedback, Mention, Role, Split, Turn


def read(tmp_path, *lines):
    path = tmp_path / "own.jsonl"
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8")
    return jsonl.read(path, Split.VALID)


def line(*, mention=None, turn=None, **changes):
    first_turn = {"role": "seeker", "text": "Like Heat?"}
    if mention is not None:
        first_turn["mentions"] = [{"start": 5, "end": 9, **mention}]
    return {"id": "1", "turns": [{**first_turn, **(turn or {})}], **changes}


def test_what_may_be_left_out(tmp_path):
    reading = read(tmp_path, line(mention={}))
    (conversation,) = reading.conversations
    assert conversation == Conversation(
        "1", Split.VALID, (Turn(Role.SEEKER, "Like Heat?", (Mention(5, 9, "Heat", True, None, Feedback.UNSAID),)),)
    )
    assert read(tmp_path, line(split="test")).conversations[0].split is Split.TEST
    assert read(tmp_path, line(mention={"film": False})).conversations[0].turns[0].mentions[0].feedback is None


def test_turns_of_one_speaker_are_joined(tmp_path):
    turns = [
        {"role": "seeker", "text": "a"},
        {"role": "recommender", "text": ""},
        {"role": "seeker", "text": "Up", "mentions": [{"start": 0, "end": 2}], "emotions": ["happy"]},
    ]
    reading = read(tmp_path, {"id": "1", "turns": turns})
    (turn,) = reading.conversations[0].turns
    assert (turn.text, turn.mentions[0].start, turn.emotions) == ("a Up", 2, ("happy",))
    assert reading.counts["blank_turns"] == 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nonsense", "not JSON: Expecting value at column 1"),
        ([], "the line is []; expected an object"),
        (line(id=3), "id is 3; expected a text"),
        (line(id=""), "id is empty"),
        (line(split="dev"), "split is 'dev'; expected train or valid or test"),
        (line(titles=[]), "the line has the unknown key 'titles'; known are id, split, turns"),
        (line(turns=[]), "turns hold no words"),
        ({"id": "1"}, "turns is missing"),
        (line(turn={"role": "user"}), "turns[0].role is 'user'; expected seeker or recommender"),
        (line(turn={"role": None}), "turns[0].role is None; expected a text"),
        (line(turn={"text": 1}), "turns[0].text is 1; expected a text"),
        (
            line(turn={"emotion": []}),
            "turns[0] has the unknown key 'emotion'; known are acts, emotions, mentions, role, text",
        ),
        (
            line(turn={"emotions": ["sad"]}),
            "turns[0].emotions[0] is 'sad'; expected one of like, curious, happy, grateful, negative, neutral, "
            "nostalgia, agreement, surprise",
        ),
        (
            line(turn={"acts": ["react", "sing"]}),
            "turns[0].acts[1]: 'sing' is not an act; acts are greet, chat, prefer, request, question, why, accept, "
            "reject, seen, thank, ask, recommend, answer, explain, react, close, with ':ATTRIBUTE' where they have one",
        ),
        (line(turn={"emotions": "happy"}), "turns[0].emotions is 'happy'; expected a list"),
        (
            line(mention={"end": 11}),
            "turns[0].mentions[0] has the span [5, 11), which is empty or outside its text of 10 characters",
        ),
        (
            line(mention={"start": 9}),
            "turns[0].mentions[0] has the span [9, 9), which is empty or outside its text of 10 characters",
        ),
        (
            line(mention={"start": -1}),
            "turns[0].mentions[0] has the span [-1, 9), which is empty or outside its text of 10 characters",
        ),
        (line(mention={"start": "5"}), "turns[0].mentions[0].start is '5'; expected a whole number"),
        (line(mention={"name": " "}), "turns[0].mentions[0].name is empty"),
        (line(mention={"film": 1}), "turns[0].mentions[0].film is 1; expected true or false"),
        (line(mention={"entity": 7}), "turns[0].mentions[0].entity is 7; expected a text"),
        (
            line(mention={"feedback": "love"}),
            "turns[0].mentions[0].feedback is 'love'; expected like or dislike or unsaid",
        ),
        (
            line(mention={"film": False, "feedback": "like"}),
            "turns[0].mentions[0].feedback is 'like', but only a film has feedback",
        ),
        (
            line(mention={"uri": "x"}),
            "turns[0].mentions[0] has the unknown key 'uri'; known are end, entity, feedback, film, name, start",
        ),
        (
            line(turn={"mentions": [{"start": 5, "end": 9}, {"start": 8, "end": 10}]}),
            "turns[0].mentions[1] starts at 8, before the one before it ends (9)",
        ),
    ],
)
def test_a_malformed_line_is_refused_with_its_reason(tmp_path, value, reason):
    assert [b.reason for b in read(tmp_path, value).bad] == [reason]


def test_all_malformed_lines_come_in_one_error(tmp_path):
    reading = read(tmp_path, line(), line(), line(id="2", turns={}))
    file = tmp_path / "own.jsonl"
    assert str(CorpusError(reading.bad)).splitlines()[:3] == [
        "2 malformed line(s):",
        f"  {file}:2: id '1' was already used in line 1",
        f"  {file}:3: turns is {{}}; expected a list",
    ]


CONVERSATION = Conversation(
    "a/1",
    Split.TEST,
    (
        Turn(
            Role.RECOMMENDER,
            " Élan  with Amy \n& <Up>\u2028😀",
            (Mention(1, 5, "Élan (1999)", True, "<u/E>", Feedback.DISLIKE), Mention(12, 15, "Amy", False)),
        ),
        Turn(Role.SEEKER, "ok", emotions=("grateful", "like"), acts=(Act(ActName.QUESTION, Attribute.CAST),)),
    ),
)


def test_the_round_trip_is_exact(tmp_path):
    other = Conversation("b", Split.TRAIN, (Turn(Role.SEEKER, "hi"),))
    jsonl.write(tmp_path / "out.jsonl", [CONVERSATION, other])
    reading = jsonl.read(tmp_path / "out.jsonl", Split.VALID)
    assert reading.bad == []
    assert reading.conversations == [CONVERSATION, other]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ((Turn(Role.SEEKER, "a"), Turn(Role.SEEKER, "b")), "alternate"),
        ((Turn(Role.SEEKER, "a"), Turn(Role.RECOMMENDER, "")), "no turn may be empty"),
        ((Turn(Role.SEEKER, "Up", (Mention(0, 2, "Up", True),)),), "feedback"),
        ((Turn(Role.SEEKER, "a", emotions=("sad",)),), "'sad'; expected one of"),
        ((), "no words"),
    ],
)
def test_what_would_not_come_back_is_not_written(tmp_path, turns, reason):
    with pytest.raises(ValueError, match=reason):
        jsonl.write(tmp_path / "out.jsonl", [Conversation("a", Split.TRAIN, turns)])
    assert not (tmp_path / "out.jsonl").exists()


def test_ids_must_differ(tmp_path):
    with pytest.raises(ValueError, match="the id 'a/1'"):
        jsonl.write(tmp_path / "out.jsonl", [CONVERSATION, CONVERSATION])
