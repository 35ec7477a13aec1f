"""What a reply says about films, read off its text: the entities it names, and statements that the graph contradicts.

Both are conservative. An entity counts as unsupported only where the linker is sure enough to link it. A statement is
read only where its words are next to the names ("directed by A and B", "C wrote", "came out in 1999"), and contradicts
the graph only for attributes of which the graph lists all values: director, writer, composer and year. Casts are never
complete, so that an actor who is not listed is unsupported, not contradicted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ecr_jax.data.acts import Attribute
from ecr_jax.inference.wishes import forms
from ecr_jax.knowledge.attributes import attribute_entities
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import EntityLinker, Link
from ecr_jax.knowledge.naming import normalise

_BEFORE_NAMES = (
    (
        Attribute.DIRECTOR,
        re.compile(r"\b(?:directed by|direction by|director (?:is|was)|directors (?:are|were))\s+", re.I),
    ),
    (Attribute.WRITER, re.compile(r"\b(?:(?:co-)?written by|screenplay by|script by|writer (?:is|was))\s+", re.I)),
    (Attribute.COMPOSER, re.compile(r"\b(?:composed by|(?:music|score|soundtrack) by|composer (?:is|was))\s+", re.I)),
)
_BEHIND_NAMES = (
    (Attribute.DIRECTOR, re.compile(r"\s+(?:directed|directs|is the director|was the director)\b(?!\s+by)", re.I)),
    (Attribute.WRITER, re.compile(r"\s+(?:wrote|writes|is the writer|was the writer)\b", re.I)),
    (Attribute.COMPOSER, re.compile(r"\s+(?:composed|wrote the (?:music|score))\b(?!\s+by)", re.I)),
)
"""Words that state an attribute of the film under discussion, before the names of people or behind one."""

_JOINED = re.compile(r"\s*(?:,|and|&|, and)\s+", re.I)
_YEAR = re.compile(
    r"\b(?:(?:came out|released|made|shot)(?: back)? in|is from|was from|dates from)\s+((?:18|19|20)\d\d)\b", re.I
)
_OWN_NAMES = ("film", "work", "person")
"""Kinds of entities of which two with the same name are not the same."""
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)")


@dataclass(frozen=True)
class Statement:
    """A film is said to have a value of an attribute: an entity, or a year."""

    film: int
    attribute: Attribute
    value: int


def named_entities(text: str, linker: EntityLinker, context: Sequence[int] = ()) -> list[Link]:
    """What a reply names; `context` are entities that help to tell films of one title apart."""
    return linker.link(text, context)


def films_named(links: Sequence[Link], graph: KnowledgeGraph) -> tuple[int, ...]:
    """The distinct films among links, in order."""
    return tuple(dict.fromkeys(link.entity for link in links if graph.kinds[link.entity] == "film"))


def films_discussed(turns: Sequence[Sequence[int]], graph: KnowledgeGraph) -> tuple[int, ...]:
    """The films that a reply may speak of without naming them: those of the last turn before it that names any.

    Args:
      turns: the entities of each turn before the reply.
      graph: tells films.
    """
    of_turns = (tuple(entity for entity in turn if graph.kinds[entity] == "film") for turn in reversed(turns))
    return next(filter(None, of_turns), ())


def unsupported(
    text: str, links: Sequence[Link], graph: KnowledgeGraph, films: Collection[int], context: Collection[int]
) -> list[Link]:
    """Links to entities that nothing in the graph or the dialogue supports.

    Supported are the films that the reply is about, what the dialogue named, and what a triple joins to a film that the
    sentence names, or to any of `films` where it names none. An entity of the same name ("Horror_film" and
    "Horror_fiction") is the same. A genre that is asked about ("a comedy or a thriller?") states nothing.

    Args:
      text: the reply.
      links: what it names.
      graph: the graph.
      films: those that it recommends, and those under discussion (`films_discussed`).
      context: the entities of the turns before.
    """
    known, found = {*films, *context}, []
    for start, end in _sentences(text, links):
        inside = [link for link in links if start <= link.start < end]
        about = [film for film in films_named(inside, graph) if film in known] or films
        allowed = known.union(*(graph.neighbours(film).tolist() for film in about))
        names = {form for entity in allowed if graph.kinds[entity] not in _OWN_NAMES for form in forms(graph, entity)}
        asks = text[start:end].endswith("?")
        for link in inside:
            kind = graph.kinds[link.entity]
            same = kind not in _OWN_NAMES and bool(forms(graph, link.entity) & names)
            if link.entity not in allowed and not same and not (asks and kind == "genre"):
                found.append(link)
    return found


def statements(text: str, links: Sequence[Link], graph: KnowledgeGraph, films: Sequence[int]) -> list[Statement]:
    """What a reply states about directors, writers, composers and years.

    A sentence is about the one film that it names; where it names none, about the film that was named last before it,
    or else the first planned one. Sentences that name several films are left out.

    Args:
      text: the reply.
      links: what it names.
      graph: tells films and people.
      films: the planned films.
    """
    found = []
    last = films[0] if films else None
    for start, end in _sentences(text, links):
        inside = [link for link in links if start <= link.start < end]
        of_sentence = films_named(inside, graph)
        film = of_sentence[0] if len(of_sentence) == 1 else last if not of_sentence else None
        last = of_sentence[-1] if of_sentence else last
        if film is None:
            continue
        people = [link for link in inside if graph.kinds[link.entity] not in ("film", "genre")]
        for attribute, cue in _BEFORE_NAMES:
            for match in cue.finditer(text, start, end):
                found += [Statement(film, attribute, link.entity) for link in _names_after(text, match.end(), people)]
        for attribute, cue in _BEHIND_NAMES:
            found += [Statement(film, attribute, link.entity) for link in people if cue.match(text, link.end)]
        found += [Statement(film, Attribute.YEAR, int(match[1])) for match in _YEAR.finditer(text, start, end)]
    return list(dict.fromkeys(found))


def contradicts(statement: Statement, graph: KnowledgeGraph) -> bool:
    """Whether the graph knows the attribute, and the stated value is none of its values (nor shares its name)."""
    if statement.attribute == Attribute.YEAR:
        year = int(graph.years[statement.film])
        return bool(year) and year != statement.value
    values = attribute_entities(graph, statement.film, statement.attribute)
    names = {normalise(graph.names[value]) for value in values}
    return bool(values) and normalise(graph.names[statement.value]) not in names


def _names_after(text: str, position: int, people: Sequence[Link]) -> Iterator[Link]:
    """The names that begin at a position, joined by commas and "and"."""
    for link in people:
        joined = _JOINED.match(text, position)
        if link.start == position or (joined is not None and link.start == joined.end()):
            yield link
            position = link.end


def _sentences(text: str, links: Sequence[Link]) -> Iterator[tuple[int, int]]:
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if not any(link.start <= match.start() < link.end for link in links):  # the dot of "Mr. Nobody" ends none
            yield start, match.end()
            start = match.end()
    if text[start:].strip():
        yield start, len(text)
