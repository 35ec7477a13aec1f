"""GoEmotions (Demszky et al., ACL 2020) as a stand-in for ECR's unpublished emotion labels: its 28 labels as our nine.

The mapping is a judgement about what the words mean in talk about films; `MAPPING` says why for each. Two labels have
no counterpart and are left out; nostalgia has no source and is found by a weak rule (`reminisces`).
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ecr_jax.corpus.reading import EMOTIONS, plain, shown
from ecr_jax.corpus.schema import BadLine, FieldError
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
    r"\bnostalgi|\bmy childhood\b|\b(?:when|since) (?:i|we) (?:was|were) (?:a (?:kid|child)|kids|children|little|young)\b"
    r"|\bas a (?:kid|child)\b|\bgood old days\b|\bthose were the days\b|\bback in the day\b"
    r"|\b(?:grew|growing) up (?:on|with|watching)\b|\btakes? me back\b"
    r"|\b(?:brings?|bringing|brought) back (?:\w+ )?memories\b|\bfond(?:est)? memor|\bmiss (?:those|the old) (?:old )?days\b",
    re.IGNORECASE,
)
_WARM = frozenset({"admiration", "amusement", "approval", "desire", "excitement", "gratitude", "joy", "love", "sadness"})


class GoEmotions(NamedTuple):
    """The mapped corpus.

    Attributes:
      train, dev, test: (text, ascending ids of its emotions, at least one) in file order.
      bad: the lines that were refused.
      counts: `<split>/<emotion>` (texts that have it), `<split>/texts`, `<split>/left_out` (nothing but caring or
        realization), `<split>/by_rule` (got nostalgia by the rule).
    """

    train: list[tuple[str, tuple[int, ...]]]
    dev: list[tuple[str, tuple[int, ...]]]
    test: list[tuple[str, tuple[int, ...]]]
    bad: list[BadLine]
    counts: dict[str, int]


def read(folder: Path) -> GoEmotions:
    """Reads `train.tsv`, `dev.tsv`, `test.tsv` (text, comma-separated label numbers, id) and `labels.txt` (the names).

    Raises:
      ValueError: `labels.txt` names a label that `MAPPING` does not know.
    """
    folder = Path(folder)
    names = (folder / "labels.txt").read_text(encoding="utf-8").split()
    if unknown := [name for name in names if name not in MAPPING]:
        raise ValueError(f"{folder / 'labels.txt'} names {unknown[0]!r}, which is no GoEmotions label")
    bad: list[BadLine] = []
    counts: Counter[str] = Counter()
    parts = []
    for split in ("train", "dev", "test"):
        counts.update({f"{split}/{key}": 0 for key in (*EMOTIONS, "texts", "left_out", "by_rule")})
        examples = []
        path = folder / f"{split}.tsv"
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    text, labels = _parse(line, names)
                except FieldError as error:
                    bad.append(BadLine(str(path), number, str(error), line.rstrip("\n")))
                    continue
                nostalgic = reminisces(text, labels)
                ids = to_nine(labels, nostalgic)
                counts[f"{split}/by_rule"] += nostalgic
                counts[f"{split}/left_out"] += not ids
                if ids:
                    examples.append((text, ids))
                    counts.update([f"{split}/texts", *(f"{split}/{EMOTIONS[i]}" for i in ids)])
        parts.append(examples)
    return GoEmotions(*parts, bad, dict(counts))


def _parse(line: str, names: list[str]) -> tuple[str, list[str]]:
    columns = line.rstrip("\r\n").split("\t")
    if len(columns) != 3:
        raise FieldError(f"{len(columns)} columns; expected 3: text, label numbers, id")
    text = plain(columns[0])
    if not text:
        raise FieldError("the text is empty")
    labels = []
    for label in columns[1].split(","):
        if not (label.isascii() and label.isdigit() and int(label) < len(names)):
            raise FieldError(f"{shown(label)} is no label number; expected 0 to {len(names) - 1}")
        labels.append(names[int(label)])
    return text, labels


def to_nine(labels: list[str], nostalgic: bool = False) -> tuple[int, ...]:
    """Ascending ids of the emotions that GoEmotions labels stand for, each once; with nostalgia where asked."""
    mapped = {MAPPING[label] for label in labels} - {None}
    return tuple(sorted(from_names(mapped | {"nostalgia"} if nostalgic else mapped)))


def reminisces(text: str, labels: list[str]) -> bool:
    """The weak rule for nostalgia: words of reminiscence, and a warm or wistful label (anger, say, is none).

    XX
    """
    return not _WARM.isdisjoint(labels) and _REMINISCENCE.search(text) is not None
