"""New text -> the graph's entities that it speaks of, with exact character spans.

One pass of an Aho-Corasick automaton over the folded words finds every known spelling; what is written like a title
or a name and found no match is then compared, within small blocks of candidates, by edit distance.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import ahocorasick
from rapidfuzz import process
from rapidfuzz.distance import OSA

from ecr_jax.knowledge.common_words import COMMON
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.naming import genre_forms, normalise, words

_SIMILAR = 0.85
"""Least share of letters that a misspelling keeps."""

_YEAR_BEHIND = re.compile(r"\s*[(\[]\s*((?:18|19|20)\d\d)\s*[)\]]")
_BARE_YEAR_BEHIND = re.compile(r",?\s+((?:19|20)\d\d)\b")
_QUOTED = re.compile(r"\"([^\"\n]{2,80})\"|“([^”\n]{2,80})”|(?<!\w)'([^'\n]{2,80})'(?!\w)|\*([^*\n]{2,80})\*")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n)\"“”*]|\.\.)\s*$")
_SMALL = frozenset("a an and at by for from in of on or the to vs with".split())
_HUB = 500  # neighbours of such an entity ("United States") say nothing of what two films have in common
_LONGEST = 8  # words of a misspelt title before its year


@dataclass(frozen=True)
class Link:
    """An entity at a place: the half-open span of characters, a film's "(1994)" included, and how sure the link is.

    `score` is the similarity of what is written to the entity's name, divided by the number of entities between which
    only their prominence decided.
    """

    start: int
    end: int
    entity: int
    score: float


@dataclass(frozen=True)
class _Span:
    """A place in the text and the entities that it may mean."""

    start: int
    end: int
    length: int  # folded characters, what "longest first" compares
    candidates: tuple[int, ...]
    similarity: float = 1.0
    dated: bool = False


class EntityLinker:
    """Finds a graph's entities in text.

    Args:
      graph: its aliases are what is looked for.
    """

    def __init__(self, graph: KnowledgeGraph):
        self._graph = graph
        self._items = frozenset(graph.items.tolist())
        self._film = [kind in ("film", "work") for kind in graph.kinds.tolist()]
        self._person = [kind == "person" for kind in graph.kinds.tolist()]
        self._degree = graph.degrees.tolist()
        self._genre = {
            entity for entity, kind in enumerate(graph.kinds.tolist()) if kind == "genre" and genre_forms(graph.uris[entity])
        }
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
            for year in {year for entity, year in entries if self._film[entity] and year}:
                self._by_year[year].append(text)
            if len(text) >= 6 and any(self._film[entity] or self._person[entity] for entity, _ in entries):
                self._blocks[text[0], len(text)].append(text)
        self._near = lru_cache(maxsize=4096)(lambda entity: frozenset(graph.neighbours(entity).tolist()))

    def link(self, text: str, context: Iterable[int] = ()) -> list[Link]:
        """Links a text.

        Args:
          text: any Unicode text.
          context: ids of entities spoken of before; they settle what several films of one title leave open.

        Returns:
          Links sorted by start, not overlapping.
        """
        tokens = words(text)
        if not tokens:
            return []
        spans = self._exact(text, tokens)
        taken = _longest(spans)
        taken += _longest(self._misspelt(text, tokens, taken), taken)
        known = {span.candidates[0] for span in taken if len(span.candidates) == 1}
        known.update(entity for entity in context if 0 <= entity < len(self._graph))
        links = []
        for span in taken:
            entity, rivals = self._settle(span.candidates, known)
            links.append(Link(span.start, span.end, entity, span.similarity / rivals))
        return sorted(links, key=lambda link: link.start)

    def _exact(self, text: str, tokens: list[tuple[str, int, int]]) -> list[_Span]:
        """Every known spelling in the text that is plausibly meant as one."""
        padded, first_at, last_at = [" "], {}, {}
        place = 1
        for number, (word, _, _) in enumerate(tokens):
            first_at[place] = number
            place += len(word)
            last_at[place] = number
            padded += [word, " "]
            place += 1
        quoted = [match.span(match.lastindex) for match in _QUOTED.finditer(text)]
        shouted = not any(c.islower() for c in text)
        spans = []
        for end, number in self._automaton.iter("".join(padded)):
            found = self._texts[number]
            first, last = first_at[end - len(found)], last_at[end]
            start, stop = tokens[first][1], tokens[last][2]
            entries = self._entries[found]
            year = _YEAR_BEHIND.match(text, stop)
            if year:
                candidates = _of_year(entries, int(year[1]))
                if candidates:
                    spans.append(_Span(start, year.end(), len(found) + 100, candidates, dated=True))
                if any(self._film[entity] for entity, _ in entries):
                    continue  # a title with another film's year
            bare = _BARE_YEAR_BEHIND.match(text, stop)
            if bare and (candidates := _of_year(entries, int(bare[1]), slack=0)):
                spans.append(_Span(start, bare.end(1), len(found) + 5, candidates, dated=True))
                continue
            as_title = any(a <= start + 1 and stop <= b + 1 and b - a - (stop - start) < 3 for a, b in quoted)
            as_name = not shouted and _title_case(text, tokens, first, last)
            candidates = tuple(
                sorted({entity for entity, _ in entries if self._plausible(entity, found, as_title, as_name)})
            )
            if candidates:
                spans.append(_Span(start, stop, len(found), candidates))
        return spans

    def _plausible(self, entity: int, found: str, as_title: bool, as_name: bool) -> bool:
        """Whether these words, written so, may mean this entity and not just themselves."""
        if entity in self._genre:
            return True
        parts = found.split()
        ordinary = all(part in COMMON or part.isdecimal() or len(part) < 2 for part in parts)
        if self._film[entity]:
            if as_title:
                return True
            if len(parts) == 1:
                whole = found in (normalise(self._graph.names[entity]), self._graph.names[entity].lower())
                return as_name if ordinary or not whole else as_name or len(found) >= 6
            return as_name if ordinary else True
        if len(parts) == 1:
            return as_name and not ordinary and len(found) > 2
        return as_name or not ordinary

    def _settle(self, candidates: tuple[int, ...], known: set[int]) -> tuple[int, int]:
        """The entity most at home among the known ones, then a genre, an item, the one with most triples; and the
        number of candidates that the known ones left equal."""
        if len(candidates) == 1:
            return candidates[0], 1
        shared = {entity: self._shared(entity, known) for entity in candidates}
        most = max(shared.values())
        equal = [entity for entity in candidates if shared[entity] == most]
        best = min(
            equal,
            key=lambda e: (e not in self._genre, e not in self._items, -self._degree[e], e),
        )
        return best, len(equal)

    def _shared(self, entity: int, known: set[int]) -> int:
        near = self._near(entity)
        return sum(
            2 * (other in near) + sum(self._degree[n] < _HUB for n in near & self._near(other))
            for other in known
            if other != entity
        )

    def _misspelt(self, text: str, tokens: list[tuple[str, int, int]], taken: list[_Span]) -> list[_Span]:
        """Near spellings of what is written as a title or a name and was not found."""
        free = [not any(s.start < end and start < s.end for s in taken if s.dated) for _, start, end in tokens]
        spans = []
        for number, (_, _, stop) in enumerate(tokens):
            year = _YEAR_BEHIND.match(text, stop)
            if year and free[number]:
                spans += self._misspelt_before(tokens, number, int(year[1]), year.end(), free)
        covered = [any(s.start < end and start < s.end for s in taken) for _, start, end in tokens]
        for match in _QUOTED.finditer(text):
            start, stop = match.span(match.lastindex)
            inside = [i for i, token in enumerate(tokens) if start <= token[1] and token[2] <= stop]
            if inside and not any(covered[i] for i in inside):
                spans += self._nearest(tokens[inside[0] : inside[-1] + 1])
        for first, last in _capitalised_runs(text, tokens, covered):
            spans += self._nearest(tokens[first : last + 1])
        return spans

    def _misspelt_before(
        self, tokens: list[tuple[str, int, int]], last: int, year: int, end: int, free: list[bool]
    ) -> list[_Span]:
        """The likest title of that year among the up to `_LONGEST` words before the year."""
        titles = [title for near in (year, year - 1, year + 1) for title in self._by_year.get(near, ())]
        best: tuple[float, int, int, str] | None = None
        for first in range(last, max(-1, last - _LONGEST), -1):
            if not free[first]:
                break
            written = " ".join(token[0] for token in tokens[first : last + 1])
            found = process.extractOne(
                written, titles, scorer=OSA.normalized_similarity, score_cutoff=_SIMILAR if len(written) > 3 else 1.0
            )
            if found and (best is None or (found[1], len(written)) > best[:2]):
                best = (found[1], len(written), first, found[0])
        if best is None:
            return []
        candidates = _of_year(self._entries[best[3]], year)
        return [_Span(tokens[best[2]][1], end, best[1] + 100, candidates, best[0], dated=True)] if candidates else []

    def _nearest(self, part: list[tuple[str, int, int]]) -> list[_Span]:
        """The likest film or person for these words, taken as a whole."""
        written = " ".join(token[0] for token in part)
        # One wrong letter in a short word makes another word; in a long one it is a slip.
        if len(written) < (7 if len(part) == 1 else 6) or (len(part) == 1 and written in COMMON):
            return []
        slack = max(1, int(len(written) * (1 - _SIMILAR)))
        near = [
            text
            for length in range(len(written) - slack, len(written) + slack + 1)
            for text in self._blocks.get((written[0], length), ())
        ]
        cutoff = 1 - 1 / len(written) - 1e-6 if len(part) == 1 else _SIMILAR
        found = process.extractOne(written, near, scorer=OSA.normalized_similarity, score_cutoff=cutoff)
        if not found or _numbers(written) != _numbers(found[0]):
            return []
        candidates = tuple(
            sorted({e for e, _ in self._entries[found[0]] if self._film[e] or self._person[e]})
        )
        return [_Span(part[0][1], part[-1][2], len(written), candidates, found[1])]


def _of_year(entries: list[tuple[int, int]], year: int, slack: int = 1) -> tuple[int, ...]:
    """Entities whose year is this one; else, within `slack` years, the nearest."""
    for distance in range(slack + 1):
        found = {entity for entity, own in entries if own and abs(own - year) == distance}
        if found:
            return tuple(sorted(found))
    return ()


def _longest(spans: Iterable[_Span], taken: Iterable[_Span] = ()) -> list[_Span]:
    """The spans that do not overlap `taken` nor each other, the longest first, then the one that starts first."""
    kept: list[_Span] = []
    used = [(span.start, span.end) for span in taken]
    for span in sorted(spans, key=lambda s: (-s.length, s.start)):
        if all(span.end <= start or end <= span.start for start, end in used):
            used.append((span.start, span.end))
            kept.append(span)
    return kept


def _title_case(text: str, tokens: list[tuple[str, int, int]], first: int, last: int) -> bool:
    """Whether every word but small ones begins with a capital or digit, for another reason than a sentence's start."""
    bearing = [number for number in range(first, last + 1) if tokens[number][0] not in _SMALL or first == last]
    if not all(text[tokens[number][1]].isupper() or text[tokens[number][1]].isdecimal() for number in bearing):
        return False
    capitals = [number for number in bearing if text[tokens[number][1]].isupper()]
    if not capitals:
        return False
    if len(capitals) > 1 or not _SENTENCE_START.search(text[max(0, tokens[capitals[0]][1] - 6) : tokens[capitals[0]][1]]):
        return True
    return last > first and text[tokens[first][1]].isupper() and len(bearing) > 1


def _capitalised_runs(
    text: str, tokens: list[tuple[str, int, int]], covered: list[bool]
) -> list[tuple[int, int]]:
    """(first, last) of runs of capitalised words, small words between them allowed; single ones only mid-sentence."""
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
            elif (
                tokens[last + 1][0] in _SMALL and last + 2 < len(tokens) and joined(last + 2) and capital(last + 2)
            ):
                last += 2
            else:
                break
        start = tokens[number][1]
        begins = bool(_SENTENCE_START.search(text[max(0, start - 6) : start]))
        if last > number or not begins:
            runs.append((number, last))
        if begins and last > number + 1 and tokens[number][0] in COMMON:
            runs.append((number + 1, last))
        number = last + 1
    return runs


def _numbers(text: str) -> list[str]:
    """What tells sequels apart: figures and Roman numerals."""
    return [part for part in text.split() if part.isdecimal() or re.fullmatch(r"[ivx]{2,}", part)]
