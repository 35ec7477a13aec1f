"""Reader for GoRecDial (Kang et al., EMNLP 2019): films are recommended, accepted and rejected by dialogue acts.

An act becomes an utterance of its speaker, so that an item is a mention in a recommender's turn: "RECOMMEND @id"
becomes "How about TITLE?"; "ACCEPT" and "REJECT" become "Yes, please." and "No, thanks.". The questions that the
interface asks after each act ("Why did you accept the movie?") are left out, because neither speaker uttered them; the
replies to them follow the act in the same speaker's turn.

Turns keep what is known of their acts (`Turn.acts`): recommend, accept and reject as the interface has them, and
explain for the recommender's reply to "Why did you recommend this movie?". What the other turns do, the corpus does not
say: they have no acts.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecr_jax.data import parsing, redial
from ecr_jax.data.acts import Act, ActName
from ecr_jax.data.parsing import ParsedFile, plain_text, require_field, require_type, short_repr
from ecr_jax.data.redial import Movie
from ecr_jax.data.schema import BadLine, Conversation, FieldError, Split

_RECOMMEND = re.compile(r"RECOMMEND @([0-9]+)")
_REPLIES = {"ACCEPT": "Yes, please.", "REJECT": "No, thanks."}
_PROMPT = re.compile(r"Why did you (recommend|accept|reject) (?:this|the) movie\?")
_FILM_COLUMNS = ("movie_id", "ml_title", "ml_year", "imdb_id", "plot")


def read(path: Path, split: Split, uris: Mapping[str, str]) -> ParsedFile:
    """Reads a file of dialogues.

    Args:
      path: dialogues in ReDial's layout (`movieMentions`, `messages`, worker ids) whose texts may be acts; `liked` in
        the form is whether the film was accepted.
      split: the part of the corpus.
      uris: film id -> URI, `redial.movie_uris` of `read_movies`.

    Returns:
      A `ParsedFile`. In addition to `redial.read`'s counts: `recommended`, `accepted`, `rejected`, `prompts` (left
      out), and `repeated`: lines that are the same as an earlier one, which are left out as well.
    """
    repeated = parsing.repeated_lines(path)
    parsed = parsing.parse_file(path, lambda value, line: parse(value, split, uris), skip=repeated)
    return parsed._replace(counts=parsed.counts | {"repeated": len(repeated)})


def parse(record: Any, split: Split, uris: Mapping[str, str]) -> tuple[Conversation, Counter[str]]:
    """Parses one dialogue: acts become utterances, and the rest is as in ReDial.

    Raises:
      FieldError: as `redial.parse`; also for an act by the wrong speaker, or a recommended film without a title.
    """
    record = dict(require_type(record, dict, "the line"))
    titles = require_field(record, "movieMentions", (dict, list))
    counts: Counter[str] = Counter(recommended=0, accepted=0, rejected=0, prompts=0)
    messages: list[dict[str, Any]] = []
    acts: list[tuple[Act, ...]] = []
    asked_why = False
    for number, message in enumerate(require_field(record, "messages", list)):
        where = f"messages[{number}]"
        message = dict(require_type(message, dict, where))
        text = require_field(message, "text", str, where).strip()
        sender = require_field(message, "senderWorkerId", (int, str), where)
        if prompt := _PROMPT.fullmatch(text):
            asked_why = prompt[1] == "recommend"
            counts["prompts"] += 1
            continue
        act = None
        if recommended := _RECOMMEND.fullmatch(text):
            _require_sender(record, "respondentWorkerId", sender, f"{where} (RECOMMEND)")
            if recommended[1] not in titles:
                raise FieldError(f"{where} recommends @{recommended[1]}, which movieMentions does not list")
            message["text"], act = f"How about @{recommended[1]}?", ActName.RECOMMEND
            counts["recommended"] += 1
        elif text in _REPLIES:
            _require_sender(record, "initiatorWorkerId", sender, f"{where} ({text})")
            message["text"], act = _REPLIES[text], ActName.ACCEPT if text == "ACCEPT" else ActName.REJECT
            counts["accepted" if text == "ACCEPT" else "rejected"] += 1
        elif asked_why and text and sender == record.get("respondentWorkerId"):
            act = ActName.EXPLAIN
        asked_why = False
        messages.append(message)
        acts.append(() if act is None else (Act(act),))
    conversation, common_counts = redial.parse(record | {"messages": messages}, split, uris, acts)
    counts.update(common_counts)
    return conversation, counts


def _require_sender(record: dict[str, Any], who: str, sender: int | str, where: str) -> None:
    if sender != require_field(record, who, (int, str)):
        raise FieldError(f"{where} is not by the {who}")


def read_movies(path: Path) -> tuple[dict[str, Movie], list[BadLine]]:
    """Reads the film table `movie_plot.csv`, whose IMDb ids are those of the Wikidata film table.

    Args:
      path: CSV with the columns movie_id, ml_title, ml_year, imdb_id (digits, without "tt") and plot; others are
        ignored.

    Returns:
      Film id -> `Movie`, in file order, with the URI "imdb:tt..."; and every rejected line.
    """
    movies: dict[str, Movie] = {}
    bad: list[BadLine] = []
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        missing = [name for name in _FILM_COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            return {}, [BadLine(str(path), 1, f"no column {', '.join(missing)}", ",".join(rows.fieldnames or ()))]
        for row in rows:
            try:
                movie = _movie(row)
                if movie.id in movies:
                    raise FieldError(f"movie_id {movie.id!r} occurs twice")
            except FieldError as error:
                bad.append(BadLine(str(path), rows.line_num, str(error), ",".join(filter(None, row.values()))))
            else:
                movies[movie.id] = movie
    return movies, bad


def _movie(row: Mapping[str, str | None]) -> Movie:
    cells = {name: plain_text(row[name] or "") for name in _FILM_COLUMNS}
    for name in ("movie_id", "ml_title"):
        if not cells[name]:
            raise FieldError(f"{name} is empty")
    for name in ("ml_year", "imdb_id"):
        if not cells[name].isdecimal():
            raise FieldError(f"{name} is {short_repr(cells[name])}; expected digits")
    return Movie(
        id=cells["movie_id"],
        name=f"{cells['ml_title']} ({cells['ml_year']})",
        uri=f"imdb:tt{cells['imdb_id']}",
        plot=cells["plot"],
    )
