"""What a seeker wishes films to have or not to have, read off the words around the linked entities of a turn.

"no horror", "a comedy with Tom Hanks", "from the nineties", "something newer". A wish holds until it is withdrawn or the
seeker says the opposite; `films_that_fit` says which films fulfil it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ecr_jax.data.acts import ActName, Attribute
from ecr_jax.inference.phrases import explicit_acts
from ecr_jax.knowledge.attributes import attribute_entities, spoken_name
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import Link
from ecr_jax.knowledge.naming import genre_forms, normalise

WISHED_KINDS = ("genre", "person", "country", "language", "company")
"""Kinds of entities that a wish can be about."""


@dataclass(frozen=True)
class Wish:
    """What films should have, or should not have.

    Attributes:
      wanted: whether they should have it.
      entity: a genre, person, country, language or company; None where the wish is about the year.
      years: the first and the last year, where it is about the year.
      firm: whether it was asked for ("a comedy, please"), not only liked ("I love comedies").
      either: whether it is an alternative to the wish before it ("a comedy or a thriller").
    """

    wanted: bool
    entity: int | None = None
    years: tuple[int, int] | None = None
    firm: bool = True
    either: bool = False


_SEPARATOR = re.compile(
    r"[.!?;\n]+|,|(?=\b(?:that(?:'s| is| are| was)|which (?:is|are)) not\b)|(?=\b(?:that|which) (?:isn't|aren't|wasn't)\b)"
    r"|(?=\bnot (?:from|by|with|starring)\b)|(?=\bwith(?:out| no)\b)|(?<!anything )(?<!nothing )(?<!everything )(?<!all )\bbut\b|\balthough\b|\bthough\b|\bhowever\b|\bbecause\b",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"\b(?:(?:don't|dont|do not|wouldn't|would not) mind|can't get enough of|never (?:get )?tired of|not bad|why not|nothing but|no problem"
    r"|not only|(?:haven't|havent|have not|never|not) (?:\w+ )?(?:seen|watched|see|saw)|don't know|not sure|no worries)\b",
    re.IGNORECASE,
)
_NEGATIVE = re.compile(
    r"\b(?:no|not|nothing|none|nobody|never|don't|dont|do not|doesn't|didn't|hate[sd]?|hating|dislike[sd]?|can't stand|cannot stand|can't bear|without"
    r"|avoid|except|apart from|other than|anything but|(?:sick|tired|enough|bored) of|fed up|isn't|wasn't|aren't|won't|wouldn't|less|"
    r"(?<!non-)(?<!non )stop(?:ped)?|awful|terrible|horrible|boring|worst|bad|sucks?|sucked|overrated|scares me|despise|loathe|detest|skip|neither|nor)\b",
    re.IGNORECASE,
)
_LIKING = re.compile(
    r"\b(?:love[sd]?|like[sd]?|enjoy(?:ed|s)?|adore[sd]?|fan of|favou?rites?|prefer|into|great|amazing|awesome|fantastic|brilliant"
    r"|wonderful|good|best|excellent|perfect|fun|funny)\b",
    re.IGNORECASE,
)
_OPENING_NO = re.compile(
    r"^\W*(?:no|nope|nah)\s+(?=(?:i|i'd|i'm|make|give|show|please|thanks?|actually|let|something|another|it|that|this|you)\b)",
    re.IGNORECASE,
)
_FRESH = re.compile(r"\W*(?:a|an|some|something|rather|just|maybe|preferably)\b", re.IGNORECASE)
_ANSWER = re.compile(r"\W*(?:no|nope|nah)\W*", re.IGNORECASE)
_PLEASE = re.compile(r"\bplease\W*$", re.IGNORECASE)
_TASTE = re.compile(
    r"\bi(?:'m| am| do| really| also| just| usually| mostly| always| absolutely| quite)* (?:love|like|enjoy|adore|prefer)"
    r"|\b(?:fan of|favou?rites?|into)\b",
    re.IGNORECASE,
)
_ASKING = re.compile(
    r"\b(?:want|need|looking for|mood for|feel like|something|anything|some|any|recommend|suggest|show me|give me|find|prefer|please"
    r"|instead|how about|what about|rather|only|would like|'d like|i'd love|make it|must|should|another|more|with|from|by|watch)\b",
    re.IGNORECASE,
)
_WITHDRAWN = re.compile(
    r"\b(?:any(?:thing)?|whatever|forget|never mind|nevermind|doesn't matter|does not matter|don't care|do not care|doesn't have to"
    r"|no longer|no need|not necessarily|is fine|is ok|is okay|are fine|are ok|are okay)\b",
    re.IGNORECASE,
)
_ANYTHING = re.compile(
    r"\b(?:anything|whatever|surprise me|start over|forget (?:it|that|everything|all))\b", re.IGNORECASE
)
_YEAR_WORDS = re.compile(r"\b(?:years?|decades?|eras?|old|new|older|newer|age)\b", re.IGNORECASE)
_DECADE_WORDS = {"twenties": 1920, "thirties": 1930, "forties": 1940, "fifties": 1950, "sixties": 1960, "seventies": 1970,
                 "eighties": 1980, "nineties": 1990, "noughties": 2000}  # fmt: skip
_DECADE = re.compile(
    r"\b(?:(early|mid|late)[ -])?(?:(19|20)?([0-9]0)(?:'|’)?s|(" + "|".join(_DECADE_WORDS) + r"))\b", re.IGNORECASE
)
_BETWEEN = re.compile(r"\b(?:between|from)\s+((?:19|20)\d\d)\s*(?:and|to|until|-|–)\s*((?:19|20)\d\d)\b", re.IGNORECASE)
_SIDE = re.compile(
    r"\b(before|older than|until|up to|after|since|newer than|later than)\s+(?:the\s+)?(?:year\s+)?((?:19|20)\d\d)\b",
    re.IGNORECASE,
)
_EXACT = re.compile(
    r"(?<!born )(?<!met )\b(?:from|in|of|year)\s+((?:19|20)\d\d)\b(?:\s*(?:,|or|and)\s*((?:19|20)\d\d)\b)?"
    r"(?!\s*(?:to|until|-)\s*(?:19|20)\d\d)",
    re.IGNORECASE,
)
_NEWER = re.compile(r"\b(newer|more recent|more modern)\b", re.IGNORECASE)
_NEW = re.compile(
    r"\b(new(?:est)?|recent|modern|latest|current)\b(?! (?:one|idea|to me|for me|york|zealand|start))", re.IGNORECASE
)
_OLDER = re.compile(r"\b(older)\b", re.IGNORECASE)
_OLD = re.compile(r"\b(old|old-fashioned|classics?|vintage)\b(?! (?:friend|man|woman|school))", re.IGNORECASE)
_FIRST_YEAR, _LAST_YEAR = 1880, 2100

_MOODS = {
    "comedy": r"fun(?:ny)?|hilarious|light(?:-?hearted)?|silly|uplifting|cheerful|(?:to |that )?(?:cheers?|cheer) me up|makes? me laugh",
    "horror": r"scary|creepy|terrifying",
    "romance": r"romantic|about love",
    "thriller": r"suspenseful|thrilling|gripping|tense",
    "drama": r"sad|moving|serious|touching",
    "action": r"action-packed|exciting",
    "family": r"for (?:my |the |our )?(?:kids?|children|family)|child-friendly",
    "animation": r"animated",
}
"""How people ask for a genre without naming it, by the genre."""
_ALONE = re.compile(
    r"\b(?:hate|love|like|enjoy|no|not|dislike|prefer|into|stand|without|some|anything|but)\s+"
    r"(crime|war|family|history|sports?|spy|teen|music|biography)\b(?! (?:stor|dogs?|and peace))",
    re.IGNORECASE,
)
"""Genres whose bare name the linker takes for an ordinary word; after these words they are meant."""
_WANTED_FEELING = re.compile(
    r"\b(?:want|need|like|love|wanna|makes? me|have a good)(?: to)? (?:(?P<comedy>laugh)|(?P<drama>cry)|(?P<horror>be scared))\b",
    re.IGNORECASE,
)
_CHILDREN = re.compile(
    r"\b(?:my|our|the) (?:\w+ )?(?:kids?|children|sons?|daughters?|grandchildren|grandkids|nephews?|nieces?|toddlers?)\b"
    r"(?! (?:\w+ )?(?:died|dead|dying|passed|left|ill|sick))",
    re.IGNORECASE,
)
"""Who watches with a seeker wants a family film."""
_MOOD = re.compile(
    r"\b(?:something|anything|nothing|(?:movies?|films?|ones?|flicks?)(?: that(?:'s| is| are))?|make it|want it|a|an|some|any|no|more"
    r"|be)\s+(?:(?:really|very|quite|bit|pretty|too|more|to|that|is|a)\s+)*(?:"
    + "|".join(f"(?P<{genre}>{words})" for genre, words in _MOODS.items())
    + r")(?![\w-])",
    re.IGNORECASE,
)

_NATIONALITIES = {
    "american": "united states", "british": "united kingdom", "english": "united kingdom", "french": "france",
    "german": "germany", "italian": "italy", "spanish": "spain", "japanese": "japan", "korean": "south korea",
    "chinese": "china", "indian": "india", "canadian": "canada", "australian": "australia", "mexican": "mexico",
    "swedish": "sweden", "danish": "denmark", "norwegian": "norway", "russian": "russia", "polish": "poland",
    "uk": "united kingdom", "britain": "united kingdom", "england": "united kingdom", "usa": "united states",
    "america": "united states", "irish": "ireland", "brazilian": "brazil", "argentinian": "argentina", "dutch": "netherlands", "belgian": "belgium",
    "austrian": "austria", "iranian": "iran", "turkish": "turkey", "finnish": "finland",
}  # fmt: skip
_COUNTRY_NAMES = {"united states": ("usa", "us", "united states of america", "america"), "united kingdom": ("uk", "great britain")}  # fmt: skip
_THE_US = re.compile(r"\bthe (?:US|U\.S\.|States)(?!\w)")
_NATIONALITY = re.compile(r"\b(" + "|".join(_NATIONALITIES) + r")\b", re.IGNORECASE)


def polarity(text: str, place: int) -> int:
    """Whether what stands at a place of a text is spoken well of (1), badly (-1), or neither (0).

    The cue is that of its part of the sentence; in a list ("no horror, romance or war films") that of the parts before.
    """
    return next((sign for end, sign in _signs(text) if place < end), 0)


def praises(text: str) -> bool:
    """Whether a text has words of liking, so that what it names is spoken well of and not asked for."""
    return bool(_LIKING.search(text))


def overall_polarity(text: str) -> int:
    """Whether a text speaks well (1) or badly (-1) of what it refers to, by its last part that does either; else 0."""
    return next((sign for _, sign in reversed(_signs(text)) if sign), 0)


def _signs(text: str) -> list[tuple[int, int]]:
    """(end, sign) of each part of a text."""
    text = text.replace("’", "'")
    begin, sign, signs = 0, 0, []
    text = _OPENING_NO.sub(lambda match: " " * len(match[0]), text)
    for end, separator in [*((m.start(), m[0]) for m in _SEPARATOR.finditer(text)), (len(text), "")]:
        part = text[begin:end]
        cue = _cue(part) or int(bool(begin and _FRESH.match(part)))
        sign = cue or (sign if len(part.split()) <= 5 else 0)
        begin = end + len(separator)
        signs.append((begin, sign))
        if separator != ",":
            sign = 0
    return signs


def _cue(part: str) -> int:
    if _ANSWER.fullmatch(part):
        return 0
    cleaned = _HARMLESS.sub(
        " good " if re.search("mind|enough of|tired of|not bad|why not|nothing but", part) else " ", part
    )
    if _NEGATIVE.search(cleaned):
        return -1
    return 1 if _LIKING.search(cleaned) or _ASKING.search(cleaned) else 0


def read_wishes(
    text: str,
    links: Sequence[Link],
    graph: KnowledgeGraph,
    film: int | None = None,
    feelings: Mapping[int, int] | None = None,
) -> tuple[Wish, ...]:
    """The wishes of a seeker's turn, in its order.

    Args:
      text: the turn, without its questions about films.
      links: its linked entities.
      graph: their graph.
      film: the film under discussion, which "newer" compares with.
      feelings: entity -> 1 liked, -1 disliked, where the words around it do not say.
    """
    plain = text.replace("’", "'")
    found: list[tuple[int, Wish]] = []
    entities = [(link.start, link.entity) for link in links if graph.kinds[link.entity] in WISHED_KINDS]
    linked = [(link.start, link.end) for link in links]
    unlinked = _without(plain, linked)
    entities += named_origins(unlinked, graph)
    entities += named_moods(unlinked, graph)
    ends = {link.start: link.end for link in links}
    behind: list[tuple[int, str]] = []
    for start, entity in entities:
        kind = str(graph.kinds[entity])
        either = any(k == kind and _OR.fullmatch(plain, end, start) for end, k in behind)
        behind.append((ends.get(start, start), kind))
        sign = polarity(plain, start) or (feelings or {}).get(entity, 0)
        part = _part(plain, start)
        asked = len(plain.split()) <= 6 or _PLEASE.search(plain) or ActName.REQUEST in explicit_acts(part)
        if sign or (asked and not _HARMLESS.search(part)):
            firm = sign < 0 or not _TASTE.search(part)
            found.append((start, Wish(sign >= 0, entity, firm=firm, either=either and sign >= 0)))
    if not re.search(r"\bhow old\b|\bis (?:it|that|this)\b", plain, re.IGNORECASE):
        found += [
            (start, Wish(polarity(plain, start) >= 0, years=years))
            for start, years in year_spans(_without(plain, linked), graph, film)
        ]
    return tuple(wish for _, wish in sorted(found, key=lambda pair: pair[0]))


_OR = re.compile(
    r"(?:s|films?|movies?| )*,? or (?:maybe |even )?(?:an? |some |something (?:with|by|from) |with |by |from )?",
    re.IGNORECASE,
)
"""What joins two alternatives."""
_SAME = re.compile(
    r"\b(?:same|this|that) (director|actor|actress|star|writer|genre|kind|country|language|studio|composer)\b",
    re.IGNORECASE,
)
_OF_TITLE = re.compile(
    r"\b(?:(?:by|from|with|of) the|starring the|(?:the )?same) (director|actor|actress|star|writer|composer)s? (?:of|from|in|as(?: in)?|who made) ",
    re.IGNORECASE,
)
"""Words before a title that refer to a person of that film."""
_SAME_ATTRIBUTE = {
    "director": Attribute.DIRECTOR, "actor": Attribute.CAST, "actress": Attribute.CAST, "star": Attribute.CAST,
    "writer": Attribute.WRITER, "genre": Attribute.GENRE, "kind": Attribute.GENRE, "country": Attribute.COUNTRY,
    "language": Attribute.LANGUAGE, "studio": Attribute.COMPANY, "composer": Attribute.COMPOSER,
}  # fmt: skip
_OF_PERSON = re.compile(
    r"\b(?:by|with|of|from|starring) (?:him|her|them)\b|\b(?:his|her|their) (?:other |best |newer |older )?(?:films|movies|work)\b"
    r"|\bwhat (?:else|other (?:films|movies)) (?:did|has|have|does|is) (?:he|she|they)\b",
    re.IGNORECASE,
)


def referred_wishes(
    text: str, links: Sequence[Link], graph: KnowledgeGraph, film: int | None, person: int | None
) -> tuple[Wish, ...]:
    """Wishes that refer to a film or to what was said before: "by the director of Heat", "another one with him".

    Args:
      text: the turn.
      links: its linked entities.
      graph: the graph.
      film: the film under discussion.
      person: the person spoken of last.
    """
    found = []
    titles = {link.start: link.entity for link in links if graph.kinds[link.entity] == "film"}
    for match in (*_OF_TITLE.finditer(text), *_SAME.finditer(text)):
        about = titles.get(match.end(), film if match.re is _SAME else None)
        if about is None:
            continue
        attribute = _SAME_ATTRIBUTE[match[1].lower()]
        said_of_it = re.search(r"\b(?:who|what)\b[^.?!]*$", text[: match.start()], re.IGNORECASE)
        entities = attribute_entities(graph, about, attribute)
        if entities and not said_of_it:
            found.append(Wish(True, person if person in entities else entities[0]))
    if person is not None and _OF_PERSON.search(text):
        found.append(Wish(True, person))
    return tuple(dict.fromkeys(found))


def withdrawn(text: str, links: Sequence[Link], graph: KnowledgeGraph, wishes: Sequence[Wish]) -> tuple[Wish, ...]:
    """Those of the wishes so far that a turn takes back ("any year is fine", "horror is OK", "whatever")."""
    plain = text.replace("’", "'")
    if not _WITHDRAWN.search(plain):
        return ()
    if _ANYTHING.search(plain) and not re.search(
        r"\banything (?:but|except|else|like|with|from|by|similar)\b", plain, re.I
    ):
        return tuple(wish for wish in wishes if wish.wanted)
    about = {form for link in links for form in forms(graph, link.entity)}
    return tuple(
        wish
        for wish in wishes
        if (wish.years and _YEAR_WORDS.search(plain))
        or (wish.entity is not None and about & forms(graph, wish.entity))
        or (wish.entity is not None and graph.kinds[wish.entity] == "genre" and re.search(r"\bany (?:genre|kind)\b", plain, re.I))
    )  # fmt: skip


def _part(text: str, place: int) -> str:
    begins = [m.end() for m in _SEPARATOR.finditer(text) if m.end() <= place]
    ends = [m.start() for m in _SEPARATOR.finditer(text) if m.start() >= place]
    return text[begins[-1] if begins else 0 : ends[0] if ends else len(text)]


def _without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text with spaces in place of the spans, so that "1984" of a title is no year."""
    for start, end in spans:
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def year_spans(text: str, graph: KnowledgeGraph, film: int | None) -> list[tuple[int, tuple[int, int]]]:
    """Spans of years that a text speaks of: (place, (first year, last year)), in its order.

    Spans that "or" or "and" join are one ("the eighties or nineties"). "New" and "old" are the newest and the oldest
    third of the graph's films, "newer" and "older" compare with the film; they count where no years are named.
    """
    found: list[tuple[int, int, tuple[int, int]]] = []
    for pattern, span_of in _NAMED_YEARS:
        for match in pattern.finditer(text):
            if not any(match.start() < end and start < match.end() for start, end, _ in found):
                found.append((match.start(), match.end(), span_of(match)))
    spans: list[tuple[int, tuple[int, int]]] = []
    before = None
    for start, end, (first, last) in sorted(found):
        if before is not None and _JOINED_YEARS.fullmatch(text, before, start):
            place, (low, high) = spans.pop()
            spans.append((place, (min(low, first), max(high, last))))
        else:
            spans.append((start, (first, last)))
        before = end
    if spans:
        return spans
    year = int(graph.years[film]) if film is not None else 0
    oldest, newest = _thirds(graph)
    for pattern, span in (
        (_NEWER, (year + 1 if year else newest, _LAST_YEAR)),
        (_OLDER, (_FIRST_YEAR, year - 1 if year else oldest)),
        (_NEW, (newest, _LAST_YEAR)),
        (_OLD, (_FIRST_YEAR, oldest)),
    ):
        if match := pattern.search(text):
            return [(match.start(), span)]
    return []


