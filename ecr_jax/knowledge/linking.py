"""Entity linking: new text -> the graph's entities that it mentions, with exact character spans.

One pass of an Aho-Corasick automaton over the folded words finds every known spelling. What is written like a title or
a name and has no match is then compared, within small blocks of candidates, by edit distance.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import ahocorasick
from rapidfuzz import process
from rapidfuzz.distance import OSA

from ecr_jax.knowledge.common_words import FUNCTION, PHRASES, ordinary
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.naming import GENRE_WORDS, genre_forms, genre_rank, normalise, words

_MIN_SIMILARITY = 0.85
"""Least normalised edit similarity of a misspelt name to the name."""

_YEAR_BEHIND = re.compile(r"\s*[(\[]\s*((?:18|19|20)\d\d)\s*[)\]]")
_BARE_YEAR_BEHIND = re.compile(r",?\s+((?:19|20)\d\d)\b")
_QUOTED = re.compile(r"\"([^\"\n]{2,80})\"|“([^”\n]{2,80})”|(?<!\w)'([^'\n]{2,80})'(?!\w)|\*([^*\n]{2,80})\*")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n)\"“”*]|\.\.)\s*$")
_SMALL = frozenset("a an and at by for from in of on or the to vs with".split())
_HUB_DEGREE = 500  # a common neighbour with so many triples ("United States") does not make two films related
_MAX_TITLE_WORDS = 8  # of a misspelt title before its year
_MIN_LOWER_CASE_LETTERS = 5  # of a one-word title that is recognised in lower case
_MIN_SINGLE_NAME_DEGREE = 10  # of a person who is recognised by one name
_CUE = re.compile(
    r"(?:see|seen|saw|watch|watched|watching|rewatch|love|loved|like|liked|enjoyed|hated|called|named|titled"
    r"|recommend|suggest|about|try|tried)\s+$",
    re.IGNORECASE,
)
# Entities that are not films but have a film's name; in talk about films they are rarely meant.
_NOT_A_FILM = re.compile(
    r"(?:series|season|_\d+|soundtrack|song|album|novel|book|comics?|game|play|musical|wrestler|EP|episode)[^(]*\)>?$"
)


@dataclass(frozen=True)
class Link:
    """A linked mention: the half-open span of characters (with a film's "(1994)"), the entity, and a confidence.

    `score` is the similarity of what is written to the entity's name, divided by the number of entities between which
    only their prominence decided.
    """

    start: int
    end: int
    entity: int
    score: float


@dataclass(frozen=True)
class _Span:
    """A span of the text and the entities that it may refer to."""

    start: int
    end: int
    length: int  # in folded characters; longer spans are linked first
    candidates: tuple[int, ...]  # empty: the span is blocked, so that nothing is linked inside it
    similarity: float = 1.0


class EntityLinker:
    """Links mentions in text to the entities of a graph.

    Args:
      graph: the linker looks for its aliases.
      popularity: [N] how often each entity is mentioned (e.g. in a train split), to resolve names that neither the year
        nor the context resolves; where it is equal or None, the number of triples decides.
    """

    def __init__(self, graph: KnowledgeGraph, popularity: Sequence[float] | None = None):
        if popularity is not None and len(popularity) != len(graph):
            raise ValueError(f"popularity has {len(popularity)} values for {len(graph)} entities; give one for each")
        self._graph = graph
        self._items = frozenset(graph.items.tolist())
        self._film = [kind in ("film", "work") for kind in graph.kinds.tolist()]
        self._person = [kind == "person" for kind in graph.kinds.tolist()]
        self._degree = graph.degrees.tolist()
        self._popularity = [0.0] * len(graph) if popularity is None else [float(value) for value in popularity]
        genres = (entity for entity, kind in enumerate(graph.kinds.tolist()) if kind == "genre")
        self._genre = {entity: genre_rank(graph.uris[entity]) for entity in genres if genre_forms(graph.uris[entity])}
        by_text: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for alias in graph.aliases:
            by_text[alias.text].append((alias.entity, alias.year))
        self._entries = by_text
        self._automaton = ahocorasick.Automaton(ahocorasick.STORE_INTS)
        self._texts = list(by_text)
        for number, text in enumerate(self._texts):
            self._automaton.add_word(f" {text} ", number)
        self._automaton.make_automaton()
        self._by_year: dict[int, list[str]] = defaultdict(list)
        self._blocks: dict[tuple[str, int], list[str]] = defaultdict(list)
        for text, entries in by_text.items():
            for year in {year for entity, year in entries if self._film[entity]}:
                self._by_year[year].append(text)
            if len(text) >= 6 and any(self._film[entity] or self._person[entity] for entity, _ in entries):
                self._blocks[text[0], len(text)].append(text)
        self._name = lru_cache(maxsize=1 << 16)(lambda entity: normalise(graph.names[entity]))
        self._near = lru_cache(maxsize=4096)(lambda entity: frozenset(graph.neighbours(entity).tolist()))

    def link(self, text: str, context: Iterable[int] = ()) -> list[Link]:
        """Links a text.

        Args:
          text: any Unicode text.
          context: ids of entities mentioned before; they help to choose between films of the same title.

        Returns:
          Links sorted by start, not overlapping.
        """
        tokens = words(text)
        if not tokens:
            return []
        dated, plain, blocked = self._exact(text, tokens)
        used = bytearray(len(text))
        spans = _longest_free(dated, used)
        for title, last, year in _titles_before_years(text, tokens, used):
            spans += _longest_free(self._misspelt_before_year(tokens, last, year, title.end) or [title], used)
        for candidates in (blocked, plain):
            spans += _longest_free(candidates, used)
        spans += _longest_free(self._misspelt(text, tokens, used), used)
        spans = [span for span in spans if span.candidates]
        known = {span.candidates[0] for span in spans if len(span.candidates) == 1}
        known.update(entity for entity in context if 0 <= entity < len(self._graph))
        links = []
        for span in spans:
            entity, ties = self._disambiguate(span.candidates, known)
            links.append(Link(span.start, span.end, entity, span.similarity / ties))
        return sorted(links, key=lambda link: link.start)

    def _exact(self, text: str, tokens: list[tuple[str, int, int]]) -> tuple[list[_Span], list[_Span], list[_Span]]:
        """Every known spelling: titles with their year, plausible names, and titles with the year of no known film."""
        padded, first_at, last_at = [" "], {}, {}
        position = 1
        for number, (word, _, _) in enumerate(tokens):
            first_at[position] = number
            position += len(word)
            last_at[position] = number
            padded += [word, " "]
            position += 1
        quoted = list(_quoted_spans(text))
        dated, plain, blocked = [], [], []
        for end, number in self._automaton.iter("".join(padded)):
            alias = self._texts[number]
            first, last = first_at[end - len(alias)], last_at[end]
            start, stop = tokens[first][1], tokens[last][2]
            entries = self._entries[alias]
            year = _YEAR_BEHIND.match(text, stop)
            bare = None if year else _BARE_YEAR_BEHIND.match(text, stop)
            if year and any(self._film[entity] for entity, _ in entries):
                candidates = self._of_year(entries, int(year[1]))
                span = _Span(start, year.end(), len(alias), self._prefer_own_name(candidates, alias))
                (dated if candidates else blocked).append(span)
                continue
            if bare and (candidates := self._of_year(entries, int(bare[1]), exactly=True)):
                plain.append(_Span(start, bare.end(), len(alias) + 5, candidates))
            quoted_title = any(abs(start - a) < 2 and abs(stop - b) < 2 for a, b in quoted)
            capitalised = _written_as_name(text, tokens, first, last) and (
                alias not in PHRASES or text[start].isupper()
            )
            cued = bool(_CUE.search(text, max(0, start - 20), start))
            plausible = {e for e, _ in entries if self._plausible(e, alias, quoted_title, capitalised, cued)}
            candidates = tuple(sorted(plausible))
            if candidates:
                plain.append(_Span(start, stop, len(alias), self._prefer_own_name(candidates, alias)))
        return dated, plain, blocked

    def _prefer_own_name(self, candidates: tuple[int, ...], alias: str) -> tuple[int, ...]:
        """The candidates whose name is exactly this ("It", not "I.T."); all where there is none, or for a genre."""
        if any(entity in self._genre for entity in candidates):
            return candidates
        return tuple(entity for entity in candidates if self._name(entity) == alias) or candidates

    def _of_year(self, entries: list[tuple[int, int]], year: int, exactly: bool = False) -> tuple[int, ...]:
        """Films of that year; else of the year before or after it (sources differ); else those of an unknown year."""
        entries = [entry for entry in entries if self._film[entry[0]]]
        for wanted in ((year,),) if exactly else ((year,), (year - 1, year + 1), (0,)):
            if films := {entity for entity, own_year in entries if own_year in wanted}:
                return tuple(sorted(films))
        return ()

    def _plausible(self, entity: int, alias: str, quoted: bool, capitalised: bool, cued: bool) -> bool:
        """Whether the words, as they are written here, may refer to this entity rather than be ordinary words.

        Args:
          entity: its id.
          alias: the folded words.
          quoted: they are in quotes.
          capitalised: they have a name's capitals.
          cued: they follow a word like "seen".
        """
        if entity in self._genre:
            return True
        parts = alias.split()
        everyday = all(map(ordinary, parts))
        if self._film[entity]:
            if quoted or capitalised:
                return True
            # In lower case, a single word must not be an everyday one, and of several everyday words two must carry
            # content. After a word like "seen", a complete title with one content word is enough.
            content_words = sum(part not in FUNCTION and part not in _SMALL for part in parts)
            whole = alias in (self._name(entity), self._name(entity).replace(" ", ""))
            if alias in PHRASES or alias in GENRE_WORDS:
                return False
            if cued and whole and content_words and entity in self._items:
                return True
            if everyday:
                return content_words > 1
            return len(parts) > 1 or (whole and len(alias) >= _MIN_LOWER_CASE_LETTERS)
        if len(parts) == 1:
            known = not self._person[entity] or self._degree[entity] >= _MIN_SINGLE_NAME_DEGREE
            return capitalised and not everyday and known and len(alias) > 2
        return capitalised or not everyday

    def _disambiguate(self, candidates: Sequence[int], known: set[int]) -> tuple[int, int]:
        """A genre if there is one; else the entity most related to the known ones; else the most prominent one.

        Returns:
          The entity, and the number of candidates between which only prominence decided.
        """
        candidates = [entity for entity in candidates if entity in self._genre] or candidates
        if len(candidates) == 1 or candidates[0] in self._genre:
            return min(candidates, key=self._prominence), 1
        relatedness = {entity: self._relatedness(entity, known) for entity in candidates}
        highest = max(relatedness.values())
        tied = [entity for entity in candidates if relatedness[entity] == highest]
        return min(tied, key=self._prominence), len(tied)

    def _prominence(self, entity: int) -> tuple[float, ...]:
        """A sort key that puts the entity that is more likely meant, all else being equal, first."""
        return (
            self._genre.get(entity, 0),
            -self._popularity[entity],
            entity not in self._items,
            bool(_NOT_A_FILM.search(self._graph.uris[entity])),
            -self._degree[entity],
            entity,
        )

    def _relatedness(self, entity: int, known: set[int]) -> int:
        """Edges to the known entities, counted twice, and common neighbours that are not hubs."""
        near = self._near(entity)
        return sum(
            2 * (other in near) + sum(self._degree[n] < _HUB_DEGREE for n in near & self._near(other))
            for other in known
            if other != entity
        )

    def _misspelt(self, text: str, tokens: list[tuple[str, int, int]], used: bytearray) -> list[_Span]:
        """Matches by edit distance for what is quoted or capitalised like a name and is not linked yet."""
        covered = [any(used[start:end]) for _, start, end in tokens]
        spans = []
        for start, stop in _quoted_spans(text):
            inside = [number for number, token in enumerate(tokens) if start <= token[1] and token[2] <= stop]
            if inside and not any(covered[number] for number in inside):
                spans += self._nearest(tokens[inside[0] : inside[-1] + 1])
        for first, last in _capitalised_runs(text, tokens, covered):
            spans += self._nearest(tokens[first : last + 1])
        return spans

    def _misspelt_before_year(self, tokens: list[tuple[str, int, int]], last: int, year: int, end: int) -> list[_Span]:
        """The film of that year that is most similar to the words that end with the token `last`.

        Up to `_MAX_TITLE_WORDS` words are compared; `end` is the end of the span, behind the year.
        """
        titles = [name for near in (year, year - 1, year + 1, 0) for name in self._by_year.get(near, ())]
        best: tuple[float, int, int, str] | None = None
        for first in range(last, max(-1, last - _MAX_TITLE_WORDS), -1):
            written = " ".join(token[0] for token in tokens[first : last + 1])
            if len(written) < 4:
                continue
            # The year supports the match, so that one wrong letter is allowed even in a short title.
            cutoff = min(_MIN_SIMILARITY, 1 - 1 / len(written)) - 1e-6
            match = process.extractOne(written, titles, scorer=OSA.normalized_similarity, score_cutoff=cutoff)
            if not match or _numbers(match[0]) != _numbers(written):
                continue
            if best is None or (match[1], len(written)) > best[:2]:
                best = (match[1], len(written), first, match[0])
        if best is None:
            return []
        return [_Span(tokens[best[2]][1], end, best[1], self._of_year(self._entries[best[3]], year), best[0])]

    def _nearest(self, part: list[tuple[str, int, int]]) -> list[_Span]:
        """The film or person whose name is most similar to these words as a whole."""
        written = " ".join(token[0] for token in part)
        content = [token[0] for token in part if token[0] not in _SMALL]
        # One wrong letter in a short word makes another word; in a long one it is a misspelling.
        if sum(map(len, content)) < (8 if len(part) == 1 else 7) or all(map(ordinary, content)):
            return []
        slack = max(1, int(len(written) * (1 - _MIN_SIMILARITY)))
        near = [
            text
            for length in range(len(written) - slack, len(written) + slack + 1)
            for text in self._blocks.get((written[0], length), ())
        ]
        cutoff = 1 - 1 / len(written) - 1e-6 if len(part) == 1 else _MIN_SIMILARITY
        match = process.extractOne(written, near, scorer=OSA.normalized_similarity, score_cutoff=cutoff)
        if not match or _numbers(written) != _numbers(match[0]):
            return []
        candidates = {entity for entity, _ in self._entries[match[0]] if self._film[entity] or self._person[entity]}
        return [_Span(part[0][1], part[-1][2], len(written), tuple(sorted(candidates)), match[1])]


def _quoted_spans(text: str) -> Iterator[tuple[int, int]]:
    """The spans inside quotation marks or asterisks."""
    for match in _QUOTED.finditer(text):
        yield match.span(match.lastindex or 0)


def _titles_before_years(
    text: str, tokens: list[tuple[str, int, int]], used: bytearray
) -> list[tuple[_Span, int, int]]:
    """What looks like a title before each year in brackets that is not linked yet: (span, its last token, year)."""
    spans = []
    for number, (_, _, stop) in enumerate(tokens):
        year = _YEAR_BEHIND.match(text, stop)
        if not year or any(used[stop : year.end()]):
            continue
        first = number
        for before in range(number - 1, max(-1, number - 2 * _MAX_TITLE_WORDS), -1):
            if any(used[tokens[before][1] : tokens[before][2]]):
                break
            gap = text[tokens[before][2] : tokens[before + 1][1]]
            if len(gap) > 3 or any(mark in gap for mark in ".?!,;") and not gap.startswith(", "):
                break
            if _capital(text, tokens, before):
                first = before
            elif tokens[before][0] not in _SMALL:
                break
        spans.append((_Span(tokens[first][1], year.end(), 0, ()), number, int(year[1])))
    return spans


def _longest_free(spans: Iterable[_Span], used: bytearray) -> list[_Span]:
    """The longest spans that overlap neither `used` characters nor each other; marks their characters as used."""
    selected = []
    for span in sorted(spans, key=lambda s: (-s.length, s.start)):
        if not any(used[span.start : span.end]):
            used[span.start : span.end] = b"\1" * (span.end - span.start)
            selected.append(span)
    return selected


def _capital(text: str, tokens: list[tuple[str, int, int]], number: int) -> bool:
    """Whether a word begins with a capital or digit, or is the tail of one that does ("Spider-man", "Child's")."""
    start = tokens[number][1]
    if text[start].isupper() or text[start].isdecimal():
        return True
    joined = number > 0 and start - tokens[number - 1][2] == 1 and text[start - 1] in "'’-"
    return joined and _capital(text, tokens, number - 1)


def _written_as_name(text: str, tokens: list[tuple[str, int, int]], first: int, last: int) -> bool:
    """Whether the words' capitals indicate a name, and the whole of it.

    Every word except small ones must have a capital, and not only because a sentence begins there or the whole text is
    in capitals. A single everyday word must also not be next to other capitalised words, and a function word like "It"
    must follow a word like "seen".
    """
    content = [number for number in range(first, last + 1) if tokens[number][0] not in _SMALL or first == last]
    if not content or not all(_capital(text, tokens, number) for number in content):
        return False
    start, end = tokens[first][1], tokens[last][2]
    written = text[start:end]
    if not any(c.islower() for c in text) or (first == last and len(written) > 1 and written.isupper()):
        return False
    if first < last:
        begins = _SENTENCE_START.search(text[max(0, start - 6) : start])
        return len(content) > 1 or (text[start].isupper() and not begins)
    if not ordinary(tokens[first][0]):
        return True
    if not written[0].isupper():
        return False
    if tokens[first][0] in FUNCTION:
        return bool(_CUE.search(text[:start])) and text[end : end + 1] not in ("'", "’")
    if _SENTENCE_START.search(text[max(0, start - 6) : start]):
        return False
    before = first > 0 and text[tokens[first - 1][1]].isupper() and text[tokens[first - 1][2] : start].isspace()
    after = last + 1 < len(tokens) and text[tokens[last + 1][1]].isupper() and text[end : tokens[last + 1][1]].isspace()
    return not before and not after


def _capitalised_runs(text: str, tokens: list[tuple[str, int, int]], covered: list[bool]) -> list[tuple[int, int]]:
    """(first, last) of runs of capitalised words with small words between them; single words only mid-sentence."""
    runs, number = [], 0
    if not any(c.islower() for c in text):
        return runs

    def capital(i: int) -> bool:
        return not covered[i] and text[tokens[i][1]].isupper()

    def joined(i: int) -> bool:
        return bool(re.fullmatch(r"[\s'’\-:&.,]{1,3}", text[tokens[i - 1][2] : tokens[i][1]]))

    while number < len(tokens):
        if not capital(number):
            number += 1
            continue
        last = number
        while last + 1 < len(tokens) and joined(last + 1):
            if capital(last + 1) or (not covered[last + 1] and tokens[last + 1][0].isdecimal()):
                last += 1
            elif tokens[last + 1][0] in _SMALL and last + 2 < len(tokens) and joined(last + 2) and capital(last + 2):
                last += 2
            else:
                break
        start = tokens[number][1]
        begins = bool(_SENTENCE_START.search(text[max(0, start - 6) : start]))
        if last > number or not begins:
            runs.append((number, last))
        if begins and last > number + 1 and ordinary(tokens[number][0]):
            runs.append((number + 1, last))
        number = last + 1
    return runs


def _numbers(text: str) -> list[str]:
    """What distinguishes sequels: figures and Roman numerals."""
    return [part for part in text.split() if part.isdecimal() or re.fullmatch(r"[ivx]{2,}", part)]
