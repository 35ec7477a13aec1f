"""A remote manager against a server that answers, lies, hangs and refuses: no exception, and the reason is kept."""

from __future__ import annotations

import json

import pytest

from ecr_jax.data.schema import Role
from ecr_jax.features.dialogues import Utterance
from ecr_jax.inference.remote_manager import RemoteManager
from ecr_jax.llm.client import Address, Client
from ecr_jax.manager.prompts import Instructions
from ecr_jax.manager.schema import film_schema
from tests.inference.small_films import GRAPH
from tests.llm_server import LlmServer, Reply

SCHEMA = film_schema(["comedy", "horror"])
EVERYTHING = [task.name for task in SCHEMA]
ANSWER = {"sub_task": "recommend", "category": "horror", "attribute": "any"}


def dialogue(text):
    return (Utterance(Role.SEEKER, text, text),)


def choose(tmp_path, behaviour, texts=("hello",), allowed=EVERYTHING, timeout=5.0):
    with LlmServer(behaviour) as server:
        client = Client(Address(server.url, "small", timeout=timeout, retries=0), tmp_path / "answers")
        manager = RemoteManager(client, SCHEMA, GRAPH, Instructions(True, (), True))
        chosen = [made for text in texts for made in manager.choose([dialogue(text)], [allowed])]
    return chosen, server.requests


def test_it_chooses_by_the_json_schema(tmp_path):
    (made,), (request,) = choose(tmp_path, lambda body, number: Reply(json.dumps(ANSWER)))
    assert str(made.choice) == "recommend: horror" and made.event == ""
    form = request["response_format"]["json_schema"]["schema"]
    assert form["properties"]["sub_task"]["enum"] == EVERYTHING and form["properties"]["category"]["enum"][0] == "any"


def test_what_is_not_possible_now_is_not_offered_and_not_taken(tmp_path):
    answer = {"sub_task": "recommend", "attribute": "any"}
    (made,), (request,) = choose(tmp_path, lambda body, number: Reply(json.dumps(answer)), allowed=["elicit", "chat"])
    assert made.choice is None and "no sub-task 'recommend'" in made.event
    assert request["response_format"]["json_schema"]["schema"]["properties"]["sub_task"]["enum"] == ["elicit", "chat"]


@pytest.mark.parametrize(
    ("reply", "event"),
    [
        (Reply("I would recommend a comedy!"), "malformed: not JSON"),
        (Reply(json.dumps(ANSWER | {"sub_task": "sing"})), "malformed: no sub-task 'sing'"),
        (Reply(json.dumps(ANSWER | {"category": "western"})), "malformed: recommend has no category 'western'"),
        (Reply(json.dumps({"sub_task": "recommend"})), "malformed: the fields are sub_task"),
        (Reply(None), "the model gave no answer"),
        (Reply(json.dumps(ANSWER), finish="length"), "the model gave no answer: cut off"),
        (Reply(status=500), "the model could not be asked"),
        (Reply(status=401), "the model could not be asked"),
        (Reply(body="<html>"), "the model could not be asked"),
        (Reply(json.dumps(ANSWER), half=True), "the model could not be asked"),
    ],
)
def test_whatever_the_server_does_the_turn_goes_on(tmp_path, reply, event):
    (made,), _ = choose(tmp_path, lambda body, number: reply)
    assert made.choice is None and made.event.startswith(event)


def test_a_server_that_hangs(tmp_path):
    (made,), _ = choose(tmp_path, lambda body, number: Reply(json.dumps(ANSWER), delay=1.0), timeout=0.2)
    assert made.choice is None and made.event.startswith("the model could not be asked")


@pytest.mark.slow
@pytest.mark.parametrize(
    "reply",
    [Reply("nonsense"), Reply(status=503), Reply(json.dumps(ANSWER), delay=0.3)],
    ids=["lies", "refuses", "hangs"],
)
def test_two_hundred_turns(tmp_path, reply):
    texts = [f"hello {number}" for number in range(200)]
    chosen, requests = choose(tmp_path, lambda body, number: reply, texts, timeout=0.1)
    assert len(chosen) == 200 and all(made.choice is None and made.event for made in chosen)
    assert len(requests) >= 200
