"""Reader for ReDial (Li et al., NeurIPS 2018) in its original format: one dialogue per line, films written `@id`.

The seeker is the initiator and the recommender the respondent. Feedback is taken from the seeker's form only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecr_jax.data import parsing
from ecr_jax.data.acts import Act
from ecr_jax.data.parsing import (
    ParsedFile,
    join_pieces,
    plain_text,
    require_field,
    require_type,
    short_repr,
)
from ecr_jax.data.schema import (
    BadLine,
    Conversation,
    Feedback,
    FieldError,
    Role,
    Split,
    Turn,
    is_blank,
    merge_messages,
)

FEEDBACK_CODES = {0: Feedback.DISLIKE, 1: Feedback.LIKE, 2: Feedback.UNSAID}
"""ReDial's codes in the field `liked` of a form."""

_FILM_ID = re.compile(r"@([0-9]+)")


@dataclass(frozen=True)
class Movie:
    """A line of the film table, with the field names of the table.

    Attributes:
      id: ReDial's `movieId`.
      name: "Title (Year)", plain.
      uri: in the graph, None where unknown.
      genre: e.g. "comedy".
      director, writer, star: names.
      plot: a sentence or two; may be empty.
    """

    id: str
    name: str
    uri: str | None = None
    genre: tuple[str, ...] = ()
    director: tuple[str, ...] = ()
    writer: tuple[str, ...] = ()
    star: tuple[str, ...] = ()
    plot: str = ""


def read(path: Path, split: Split, uris: Mapping[str, str]) -> ParsedFile:
    """Reads a file of dialogues; `parse` describes how one is converted.

    Args:
      path: `train_data.jsonl`, `test_data.jsonl` or any file of that format.
      split: the part of the corpus (`split_train` makes a validation part where there is none).
      uris: movieId -> URI of the film in the graph; other films are not linked.

    Returns:
      A `ParsedFile`. In addition to the common counts: `messages`, `blank_messages` (left out), `unknown_ids` (`@id`
      that `movieMentions` does not list: it remains as text), `untitled_ids` (listed without a title: it remains as
      text too), `without_form` (dialogues without a seeker's form).
    """
    return parsing.parse_file(path, lambda value, line: parse(value, split, uris))


def parse(
    record: Any, split: Split, uris: Mapping[str, str | None], acts: Sequence[tuple[Act, ...]] | None = None
) -> tuple[Conversation, Counter[str]]:
    """Parses one dialogue.

    Titles are written out for `@id`, HTML entities are decoded, white space is collapsed, and consecutive messages of
    one speaker are joined. Reference: UniCRS `process.py`, which decodes entities last and so may leave white space
    that was an entity; here it is collapsed as well.

    Args:
      record: the JSON value. Fields that the original release does not have are ignored; a message needs only
        `senderWorkerId` and `text`.
      split: the part it belongs to.
      uris: movieId -> URI, or None for a film without a link.
      acts: of each message, where they are known.

    Returns:
      The conversation and the counts that `read` describes.

    Raises:
      FieldError: a field is missing, has another type or is out of range; the two speakers are the same; there are no
        words.
    """
    record = require_type(record, dict, "the line")
    counts: Counter[str] = Counter(messages=0, blank_messages=0, unknown_ids=0, untitled_ids=0, without_form=0)
    identifier = str(require_field(record, "conversationId", (str, int)))
    if is_blank(identifier):
        raise FieldError("conversationId is empty")
    roles = _roles(record)
    titles = _titles(record)
    feedback = _feedback(record)
    counts["without_form"] += not feedback

    messages = []
    for number, message in enumerate(require_field(record, "messages", list)):
        where = f"messages[{number}]"
        message = require_type(message, dict, where)
        sender = require_field(message, "senderWorkerId", (int, str), where)
        if sender not in roles:
            raise FieldError(
                f"{where}.senderWorkerId is {short_repr(sender)}, which is neither the initiator nor the respondent "
                f"({' and '.join(map(short_repr, roles))})"
            )
        raw = require_field(message, "text", str, where)
        text, mentions = join_pieces(_pieces(raw, titles, feedback, uris, counts))
        counts["messages"] += 1
        counts["blank_messages"] += is_blank(text)
        messages.append(Turn(roles[sender], text, mentions, acts=() if acts is None else acts[number]))
    turns = merge_messages(messages)
    if not turns:
        raise FieldError("messages hold no words")
    return Conversation(identifier, split, turns), counts


def _roles(record: dict[str, Any]) -> dict[int | str, Role]:
    seeker = require_field(record, "initiatorWorkerId", (int, str))
    recommender = require_field(record, "respondentWorkerId", (int, str))
    if seeker == recommender:
        raise FieldError(
            f"initiatorWorkerId and respondentWorkerId are both {short_repr(seeker)}; a dialogue needs two"
        )
    return {seeker: Role.SEEKER, recommender: Role.RECOMMENDER}