def _between(match: re.Match[str]) -> tuple[int, int]:
    return int(match[1]), int(match[2])


def _side(match: re.Match[str]) -> tuple[int, int]:
    side, year = match[1].lower(), int(match[2])
    if side in ("before", "older than", "until", "up to"):
        return _FIRST_YEAR, year - (side in ("before", "older than"))
    return year + (side != "since"), _LAST_YEAR


def _decade(match: re.Match[str]) -> tuple[int, int]:
    if match[4]:
        first = _DECADE_WORDS[match[4].lower()]
    else:
        tens = int(match[3])
        first = int(match[2] or (19 if tens >= 30 else 20)) * 100 + tens
    low, high = {"early": (0, 4), "mid": (3, 7), "late": (5, 9)}.get((match[1] or "").lower(), (0, 9))
    return first + low, first + high


def _exact(match: re.Match[str]) -> tuple[int, int]:
    years = int(match[1]), int(match[2] or match[1])
    return min(years), max(years)


_NAMED_YEARS = ((_BETWEEN, _between), (_SIDE, _side), (_DECADE, _decade), (_EXACT, _exact))
"""How years are named, and the first and the last year that a match means; a match counts before those of later ones."""
_JOINED_YEARS = re.compile(r"\s*,?\s*(?:or|and|/|-|to)\s+(?:maybe |even )?(?:from |in )?(?:the )?", re.IGNORECASE)


