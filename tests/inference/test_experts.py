"""Experts: failures are values, descriptions decide, other packages and other machines join."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest

from ecr_jax.data.acts import Attribute
from ecr_jax.data.schema import Role
from ecr_jax.errors import ConfigError
from ecr_jax.features.dialogues import Utterance
from ecr_jax.features.plans import Fact
from ecr_jax.inference import experts, film_experts
from ecr_jax.inference.experts import Call, Expert, Outcome, Registry, ask, installed, remote
from ecr_jax.inference.memory import Memory
from ecr_jax.inference.questions import Question
from ecr_jax.knowledge.reviews import Review, ReviewStore
from ecr_jax.manager.categories import category_table
from ecr_jax.manager.schema import Choice
from tests.inference.small_films import GRAPH, film
from tests.llm_server import LlmServer, Reply

ITEMS = GRAPH.items.tolist()
UNIFORM = np.full(len(ITEMS), 1 / len(ITEMS), np.float32)
TURNS = (Utterance(Role.SEEKER, "something funny", "something funny"),)


def call(sub_task="recommend", probabilities=UNIFORM, arguments=(), **memory):
    return Call(Choice(sub_task, tuple(arguments)), Memory(**memory), TURNS, GRAPH, probabilities)


def expert(function, name="one", description="does something", seconds=5.0, sub_tasks=("recommend",)):
    return Expert(name, description, frozenset(sub_tasks), function, seconds)


def raising(error):
    def function(_):
        raise error

    return function


def unlike(goal, descriptions):
    return np.zeros(len(descriptions))


# ------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (raising(RuntimeError("no luck\nsecond line")), "RuntimeError: no luck"),
        (raising(KeyError("x")), "KeyError: 'x'"),
        (raising(AssertionError()), "AssertionError"),
        (lambda _: None, "it gave NoneType and no Outcome"),
        (lambda _: Outcome(scores=np.zeros(2)), r"it scored \(2,\) items"),
        (lambda _: Outcome(scores=np.full(len(ITEMS), np.nan)), "a score is not a number"),
        (lambda _: Outcome(films=(10**6,)), "it names films that the graph does not have"),
        (lambda _: Outcome(facts=(Fact(0, Attribute.YEAR),)), "a fact is about none of its films"),
    ],
)
def test_whatever_an_expert_does_is_a_value(function, reason):
    outcome = ask(expert(function), call())
    assert outcome.status == "failed" and not outcome.ok
    assert re.match(reason, outcome.reason)


def test_a_late_answer_is_dropped():
    began = time.monotonic()
    outcome = ask(expert(lambda _: time.sleep(2) or Outcome(), seconds=0.1), call())
    assert outcome.status == "timed out" and "0.1 seconds" in outcome.reason and time.monotonic() - began < 1.5


def test_the_next_one_is_asked_and_the_failures_are_told():
    registry = Registry(
        [expert(raising(OSError("down")), "first"), expert(lambda _: Outcome(text="ok"), "second")], unlike
    )
    answered = registry.ask(call(), "recommend")
    assert answered.expert == "second" and answered.outcome.text == "ok"
    assert [(name, outcome.reason) for name, outcome in answered.failed] == [("first", "OSError: down")]


def test_where_all_fail_there_is_an_outcome_too():
    answered = Registry([expert(raising(OSError("down")))], unlike).ask(call(), "recommend")
    assert (answered.expert, answered.outcome.status, answered.outcome.reason) == ("", "failed", "OSError: down")
    nobody = Registry([], unlike)
    assert nobody.ask(call("explain"), "explain").outcome.reason == "no expert serves 'explain'"
    assert not nobody.serves("explain")


def test_who_fails_again_and_again_is_not_asked_for_a_while(monkeypatch):
    asked = []

    def function(_):
        asked.append(1)
        raise OSError("down")

    registry = Registry([expert(function)], unlike)
    for _ in range(5):
        reason = registry.ask(call(), "recommend").outcome.reason
    assert len(asked) == 3 and "failed 3 times within a minute" in reason
    now = time.monotonic()
    monkeypatch.setattr(experts.time, "monotonic", lambda: now + 61)
    assert registry.ask(call(), "recommend").outcome.reason == "OSError: down" and len(asked) == 4


# ------------------------------------------------------------------------------------------------------- matching


def test_the_description_that_fits_the_goal_is_asked_first():
    def common_words(goal, descriptions):
        return np.array([len(set(goal.split()) & set(text.split())) for text in descriptions])

    made = [
        expert(lambda _: Outcome(text="a"), "a", "recommends by popularity"),
        expert(lambda _: Outcome(text="b"), "b", "recommends a comedy"),
        expert(lambda _: Outcome(text="c"), "c", "explains a comedy", sub_tasks=("explain",)),
    ]
    registry = Registry(made, common_words)
    assert registry.ask(call(), "recommend a comedy please").expert == "b"
    assert [e.name for e in registry.candidates("by popularity", "recommend")] == ["a", "b"]
    assert registry.ask(call("explain"), "by popularity").expert == "c"  # no other serves it: nothing is compared


def test_impossible_experts_are_refused():
    with pytest.raises(ValueError, match="two experts are called one"):
        Registry([expert(None), expert(None)], unlike)
    for changes in ({"name": ""}, {"description": " "}, {"sub_tasks": ()}, {"seconds": 0}):
        with pytest.raises(ConfigError):
            expert(None, **changes)


def test_experts_of_other_packages(monkeypatch):
    class Entry:
        def __init__(self, name, value):
            self.name, self._value = name, value

        def load(self):
            return self._value

    one = expert(lambda _: Outcome())
    monkeypatch.setattr(experts, "entry_points", lambda group: [Entry("one", one)] if group == experts.GROUP else [])
    assert installed() == [one]
    monkeypatch.setattr(experts, "entry_points", lambda group: [Entry("bad", print)])
    with pytest.raises(ValueError, match="'bad' of ecr_jax.experts is a builtin_function_or_method, not an Expert"):
        installed()


# --------------------------------------------------------------------------------------------------------- remote


def served(body, **reply):
    return LlmServer(lambda request, number: Reply(body=json.dumps(body) if body is not None else "<html>", **reply))


def test_a_remote_expert_ranks_and_states_facts():
    heat = GRAPH.uris[film("Heat")]
    body = {
        "text": "Heat", "scores": {heat: -1.0, "imdb:none": 3},
        "facts": [{"film": heat, "attribute": "year", "values": [1995]}], "attribute": "genre", "options": ["comedy"],
    }  # fmt: skip
    with served(body) as server:
        outcome = ask(remote("far", "recommends", ["recommend"], server.url), call(named=(film("Big"),)))
    assert outcome.ok and outcome.text == "Heat" and outcome.options == ("comedy",)
    assert (
        int(np.argmax(outcome.scores)) == ITEMS.index(film("Heat")) and np.sum(outcome.scores == -21) == len(ITEMS) - 1
    )
    assert outcome.films == (film("Heat"),) and outcome.facts == (Fact(0, Attribute.YEAR, ("1995",)),)
    (request,) = server.requests
    assert request["dialogue"] == ["User: something funny"] and request["sub_task"] == "recommend"
    assert request["films"] == {GRAPH.uris[film("Big")]: "Big (1988)"}


@pytest.mark.parametrize(
    ("body", "reply", "reason"),
    [
        (None, {}, "JSONDecodeError"),
        ([], {}, "ValueError: the answer is a list"),
        ({"scores": {"imdb:none": 1}}, {}, "ValueError: none of the scored items"),
        ({"facts": [{"film": "imdb:none"}]}, {}, "KeyError"),
        ({"attribute": "smell"}, {}, "ValueError: 'smell' is not a valid Attribute"),
        ({"text": "x"}, {"status": 500}, "HTTPError: HTTP Error 500"),
        ({"text": "x" * 100}, {"half": True}, "JSONDecodeError"),
        ({"text": "x" * (1 << 21)}, {}, "ValueError: the answer has more than"),
    ],
)
def test_a_server_that_lies_or_refuses_is_a_failure(body, reply, reason):
    with served(body, **reply) as server:
        outcome = ask(remote("far", "recommends", ["recommend"], server.url), call())
    assert outcome.status == "failed" and outcome.reason.startswith(reason)


def test_a_server_that_hangs_or_is_not_there():
    with served({"text": "late"}, delay=1.0) as server:
        outcome = ask(remote("far", "recommends", ["recommend"], server.url, seconds=0.2), call())
        address = server.url
    assert not outcome.ok
    assert ask(remote("far", "recommends", ["recommend"], address), call()).reason.startswith("URLError")
    with pytest.raises(ValueError, match="no http address"):
        remote("far", "recommends", ["recommend"], "file:///etc/hosts")


# ------------------------------------------------------------------------------------------------------- built in


def test_a_category_lifts_its_films():
    names = ("comedy", "horror")
    ranking = film_experts.ranking("run", "recommends", names, category_table(GRAPH, names), 0.5)
    plain, funny = (ask(ranking, call(arguments=[("category", value)])) for value in ("any", "comedy"))
    lifted = np.flatnonzero(funny.scores - plain.scores > 0.4)
    assert {ITEMS[i] for i in lifted} == {film("Amelie"), film("Big"), film("Ghostbusters")}
    np.testing.assert_allclose(plain.scores, np.log(UNIFORM), rtol=1e-6)
    other = film_experts.ranking("other", "r", names, category_table(GRAPH, names), 0.5, lambda turns: np.arange(9.0))
    assert ask(other, call()).text.startswith(GRAPH.title(ITEMS[-1]))


def test_details_are_looked_up():
    asked = Question(Attribute.DIRECTOR, film("Heat"))
    outcome = ask(film_experts.details(), call("details", questions=(asked,)))
    assert outcome.films == (film("Heat"),) and outcome.facts == (Fact(0, Attribute.DIRECTOR, ("Michael Mann",)),)
    unknown = ask(film_experts.details(), call("details", questions=(Question(Attribute.COMPOSER, film("Heat")),)))
    assert unknown.ok and unknown.facts[0].values == () and "not known" in unknown.text
    chosen = call("details", arguments=[("attribute", "year")], discussed=film("Big"))
    assert ask(film_experts.details(), chosen).facts == (Fact(0, Attribute.YEAR, ("1988",)),)
    assert ask(film_experts.details(), call("details")).reason == "ValueError: no film is under discussion"


def test_explanations_share_facts_or_quote_reviews():
    liking = {"discussed": film("Collateral"), "liked": (film("Heat"),)}
    shared = ask(film_experts.explanation(), call("explain", **liking))
    assert shared.films == (film("Collateral"), film("Heat")) and shared.facts[0].values == ("Michael Mann",)
    assert not ask(film_experts.explanation(), call("explain")).ok
    uri = GRAPH.uris[film("Heat")]
    written = [Review(uri, "Heat (1995)", "Al Pacino!", ("Al Pacino",))]
    told = ask(film_experts.reviewed(ReviewStore(written)), call("explain", discussed=film("Heat")))
    assert told.ok and any("Al Pacino" in fact.values for fact in told.facts)


def test_what_is_asked_is_what_tells_most():
    always = dict.fromkeys((Attribute.GENRE, Attribute.CAST, Attribute.DIRECTOR, Attribute.YEAR), 1.0)
    elicit = film_experts.elicitation(always | {Attribute.DIRECTOR: 0.0, Attribute.CAST: 0.0})
    best = ask(elicit, call("elicit"))
    again = ask(elicit, call("elicit", asked_for=(best.attribute,)))
    assert best.attribute in (Attribute.GENRE, Attribute.YEAR) and again.attribute != best.attribute
    chosen = ask(elicit, call("elicit", arguments=[("attribute", "cast")]))
    assert chosen.attribute == Attribute.CAST and len(chosen.options) == 3
    assert ask(elicit, call("elicit", arguments=[("attribute", "film")])).attribute == Attribute.FILM
