"""Who talks with simulated seekers: a run as it is, and two baselines that do not converse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from ecr_jax.evaluation.simulation.dialogue import Heard, SystemTurn, shown
from ecr_jax.inference.agent import Agent, Dialogues
from ecr_jax.inference.wishes import films_that_fit
from ecr_jax.knowledge.graph import KnowledgeGraph

AT_ONCE = 8
"""Dialogues in one batch. A batch is filled up to it, so that one program of each model serves any number."""

_UNKNOWN = "I don't know."
_Row = TypeVar("_Row")


class System(Protocol):
    """Replies to dialogues, many at once."""

    @property
    def name(self) -> str:
        """What the tables call it."""
        ...

    @property
    def answers(self) -> bool:
        """Whether it answers questions, so that its answers are measured."""
        ...

    def replies(self, dialogues: Sequence[Heard]) -> list[SystemTurn]:
        """A reply to each of at most `AT_ONCE` dialogues."""
        ...


class AgentSystem:
    """A run: memory, plan, written candidates and checks."""

    name, answers = "ecr", True

    def __init__(self, agent: Agent):
        self._agent = agent

    def replies(self, dialogues: Sequence[Heard]) -> list[SystemTurn]:
        """See `System`."""
        perceived = [self._agent.perceive(heard.turns, heard.plans) for heard in dialogues]
        turns = []
        for reply in self._agent.replies(_filled(perceived))[: len(perceived)]:
            films = shown(reply.text, reply.items, self._agent.graph)
            turns.append(SystemTurn(reply.text, films, reply.plan.acts, reply.writer == "plain", reply.plan))
        return turns


class RankerSystem:
    """The recommender alone, without memory of wishes, plans and checks: its best film that nobody has named."""

    name, answers = "ranker", False

    def __init__(self, agent: Agent):
        self._agent = agent

    def replies(self, dialogues: Sequence[Heard]) -> list[SystemTurn]:
        """See `System`."""
        agent = self._agent
        perceived: Dialogues = _filled([agent.perceive(heard.turns) for heard in dialogues])
        states = agent.encode([turn.text_with_role for turns in perceived for turn in turns])
        exchanges = agent.rank(agent.begin(perceived, states), states)
        items = agent.graph.items
        allowed = np.ones(len(items), bool)
        return [
            _recommending(heard, items, exchange.probabilities, allowed, agent.graph)
            for heard, exchange in zip(dialogues, exchanges, strict=False)
        ]


class PopularitySystem:
    """The film recommended most in the train split among those that nobody has named and that fulfil all wishes.

    It is told the seeker's wishes, as if it understood every word.
    """

    name, answers = "popularity", False

    def __init__(self, graph: KnowledgeGraph, recommended: Sequence[int]):
        """Args: the graph, and the entity ids of the train split's targets."""
        self._graph = graph
        columns = np.searchsorted(graph.items, np.asarray(recommended, np.int64))
        self._popularity = np.bincount(columns, minlength=len(graph.items)).astype(float)

    def replies(self, dialogues: Sequence[Heard]) -> list[SystemTurn]:
        """See `System`."""
        graph = self._graph
        turns = []
        for heard in dialogues:
            fit = [films_that_fit(graph, wish, graph.items) for wish in heard.wishes]
            allowed = np.logical_and.reduce(fit) if fit else np.ones(len(graph.items), bool)
            turns.append(_recommending(heard, graph.items, self._popularity, allowed, graph))
        return turns


def _recommending(
    heard: Heard, items: np.ndarray, scores: np.ndarray, allowed: np.ndarray, graph: KnowledgeGraph
) -> SystemTurn:
    """Recommends the allowed film with the highest score that nobody has named; to a question it knows no answer."""
    if heard.seeker.question is not None:
        return SystemTurn(_UNKNOWN)
    new = ~np.isin(items, list(heard.named))
    free = np.flatnonzero(new & allowed)
    if not len(free):
        return SystemTurn("I don't know another film like that.")
    film = int(items[free[np.argmax(scores[free])]])
    return SystemTurn(f"You could watch {graph.title(film)}.", (film,))


def _filled(rows: Sequence[_Row]) -> list[_Row]:
    """The rows, the last one repeated up to `AT_ONCE`."""
    return [rows[min(place, len(rows) - 1)] for place in range(max(AT_ONCE, len(rows)))]
