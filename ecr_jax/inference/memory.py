"""What a dialogue so far has come to: wishes, films liked, seen, refused and recommended, and what was said last.

`remember` folds the turns of a dialogue into a `Memory`. It is a pure function: the same turns give the same memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import Role
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.features.dialogues import Correction, Utterance
from ecr_jax.inference.phrases import explicit_acts, feels_bad, is_question, understood, wanted_films
from ecr_jax.inference.questions import Question, counted_film, read_questions
from ecr_jax.inference.wishes import (
    Wish,
    about_the_same,
    named_country,
    overall_polarity,
    polarity,
    praises,
    read_wishes,
    referred_wishes,
    withdrawn,
)
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import Link

_PROBABLE = 0.5
"""A learned act counts from this probability."""
_CLEAR_VALENCE = 0.6
"""From this valence on an entity counts as liked, or as disliked where it is negative."""
_NEGATIVE = EMOTIONS.index("negative")
_OF_THE_WHOLE_TEXT = (ActName.GREET, ActName.THANK, ActName.WHY)
_UNSEEN = re.compile(
    r"\b(?:haven't|have not|havent|never|not|didn't|want to|going to|should i|heard of)\b[^.?!]{0,20}$", re.IGNORECASE
)


@dataclass(frozen=True)
class TurnReading:
    """What models and the linker read in a turn.

    Attributes:
      links: the entities of its text.
      acts: probabilities of the seeker's acts in it; empty where they are not known.
    """

    links: tuple[Link, ...] = ()
    acts: Mapping[Act, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Memory:
    """A dialogue in which the seeker spoke last.

    Films are entity ids, in the order in which they came up, each once.

    Attributes:
      named: films that anybody named.
      recommended: films that the recommender named.
      latest: those of its last turn.
      liked, disliked: films, by what the seeker said last of each.
      seen: films that the seeker has seen.
      refused: films that the seeker did not want.
      wishes: what films should have or not have, the latest last.
      discussed: the film that "it" refers to.
      person: the person that "him" or "her" refers to.
      asked: how many turns in a row the recommender has asked without recommending.
      asked_for: the attributes that it asked for, where its turns were planned.
      turns: number of turns.
      acts: what the seeker's last turn does.
      questions: what it asks about films.
      wanted: how many films it asks for, 0 where it does not say.
      heard: the name of its most probable emotion, or "".
      troubled: whether it feels bad about something other than films.
      intelligible: whether it has English words or names of the graph.
      text: it.
    """

    named: tuple[int, ...] = ()
    recommended: tuple[int, ...] = ()
    latest: tuple[int, ...] = ()
    liked: tuple[int, ...] = ()
    disliked: tuple[int, ...] = ()
    seen: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    wishes: tuple[Wish, ...] = ()
    discussed: int | None = None
    person: int | None = None
    asked: int = 0
    asked_for: tuple[Attribute, ...] = ()
    turns: int = 0
    acts: frozenset[ActName] = frozenset()
    questions: tuple[Question, ...] = ()
    wanted: int = 0
    heard: str = ""
    troubled: bool = False
    intelligible: bool = True
    text: str = ""

    @property
    def known(self) -> bool:
        """Whether anything is known of the seeker's taste."""
        return bool(self.liked or self.disliked or self.wishes)


def remember(turns: Sequence[Utterance], readings: Sequence[TurnReading], graph: KnowledgeGraph) -> Memory:
    """The memory of a dialogue.

    Args:
      turns: the dialogue so far. A turn with a `plan` is one of our own: it recommends and states what was planned.
      readings: of each turn.
      graph: the graph of the entities.
    """
    memory = Memory()
    for turn, reading in zip(turns, readings, strict=True):
        if turn.role == Role.RECOMMENDER:
            memory = _after_recommender(memory, turn, graph)
        else:
            if turn.correction is not None:
                memory = corrected(memory, turn.correction, graph)
            memory = _after_seeker(memory, turn, reading, graph)
        memory = replace(memory, turns=memory.turns + 1)
    return memory


@dataclass(frozen=True)
class Belief:
    """Something that a memory holds of the seeker.

    Attributes:
      kind: which part of the memory it is.
      entity: the film, or what the wish is about; None for a wish about the year.
      wish: the wish, where it is one.
      id: the same in every memory and with every graph that has the entity.
    """

    kind: Literal["liked", "disliked", "seen", "refused", "constraint"]
    entity: int | None
    wish: Wish | None
    id: str


_READ_BELIEF = re.compile(r"(?:liked|disliked|constraint:(?:with|without)):(.+)")
"""The id of a belief whose entity the recommender reads."""


