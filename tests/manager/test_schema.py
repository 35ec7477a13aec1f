"""The schema of sub-tasks: its closed set, and what acts and JSON become in it."""

from __future__ import annotations

import pytest

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.llm.structured import MalformedError
from ecr_jax.manager.schema import (
    Argument,
    Choice,
    SubTask,
    choice_of,
    choices,
    described,
    film_schema,
    json_schema,
    read_json,
)

SCHEMA = film_schema(["comedy", "horror"])


def test_every_choice_has_its_own_text():
    every = choices(SCHEMA)
    texts = [str(choice) for choice in every]
    # recommend: any, comedy, horror; details: any and eleven attributes; explain; elicit: any and five; chat.
    assert len(every) == 3 + 12 + 1 + 6 + 1 and len(set(texts)) == len(texts)
    assert texts[:3] == ["recommend", "recommend: comedy", "recommend: horror"] and texts[-1] == "chat"


def test_a_schema_can_be_extended_and_several_arguments_combine():
    weather = Argument("weather", "outside", ("sun", "rain"))
    task = SubTask("walk", "take a walk", (weather, Argument("time", "when", ("now",))), "text", ActName.CHAT)
    assert [str(c) for c in choices([*SCHEMA, task])][-6:] == [
        "walk", "walk: any, now", "walk: sun, any", "walk: sun, now", "walk: rain, any", "walk: rain, now",
    ]  # fmt: skip


@pytest.mark.parametrize("values", [("any",), ("",), ("a, b",), ("a", "a")])
def test_values_that_could_be_mistaken_are_refused(values):
    with pytest.raises(ValueError, match="values must differ"):
        Argument("category", "", values)


@pytest.mark.parametrize(
    ("acts", "category", "text"),
    [
        ([Act(ActName.GREET), Act(ActName.RECOMMEND), Act(ActName.EXPLAIN)], "comedy", "recommend: comedy"),
        ([Act(ActName.RECOMMEND)], "western", "recommend"),  # no value of the schema
        ([Act(ActName.REACT), Act(ActName.ASK, Attribute.GENRE)], None, "elicit: genre"),
        ([Act(ActName.ASK, Attribute.PLOT)], None, "elicit"),
        ([Act(ActName.ANSWER, Attribute.DIRECTOR), Act(ActName.EXPLAIN)], None, "details: director"),
        ([Act(ActName.EXPLAIN)], "comedy", "explain"),
        ([Act(ActName.GREET), Act(ActName.REACT)], None, "chat"),
        ([Act(ActName.CLOSE)], None, "chat"),
    ],
)
def test_the_first_sub_task_whose_act_a_turn_performs(acts, category, text):
    assert str(choice_of(SCHEMA, acts, category)) == text


def test_a_schema_without_chat_has_no_place_for_a_greeting():
    with pytest.raises(ValueError, match="no sub-task for a turn that chats"):
        choice_of(SCHEMA[:4], [Act(ActName.GREET)])


def test_json_is_read_back():
    for choice in choices(SCHEMA):
        value = {"sub_task": choice.sub_task, "category": "any", "attribute": "any"} | dict(choice.arguments)
        assert read_json(SCHEMA, value) == choice
    properties = json_schema(SCHEMA)["properties"]
    assert properties["category"]["enum"] == ["any", "comedy", "horror"]
    assert len(properties["attribute"]["enum"]) == 1 + 11 + 1  # of details, and `film` of elicit alone


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"sub_task": "recommend"},
        {"sub_task": "sing", "category": "any", "attribute": "any"},
        {"sub_task": "recommend", "category": "western", "attribute": "any"},
        {"sub_task": ["recommend"], "category": "any", "attribute": "any"},
        {"sub_task": "details", "category": "any", "attribute": "film"},  # a value of another sub-task's attribute
    ],
)
def test_what_is_not_in_the_schema_is_malformed(value):
    with pytest.raises(MalformedError):
        read_json(SCHEMA, value)


def test_arguments_are_open_where_they_are_any():
    assert Choice("recommend", (("category", "any"),)).argument("category") is None
    assert Choice("recommend", (("category", "comedy"),)).argument("category") == "comedy"
    assert Choice("chat").argument("category") is None


def test_the_description_names_everything():
    text = described(SCHEMA)
    assert all(task.name in text and task.description in text for task in SCHEMA)
    assert "comedy, horror" in text and len(text.splitlines()) == len(SCHEMA)
