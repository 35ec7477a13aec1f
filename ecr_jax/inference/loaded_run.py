"""A run in a few lines: `ecr_jax.load(run)` recommends and replies, with plain values in and out."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from ecr_jax.data.schema import SPEAKERS, Role, Turn
from ecr_jax.features.dialogues import Utterance
from ecr_jax.inference.agent import Agent

Conversation = Sequence[Mapping[str, str] | tuple[str, str]]
"""Turns in order, the seeker's last: {"role", "text"} or (role, text), the role "seeker" or "recommender"."""

_ROWS = 8
"""Conversations in one batch. A batch is filled up to it, so that one program serves any number of conversations."""


class Film(TypedDict):
    """A film: its title with year, its URI in the knowledge graph, and the probability that it is recommended next."""

    title: str
    uri: str
    probability: float


class Answer(TypedDict):
    """A reply and what explains it.

    `text` is `recommendation`, then `emotional`. `items` are the films it recommends, `ranked` the best that were not
    mentioned before, `emotions` those of the seeker's last turn with their probabilities, `entities` the names that the
    conversation mentions, `facts` what the emotional response was given to know.
    """

    text: str
    recommendation: str
    emotional: str
    items: list[Film]
    ranked: list[Film]
    emotions: dict[str, float]
    entities: list[str]
    facts: list[str]


class LoadedRun:
    """A trained run that recommends films and replies. Any number of threads may use one; they take turns."""

    def __init__(self, agent: Agent):
        """Models are loaded and programs compiled when they are first needed; see `warm_up`."""
        self._agent, self._lock = agent, threading.Lock()

    @classmethod
    def open(cls, run: Path | str) -> LoadedRun:
        """Opens a run's folder.

        Raises:
          ValueError: it is not the folder of a run, or a stage is missing there.
        """
        return cls(Agent.open(run))

    def warm_up(self) -> None:
        """Loads every model and compiles every program, so that no later call waits for it."""
        hello: Conversation = [("seeker", "Hello")]
        with self._lock:
            self._agent.warm_up()
        self.recommend_all([hello, hello])

    def recommend(self, conversation: Conversation, k: int = 10) -> list[Film]:
        """The k films most likely to be recommended next among those not mentioned yet, best first.

        Raises:
          ValueError: a conversation that is empty, has an unknown role or does not end with the seeker; k below 1.
        """
        (films,) = self.recommend_all([conversation], k)
        return films

    def recommend_all(self, conversations: Sequence[Conversation], k: int = 10) -> list[list[Film]]:
        """`recommend` for several conversations, in batches; the result of each is the same as alone.

        Raises:
          ValueError: as `recommend`.
        """
        if k < 1:
            raise ValueError(f"k = {k}: ask for at least one film")
        with self._lock:
            dialogues = [self._perceive(conversation) for conversation in conversations]
            rows = 1 if len(dialogues) == 1 else _ROWS
            return [
                films
                for start in range(0, len(dialogues), rows)
                for films in self._recommend(dialogues[start : start + rows], rows, k)
            ]

    def reply(self, conversation: Conversation, items: int = 0) -> Answer:
        """The reply to a conversation.

        Args:
          conversation: the turns so far.
          items: fewest films that the reply recommends; with 0 its own words decide.

        Raises:
          ValueError: as `recommend`; items below 0.
        """
        if items < 0:
            raise ValueError(f"items = {items}: give 0 or more")
        with self._lock:
            (reply,) = self._agent.replies([self._perceive(conversation)], items)
        probabilities = dict(reply.ranked)
        return {
            "text": reply.text,
            "recommendation": reply.recommendation,
            "emotional": reply.emotional,
            "items": [self._film(item, probabilities[item]) for item in reply.items],
            "ranked": [self._film(item, probability) for item, probability in reply.ranked],
            "emotions": {name: float(probability) for name, probability in reply.emotions},
            "entities": [self._agent.experiment.corpus.graph.title(entity) for entity in reply.entities],
            "facts": list(reply.facts),
        }

    def _perceive(self, conversation: Conversation) -> list[Utterance]:
        return self._agent.perceive(turns_of(conversation))

    def _recommend(self, dialogues: Sequence[list[Utterance]], rows: int, k: int) -> list[list[Film]]:
        filled = [dialogues[min(row, len(dialogues) - 1)] for row in range(rows)]
        agent, items = self._agent, self._agent.experiment.corpus.graph.items
        states = agent.encode([turn.text_with_role for turns in dialogues for turn in turns])
        exchanges = agent.begin(filled, states)
        exchanges = agent.rank(exchanges, states)[: len(dialogues)]
        result = []
        for turns, exchange in zip(dialogues, exchanges, strict=True):
            new = np.flatnonzero(~np.isin(items, [entity for turn in turns for entity in turn.entities]))
            best = new[np.argsort(-exchange.probabilities[new], kind="stable")[:k]]
            result.append([self._film(int(items[column]), exchange.probabilities[column]) for column in best])
        return result

    def _film(self, item: int, probability: Any) -> Film:
        graph = self._agent.experiment.corpus.graph
        return {"title": graph.title(item), "uri": graph.uris[item], "probability": float(probability)}


def turns_of(conversation: Conversation) -> list[Turn]:
    """The turns of a conversation of plain values.

    Raises:
      ValueError: there are none, one is not a role and a text, or the last is not the seeker's; the message numbers it.

    >>> turns_of([("seeker", "Hello"), {"role": "recommender", "text": "Hi"}, ("seeker", "A comedy?")])[1].text
    'Hi'
    """
    turns: list[Turn] = []
    for number, turn in enumerate(conversation, start=1):
        try:
            role, text = (turn["role"], turn["text"]) if isinstance(turn, Mapping) else turn
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"turn {number} is {turn!r:.80}: give a role and a text") from error
        if role not in SPEAKERS or not isinstance(text, str) or not text.strip():
            raise ValueError(f"turn {number} is {turn!r:.80}: give the role {' or '.join(SPEAKERS)}, and a text")
        turns.append(Turn(Role(role), text))
    if not turns or turns[-1].role != Role.SEEKER:
        raise ValueError("a conversation ends with what the seeker said")
    return turns
