"""Reader and writer for your own conversations: one JSON object per line, easy to write by hand or from a program.

    {"id": "17", "split": "train",
     "turns": [{"role": "seeker", "text": "I want something like Heat.", "emotions": ["curious"],
                "mentions": [{"start": 22, "end": 26, "name": "Heat (1995)", "film": true,
                              "entity": "<http://dbpedia.org/resource/Heat_(1995_film)>", "feedback": "like"}]},
               {"role": "recommender", "text": "Try Ronin!"}]}

Required are `id` (a text, unique in the file), `turns`, and of each turn `role` ("seeker" or "recommender") and `text`.
The rest is optional: `split` ("train", "valid", "test"; by default the reader's), `emotions` (of the nine, most
prominent first), `acts` of the turn (`data/acts.py`, e.g. "question:director"), and `mentions` with `start` and `end`
(in characters, end excluded; sorted, not overlapping), `name` (by default the text of the span), `film` (by default
true), `entity` (a URI of the graph; by default, or if null, the mention is not linked), `feedback` ("like", "dislike",
"unsaid"; by default, or if null, "unsaid" for a film; null for anything else). Any other key is an error. Text is not
changed. Consecutive turns of one speaker are joined with a space. Turns without a visible character are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from ecr_jax.data import parsing
from ecr_jax.data.acts import Act
from ecr_jax.data.parsing import ParsedFile, require_field, require_type, short_repr
from ecr_jax.data.schema import (
    EMOTIONS,
    SPEAKERS,
    Conversation,
    Feedback,
    FieldError,
    Mention,
    Split,
    Turn,
    is_blank,
    merge_messages,
)
from ecr_jax.files import write_jsonl

_Choice = TypeVar("_Choice", bound=StrEnum)


def read(path: Path, split: Split, uris: Mapping[str, str] | None = None) -> ParsedFile:
    """Reads a file of the format above.

    Args:
      path: the file.
      split: the part of the conversations without a `split` of their own.
      uris: unused, because mentions name their entities; it is there so that all readers have the same signature.

    Returns:
      A `ParsedFile`; in addition to the common counts `blank_turns` (left out).
    """
    return parsing.parse_file(path, lambda value, line: parse(value, split))


def write(path: Path, conversations: Iterable[Conversation]) -> None:
    """Writes conversations so that `read` returns exactly these (temporary name, then renamed).

    Raises:
      ValueError: a conversation would be read differently, e.g. because one speaker has two turns in a row.
    """
    rows = []
    for conversation in conversations:
        row = row_of(conversation)
        try:
            read_back, _ = parse(row, conversation.split)
        except FieldError as error:
            raise ValueError(f"conversation {conversation.id!r} cannot be written: {error}") from error
        if read_back != conversation:
            raise ValueError(
                f"conversation {conversation.id!r} would be read back differently; its turns must alternate between "
                "the speakers, no turn may be empty, and exactly the films must have feedback"
            )
        rows.append(row)
    if repeated := [identifier for identifier, n in Counter(row["id"] for row in rows).items() if n > 1]:
        raise ValueError(
            f"more than one conversation has the id {short_repr(repeated[0])}; ids must be unique in a file"
        )
    write_jsonl(path, rows)


def parse(record: Any, split: Split) -> tuple[Conversation, Counter[str]]:
    """Parses one line.

    Raises:
      FieldError: a key is missing or unknown, or a value has another type or is out of range.
    """
    record = _object(record, "the line", {"id", "split", "turns"})
    identifier = require_field(record, "id", str)
    if is_blank(identifier):
        raise FieldError("id is empty")
    if "split" in record:
        split = _choice(record, "split", Split, "")
    counts: Counter[str] = Counter(blank_turns=0)
    turns = []
    for number, turn in enumerate(require_field(record, "turns", list)):
        turns.append(_turn(turn, f"turns[{number}]"))
        counts["blank_turns"] += is_blank(turns[-1].text)
    merged = merge_messages(turns)
    if not merged:
        raise FieldError("turns hold no words")
    return Conversation(identifier, split, merged), counts


def _turn(record: Any, where: str) -> Turn:
    record = _object(record, where, {"role", "text", "mentions", "emotions", "acts"})
    role = _choice(record, "role", SPEAKERS, where)
    text = require_field(record, "text", str, where)
    mentions, end = [], 0
    for number, value in enumerate(require_field(record, "mentions", list, where) if "mentions" in record else []):
        place = f"{where}.mentions[{number}]"
        mention = _mention(value, text, place)
        if mention.start < end:
            raise FieldError(f"{place} starts at {mention.start}, before the one before it ends ({end})")
        end = mention.end
        mentions.append(mention)
    emotions = require_field(record, "emotions", list, where) if "emotions" in record else []
    for number, emotion in enumerate(emotions):
        if emotion not in EMOTIONS:
            raise FieldError(
                f"{where}.emotions[{number}] is {short_repr(emotion)}; expected one of {', '.join(EMOTIONS)}"
            )
    acts = []
    for number, act in enumerate(require_field(record, "acts", list, where) if "acts" in record else []):
        try:
            acts.append(Act.parse(require_type(act, str, f"{where}.acts[{number}]")))
        except ValueError as error:
            raise FieldError(f"{where}.acts[{number}]: {error}") from error
    return Turn(role, text, tuple(mentions), tuple(emotions), tuple(acts))


def _mention(record: Any, text: str, where: str) -> Mention:
    record = _object(record, where, {"start", "end", "name", "film", "entity", "feedback"})
    start, end = require_field(record, "start", int, where), require_field(record, "end", int, where)
    if not 0 <= start < end <= len(text):
        raise FieldError(
            f"{where} has the span [{start}, {end}), which is empty or outside its text of {len(text)} characters"
        )
    name = require_field(record, "name", str, where) if "name" in record else text[start:end]
    if is_blank(name):
        raise FieldError(f"{where}.name is empty")
    film = require_field(record, "film", bool, where) if "film" in record else True
    entity = None if record.get("entity") is None else require_field(record, "entity", str, where)
    feedback = Feedback.UNSAID if film else None
    if record.get("feedback") is not None:
        if not film:
            raise FieldError(f"{where}.feedback is {short_repr(record['feedback'])}, but only a film has feedback")
        feedback = _choice(record, "feedback", Feedback, where)
    return Mention(start, end, name, film, entity, feedback)


def _object(record: Any, where: str, keys: set[str]) -> dict[str, Any]:
    record = require_type(record, dict, where)
    if unknown := sorted(record.keys() - keys):
        raise FieldError(f"{where} has the unknown key {short_repr(unknown[0])}; known are {', '.join(sorted(keys))}")
    return record


def _choice(record: dict[str, Any], name: str, choices: Iterable[_Choice], where: str) -> _Choice:
    value = require_field(record, name, str, where)
    by_value = {choice.value: choice for choice in choices}
    if value not in by_value:
        place = f"{where}.{name}" if where else name
        raise FieldError(f"{place} is {short_repr(value)}; expected {' or '.join(by_value)}")
    return by_value[value]


def row_of(conversation: Conversation) -> dict[str, Any]:
    """A conversation as the JSON of its line."""
    return {
        "id": conversation.id,
        "split": conversation.split.value,
        "turns": [
            {
                "role": turn.role.value,
                "text": turn.text,
                "mentions": [
                    {
                        "start": m.start,
                        "end": m.end,
                        "name": m.name,
                        "film": m.film,
                        "entity": m.entity,
                        "feedback": None if m.feedback is None else m.feedback.value,
                    }
                    for m in turn.mentions
                ],
                "emotions": list(turn.emotions),
                "acts": [str(act) for act in turn.acts],
            }
            for turn in conversation.turns
        ],
    }
