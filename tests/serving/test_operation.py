"""A server under load, in trouble and at its end: full queues, clients that leave, keys, limits, kill -9."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from sqlalchemy import event

from ecr_jax.serving import app as application
from ecr_jax.serving.app import create_app
from ecr_jax.serving.callers import Callers, add_key, read_keys
from ecr_jax.serving.faults import ApiError
from ecr_jax.serving.server import is_loopback
from ecr_jax.serving.settings import Limits
from ecr_jax.serving.store import Store
from tests.serving.fake_engine import FakeEngine, app_with
from tests.serving.live import Live, ask, live, said

CHAT = "/v1/chat/completions"


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'conversations.db'}"


@pytest.fixture
def engine():
    engine = FakeEngine()
    yield engine
    engine.gate.set()


def number(client, name):
    """The value of a metric."""
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def occupied(server, engine):
    """A thread whose request keeps the engine busy until its gate opens."""

    def send():
        with server.client() as client:
            ask(client, "first", None)

    engine.gate.clear()
    engine.began.clear()
    thread = threading.Thread(target=send)
    thread.start()
    assert engine.began.wait(10)
    return thread


# --------------------------------------------------------------------------------------------------------------- queue


def test_a_full_queue_refuses_at_once_stores_nothing_and_takes_requests_again(url, engine):
    with live(app_with(engine, url, waiting=2)) as server, ThreadPoolExecutor(2) as threads, server.client() as client:
        busy = occupied(server, engine)

        def send(_):
            with server.client() as other:
                return ask(other, "waits").status_code

        waiting = threads.map(send, range(2))
        until(lambda: number(client, "ecr_waiting") == 2)
        refused = ask(client, "too much")
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        assert client.get("/conversations").json() == []
        engine.gate.set()
        assert list(waiting) == [200, 200]
        busy.join()
        assert ask(client, "again").status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_while_it_waits_leaves_the_queue(url, engine, stream):
    with live(app_with(engine, url)) as server, server.client() as client:
        busy = occupied(server, engine)
        body = {"model": "fake", "messages": said("gone"), "stream": stream, "ecr": {"conversation_id": "new"}}
        # A bare socket, which can be closed in the middle of a request.
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as bare:
            content = json.dumps(body).encode()
            head = (
                f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
            )
            bare.sendall(f"{head}\r\n\r\n".encode() + content)
            until(lambda: number(client, "ecr_waiting") == 1)
        until(lambda: number(client, "ecr_waiting") == 0)
        assert number(client, "ecr_left_total") == 1
        engine.gate.set()
        busy.join()
        assert [query.turns[-1].text for batch in engine.batches for query in batch] == ["first"]


def test_a_reply_that_began_is_stored_although_its_client_left(url, engine):
    with live(app_with(engine, url)) as server, server.client() as client:
        client.get("/v1/models")  # gets its cookie
        engine.gate.clear()
        body = {"model": "fake", "messages": said("stay"), "stream": True, "ecr": {"conversation_id": "new"}}
        with client.stream("POST", CHAT, json=body) as response:
            place = json.loads(next(line for line in response.iter_lines() if line)[6:])["ecr"]
            assert engine.began.wait(10)
        engine.gate.set()
        messages = f"/conversations/{place['conversation_id']}"
        until(lambda: len(client.get(messages).json()["messages"]) == 2)
        kept = client.get(messages).json()["messages"]
        assert [m["id"] for m in kept] == [place["message_id"], place["reply_id"]]


def test_a_request_that_waits_for_the_same_message_gets_the_same_reply(url, engine):
    with live(app_with(engine, url)) as server, ThreadPoolExecutor(2) as threads:
        with server.client() as client:
            client.get("/v1/models")
            cookies = dict(client.cookies)
        place = {"message_id": str(uuid.uuid4())}
        engine.gate.clear()

        def send(_):
            with server.client(cookies=cookies) as client:
                return ask(client, "twice", **place).json()["ecr"]["reply_id"]

        one = threads.submit(send, 0)
        assert engine.began.wait(10)
        other = threads.submit(send, 1)
        with server.client() as client:
            until(lambda: 'route="/v1/chat/completions"' not in client.get("/metrics").text)
            time.sleep(0.2)
        engine.gate.set()
        assert one.result(10) == other.result(10)
        assert sum(map(len, engine.batches)) == 1


def test_a_reply_that_takes_too_long_is_a_504(url, engine):
    with live(app_with(engine, url, seconds=0.2)) as server, server.client() as client:
        engine.gate.clear()
        slow = ask(client, "hello", None)
        assert slow.status_code == 504 and "within 0.2 seconds" in slow.json()["error"]["message"]
        body = {"model": "fake", "messages": said("hello"), "stream": True}
        text = client.post(CHAT, json=body).text
        assert '"code":"timeout"' in text and "[DONE]" not in text
        engine.gate.set()


def test_a_stream_that_waits_sends_signs_of_life(url, engine, monkeypatch):
    monkeypatch.setattr("ecr_jax.serving.chat._PING_SECONDS", 0.05)
    with live(app_with(engine, url)) as server, server.client() as client:
        engine.gate.clear()
        body = {"model": "fake", "messages": said("hello"), "stream": True}
        with client.stream("POST", CHAT, json=body) as response:
            lines = response.iter_lines()
            until(lambda: next(lines).startswith(":"))
            engine.gate.set()
            assert "data: [DONE]" in list(lines)


# ------------------------------------------------------------------------------------------------------ start and stop


def test_a_server_is_ready_after_its_engine_is_warm_and_says_so_before(url):
    gate = threading.Event()
    with live(app_with(FakeEngine(warm_up=gate.wait), url), ready=False) as server, server.client() as client:
        assert client.get("/healthz").status_code == 200
        for answer in (client.get("/readyz"), ask(client, "hello")):
            assert answer.status_code == 503 and answer.headers["retry-after"] and "loaded" in answer.text
        gate.set()
        server.ready()
        assert ask(client, "hello").status_code == 200


def test_an_engine_that_cannot_be_loaded_is_told_and_logged(url, caplog):
    def fail():
        raise RuntimeError("secret reason")

    with live(app_with(FakeEngine(warm_up=fail), url), ready=False) as server, server.client() as client:
        until(lambda: "could not be loaded" in client.get("/readyz").text)
        assert "secret" not in client.get("/readyz").text
    assert "secret reason" in caplog.text


def test_a_server_that_stops_finishes_what_it_began(url, engine):
    server = Live(app_with(engine, url, batch=1))
    server.start()
    server.ready()
    engine.gate.clear()

    def send(text):
        with server.client() as client:
            return ask(client, text, None).json()["choices"][0]["message"]["content"]

    with ThreadPoolExecutor(3) as threads:
        replies = [threads.submit(send, text) for text in ("one", "two", "three")]
        with server.client() as client:
            until(lambda: number(client, "ecr_waiting") == 2)
        server.stop()
        time.sleep(0.2)
        engine.gate.set()
        assert [f"'{text}'" in reply.result(10) for text, reply in zip(("one", "two", "three"), replies, strict=True)]
        server.wait()


def _process(database, *options):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.serving.fake_engine", str(database), "--port", str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        assert process.poll() is None
        try:
            if httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return process, f"http://127.0.0.1:{port}"
        except httpx2.ConnectError:
            time.sleep(0.05)


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_replies_loses_no_acknowledged_message_and_doubles_none(tmp_path):
    database, acknowledged, people = tmp_path / "c.db", {}, {}
    process, url = _process(database, "--seconds", "0.3", "--batch", "4")
    ids = [str(uuid.uuid4()) for _ in range(20)]
    bodies = {
        i: {"model": "fake", "messages": said(f"message {i}"), "stream": True,
            "ecr": {"conversation_id": "new", "message_id": i}}
        for i in ids
    }  # fmt: skip

    def send(url, identifier):
        """Sends a message and waits for its acknowledgement, and then for its reply."""
        with httpx2.Client(base_url=url, timeout=30, verify=False, cookies=people.get(identifier)) as client:
            with client.stream("POST", CHAT, json=bodies[identifier]) as response:
                people.setdefault(identifier, dict(response.cookies))
                lines = (line for line in response.iter_lines() if line.startswith("data: "))
                acknowledged.setdefault(identifier, json.loads(next(lines)[6:])["ecr"]["conversation_id"])
                return list(lines)[-1]

    with ThreadPoolExecutor(20) as threads:
        sent = [threads.submit(send, url, i) for i in ids]
        until(lambda: len(acknowledged) == 20 or sum(s.done() for s in sent) > 4, 60)
        until(lambda: sum(s.done() for s in sent) >= 4, 60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        broken = [s for s in sent if s.exception(30) is not None]
    assert broken  # it was in the middle
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        stored = [row[0] for row in connection.execute("SELECT id FROM messages WHERE role = 'seeker'")]
    assert set(acknowledged) <= set(stored) and len(stored) == len(set(stored))

    process, url = _process(database, "--batch", "8")
    try:
        for identifier in ids:  # each client repeats its request
            assert send(url, identifier) == "data: [DONE]"
        for identifier in acknowledged:
            with httpx2.Client(base_url=url, verify=False, cookies=people[identifier]) as client:
                (summary,) = client.get("/conversations").json()
                messages = client.get(f"/conversations/{summary['id']}").json()["messages"]
                assert [(m["id"] if m["role"] == "seeker" else "reply") for m in messages] == [identifier, "reply"]
    finally:
        process.terminate()
        process.wait(20)


# ------------------------------------------------------------------------------------------------------------- storage


def test_a_locked_database_is_a_503_and_then_all_is_well(tmp_path, url, engine, monkeypatch):
    monkeypatch.setattr("ecr_jax.serving.store.database._SECONDS_BUSY", 0.1)
    with live(app_with(engine, url)) as server, server.client() as client:
        with sqlite3.connect(tmp_path / "conversations.db", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            answer = ask(client, "hello")
            assert answer.status_code == 503 and answer.json()["error"]["code"] == "storage"
            assert answer.headers["retry-after"] and "sqlite" not in answer.text.lower()
            assert ask(client, "hello", None).status_code == 200  # what is not kept needs no database
            other.execute("ROLLBACK")
        other.close()
        assert ask(client, "hello").status_code == 200


def test_a_full_disk_is_a_503_and_then_all_is_well(url, engine, caplog):
    store = Store.open(url)
    limit = {"pages": 1_000_000}

    @event.listens_for(store.database.engine, "begin")  # SQLite answers as on a full disk when its file may not grow
    def full(connection):
        connection.connection.dbapi_connection.execute(f"PRAGMA max_page_count = {limit['pages']}")

    with live(create_app(engine, store, Callers(None), Limits())) as server, server.client() as client:
        assert ask(client, "hello").status_code == 200
        limit["pages"] = 1
        for _ in range(8):  # until the last page is full
            answer = ask(client, "a secret " * 400)
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "storage"
        assert "disk is full" in caplog.text and "a secret" not in caplog.text
        limit["pages"] = 1_000_000
        assert ask(client, "hello again").status_code == 200


# ---------------------------------------------------------------------------------------------------- keys and limits


def test_keys_are_kept_as_hashes_and_open_only_their_own_conversations(tmp_path, url, engine):
    path = tmp_path / "keys.json"
    alice, bob = add_key(path, "alice"), add_key(path, "bob")
    assert alice not in path.read_text() and path.stat().st_mode & 0o777 == 0o600
    with live(app_with(engine, url, keys=read_keys(path))) as server:
        with server.client() as nobody:
            assert nobody.get("/healthz").status_code == nobody.get("/readyz").status_code == 200
            answer = ask(nobody, "hello")
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["error"]["type"] == "authentication_error"
            assert ask_with(nobody, f"{alice}x").status_code == 401
            assert ask_with(nobody, "käse").status_code == 401
            assert ask_with(nobody, alice).status_code == 200
        with server.client(headers={"Authorization": f"Bearer {bob}"}) as other:
            assert other.get("/conversations").json() == []
        with server.client(headers={"Authorization": f"Bearer {alice}"}) as same:
            assert len(same.get("/conversations").json()) == 1


def ask_with(client, key):
    body = {"model": "fake", "messages": said("hello"), "ecr": {"conversation_id": "new"}}
    return client.post(CHAT, json=body, headers={"Authorization": f"Bearer {key}".encode()})


def test_a_key_is_replaced_by_one_of_the_same_name(tmp_path):
    path = tmp_path / "keys.json"
    old, new = add_key(path, "alice", 5), add_key(path, "alice", 7)
    (key,) = read_keys(path)
    assert key.requests_per_minute == 7
    callers = Callers((key,))
    assert callers.identify(new, None, "").owner == "key:alice"
    with pytest.raises(ApiError, match="not known"):
        callers.identify(old, None, "")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"keys": [{"name": "a"}]}', '{"keys": [{"name": "a", "sha256": "plain key"}]}']
)
def test_a_file_that_holds_no_keys_is_a_clear_error(tmp_path, content):
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(ValueError, match="ecr serve-key"):
        read_keys(tmp_path / "keys.json")
    with pytest.raises(ValueError, match="no name of a key"):
        add_key(tmp_path / "new.json", "a b")


def test_a_key_and_an_address_are_held_to_their_limits(tmp_path, url, engine):
    path = tmp_path / "keys.json"
    key, other = add_key(path, "alice", 3), add_key(path, "bob")
    with live(app_with(engine, url, keys=read_keys(path))) as server, server.client() as client:
        statuses = [ask_with(client, key).status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        refused = ask_with(client, key)
        assert 1 <= int(refused.headers["retry-after"]) <= 60 and refused.json()["error"]["code"] == "rate_limit"
        assert ask_with(client, other).status_code == 200
    with live(app_with(engine, f"{url}2", requests_per_minute=2)) as server, server.client() as client:
        assert [ask(client, "hello", None).status_code for _ in range(3)] == [200, 200, 429]
        assert client.get("/healthz").status_code == 200


def test_browsers_may_call_the_server_by_its_own_names_alone(url, engine):
    with live(app_with(engine, url, hosts=("localhost", "127.0.0.1"))) as server, server.client() as client:
        assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 400
        assert client.get("/v1/models").status_code == 200
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")
    assert not is_loopback("0.0.0.0") and not is_loopback("192.168.1.2") and not is_loopback("films.example")


def test_a_body_that_does_not_arrive_is_a_408(url, engine, monkeypatch):
    monkeypatch.setattr(application, "_BODY_SECONDS", 0.2)
    with live(app_with(engine, url)) as server:
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as bare:
            bare.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
            bare.settimeout(10)
            assert b" 408 " in bare.recv(1000).split(b"\r\n")[0]


# ------------------------------------------------------------------------------------------------------------- OpenAPI


@pytest.mark.slow
@pytest.mark.parametrize("with_key", [False, True])
def test_schemathesis_finds_nothing(tmp_path, url, engine, with_key):
    path = tmp_path / "keys.json"
    header = ["--header", f"Authorization: Bearer {add_key(path, 'fuzzer')}"] if with_key else []
    keys = read_keys(path) if with_key else None
    with live(app_with(engine, url, keys=keys)) as server:
        # Some texts are refused that a schema cannot tell, such as blank ones; lines of JSON it cannot make.
        options = ["--exclude-checks", "positive_data_acceptance", "--exclude-path", "/conversations/import"]
        limits = ["--max-examples", "15", "--generation-database", "none", "--no-color"]
        program = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
        done = subprocess.run([*program, *options, *limits, *header], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_openapi_names_keys_where_they_are_needed(tmp_path, url, engine):
    path = tmp_path / "keys.json"
    add_key(path, "alice")
    for keys, expected in ((None, False), (read_keys(path), True)):
        document = app_with(engine, url, keys=keys).openapi()
        operations = [operation for path in document["paths"].values() for operation in path.values()]
        assert any("security" in operation for operation in operations) == expected
        assert not [operation for operation in operations if "422" in operation["responses"]]


def test_a_wrong_method_is_told_all_that_are_right(url, engine):
    with live(app_with(engine, url)) as server, server.client() as client:
        answer = client.post("/conversations/x")
        assert answer.status_code == 405 and answer.headers["allow"] == "DELETE, GET, PATCH"
