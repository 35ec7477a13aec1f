"""GoEmotions (Demszky et al., ACL 2020) as a stand-in for ECR's unpublished emotion labels: its 28 labels as our nine.

The mapping is a judgement about what the words mean in talk about films; `MAPPING` says why for each. Two labels have
no counterpart and are left out; nostalgia has no source and is found by a weak rule (`reminisces`).
"""

from __future__ import annotations

import re
from pathlib import Path

from ecr_jax.data.parsing import decode_line, plain_text, rejected_line, short_repr
from ecr_jax.data.schema import BadLine, CorpusError, FieldError, Split
from ecr_jax.emotion.labels import from_names

MAPPING = {
    # Liking somebody or something, or wanting it.
    "admiration": "like",  # praise of a thing or its maker, the usual way to like a film
    "love": "like",
    "desire": "like",  # "I would love to see that": a wish is a liking before the fact
    # Asking to know more.
    "curiosity": "curious",
    "confusion": "curious",  # asks for what is missing; 15 % of its comments are curious too, twice any other label
    # Pleasant arousal.
    "joy": "happy",
    "amusement": "happy",
    "excitement": "happy",
    "optimism": "happy",  # looking forward to something
    "pride": "happy",
    "relief": "happy",
    "gratitude": "grateful",
    # Whatever is unpleasant: the nine make no difference between the kinds.
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
    "approval": "agreement",  # mostly "yes", "true", "good point": assent to what was said
    "surprise": "surprise",
    "neutral": "neutral",
    # Left out. Caring is concern for the other person, which none of the nine is. Realization ("turns out ...") is
    # grouped with surprise by its authors, but goes with approval and neutral more than with surprise.
    "caring": None,
    "realization": None,
}
"""GoEmotions label -> one of the nine, or None for none."""

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
      split: which part; `valid` is their "dev".

    Returns:
      (text, ascending ids of its emotions, at least one) in file order. Texts whose labels are all left out by
      `MAPPING` (2.9 % of the training part) are not in it.

    Raises:
      ValueError: `labels.txt` names a label that `MAPPING` does not know.
      CorpusError: naming every malformed line.
    """
    folder = Path(folder)
    names = (folder / "labels.txt").read_text(encoding="utf-8").split()
    if unknown := [name for name in names if name not in MAPPING]:
        raise ValueError(f"{folder / 'labels.txt'} names {unknown[0]!r}, which is no GoEmotions label")
    path = folder / _FILES[split]
    examples: list[tuple[str, tuple[int, ...]]] = []
    bad: list[BadLine] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                text, labels = _parse(decode_line(line), names)
            except FieldError as error:
                bad.append(rejected_line(path, number, line, error))
            else:
                if ids := to_nine(labels, nostalgic=reminisces(text, labels)):
                    examples.append((text, ids))
    if bad:
        raise CorpusError(bad)
    return examples


def _parse(line: str, names: list[str]) -> tuple[str, list[str]]:
    columns = line.rstrip("\r\n").split("\t")
    if len(columns) != 3:
        raise FieldError(f"{len(columns)} columns; expected 3: text, label numbers, id")
    text = plain_text(columns[0])
    if not text:
        raise FieldError("the text is empty")
    labels = []
    for label in columns[1].split(","):
        if not (label.isascii() and label.isdigit() and int(label) < len(names)):
            raise FieldError(f"{short_repr(label)} is no label number; expected 0 to {len(names) - 1}")
        labels.append(names[int(label)])
    return text, labels


def to_nine(labels: list[str], *, nostalgic: bool) -> tuple[int, ...]:
    """Ascending ids of the emotions that GoEmotions labels stand for, each once; with nostalgia where asked."""
    mapped = {MAPPING[label] for label in labels} - {None}
    return tuple(sorted(from_names(mapped | {"nostalgia"} if nostalgic else mapped)))


def reminisces(text: str, labels: list[str]) -> bool:
    """The weak rule for nostalgia: words of reminiscence, and a warm or wistful label (anger, say, is none).

    It finds 37 of 43,410 training texts, of which some six in ten read as nostalgic: too little to learn from alone,
    so nostalgia has to come from labelled utterances of another corpus.
    """
    return not _WARM.isdisjoint(labels) and _REMINISCENCE.search(text) is not None
