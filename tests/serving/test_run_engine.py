"""A run as the engine of the server: alone and in batches, plans and corrections as JSON, and `ecr serve` itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx2
import openai
import pytest

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.features.plans import Fact, Plan
from ecr_jax.inference.agent import Management
from ecr_jax.inference.experts import Answered, Outcome
from ecr_jax.manager.schema import Choice
from ecr_jax.serving.engine import RecommendQuery, ReplyQuery, Said
from ecr_jax.serving.run_engine import RunEngine, managed_sub_task, plan_json, plan_of
from ecr_jax.serving.schemas import ManagedSubTask
from tests import random_run
from tests.inference.small_films import GRAPH, film


def test_a_plan_is_the_same_after_json():
    plan = Plan(
        (Act(ActName.ANSWER), Act(ActName.RECOMMEND)), (film("Heat"), film("Big")), 1,
        (Fact(0, Attribute.CAST, ("Al Pacino",)),), "curious", "neutral",
    )  # fmt: skip
    content = json.loads(json.dumps(plan_json(plan, GRAPH)))
    assert plan_of(content, GRAPH) == plan
    assert plan_of({**content, "films": ["imdb:of another graph", *content["films"][1:]]}, GRAPH) is None


def test_a_sub_task_is_told_with_its_arguments_expert_outcome_and_what_failed():
    comedy = Choice("recommend", (("category", "comedy"),))
    failed = ("slow", Outcome("timed out", "no answer within 5 seconds"))
    answered = Answered("fast", Outcome(text="Big (1988)"), (failed,))
    assert managed_sub_task(Management("manager", ("recommend",), comedy, answered=answered)) == ManagedSubTask(
        sub_task="recommend", arguments={"category": "comedy"}, by="manager", expert="fast", outcome="Big (1988)",
        failures=["slow: no answer within 5 seconds"],
    )  # fmt: skip
    nobody = Answered("", failed[1], (failed,))
    told = managed_sub_task(Management("acts", ("elicit",), Choice("elicit"), event="malformed: x", answered=nobody))
    assert told == ManagedSubTask(
        sub_task="elicit", by="acts", failures=["manager: malformed: x", "slow: no answer within 5 seconds"]
    )
    assert managed_sub_task(Management("acts", ("chat",), Choice("chat"))) == ManagedSubTask(sub_task="chat", by="acts")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An untrained run that replies in plain sentences, as the demo does."""
    plain = {"candidates": 0}
    return random_run.write(tmp_path_factory.mktemp("run"), conversation=plain, response=plain).folder


@pytest.fixture(scope="module")
def engine(folder):
    engine = RunEngine.open(folder)
    engine.warm_up(2)
    return engine


DIALOGUES = [
    (Said("seeker", "hello i liked Ronin (1998) a lot"),),
    (Said("seeker", "hello"), Said("recommender", "hi . and you ?"), Said("seeker", "Thief (1981) . what else ?")),
    (Said("seeker", "recommend me something"),),
]  # fmt: skip


@pytest.mark.slow
def test_replies_are_the_same_alone_and_in_a_batch(engine):
    together = engine.replies([ReplyQuery(turns, 1) for turns in DIALOGUES])
    for turns, reply in zip(DIALOGUES, together, strict=True):
        (alone,) = engine.replies([ReplyQuery(turns, 1)])
        assert alone.text == reply.text and alone.plan == reply.plan
        assert alone.explanation.managed == reply.explanation.managed
        assert [f.uri for f in alone.explanation.films] == [f.uri for f in reply.explanation.films]
        assert reply.explanation.films[0].title in reply.text and reply.tokens > 3
        # The acts of this run are not trained: they may have it explain the film that it is asked to recommend.
        assert reply.explanation.managed.by == "acts" and reply.explanation.managed.sub_task in ("recommend", "explain")
    mixed = engine.replies([ReplyQuery(DIALOGUES[2], 2), ReplyQuery(DIALOGUES[2], 1)])
    assert [len(reply.explanation.films) for reply in mixed] == [2, 1]


@pytest.mark.slow
def test_recommendations_are_the_same_alone_and_in_a_batch_and_name_their_reasons(engine):
    together = engine.recommend([RecommendQuery(turns, 3) for turns in DIALOGUES])
    for turns, films in zip(DIALOGUES, together, strict=True):
        (alone,) = engine.recommend([RecommendQuery(turns, 3)])
        assert [film.uri for film in alone] == [film.uri for film in films] and 0 < len(films) <= 3
    assert "Ronin (1998)" not in {film.title for film in together[0]}
    assert any(film.why.facts or film.why.mentions for film in together[0])


@pytest.mark.slow
def test_what_is_marked_withdrawn_and_passed_over_changes_the_reply(engine):
    (first,) = engine.replies([ReplyQuery(DIALOGUES[0], 1)])
    (liked,) = (belief for belief in first.explanation.beliefs if belief.kind == "liked")
    recommended = first.explanation.films[0].uri
    passed = Said("seeker", DIALOGUES[0][0].text, passed=(recommended,))
    (second,) = engine.replies([ReplyQuery((passed,), 1)])
    assert second.explanation.films[0].uri != recommended
    reply = Said("recommender", first.text, first.plan)
    marked = first.explanation.others[0].uri  # which no turn names, so that nothing else makes it a belief
    last = Said("seeker", "another one ?", None, (liked.id,), ((marked, "seen"),))
    (third,) = engine.replies([ReplyQuery((*DIALOGUES[0], reply, last), 1)])
    kinds = {(belief.kind, belief.id.partition(":")[2]) for belief in third.explanation.beliefs}
    assert liked.id not in {belief.id for belief in third.explanation.beliefs} and ("seen", marked) in kinds
    assert not {recommended, marked} & {f.uri for f in (*third.explanation.films, *third.explanation.others)}


@pytest.mark.slow
def test_ecr_serve_talks_keeps_and_stops(folder, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    main = "import sys; from ecr_jax.cli import main; sys.exit(main())"
    database = tmp_path / "kept.db"
    command = [sys.executable, "-c", main, "serve", str(folder), "--port", str(port), "--limits.batch", "2"]
    server = subprocess.Popen([*command, "--database", f"sqlite:///{database}"], env={**os.environ})
    try:
        url = f"http://127.0.0.1:{port}"
        statuses = []
        while not statuses or statuses[-1] != 200:
            assert server.poll() is None
            try:
                statuses.append(httpx2.get(f"{url}/readyz").status_code)
            except httpx2.ConnectError:
                time.sleep(0.1)
        assert set(statuses[:-1]) <= {503}
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
            (model,) = client.models.list()
            messages = [{"role": "user", "content": "hello i liked Ronin (1998) a lot"}]
            extension = {"ecr": {"conversation_id": "new", "items": 1}}
            chunks = list(
                client.chat.completions.create(model=model.id, messages=messages, stream=True, extra_body=extension)
            )
        explanation = chunks[-1].ecr
        assert explanation["films"] and explanation["beliefs"][0]["text"] == "Ronin (1998)"
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert database.is_file()
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) in (0, -signal.SIGTERM)
    finally:
        server.kill()
        server.wait()
