"""Which facts about a film are worth stating to this seeker: what it shares with liked films and stated wishes."""

from __future__ import annotations

from collections.abc import Iterable

from ecr_jax.data.acts import Attribute
from ecr_jax.features.plans import Fact, Plan
from ecr_jax.inference.memory import Memory
from ecr_jax.inference.wishes import forms
from ecr_jax.knowledge.attributes import attribute_entities, spoken_name
from ecr_jax.knowledge.graph import KnowledgeGraph

_STATED = {
    Attribute.DIRECTOR: 1.0,
    Attribute.CAST: 0.9,
    Attribute.GENRE: 0.8,
    Attribute.YEAR: 0.3,
    Attribute.WRITER: 0.2,
}
"""Attributes that a reply states unasked, with what each is worth where nothing is shared. The year is in the title."""
_WISHED, _SHARED_PERSON, _SHARED_GENRE = 4.0, 3.0, 1.0
_MOST_VALUES = 2


def _worth(film: int, attribute: Attribute, memory: Memory, graph: KnowledgeGraph) -> tuple[float, tuple[str, ...]]:
    """What stating an attribute of a film is worth, and the values to state, the most relevant first."""
    wished = {
        name for wish in memory.wishes if wish.wanted and wish.entity is not None for name in forms(graph, wish.entity)
    }
    unwanted = {
        name
        for wish in memory.wishes
        if not wish.wanted and wish.entity is not None
        for name in forms(graph, wish.entity)
    }
    liked = {
        entity for other in memory.liked if other != film for entity in attribute_entities(graph, other, attribute)
    }
    shared = _SHARED_GENRE if attribute == Attribute.GENRE else _SHARED_PERSON
    scores = {
        entity: _WISHED * bool(forms(graph, entity) & wished) + shared * (entity in liked)
        for entity in attribute_entities(graph, film, attribute)
        if not forms(graph, entity) & unwanted
    }
    if not scores:
        return 0.0, ()
    order = sorted(scores, key=lambda entity: -scores[entity])[:_MOST_VALUES]
    return _STATED[attribute] + max(scores.values()), tuple(dict.fromkeys(spoken_name(graph, e) for e in order))


def chosen_facts(
    film: int, memory: Memory, graph: KnowledgeGraph, most: int, stated: Iterable[Fact] = ()
) -> list[Fact]:
    """The facts about a film that are most relevant to the dialogue, the best first; `Fact.film` is 0.

    Args:
      film: its entity id.
      memory: of the dialogue.
      graph: the source.
      most: most facts.
      stated: facts about other films of the reply, whose attributes are not stated again if there are others.
    """
    before = {fact.attribute for fact in stated}
    worth = {attribute: _worth(film, attribute, memory, graph) for attribute in _STATED}
    known = [attribute for attribute in worth if worth[attribute][1]]
    return [
        Fact(0, attribute, worth[attribute][1])
        for attribute in sorted(known, key=lambda a: (a in before, -worth[a][0]))[:most]
    ]


def shared_facts(film: int, memory: Memory, graph: KnowledgeGraph) -> tuple[tuple[int, ...], list[Fact]]:
    """Why a film is recommended: the films to speak of, the film first, and the facts that they share.

    With a liked film that shares a person or a genre, the same fact is stated of both; otherwise the film's own facts
    that fit the wishes best.
    """
    others = [other for other in reversed(memory.liked) if other != film and other not in memory.disliked]
    for attribute in (Attribute.DIRECTOR, Attribute.CAST, Attribute.WRITER, Attribute.GENRE):
        for other in others:
            both = _both(attribute_entities(graph, film, attribute), attribute_entities(graph, other, attribute))
            if both:
                values = tuple(dict.fromkeys(spoken_name(graph, entity) for entity in both[:_MOST_VALUES]))
                return (film, other), [Fact(0, attribute, values), Fact(1, attribute, values)]
    return (film,), chosen_facts(film, memory, graph, 2)


def _both(one: Iterable[int], other: Iterable[int]) -> list[int]:
    other = set(other)
    return [entity for entity in one if entity in other]


def stated_entities(plan: Plan, graph: KnowledgeGraph) -> tuple[int, ...]:
    """The entities that a planned reply puts into the dialogue: its films and the values of its facts, each once."""
    entities = list(plan.films)
    for fact in plan.facts:
        values = attribute_entities(graph, plan.films[fact.film], fact.attribute)
        entities += [entity for entity in values if spoken_name(graph, entity) in fact.values]
    return tuple(dict.fromkeys(entities))
