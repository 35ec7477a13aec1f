"""Sentences in which one thing is liked and another is not, to measure whether valence is told apart within a turn.

`contrasts.jsonl` holds sentences that were written for this project, over titles of films, names and genres; nothing is
trained on them. One line is {"text": ..., "like": [names], "dislike": [names]}.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ecr_jax.data.schema import Feedback, FieldError, Mention, Role, Turn

FILE = Path(__file__).with_name("contrasts.jsonl")
"""The sentences of this package."""


@dataclass(frozen=True)
class Contrast:
    """A seeker's turn whose mentions carry the feedback that the sentence expresses; at least one of each kind."""

    turn: Turn


def read(path: Path = FILE) -> list[Contrast]:
    """Reads contrast sentences.

    A name that ends in a year in brackets or begins with a capital letter counts as a film, unless it is listed in
    `others`, the line's optional list of names of people.

    Raises:
      ValueError: a line is not of the format, a name is not in its text exactly once, or one of the two lists is empty;
        the message has file and line.
    """
    contrasts = []
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                contrasts.append(_contrast(json.loads(line)))
            except (FieldError, ValueError) as error:
                raise ValueError(
                    f"{path}:{number}: {error}; a line is {{text, like: [names], dislike: [names]}}"
                ) from error
    return contrasts


def _contrast(record: object) -> Contrast:
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise FieldError("no text")
    text, mentions = record["text"], []
    for feedback in (Feedback.LIKE, Feedback.DISLIKE):
        names = record.get(feedback.value)
        if not names or not isinstance(names, list):
            raise FieldError(f"no names in {feedback.value!r}")
        for name in names:
            if text.count(name) != 1:
                raise FieldError(f"{name!r} occurs {text.count(name)} times in the text, not once")
            start = text.index(name)
            film = name[0].isupper() and name not in record.get("others", [])
            mentions.append(Mention(start, start + len(name), name, film, None, feedback))
    return Contrast(Turn(Role.SEEKER, text, tuple(sorted(mentions, key=lambda mention: mention.start))))
