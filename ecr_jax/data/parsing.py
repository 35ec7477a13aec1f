"""What the readers of corpora share: what they hand back, how a field is checked, and how a text becomes plain.

Every reader gives a `ParsedFile`. Text is made plain piece by piece around the mentions, so that spans are exact.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from json import JSONDecodeError
from pathlib import Path
from typing import Any, NamedTuple

from ecr_jax.data.schema import BadLine, Conversation, FieldError, Mention


class ParsedFile(NamedTuple):
    """What a reader found.

    Attributes:
      conversations: in file order.
      bad: every line that was refused; a caller either raises `CorpusError(bad)` or goes on and writes them down.
      counts: what is worth telling, e.g. mentions that could not be linked or names that no text contains.
    """

    conversations: list[Conversation]
    bad: list[BadLine]
    counts: dict[str, int]


def parse_file(path: Path, parse: Callable[[Any, int], tuple[Conversation, Mapping[str, int]]]) -> ParsedFile:
    """Reads one conversation a line and adds up what was counted on the way.

    Args:
      path: UTF-8 JSON lines.
      parse: (value, 1-based line number) -> (conversation, its counts); raises `FieldError` on what is malformed.

    Returns:
      A `ParsedFile`; `counts` also has `conversations`, `turns`, `mentions`, `films` (mentions of films) and `linked`
      (those with a graph entity). Refused lines are not counted.
    """
    counted: dict[str, Mapping[str, int]] = {}

    def remember(value: Any, line: int) -> Conversation:
        conversation, counts = parse(value, line)
        counted.setdefault(conversation.id, counts)  # of two lines with one id the first is kept
        return conversation

    conversations, bad = read_jsonl(Path(path), remember)
    counts = Counter(conversations=len(conversations), turns=0, mentions=0, films=0, linked=0)
    for conversation in conversations:
        counts.update(counted[conversation.id])
        counts["turns"] += len(conversation.turns)
        for turn in conversation.turns:
            counts["mentions"] += len(turn.mentions)
            counts["films"] += sum(m.film for m in turn.mentions)
            counts["linked"] += sum(m.film and m.entity is not None for m in turn.mentions)
    return ParsedFile(conversations, bad, dict(counts))


def read_jsonl(path: Path, parse: Callable[[Any, int], Conversation]) -> tuple[list[Conversation], list[BadLine]]:
    """Reads one conversation a line.

    Args:
      path: a UTF-8 file with one JSON value a line; blank lines are passed over.
      parse: (value, 1-based line number) -> conversation; raises `FieldError` on what is malformed.

    Returns:
      The conversations in file order, and every line that was refused.
    """
    conversations, bad, seen = [], [], {}
    for number, line in _lines(path):
        try:
            conversation = parse(json.loads(line), number)
            if conversation.id in seen:
                raise FieldError(f"id {conversation.id!r} was already used in line {seen[conversation.id]}")
        except json.JSONDecodeError as error:
            bad.append(BadLine(str(path), number, f"not JSON: {error.msg} at column {error.colno}", line))
        except (FieldError, ValueError) as error:
            bad.append(BadLine(str(path), number, str(error), line))
        else:
            seen[conversation.id] = number
            conversations.append(conversation)
    return conversations, bad


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.rstrip("\n")


_LONE_SURROGATE = frozenset(map(chr, range(0xD800, 0xE000)))  # JSON can write them; UTF-8 (Parquet) cannot
_KINDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}


def require_type(value: Any, kinds: type | tuple[type, ...], where: str) -> Any:
    """Returns `value` if it is of one of `kinds` (true and false are no numbers), else raises `FieldError`."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join(_KINDS[kind] for kind in kinds)
        raise FieldError(f"{where} is {short_repr(value)}; expected {expected}")
    if isinstance(value, str) and not _LONE_SURROGATE.isdisjoint(value):
        raise FieldError(f"{where} holds half of a surrogate pair, which is no character")
    return value


def require_field(record: Mapping[str, Any], name: str, kinds: type | tuple[type, ...], where: str = "") -> Any:
    """Returns the field `name` of a JSON object, checked.

    Args:
      record: the object.
      name: which field; it must be there.
      kinds: the type or types it may have.
      where: where the object stands, e.g. "messages[3]", for the error.

    Raises:
      FieldError: it is missing or of another type.
    """
    place = f"{where}.{name}" if where else name
    if name not in record:
        raise FieldError(f"{place} is missing")
    return require_type(record[name], kinds, place)


def decode_line(line: bytes) -> str:
    """A line of a UTF-8 file.

    Raises:
      FieldError: it is not UTF-8.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FieldError(f"not UTF-8: byte {error.start + 1} of the line is 0x{line[error.start]:02x}") from error


def rejected_line(path: Path, number: int, line: bytes, error: ValueError) -> BadLine:
    """The record of a line (1-based `number`) that a parser raised `FieldError` or a JSON error for."""
    reason = f"not JSON: {error.msg} at column {error.colno}" if isinstance(error, JSONDecodeError) else str(error)
    return BadLine(str(path), number, reason, line.decode("utf-8", errors="replace").rstrip("\n"))


def short_repr(value: Any) -> str:
    """A value as an error message shows it: short."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def plain_text(text: str) -> str:
    """HTML entities as characters, runs of white space as one space, none at the ends."""
    return " ".join(html.unescape(text).split())


def join_pieces(pieces: Iterable[str | tuple[str, dict[str, Any]]]) -> tuple[str, tuple[Mention, ...]]:
    """Joins pieces of a text, some of them names, into plain text with the names' spans.

    Args:
      pieces: stretches of running text (already without HTML entities), and (name, fields of `Mention` but the span)
        with the name plain and not empty.

    Returns:
      The text with white space collapsed across all pieces, and a mention for each name.
    """
    text, mentions = "", []
    for piece in pieces:
        if isinstance(piece, str):
            piece = re.sub(r"\s+", " ", piece)
            text += piece.lstrip(" ") if not text or text.endswith(" ") else piece
        else:
            name, fields = piece
            mentions.append(Mention(len(text), len(text) + len(name), name, **fields))
            text += name
    return text.rstrip(" "), tuple(mentions)