def _object_or_empty_list(record: dict[str, Any], name: str) -> dict[str, Any]:
    """ReDial writes an empty object as `[]`."""
    value = require_field(record, name, (dict, list))
    if isinstance(value, list):
        if value:
            raise FieldError(f"{name} is a list of {len(value)}; expected an object, or [] where it is empty")
        return {}
    return value


def _titles(record: dict[str, Any]) -> dict[str, str | None]:
    titles = {}
    for movie, title in _object_or_empty_list(record, "movieMentions").items():
        if title is not None:
            title = plain_text(require_type(title, str, f"movieMentions[{movie}]"))
            title = None if is_blank(title) else title
        titles[movie] = title
    return titles


def _feedback(record: dict[str, Any]) -> dict[str, Feedback]:
    if "initiatorQuestions" not in record:
        return {}
    feedback = {}
    for movie, answers in _object_or_empty_list(record, "initiatorQuestions").items():
        where = f"initiatorQuestions[{movie}]"
        answers = require_type(answers, dict, where)
        if "liked" in answers:
            liked = require_field(answers, "liked", int, where)
            if liked not in FEEDBACK_CODES:
                raise FieldError(f"{where}.liked is {liked}; expected 0 (disliked), 1 (liked) or 2 (did not say)")
            feedback[movie] = FEEDBACK_CODES[liked]
        else:
            feedback[movie] = Feedback.UNSAID
    return feedback


def _pieces(
    text: str,
    titles: Mapping[str, str | None],
    feedback: Mapping[str, Feedback],
    uris: Mapping[str, str | None],
    counts: Counter[str],
) -> Iterable[str | tuple[str, dict[str, Any]]]:
    # HTML entities are decoded before the search for ids; those in titles are decoded already.
    for place, piece in enumerate(_FILM_ID.split(html.unescape(text))):
        if place % 2 == 0:
            yield piece
        elif (title := titles.get(piece)) is None:
            counts["untitled_ids" if piece in titles else "unknown_ids"] += 1
            yield f"@{piece}"
        else:
            fields = {"film": True, "entity": uris.get(piece), "feedback": feedback.get(piece, Feedback.UNSAID)}
            yield title, fields


def split_train(conversations: Iterable[Conversation], share: float) -> list[Conversation]:
    """Moves part of the training dialogues to the validation split, for releases that have only train and test.

    The selection depends only on a dialogue's id, not on the order or the number of the others.

    Args:
      conversations: the training part.
      share: the approximate fraction that becomes `Split.VALID`.

    Returns:
      The same conversations in the same order, each in train or valid.
    """
    return [
        dataclasses.replace(c, split=Split.VALID if _fraction(c.id) < share else Split.TRAIN) for c in conversations
    ]


def _fraction(identifier: str) -> float:
    """A number in [0, 1) from a text, the same on every machine."""
    return int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:6], "big") / 2**48


def read_movies(path: Path) -> tuple[dict[str, Movie], list[BadLine]]:
    """Reads the film table `movies.jsonl` (per line: movieId, name, dbpedia, genre, director, writer, star, plot).

    Args:
      path: the file; other fields are ignored, and all fields except `movieId` and `name` may be missing or null.

    Returns:
      movieId -> `Movie`, in file order; and every rejected line.
    """
    movies, bad = parsing.read_jsonl(path, lambda value, _: _movie(value))
    return {movie.id: movie for movie in movies}, bad


def _movie(record: Any) -> Movie:
    record = require_type(record, dict, "the line")
    name = plain_text(require_field(record, "name", str))
    if is_blank(name):
        raise FieldError("name is empty")

    def names(key: str) -> tuple[str, ...]:
        values = [] if record.get(key) is None else require_field(record, key, list)
        return tuple(plain_text(require_type(value, str, f"{key}[{place}]")) for place, value in enumerate(values))

    def text(key: str) -> str | None:
        return None if record.get(key) is None else require_field(record, key, str)

    return Movie(
        id=str(require_field(record, "movieId", (str, int))),
        name=name,
        uri=text("dbpedia"),
        genre=names("genre"),
        director=names("director"),
        writer=names("writer"),
        star=names("star"),
        plot=plain_text(text("plot") or ""),
    )


def movie_uris(movies: Mapping[str, Movie]) -> dict[str, str]:
    """movieId -> URI of every film that has one; the `uris` of `read`."""
    return {movie.id: movie.uri for movie in movies.values() if movie.uri is not None}


def title_uris(movies: Mapping[str, Movie]) -> dict[str, str]:
    """ "Title (Year)" -> URI, for texts without film ids; names with several URIs are left out."""
    uris_of: dict[str, set[str]] = {}
    for movie in movies.values():
        if movie.uri is not None:
            uris_of.setdefault(movie.name, set()).add(movie.uri)
    return {name: next(iter(uris)) for name, uris in uris_of.items() if len(uris) == 1}
