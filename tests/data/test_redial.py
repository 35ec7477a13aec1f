from __future__ import annotations

import copy
import json

import pytest

from ecr_jax.data import redial
from ecr_jax.data.schema import CorpusError, Feedback, Role, Split, merge_messages

URIS = {"11": "<u/Heat>", "12": "<u/Jaws>"}


def dialogue(**changes):
    """A dialogue with all that the original format has; some of it odd."""
    form = {"suggested": 0, "seen": 1}
    record = {
        "conversationId": "7",
        "initiatorWorkerId": 1,
        "respondentWorkerId": 2,
        "movieMentions": {"11": "Heat  (1995)", "12": "Jaws &amp; Claws\n(1975)", "13": "Alien (1979)", "14": None},
        "initiatorQuestions": {"11": {**form, "liked": 1}, "12": {**form, "liked": 0}, "13": {**form, "liked": 2}},
        "respondentQuestions": {"13": {**form, "liked": 1}},
        "messages": [
            {"senderWorkerId": 1, "text": " Hi,  &quot;@11&quot; was\n fun", "timeOffset": 0, "messageId": 5},
            {"senderWorkerId": 1, "text": "   "},
            {"senderWorkerId": 1, "text": "(@12,@13)&gt;@99 or @14?"},
            {"senderWorkerId": 2, "text": "@11", "timeOffset": 9, "messageId": 8},
        ],
    }
    return {**copy.deepcopy(record), **changes}


def lines(path, *records):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), encoding="utf-8")
    return path


def read(tmp_path, *records):
    return redial.read(lines(tmp_path / "d.jsonl", *records), Split.TRAIN, URIS)


def test_a_dialogue_with_every_oddity(tmp_path):
    reading = read(tmp_path, dialogue())
    assert reading.bad == []
    (conversation,) = reading.conversations
    assert (conversation.id, conversation.split) == ("7", Split.TRAIN)
    seeker, recommender = conversation.turns
    assert seeker.role is Role.SEEKER
    assert seeker.text == 'Hi, "Heat (1995)" was fun (Jaws & Claws (1975),Alien (1979))>@99 or @14?'
    assert seeker.masked() == 'Hi, "<movie>" was fun (<movie>,<movie>)>@99 or @14?'
    assert [seeker.text[m.start : m.end] for m in seeker.mentions] == [m.name for m in seeker.mentions]
    assert [(m.name, m.entity, m.feedback) for m in seeker.mentions] == [
        ("Heat (1995)", "<u/Heat>", Feedback.LIKE),
        ("Jaws & Claws (1975)", "<u/Jaws>", Feedback.DISLIKE),
        ("Alien (1979)", None, Feedback.UNSAID),
    ]
    assert recommender.role is Role.RECOMMENDER
    assert (recommender.text, recommender.mentions[0].end) == ("Heat (1995)", 11)
    assert reading.counts == {
        "conversations": 1,
        "turns": 2,
        "messages": 4,
        "blank_messages": 1,
        "mentions": 4,
        "films": 4,
        "linked": 3,
        "unknown_ids": 1,
        "untitled_ids": 1,
        "without_form": 0,
    }


def test_what_is_empty_may_be_written_as_a_list(tmp_path):
    record = dialogue(movieMentions=[], initiatorQuestions=[], respondentQuestions=[])
    reading = read(tmp_path, record)
    assert reading.conversations[0].turns[1].text == "@11"
    assert reading.conversations[0].turns[1].mentions == ()
    assert reading.counts["without_form"] == 1
    assert reading.counts["unknown_ids"] == 6


def test_without_a_form_every_film_is_unsaid(tmp_path):
    record = dialogue(initiatorQuestions=[])
    feedback = {m.feedback for turn in read(tmp_path, record).conversations[0].turns for m in turn.mentions}
    assert feedback == {Feedback.UNSAID}


def broken(**changes):
    return json.dumps(dialogue(**changes))


