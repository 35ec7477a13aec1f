"""The client against a real server that is slow, dead, lying, limiting, or sends half of an answer."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("openai", reason="the extra `llm` is not installed")

from ecr_jax.errors import ConfigError
from ecr_jax.llm.client import Address, Client, LlmError, Request, Usage
from ecr_jax.llm.writer import RemoteWriter
from tests.llm_server import LlmServer, Reply, asked


def say(text, **options):
    return Request([{"role": "user", "content": text}], **options)


def echo(body, number):
    return Reply(f"you said {asked(body)}")


@pytest.fixture
def client(tmp_path):
    """A function from a server to a client of it."""

    def make(server, **options):
        options = {"timeout": 5.0, "retries": 3} | options
        return Client(
            Address(server if isinstance(server, str) else server.url, "small", **options), tmp_path / "answers"
        )

    return make


def test_answers_come_in_order_and_are_asked_once(client):
    with LlmServer(echo) as server:
        requests = [say(f"line {i}") for i in range(20)]
        done = []
        first = client(server).answers(requests, lambda: done.append(1))
        assert [a.text for a in first] == [f"you said line {i}" for i in range(20)]
        assert len(done) == len(server.requests) == 20 and not any(a.cached for a in first)
        again = client(server).answers([*requests[::-1], say("more")])
        assert [a.text for a in again[:20]] == [f"you said line {i}" for i in range(19, -1, -1)]
        assert len(server.requests) == 21
        usage = Usage.of(again, Address(server.url, "small", input_price=2.0, output_price=10.0))
        assert (usage.sent, usage.cached, usage.input_tokens, usage.output_tokens) == (1, 20, 210, 84)
        assert usage.cost == pytest.approx((210 * 2 + 84 * 10) / 1e6)
        # anything that changes the answer is another question
        client(server).answers([say("line 0", temperature=0.5), say("line 0", seed=1), say("line 0", max_tokens=5)])
        Client(Address(server.url, "large"), client(server)._cache.folder).answers([say("line 0")])
        assert len(server.requests) == 25 and server.requests[-1]["model"] == "large"


def test_equal_requests_of_one_call_are_sent_once(client):
    with LlmServer(echo) as server:
        answers = client(server).answers([say("hi"), say("ho"), say("hi"), say("hi")])
        assert [a.text for a in answers] == ["you said hi", "you said ho", "you said hi", "you said hi"]
        assert [a.cached for a in answers] == [False, False, True, True] and len(server.requests) == 2
        assert Usage.of(answers, Address(server.url, "small")).input_tokens == 20


def test_concurrency_is_bounded(client):
    with LlmServer(lambda body, number: Reply(delay=0.05)) as server:
        client(server, concurrency=3).answers([say(str(i)) for i in range(12)])
        assert server.most_at_once == 3


def test_requests_are_paced(client):
    with LlmServer(echo) as server:
        client(server, requests_per_minute=1200).answers([say(str(i)) for i in range(9)])  # one in 50 ms
        times = sorted(server.times)
        assert 0.35 < times[-1] - times[0] < 2.0


def test_a_limiting_server_is_obeyed(client):
    def limiting(body, number):
        return Reply(status=429, body="{}", headers={"Retry-After": "0.4"}) if number == 1 else echo(body, number)

    with LlmServer(limiting) as server:
        assert client(server).answers([say("hi")])[0].text == "you said hi"
        assert len(server.requests) == 2 and server.times[1] - server.times[0] >= 0.4


def test_a_server_error_is_repeated_after_a_growing_pause(client):
    def recovering(body, number):
        return Reply(status=503, body="{}") if number < 3 else echo(body, number)

    with LlmServer(recovering) as server:
        assert client(server).answers([say("hi")])[0].text == "you said hi"
        first, second = (b - a for a, b in zip(server.times, server.times[1:], strict=False))
        assert 0.3 < first < second


def test_half_an_answer_is_repeated(client):
    with LlmServer(lambda body, number: Reply("whole", half=number == 1)) as server:
        assert client(server).answers([say("hi")])[0].text == "whole"
        assert len(server.requests) == 2


def test_a_slow_server_times_out_and_keeps_what_is_done(client):
    with LlmServer(lambda body, number: Reply(delay=3.0 if asked(body) == "slow" else 0.0)) as server:
        started = time.monotonic()
        with pytest.raises(LlmError, match=r"timed out.*the same command goes on"):
            client(server, timeout=0.2, retries=1, concurrency=1).answers([say("a"), say("b"), say("slow"), say("c")])
        assert time.monotonic() - started < 2.5
        assert [asked(body) for body in server.requests] == ["a", "b", "slow", "slow"]
        answers = client(server).answers([say("a"), say("b"), say("c")])
        assert [a.cached for a in answers] == [True, True, False]


def test_a_dead_server(client):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(LlmError, match=f"small at http://127.0.0.1:{port}/v1: Connection error"):
        client(f"http://127.0.0.1:{port}/v1", retries=0).answers([say("hi")])


@pytest.mark.parametrize("body", ["<html>welcome</html>", "{}", '{"choices": []}', '{"choices": [{}]}', "[1", "null"])
def test_what_is_no_chat_completion_ends_the_call_and_is_not_kept(client, body):
    with LlmServer(lambda _, number: Reply(body=body)) as server:
        for _ in range(2):
            with pytest.raises(LlmError, match="not with a chat completion"):
                client(server, retries=0).answers([say("hi")])
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (Reply("the first half", finish="length"), "cut off at max_tokens"),
        (Reply(None, finish="content_filter"), "no text: content_filter"),
        (Reply(""), "no text"),
    ],
)
def test_an_answer_that_is_not_whole_has_a_fault(client, reply, fault):
    with LlmServer(lambda body, number: reply) as server:
        (answer,) = client(server).answers([say("hi")])
        assert fault in answer.fault and answer.text == (reply.text or "")


def test_a_refused_request_is_a_fault_of_its_own(client):
    def refusing(body, number):
        return (
            Reply(status=400, body='{"error": {"message": "too long"}}') if asked(body) == "x" else echo(body, number)
        )

    with LlmServer(refusing) as server:
        refused, answered = client(server).answers([say("x"), say("y")])
        assert "too long" in refused.fault and answered.text == "you said y"


def test_the_key_is_sent_and_never_shown(client, monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_KEY", "sk-sesame")

    def unfriendly(body, number):
        if asked(body) == "hi":
            return echo(body, number)
        return Reply(status=401, body='{"error": {"message": "wrong key sk-sesame"}}')

    with LlmServer(unfriendly) as server:
        asking = client(server, key_variable="SECRET_KEY")
        asking.answers([say("hi")])
        assert server.keys == ["Bearer sk-sesame"]
        with pytest.raises(LlmError, match=r"wrong key \*\*\*.*environment variable SECRET_KEY") as raised:
            asking.answers([say("ho")])
        assert "sesame" not in str(raised.value) and raised.value.__suppress_context__
    stored = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert stored and "sesame" not in stored


def test_what_is_recorded_of_an_address_holds_no_password():
    address = Address("https://user:word@example.org:8000/v1?token=x", "m")
    assert address.public == {"base_url": "https://example.org:8000/v1", "model": "m"}


SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def test_optional_parts_are_left_out_where_the_server_refuses_them(client):
    def old(body, number):
        return (
            Reply(status=400, body='{"error": {"message": "unknown field"}}')
            if "response_format" in body
            else Reply("{}")
        )

    with LlmServer(old) as server:
        asking = client(server, concurrency=1)
        answers = asking.answers([say(str(i), schema=SCHEMA, top_logprobs=2) for i in range(3)])
        assert [a.text for a in answers] == ["{}"] * 3
        sent = [("response_format" in body, "logprobs" in body) for body in server.requests]
        assert sent == [(True, True), (False, True), (False, True), (False, True)]  # learned at the first request


def test_schema_and_log_probabilities(client):
    logprobs = [("[", {"[": 0.0}), ("3", {"3": -0.1, "1": -2.4})]
    with LlmServer(lambda body, number: Reply("[3]", logprobs=logprobs)) as server:
        asking = client(server)
        for _ in range(2):  # from the server, then from disk
            (answer,) = asking.answers([say("hi", schema=SCHEMA, top_logprobs=5)])
            assert [(t.text, dict(t.logprobs)) for t in answer.tokens] == [
                ("[", {"[": 0.0}),
                ("3", {"3": -0.1, "1": -2.4}),
            ]
        (body,) = server.requests
        assert body["response_format"]["json_schema"]["schema"] == SCHEMA and body["top_logprobs"] == 5


@pytest.mark.parametrize(
    "changes",
    [{"base_url": "localhost:80"}, {"model": ""}, {"concurrency": 0}, {"timeout": 0}, {"requests_per_minute": 0},
     {"retries": -1}, {"input_price": -1.0}],
)  # fmt: skip
def test_impossible_addresses(changes):
    with pytest.raises(ConfigError, match=f"Address.{next(iter(changes))}"):
        dataclasses.replace(Address("http://x/v1", "m"), **changes)


def test_a_missing_package_is_named(client, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ValueError, match=r"pip install 'ecr-jax\[llm\]'"):
        client("http://x/v1").answers([say("hi")])


def test_the_writer_asks_for_candidates_that_differ_in_their_seed(client):
    with LlmServer(lambda body, number: Reply(f" {asked(body)} {body['seed']}\n")) as server:
        chats = [[{"role": "user", "content": text}] for text in ("a", "b")]
        assert RemoteWriter(client(server)).write(chats, 3) == [["a 0", "a 1", "a 2"], ["b 0", "b 1", "b 2"]]
        assert {body["temperature"] for body in server.requests} == {0.8}
        assert RemoteWriter(client(server)).write([], 3) == []
    with LlmServer(lambda body, number: Reply(status=400, body="{}")) as server:
        with pytest.raises(LlmError, match="wrote nothing at all"):
            RemoteWriter(client(server)).write(chats, 1)


_ASK = """
import sys
from pathlib import Path
from ecr_jax.llm.client import Address, Client, Request
requests = [Request([{"role": "user", "content": str(i)}]) for i in range(40)]
client = Client(Address(sys.argv[1], "small", concurrency=2), Path(sys.argv[2]))
print(sum(not answer.cached for answer in client.answers(requests)))
"""


@pytest.mark.slow  # importing openai takes seconds
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_what_is_killed_and_started_again_asks_nothing_twice(tmp_path, how):
    with LlmServer(lambda body, number: Reply(delay=0.05)) as server:
        command = [sys.executable, "-c", _ASK, server.url, str(tmp_path)]
        root = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": root}
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        while len(server.requests) < 10:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(how)
        assert process.wait(5) != 0
        time.sleep(0.1)  # what is under way ends
        kept = len(list(tmp_path.rglob("*.json")))
        assert 5 <= kept < 40
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert int(done.stdout) == 40 - kept
        asked_twice = len(server.requests) - len({asked(body) for body in server.requests})
        assert asked_twice <= 2  # those under way when it was stopped
