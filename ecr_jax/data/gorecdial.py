"""Reader for GoRecDial (Kang et al., EMNLP 2019): films are recommended, accepted and rejected by dialogue acts.

An act becomes an utterance of its speaker, so that an item is a mention in a recommender's turn: "RECOMMEND @id"
becomes "How about TITLE?"; "ACCEPT" and "REJECT" become "Yes, please." and "No, thanks.". The questions that the
interface asks after each act ("Why did you accept the movie?") are left out, because neither speaker uttered them; the
replies to them follow the act in the same speaker's turn.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecr_jax.data import parsing, redial
from ecr_jax.data.parsing import ParsedFile, plain_text, require_field, require_type
from ecr_jax.data.schema import Conversation, FieldError, Split

_RECOMMEND = re.compile(r"RECOMMEND @([0-9]+)")
_REPLIES = {"ACCEPT": "Yes, please.", "REJECT": "No, thanks."}
_PROMPT = re.compile(r"Why did you (?:recommend|accept|reject) (?:this|the) movie\?")


def read(path: Path, split: Split, uris: Mapping[str, str]) -> ParsedFile:
    """Reads a file of dialogues.

    Args:
      path: dialogues in ReDial's layout (`movieMentions`, `messages`, worker ids) whose texts may be acts; `liked` in
        the form is whether the film was accepted.
      split: the part of the corpus.
      uris: "Title (Year)" -> URI, e.g. `redial.title_uris`; by title, because the film ids are not ReDial's.

    Returns:
      A `ParsedFile`. In addition to `redial.read`'s counts: `recommended`, `accepted`, `rejected`, `prompts` (left
      out).
    """
    return parsing.parse_file(path, lambda value, line: parse(value, split, uris))


def parse(record: Any, split: Split, uris: Mapping[str, str]) -> tuple[Conversation, Counter[str]]:
    """Parses one dialogue: acts become utterances, and the rest is as in ReDial.

    Raises:
      FieldError: as `redial.parse`; also for an act by the wrong speaker, or a recommended film without a title.
    """
    record = dict(require_type(record, dict, "the line"))
    titles = require_field(record, "movieMentions", (dict, list))
    acts: Counter[str] = Counter(recommended=0, accepted=0, rejected=0, prompts=0)
    messages = []
    for number, message in enumerate(require_field(record, "messages", list)):
        where = f"messages[{number}]"
        message = dict(require_type(message, dict, where))
        text = require_field(message, "text", str, where).strip()
        sender = require_field(message, "senderWorkerId", (int, str), where)
        if act := _RECOMMEND.fullmatch(text):
            _require_sender(record, "respondentWorkerId", sender, f"{where} (RECOMMEND)")
            if act[1] not in titles:
                raise FieldError(f"{where} recommends @{act[1]}, which movieMentions does not list")
            message["text"] = f"How about @{act[1]}?"
            acts["recommended"] += 1
        elif text in _REPLIES:
            _require_sender(record, "initiatorWorkerId", sender, f"{where} ({text})")
            message["text"] = _REPLIES[text]
            acts["accepted" if text == "ACCEPT" else "rejected"] += 1
        elif _PROMPT.fullmatch(text):
            acts["prompts"] += 1
            continue
        messages.append(message)
    record["messages"] = messages
    by_id = {}
    if isinstance(titles, dict):
        by_id = {movie: uris.get(plain_text(title)) for movie, title in titles.items() if isinstance(title, str)}
    conversation, counts = redial.parse(record, split, by_id)
    counts.update(acts)
    return conversation, counts


def _require_sender(record: dict[str, Any], who: str, sender: int | str, where: str) -> None:
    if sender != require_field(record, who, (int, str)):
        raise FieldError(f"{where} is not by the {who}")