def message(**changes):
    return [{**{"senderWorkerId": 1, "text": "hi"}, **changes}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        ("[]", "the line is []; expected an object"),
        (broken(conversationId=None), "conversationId is None; expected a text or a whole number"),
        (broken(conversationId=" "), "conversationId is empty"),
        (broken(initiatorWorkerId=2), "initiatorWorkerId and respondentWorkerId are both 2; a dialogue needs two"),
        (broken(respondentWorkerId=True), "respondentWorkerId is True; expected a whole number or a text"),
        (broken(movieMentions=["Heat"]), "movieMentions is a list of 1; expected an object, or [] where it is empty"),
        (broken(movieMentions={"11": 5}), "movieMentions[11] is 5; expected a text"),
        (
            broken(initiatorQuestions={"11": {"liked": 3}}),
            "initiatorQuestions[11].liked is 3; expected 0 (disliked), 1 (liked) or 2 (did not say)",
        ),
        (
            broken(initiatorQuestions={"11": {"liked": True}}),
            "initiatorQuestions[11].liked is True; expected a whole number",
        ),
        (broken(initiatorQuestions={"11": 1}), "initiatorQuestions[11] is 1; expected an object"),
        (broken(messages=[]), "messages hold no words"),
        (broken(messages={}), "messages is {}; expected a list"),
        (broken(messages=["hi"]), "messages[0] is 'hi'; expected an object"),
        (broken(messages=message(text=None)), "messages[0].text is None; expected a text"),
        (broken(messages=[{"senderWorkerId": 1}]), "messages[0].text is missing"),
        (
            broken(messages=message(senderWorkerId=3)),
            "messages[0].senderWorkerId is 3, which is neither the initiator nor the respondent (1 and 2)",
        ),
    ],
)
def test_a_malformed_line_is_refused_with_its_reason(tmp_path, line, reason):
    reading = read(tmp_path, line)
    assert reading.conversations == []
    assert [b.reason for b in reading.bad] == [reason]


def test_all_malformed_lines_come_in_one_error(tmp_path):
    reading = read(tmp_path, dialogue(), "", "{", dialogue(), dialogue(conversationId=8, messages=[]))
    assert [c.id for c in reading.conversations] == ["7"]
    assert reading.counts["messages"] == 4  # what was refused is not counted
    file = tmp_path / "d.jsonl"
    text = str(CorpusError(reading.bad))
    assert text.splitlines()[:4] == [
        "3 malformed line(s):",
        f"  {file}:3: not JSON: Expecting property name enclosed in double quotes at column 2",
        f"  {file}:4: id '7' was already used in line 1",
        f"  {file}:5: messages hold no words",
    ]


def test_split_train_depends_on_ids_alone(tmp_path):
    conversations = read(tmp_path, *(dialogue(conversationId=n) for n in range(1000))).conversations
    split = redial.split_train(conversations, 0.1)
    assert [c.id for c in split] == [c.id for c in conversations]
    valid = {c.id for c in split if c.split is Split.VALID}
    assert 60 < len(valid) < 140  # 100 expected, standard deviation 9.5
    assert {c.id for c in redial.split_train(conversations[::-2], 0.1) if c.split is Split.VALID} <= valid
    assert {c.split for c in split} == {Split.TRAIN, Split.VALID}
    # Frozen: another rule would move dialogues between parts of an already prepared corpus.
    assert sorted(valid, key=int)[:3] == ["9", "39", "49"]


def test_movies(tmp_path):
    path = lines(
        tmp_path / "movies.jsonl",
        {
            "movieId": "11",
            "name": "Heat  (1995)",
            "dbpedia": "<u/Heat>",
            "genre": ["crime"],
            "star": ["Al Pacino"],
            "director": ["Michael Mann"],
            "writer": [],
            "plot": "A &amp; B.",
            "imdb_id": "tt0",
        },
        {"movieId": 12, "name": "Jaws (1975)", "dbpedia": None},
        {"movieId": "13", "name": "Jaws (1975)", "dbpedia": "<u/Jaws>"},
        {"movieId": "14", "name": "Two (2000)", "dbpedia": "<u/A>"},
        {"movieId": "15", "name": "Two (2000)", "dbpedia": "<u/B>"},
    )
    movies, bad = redial.read_movies(path)
    assert bad == []
    assert list(movies) == ["11", "12", "13", "14", "15"]
    assert movies["11"] == redial.Movie(
        "11", "Heat (1995)", "<u/Heat>", ("crime",), ("Michael Mann",), (), ("Al Pacino",), "A & B."
    )
    assert movies["12"] == redial.Movie("12", "Jaws (1975)")
    assert redial.movie_uris(movies) == {"11": "<u/Heat>", "13": "<u/Jaws>", "14": "<u/A>", "15": "<u/B>"}
    assert redial.title_uris(movies) == {"Heat (1995)": "<u/Heat>", "Jaws (1975)": "<u/Jaws>"}


