"""A whole turn with a manager: the trained one of a run, and a remote one that answers or fails."""

from __future__ import annotations

import io
import json
import shutil

import jax
import numpy as np
import pytest
from rich.console import Console

from ecr_jax.data.schema import Role, Turn
from ecr_jax.features.dialogues import Context
from ecr_jax.inference.agent import Agent, Exchange, Management, Reply
from ecr_jax.inference.chat import Chat, explanation, talk
from ecr_jax.inference.experts import Expert, Outcome, Registry
from ecr_jax.inference.planning import decide
from ecr_jax.llm.client import Address, Client
from ecr_jax.manager.schema import Choice, Chosen, film_schema
from ecr_jax.models.lm import lora
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages import manager
from ecr_jax.training.checkpoint import write_params
from tests import random_run
from tests.inference.small_films import GRAPH, Talk, film
from tests.llm_server import LlmServer
from tests.llm_server import Reply as Sent

TEXTS = ("hello i liked Ronin (1998) a lot", "that is good", "who directed it ?", "why ?")


class Fixed:
    """A manager that chooses the same for every dialogue, among what its schema has."""

    schema = film_schema(["comedy", "horror"])

    def __init__(self, *chosen):
        self.chosen, self.allowed = chosen, None

    def choose(self, dialogues, allowed):
        self.allowed = allowed
        return [self.chosen[row % len(self.chosen)] for row in range(len(dialogues))]


def agent_with(manages, *experts):
    """An agent without models, of which only managing and planning can be used."""
    agent = Agent.__new__(Agent)
    agent.__dict__ |= {"graph": GRAPH, "manager": manages}
    agent.__dict__["experts"] = Registry(experts, lambda goal, descriptions: np.zeros(len(descriptions)))
    return agent


def exchange(*said):
    conversation = Talk()
    for text in said:
        conversation.say(text)
    peaked = np.full(len(GRAPH.items), 0.01, np.float32)
    peaked[0] = 1 - peaked[1:].sum()
    return Exchange(Context(tuple(conversation.turns[:-1]), 8), {}, memory=conversation.memory, probabilities=peaked)


def horror(call):
    scores = np.full(len(GRAPH.items), -9.0)
    if call.choice.argument("category") == "horror":
        scores[GRAPH.items.tolist().index(film("Halloween"))] = 0
    return Outcome(text="Halloween", scores=scores)


RANKS = Expert("ranks", "recommends", frozenset(("recommend",)), horror)
HORROR = Choice("recommend", (("category", "horror"),))


def test_without_a_manager_the_acts_decide_and_nobody_is_asked():
    (managed,) = agent_with(None, RANKS).manage([exchange("I like Heat (1995)")])
    assert managed.management == Management("acts", ("recommend", "elicit", "chat"), Choice("recommend"))
    planned = agent_with(None).plan(managed)
    assert (
        planned.decision == decide(managed.memory, GRAPH.items, managed.probabilities, {}, GRAPH)
        and planned.decision.plan.recommended == 1
    )


def test_the_manager_chooses_and_the_expert_carries_it_out():
    manages = Fixed(Chosen(HORROR, ((HORROR, 0.7),)))
    agent = agent_with(manages, RANKS)
    (managed,) = agent.manage([exchange("I like Heat (1995)")])
    assert manages.allowed == [("recommend", "elicit", "chat")]
    assert managed.management.by == "manager" and managed.management.answered.expert == "ranks"
    assert agent.plan(managed).decision.plan.films == (film("Halloween"),)


def test_a_manager_that_gives_nothing_and_an_expert_that_fails_change_only_who_decides():
    def fails(call):
        raise OSError("down")

    agent = agent_with(
        Fixed(Chosen(None, event="malformed: x")), Expert("ranks", "r", frozenset(("recommend",)), fails)
    )
    (managed,) = agent.manage([exchange("I like Heat (1995)")])
    assert (managed.management.by, managed.management.event) == ("acts", "malformed: x")
    assert managed.management.answered.failed[0][1].reason == "OSError: down"
    plain = agent_with(None)
    (other,) = plain.manage([exchange("I like Heat (1995)")])
    assert agent.plan(managed).decision == plain.plan(other).decision
    reply = Reply("x", "", agent.plan(managed).decision, managed.memory, "plain", managed.management)
    explained = shown(reply, GRAPH)
    assert "manager: malformed: x, ranks: OSError: down" in explained and "recommend (chosen by: acts)" in explained


