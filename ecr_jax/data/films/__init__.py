"""The built-in corpus: dialogues and top-rated reviews over the real films of the Wikidata table, from a seed.

A seeker has tastes (genre, director, actor, era), perhaps an aversion and a mood. The recommender knows only what the
seeker has said, and samples films by how well they fit it, by the emotions expressed so far and by popularity. The
seeker's feedback (like, dislike, unsaid) depends on all of the tastes, and the expressed emotion on the feedback and on
the film. Both speakers also ask, answer, explain and chat; `docs/data.md` says what is labelled.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecr_jax.data.films.dialogue import converse
from ecr_jax.data.films.reviews import FilmReview, write_review
from ecr_jax.data.films.table import Film, read_table, uri
from ecr_jax.data.films.world import World
from ecr_jax.data.schema import Conversation, Split

__all__ = ["VERSION", "Film", "FilmCorpus", "FilmReview", "generate", "read_table", "uri"]

VERSION = "2.0.1"
"""Another version gives other dialogues from the same seed; what was prepared from one is out of date for the next."""


@dataclass(frozen=True)
class FilmCorpus:
    """The built-in corpus. `items` are the sorted URIs of the films that can be recommended."""

    conversations: tuple[Conversation, ...]
    reviews: tuple[FilmReview, ...]
    items: tuple[str, ...]


def generate(table: Path, *, seed: int = 0, dialogues: int = 1000, reviews: int = 1800) -> FilmCorpus:
    """Generates the corpus; the same table, seed and numbers give the same corpus.

    Of every ten dialogues, the last is for test and the one before it for validation. Reviews are of films that the
    training dialogues mention, so that they contain nothing of the other splits.

    Args:
      table: `movies.db`.
      seed: any integer from 0.
      dialogues: number of dialogues, at least 10 so that no split is empty.
      reviews: number of reviews.

    Raises:
      ValueError: an argument is out of range, or the table has too few documented films.
    """
    if seed < 0 or dialogues < 10 or reviews < 0:
        raise ValueError(
            f"seed {seed}, dialogues {dialogues}, reviews {reviews}: give a seed of 0 or more, "
            "10 dialogues or more and 0 reviews or more"
        )
    world = World(read_table(table))
    conversations = tuple(
        Conversation(f"films-{i:05d}", _split(i), converse(world, np.random.default_rng([seed, 0, i])))
        for i in range(dialogues)
    )
    mentioned = Counter(
        mention.entity
        for conversation in conversations
        if conversation.split == Split.TRAIN
        for turn in conversation.turns
        for mention in turn.mentions
        if mention.film
    )
    rng = np.random.default_rng([seed, 1])
    ranked = sorted(mentioned, key=lambda film: (-mentioned[film], film))
    share = np.array([mentioned[film] for film in ranked], np.float64) ** 0.5
    extra = rng.choice(len(ranked), max(reviews - len(ranked), 0), p=share / share.sum())
    reviewed = [*range(len(ranked)), *sorted(extra.tolist())][:reviews]
    return FilmCorpus(
        conversations,
        tuple(write_review(world, world.by_uri[ranked[i]], rng) for i in reviewed),
        tuple(sorted(film.uri for film in world.pool)),
    )


def _split(index: int) -> Split:
    return {8: Split.VALID, 9: Split.TEST}.get(index % 10, Split.TRAIN)
