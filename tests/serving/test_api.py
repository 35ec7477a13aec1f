"""The HTTP API against a real server on loopback, with a fake engine."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid

import openai
import pytest

from tests.serving.fake_engine import FakeEngine, app_with
from tests.serving.live import ask, live, said

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def engine():
    return FakeEngine()


@pytest.fixture(scope="module")
def server(engine, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "conversations.db"
    with live(app_with(engine, f"sqlite:///{path}", body_bytes=100_000, turns=20)) as server:
        yield server


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


# ------------------------------------------------------------------------------------------------------------- the SDK


def sdk(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_the_openai_sdk_chats_whole_and_streamed_with_the_same_words(server):
    with sdk(server) as client:
        assert [model.id for model in client.models.list()] == ["fake"]
        whole = client.chat.completions.create(model="fake", messages=said("hello"))
        stream = client.chat.completions.create(
            model="fake", messages=said("hello"), stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    text = whole.choices[0].message.content
    assert text == "1 turns, you said 'hello'. How about Heat (1995)?"
    assert whole.usage.total_tokens == 1 + 9 and whole.choices[0].finish_reason == "stop"
    *words, last, usage = chunks
    assert "".join(chunk.choices[0].delta.content for chunk in words) == text and len(words) > 5
    assert last.choices[0].finish_reason == "stop" and last.ecr["films"][0]["uri"] == "<x:heat>"
    assert usage.choices == [] and usage.usage.completion_tokens == 9
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_sdk_is_told_what_is_wrong(server):
    with sdk(server) as client:
        with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'; it is 'fake'"):
            client.chat.completions.create(model="gpt", messages=said("hello"))
        with pytest.raises(openai.BadRequestError, match="last message must be the user's"):
            client.chat.completions.create(model="fake", messages=[{"role": "assistant", "content": "hi"}])
        with pytest.raises(openai.APIError, match="the engine failed on this request"):
            list(client.chat.completions.create(model="fake", messages=said("poison"), stream=True))


def test_what_the_engine_hears(server, client, engine):
    messages = [
        {"role": "system", "content": "be a pirate"},
        {"role": "user", "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "parts"}]},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "go on"},
    ]
    body = {"model": "fake", "messages": messages, "temperature": 0.3, "ecr": {"items": 2, "forget": ["liked:x"]}}
    assert client.post(CHAT, json=body).status_code == 200
    (query,) = engine.batches[-1]
    assert [(turn.role, turn.text) for turn in query.turns] == [
        ("seeker", "two parts"), ("recommender", "yes?"), ("seeker", "go on"),
    ]  # fmt: skip
    assert query.items == 2 and query.turns[-1].forgotten == ("liked:x",)


def test_recommend_lists_films(client):
    turns = [{"role": "seeker", "text": "a thriller"}]
    films = client.post("/recommend", json={"conversation": turns, "k": 2}).json()["items"]
    assert [film["title"] for film in films] == ["Heat (1995)", "Ronin (1998)"]
    assert client.post("/recommend", json={"conversation": turns, "k": 0}).status_code == 400
    assert client.post("/recommend", json={"conversation": []}).status_code == 400


# ------------------------------------------------------------------------------------------------------- conversations


def test_a_conversation_is_kept_with_its_explanations(client, engine):
    first = ask(client, "hello").json()["ecr"]
    second = ask(client, "and then?", first["conversation_id"]).json()["ecr"]
    (query,) = engine.batches[-1]
    assert [turn.role for turn in query.turns] == ["seeker", "recommender", "seeker"]
    assert query.turns[1].plan == {"film": "<x:heat>"}
    kept = client.get(f"/conversations/{first['conversation_id']}").json()
    assert [(m["id"], m["parent_id"]) for m in kept["messages"]] == [
        (first["message_id"], None), (first["reply_id"], first["message_id"]),
        (second["message_id"], first["reply_id"]), (second["reply_id"], second["message_id"]),
    ]  # fmt: skip
    assert kept["messages"][1]["explanation"] == first and kept["title"] == "hello"
    assert kept["messages"][0]["explanation"] is None


def test_an_edited_message_is_a_branch(client, engine):
    first = ask(client, "hello").json()["ecr"]
    place = first["conversation_id"]
    ask(client, "one way", place)
    other = ask(client, "another way", place, parent_id=first["reply_id"]).json()["ecr"]
    assert [turn.text for turn in engine.batches[-1][0].turns][::2] == ["hello", "another way"]
    root = ask(client, "from the start", place, parent_id=None).json()["ecr"]
    assert len(engine.batches[-1][0].turns) == 1
    by_id = {m["id"]: m for m in client.get(f"/conversations/{place}").json()["messages"]}
    assert by_id[other["message_id"]]["parent_id"] == first["reply_id"]
    assert by_id[root["message_id"]]["parent_id"] is None and len(by_id) == 8
    assert ask(client, "x", place, parent_id="nowhere").status_code == 404


def test_a_repeated_request_is_one_message_and_one_reply(client, engine):
    identifier = str(uuid.uuid4())
    first = ask(client, "hello", message_id=identifier).json()
    calls = len(engine.batches)
    again = ask(client, "hello", first["ecr"]["conversation_id"], message_id=identifier).json()
    assert len(engine.batches) == calls  # nothing was made anew
    assert again["ecr"] == first["ecr"] and again["choices"] == first["choices"]
    assert ask(client, "another text", message_id=identifier).status_code == 409
    kept = client.get(f"/conversations/{first['ecr']['conversation_id']}").json()
    assert len(kept["messages"]) == 2 and kept["messages"][0]["id"] == identifier


def test_another_reply_passes_the_films_of_the_first_over(client):
    first = ask(client, "hello").json()["ecr"]
    place, message = first["conversation_id"], first["message_id"]
    second = ask(client, "hello", place, message_id=message, regenerate=True).json()["ecr"]
    assert [reply["films"][0]["uri"] for reply in (first, second)] == ["<x:heat>", "<x:ronin>"]
    assert first["message_id"] == second["message_id"] and first["reply_id"] != second["reply_id"]
    assert ask(client, "hello", place, message_id="unknown", regenerate=True).status_code == 404
    assert ask(client, "hello", place, regenerate=True).status_code == 400


def test_feedback_reaches_the_next_reply_and_can_be_taken_back(client, engine):
    first = ask(client, "hello").json()["ecr"]
    reply = {"conversation_id": first["conversation_id"], "message_id": first["reply_id"]}

    def give(kind, item=None):
        return client.post("/feedback", json={**reply, "kind": kind, "item": item})

    give("dislike", "<x:heat>")
    give("like", "<x:heat>")
    given = give("seen", "<x:heat>").json()["feedback"]
    assert [f["kind"] for f in given] == ["like", "seen"]
    assert [f["kind"] for f in give("down").json()["feedback"]] == ["like", "seen", "down"]
    assert give("up").json()["feedback"][-1] == {"kind": "up", "item": None}
    second = ask(client, "more", first["conversation_id"]).json()["ecr"]
    assert engine.batches[-1][0].turns[-1].marks == (("<x:heat>", "like"), ("<x:heat>", "seen"))
    assert second["beliefs"] == [{"id": "liked:<x:heat>", "kind": "liked", "text": "<x:heat>"}]
    assert [f["kind"] for f in give("clear", "<x:heat>").json()["feedback"]] == ["up"]
    assert give("clear").json()["feedback"] == []
    assert give("up", "<x:heat>").status_code == 400 and give("like").status_code == 400
    seeker = {**reply, "message_id": first["message_id"]}
    assert client.post("/feedback", json={**seeker, "kind": "up"}).status_code == 400
    assert client.post("/feedback", json={**reply, "message_id": "x", "kind": "up"}).status_code == 404


def test_conversations_are_listed_searched_renamed_and_deleted(server):
    with server.client() as client:
        titles = ["a 100% sure thing", "1000 sure things", "x" * 80]
        ids = [ask(client, title).json()["ecr"]["conversation_id"] for title in titles]
        listed = client.get("/conversations").json()
        assert [row["id"] for row in listed] == ids[::-1] and listed[0]["turns"] == 1
        assert listed[0]["title"] == "x" * 59 + "…" and listed[0]["created"].endswith("Z")
        assert [row["id"] for row in client.get("/conversations", params={"query": "100%"}).json()] == ids[:1]
        assert [row["id"] for row in client.get("/conversations", params={"query": "SURE"}).json()] == ids[1::-1]
        assert [row["id"] for row in client.get("/conversations?limit=1&offset=1").json()] == [ids[1]]
        assert client.patch(f"/conversations/{ids[0]}", json={"title": "new"}).json()["title"] == "new"
        assert client.delete(f"/conversations/{ids[0]}").status_code == 204
        assert client.get(f"/conversations/{ids[0]}").status_code == 404
        assert client.delete("/me").status_code == 204
        assert client.get("/conversations").json() == []


def test_nobody_sees_what_is_somebody_elses(server, client):
    mine = ask(client, "my secret").json()["ecr"]
    place = f"/conversations/{mine['conversation_id']}"
    with server.client() as other:
        assert other.get("/conversations").json() == []
        answers = [other.get(place), other.delete(place), other.patch(place, json={"title": "t"}),
                   other.get(f"{place}/export"), ask(other, "x", mine["conversation_id"]),
                   ask(other, "my secret", message_id=mine["message_id"]),
                   other.post("/feedback", json={"conversation_id": mine["conversation_id"],
                                                 "message_id": mine["reply_id"], "kind": "up"})]  # fmt: skip
        assert [answer.status_code for answer in answers] == [404] * 7
        other.delete("/me")
    assert client.get(place).status_code == 200


def test_the_first_event_says_where_the_message_is_kept_and_then_it_is(server, client, engine):
    engine.gate.clear()
    body = {"model": "fake", "messages": said("wait for it"), "stream": True, "ecr": {"conversation_id": "new"}}
    try:
        with client.stream("POST", CHAT, json=body) as response:
            lines = (line for line in response.iter_lines() if line)
            first = json.loads(next(lines)[6:])
            with server.client(cookies={"ecr_caller": client.cookies["ecr_caller"]}) as same:
                kept = same.get(f"/conversations/{first['ecr']['conversation_id']}").json()["messages"]
            assert [(m["id"], m["text"]) for m in kept] == [(first["ecr"]["message_id"], "wait for it")]
            engine.gate.set()
            last = [json.loads(line[6:]) for line in lines if line != "data: [DONE]"][-1]
            assert last["ecr"]["reply_id"] == first["ecr"]["reply_id"]
    finally:
        engine.gate.set()


# -------------------------------------------------------------------------------------------------------------- faults

_BAD = {
    "not JSON": (b"{", 400),
    "invalid UTF-8": (b'{"model": "fake", "messages": [{"role": "user", "content": "\xff"}]}', 400),
    "a lone surrogate": (rb'{"model": "fake", "messages": [{"role": "user", "content": "\ud800"}]}', 400),
    "U+0000": (rb'{"model": "fake", "messages": [{"role": "user", "content": "a\u0000b"}]}', 400),
    "a list": (b"[]", 400),
    "nothing": (b"", 400),
    "nested deeply": (b'{"model": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", 400),
    "wrong types": (b'{"model": "fake", "messages": [{"role": "user", "content": 5}]}', 400),
    "a number as text": (b'{"model": "fake", "stream": "yes", "messages": [{"role": "user", "content": "a"}]}', 400),
    "no messages": (b'{"model": "fake", "messages": []}', 400),
    "an empty message": (b'{"model": "fake", "messages": [{"role": "user", "content": " \\n"}]}', 400),
    "an image": (b'{"model": "fake", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', 400),
    "two choices": (b'{"model": "fake", "n": 2, "messages": [{"role": "user", "content": "a"}]}', 400),
    "a long message": (b'{"model": "fake", "messages": [{"role": "user", "content": "%s"}]}' % (b"a" * 5000), 400),
    "many turns": (
        b'{"model": "fake", "messages": [%s]}' % b",".join([b'{"role": "user", "content": "a"}'] * 1000), 400,
    ),
    "10,000 turns": (
        b'{"model": "fake", "messages": [%s]}' % b",".join([b'{"role": "user", "content": "a"}'] * 10_000), 413,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", _BAD)
def test_a_poisoned_request_gets_a_clear_answer_and_the_server_lives(client, case):
    body, status = _BAD[case]
    answer = client.post(CHAT, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "code"} and error["message"] and "Traceback" not in answer.text
    assert client.get("/readyz").status_code == 200


def test_a_body_that_does_not_say_how_large_it_is_is_refused_too(client):
    answer = client.post(
        CHAT, content=itertools.repeat(b"x" * 10_000, 20), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413 and "larger than 100000 bytes" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE messages; --",
        "{{7*7}} ${7*7} %s %d {0}",
        "<script>alert(1)</script>",
        "../../etc/passwd",
        "🎬" * 500,
    ],
)
def test_hostile_text_is_only_text(client, text):
    answer = ask(client, text).json()["ecr"]
    kept = client.get(f"/conversations/{answer['conversation_id']}").json()
    assert kept["messages"][0]["text"] == text
    assert client.get("/conversations", params={"query": text[:100]}).json()[0]["id"] == answer["conversation_id"]


def test_the_engines_failure_is_not_shown(client):
    answer = ask(client, "poison")
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "engine_error"
    assert "secret" not in answer.text


def test_a_failing_request_does_not_spoil_the_others_of_its_batch(server, engine):
    engine.gate.clear()
    engine.began.clear()
    statuses = {}

    def send(text):
        with server.client() as client:
            statuses[text] = ask(client, text, None).status_code

    threads = [threading.Thread(target=send, args=(text,)) for text in ("first", "good", "poison", "better")]
    threads[0].start()
    engine.began.wait(10)
    for thread in threads[1:]:
        thread.start()
    _until_waiting(server, 3)
    engine.gate.set()
    for thread in threads:
        thread.join(10)
    assert statuses == {"first": 200, "good": 200, "poison": 500, "better": 200}
    assert max(map(len, engine.batches)) == 3


def test_unknown_paths_and_methods_answer_in_the_same_form(client):
    assert client.get("/nowhere").json()["error"]["code"] == "http_error"
    assert client.delete("/v1/models").status_code == 405
    assert client.get("/conversations/bad%20id").status_code == 400
    assert client.get("/conversations?query=%00").status_code == 400


def test_other_sites_are_kept_out(client):
    answer = client.get("/v1/models", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    preflight = client.options(
        CHAT, headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 405
    form = client.post("/feedback", content=b'{"kind": "up"}', headers={"Content-Type": "text/plain"})
    assert form.status_code == 400
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie


def _until_waiting(server, count):
    with server.client() as client:
        while f"ecr_waiting {float(count)}" not in client.get("/metrics").text:
            time.sleep(0.01)


def test_metrics_count_routes_not_paths(client):
    answer = ask(client, "hello").json()["ecr"]
    client.get(f"/conversations/{answer['conversation_id']}")
    text = client.get("/metrics").text
    assert 'ecr_requests_total{method="GET",route="/conversations/{conversation_id}",status="200"}' in text
    assert answer["conversation_id"] not in text and 'ecr_replies_total{writer="fake"}' in text
