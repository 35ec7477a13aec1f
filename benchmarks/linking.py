"""Precision, recall and speed of `EntityLinker` on ReDial's validation dialogues.

    python -m benchmarks.linking --data DIR [--json FILE] [--page FILE]

DIR holds `kg/`, `movies.jsonl` and `redial/valid_entity_links.jsonl`. The file has one sample for each recommender
turn: the texts before it (titles written out, with years), the turn's film ids (`rec`) and the ids of all entities
before it (`entity`). Between two samples of a dialogue lie the recommender turn of the first and the seeker's reply: a
*round*. The ground truth of a round is the ids that are new in the second sample. Its predictions are the links of its
two texts that are not among the ids of the first. A dialogue's text after its last sample has no ground truth and is
left out. The linker's context is its own links in the earlier texts.

The ground truth of films is those that crowd workers marked with "@" and those that DBpedia Spotlight found besides.
That of all other entities is Spotlight's alone, at a low confidence, and noisy: it has ordinary words as countries,
bands or musical styles ("is", "who", "movie"), misses names, and links a thing once in a dialogue. No linker can reach
1 on either measure; `people` is its cleanest part.

The titles of marked films have their year. `films, no year` removes the years from the texts, `films, lower case` also
the capitals, `films, misspelt` keeps the year and swaps two letters of one word of each title: this is what people type
without an "@" to select from. The linker is the one that `ecr prepare` and the chat build by default: between namesakes
that neither year nor context separates, the graph decides. The rows "with counts" have the linker of
`corpus.link_by_counts`: how many training dialogues mention each of them decides. The linker was tuned on the even
dialogues (0th, 2nd, ...) and on the training part; all numbers are of the odd ones. The peer is an exact dictionary:
the graph's names, case-insensitive, longest first, with the year deciding between namesakes.
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

from ecr_jax.data import redial
from ecr_jax.data.prepare import mention_counts
from ecr_jax.data.schema import Split
from ecr_jax.files import replacing, write_json
from ecr_jax.knowledge.graph import KnowledgeGraph, from_unicrs, read_unicrs_ids
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.knowledge.naming import normalise, words
from ecr_jax.runs import machine

_YEAR = re.compile(r"\s*\(\d{4}\)")
# Possessive, so that a run of capitals without a year after it is scanned once.
_TITLE = re.compile(
    r"(?<![\w])((?:[A-Z0-9][\w'’:&.,-]*+ ?|(?:a|an|and|at|by|for|from|in|of|on|the|to|with) )++)(?=\(\d{4}\))"
)

Round = tuple[list[str], list[str], set[int], set[int]]
"""Texts before, texts of the round, ids known before, ground-truth ids that are new."""


def rounds(path: Path, ids: dict[int, str], graph: KnowledgeGraph) -> list[list[Round]]:
    """The rounds of every dialogue, with the graph's entity ids.

    Args:
      path: valid_entity_links.jsonl.
      ids: the export's id -> URI.
      graph: the graph, which has an id for each URI.
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


def train_counts(data: Path, graph: KnowledgeGraph) -> list[int]:
    """The counts that `ecr prepare` and the chat give to the linker with `corpus.link_by_counts`: [N]."""
    movies, _ = redial.read_movies(data / "movies.jsonl")
    parsed = redial.read(data / "redial" / "train.jsonl", Split.TRAIN, redial.movie_uris(movies))
    return mention_counts(parsed.conversations, graph)


class ExactTitles:
    """The peer: names are looked up as they are, longest first; the year in brackets decides between namesakes."""

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
        matches = [(length, end, entities) for end, (length, entities) in self._automaton.iter(padded)]
        used, links = [], set()
        for length, end, entities in sorted(matches, key=lambda match: (-match[0], match[1])):
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
    """Precision and recall over all rounds together, and the number of ground-truth entities.

    Args:
      dialogues: their rounds.
      link: (text, entities of the context) -> linked entities.
      keep: which entities count.
      change: what is done to each text before.
    """
    correct = predicted = gold = 0
    for dialogue in dialogues:
        context: set[int] = set()
        for _, texts, known, new in dialogue:
            linked: set[int] = set()
            for text in texts:
                linked |= link(change(text), context | linked)
            context |= linked
            predictions = {entity for entity in linked - known if keep(entity)}
            truth = {entity for entity in new if keep(entity)}
            correct += len(predictions & truth)
            predicted += len(predictions)
            gold += len(truth)
    return correct / max(predicted, 1), correct / max(gold, 1), gold


def misspell(text: str) -> str:
    """Swaps two inner letters of the longest word of every title that is followed by a year."""

    def swap(match: re.Match[str]) -> str:
        longest = max(re.findall(r"[A-Za-z]+", match[1]), key=len, default="")
        if len(longest) < 5:
            return match[1]
        at = random.Random(longest).randrange(1, len(longest) - 2)
        misspelt = longest[:at] + longest[at + 1] + longest[at] + longest[at + 2 :]
        return match[1].replace(longest, misspelt, 1)

    return _TITLE.sub(swap, text)