def beliefs(memory: Memory, graph: KnowledgeGraph) -> tuple[Belief, ...]:
    """What a memory holds of the seeker: films liked, disliked, seen and refused, then wishes."""
    found = []
    for kind in ("liked", "disliked", "seen", "refused"):
        found += [Belief(kind, film, None, f"{kind}:{graph.uris[film]}") for film in getattr(memory, kind)]
    for wish in memory.wishes:
        what = "-".join(map(str, wish.years or ())) if wish.entity is None else graph.uris[wish.entity]
        sign = "with" if wish.wanted else "without"
        found.append(Belief("constraint", wish.entity, wish, f"constraint:{sign}:{what}"))
    return tuple(found)


def corrected(memory: Memory, correction: Correction, graph: KnowledgeGraph) -> Memory:
    """The memory after the seeker withdrew beliefs and marked films.

    A film of which "seen" or "refused" is withdrawn may be recommended again; one that is marked or passed over is not.
    """
    gone = [belief for belief in beliefs(memory, graph) if belief.id in correction.forgotten]
    films: dict[str, tuple[int, ...]] = {
        kind: _without(getattr(memory, kind), [b.entity for b in gone if b.kind == kind and b.entity is not None])
        for kind in ("liked", "disliked", "seen", "refused")
    }
    again = [b.entity for b in gone if b.kind in ("seen", "refused") and b.entity is not None]
    marked = (*correction.liked, *correction.disliked, *correction.seen, *correction.passed)
    return replace(
        memory,
        named=_added(_without(memory.named, again), marked),
        recommended=_without(memory.recommended, again),
        liked=_added(_without(films["liked"], correction.disliked), correction.liked),
        disliked=_added(_without(films["disliked"], correction.liked), correction.disliked),
        seen=_added(films["seen"], correction.seen),
        refused=films["refused"],
        wishes=tuple(wish for wish in memory.wishes if all(wish != belief.wish for belief in gone)),
    )


def as_corrected(turns: Sequence[Utterance], graph: KnowledgeGraph) -> tuple[Utterance, ...]:
    """The turns as the recommender reads them: without the entities of withdrawn beliefs, and with the marked films.

    What was withdrawn is taken from the turns before; the words of a turn stay as they are. A film that is marked is an
    entity of the turn, liked or disliked.
    """
    done: list[Utterance] = []
    for turn in turns:
        if turn.correction is not None:
            withdrawn_beliefs = filter(None, map(_READ_BELIEF.fullmatch, turn.correction.forgotten))
            gone = {graph.ids[belief[1]] for belief in withdrawn_beliefs if belief[1] in graph.ids}
            done = [_without_entities(before, gone) for before in done]
            marks = {**dict.fromkeys(turn.correction.liked, 1.0), **dict.fromkeys(turn.correction.disliked, -1.0)}
            turn = replace(
                turn,
                entities=(*turn.entities, *(film for film in marks if film not in turn.entities)),
                valences=(*turn.valences, *marks.items()),
            )
        done.append(turn)
    return tuple(done)


def _without_entities(turn: Utterance, gone: set[int]) -> Utterance:
    return replace(
        turn,
        entities=tuple(entity for entity in turn.entities if entity not in gone),
        films=tuple(film for film in turn.films if film[0] not in gone),
        valences=tuple(valence for valence in turn.valences if valence[0] not in gone),
    )


def _after_recommender(memory: Memory, turn: Utterance, graph: KnowledgeGraph) -> Memory:
    films = _films(turn.entities, graph)
    if turn.plan is not None:
        recommended = turn.plan.films[len(turn.plan.films) - turn.plan.recommended :]
        discussed = (*recommended, *turn.plan.films)
        asked = [act.attribute for act in turn.plan.acts if act.name == ActName.ASK]
        asks = bool(asked)
    else:
        recommended = discussed = films
        asked, asks = [], "?" in turn.text
    people = [entity for entity in turn.entities if graph.kinds[entity] == "person"]
    return replace(
        memory,
        named=_added(memory.named, films),
        recommended=_added(memory.recommended, recommended),
        latest=tuple(recommended) or memory.latest,
        discussed=discussed[0] if discussed else memory.discussed,
        person=people[0] if people else memory.person,
        asked=0 if recommended else memory.asked + asks,
        asked_for=(*memory.asked_for, *(attribute for attribute in asked if attribute is not None)),
    )


