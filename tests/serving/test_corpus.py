"""Exports in the corpus format, read by our own reader, and brought back."""

from __future__ import annotations

import json
import re

import pytest

from ecr_jax.data import jsonl
from ecr_jax.data.schema import Feedback, Split
from tests.serving.fake_engine import FakeEngine, app_with
from tests.serving.live import ask, live


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "conversations.db"
    with live(app_with(FakeEngine(), f"sqlite:///{path}", turns=6, characters=200)) as server:
        yield server


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


def exported(client, conversation, tmp_path):
    """The export as our reader reads it."""
    answer = client.get(f"/conversations/{conversation}/export")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    path = tmp_path / "export.jsonl"
    path.write_bytes(answer.content)
    parsed = jsonl.read(path, Split.TEST)
    assert not parsed.bad
    return answer.content, parsed.conversations


def feel(client, explanation, kind, item):
    place = {"conversation_id": explanation["conversation_id"], "message_id": explanation["reply_id"]}
    assert client.post("/feedback", json={**place, "kind": kind, "item": item}).status_code == 200


def test_an_export_is_read_as_a_corpus_with_feedback_and_acts(client, tmp_path):
    first = ask(client, "I saw Ronin (1998)").json()["ecr"]
    second = ask(client, "more", first["conversation_id"]).json()["ecr"]
    feel(client, first, "dislike", "<x:heat>")
    feel(client, second, "like", "<x:ronin>")  # a film beside the reply, which the seeker named
    feel(client, second, "seen", "<x:thief>")
    _, (conversation,) = exported(client, first["conversation_id"], tmp_path)
    assert conversation.id == first["conversation_id"] and conversation.split == Split.TRAIN
    seeker, reply, more, _ = conversation.turns
    assert [(m.name, m.entity, m.feedback) for m in seeker.mentions] == [("Ronin (1998)", "<x:ronin>", Feedback.LIKE)]
    assert [(m.entity, m.feedback) for m in reply.mentions if m.entity == "<x:heat>"] == [
        ("<x:heat>", Feedback.DISLIKE)
    ]
    assert all(turn.text[m.start : m.end] == m.name for turn in conversation.turns for m in turn.mentions)
    assert [str(act) for act in reply.acts] == ["recommend"] and not more.mentions


def test_every_branch_is_a_line(client, tmp_path):
    first = ask(client, "hello").json()["ecr"]
    other = ask(client, "hello again", first["conversation_id"], parent_id=None).json()["ecr"]
    _, conversations = exported(client, first["conversation_id"], tmp_path)
    assert [c.id for c in conversations] == [
        f"{first['conversation_id']}/{first['reply_id']}", other["conversation_id"],
    ]  # fmt: skip
    assert [c.turns[0].text for c in conversations] == ["hello", "hello again"]


def test_an_export_comes_back_as_the_same_conversation(client, tmp_path):
    first = ask(client, "hello 🎬").json()["ecr"]
    ask(client, "more\nthan a line", first["conversation_id"])
    feel(client, first, "like", "<x:heat>")
    content, (before,) = exported(client, first["conversation_id"], tmp_path)
    answer = client.post("/conversations/import", content=content, headers={"Content-Type": "application/x-ndjson"})
    (summary,) = answer.json()["conversations"]
    assert summary["id"] != first["conversation_id"] and summary["turns"] == 2
    _, (after,) = exported(client, summary["id"], tmp_path)
    assert after.turns == before.turns
    assert ask(client, "it goes on", summary["id"]).status_code == 200


def line(*turns, **more):
    return json.dumps({"id": "1", "turns": [{"role": r, "text": t} for r, t in turns], **more}).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 conversations; give 1 to 1000"),
        (b"{", "line 1: not JSON"),
        (line(("seeker", "a")) + b"\n\n" + line(("robot", "a")), "line 3: turns.0..role is 'robot'"),
        (b'{"id": "1", "turns": [{"role": "seeker", "text": "\xff"}]}', "line 1: .*UTF-8"),
        (rb'{"id": "1", "turns": [{"role": "seeker", "text": "\ud800"}]}', "line 1: "),
        (rb'{"id": "1", "turns": [{"role": "seeker", "text": "a\u0000"}]}', "line 1: .*U.0000"),
        (line(("seeker", "a" * 201)), "line 1: a turn of 201 characters; 200 are the most"),
        (line(*[("seeker", "a"), ("recommender", "b")] * 4), "line 1: 8 turns; 6 are the most"),
        (line(("seeker", "a"), other=1), "line 1: the line has the unknown key 'other'"),
        (line(("seeker", " ")), "line 1: turns hold no words"),
    ],
)
def test_a_malformed_import_is_refused_as_a_whole(client, content, message):
    answer = client.post("/conversations/import", content=content)
    assert answer.status_code == 400
    assert re.match(message, answer.json()["error"]["message"])
    assert client.get("/conversations").json() == []
