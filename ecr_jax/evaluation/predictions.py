"""Prediction rows: what a model said of each target, one JSON object a line. Evaluation reads nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ecr_jax import files, metrics
from ecr_jax.data.schema import Feedback

TOP = 50
"""How many of the best items a row names: what coverage and popularity at the largest cut need."""


@dataclass(frozen=True)
class Target:
    """An item that a recommender turn recommends, and what was mentioned before.

    Attributes:
      conversation: id of the dialogue.
      turn: index of the turn.
      target: entity id of the item.
      feedback: the seeker's answer.
      repeated: whether the item was mentioned before this turn.
      context: entity ids mentioned before this turn, in order (what is no item is passed over by who reads it).
    """

    conversation: str
    turn: int
    target: int
    feedback: Feedback
    repeated: bool
    context: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """A model's answer to one target.

    Attributes:
      model: e.g. "ecr", "popularity".
      conversation, turn, target, feedback, repeated: as in `Target`.
      rank: 1-based among the items; tied items share the mean of their places (published protocol: they are in order).
      score: probability of the target over the items, times the odds of its being liked (to the power `LIKE_POWER`) where a
        model foresees it; published protocol: a probability, over all entities where a model has it.
      top: entity ids of the best items, best first.
    """

    model: str
    conversation: str
    turn: int
    target: int
    feedback: Feedback
    repeated: bool
    rank: float
    score: float
    top: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, int, int]:
        """What the row is about, whichever the model."""
        return self.conversation, self.turn, self.target


def predictions(
    model: str,
    targets: Sequence[Target],
    probabilities: np.ndarray,
    items: np.ndarray,
    top: int = TOP,
    ties: Literal["mean", "first"] = "mean",
) -> list[Prediction]:
    """Ranks each target among the items.

    Args:
      model: its name.
      targets: n of them.
      probabilities: [n, I] over the items, one row a target (a turn's targets share theirs).
      items: int [I], sorted entity ids.
      top: how many of the best items a row names.
      ties: how tied items rank, see `metrics.ranks`.

    Raises:
      ValueError: if a target is not among the items.
    """
    wanted = np.array([t.target for t in targets], np.int64)
    columns = np.minimum(np.searchsorted(items, wanted), len(items) - 1)
    if (items[columns] != wanted).any():
        stray = targets[int(np.argmax(items[columns] != wanted))]
        raise ValueError(
            f"target {stray.target} of {stray.conversation}:{stray.turn} is not among the {len(items)} items; "
            "make targets of recommendable films only and give the items sorted"
        )
    if not targets:
        return []
    rank = metrics.ranks(probabilities, columns, ties)
    score = probabilities[np.arange(len(targets)), columns]
    top = min(top, len(items))
    best = np.sort(np.argpartition(-probabilities, top - 1, axis=1)[:, :top], axis=1)
    by_score = np.argsort(-np.take_along_axis(probabilities, best, axis=1), axis=1, kind="stable")
    best = items[np.take_along_axis(best, by_score, axis=1)]  # [n, top]
    return [
        Prediction(
            model, t.conversation, t.turn, t.target, t.feedback, t.repeated, float(r), float(s), tuple(b.tolist())
        )
        for t, r, s, b in zip(targets, rank, score, best, strict=True)
    ]


def write(path: Path, rows: Iterable[Prediction]) -> None:
    """Writes rows as JSONL (temporary name, then renamed)."""
    files.write_jsonl(path, (dataclasses.asdict(row) for row in rows))


def read(path: Path) -> dict[str, list[Prediction]]:
    """Reads what `write` wrote, by model, in the order of the file.

    Raises:
      ValueError: if a row lacks a field or has an unknown one; says which row.
    """
    models: dict[str, list[Prediction]] = {}
    for number, row in enumerate(files.read_jsonl_rows(path), start=1):
        try:
            made = Prediction(**{**row, "feedback": Feedback(row["feedback"]), "top": tuple(row.get("top", ()))})
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{path}:{number} is no prediction row ({error}); evaluate the run again") from error
        models.setdefault(made.model, []).append(made)
    return models


def align(models: Mapping[str, Sequence[Prediction]]) -> dict[str, list[Prediction]]:
    """Every model's rows in the order of the first model's.

    Raises:
      ValueError: the models do not have the same targets, or say different things of one.
    """
    name, first = next(iter(models.items()))
    places = sorted(range(len(first)), key=lambda place: first[place].key)
    aligned = {}
    for model, rows in models.items():
        ordered = sorted(rows, key=lambda row: row.key)
        if [row.key for row in ordered] != [first[place].key for place in places]:
            strange = len({row.key for row in rows} ^ {row.key for row in first})
            raise ValueError(
                f"{model!r} ({len(rows)} rows) and {name!r} ({len(first)} rows) do not have the same targets "
                f"({strange} are in one only); evaluate both on the same prepared corpus and split, by one protocol"
            )
        back: list[Prediction] = list(ordered)
        for place, row in zip(places, ordered, strict=True):
            known = first[place]
            if (row.feedback, row.repeated) != (known.feedback, known.repeated):
                raise ValueError(
                    f"{model!r} and {name!r} disagree on target {row.target} of {row.conversation}:{row.turn} "
                    f"({row.feedback}, repeated {row.repeated}; {known.feedback}, repeated {known.repeated}); "
                    "evaluate both on the same prepared corpus"
                )
            back[place] = row
        aligned[model] = back
    return aligned
