"""Dialogue acts: what a turn of the seeker or of the recommender does, and the attribute of a film that it is about.

A corpus may label its turns with them (`Turn.acts`); the built-in corpus does. The acts of the recommender are part of
the plan of a reply (`features/plans.py`); those of the seeker decide how the reply is planned.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ActName(StrEnum):
    """The acts. The first two belong to both roles."""

    GREET = "greet"
    CHAT = "chat"
    """None of the others: small talk, or nothing that concerns films."""

    # The seeker's.
    PREFER = "prefer"
    """Says what they like or dislike, or wish for."""
    REQUEST = "request"
    """Asks for a film, another one, or something else."""
    QUESTION = "question"
    """Asks about a film; the act's attribute says what."""
    WHY = "why"
    """Asks why a film is recommended."""
    ACCEPT = "accept"
    REJECT = "reject"
    """Does not want what was recommended."""
    SEEN = "seen"
    """Has seen what was recommended."""
    THANK = "thank"
    """Thanks, or says goodbye."""

    # The recommender's.
    ASK = "ask"
    """Asks for a preference; the act's attribute, where there is one, says which."""
    RECOMMEND = "recommend"
    ANSWER = "answer"
    """Answers a question about a film, or says that the answer is not known."""
    EXPLAIN = "explain"
    """Says why a film is recommended."""
    REACT = "react"
    """Reacts to what the seeker feels."""
    CLOSE = "close"


SEEKER_ACTS = (
    ActName.GREET, ActName.PREFER, ActName.REQUEST, ActName.QUESTION, ActName.WHY, ActName.ACCEPT, ActName.REJECT,
    ActName.SEEN, ActName.THANK, ActName.CHAT,
)  # fmt: skip
RECOMMENDER_ACTS = (
    ActName.GREET, ActName.REACT, ActName.ASK, ActName.RECOMMEND, ActName.ANSWER, ActName.EXPLAIN, ActName.CLOSE,
    ActName.CHAT,
)  # fmt: skip


class Attribute(StrEnum):
    """An attribute of a film."""

    DIRECTOR = "director"
    CAST = "cast"
    WRITER = "writer"
    YEAR = "year"
    GENRE = "genre"
    COUNTRY = "country"
    LANGUAGE = "language"
    COMPANY = "company"
    COMPOSER = "composer"
    RUNTIME = "runtime"
    PLOT = "plot"
    FILM = "film"
    """A film itself: a favourite that the recommender asks for."""


@dataclass(frozen=True)
class Act:
    """An act, and the attribute that it is about where it has one. Written as "question:director"."""

    name: ActName
    attribute: Attribute | None = None

    def __str__(self) -> str:
        return self.name.value if self.attribute is None else f"{self.name.value}:{self.attribute.value}"

    @classmethod
    def parse(cls, text: str) -> Act:
        """The act that `str` wrote.

        Raises:
          ValueError: it is none.
        """
        name, _, attribute = text.partition(":")
        try:
            return cls(ActName(name), Attribute(attribute) if attribute else None)
        except ValueError as error:
            names = ", ".join(ActName)
            raise ValueError(
                f"{text!r} is not an act; acts are {names}, with ':ATTRIBUTE' where they have one"
            ) from error