def test_malformed_movies_all_named(tmp_path):
    path = lines(
        tmp_path / "m.jsonl",
        {"movieId": "1", "name": "A"},
        {"movieId": "1", "name": "A"},
        {"movieId": "2", "name": " "},
        {"movieId": "3", "name": "C", "genre": "crime"},
        {"movieId": "4", "name": "C", "star": ["x", 1]},
        {"name": "C"},
        "nonsense",
    )
    path.write_bytes(path.read_bytes() + b'{"movieId": "\xff"}\n')
    movies, bad = redial.read_movies(path)
    assert list(movies) == ["1"]
    assert [(b.line, b.reason) for b in bad] == [
        (2, "id '1' was already used in line 1"),
        (3, "name is empty"),
        (4, "genre is 'crime'; expected a list"),
        (5, "star[1] is 1; expected a text"),
        (6, "movieId is missing"),
        (7, "not JSON: Expecting value at column 1"),
        (8, "not UTF-8: byte 14 of the line is 0xff"),
    ]


def test_texts_are_those_of_the_published_script(golden):
    def rows(name):
        return [json.loads(line) for line in (golden / name).read_text(encoding="utf-8").splitlines()]

    records = rows("process_in_dialogues.jsonl")
    names = {}
    for record in records:
        for utterance in record["messages"]:
            names |= dict(zip(utterance["movie_name"], utterance["movie"], strict=True))
    uris = {i: names[t] for record in records for i, t in dict(record["movieMentions"]).items() if t in names}
    reading = redial.read(golden / "process_in_dialogues.jsonl", Split.TRAIN, uris)
    assert [b.reason for b in reading.bad] == ["messages hold no words"]  # it gives no samples there either
    turns = [turn for c in reading.conversations for turn in c.turns]
    processed = rows("process_train_out_process.jsonl")
    assert [(t.role, t.text) for t in turns] == [(p["role"], p["resp"]) for p in processed]

    ids = json.loads((golden / "process_entity2id.json").read_text(encoding="utf-8"))
    sign = {Feedback.LIKE: 1, Feedback.DISLIKE: -1, Feedback.UNSAID: 0}
    recommended = [t for t in turns if t.role is Role.RECOMMENDER]
    assert [
        (t.masked(), [ids[m.entity] for m in t.mentions], [sign[m.feedback] for m in t.mentions]) for t in recommended
    ] == [(p["resp"], p["rec"], p["sentiment_loss"]) for p in rows("process_train_out_process_mask.jsonl")]


@pytest.mark.parametrize(
    ("name", "conversations", "turns", "mentions", "linked", "without_form"),
    [
        ("train", 3755, 46384, 24148, 22482, 39),
        ("valid", 1000, 12393, 6327, 5919, 12),
        ("test_open", 675, 7878, 4236, 3991, 5),
    ],
)
def test_the_real_corpus(real_data, name, conversations, turns, mentions, linked, without_form):
    movies, bad = redial.read_movies(real_data / "movies.jsonl")
    assert (len(movies), bad) == (6617, [])
    uris = redial.movie_uris(movies)
    reading = redial.read(real_data / "redial" / f"{name}.jsonl", Split.TRAIN, uris)
    assert reading.bad == []
    counts = reading.counts
    assert [counts[key] for key in ("conversations", "turns", "films", "linked", "without_form")] == [
        conversations, turns, mentions, linked, without_form,
    ]  # fmt: skip
    assert 0.93 < linked / mentions < 0.95
    for conversation in reading.conversations:
        assert merge_messages(conversation.turns) == conversation.turns
        for turn in conversation.turns:
            assert turn.text == " ".join(turn.text.split())
            assert all(turn.text[m.start : m.end] == m.name for m in turn.mentions)