def _after_seeker(memory: Memory, turn: Utterance, reading: TurnReading, graph: KnowledgeGraph) -> Memory:
    text = turn.text.replace("’", "'")
    reading = replace(reading, links=_countries_not_films(text, reading.links, graph))
    questions, asked = read_questions(text, reading.links, graph, memory.discussed, memory.latest, memory.questions)
    rest = _blank(text, asked)
    links = [link for link in reading.links if not any(start <= link.start < end for start, end in asked)]
    titles = [(link.start, link.end) for link in reading.links if graph.kinds[link.entity] == "film"]
    spoken, spoken_rest = _blank(text, titles, "#"), _blank(rest, titles, "#")  # a title's own words do nothing
    acts = _acts(spoken, spoken_rest, reading, bool(questions))
    feels = feels_bad(spoken) and not any(graph.kinds[link.entity] == "film" for link in reading.links)
    heard = EMOTIONS[_NEGATIVE if feels else turn.emotions[0][0]] if feels or turn.emotions else ""
    negative = bool(turn.emotions) and turn.emotions[0][0] == _NEGATIVE
    valences = dict(turn.valences)
    feelings = {link.entity: _feeling(link, rest, valences.get(link.entity, 0.0), negative) for link in links}

    meant = {link.entity for link in reading.links}
    named = tuple(film for film in _films(turn.entities, graph) if film in meant or not _is_country(film, graph))
    spoken_of = [link.entity for link in links if graph.kinds[link.entity] == "film"]
    felt = [film for film in named if film in spoken_of or not any(link.entity == film for link in reading.links)]
    memory = _with_films(memory, rest, acts, felt, feelings, overall_polarity(rest))
    taken_back = withdrawn(rest, links, graph, memory.wishes)
    wishes = tuple(wish for wish in memory.wishes if wish not in taken_back)
    wishes = _merged(wishes, referred_wishes(rest, reading.links, graph, memory.discussed, memory.person), graph)
    wished = requested = False
    for part in _corrected_parts(rest):
        only = _blank(rest, [(0, part.start()), (part.end(), len(rest))])
        within = [link for link in links if part.start() <= link.start < part.end()]
        new = read_wishes(only, within, graph, memory.discussed, {e: f for e, f in feelings.items() if f})
        wished |= bool(new)
        requested |= any(wish.wanted and wish.firm for wish in new) and not praises(only)
        new = [wish for wish in new if not any(about_the_same(graph, wish, other) for other in taken_back)]
        wishes = _merged(wishes, new, graph, adds=bool(_ADDS.search(only)))
    if requested:
        acts |= {ActName.REQUEST}  # "a comedy, please"
    people = [link.entity for link in reading.links if graph.kinds[link.entity] == "person"]
    return replace(
        memory,
        named=_added(memory.named, named),
        wishes=wishes,
        discussed=named[-1] if named else memory.discussed,
        person=people[-1] if people else memory.person,
        acts=acts,
        questions=questions,
        wanted=wanted_films(spoken_rest),
        heard=heard,
        troubled=feels or (negative and not reading.links and not wished and not acts & {ActName.REJECT, ActName.SEEN}),
        intelligible=understood(text) or bool(reading.links or acts),
        text=turn.text,
    )


_FROM = re.compile(r"\b(?:from|in) (?:the )?$", re.IGNORECASE)


def _is_country(film: int, graph: KnowledgeGraph) -> bool:
    return named_country(graph, graph.names[film]) is not None


def _countries_not_films(text: str, links: Sequence[Link], graph: KnowledgeGraph) -> tuple[Link, ...]:
    """The links, with the country in place of the film of its name where the words are "from Australia"."""
    found = []
    for link in links:
        country = named_country(graph, text[link.start : link.end])
        if graph.kinds[link.entity] == "film" and country is not None and _FROM.search(text[: link.start]):
            link = replace(link, entity=country)
        found.append(link)
    return tuple(found)


def _acts(text: str, rest: str, reading: TurnReading, asks: bool) -> frozenset[ActName]:
    """The acts that the words say, and those that the classifier finds probable.

    A question needs an attribute, and "why" needs words that ask. A turn that names something is not taken for a
    farewell or an acceptance unless it says so.
    """
    said = explicit_acts(rest) | {act for act in explicit_acts(text) if act in _OF_THE_WHOLE_TEXT}
    likely = {act.name for act, probability in reading.acts.items() if probability >= _PROBABLE} - {ActName.QUESTION}
    if not is_question(text):
        likely.discard(ActName.WHY)
    if reading.links:
        likely -= {ActName.THANK, ActName.ACCEPT}
    return frozenset(said | likely | ({ActName.QUESTION} if asks else set()))


def _feeling(link: Link, text: str, valence: float, negative: bool) -> int:
    """What is said of a linked entity: by the words around it, else by its valence, else by the turn's emotion."""
    said = polarity(text, link.start)
    if said or abs(valence) >= _CLEAR_VALENCE:
        return said or (1 if valence > 0 else -1)
    return -1 if negative else 0


