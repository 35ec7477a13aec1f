"""The films, people and genres of a scripted dialogue, chosen from the graph of a run by their properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecr_jax.data.acts import Attribute
from ecr_jax.knowledge.attributes import attribute_entities, spoken_name
from ecr_jax.knowledge.graph import KnowledgeGraph

_WELL_KNOWN = 200
"""Films of a dialogue are among so many of the best-connected ones."""
_COUNTRIES = {
    "france": "France", "united kingdom": "the UK", "uk": "the UK", "japan": "Japan", "germany": "Germany",
    "italy": "Italy", "canada": "Canada", "india": "India", "australia": "Australia", "spain": "Spain",
}  # fmt: skip
_GENRES = frozenset("comedy drama thriller horror action romance fantasy western crime adventure sci-fi war".split())
_DECADES = {1960: "the sixties", 1970: "the seventies", 1980: "the eighties", 1990: "the nineties", 2000: "the 2000s"}


@dataclass(frozen=True)
class Part:
    """What a placeholder stands for: what the seeker says, and the entity or the years that it means."""

    text: str
    entity: int | None = None
    years: tuple[int, int] | None = None


class Casting:
    """Chooses the parts of dialogues from a graph.

    Raises:
      ValueError: the graph has too few films that are well connected, or too few genres.
    """

    def __init__(self, graph: KnowledgeGraph):
        self._graph = graph
        items = graph.items[np.argsort(-graph.degrees[graph.items], kind="stable")].tolist()
        self._known = [film for film in items[: 10 * _WELL_KNOWN] if self._is_well_known(film)][:_WELL_KNOWN]
        if len(self._known) < 10:
            raise ValueError(f"the graph has {len(self._known)} well-connected films; the dialogues need at least 10")
        self._genres = _genres(graph)
        self._countries = _countries(graph)
        without = (f for f in items if graph.years[f] and not attribute_entities(graph, f, Attribute.DIRECTOR))
        self._unknown = next(without, None)

    def _people(self, film: int, attribute: Attribute, least: int) -> list[int]:
        """People of a film who are in at least so many triples and have two names."""
        graph = self._graph
        found = attribute_entities(graph, film, attribute)
        return [person for person in found if graph.degrees[person] >= least and " " in graph.names[person]]

    def _is_well_known(self, film: int) -> bool:
        return (
            int(self._graph.years[film]) // 10 * 10 in _DECADES
            and len(self._graph.names[film]) > 3
            and bool(self._people(film, Attribute.DIRECTOR, 4))
            and len(self._people(film, Attribute.CAST, 6)) >= 2
        )

    def parts(self, seed: int) -> dict[str, Part]:
        """The parts of one dialogue, by placeholder.

        film, film2, other are well-known films; director and actor are people of `film` and actor2 one of `film2`, who
        have other films too; stranger and hated_actor are people of none of the three; genre, genre2 and hated are
        genres that `film` does not have, where there are enough; decade is that of `film`; unknown is a film whose
        director the graph does not know, and country one with several films, where there is one.
        """
        graph, rng = self._graph, np.random.default_rng(seed)
        film, film2, other = rng.choice(self._known, 3, replace=False).tolist()
        director = self._people(film, Attribute.DIRECTOR, 4)[0]
        actors = self._people(film, Attribute.CAST, 6)
        actor = next((person for person in actors if person != director), actors[0])
        stranger, hated_actor = self._strangers((film, film2, other), rng)
        own = {spoken_name(graph, e) for e in attribute_entities(graph, film, Attribute.GENRE)}
        others = [genre for genre in self._genres if spoken_name(graph, genre) not in own]
        genre, genre2, hated = rng.permutation(others if len(others) >= 3 else self._genres)[:3].tolist()
        decade = int(graph.years[film]) // 10 * 10
        entities = {
            "director": director, "actor": actor, "actor2": self._people(film2, Attribute.CAST, 6)[0],
            "stranger": stranger, "hated_actor": hated_actor, "genre": genre, "genre2": genre2, "hated": hated,
        }  # fmt: skip
        films = {"film": film, "film2": film2, "other": other}
        if self._unknown is not None:
            films["unknown"] = self._unknown
        parts = {name: Part(spoken_name(graph, entity), entity) for name, entity in entities.items()}
        parts |= {name: Part(graph.title(entity), entity) for name, entity in films.items()}
        parts["decade"] = Part(_DECADES[decade], None, (decade, decade + 9))
        if self._countries:
            country = int(rng.choice(self._countries))
            parts["country"] = Part(_COUNTRIES[spoken_name(graph, country).lower()], country)
        return parts

    def _strangers(self, films: Sequence[int], rng: np.random.Generator) -> list[int]:
        near = {entity for film in films for entity in self._graph.neighbours(film).tolist()}
        found: list[int] = []
        for film in rng.permutation(self._known).tolist():
            found += [p for p in self._people(film, Attribute.CAST, 6) if p not in near and p not in found][:1]
            if len(found) == 2:
                return found
        raise ValueError("the graph has no two actors who are in none of three films")


def _genres(graph: KnowledgeGraph) -> list[int]:
    """The commonest genres of films, one of each name, the ones with most films first."""
    count: dict[int, int] = {}
    for film in graph.items.tolist():
        for entity in attribute_entities(graph, film, Attribute.GENRE):
            count[entity] = count.get(entity, 0) + 1
    by_name: dict[str, int] = {}
    for entity in sorted(count, key=lambda e: (-count[e], e)):
        if spoken_name(graph, entity) in _GENRES:
            by_name.setdefault(spoken_name(graph, entity), entity)
    if len(by_name) < 3:
        raise ValueError(f"the graph has {len(by_name)} genres of films; the dialogues need at least 3")
    return list(by_name.values())[:8]


def _countries(graph: KnowledgeGraph) -> list[int]:
    items = frozenset(graph.items.tolist())
    return [
        entity
        for entity in np.flatnonzero(graph.kinds == "country").tolist()
        if spoken_name(graph, entity).lower() in _COUNTRIES and len(items & set(graph.neighbours(entity).tolist())) >= 4
    ]
