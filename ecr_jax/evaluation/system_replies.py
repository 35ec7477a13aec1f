"""Replies of several systems to the same dialogues, as JSON lines: what is measured, judged by models, and by people.

A line has `conversation`, `turn` (the number of the turn in whose place it is), `system`, `context` (the turns before,
[{"role", "text"}]), and `reply`; and, where they are known, `films` (titles that it recommends, with `film_uris`),
`facts` (what it was given to tell), `heard` and `tone` (emotions of the plan), `seen` (whether the train split has
reviews of the first film), and `reference` (the turn of the corpus).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecr_jax.files import write_jsonl

Place = tuple[str, int]
"""The dialogue and turn that several systems reply to."""


@dataclass(frozen=True)
class SystemReply:
    """A system's reply to a dialogue; see the module for the fields."""

    conversation: str
    turn: int
    system: str
    context: tuple[tuple[str, str], ...]
    reply: str
    films: tuple[str, ...] = ()
    film_uris: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    heard: str = ""
    tone: str = ""
    seen: bool | None = None
    reference: str | None = None

    @property
    def place(self) -> Place:
        """What it replies to."""
        return self.conversation, self.turn


def write(path: Path, replies: Iterable[SystemReply]) -> None:
    """Writes replies as JSON lines (temporary name, then renamed)."""
    rows = [dataclasses.asdict(reply) for reply in replies]
    for row in rows:
        row["context"] = [{"role": role, "text": text} for role, text in row["context"]]
    write_jsonl(path, rows)


def read(path: Path) -> list[SystemReply]:
    """Reads what `write` wrote, or anybody else in this form; fields that it does not know are ignored.

    Raises:
      ValueError: a line is not of the form, or a system replies twice to the same turn; says the file and the line.
    """
    replies = []
    first: dict[tuple[Place, str], int] = {}
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                reply = _parse(json.loads(line))
                earlier = first.setdefault((reply.place, reply.system), number)
                if earlier != number:
                    raise ValueError(
                        f"{reply.system} replies to {reply.conversation}/{reply.turn} in line {earlier} too"
                    )
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from error
            replies.append(reply)
    if not replies:
        raise ValueError(f"{path} has no replies; `ecr evaluate` writes such a file into runs/NAME/SPLIT")
    return replies


def _parse(row: Any) -> SystemReply:
    if not isinstance(row, Mapping):
        raise ValueError("a line must be a JSON object")
    kinds: dict[str, type | tuple[type, ...]] = {
        "conversation": str, "turn": int, "system": str, "reply": str, "context": list,
        "films": list, "film_uris": list, "facts": list, "heard": str, "tone": str, "seen": (bool, type(None)),
        "reference": (str, type(None)),
    }  # fmt: skip
    for name in ("conversation", "turn", "system", "reply", "context"):
        if name not in row:
            raise ValueError(f"the field {name} is missing")
    values = {name: row[name] for name in kinds if name in row}
    for name, value in values.items():
        kind = kinds[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ValueError(f"the field {name} is {value!r}")
    turns = values["context"]
    if not all(
        isinstance(turn, Mapping) and isinstance(turn.get("role"), str) and isinstance(turn.get("text"), str)
        for turn in turns
    ):
        raise ValueError('context must be a list of {"role", "text"}')
    values["context"] = tuple((turn["role"], turn["text"]) for turn in turns)
    for name in ("films", "film_uris", "facts"):
        if not all(isinstance(value, str) for value in values.get(name, ())):
            raise ValueError(f"the field {name} must be a list of strings")
        values[name] = tuple(values.get(name, ()))
    if not values["system"].strip():
        raise ValueError("the field system is empty")
    return SystemReply(**values)


def by_system(replies: Iterable[SystemReply]) -> dict[str, list[SystemReply]]:
    """The replies of each system, systems in the order of their first reply."""
    groups: dict[str, list[SystemReply]] = {}
    for reply in replies:
        groups.setdefault(reply.system, []).append(reply)
    return groups


def same_places(replies: Sequence[SystemReply]) -> dict[Place, dict[str, SystemReply]]:
    """The places that all systems reply to, in order: place -> system -> reply."""
    systems = list(by_system(replies))
    places: dict[Place, dict[str, SystemReply]] = {}
    for reply in replies:
        places.setdefault(reply.place, {})[reply.system] = reply
    return {place: group for place, group in places.items() if len(group) == len(systems)}