def test_nobody_serves_chat():
    agent = agent_with(Fixed(Chosen(Choice("chat"))), RANKS)
    (managed,) = agent.manage([exchange("I like Heat (1995)")])
    assert managed.management.answered is None and agent.plan(managed).decision.plan.films == ()


def test_films_that_were_asked_for_are_recommended_whoever_manages():
    manages = Fixed(Chosen(HORROR))
    (managed,) = agent_with(manages, RANKS).manage([exchange("I like Heat (1995)")], at_least=2)
    assert manages.allowed == [("recommend",)]
    assert agent_with(manages, RANKS).plan(managed, at_least=2).decision.plan.recommended == 2


# ------------------------------------------------------------------------------------------ with a run


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    plain = {"candidates": 0}  # plans in bytes are longer than the room that a writer has
    return random_run.write(tmp_path_factory.mktemp("run"), conversation=plain, response=plain)


def shown(reply, graph):
    text = io.StringIO()
    Console(file=text, width=200).print(explanation(reply, graph))
    return text.getvalue()


@pytest.mark.slow
def test_a_run_without_a_manager_decides_by_its_acts(config):
    chat = Chat(Agent.open(config.folder))
    for text in TEXTS:
        reply = chat.say(text)
        assert reply.management.by == "acts" and reply.management.answered is None and reply.text


def first_allowed(body, number):
    """The first sub-task of the schema that is sent; nonsense the first time."""
    fields = body["response_format"]["json_schema"]["schema"]["properties"]
    answer = {name: field["enum"][0] for name, field in fields.items()}
    return Sent("?" if number == 1 else json.dumps(answer))


@pytest.mark.slow
def test_a_remote_manager_chooses_and_its_failures_are_shown(config, tmp_path):
    with LlmServer(first_allowed) as server:
        agent = Agent.open(config.folder, client=Client(Address(server.url, "m", retries=0), tmp_path / "answers"))
        chat = Chat(agent)
        replies = [chat.say(text) for text in TEXTS]
    assert [reply.management.by for reply in replies] == ["acts", "manager", "manager", "manager"]
    assert all(reply.text for reply in replies)
    explained = shown(replies[0], agent.graph)
    assert "malformed: not JSON" in explained and "sub-task" in explained
    assert replies[2].management.choice.sub_task == "details"
    assert replies[2].management.answered.expert == "details:graph"
    assert "details:graph" in shown(replies[2], agent.graph)


@pytest.mark.slow
def test_the_trained_manager_of_a_run_chooses(config, request):
    request.addfinalizer(lambda: shutil.rmtree(config.stage_folder("manager")))  # the run has none for the other tests
    experiment = open_experiment(config)
    model, _ = experiment.language_model(config.language_model, None)
    shapes = jax.eval_shape(lambda key: lora.init(key, model.params, config.manager.adapter), jax.random.key(0))
    rng = np.random.default_rng(0)
    adapter = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(leaf.dtype), shapes)
    write_params(config.stage_folder("manager") / "params.safetensors", {"adapter": adapter})
    agent = Agent(experiment)
    assert isinstance(agent.manager, manager.Chooser)
    dialogues = [agent.perceive([Turn(Role.SEEKER, text)]) for text in TEXTS[:2]]
    for reply in agent.replies(dialogues):
        managed = reply.management
        assert managed.by == "manager" and managed.choice.sub_task in managed.possible and not managed.event
        assert managed.answered is None or managed.answered.outcome.ok
        assert reply.text and str(managed.choice) in shown(reply, agent.graph)


@pytest.mark.slow
def test_chat_with_a_server_that_is_not_there(config, tmp_path, monkeypatch):
    said = iter(["hello", "/quit"])
    text = io.StringIO()
    console = Console(file=text, width=200)
    monkeypatch.setattr(console, "input", lambda prompt: next(said))
    client = Client(Address("http://127.0.0.1:9/v1", "m", retries=0, timeout=1.0), tmp_path / "answers")
    talk(config.folder, explain=True, items=0, console=console, client=client)
    assert "the model could not be asked" in text.getvalue() and "ecr:" in text.getvalue()