@lru_cache(maxsize=8)
def _thirds(graph: KnowledgeGraph) -> tuple[int, int]:
    years = graph.years[graph.items]
    known = years[years > 0]
    if not known.size:
        return _LAST_YEAR, _FIRST_YEAR
    return int(np.quantile(known, 1 / 3)), int(np.quantile(known, 2 / 3))


@lru_cache(maxsize=1 << 12)
def forms(graph: KnowledgeGraph, entity: int) -> frozenset[str]:
    """The normalised names by which an entity is the same as another one: "Horror_film" and "Horror_fiction"."""
    return frozenset(genre_forms(graph.uris[entity]) or {normalise(spoken_name(graph, entity))})


@lru_cache(maxsize=8)
def _countries(graph: KnowledgeGraph) -> dict[str, int]:
    of_kind = [e for e, kind in enumerate(graph.kinds.tolist()) if kind in ("country", "place")]
    of_kind.sort(key=lambda entity: int(graph.degrees[entity]))  # the best-connected of a name is written last
    return {normalise(spoken_name(graph, entity)): entity for entity in of_kind}


def named_country(graph: KnowledgeGraph, nationality: str) -> int | None:
    """The country of a nationality or of a name, "French" -> France; None where the graph does not have it."""
    name = _NATIONALITIES.get(nationality.lower(), normalise(nationality))
    return next((_countries(graph)[n] for n in (name, *_COUNTRY_NAMES.get(name, ())) if n in _countries(graph)), None)


