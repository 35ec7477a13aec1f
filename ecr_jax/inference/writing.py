"""What the two parts of a reply are written from: the recommendation response u^r and the emotional response u^e."""

from __future__ import annotations

from dataclasses import dataclass

from ecr_jax.features.batch_spec import Example
from ecr_jax.features.plans import Plan
from ecr_jax.knowledge.reviews import Triple


@dataclass(frozen=True)
class WriteRequest:
    """A recommendation response to be written.

    Attributes:
      arrays: the context's arrays (`ContextFeaturizer.arrays`).
      plan: what the reply is to do.
    """

    arrays: Example
    plan: Plan


@dataclass(frozen=True)
class EmotionalRequest:
    """An emotional response to be written.

    Attributes:
      title: the film's title with year.
      entities: names that belong to the film.
      triples: facts about it.
      first_sentence: the recommendation response, titles filled in.
      heard: the emotion of the seeker's last turn, or "" where it is not known.
      tone: the emotion that the response shows, or "" where it is not planned.
    """

    title: str
    entities: tuple[str, ...]
    triples: tuple[Triple, ...]
    first_sentence: str
    heard: str = ""
    tone: str = ""