def measure(data: Path, odd: bool = True) -> list[dict[str, Any]]:
    """All rows: precision and recall of linker and peer, and their speed."""
    started = time.perf_counter()
    graph = from_unicrs(data / "kg", data / "movies.jsonl")
    read_seconds = time.perf_counter() - started
    started = time.perf_counter()
    linker = EntityLinker(graph)
    build_seconds = time.perf_counter() - started
    counting_linker, peer = EntityLinker(graph, train_counts(data, graph)), ExactTitles(graph)
    path = data / "redial" / "valid_entity_links.jsonl"
    dialogues = rounds(path, read_unicrs_ids(data / "kg"), graph)[int(odd) :: 2]

    def ours(text: str, context: set[int]) -> set[int]:
        return {mention.entity for mention in linker.link(text, context)}

    def with_counts(text: str, context: set[int]) -> set[int]:
        return {mention.entity for mention in counting_linker.link(text, context)}

    def exact(text: str, context: set[int]) -> set[int]:
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
        precision, recall, gold = score(dialogues, ours, keep, change)
        peer_precision, peer_recall, _ = score(dialogues, exact, keep, change)
        rows.append(_row(case, "precision", precision, "share", peer_precision))
        rows.append(_row(case, "recall", recall, "share", peer_recall))
        if case.startswith("films"):
            precision, recall, _ = score(dialogues, with_counts, keep, change)
            rows.append(_row(f"{case}, with counts", "precision", precision, "share"))
            rows.append(_row(f"{case}, with counts", "recall", recall, "share"))
        rows.append(_row(case, "gold", gold, "entities"))
    texts = [text for dialogue in dialogues for _, texts, _, _ in dialogue for text in texts]
    seconds = []
    for link in (linker.link, peer.link):
        started = time.perf_counter()
        for text in texts:
            link(text)
        seconds.append(time.perf_counter() - started)
    rows.append(_row("speed", "turns", len(texts) / seconds[0], "1/s", len(texts) / seconds[1]))
    rows.append(_row("speed", "characters", sum(map(len, texts)) / seconds[0], "1/s"))
    rows.append(_row("speed", "read the export", read_seconds, "s"))
    rows.append(_row("speed", "build the linker", build_seconds, "s"))
    return rows


def _row(case: str, metric: str, value: float, unit: str, peer: float | None = None) -> dict[str, Any]:
    ratio = round(value / peer, 3) if peer else None
    peer = None if peer is None else round(peer, 4)
    return {"case": case, "metric": metric, "value": round(value, 4), "unit": unit, "peer": peer, "ratio": ratio}


_INTRODUCTION = """\
# Entity linking

Precision and recall of the entity linker on ReDial's validation dialogues with an odd number (the linker was tuned on
the others), beside an exact dictionary in brackets. A film counts as found if the right entity is linked where a crowd
worker or DBpedia Spotlight marked one. For all other entities the ground truth is Spotlight's alone and noisy, so no
linker can reach 1 on it (`benchmarks/linking.py` has the details).

The linker is that of `ecr prepare` and of the chat as they are by default. "With counts" is the linker of
`corpus.link_by_counts`, which decides by how many training dialogues mention each of several namesakes.
"""

_CASES = {
    "films, as written": "films, titles as written, with year",
    "films, no year": "films, no year",
    "films, lower case": "films, no year, lower case",
    "films, misspelt": "films, with year, two letters swapped",
    "others, all": "everything else",
    "others, people and genres": "of it, people and genres",
    "others, people": "of it, people",
}


def page(rows: Iterable[dict[str, Any]], command: str) -> str:
    """The Markdown page of the rows."""
    of = {(row["case"], row["metric"]): row for row in rows}

    def cell(case: str, metric: str) -> str:
        row = of[case, metric]
        return f"{row['value']:.3f} ({row['peer']:.3f})"

    def counted(case: str) -> str:
        values = [of.get((f"{case}, with counts", metric)) for metric in ("precision", "recall")]
        return "" if None in values else ", ".join(f"{row['value']:.3f}" for row in values if row is not None)

    lines = ["| what is linked | precision | recall | with counts | gold |", "|---|---|---|---|---|"]
    lines += [
        f"| {title} | {cell(case, 'precision')} | {cell(case, 'recall')} | {counted(case)} | "
        f"{of[case, 'gold']['value']:,} |"
        for case, title in _CASES.items()
    ]
    turns, seconds = of["speed", "turns"], of["speed", "read the export"]["value"]
    speed = (
        f"Speed: {turns['value']:,.0f} turns a second (the dictionary {turns['peer']:,.0f}); reading the corpus takes "
        f"{seconds:.1f} s, building the linker {of['speed', 'build the linker']['value']:.1f} s."
    )
    source = f"Commit {machine.commit()}, `{command}`, {machine.hardware()}."
    return "\n".join([_INTRODUCTION, *lines, "", speed, "", source, ""])


def main() -> None:
    """Parses the command line, prints the table, writes the rows and the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with kg/, movies.jsonl and redial/")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--page", type=Path, help="where to write the page")
    parser.add_argument(
        "--tuning", action="store_true", help="measure on the even dialogues, which the linker was tuned on"
    )
    arguments = parser.parse_args()
    rows = measure(arguments.data, odd=not arguments.tuning)
    print(f"{'case':30} {'metric':18} {'linker':>10} {'exact':>10}  unit")
    for row in rows:
        peer = "" if row["peer"] is None else f"{row['peer']:10.3f}"
        print(f"{row['case']:30} {row['metric']:18} {row['value']:10.3f} {peer:>10}  {row['unit']}")
    command = "python -m benchmarks.linking --data DIR --json docs/results/linking.json --page docs/results/linking.md"
    if arguments.json:
        record = {
            "command": command,
            "commit": machine.commit(),
            "hardware": machine.hardware(),
            "dialogues": "even (tuned on)" if arguments.tuning else "odd (not tuned on)",
            "rows": rows,
        }
        write_json(arguments.json, record)
    if arguments.page:
        with replacing(arguments.page) as temporary:
            temporary.write_text(page(rows, command), encoding="utf-8")


if __name__ == "__main__":
    main()
