"""Questions about films: which film ("it", "the second one", a title), which attribute, and what the graph answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ecr_jax.data.acts import Attribute
from ecr_jax.inference.phrases import clauses, is_question, question_attributes
from ecr_jax.inference.wishes import forms, named_origins, year_spans
from ecr_jax.knowledge.attributes import attribute_entities, attribute_values, spoken_name
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import Link

_ORDINALS = {"first": 0, "former": 0, "second": 1, "latter": -1, "last": -1, "third": 2, "other": 1}
_ORDINAL = re.compile(
    r"\bthe (first|second|third|last|former|latter|other)(?: (?:one|film|movie|two))?\b", re.IGNORECASE
)
_YES_NO = re.compile(
    r"^\W*(?:(?:and|but|so|ok(?:ay)?|oh|cool|nice|hmm+|great|well|also|wait|wow)[\s,]+)*(?:is|are|was|were|does|did|do|has|isn't|"
    r"wasn't|doesn't|didn't)\b",
    re.IGNORECASE,
)
_AGAIN = re.compile(r"\W*(?:and|what about|how about|and what about)\s+(?:of )?#+\W*", re.IGNORECASE)
_AGAIN_ORDINAL = re.compile(
    r"\W*(?:and|what about|how about|and what about)\s+(?:of )?the (?:first|second|third|last|former|latter|other)"
    r"(?: (?:one|film|movie))?\W*",
    re.IGNORECASE,
)
_FILMOGRAPHY = re.compile(
    r"\b(?:what|which)(?: else| other)?(?: (?:films?|movies?))? (?:did|has|have|does|do|is|was) [~ and,]*~ (?:\w+ )?"
    r"(?:direct(?:ed)?|make|made|been|done|play(?:ed)?|star(?:red)?|act(?:ed)?|write|written|wrote|in|known for)\b",
    re.IGNORECASE,
)
"""Asks for the films of somebody ("~"), which is a wish for one of them."""
_OF_KIND = {"genre": Attribute.GENRE, "country": Attribute.COUNTRY, "place": Attribute.COUNTRY,
            "language": Attribute.LANGUAGE, "company": Attribute.COMPANY}  # fmt: skip
_OF_PERSON = (Attribute.DIRECTOR, Attribute.WRITER, Attribute.COMPOSER, Attribute.CAST)


@dataclass(frozen=True)
class Question:
    """A question about a film.

    Attributes:
      attribute: what is asked.
      film: the entity id of the film; None where it is not clear which.
      entity: of a yes/no question, the entity that is asked about ("Is Tom Hanks in it?").
      years: of a yes/no question about the year, the first and the last year.
    """

    attribute: Attribute
    film: int | None
    entity: int | None = None
    years: tuple[int, int] | None = None

    @property
    def yes_no(self) -> bool:
        """Whether it is answered by yes or no."""
        return self.entity is not None or self.years is not None


def read_questions(
    text: str,
    links: Sequence[Link],
    graph: KnowledgeGraph,
    discussed: int | None,
    latest: Sequence[int] = (),
    before: Sequence[Question] = (),
) -> tuple[tuple[Question, ...], tuple[tuple[int, int], ...]]:
    """The questions about films in a seeker's turn.

    Args:
      text: the turn.
      links: its linked entities.
      graph: their graph.
      discussed: the film under discussion, which "it" refers to.
      latest: the films of the last reply, which "the second one" counts.
      before: the questions of the seeker's turn before, which "and TITLE?" asks again.

    Returns:
      The questions, and the spans of the sentences that ask them.
    """
    questions: list[Question] = []
    spans = []
    plain = text.replace("’", "'")
    for sentence in clauses(plain):
        within = [link for link in links if sentence.start() <= link.start < sentence.end()]
        films = [link.entity for link in within if graph.kinds[link.entity] == "film"]
        # A title's own words ("The Director") ask nothing.
        words = _masked(sentence[0], sentence.start(), within, graph)
        film = films[0] if films else _referred(words, discussed, latest)
        attributes = question_attributes(words, bool(films))
        others = [link.entity for link in within if graph.kinds[link.entity] not in ("film", "work")]
        if not films and _FILMOGRAPHY.search(words):
            continue
        asked = _yes_no(words, others, attributes, film, graph) if is_question(words) else []
        asked = asked or [Question(attribute, film) for attribute in attributes]
        again = _AGAIN.fullmatch(words) if films else len(latest) > 1 and _AGAIN_ORDINAL.fullmatch(words)
        if not asked and again:
            asked = [Question(question.attribute, film) for question in questions or before]
        if asked:
            questions += [question for question in asked if question not in questions]
            spans.append(sentence.span())
    return tuple(questions), tuple(spans)


def _masked(sentence: str, start: int, links: Sequence[Link], graph: KnowledgeGraph) -> str:
    """A sentence with "#" for the titles of films and "~" for other names, of the same length."""
    for link in links:
        mark = "#" if graph.kinds[link.entity] == "film" else "~"
        sentence = sentence[: link.start - start] + mark * (link.end - link.start) + sentence[link.end - start :]
    return sentence


def _referred(words: str, discussed: int | None, latest: Sequence[int]) -> int | None:
    counted = counted_film(words, latest)
    return discussed if counted is None else counted


def counted_film(words: str, latest: Sequence[int]) -> int | None:
    """The film that "the second one" means among the films of the last reply; None where nothing is counted."""
    match = _ORDINAL.search(words)
    if match is None or len(latest) < 2:
        return None
    place = _ORDINALS[match[1].lower()]
    return latest[place] if place < len(latest) else latest[-1]


def _yes_no(
    words: str, others: Sequence[int], attributes: Sequence[Attribute], film: int | None, graph: KnowledgeGraph
) -> list[Question]:
    if not _YES_NO.search(words) or film is None:
        return []
    of_it = re.search(
        r"\b(?:it|that|this|the (?:film|movie|first|second|third|last|other)|one)\b|#", words, re.IGNORECASE
    )
    if not of_it:
        return []
    asked = []
    for entity in others:
        kind = str(graph.kinds[entity])
        if kind == "person":
            named = [attribute for attribute in attributes if attribute in _OF_PERSON]
            asked.append(Question(named[0] if named else Attribute.CAST, film, entity))
        elif kind in _OF_KIND:
            asked.append(Question(_OF_KIND[kind], film, entity))
    if not asked:
        origins = (entity for _, entity in named_origins(words, graph))
        asked += [Question(_OF_KIND[str(graph.kinds[entity])], film, entity) for entity in origins]
    if not asked and not re.search(r"\bhow\b", words, re.IGNORECASE):
        asked += [Question(Attribute.YEAR, film, years=years) for _, years in year_spans(words, graph, None)]
    return asked


def answer(question: Question, graph: KnowledgeGraph, most: int = 3) -> tuple[bool | None, tuple[str, ...]]:
    """What the graph answers.

    Args:
      question: with a film.
      graph: the source.
      most: most names to give.

    Returns:
      Yes or no, None where the question is another one or the graph does not know; and the names to state, empty where
      it does not know.

    Raises:
      ValueError: the question has no film.
    """
    if question.film is None:
        raise ValueError(f"it is not clear which film {question} is about")
    values = attribute_values(graph, question.film, question.attribute)
    if question.years is not None:
        first, last = question.years
        return (first <= int(values[0]) <= last if values else None), values
    if question.entity is None:
        return None, values[:most]
    names = forms(graph, question.entity)
    entities = attribute_entities(graph, question.film, question.attribute)
    known = tuple(spoken_name(graph, e) for e in entities if forms(graph, e) & names)
    if known:
        return True, known[:1]
    return (False if values else None), values[:most]
