"""Plans of replies: what a reply of the recommender does, with which films and facts, and in which tone.

A plan is written as one line of the prompt, in the same way in training, where it is read off a corpus turn, and in
inference, where it was decided. The writer of the reply sees titles as `<movie>`; the films fill these slots in order.
"""

from __future__ import annotations

from dataclasses import dataclass

from ecr_jax.data.acts import Act, Attribute
from ecr_jax.data.schema import MOVIE


@dataclass(frozen=True)
class Fact:
    """A fact about a film of a plan.

    Attributes:
      film: the index of the film in `Plan.films`.
      attribute: what is stated about it.
      values: names, e.g. ("Joel Coen", "Ethan Coen"); empty where the fact is not known, which a reply may say.
    """

    film: int
    attribute: Attribute
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a reply is to do.

    Attributes:
      acts: of the recommender, in the order of the reply.
      films: entity ids of the films that the reply names, in the order of their slots; none twice.
      recommended: how many of the last of `films` are recommended; those before them are under discussion.
      facts: what the reply may state about its films.
      heard: the emotion of the seeker's last turn, or "" where it is not known.
      tone: the emotion that the reply shows, or "" where it is not planned.
    """

    acts: tuple[Act, ...]
    films: tuple[int, ...] = ()
    recommended: int = 0
    facts: tuple[Fact, ...] = ()
    heard: str = ""
    tone: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.recommended <= len(self.films):
            raise ValueError(f"{self.recommended} of {len(self.films)} films are recommended")
        if len(set(self.films)) != len(self.films):
            raise ValueError(f"a film is named twice in {self.films}")
        if any(not 0 <= fact.film < len(self.films) for fact in self.facts):
            raise ValueError(f"a fact is about none of the {len(self.films)} films: {self.facts}")


def plan_text(plan: Plan) -> str:
    """The line that tells the writer the plan, e.g. "plan: react, recommend | films: <movie> | heard: negative".

    Facts name their film by its number where the plan has several: "<movie> 2 director: Jane Campion".
    """
    parts = [", ".join(map(str, plan.acts))]
    if plan.films:
        parts.append("films: " + ", ".join([MOVIE] * len(plan.films)))
    for fact in plan.facts:
        number = f" {fact.film + 1}" if len(plan.films) > 1 else ""
        parts.append(f"{MOVIE}{number} {fact.attribute.value}: {', '.join(fact.values) or 'unknown'}")
    if plan.heard:
        parts.append(f"heard: {plan.heard}")
    if plan.tone:
        parts.append(f"tone: {plan.tone}")
    return "plan: " + " | ".join(parts)
