"""The data model of all corpora: conversations of turns with mentions and feedback, stored as Parquet.

Every reader produces `Conversation`s, and all later steps use only these. Text is plain Unicode with film titles
written out, and a mention is a half-open character span `[start, end)` of its turn's text.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any

from ecr_jax.data.acts import Act
from ecr_jax.files import read_parquet, write_parquet

MOVIE = "<movie>"
"""Replaces a film's title in a masked text (ECR 4.3); a special token of every language model."""


EMOTIONS = ("like", "curious", "happy", "grateful", "negative", "neutral", "nostalgia", "agreement", "surprise")
"""What `Turn.emotions` may hold. An emotion's index is its id; the order is that of ECR's published configuration."""


class Role(StrEnum):
    """Who speaks: the seeker of a film or the recommender; `UNKNOWN` where the corpus does not say.

    What turns of unknown role say counts as mentioned; it is neither felt by a seeker nor recommended by anybody.
    """

    SEEKER = "seeker"
    RECOMMENDER = "recommender"
    UNKNOWN = "unknown"


SPEAKERS = (Role.SEEKER, Role.RECOMMENDER)
"""The roles of a dialogue."""


class Feedback(StrEnum):
    """The seeker's feedback on a film after the dialogue (ReDial's form: 1, 0, 2 or no form)."""

    LIKE = "like"
    DISLIKE = "dislike"
    UNSAID = "unsaid"


class Split(StrEnum):
    """The three parts of a corpus; statistics and training use only `train`."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


@dataclass(frozen=True)
class Mention:
    """A mention of an entity in a turn.

    Attributes:
      start: first character of the span in the turn's text; 0 where the turn has no text.
      end: one past its last character; 0 where the turn has no text.
      name: the name as the corpus gives it, e.g. "Heat (1995)".
      film: whether it is a film (else a person, a genre, ...).
      entity: URI of its graph entity; None where it is not linked.
      feedback: the seeker's feedback on a film; None for anything else.
    """

    start: int
    end: int
    name: str
    film: bool
    entity: str | None = None
    feedback: Feedback | None = None


@dataclass(frozen=True)
class Turn:
    """The consecutive messages of one speaker; mentions are sorted by `start` and do not overlap.

    `emotions` are ground-truth labels (most prominent first) where a corpus has them; otherwise it is empty. So are
    `acts`, in the order in which the turn performs them.

    Of some dialogues only the films are known, not the text (`data/redial_extra.py`). A turn of unknown role may then
    have an empty `text`, and all its mentions have the span [0, 0).
    """

    role: Role
    text: str
    mentions: tuple[Mention, ...] = ()
    emotions: tuple[str, ...] = ()
    acts: tuple[Act, ...] = ()

    def __post_init__(self) -> None:
        end = 0
        if self.role == Role.UNKNOWN and not self.text and all(m.start == m.end == 0 for m in self.mentions):
            return
        for mention in self.mentions:
            if not end <= mention.start < mention.end <= len(self.text):
                raise ValueError(
                    f"mention {mention.name!r} has the span [{mention.start}, {mention.end}) in a text of "
                    f"{len(self.text)} characters; spans must be sorted, not empty, not overlapping and inside the text"
                )
            end = mention.end

    def masked(self) -> str:
        """The text with every film's title replaced by `MOVIE`; empty where there is no text."""
        if not self.text:
            return ""
        pieces, end = [], 0
        for mention in self.mentions:
            if mention.film:
                pieces += [self.text[end : mention.start], MOVIE]
                end = mention.end
        return "".join([*pieces, self.text[end:]])


@dataclass(frozen=True)
class Conversation:
    """A dialogue of turns, which alternate where roles are known.

    `id` is unique in its corpus, and the same in every preparation.
    """

    id: str
    split: Split
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class BadLine:
    """A line that a reader rejected: its file and 1-based number, and the reason."""

    file: str
    line: int
    reason: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class CorpusError(ValueError):
    """All malformed lines of a corpus, each with file, line number and reason."""

    def __init__(self, bad: Iterable[BadLine]):
        self.bad = tuple(bad)
        listed = "\n".join(f"  {line}" for line in self.bad)
        super().__init__(
            f"{len(self.bad)} malformed line(s):\n{listed}\n"
            "Correct them, or pass --skip-bad to continue without them (they are written to rejected.jsonl)."
        )


