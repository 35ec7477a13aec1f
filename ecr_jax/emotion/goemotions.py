"""GoEmotions (Demszky et al., ACL 2020), whose 28 labels are mapped to ECR's nine (its own labels are unpublished).

The mapping is a judgement about the labels' meaning in conversations about films; `MAPPING` gives the reason for each.
Two labels have no counterpart and are left out. No label corresponds to nostalgia; a weak rule (`reminisces`) finds it.
"""

from __future__ import annotations

import re
from pathlib import Path

from ecr_jax.data.parsing import decode_line, numbered_lines, plain_text, rejected_line, short_repr
from ecr_jax.data.schema import BadLine, CorpusError, FieldError, Split, is_blank
from ecr_jax.emotion.labels import from_names

MAPPING = {
    # Liking or wanting something.
    "admiration": "like",  # praise of a work or its maker, the usual way to like a film
    "love": "like",
    "desire": "like",  # "I would love to see that": to wish for a film is to like it in advance
    # Asking for more information.
    "curiosity": "curious",
    "confusion": "curious",  # asks for what is missing; 15 % of its comments are curious too, twice any other label
    # Pleasant emotions.
    "joy": "happy",
    "amusement": "happy",
    "excitement": "happy",
    "optimism": "happy",  # looking forward to something
    "pride": "happy",
    "relief": "happy",
    "gratitude": "grateful",
    # Unpleasant emotions, between which the nine do not distinguish.
    "anger": "negative",
    "annoyance": "negative",
    "disapproval": "negative",
    "disgust": "negative",
    "disappointment": "negative",
    "sadness": "negative",
    "grief": "negative",
    "remorse": "negative",
    "embarrassment": "negative",
    "fear": "negative",
    "nervousness": "negative",
    "approval": "agreement",  # mostly "yes", "true", "good point": agreement with the other speaker
    "surprise": "surprise",
    "neutral": "neutral",
    # Left out. Caring is concern for the other person, which is none of the nine. Realization ("turns out ...") is
    # grouped with surprise by its authors, but occurs more often with approval and neutral than with surprise.
    "caring": None,
    "realization": None,
}
"""GoEmotions label -> one of the nine, or None for a label that is left out."""

_REMINISCENCE = re.compile(
    r"\bnostalgi|\bmy childhood\b"
    r"|\b(?:when|since) (?:i|we) (?:was|were) (?:a (?:kid|child)|kids|children|little|young)\b"
    r"|\bas a (?:kid|child)\b|\bgood old days\b|\bthose were the days\b|\bback in the day\b"
    r"|\b(?:grew|growing) up (?:on|with|watching)\b|\btakes? me back\b"
    r"|\b(?:brings?|bringing|brought) back (?:\w+ )?memories\b|\bfond(?:est)? memor"
    r"|\bmiss (?:those|the old) (?:old )?days\b",
    re.IGNORECASE,
)
_WARM = frozenset(
    {"admiration", "amusement", "approval", "desire", "excitement", "gratitude", "joy", "love", "sadness"}
)


_FILES = {Split.TRAIN: "train.tsv", Split.VALID: "dev.tsv", Split.TEST: "test.tsv"}


def read(folder: Path, split: Split) -> list[tuple[str, tuple[int, ...]]]:
    """Reads a part of the corpus.

    Args:
      folder: holds `train.tsv`, `dev.tsv`, `test.tsv` (text, comma-separated label numbers, id) and `labels.txt` (the
        names of the labels).
      split: the part; `valid` is their "dev".

    Returns:
      (text, ascending ids of its emotions, at least one) in file order, without the texts whose labels are all left out
      by `MAPPING` (2.9 % of the training part).

    Raises:
      ValueError: `labels.txt` names a label that is not in `MAPPING`.
      CorpusError: lists every malformed line.
    """
    folder = Path(folder)
    names = (folder / "labels.txt").read_text(encoding="utf-8").split()
    if unknown := [name for name in names if name not in MAPPING]:
        raise ValueError(f"{folder / 'labels.txt'} names {unknown[0]!r}, which is not a GoEmotions label")
    path = folder / _FILES[split]
    examples: list[tuple[str, tuple[int, ...]]] = []
    bad: list[BadLine] = []
    for number, line in numbered_lines(path):
        try:
            text, labels = _parse(decode_line(line), names)
        except FieldError as error:
            bad.append(rejected_line(path, number, line, error))
        else:
            if ids := map_labels(labels, nostalgic=reminisces(text, labels)):
                examples.append((text, ids))
    if bad:
        raise CorpusError(bad)
    return examples


def _parse(line: str, names: list[str]) -> tuple[str, list[str]]:
    columns = line.split("\t")
    if len(columns) != 3:
        raise FieldError(f"{len(columns)} columns; expected 3: text, label numbers, id")
    text = plain_text(columns[0])
    if is_blank(text):
        raise FieldError("the text is empty")
    labels = []
    for label in columns[1].split(","):
        if not (label.isascii() and label.isdigit() and int(label) < len(names)):
            raise FieldError(f"{short_repr(label)} is not a label number; expected 0 to {len(names) - 1}")
        labels.append(names[int(label)])
    return text, labels


def map_labels(labels: list[str], *, nostalgic: bool) -> tuple[int, ...]:
    """Ascending ids of the emotions that GoEmotions labels map to; `nostalgic` adds nostalgia."""
    mapped = {MAPPING[label] for label in labels} - {None}
    return tuple(sorted(from_names(mapped | {"nostalgia"} if nostalgic else mapped)))


def reminisces(text: str, labels: list[str]) -> bool:
    """The weak rule for nostalgia: a phrase of reminiscence together with a warm or wistful label (not anger, say).

    It matches 37 of 43,410 training texts, of which about six in ten are nostalgic. These are too few to learn from, so
    that nostalgia has to come from labelled utterances of another corpus.
    """
    return not _WARM.isdisjoint(labels) and _REMINISCENCE.search(text) is not None
