"""What simulated seekers look for: a film of the test split, known to them by its attributes alone."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ecr_jax.data.acts import Attribute
from ecr_jax.data.schema import Conversation, Feedback, Role
from ecr_jax.evaluation.simulation.leaks import reveals
from ecr_jax.inference.phrases import clauses
from ecr_jax.inference.wishes import Wish, films_that_fit, forms, named_origins, year_spans
from ecr_jax.knowledge.attributes import attribute_entities, attribute_of, spoken_name
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import EntityLinker

_LEAST_WISHES = 3
"""A film of which less is known is nobody's goal."""
_MOST_VALUES = 2
"""Genres, and people of the cast, that a seeker knows."""
_TOO_COMMON = 0.5
"""A country of a larger share of all films says nothing."""


@dataclass(frozen=True)
class Goal:
    """A film that a seeker wants to find.

    Attributes:
      id: unique in a simulation; the seeker's choices follow from it.
      film: entity id.
      wishes: what the seeker knows of it, in the order in which it comes up; all are true of the film.
      liked: other films that the seeker likes, by entity id.
      cold: whether the train split never recommends the film.
    """

    id: str
    film: int
    wishes: tuple[Wish, ...]
    liked: tuple[int, ...] = ()
    cold: bool = False


def draw_goals(
    conversations: Iterable[Conversation],
    graph: KnowledgeGraph,
    linker: EntityLinker,
    recommended: Collection[int],
    count: int,
    seed: int,
) -> list[Goal]:
    """Goals drawn from the films that a split recommends, each film once.

    The films that a seeker likes are those that the seeker of the film's dialogue names and does not dislike.

    Args:
      conversations: linked, of the split.
      graph: with the attributes of films.
      linker: of the graph.
      recommended: entity ids that the train split recommends.
      count: most goals.
      seed: of the draw, and of what is known of each film.

    Raises:
      ValueError: of no recommended film enough is known.
    """
    liked_by_film: dict[int, tuple[int, ...]] = {}
    for conversation in conversations:
        for film, liked in _recommended(conversation, graph):
            liked_by_film.setdefault(film, liked)
    films = sorted(liked_by_film)
    known = frozenset(recommended)
    goals: list[Goal] = []
    for place in np.random.default_rng(seed).permutation(len(films)):
        if len(goals) == count:
            break
        film = films[place]
        wishes = wishes_of(film, graph, linker, random.Random(f"{seed} {graph.uris[film]}"))
        if len(wishes) >= _LEAST_WISHES:
            liked = tuple(f for f in liked_by_film[film] if not reveals(graph.title(f), film, graph, linker))
            goals.append(Goal(f"{len(goals) + 1:04d}", film, wishes, liked, film not in known))
    if not goals:
        raise ValueError(
            f"the split recommends {len(films)} films, and of none does the graph know {_LEAST_WISHES} attributes"
        )
    return goals


def _recommended(conversation: Conversation, graph: KnowledgeGraph) -> list[tuple[int, tuple[int, ...]]]:
    """The films that a dialogue recommends and its seeker does not dislike, with the films that the seeker likes."""
    items = frozenset(graph.items.tolist())
    spoken: dict[Role, dict[int, None]] = {Role.SEEKER: {}, Role.RECOMMENDER: {}}
    for turn in conversation.turns:
        for mention in turn.mentions:
            film = graph.ids.get(mention.entity or "")
            if film in items and mention.feedback not in (None, Feedback.DISLIKE) and turn.role in spoken:
                spoken[turn.role][film] = None
    named = spoken[Role.SEEKER]
    return [(film, tuple(f for f in named if f != film)) for film in spoken[Role.RECOMMENDER] if film not in named]


def wishes_of(film: int, graph: KnowledgeGraph, linker: EntityLinker, rng: random.Random) -> tuple[Wish, ...]:
    """What a seeker knows of a film, in the order in which it comes up.

    First one that people begin with (a genre, a decade, an actor), then the others: the director, the country where it
    tells something, more genres and actors. The exact year comes last. What would give the title away is left out.
    """

    def of(attribute: Attribute) -> list[Wish]:
        by_name: dict[str, int] = {}
        for entity in attribute_entities(graph, film, attribute):
            by_name.setdefault(spoken_name(graph, entity), entity)
        safe = [entity for name, entity in by_name.items() if not reveals(name, film, graph, linker)]
        return [Wish(True, entity) for entity in safe[:_MOST_VALUES]]

    year = int(graph.years[film])
    decade = year // 10 * 10
    years = [Wish(True, years=(decade, decade + 9)), Wish(True, years=(year, year))] if year else []
    genres, cast = of(Attribute.GENRE), [wish for wish in of(Attribute.CAST) if _has_two_names(wish, graph)]
    first = [wishes[0] for wishes in (genres, years, cast) if wishes]
    if not first:
        return ()
    opening = rng.choice(first)
    countries = [wish for wish in of(Attribute.COUNTRY)[:1] if not _is_common(wish, graph)]
    rest = [*genres, *years[:1], *cast, *of(Attribute.DIRECTOR)[:1], *countries]
    rest = [wish for wish in dict.fromkeys(rest) if wish != opening]
    rng.shuffle(rest)
    return (opening, *rest, *years[1:])


def _has_two_names(wish: Wish, graph: KnowledgeGraph) -> bool:
    return wish.entity is not None and " " in graph.names[wish.entity]


def _is_common(wish: Wish, graph: KnowledgeGraph) -> bool:
    return bool(films_that_fit(graph, wish, graph.items).mean() > _TOO_COMMON)


def attribute_of_wish(wish: Wish, film: int, graph: KnowledgeGraph) -> Attribute | None:
    """Which attribute of a film a wish is about; None where the film does not have it."""
    return Attribute.YEAR if wish.entity is None else attribute_of(graph, film, wish.entity)


def named_wishes(text: str, wishes: Sequence[Wish], graph: KnowledgeGraph, linker: EntityLinker) -> tuple[Wish, ...]:
    """Those of some wishes that a text names: their entities as the linker finds them, their years in figures or words.

    Args:
      text: what a seeker says.
      wishes: all that the seeker knows.
      graph: with their entities.
      linker: of the graph.
    """
    entities = [link.entity for link in linker.link(text)] + [entity for _, entity in named_origins(text, graph)]
    named = {form for entity in entities for form in forms(graph, entity)}
    spans = [years for part in clauses(text) for _, years in year_spans(part[0], graph, None)]
    return tuple(
        wish
        for wish in wishes
        if (wish.years in spans if wish.entity is None else bool(forms(graph, wish.entity) & named))
    )
