"""Reader for IARD (Cai and Chen, UMAP 2020): ReDial dialogues whose utterances are labelled with intents and actions.

The labels become acts (`data/acts.py`), in the order of the file:

| IARD, seeker | act |
|---|---|
| IQU initial query, CON continue, REF reformulate, STO start over, CRI-C critique by comparison | request |
| PRO provide preference, ANS answer | prefer |
| CRI-A critique that adds a constraint | prefer, request |
| CRI-F critique of a feature | reject, prefer |
| SEE seen | seen |
| ACC accept | accept |
| REJ reject | reject |
| INQ inquire | question, without an attribute: IARD does not say what about |
| ASK ask opinion, NRE neutral response | chat |
| OTH others | greet or thank where its words say so, else chat |

| IARD, recommender | act |
|---|---|
| REC-S, REC-E recommend showing or exploring | recommend |
| EXP-I, EXP-P, EXP-S explain | explain |
| REQ request information, CLQ clarify the question | ask |
| R-ANS answer | answer |
| RESP respond | react |
| OTH others | greet or close where its words say so, else chat |
"""

from __future__ import annotations

import html
import re
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ecr_jax.data import parsing
from ecr_jax.data.acts import Act, ActName
from ecr_jax.data.parsing import ParsedFile, join_pieces, plain_text, require_field, require_type, short_repr
from ecr_jax.data.schema import Conversation, Feedback, FieldError, Role, Split, Turn, merge_messages

_SPLITS = {"train": Split.TRAIN, "absent-train": Split.TRAIN, "valid": Split.VALID, "test_open": Split.TEST}
_ACTS: Mapping[Role, Mapping[str, tuple[ActName, ...]]] = {
    Role.SEEKER: {
        **dict.fromkeys(("IQU", "CON", "REF", "STO", "CRI-C"), (ActName.REQUEST,)),
        **dict.fromkeys(("PRO", "ANS"), (ActName.PREFER,)),
        "CRI-A": (ActName.PREFER, ActName.REQUEST),
        "CRI-F": (ActName.REJECT, ActName.PREFER),
        "SEE": (ActName.SEEN,),
        "ACC": (ActName.ACCEPT,),
        "REJ": (ActName.REJECT,),
        "INQ": (ActName.QUESTION,),
        **dict.fromkeys(("ASK", "NRE"), (ActName.CHAT,)),
    },
    Role.RECOMMENDER: {
        **dict.fromkeys(("REC-S", "REC-E"), (ActName.RECOMMEND,)),
        **dict.fromkeys(("EXP-I", "EXP-P", "EXP-S"), (ActName.EXPLAIN,)),
        **dict.fromkeys(("REQ", "CLQ"), (ActName.ASK,)),
        "R-ANS": (ActName.ANSWER,),
        "RESP": (ActName.REACT,),
    },
}
_OTHER = "OTH"
_GREETING = re.compile(r"\b(?:hi|hello|hey|hiya|howdy|good (?:morning|afternoon|evening)|how are you)\b", re.IGNORECASE)
_LEAVING = re.compile(
    r"\b(?:thanks?|thank you|bye|goodbye|welcome|see you|take care|have fun|enjoy (?:it|your|the)"
    r"|have a (?:good|great|nice|wonderful|lovely|blessed)|nice (?:chatting|talking))\b",
    re.IGNORECASE,
)
# A film is written `@id <Title (Year)>`; some files repeat the part in angle brackets.
_FILM = re.compile(r"@([0-9]+)\s*<([^<>]*[^<>\s][^<>]*)>(?:\s*<\2>)*")


def read(path: Path, uris: Mapping[str, str]) -> ParsedFile:
    """Reads `iard.jsonl`; the splits are those of the ReDial dialogues that it labels (`redial_part`).

    Args:
      path: one dialogue a line.
      uris: ReDial's film id -> URI of the film in the graph, e.g. `redial.movie_uris`; other films are not linked.

    Returns:
      A `ParsedFile`, with a count of each act, as "act_recommend".
    """
    return parsing.parse_file(path, lambda value, line: parse(value, uris))


def parse(record: Any, uris: Mapping[str, str]) -> tuple[Conversation, Counter[str]]:
    """Parses one dialogue: titles are written out, and consecutive utterances of one role are joined.

    Raises:
      FieldError: a field is missing or has another type, a label is unknown, or there are no words.
    """
    record = require_type(record, dict, "the line")
    identifier = require_field(record, "conversation_id", str)
    part = require_field(record, "redial_part", str)
    if part not in _SPLITS:
        raise FieldError(f"redial_part is {part!r}; expected one of {', '.join(_SPLITS)}")
    turns = merge_messages(
        _turn(require_type(utterance, dict, f"dialogue_info.{key}"), f"dialogue_info.{key}", uris)
        for key, utterance in require_field(record, "dialogue_info", dict).items()
    )
    if not turns:
        raise FieldError("dialogue_info holds no words")
    counts = Counter(f"act_{act}" for turn in turns for act in turn.acts)
    return Conversation(identifier, _SPLITS[part], turns), counts


def _turn(utterance: dict[str, Any], where: str, uris: Mapping[str, str]) -> Turn:
    name = require_field(utterance, "role", str, where)
    if name not in (Role.SEEKER, Role.RECOMMENDER):
        raise FieldError(f"{where}.role is {short_repr(name)}; expected seeker or recommender")
    role = Role(name)
    text, mentions = join_pieces(_pieces(require_field(utterance, "utterance_text", str, where), uris))
    acts: list[ActName] = []
    for label in require_field(utterance, "sub-intent/action", list, where):
        if label == _OTHER:
            acts += _other(role, text)
        elif isinstance(label, str) and label in _ACTS[role]:
            acts += _ACTS[role][label]
        else:
            known = ", ".join((*_ACTS[role], _OTHER))
            raise FieldError(f"{where}.sub-intent/action has {short_repr(label)}; labels of a {role} are {known}")
    return Turn(role, text, mentions, acts=tuple(map(Act, dict.fromkeys(acts))))


def _other(role: Role, text: str) -> list[ActName]:
    leave = ActName.THANK if role == Role.SEEKER else ActName.CLOSE
    acts = [act for act, words in ((ActName.GREET, _GREETING), (leave, _LEAVING)) if words.search(text)]
    return acts or [ActName.CHAT]


def _pieces(text: str, uris: Mapping[str, str]) -> Iterable[str | tuple[str, dict[str, Any]]]:
    end = 0
    for film in _FILM.finditer(text):
        yield html.unescape(text[end : film.start()])
        fields = {"film": True, "entity": uris.get(film[1]), "feedback": Feedback.UNSAID}
        yield plain_text(urllib.parse.unquote(film[2])), fields  # a few titles hold "%3F"
        end = film.end()
    yield html.unescape(text[end:])
