"""What the server needs of the engine that replies, so that anything that replies can be served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ecr_jax.serving.schemas import Film, Mark, ReplyExplanation


@dataclass(frozen=True)
class Said:
    """A turn of a dialogue.

    Attributes:
      role: "seeker" or "recommender".
      text: what was said.
      plan: of a reply of the engine: what it gave as `EngineReply.plan`.
      forgotten: ids of the beliefs that the seeker withdrew before this turn.
      marks: film (URI) -> what the seeker marked it with before this turn.
      passed: films (URIs) that the reply to this turn does not recommend.
    """

    role: str
    text: str
    plan: Mapping[str, Any] | None = None
    forgotten: tuple[str, ...] = ()
    marks: tuple[tuple[str, Mark], ...] = ()
    passed: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReplyQuery:
    """A dialogue in which the seeker spoke last; `items` is the fewest films to recommend."""

    turns: tuple[Said, ...]
    items: int = 0


@dataclass(frozen=True)
class RecommendQuery:
    """A dialogue in which the seeker spoke last; `k` films are asked for."""

    turns: tuple[Said, ...]
    k: int


@dataclass(frozen=True)
class EngineReply:
    """A reply.

    Attributes:
      text: what is said.
      explanation: what explains it.
      plan: JSON that the engine wants back with the turn (`Said.plan`) when the dialogue goes on.
      prompt_tokens: tokens of the dialogue.
      tokens: tokens of the reply.
    """

    text: str
    explanation: ReplyExplanation = field(default_factory=ReplyExplanation)
    plan: Mapping[str, Any] | None = None
    prompt_tokens: int = 0
    tokens: int = 0


class Engine(Protocol):
    """An engine. It is called from one thread."""

    @property
    def name(self) -> str:
        """What clients call it."""
        ...

    def warm_up(self, batch: int) -> None:
        """Loads and compiles all that calls with up to `batch` dialogues need."""
        ...

    def replies(self, queries: Sequence[ReplyQuery]) -> list[EngineReply]:
        """The reply to each dialogue; the same alone and among others."""
        ...

    def recommend(self, queries: Sequence[RecommendQuery]) -> list[list[Film]]:
        """The films for each dialogue, best first; the same alone and among others."""
        ...
