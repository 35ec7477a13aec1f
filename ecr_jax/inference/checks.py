"""Checks of a written reply against its plan and the graph. Each fault has a kind and says what is wrong.

A reply without faults names the planned films and no others, states nothing that the graph does not say, is whole, does
not loop, is fluent, and sounds as planned.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ecr_jax.data.acts import ActName, Attribute
from ecr_jax.data.schema import MOVIE
from ecr_jax.inference.planning import Decision
from ecr_jax.inference.wishes import forms, named_country
from ecr_jax.knowledge.attributes import RELATIONS, attribute_entities, attribute_values, spoken_name
from ecr_jax.knowledge.common_words import ordinary
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.knowledge.naming import normalise, title_forms, words

MOST_WORDS = 90
"""A longer reply is no chat turn."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a reply.

    Attributes:
      kind: "film", "entity", "fact", "missing", "loop", "form", "fluency" or "tone".
      what: in words.
    """

    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


@dataclass(frozen=True)
class Named:
    """An entity or a name at a place of a reply; `entities` is empty where the graph does not know the name."""

    start: int
    end: int
    entities: tuple[int, ...]


_CUES = tuple(
    (attribute, re.compile(rf"\b(?:{words_})\b", re.IGNORECASE))
    for attribute, words_ in (
        (Attribute.DIRECTOR, "direct(?:ed|or|ors|s|ing|ion)?"),
        (Attribute.WRITER, "wrote|written|writes?|writers?|screenplay|script"),
        (Attribute.COMPOSER, "composed|composer|music|score|soundtrack"),
        (Attribute.COMPANY, "produced|produces|studio|production"),
        (
            Attribute.CAST,
            "star(?:s|red|ring)?|cast|plays?|played|acts?|acted|acting|actors?|actress|performances?|features?|featuring"
            "|roles?|appears?",
        ),
    )
)
"""Words by which a sentence says what a person has to do with a film."""
_PEOPLE = (Attribute.DIRECTOR, Attribute.CAST, Attribute.WRITER, Attribute.COMPOSER)
_YEAR = re.compile(r"\b(?:18|19|20)\d\d\b")
_DECADE = re.compile(r"\b((?:19|20)?[0-9]0)'?s\b")
_CLAIMS = re.compile(
    r"\b(?:oscars?|academy awards?|golden globes?|awards?|nominat\w+|box office|sequel|prequel|remake|reboot|trilogy"
    r"|franchise|based on|true story|best[- ]?sell\w+|minutes|hours? long|netflix|imdb|rotten tomatoes|rated)\b",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(
    r"\b(?:don't know|do not know|not sure|no idea|can't say|cannot say|couldn't tell|don't have)\b", re.IGNORECASE
)
_ABOUT_A_FILM = re.compile(r"\b(?:it|it's|its|this|that|one|film|movie)\b", re.IGNORECASE)
_PLAIN_CAPITALS = frozenset(
    "I I'm I'd I'll I've OK TV DVD Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March"
    " April May June July August September October November December Christmas Halloween Easter English".split()
)
_CAPITALISED = re.compile(r"(?<![\w'’])[^\W\d_a-z][\w'’.-]*\w|(?<![\w'’])[A-Z](?![\w'’])")


def find_faults(
    text: str,
    decision: Decision,
    graph: KnowledgeGraph,
    linker: EntityLinker,
    *,
    context: frozenset[int] = frozenset(),
    emotional: bool = False,
) -> tuple[Fault, ...]:
    """The faults of a reply that can be told from its text.

    Args:
      text: the reply, titles filled in.
      decision: what it was to do.
      graph: what is true.
      linker: of the graph.
      context: entities that the seeker named; a reply may take them up where it says nothing of a film.
      emotional: whether it is the emotional response to a film that was named before, which need not name it.

    Returns:
      Faults, in the order of the checks; empty where there are none.
    """
    names = find_names(text, decision, graph, linker)
    sentences = _sentences(text, names)
    faults = [*_form_faults(text, sentences), *_letter_faults(text, names), *_loop_faults(text)]
    faults += _film_faults(text, names, decision, graph, emotional)
    faults += _entity_faults(text, names, sentences, decision, graph, context)
    faults += _year_faults(text, names, decision, graph)
    faults += _manner_faults(text, names, decision, graph)
    named = Counter(text[name.start : name.end].lower() for name in names)
    if any(count > 2 for count in named.values()):
        faults.append(Fault("loop", "a name comes three times"))
    people = Counter(name.entities[0] for name in names if name.entities and graph.kinds[name.entities[0]] == "person")
    if len(decision.plan.films) == 1 and any(count > 1 for count in people.values()):
        faults.append(Fault("loop", "somebody is named twice for one film"))
    if not emotional:
        faults += _act_faults(text, decision)
    return tuple(dict.fromkeys(faults))


def find_names(text: str, decision: Decision, graph: KnowledgeGraph, linker: EntityLinker) -> list[Named]:
    """What a reply names: the planned films and values, what the linker finds, and other capitalised words."""
    found: list[Named] = []

    def add(start: int, end: int, entities: tuple[int, ...]) -> None:
        if not any(start < other.end and other.start < end for other in found):
            found.append(Named(start, end, entities))

    plan = decision.plan
    for film in sorted(plan.films, key=lambda film: -len(graph.names[film])):
        for title in (graph.title(film), graph.names[film]):
            for match in re.finditer(rf"(?<!\w){re.escape(title)}(?!\w)", text):
                add(*match.span(), (film,))
    for film in plan.films:
        for attribute in _PEOPLE:
            for entity in attribute_entities(graph, film, attribute):
                for match in re.finditer(rf"(?<!\w){re.escape(graph.names[entity])}(?!\w)", text):
                    add(*match.span(), (entity,))
    for fact in plan.facts:
        entities = attribute_entities(graph, plan.films[fact.film], fact.attribute)
        for value in fact.values:
            of_value = tuple(entity for entity in entities if spoken_name(graph, entity) == value)
            if of_value:
                for match in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text):
                    add(*match.span(), of_value)
    for link in linker.link(text, [*plan.films]):
        entity = link.entity
        if graph.kinds[entity] == "film":
            written = normalise(text[link.start : link.end])
            entity = next((film for film in plan.films if written in title_forms(graph.names[film])), entity)
        add(link.start, link.end, (entity,))
    for match in _CAPITALISED.finditer(text):
        word = match[0].removesuffix("'s").removesuffix("’s")
        begins = (
            not text[: match.start()].rstrip(" \"'“(").strip() or text[: match.start()].rstrip(" \"'“(")[-1:] in ".!?:"
        )
        if word.replace("’", "'") in _PLAIN_CAPITALS or (begins and _ordinary_start(word)):
            continue
        country = named_country(graph, word)
        add(*match.span(), () if country is None else (country,))
    return sorted(found, key=lambda name: name.start)


def _ordinary_start(word: str) -> bool:
    first = words(word)[0][0]
    return ordinary(first) or first in _STARTS or first.endswith("ly")


_STARTS = frozenset(
    "whose exactly nothing understood okay fair lovely alright hmm haha ha aww ah oh yep nope btw lol hiya hopefully"
    " honestly enjoy nice welcome wow don don't can't won't isn't doesn't didn't wouldn't couldn't let's".split()
)


def _sentences(text: str, names: Sequence[Named]) -> list[tuple[int, int]]:
    """The spans of the sentences; a full stop inside a name ends none."""
    spans, begin = [], 0
    for match in re.finditer(r"[.!?]+[\"'”’)]*(?=\s|$)", text):
        if any(name.start <= match.start() < name.end for name in names) or re.search(
            r"\b[A-Z]$", text[: match.start()]
        ):
            continue
        spans.append((begin, match.end()))
        begin = match.end()
    if text[begin:].strip():
        spans.append((begin, len(text)))
    return spans


def _form_faults(text: str, sentences: Sequence[tuple[int, int]]) -> list[Fault]:
    faults = []
    stripped = text.strip()
    if not stripped:
        return [Fault("form", "no text")]
    if MOVIE in text or "<" in text:
        faults.append(Fault("form", "an open slot"))
    if not re.search(r"[.!?][\"'”’)]*$", stripped):
        faults.append(Fault("form", "the last sentence is not complete"))
    if text.count("(") != text.count(")") or text.count('"') % 2:
        faults.append(Fault("form", "brackets or quotation marks that are not closed"))
    if len(stripped.split()) > MOST_WORDS:
        faults.append(Fault("form", f"more than {MOST_WORDS} words"))
    if re.search(r"(?:\b(?:System|User|Movie Name|Seeker|Recommender|plan):)|[\[\]{}|\\]", text):
        faults.append(Fault("form", "marks of a prompt"))
    if re.search(r"\s[,.!?]|[,;]{2}|\b(\w+) \1\b(?<!that that)(?<!had had)", stripped):
        faults.append(Fault("form", "spaces before marks or a doubled word"))
    return faults


def _letter_faults(text: str, names: Sequence[Named]) -> list[Fault]:
    """Letters of other alphabets and with accents outside names, such as in "don\u00edt"."""
    accented = [place for place, letter in enumerate(text) if letter.isalpha() and not letter.isascii()]
    if all(any(name.start <= place < name.end for name in names) for place in accented):
        return []
    return [Fault("form", "letters that are not of English words")]


def _loop_faults(text: str) -> list[Fault]:
    """Four words that come three times, six that come twice, or a sentence that is said twice."""
    spoken = [word for word, _, _ in words(text)]
    for n, most in ((4, 2), (6, 1)):
        grams = Counter(zip(*(spoken[i:] for i in range(n)), strict=False))
        if repeated := next((" ".join(gram) for gram, count in grams.items() if count > most), None):
            return [Fault("loop", f"{repeated!r} comes again")]
    said = Counter(normalise(part) for part in re.split(r"[.!?]", text) if len(part.split()) > 1)
    return [Fault("loop", f"{part!r} is said twice") for part, count in said.items() if count > 1]


def _film_faults(
    text: str, names: Sequence[Named], decision: Decision, graph: KnowledgeGraph, emotional: bool
) -> list[Fault]:
    plan, faults = decision.plan, []
    films = [name.entities[0] for name in names if name.entities and graph.kinds[name.entities[0]] in ("film", "work")]
    for film in dict.fromkeys(films):
        if film not in plan.films:
            faults.append(Fault("film", f"{graph.title(film)} is not planned"))
    counts = Counter(films)
    if not emotional:
        for film in plan.films[len(plan.films) - plan.recommended :]:
            if not counts[film]:
                faults.append(Fault("missing", f"{graph.title(film)} is not named"))
            elif counts[film] > 1:
                faults.append(Fault("film", f"{graph.title(film)} is named twice"))
    return faults


def _true_of(graph: KnowledgeGraph, film: int, entity: int, attributes: Iterable[Attribute]) -> bool:
    names = forms(graph, entity)
    person = graph.kinds[entity] == "person"
    return any(
        entity == other or (not person and bool(forms(graph, other) & names))
        for attribute in attributes
        for other in attribute_entities(graph, film, attribute)
    )


def _entity_faults(
    text: str,
    names: Sequence[Named],
    sentences: Sequence[tuple[int, int]],
    decision: Decision,
    graph: KnowledgeGraph,
    context: frozenset[int],
) -> list[Fault]:
    """Names that the graph does not know, and people, genres, countries, ... that no planned film has as it is said."""
    plan, faults = decision.plan, []
    taken_up = {form for entity in context for form in forms(graph, entity)}
    asks = any(act.name == ActName.ASK for act in plan.acts)
    for name in names:
        written = text[name.start : name.end]
        if not name.entities:
            faults.append(Fault("entity", f"{written!r} is not known"))
            continue
        if graph.kinds[name.entities[0]] != "genre" and _MIXED.search(text[: name.start]):
            faults.append(Fault("fact", f"{written!r} is no genre to be mixed"))
            continue
        if graph.kinds[name.entities[0]] in ("film", "work"):
            continue
        begin, end = next((span for span in sentences if span[0] <= name.start < span[1]), (0, len(text)))
        person = graph.kinds[name.entities[0]] == "person"
        if _HEARD.search(text[begin:end]) and not any(forms(graph, e) & taken_up for e in name.entities):
            faults.append(Fault("fact", f"the seeker did not speak of {written!r}"))
            continue
        attribute = _implied(text, begin, name.start, name.end, end) if person else None
        before = [other.entities[0] for other in names if begin <= other.start < name.start and other.entities]
        said_of = [entity for entity in before if entity in plan.films][-1:]
        films = said_of or list(plan.films)
        allowed = RELATIONS if attribute is None else (attribute,)
        if any(_true_of(graph, film, entity, allowed) for film in films for entity in name.entities):
            continue
        denied = re.search(r"\b(?:not|n't|isn't|doesn't|no)\b", text[begin : name.start], re.IGNORECASE)
        sentence = text[begin:end]
        if any(forms(graph, entity) & taken_up for entity in name.entities) and (
            denied or not (said_of or attribute or (plan.films and _ABOUT_A_FILM.search(sentence)))
        ):
            continue
        if asks and "?" in sentence and not said_of and graph.kinds[name.entities[0]] == "genre":
            continue
        kind = (
            "fact" if attribute is not None and any(attribute_values(graph, f, attribute) for f in films) else "entity"
        )
        faults.append(
            Fault(kind, f"{written!r} {f'as {attribute.value} ' if attribute else ''}is not true of the films")
        )
    for match in _CLAIMS.finditer(text):
        if not any(name.entities and name.start <= match.start() < name.end for name in names):
            faults.append(Fault("fact", f"{match[0]!r} is a claim that the graph cannot support"))
    return faults


def _implied(text: str, begin: int, start: int, stop: int, end: int) -> Attribute | None:
    """The attribute that the words around a person imply: a cue right behind the name, else the last one before it."""
    before = [(match.start(), attribute) for attribute, cue in _CUES for match in cue.finditer(text[begin:start])]
    after = [(match.start(), attribute) for attribute, cue in _CUES for match in cue.finditer(text[stop:end])]
    behind = [attribute for place, attribute in after if _JOINT.fullmatch(text[stop : stop + place])]
    if behind and not re.search(r"\b(?:by|starring|stars|with) $", text[begin:start]):
        return behind[0]
    return max(before)[1] if before else None


_JOINT = re.compile(r",?(?:'s|,? (?:who|also|both|has|have|is|was|had|really|the|its|a|one|of))* ", re.IGNORECASE)
_COMFORT = re.compile(
    r"\b(?:sorry|sad|hard|tough|rough|hope|cheer|comfort|better|hug|oh no|oh dear|easy|a lot|understand)\b",
    re.IGNORECASE,
)
_HEARD = re.compile(r"\byou(?:'ve| have)? (?:mentioned|named|asked|wanted|said|told|spoke|brought)\b", re.IGNORECASE)
_APOLOGY = re.compile(
    r"\bsorry (?:you|that you|to hear|about that)\b|\byou didn't (?:like|enjoy)\b|\bsorry it wasn't\b", re.IGNORECASE
)
_PUZZLED = re.compile(
    r"\b(?:didn't|don't|couldn't) (?:quite )?(?:understand|get|catch|follow) (?:that|you|what)\b"
    r"|\bnot sure what you mean\b|\bwhat do you mean\b",
    re.IGNORECASE,
)
_DISPRAISE = re.compile(
    r"\b(?:not|never|isn't|wasn't) (?:a |the )?(?:big |huge |great |really )?(?:fan|good|great|funny|worth)\b"
    r"|\b(?:boring|awful|terrible|dull|disappoint\w+|overrated|waste of|regret\w*|fell asleep|walked out|hated? it"
    r"|(?:didn't|don't) (?:like|enjoy))\b",
    re.IGNORECASE,
)
_JOY = re.compile(
    r"\b(?:glad|happy (?:to|for|that)|(?:great|good) time|have fun|so much fun|hooray|yay|congrat\w*|awesome)\b",
    re.IGNORECASE,
)
_ALREADY_LIKED = re.compile(
    r"\byou(?:'ve| have)? (?:liked|loved|enjoyed|mentioned|saw|watched|seen) (?:it\b|this one\b|that one\b|#)",
    re.IGNORECASE,
)
_OF_A_PERSON = re.compile(
    r",? (?:who|whose) |,? (?:is|was) (?:such )?an? (?:\w+ )?(?:actor|actress|director|man|woman)\b", re.IGNORECASE
)
_DANGLING = re.compile(
    r"\b(?:and|or|but|with|of|by|the|a|an|because|such as|for example|here(?:'s| is) why)[.!]$", re.IGNORECASE
)
_MIXED = re.compile(r"\b(?:mix|mixture|blend|combination|cross) (?:of|between) (?:[\w ,-]+ and )?$", re.IGNORECASE)


def _year_faults(text: str, names: Sequence[Named], decision: Decision, graph: KnowledgeGraph) -> list[Fault]:
    plan, faults = decision.plan, []
    years = {int(graph.years[film]) for film in plan.films}
    stated = {value for fact in plan.facts for value in fact.values}
    free = [m for m in _YEAR.finditer(text) if not any(n.start <= m.start() < n.end for n in names)]
    for match in free:
        if int(match[0]) not in years and match[0] not in stated:
            faults.append(Fault("fact" if plan.films else "entity", f"{match[0]} is not the year of a planned film"))
    for match in _DECADE.finditer(text):
        tens = int(match[1])
        first = tens if tens > 1000 else (1900 if tens >= 30 else 2000) + tens
        asked = any(wish.years and wish.years[0] <= first <= wish.years[1] for wish in decision.unmet)
        if plan.films and not asked and not any(first <= year <= first + 9 for year in years):
            faults.append(Fault("fact", f"no planned film is of the {match[0]}"))
    return faults


def _manner_faults(text: str, names: Sequence[Named], decision: Decision, graph: KnowledgeGraph) -> list[Fault]:
    """What a partner who listened would not say."""
    plan, faults = decision.plan, []
    feels_bad = decision.comfort or plan.heard == "negative"
    if _APOLOGY.search(text) and not feels_bad and plan.heard:
        faults.append(Fault("tone", "it is sorry about what the seeker did not say"))
    if _PUZZLED.search(text) and not (decision.puzzled or decision.unclear):
        faults.append(Fault("tone", "it does not understand what it understood"))
    if plan.recommended and _DISPRAISE.search(text):
        faults.append(Fault("tone", "it speaks badly of what it recommends"))
    if decision.comfort and _JOY.search(text):
        faults.append(Fault("tone", "it is joyful, and the seeker feels bad"))
    new, marked = plan.films[len(plan.films) - plan.recommended :], text
    for name in names:
        if name.entities[:1] and name.entities[0] in new:
            marked = f"{marked[: name.start]}{'#' * (name.end - name.start)}{marked[name.end :]}"
    if new and len(new) == len(plan.films) and _ALREADY_LIKED.search(marked):
        faults.append(Fault("fact", "the seeker did not speak of the film"))
    for name in names:
        film = name.entities and graph.kinds[name.entities[0]] == "film"
        if film and _OF_A_PERSON.match(text, name.end):
            faults.append(Fault("fact", f"{text[name.start : name.end]!r} is no person"))
    if _DANGLING.search(text.strip()):
        faults.append(Fault("form", "the last sentence breaks off"))
    for match in re.finditer(r"(?<![\w(#])\d{1,3}(?![\w'’)])", text):
        if not any(name.start <= match.start() < name.end for name in names):
            faults.append(Fault("fact", f"{match[0]} is a number that the graph cannot support"))
    return faults


def _act_faults(text: str, decision: Decision) -> list[Fault]:
    """What was planned and is not done: a question that is not asked, an answer or an explanation without its fact."""
    plan, spoken = decision.plan, f" {normalise(text)} "
    acts = {act.name for act in plan.acts}
    faults = []
    if decision.comfort and not _COMFORT.search(text):
        faults.append(Fault("missing", "it does not answer that the seeker feels bad"))
    if ActName.ASK in acts and "?" not in text:
        faults.append(Fault("missing", "it asks nothing"))
    if ActName.ASK not in acts and ActName.RECOMMEND not in acts and "?" in text:
        faults.append(Fault("missing", "it asks instead"))
    if ActName.ANSWER in acts:
        for answer in decision.answers:
            if not answer.values:
                if not _UNKNOWN.search(text.replace("’", "'")):
                    faults.append(
                        Fault("missing", f"it does not say that the {answer.question.attribute.value} is not known")
                    )
            elif not any(f" {normalise(value)} " in spoken for value in answer.values):
                faults.append(Fault("missing", f"the {answer.question.attribute.value} is not stated"))
            begins = spoken.split()[:1]
            if answer.question.yes_no and answer.yes is not None and begins and begins[0] in ("yes", "no"):
                if (begins[0] == "yes") != answer.yes:
                    faults.append(Fault("fact", f"the answer is {'yes' if answer.yes else 'no'}"))
            elif answer.question.yes_no and answer.yes is not None:
                faults.append(Fault("missing", "neither yes nor no"))
    if (
        ActName.EXPLAIN in acts
        and ActName.RECOMMEND not in acts
        and plan.facts
        and not any(f" {normalise(value)} " in spoken for fact in plan.facts for value in fact.values)
    ):
        faults.append(Fault("missing", "no reason is given"))
    return faults


def fluency_faults(loss: float, bound: float) -> tuple[Fault, ...]:
    """A reply whose mean loss per token under the frozen base model is above what human turns of its length meet."""
    return (
        (Fault("fluency", f"a loss of {loss:.2f} per token; human turns are below {bound:.2f}"),)
        if loss > bound
        else ()
    )


_OPPOSITES: Mapping[str, frozenset[str]] = {
    "negative": frozenset(("like", "happy", "grateful", "nostalgia")),
    "like": frozenset(("negative",)),
    "happy": frozenset(("negative",)),
    "grateful": frozenset(("negative",)),
    "nostalgia": frozenset(("negative",)),
    "agreement": frozenset(("happy",)),
}


def tone_faults(tone: str, emotions: Mapping[str, float], bound: float = 0.6) -> tuple[Fault, ...]:
    """A reply that clearly sounds of an emotion that the planned tone excludes.

    Args:
      tone: the planned emotion, or "".
      emotions: the classifier's probability of each emotion of the reply.
      bound: from which probability an emotion is clear.
    """
    excluded = _OPPOSITES.get(tone, frozenset())
    return tuple(
        Fault("tone", f"it sounds {emotion} ({probability:.2f}); {tone} is planned")
        for emotion, probability in emotions.items()
        if emotion in excluded and probability >= bound
    )