@lru_cache(maxsize=1 << 10)
def _films_with(graph: KnowledgeGraph, entity: int) -> frozenset[int]:
    """The films that have an entity, or one of the same name, in any relation."""
    kind, names = graph.kinds[entity], forms(graph, entity)
    same = {entity}
    if kind in ("genre", "country", "language"):
        others = np.flatnonzero(graph.kinds == kind).tolist()
        same |= {other for other in others if forms(graph, other) & names}
    films = {int(film) for one in same for film in graph.neighbours(one)}
    return frozenset(films)


def films_that_fit(graph: KnowledgeGraph, wish: Wish, films: np.ndarray) -> np.ndarray:
    """Which films are as a wish says: bool [N] for int [N] entity ids.

    A film of which the graph does not know the year fits neither a wanted nor an unwanted span.
    """
    if wish.entity is not None:
        having = np.isin(films, list(_films_with(graph, wish.entity)))
        return having if wish.wanted else ~having
    first, last = wish.years or (_FIRST_YEAR, _LAST_YEAR)
    years = graph.years[films]
    inside = (years >= first) & (years <= last)
    return inside if wish.wanted else ~inside & (years > 0)


@lru_cache(maxsize=8)
def _languages(graph: KnowledgeGraph) -> dict[str, int]:
    return {normalise(spoken_name(graph, e)): e for e in np.flatnonzero(graph.kinds == "language").tolist()}


