"""The scripts, and the checks of one reply: what it must do, and what no reply may do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.dialogues.cast import Part
from ecr_jax.data.acts import Attribute
from ecr_jax.inference.agent import Reply
from ecr_jax.inference.wishes import Wish, films_that_fit
from ecr_jax.knowledge.attributes import attribute_values
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.naming import normalise

SCRIPTS = Path(__file__).with_name("scripts.txt")
_UNKNOWN = re.compile(r"\b(?:don't know|not sure|no idea|can't say)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """What the seeker says, with placeholders, and the checks of the reply."""

    text: str
    checks: tuple[str, ...]


@dataclass(frozen=True)
class Script:
    """A dialogue."""

    name: str
    lines: tuple[Line, ...]


def read_scripts(path: Path = SCRIPTS) -> list[Script]:
    """Reads scripts: blocks of a name and lines "> text -> check; check".

    Raises:
      ValueError: a line is not of this form; the message has file and line.
    """
    scripts: list[Script] = []
    name, lines = "", []

    def close() -> None:
        if name:
            scripts.append(Script(name, tuple(lines)))

    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("#") or not line.strip():
            continue
        if not line.startswith(">"):
            close()
            name, lines = line.strip(), []
            continue
        text, arrow, checks = line[1:].rpartition("->")
        if not arrow or not name:
            raise ValueError(f"{path}:{number}: a line is '> text -> check; check', below the name of its dialogue")
        lines.append(Line(text.strip(), tuple(check.strip() for check in checks.split(";"))))
    close()
    return scripts


@dataclass
class State:
    """What a dialogue has come to, as its script knows it.

    Attributes:
      parts: what the placeholders stand for.
      named: films named so far by anybody.
      latest: the films of the last reply that recommended.
      hated: placeholders of what must not come.
    """

    parts: dict[str, Part]
    named: set[int] = field(default_factory=set)
    latest: tuple[int, ...] = ()
    hated: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Verdict:
    """A check and whether the reply passes it; `kind` is what the table counts it as."""

    kind: str
    check: str
    passed: bool


def judge(line: Line, reply: Reply, state: State, graph: KnowledgeGraph) -> list[Verdict]:
    """The verdicts on a reply; the state must not know the reply yet, and it learns what the line says is hated."""
    text = reply.text
    shown = [f for f in reply.items if graph.title(f) in text]
    verdicts = []
    for check in line.checks:
        word, *rest = check.split()
        if word == "hates":
            state.hated.add(rest[0].strip("{}"))
        elif word == "pardons":
            state.hated.discard(rest[0].strip("{}"))
        else:
            kind, passed = _judge(word, rest, reply, shown, state, graph)
            verdicts.append(Verdict(kind, check, passed))
    back = [f for f in reply.items if f in state.named]
    verdicts.append(Verdict("nothing comes back", "no film that was named before", not back))
    for name in sorted(state.hated):
        bad = [f for f in shown if _has(graph, f, state.parts[name])]
        verdicts.append(Verdict("nothing hated comes", f"without {name}", not bad))
    return verdicts


def _judge(
    word: str, rest: list[str], reply: Reply, shown: list[int], state: State, graph: KnowledgeGraph
) -> tuple[str, bool]:
    text = reply.text
    if word == "any":
        return "replies", bool(text)
    if word == "films":
        return "films as asked for", len(shown) == int(rest[0]) == len(reply.items)
    if word == "most":
        return "films as asked for", 1 <= len(shown) <= int(rest[0])
    if word == "asks":
        return "acts", "?" in text
    if word == "fresh":
        return "nothing comes back", not set(shown) & state.named
    if word == "without":
        return "nothing comes back", state.parts[rest[0].strip("{}")].entity not in shown
    if word == "fits":
        return "wishes fulfilled", _fit([_part(name, state) for name in rest], shown, state, graph)
    if word == "explains":
        film = state.latest[0] if state.latest else None
        known = {value for a in Attribute if film is not None for value in attribute_values(graph, film, a)}
        return "acts", any(_says(text, value) for value in known) or not known
    if word == "calm":
        emotions = dict(reply.emotions)
        return "tone", not re.search(r"!|\b(?:great|awesome|glad|happy to)\b", reply.recommendation) or not emotions
    if word == "unknown":
        return "unknown is said", bool(_UNKNOWN.search(text.replace("’", "'")))
    if word == "answer":
        return "answers right", _answers(text, Attribute(rest[0]), _film(rest[-1], state), graph)
    if word in ("yes", "no", "truth"):
        attribute, part, film = Attribute(rest[0]), _part(rest[1], state), _film(rest[-1], state)
        known = attribute_values(graph, film, attribute) if film is not None else ()
        if not known:
            return "unknown is said", bool(_UNKNOWN.search(text.replace("’", "'")))
        expected = _has(graph, film, part) if word == "truth" and film is not None else word == "yes"
        first = normalise(text).split()[:1]
        return "answers right", first == (["yes"] if expected else ["no"])
    raise ValueError(f"no check {word!r}; see benchmarks/dialogues/expectations.py")


def _part(name: str, state: State) -> Part:
    if name.startswith("{"):
        return state.parts[name.strip("{}")]
    first, _, last = name.partition("-")
    return Part(name, None, (1880 if not last else int(first), int(last or first) - (not last)))


def _film(name: str, state: State) -> int | None:
    if name.startswith("{"):
        return state.parts[name.strip("{}")].entity
    place = {"last": 0, "first": 0, "second": 1, "third": 2}[name]
    return state.latest[place] if place < len(state.latest) else None


def _says(text: str, value: str) -> bool:
    return f" {normalise(value)} " in f" {normalise(text)} "


def _answers(text: str, attribute: Attribute, film: int | None, graph: KnowledgeGraph) -> bool:
    """Whether a text states what the graph knows, or says that it does not know."""
    if film is None:
        return False
    values = attribute_values(graph, film, attribute)
    if not values:
        return bool(_UNKNOWN.search(text.replace("’", "'")))
    return any(_says(text, value) for value in values)


def _has(graph: KnowledgeGraph, film: int, part: Part) -> bool:
    return bool(films_that_fit(graph, Wish(True, part.entity, part.years), np.asarray([film]))[0])


def _fit(parts: list[Part], shown: list[int], state: State, graph: KnowledgeGraph) -> bool:
    """Whether films are shown and all have all parts, or no film is left that does."""

    def fit(films: np.ndarray) -> np.ndarray:
        of_part = [films_that_fit(graph, Wish(True, part.entity, part.years), films) for part in parts]
        return np.logical_and.reduce(of_part)

    left = graph.items[~np.isin(graph.items, sorted(state.named))]
    return bool(shown) and bool(fit(np.asarray(shown)).all() or fit(left).sum() < len(shown))
