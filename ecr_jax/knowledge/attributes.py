"""What a graph knows about a film, by attribute: its directors, cast, year, genres, countries.

Graphs name their relations differently (DBpedia's "musicComposer", the film table's "company"); this module is the one
place that knows which relation is which attribute, and how the names of genres, languages and countries are spoken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from ecr_jax.data.acts import Attribute
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.naming import genre_forms, genre_name

RELATIONS: Mapping[Attribute, tuple[str, ...]] = {
    Attribute.DIRECTOR: ("director",),
    Attribute.CAST: ("starring",),
    Attribute.WRITER: ("writer",),
    Attribute.GENRE: ("genre",),
    Attribute.COUNTRY: ("country",),
    Attribute.LANGUAGE: ("language",),
    Attribute.COMPANY: ("productionCompany", "company"),
    Attribute.COMPOSER: ("musicComposer", "composer"),
}
"""The relations of each attribute whose values are entities, as the graphs name them."""

_KINDS = {
    Attribute.GENRE: ("genre",),
    Attribute.COUNTRY: ("country", "place"),
    Attribute.LANGUAGE: ("language",),
}
_NEVER = ("film", "work")


def with_genres(graph: KnowledgeGraph, genres: np.ndarray) -> KnowledgeGraph:
    """The graph with more genres of films, in its own relation "genre"; without that relation, the same graph.

    Args:
      graph: the graph.
      genres: int [G, 2] pairs (film, genre) of entity ids, as a corpus's film table gives them.
    """
    if "genre" not in graph.relations or not len(genres):
        return graph
    relation = np.full(len(genres), graph.relations.index("genre"))
    triples = np.concatenate([graph.triples, np.stack([genres[:, 0], relation, genres[:, 1]], axis=1)])
    return dataclasses.replace(graph, triples=np.unique(triples, axis=0).astype(np.int32))


def attribute_entities(graph: KnowledgeGraph, film: int, attribute: Attribute) -> tuple[int, ...]:
    """The entities that a film has as an attribute, e.g. its directors.

    What a wrong link put into the graph is left out: values that are films, genres of music or of games, a language
    that is a country.

    Args:
      graph: the source.
      film: its entity id.
      attribute: one of `RELATIONS`; others have no entities.

    Returns:
      Entity ids, those in more triples first; empty where the graph does not know.
    """
    relations = RELATIONS.get(attribute, ())
    values = {tail for head, _, tail in graph.triples_of(film, relations).tolist() if head == film != tail}
    kinds = _KINDS.get(attribute)
    kept = [
        value
        for value in values
        if (graph.kinds[value] in kinds if kinds else graph.kinds[value] not in _NEVER)
        and (attribute != Attribute.GENRE or genre_forms(graph.uris[value]))
    ]
    return tuple(sorted(kept, key=lambda value: (-graph.degrees[value], value)))


def attribute_values(graph: KnowledgeGraph, film: int, attribute: Attribute) -> tuple[str, ...]:
    """What is known about an attribute of a film, as one says it.

    Args:
      graph: the source.
      film: its entity id.
      attribute: any.

    Returns:
      Distinct names, the best-connected first: ("Joel Coen", "Ethan Coen"), ("1996",), ("crime", "drama"); empty where
      the graph does not know.
    """
    if attribute == Attribute.YEAR:
        year = int(graph.years[film])
        return (str(year),) if year else ()
    return tuple(dict.fromkeys(spoken_name(graph, value) for value in attribute_entities(graph, film, attribute)))


def attribute_of(graph: KnowledgeGraph, film: int, entity: int) -> Attribute | None:
    """As which attribute a film has an entity, the first of `RELATIONS` that fits; None where it does not have it."""
    return next((a for a in RELATIONS if entity in attribute_entities(graph, film, a)), None)


def spoken_name(graph: KnowledgeGraph, entity: int) -> str:
    """An entity's name as it stands in a sentence: "horror" of "Horror film", "French" of "French language"."""
    name, kind = graph.names[entity], graph.kinds[entity]
    if kind == "genre":
        return genre_name(graph.uris[entity]) or name
    if kind == "language":
        return name.removesuffix(" language").removesuffix(" Language")
    return name.removeprefix("Cinema of the ").removeprefix("Cinema of ") if kind in ("country", "place") else name
