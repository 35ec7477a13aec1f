"""Reader for INSPIRED (Hayati et al., EMNLP 2020), as published with links to DBpedia: one list of turns per line.

The corpus lists the names in a turn without their positions, so that they are searched for in its text. It has no
feedback forms, so that every film's feedback is `unsaid`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecr_jax.data import parsing
from ecr_jax.data.parsing import ParsedFile, plain_text, require_field, require_type, short_repr
from ecr_jax.data.schema import Conversation, Feedback, FieldError, Mention, Role, Split, Turn, is_blank, merge_messages

_ROLES = {"SEEKER": Role.SEEKER, "RECOMMENDER": Role.RECOMMENDER}


def read(path: Path, split: Split, uris: Mapping[str, str] | None = None) -> ParsedFile:
    """Reads a file of dialogues. The dialogues have no ids of their own; they get "<split>-<line>".

    Args:
      path: `train.jsonl`, `valid.jsonl` or `test.jsonl`; a line is a list of {role, text, movie, movie_link,
        movie_name, entity_link, entity_name}, the links parallel to the names.
      split: the part of the corpus.
      uris: unused, because the corpus has its own links; it is there so that all readers have the same signature.

    Returns:
      A `ParsedFile`. In addition to the common counts: `loose_films` and `loose_entities` (found only without
      punctuation or a leading article; see `find_name`), `lost_films` and `lost_entities` (listed, but not in the text,
      or only inside another mention), `films_without_link` (in `movie` but not in `movie_link`; mostly everyday words
      mistaken for titles, so they are not mentions), `blank_messages`.
    """
    return parsing.parse_file(path, lambda value, line: parse(value, f"{split}-{line}", split))


def parse(record: Any, identifier: str, split: Split) -> tuple[Conversation, Counter[str]]:
    """Parses one line.

    Args:
      record: the JSON value.
      identifier: the conversation's id.
      split: the part it belongs to.

    Returns:
      The conversation and the counts that `read` describes.

    Raises:
      FieldError: a field is missing or has another type; a role is unknown; names and links differ in number.
    """
    counts: Counter[str] = Counter(
        loose_films=0, loose_entities=0, lost_films=0, lost_entities=0, films_without_link=0, blank_messages=0
    )
    turns = []
    for number, message in enumerate(require_type(record, list, "the line")):
        where = f"turn {number}"
        message = require_type(message, dict, where)
        role = require_field(message, "role", str, where)
        if role not in _ROLES:
            raise FieldError(f"{where}.role is {short_repr(role)}; expected {' or '.join(_ROLES)}")
        text = plain_text(require_field(message, "text", str, where))
        films, entities = _linked(message, "movie", where), _linked(message, "entity", where)
        listed = require_field(message, "movie", list, where)
        counts["films_without_link"] += max(0, len(listed) - len(films))
        counts["blank_messages"] += is_blank(text)

        mentions: list[Mention] = []
        for kind, names in (("films", films), ("entities", entities)):  # a film takes precedence over names inside it
            taken = [(m.start, m.end) for m in mentions]
            cursor = 0
            for name, link in names:
                span, loose = find_name(text, name, cursor, taken)
                if span is None:
                    counts[f"lost_{kind}"] += 1
                    continue
                counts[f"loose_{kind}"] += loose
                cursor = span[1]
                taken.append(span)
                film = kind == "films"
                mentions.append(Mention(*span, name, film, link, Feedback.UNSAID if film else None))
        turns.append(Turn(_ROLES[role], text, tuple(sorted(mentions, key=lambda m: m.start))))
    merged = merge_messages(turns)
    if not merged:
        raise FieldError("the dialogue holds no words")
    return Conversation(identifier, split, merged), counts


def _linked(message: dict[str, Any], kind: str, where: str) -> list[tuple[str, str]]:
    def texts(key: str) -> list[str]:
        values = require_field(message, key, list, where)
        return [require_type(value, str, f"{where}.{key}[{place}]") for place, value in enumerate(values)]

    names, links = texts(f"{kind}_name"), texts(f"{kind}_link")
    if len(names) != len(links):
        raise FieldError(f"{where} has {len(names)} {kind}_name but {len(links)} {kind}_link; they must be parallel")
    return [(plain_text(name), link) for name, link in zip(names, links, strict=True)]


def find_name(text: str, name: str, start: int, taken: list[tuple[int, int]]) -> tuple[tuple[int, int] | None, bool]:
    """Finds a name in a text.

    It tries, each from `start` on and then from the beginning (the corpus lists names roughly in the order of the
    text): the name as written; in any case; and loosely: without the name's punctuation, "&" as "and", and without a
    leading article if two words remain.

    Args:
      text: the plain text.
      name: the name, which must match whole words.
      start: the end of the previous name.
      taken: spans that it must not overlap.

    Returns:
      The span, or None; and whether it was found only loosely.
    """
    exact = _whole_words(re.escape(name))
    ways = [(exact, 0), (exact, re.IGNORECASE)]
    words = re.findall(r"[^\W_]+|&", name)
    if words:
        if len(words) > 2 and words[0].lower() in ("the", "a", "an"):
            words = words[1:]
        words = [r"(?:&|and)" if word == "&" else re.escape(word) for word in words]
        ways.append((_whole_words(r"[^\w&]{0,3}".join(words)), re.IGNORECASE))
    if not name:
        return None, False
    for way, (pattern, flags) in enumerate(ways):
        for first in (start, 0):
            for match in re.compile(pattern, flags).finditer(text, first):
                if all(match.end() <= a or b <= match.start() for a, b in taken):
                    return match.span(), way == 2
    return None, False


def _whole_words(pattern: str) -> str:
    return rf"(?<!\w){pattern}(?!\w)"
