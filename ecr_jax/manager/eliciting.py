"""What to ask next: the attribute whose answer tells most about which film to recommend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ecr_jax.data.acts import ActName, Attribute
from ecr_jax.data.schema import Conversation, Role
from ecr_jax.knowledge.attributes import attribute_values
from ecr_jax.knowledge.graph import KnowledgeGraph

ASKED = (Attribute.GENRE, Attribute.CAST, Attribute.DIRECTOR, Attribute.YEAR)
"""Attributes that are asked for."""

_CANDIDATES = 200
"""The most probable films, over which an answer's information is computed."""
_OPTIONS = 3


@dataclass(frozen=True)
class Gain:
    """What asking for an attribute is expected to tell.

    Attributes:
      attribute: what is asked for.
      nats: the expected reduction of the entropy over films, times the probability of an answer.
      options: the most probable values, the most probable first.
    """

    attribute: Attribute
    nats: float
    options: tuple[str, ...]


def values_of(graph: KnowledgeGraph, film: int, attribute: Attribute) -> tuple[str, ...]:
    """The values of an attribute as one asks for them: of years the decade, "1990s"."""
    values = attribute_values(graph, film, attribute)
    return tuple(f"{value[:3]}0s" for value in values) if attribute == Attribute.YEAR else values


def information(probabilities: np.ndarray, values: Sequence[Sequence[str]]) -> tuple[float, dict[str, float]]:
    r"""The expected information of an answer about films, in nats, and the probability of each answer.

    A seeker who has film i in mind answers with one of its values, each alike; of a film without values, that there is
    none, which is an answer too.

    .. math:: H(p) - \sum_v q(v) H(p \mid v), \quad q(v) = \sum_{i \ni v} p_i / |V_i|

    Args:
      probabilities: float [I], of each film; they sum to 1.
      values: of each film.
    """
    joint: dict[str, dict[int, float]] = {}
    for place, (probability, own) in enumerate(zip(probabilities.tolist(), values, strict=True)):
        for value in own or ("",):
            joint.setdefault(value, {})[place] = probability / max(len(own), 1)
    # I(film; answer) = sum of joint log(joint / (p q)).
    answers = {value: sum(row.values()) for value, row in joint.items()}
    nats = sum(
        share * np.log(share / (probabilities[place] * answers[value]))
        for value, row in joint.items()
        for place, share in row.items()
        if share > 0
    )
    return float(nats), {value: share for value, share in answers.items() if value and share > 0}


def gains(
    graph: KnowledgeGraph,
    items: np.ndarray,
    probabilities: np.ndarray,
    attributes: Iterable[Attribute],
    answered: Mapping[Attribute, float],
) -> list[Gain]:
    """What each attribute is worth asking for, the best first.

    Args:
      graph: with the films.
      items: int [I].
      probabilities: float [I], of each to be recommended; the most probable 200 are looked at.
      attributes: that may be asked for.
      answered: the probability that a question for an attribute is answered with a value (`answer_rates`).
    """
    order = np.argsort(-probabilities, kind="stable")[:_CANDIDATES]
    likely = probabilities[order] / probabilities[order].sum()
    found = []
    for attribute in attributes:
        nats, answers = information(likely, [values_of(graph, int(items[place]), attribute) for place in order])
        options = sorted(answers, key=lambda value: (-answers[value], value))[:_OPTIONS]
        found.append(Gain(attribute, answered.get(attribute, 0.5) * nats, tuple(options)))
    return sorted(found, key=lambda gain: -gain.nats)


def answer_rates(conversations: Iterable[Conversation], graph: KnowledgeGraph) -> dict[Attribute, float]:
    """How often a recommender who asks for an attribute is told one in the next turn: (told + 1) / (asked + 2).

    Told is a genre, or a person for cast and directors; for years, a word with a number.
    """
    asked, told = dict.fromkeys(ASKED, 0), dict.fromkeys(ASKED, 0)
    for conversation in conversations:
        for turn, after in zip(conversation.turns, conversation.turns[1:], strict=False):
            if turn.role != Role.RECOMMENDER or after.role != Role.SEEKER:
                continue
            kinds = {graph.kinds[graph.ids[m.entity]] for m in after.mentions if m.entity in graph.ids}
            for attribute in {act.attribute for act in turn.acts if act.name == ActName.ASK} & set(ASKED):
                asked[attribute] += 1
                if attribute == Attribute.YEAR:
                    told[attribute] += any(character.isdecimal() for character in after.masked())
                else:
                    told[attribute] += ("genre" if attribute == Attribute.GENRE else "person") in kinds
    return {attribute: (told[attribute] + 1) / (asked[attribute] + 2) for attribute in ASKED}