class FieldError(ValueError):
    """Raised by a parser for a record that is not of the format; the message names the field and the fault."""


_INVISIBLE = {"Cc", "Cf", "Cs", "Mc", "Me", "Mn", "Zl", "Zp", "Zs"}
_FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters and a Braille pattern that are drawn as nothing


def title_mentions(text: str, titles: Mapping[str, str], feedback: Mapping[str, Feedback]) -> tuple[Mention, ...]:
    """Where a text has the titles of films: one mention of each, the longest first where one is a part of another.

    Args:
      text: of a turn.
      titles: URI -> title.
      feedback: URI -> the seeker's feedback; `UNSAID` where a film is not there.
    """
    found: list[Mention] = []
    for uri, title in sorted(titles.items(), key=lambda pair: -len(pair[1])):
        start = text.find(title) if title else -1
        while start >= 0 and any(m.start < start + len(title) and start < m.end for m in found):
            start = text.find(title, start + 1)
        if start >= 0:
            opinion = feedback.get(uri, Feedback.UNSAID)
            found.append(Mention(start, start + len(title), title, True, uri, opinion))
    return tuple(sorted(found, key=lambda mention: mention.start))


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: white space, control and zero-width characters, marks without a letter, fillers."""
    return all(unicodedata.category(character) in _INVISIBLE or character in _FILLERS for character in text)


def merge_messages(messages: Iterable[Turn]) -> tuple[Turn, ...]:
    """Joins consecutive messages of one speaker with a space, shifting their spans and uniting their emotions and acts.

    Args:
      messages: one `Turn` per raw message, in order; blank ones are left out. Those of unknown role are not joined.

    Returns:
      Alternating turns.
    """
    turns: list[Turn] = []
    for role, group in groupby((message for message in messages if not is_blank(message.text)), lambda m: m.role):
        of_role = list(group)
        turns += of_role if role == Role.UNKNOWN else [_joined(of_role)]
    return tuple(turns)


def _joined(messages: Sequence[Turn]) -> Turn:
    """The messages of one speaker as one turn."""
    if len(messages) == 1:
        return messages[0]
    mentions, shift = [], 0
    for message in messages:
        mentions += [dataclasses.replace(m, start=m.start + shift, end=m.end + shift) for m in message.mentions]
        shift += len(message.text) + 1
    emotions = dict.fromkeys(emotion for message in messages for emotion in message.emotions)
    acts = dict.fromkeys(act for message in messages for act in message.acts)
    return Turn(messages[0].role, " ".join(m.text for m in messages), tuple(mentions), tuple(emotions), tuple(acts))


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> None:
    """Writes conversations to a Parquet file (temporary name, then renamed)."""
    rows = [dataclasses.asdict(conversation) for conversation in conversations]
    for turn in (turn for row in rows for turn in row["turns"]):
        turn["acts"] = [str(Act(**act)) for act in turn["acts"]]
    write_parquet(path, {name: [row[name] for row in rows] for name in _COLUMN_TYPES}, _COLUMN_TYPES)


def read_conversations(path: Path) -> list[Conversation]:
    """Reads what `write_conversations` wrote, equal to what was written."""
    columns = read_parquet(path)
    rows = zip(columns["id"], columns["split"], columns["turns"], strict=True)
    return [_conversation(identifier, split, turns) for identifier, split, turns in rows]


def _conversation(identifier: str, split: str, turns: list[dict[str, Any]]) -> Conversation:
    return Conversation(
        identifier,
        Split(split),
        tuple(
            Turn(
                Role(turn["role"]),
                turn["text"],
                tuple(
                    Mention(**{**m, "feedback": None if m["feedback"] is None else Feedback(m["feedback"])})
                    for m in turn["mentions"]
                ),
                tuple(turn["emotions"]),
                tuple(map(Act.parse, turn["acts"])),
            )
            for turn in turns
        ),
    )


_COLUMN_TYPES = {
    "id": "string",
    "split": "string",
    "turns": [
        {
            "role": "string",
            "text": "string",
            "mentions": [
                {
                    "start": "int32",
                    "end": "int32",
                    "name": "string",
                    "film": "bool",
                    "entity": "string",
                    "feedback": "string",
                }
            ],
            "emotions": ["string"],
            "acts": ["string"],
        }
    ],
}