@lru_cache(maxsize=8)
def _film_genres(graph: KnowledgeGraph) -> dict[str, int]:
    """The entity of each genre's name, the best-connected one."""
    of_kind = [e for e in np.flatnonzero(graph.kinds == "genre").tolist() if genre_forms(graph.uris[e])]
    of_kind.sort(key=lambda entity: int(graph.degrees[entity]))
    return {spoken_name(graph, entity): entity for entity in of_kind}


def named_moods(text: str, graph: KnowledgeGraph) -> list[tuple[int, int]]:
    """Genres that are meant without "film" or their name: (place, entity) of "something funny" and "I hate crime"."""
    genres = _film_genres(graph)
    found = [(m.start(1), genres[m[1].lower()]) for m in _ALONE.finditer(text) if m[1].lower() in genres]
    for match in (*_MOOD.finditer(text), *_WANTED_FEELING.finditer(text)):
        entity = genres.get(match.lastgroup or "")
        if entity is not None:
            found.append((match.start(), entity))
    if (match := _CHILDREN.search(text)) and "family" in genres:
        found.append((match.start(), genres["family"]))
    return found


def named_origins(text: str, graph: KnowledgeGraph) -> list[tuple[int, int]]:
    """Countries and languages that adjectives name: (place, entity) of "a French film" and of "in French"."""
    found = []
    usa = named_country(graph, "usa")
    found += [(match.start(), usa) for match in _THE_US.finditer(text) if usa is not None]
    for match in _NATIONALITY.finditer(text):
        in_language = re.search(r"\b(?:in|speak|spoken|language is) $", text[: match.start()], re.IGNORECASE)
        of_language = re.match(r"[- ](?:language|speaking|subtitles)\b", text[match.end() :], re.IGNORECASE)
        if in_language or of_language:
            entity = _languages(graph).get(match[1].lower())
        else:
            entity = named_country(graph, match[1])
        if entity is not None:
            found.append((match.start(), entity))
    return found


def about_the_same(graph: KnowledgeGraph, one: Wish, other: Wish) -> bool:
    """Whether two wishes are about the same thing, so that the later one counts alone."""
    if one.entity is None or other.entity is None:
        return one.entity is other.entity
    return bool(forms(graph, one.entity) & forms(graph, other.entity)) and graph.kinds[one.entity] == graph.kinds[other.entity]  # fmt: skip
