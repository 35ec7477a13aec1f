"""How well and how fast `EntityLinker` finds entities in ReDial's validation dialogues.

    python -m benchmarks.linking --data DIR [--json FILE]

DIR holds `kg/`, `movies.jsonl` and `redial/valid_entity_links.jsonl`. The file has one sample a recommender turn: the
texts before it (titles written out, with years), the turn's film ids (`rec`) and the ids of all entities before it
(`entity`). Between two samples of a dialogue lie the first one's turn and the seeker's answer: a *round*. Its gold
entities are the ids that are new in the second sample, its predictions the links of its two texts that are not among
the ids of the first; a dialogue's text after its last sample has no gold and is left out. The words said before are
the linker's context, as its own links.

The gold films are those that the workers marked with "@", and those that DBpedia Spotlight found besides; the gold of
everything else is Spotlight's alone, at a low confidence, and noisy: ordinary words stand in it as countries, bands or
musical styles ("is", "who", "movie"), names are missed, and a thing is linked once in a dialogue. A linker cannot reach
1 on either count; `people` is the cleanest part of it.

The film titles of the marked mentions come with the year. `films, no year` takes the years out of the texts, `films,
lower case` the capitals too, `films, misspelt` leaves the year and swaps two letters of one word of each title: what
people type who have no "@" at hand. Namesakes that neither year nor context parts are settled by the films' mentions
in the training dialogues; the rows "no counts" do without. The linker was tuned on the even dialogues (0th, 2nd, ...)
and the training part; all figures are of the odd ones. The peer is an exact dictionary: the graph's names, any case,
longest first, with the year settling what it can.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ahocorasick

from ecr_jax.files import write_json
from ecr_jax.knowledge.graph import KnowledgeGraph, from_unicrs, read_unicrs_ids
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.knowledge.naming import normalise, words

_YEAR = re.compile(r"\s*\(\d{4}\)")
# Possessive, so that a run of capitals without a year behind it is read once.
_TITLE = re.compile(
    r"(?<![\w])((?:[A-Z0-9][\w'’:&.,-]*+ ?|(?:a|an|and|at|by|for|from|in|of|on|the|to|with) )++)(?=\(\d{4}\))"
)

Round = tuple[list[str], list[str], set[int], set[int]]
"""Texts before, texts of the round, ids known before, gold ids that are new."""


def rounds(path: Path, ids: dict[int, str], graph: KnowledgeGraph) -> list[list[Round]]:
    """Every dialogue's rounds; ids are the graph's.

    Args:
      path: valid_entity_links.jsonl.
      ids: the export's id -> URI.
      graph: gives its ids to the URIs.
    """
    dialogues: list[list[Round]] = []
    before: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        if len(sample["context"]) == 1:
            dialogues.append([])
        else:
            known = {graph.id(ids[number]) for number in before["entity"]}
            new = {graph.id(ids[number]) for number in sample["entity"]} - known
            texts = sample["context"]
            dialogues[-1].append((texts[: len(before["context"])], texts[len(before["context"]) :], known, new))
        before = sample
    return dialogues


def mentions(data: Path, graph: KnowledgeGraph) -> list[int]:
    """How many training dialogues mention each film: [N]."""
    films = {}
    for line in (data / "movies.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["dbpedia"] in graph.ids:
            films[row["movieId"]] = graph.id(row["dbpedia"])
    counts = [0] * len(graph)
    for line in (data / "redial" / "train.jsonl").read_text(encoding="utf-8").splitlines():
        for entity in {films[number] for number in json.loads(line)["movieMentions"] or () if number in films}:
            counts[entity] += 1
    return counts


class ExactTitles:
    """The peer: names looked up as they stand, longest first, the year in brackets settling between namesakes."""

    def __init__(self, graph: KnowledgeGraph):
        self._years, self._names = graph.years.tolist(), {}
        for entity, name in enumerate(graph.names):
            self._names.setdefault(normalise(name), []).append(entity)
        self._automaton = ahocorasick.Automaton()
        for name, entities in self._names.items():
            if name:
                self._automaton.add_word(f" {name} ", (len(name), entities))
        self._automaton.make_automaton()

    def link(self, text: str) -> set[int]:
        """The entities named in a text."""
        tokens = words(text)
        padded = " " + " ".join(word for word, _, _ in tokens) + " "
        found = [(length, end, entities) for end, (length, entities) in self._automaton.iter(padded)]
        used, links = [], set()
        for length, end, entities in sorted(found, key=lambda match: (-match[0], match[1])):
            if any(end - length < b and a < end for a, b in used):
                continue
            used.append((end - length, end))
            year = padded[end + 1 : end + 5]
            links.add(min(entities, key=lambda e: (str(self._years[e]) != year, e)))
        return links


def score(
    dialogues: Iterable[list[Round]],
    link: Callable[[str, set[int]], set[int]],
    keep: Callable[[int], bool],
    change: Callable[[str], str] = lambda text: text,
) -> tuple[float, float, int]:
    """Precision and recall over all rounds together, and the number of gold entities."""
    right = predicted = gold = 0
    for dialogue in dialogues:
        context: set[int] = set()
        for _, texts, known, new in dialogue:
            found: set[int] = set()
            for text in texts:
                found |= link(change(text), context | found)
            context |= found
            guesses = {entity for entity in found - known if keep(entity)}
            wanted = {entity for entity in new if keep(entity)}
            right += len(guesses & wanted)
            predicted += len(guesses)
            gold += len(wanted)
    return right / max(predicted, 1), right / max(gold, 1), gold


def misspell(text: str) -> str:
    """Swaps two inner letters of the longest word of every title that a year follows."""

    def swap(match: re.Match[str]) -> str:
        longest = max(re.findall(r"[A-Za-z]+", match[1]), key=len, default="")
        if len(longest) < 5:
            return match[1]
        place = random.Random(longest).randrange(1, len(longest) - 2)
        slip = longest[:place] + longest[place + 1] + longest[place] + longest[place + 2 :]
        return match[1].replace(longest, slip, 1)

    return _TITLE.sub(swap, text)


def measure(data: Path, odd: bool = True) -> list[dict[str, Any]]:
    """All rows: precision and recall of linker and peer, and their speed."""
    started = time.perf_counter()
    graph = from_unicrs(data / "kg", data / "movies.jsonl")
    read = time.perf_counter() - started
    popularity = mentions(data, graph)
    started = time.perf_counter()
    linker = EntityLinker(graph, popularity)
    built = time.perf_counter() - started
    peer = ExactTitles(graph)
    path = data / "redial" / "valid_entity_links.jsonl"
    dialogues = rounds(path, read_unicrs_ids(data / "kg"), graph)[int(odd) :: 2]

    def ours(text: str, context: set[int]) -> set[int]:
        return {found.entity for found in linker.link(text, context)}

    alone = EntityLinker(graph)

    def without(text: str, context: set[int]) -> set[int]:
        return {found.entity for found in alone.link(text, context)}

    def theirs(text: str, context: set[int]) -> set[int]:
        return peer.link(text)

    items, kinds = set(graph.items.tolist()), graph.kinds
    cases: list[tuple[str, Callable[[int], bool], Callable[[str], str]]] = [
        ("films, as written", items.__contains__, str),
        ("films, no year", items.__contains__, lambda text: _YEAR.sub("", text)),
        ("films, lower case", items.__contains__, lambda text: _YEAR.sub("", text).lower()),
        ("films, misspelt", items.__contains__, misspell),
        ("others, all", lambda e: e not in items, str),
        ("others, people and genres", lambda e: e not in items and kinds[e] in ("person", "genre"), str),
        ("others, people", lambda e: e not in items and kinds[e] == "person", str),
    ]
    rows = []
    for case, keep, change in cases:
        mine, base = score(dialogues, ours, keep, change), score(dialogues, theirs, keep, change)
        for metric, value, other in zip(("precision", "recall"), mine, base, strict=False):
            rows.append(_row(case, metric, value, "share", other))
        if case.startswith("films"):
            for metric, value in zip(("precision", "recall"), score(dialogues, without, keep, change), strict=False):
                rows.append(_row(f"{case}, no counts", metric, value, "share"))
        rows.append(_row(case, "gold", mine[2], "entities"))
    texts = [text for dialogue in dialogues for _, texts, _, _ in dialogue for text in texts]
    seconds = []
    for run in (lambda text: linker.link(text), peer.link):
        started = time.perf_counter()
        for text in texts:
            run(text)
        seconds.append(time.perf_counter() - started)
    rows.append(_row("speed", "turns", len(texts) / seconds[0], "1/s", len(texts) / seconds[1]))
    rows.append(_row("speed", "characters", sum(map(len, texts)) / seconds[0], "1/s"))
    rows.append(_row("speed", "read the export", read, "s"))
    rows.append(_row("speed", "build the linker", built, "s"))
    return rows


def _row(case: str, metric: str, value: float, unit: str, peer: float | None = None) -> dict[str, Any]:
    ratio = round(value / peer, 3) if peer else None
    peer = None if peer is None else round(peer, 4)
    return {"case": case, "metric": metric, "value": round(value, 4), "unit": unit, "peer": peer, "ratio": ratio}


def main() -> None:
    """Parses the command line, prints the table, writes the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with kg/, movies.jsonl and redial/")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--tuning", action="store_true", help="the even dialogues, which the linker was tuned on")
    arguments = parser.parse_args()
    rows = measure(arguments.data, odd=not arguments.tuning)
    print(f"{'case':28} {'metric':18} {'linker':>10} {'exact':>10}  unit")
    for row in rows:
        peer = "" if row["peer"] is None else f"{row['peer']:10.3f}"
        print(f"{row['case']:28} {row['metric']:18} {row['value']:10.3f} {peer:>10}  {row['unit']}")
    if arguments.json:
        write_json(
            arguments.json,
            {
                "command": "python -m benchmarks.linking --data DIR --json docs/results/linking.json",
                "dialogues": "even (tuned on)" if arguments.tuning else "odd (not tuned on)",
                "rows": rows,
            },
        )


if __name__ == "__main__":
    main()
