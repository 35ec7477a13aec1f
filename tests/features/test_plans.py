"""The line of a prompt that tells the plan of a reply."""

from __future__ import annotations

import pytest

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.features.plans import Fact, Plan, plan_text

RECOMMEND = (Act(ActName.REACT), Act(ActName.RECOMMEND))


def test_text_of_a_plan():
    assert plan_text(Plan((Act(ActName.ASK, Attribute.GENRE),))) == "plan: ask:genre"
    plan = Plan(RECOMMEND, (7,), 1, (Fact(0, Attribute.DIRECTOR, ("Joel Coen", "Ethan Coen")),), "negative", "grateful")
    assert plan_text(plan) == (
        "plan: react, recommend | films: <movie> | <movie> director: Joel Coen, Ethan Coen | heard: negative | "
        "tone: grateful"
    )
    two = Plan((Act(ActName.ANSWER, Attribute.YEAR),), (7, 9), 1, (Fact(1, Attribute.YEAR),))
    assert plan_text(two) == "plan: answer:year | films: <movie>, <movie> | <movie> 2 year: unknown"


def test_plans_that_contradict_themselves():
    for films, recommended, facts in (((7,), 2, ()), ((7, 7), 1, ()), ((7,), 1, (Fact(1, Attribute.YEAR),))):
        with pytest.raises(ValueError, match="films are recommended|named twice|about none of the 1 films"):
            Plan(RECOMMEND, films, recommended, facts)
