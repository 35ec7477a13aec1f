"""Parts that the corpus readers share: the parsed file, checks of JSON fields, and conversion to plain text.

Every reader returns a `ParsedFile`. Text is converted piece by piece around the mentions, so that spans are exact.
"""

from __future__ import annotations

import html
import json
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from ecr_jax.data.schema import BadLine, Conversation, FieldError, Mention


class ParsedFile(NamedTuple):
    """The result of reading a corpus file.

    Attributes:
      conversations: in file order.
      bad: every rejected line; a caller either raises `CorpusError(bad)` or continues and records them.
      counts: statistics of the file, e.g. mentions that could not be linked or names that no text contains.
    """

    conversations: list[Conversation]
    bad: list[BadLine]
    counts: dict[str, int]


def parse_file(
    path: Path,
    parse: Callable[[Any, int], tuple[Conversation, Mapping[str, int]]],
    skip: Container[int] = (),
    records: Records | None = None,
) -> ParsedFile:
    """Reads a file of conversations and sums their counts.

    Args:
      path: UTF-8 JSON lines, or what `records` reads.
      parse: (value, 1-based line number) -> (conversation, its counts); raises `FieldError` for a malformed value.
      skip: numbers of lines that are not read.
      records: where the conversations are in the file; None: one a line.

    Returns:
      A `ParsedFile`; `counts` also has `conversations`, `turns`, `mentions`, `films` (mentions of films) and `linked`
      (those with a graph entity). Rejected lines are not counted.
    """
    counts_of: dict[str, Mapping[str, int]] = {}

    def parse_and_count(value: Any, line: int) -> Conversation:
        conversation, counts = parse(value, line)
        counts_of.setdefault(conversation.id, counts)  # of two lines with the same id, the first one counts
        return conversation

    conversations, bad = read_jsonl(Path(path), parse_and_count, skip, records)
    counts = Counter(conversations=len(conversations), turns=0, mentions=0, films=0, linked=0)
    for conversation in conversations:
        counts.update(counts_of[conversation.id])
        counts["turns"] += len(conversation.turns)
        for turn in conversation.turns:
            counts["mentions"] += len(turn.mentions)
            counts["films"] += sum(m.film for m in turn.mentions)
            counts["linked"] += sum(m.film and m.entity is not None for m in turn.mentions)
    return ParsedFile(conversations, bad, dict(counts))


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


_Record = TypeVar("_Record", bound=_Identified)


Records = Callable[[Path], Iterator[tuple[int, bytes]]]
"""A file -> its records as JSON, and their 1-based numbers."""


def read_jsonl(
    path: Path, parse: Callable[[Any, int], _Record], skip: Container[int] = (), records: Records | None = None
) -> tuple[list[_Record], list[BadLine]]:
    """Reads a file with one record per line, such as a conversation.

    Args:
      path: a UTF-8 file with one JSON value per line; blank lines are skipped, and so is a byte order mark.
      parse: (value, 1-based line number) -> record, whose `id` is unique in the file; raises `FieldError` for a
        malformed value.
      skip: numbers of lines that are not read.
      records: where the values are in a file of another layout.

    Returns:
      The records in file order, and every rejected line.
    """
    read: list[_Record] = []
    bad: list[BadLine] = []
    seen: dict[str, int] = {}
    for number, line in (records or numbered_lines)(path):
        if number in skip:
            continue
        try:
            record = parse(parse_json(line), number)
            if record.id in seen:
                raise FieldError(f"id {record.id!r} was already used in line {seen[record.id]}")
        except ValueError as error:  # FieldError, or a span that is none
            bad.append(rejected_line(path, number, line, error))
        else:
            seen[record.id] = number
            read.append(record)
    return read, bad


def repeated_lines(path: Path) -> set[int]:
    """The 1-based numbers of the lines that are the same as an earlier one."""
    seen: set[bytes] = set()
    repeated = set()
    for number, line in numbered_lines(path):
        if line in seen:
            repeated.add(number)
        seen.add(line)
    return repeated


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, without their ends, and their 1-based numbers.

    A UTF-8 byte order mark at the beginning of the file is left out.
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(BOM_UTF8)
            if line.strip():
                yield number, line.rstrip(b"\r\n")


def list_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """The values of a file that is one JSON list, and their 1-based numbers; anything else is one record."""
    content = Path(path).read_bytes().removeprefix(BOM_UTF8)
    try:
        values = parse_json(content)
    except FieldError:  # whoever reads the record says why it is none
        values = None
    if not isinstance(values, list):
        yield 1, content
        return
    for number, value in enumerate(values, start=1):
        yield number, json.dumps(value).encode()


def parse_json(line: bytes) -> Any:
    """The JSON value of a line, or of a whole file.

    Raises:
      FieldError: it is not UTF-8, not JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(decode_line(line))
    except json.JSONDecodeError as error:
        line_of_file = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise FieldError(f"not JSON: {error.msg} at {line_of_file}column {error.colno}") from error
    except RecursionError:
        raise FieldError("not a record: JSON that is nested too deeply to be read") from None


_LONE_SURROGATE = frozenset(map(chr, range(0xD800, 0xE000)))  # JSON can write them; UTF-8 (Parquet) cannot
_KINDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}


def require_type(value: Any, kinds: type | tuple[type, ...], where: str) -> Any:
    """Returns `value` if it has one of the types `kinds` (a boolean is not a number), else raises `FieldError`."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join(_KINDS[kind] for kind in kinds)
        raise FieldError(f"{where} is {short_repr(value)}; expected {expected}")
    if isinstance(value, str) and not _LONE_SURROGATE.isdisjoint(value):
        raise FieldError(f"{where} holds half of a surrogate pair, which is no character")
    return value


def require_field(record: Mapping[str, Any], name: str, kinds: type | tuple[type, ...], where: str = "") -> Any:
    """Returns the field `name` of a JSON object after checking its type.

    Args:
      record: the object.
      name: the field's name.
      kinds: the type or types it may have.
      where: where the object is, e.g. "messages[3]", for the error message.

    Raises:
      FieldError: the field is missing or has another type.
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
    """The `BadLine` of a line (1-based `number`) for which a parser raised `error`."""
    reason = str(error).encode("utf-8", "backslashreplace").decode()  # it may quote half of a surrogate pair
    return BadLine(str(path), number, reason, line.decode("utf-8", errors="replace"))


def short_repr(value: Any) -> str:
    """The `repr` of a value, shortened for an error message."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def plain_text(text: str) -> str:
    """A text with HTML entities decoded and white space collapsed and stripped."""
    return " ".join(html.unescape(text).split())


def join_pieces(pieces: Iterable[str | tuple[str, dict[str, Any]]]) -> tuple[str, tuple[Mention, ...]]:
    """Joins pieces of text and names into one plain text, with the spans of the names.

    Args:
      pieces: parts of the running text (with HTML entities already decoded), and pairs (name, fields of `Mention`
        except the span) with a plain name that is not empty.

    Returns:
      The text, with white space collapsed across all pieces, and a mention for each name.
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