def _with_films(
    memory: Memory, text: str, acts: frozenset[ActName], felt: Sequence[int], feelings: Mapping[int, int], overall: int
) -> Memory:
    """The memory with what a turn says of films.

    Args:
      memory: before it.
      text: the turn without its questions.
      acts: what it does.
      felt: the films that it names, without those that it only asks about.
      feelings: entity -> how it is spoken of.
      overall: how the turn as a whole speaks, for films that it refers to without a name.
    """
    counted = counted_film(text, memory.latest)
    meant = memory.latest if counted is None else (counted,)
    referred = tuple(film for film in felt if film in memory.recommended) or (() if felt else meant)
    seen, refused = memory.seen, memory.refused
    liked = [film for film in felt if feelings.get(film, 0) >= 0]
    disliked = [film for film in felt if feelings.get(film, 0) < 0]
    if ActName.SEEN in acts:
        seen = _added(seen, (*referred, *(film for film in felt if film not in referred)))
    elif ActName.REJECT in acts:
        refused = _added(refused, referred)
        liked = [film for film in liked if film not in referred]
    if not felt and (ActName.SEEN in acts or ActName.REJECT in acts):
        overall = -1 if ActName.REJECT in acts and ActName.SEEN not in acts and re.search(r"\bhate", text) else overall
        if ActName.SEEN in acts:
            liked += [film for film in referred if overall > 0]
        disliked += [film for film in referred if overall < 0 and re.search(_DISLIKES, text)]
    return replace(
        memory,
        seen=seen,
        refused=refused,
        liked=_added(_without(memory.liked, disliked), liked),
        disliked=_added(_without(memory.disliked, liked), disliked),
    )


_DISLIKES = re.compile(
    r"\b(?:hate|dislike|didn't (?:really )?(?:like|enjoy)|boring|awful|terrible|bad|sucked|not good|worst)",
    re.IGNORECASE,
)


_CORRECTED = re.compile(
    r"(?:(?!\b(?:actually|no wait|wait|scratch that|on second thought|or rather)\b).)+.?", re.IGNORECASE | re.DOTALL
)


def _corrected_parts(text: str) -> list[re.Match[str]]:
    """The parts of a turn between its corrections ("a comedy. Actually, a horror film"); the later ones count more."""
    return list(_CORRECTED.finditer(text))


_ADDS = re.compile(
    r"\balso\b|\bas well\b|\btoo(?=\W*(?:[.!?,]|$))|\band (?:it should|i(?:'d| would) like it|i want it)\b",
    re.IGNORECASE,
)
"""Words that say that a wish comes beside those before ("it should also have Tom Hanks in it")."""


def _merged(kept: Sequence[Wish], new: Sequence[Wish], graph: KnowledgeGraph, adds: bool = False) -> tuple[Wish, ...]:
    """Wishes with new ones: of two about the same thing the later counts.

    Firm ones replace firm ones of their kind ("a comedy", then "a drama, please"), unless they are said to be added.
    """

    def kind(wish: Wish) -> str:
        return "year" if wish.entity is None else str(graph.kinds[wish.entity])

    replaced = set() if adds else {kind(wish) for wish in new if wish.wanted and wish.firm}
    remaining = [
        wish
        for wish in kept
        if not any(about_the_same(graph, wish, other) for other in new)
        and not (wish.wanted and wish.firm and kind(wish) in replaced)
    ]
    latest: list[Wish] = []
    for wish in new:
        latest = [other for other in latest if not about_the_same(graph, wish, other)] + [wish]
    return (*remaining, *latest)


def _films(entities: Iterable[int], graph: KnowledgeGraph) -> tuple[int, ...]:
    return tuple(dict.fromkeys(entity for entity in entities if graph.kinds[entity] == "film"))


def _added(films: Iterable[int], more: Iterable[int]) -> tuple[int, ...]:
    """Films with more of them, each at its latest place."""
    more = tuple(dict.fromkeys(more))
    return (*(film for film in films if film not in more), *more)


def _without(films: Iterable[int], others: Iterable[int]) -> tuple[int, ...]:
    others = set(others)
    return tuple(film for film in films if film not in others)


def _blank(text: str, spans: Sequence[tuple[int, int]], mark: str = " ") -> str:
    """The text with a mark in place of each character of the spans, those that are blank already left so."""
    for start, end in spans:
        text = text[:start] + (mark * (end - start) if text[start:end].strip() else text[start:end]) + text[end:]
    return text
