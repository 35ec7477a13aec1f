"""Labels of a language model, and agreement by hand."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import Conversation, Mention, Role, Split, Turn
from ecr_jax.files import read_jsonl_rows
from ecr_jax.llm.client import Address, Client
from ecr_jax.llm.structured import MalformedError
from ecr_jax.manager import annotation
from tests.llm_server import LlmServer, Reply, asked

FILM = Mention(4, 8, "Heat", True)
CONVERSATION = Conversation(
    "c",
    Split.VALID,
    (
        Turn(Role.SEEKER, "Hello"),
        Turn(Role.RECOMMENDER, "See Heat.", (FILM,), acts=(Act(ActName.RECOMMEND),)),
        Turn(Role.SEEKER, "Who made it?"),
        Turn(Role.RECOMMENDER, "Mann did.", acts=(Act(ActName.CHAT),)),
    ),
)
QUIET = Console(quiet=True)


def client(server, folder):
    return Client(Address(server.url, "small", retries=0), folder / "answers")


def test_replies_and_what_is_asked():
    first, second = annotation.replies_of([CONVERSATION], [Split.VALID])
    assert (first.turn, second.turn) == (1, 3)
    assert annotation.replies_of([CONVERSATION], [Split.TRAIN]) == []
    assert [reply.turn for reply in annotation.replies_of([CONVERSATION], [Split.VALID], limit=1)] == [1]
    user = annotation.prompt(second)[-1]["content"]
    assert json.loads(user.splitlines()[0].removeprefix("Before: ")) == [
        "User: Hello",
        "System: See Heat.",
        "User: Who made it?",
    ]
    assert user.endswith('says: "Mann did."')


def test_answers_are_acts():
    assert annotation.read_answer({"sub_task": "details", "attribute": "director"}) == Act(
        ActName.ANSWER, Attribute.DIRECTOR
    )
    assert annotation.read_answer({"sub_task": "recommend", "attribute": "director"}) == Act(ActName.RECOMMEND)
    for bad in (
        {"sub_task": "sing", "attribute": "any"},
        {"sub_task": "chat", "attribute": "smell"},
        {"sub_task": "chat"},
    ):
        with pytest.raises(MalformedError):
            annotation.read_answer(bad)


def test_labels_are_written_and_read_and_those_of_another_preparation_refused(tmp_path):
    def behaviour(body, number):
        return Reply(
            '{"sub_task": "recommend", "attribute": "any"}' if "See Heat" in asked(body).splitlines()[1] else "?"
        )

    corpus, folder = {"corpus": "x", "inputs": {"a": "1"}}, tmp_path / "labels"
    with LlmServer(behaviour) as server:
        replies = annotation.replies_of([CONVERSATION], [Split.VALID])
        annotation.label(replies, client(server, tmp_path), folder, corpus=corpus, console=QUIET)
    assert annotation.load(folder, corpus) == {("c", 1): Act(ActName.RECOMMEND)}
    (bad,) = read_jsonl_rows(folder / "malformed.jsonl")
    assert bad["about"] == {"conversation": "c", "turn": 3} and "Heat" not in (folder / "manifest.json").read_text()
    with pytest.raises(ValueError, match="labelled for another preparation"):
        annotation.load(folder, corpus | {"inputs": {"a": "2"}})
    with pytest.raises(ValueError, match="has no labels; run `ecr label`"):
        annotation.load(tmp_path / "none", corpus)


def test_agreement_by_hand():
    gold = ["recommend", "recommend", "chat", "elicit"]
    found = ["recommend", "recommend", "recommend", "elicit"]
    measured = annotation.agreement(found, gold)
    assert measured["accuracy"] == 0.75 and measured["majority"] == 0.5
    # Expected by chance: .5 * .75 + .25 * .25 = .4375.
    assert measured["kappa"] == pytest.approx((0.75 - 0.4375) / (1 - 0.4375))
    assert measured["macro_f1"] == pytest.approx((0.8 + 0.0 + 1.0) / 3)
    assert measured["sub_tasks"]["recommend"] == {
        "precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8), "count": 2,
    }  # fmt: skip


def test_rules_and_a_model_are_compared_with_what_people_labelled(tmp_path):
    with LlmServer(lambda body, number: Reply('{"sub_task": "chat", "attribute": "any"}')) as server:
        report = annotation.compare([CONVERSATION], [Split.VALID], client(server, tmp_path), tmp_path / "a.json", QUIET)
    assert report["rules"]["accuracy"] == 0.5  # the rules read an answer where people said chat
    assert report["llm"]["accuracy"] == 0.5 and json.loads((tmp_path / "a.json").read_text()) == report
    with pytest.raises(ValueError, match="no reply of the splits test is labelled"):
        annotation.compare([CONVERSATION], [Split.TEST], None, tmp_path / "b.json", QUIET)
