"""Reader for TG-ReDial (Zhou et al., COLING 2020), Chinese dialogues that lead from topic to topic to a film.

A file is one JSON list of dialogues, in either of two forms:

- the original's, whose release is pickled and is not read: a pickle can run any program. Whoever trusts it writes it as
  JSON once, `json.dump(pickle.load(file), ...)`. A message has its `content`; beside the messages are `goal_path` and
  `mentionMovies`, by the messages' numbers;
- CRSLab's: a message has its `text` in tokens, the names of its `movie`s and `entity`s, and its `target`.

Names are those of CRSLab's CN-DBpedia export, which `knowledge.graph.from_crslab` reads. The corpus lists the films of
a message without their places, so that their titles are searched for in its text, first within 《》. It has no feedback
forms, so that every film's feedback is `unsaid`.

The goals of a message become acts: of the recommender, recommending a film, and asking where it leads to a topic or
offers a recommendation; of the seeker, what is asked for and refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ecr_jax.data import parsing
from ecr_jax.data.acts import Act, ActName
from ecr_jax.data.parsing import ParsedFile, require_field, require_type, short_repr
from ecr_jax.data.schema import Conversation, Feedback, FieldError, Mention, Role, Split, Turn, is_blank, merge_messages

_ROLES = {"Seeker": Role.SEEKER, "Recommender": Role.RECOMMENDER}
_ACTS = {
    Role.RECOMMENDER: {"推荐电影": ActName.RECOMMEND, "谈论": ActName.ASK, "请求推荐": ActName.ASK},
    Role.SEEKER: {"请求推荐": ActName.REQUEST, "允许推荐": ActName.REQUEST, "拒绝": ActName.REJECT},
}
"""Of each role, actions of goals and what they do: to recommend a film, to talk about a topic, to ask for (or offer) a
recommendation, to allow one, to refuse a topic. Others, such as feedback, have no act."""

_BRACKETS = re.compile(r"\s*[(（][^()（）]*[)）]\s*$")


def read(path: Path, split: Split, uris: Mapping[str, str] | None = None) -> ParsedFile:
    """Reads a file of dialogues.

    Args:
      path: a JSON list of dialogues, each in either form.
      split: the part of the corpus.
      uris: unused, because the corpus names its entities; it is there so that all readers have the same signature.

    Returns:
      A `ParsedFile`, in which the number of a line is that of a dialogue. In addition to the common counts:
      `lost_films` and `lost_entities` (listed, but not in the text, or only inside another mention), and
      `blank_messages`.
    """
    return parsing.parse_file(path, lambda value, _: parse(value, split), records=parsing.list_records)


def parse(record: Any, split: Split) -> tuple[Conversation, Counter[str]]:
    """Parses one dialogue.

    Raises:
      FieldError: a field is missing or has another type, a role is unknown, or there are no words.
    """
    record = require_type(record, dict, "the dialogue")
    counts: Counter[str] = Counter(lost_films=0, lost_entities=0, blank_messages=0)
    turns = []
    for number, message in enumerate(require_field(record, "messages", list)):
        where = f"messages[{number}]"
        message = require_type(message, dict, where)
        role = require_field(message, "role", str, where)
        if role not in _ROLES:
            raise FieldError(f"{where}.role is {short_repr(role)}; expected {' or '.join(_ROLES)}")
        original = "content" in message
        text, films, entities, goal = (_original if original else _crslab)(record, message, where)
        mentions: list[Mention] = []
        for kind, names in (("films", films), ("entities", entities)):  # a film takes precedence over names inside it
            for name in names:
                span = _find(text, name, mentions)
                if span is None:
                    counts[f"lost_{kind}"] += 1
                else:
                    film = kind == "films"
                    mentions.append(Mention(*span, name, film, name, Feedback.UNSAID if film else None))
        counts["blank_messages"] += is_blank(text)
        acts = _acts(goal, _ROLES[role])
        turns.append(Turn(_ROLES[role], text, tuple(sorted(mentions, key=lambda m: m.start)), acts=acts))
    merged = merge_messages(turns)
    if not merged:
        raise FieldError("messages hold no words")
    return Conversation(str(require_field(record, "conv_id", (int, str))), split, merged), counts


_Message = tuple[str, Iterable[str], Iterable[str], Sequence[Any]]
"""The text of a message, the names of its films and of its other entities, and its goal."""


def _original(record: Mapping[str, Any], message: Mapping[str, Any], where: str) -> _Message:
    text = " ".join(require_field(message, "content", str, where).split())
    number = str(require_field(message, "local_id", int, where))
    goals, films = (require_field(record, name, dict) for name in ("goal_path", "mentionMovies"))
    film = require_type(films.get(number, []), list, f"mentionMovies[{number}]")
    if film and (len(film) != 2 or not isinstance(film[1], str) or is_blank(film[1])):
        raise FieldError(f"mentionMovies[{number}] is {short_repr(film)}; expected a Douban id and a title")
    return text, film[1:], (), require_type(goals.get(number, []), list, f"goal_path[{number}]")


def _crslab(record: Mapping[str, Any], message: Mapping[str, Any], where: str) -> _Message:
    def texts(name: str) -> list[str]:
        values = require_field(message, name, list, where)
        return [require_type(value, str, f"{where}.{name}[{place}]") for place, value in enumerate(values)]

    text = " ".join("".join(texts("text")).split())
    return text, texts("movie"), texts("entity"), require_field(message, "target", list, where)


def _acts(goal: Sequence[Any], role: Role) -> tuple[Act, ...]:
    """The acts of a goal: [speaker, action, keywords, action, keywords, ...]; actions may be joined by a comma."""
    actions = (part for action in goal[1::2] if isinstance(action, str) for part in re.split("[，,]", action))
    names = (_ACTS[role].get(action.strip()) for action in actions)
    return tuple(dict.fromkeys(Act(name) for name in names if name is not None))


def _find(text: str, name: str, taken: Sequence[Mention]) -> tuple[int, int] | None:
    """The span of a name outside of other mentions: within 《》 or anywhere, whole or without brackets behind it."""
    forms = [form for form in dict.fromkeys((name, _BRACKETS.sub("", name))) if form]
    for pattern in (*(f"(?<=《){re.escape(form)}(?=》)" for form in forms), *map(re.escape, forms)):
        for match in re.finditer(pattern, text):
            if all(match.end() <= other.start or other.end <= match.start() for other in taken):
                return match.span()
    return None
