"""Prediction rows: a model's rank and score of each target, one JSON object a line. All metrics come from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ecr_jax import files, metrics
from ecr_jax.data.schema import Feedback


@dataclass(frozen=True)
class Target:
    """An item that a recommender turn recommends.

    Attributes:
      conversation: id of the dialogue.
      turn: index of the turn.
      target: entity id of the item.
      feedback: the seeker's feedback on the item.
      repeated: whether the item was mentioned before this turn.
    """

    conversation: str
    turn: int
    target: int
    feedback: Feedback
    repeated: bool


@dataclass(frozen=True)
class Prediction:
    """A model's rank and score of one target.

    Attributes:
      model: e.g. "ecr", "popularity".
      conversation, turn, target, feedback, repeated: as in `Target`.
      rank: 1-based among the items; tied items share the mean of their ranks (published protocol: in order of id).
      score: probability of the target over the items, times the odds of its being liked (to the power
        `HeadsConfig.like_power`) where a model predicts them; published protocol: a probability, over all entities
        where a model scores them.
      top: entity ids of the best items, best first.
      liking: the log odds of the target being liked and the parts that they are a sum of, by name
        (`models.hyperparameters.LIKE_PARTS`); empty for a model that does not predict them.
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
    liking: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int, int]:
        """Identifies the target, whichever the model."""
        return self.conversation, self.turn, self.target


def rank_targets(
    model: str,
    targets: Sequence[Target],
    scores: np.ndarray,
    items: np.ndarray,
    top_items: int = 50,
    ties: Literal["mean", "first"] = "mean",
) -> list[Prediction]:
    """Ranks each target among the items.

    Args:
      model: its name.
      targets: n of them.
      scores: float [n, I], one row a target (the targets of a turn have equal rows), see `Prediction.score`.
      items: int [I], sorted entity ids.
      top_items: how many of the best items a prediction row lists.
      ties: how tied items are ranked, see `metrics.ranks`.

    Raises:
      ValueError: a target is not among the items.
    """
    entities = np.array([t.target for t in targets], np.int64)
    columns = np.minimum(np.searchsorted(items, entities), len(items) - 1)
    if (items[columns] != entities).any():
        stray = targets[int(np.argmax(items[columns] != entities))]
        raise ValueError(
            f"target {stray.target} of {stray.conversation}:{stray.turn} is not among the {len(items)} items; "
            "only recommendable films can be targets, and the items must be sorted"
        )
    if not targets:
        return []
    ranks = metrics.ranks(scores, columns, ties)
    target_scores = scores[np.arange(len(targets)), columns]
    top_items = min(top_items, len(items))
    best = np.sort(np.argpartition(-scores, top_items - 1, axis=1)[:, :top_items], axis=1)
    by_score = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    best = items[np.take_along_axis(best, by_score, axis=1)]  # [n, top_items]
    return [
        Prediction(
            model,
            t.conversation,
            t.turn,
            t.target,
            t.feedback,
            t.repeated,
            float(rank),
            float(score),
            tuple(b.tolist()),
        )
        for t, rank, score, b in zip(targets, ranks, target_scores, best, strict=True)
    ]


def write(path: Path, rows: Iterable[Prediction]) -> None:
    """Writes rows as JSONL (to a temporary name, then renamed)."""
    files.write_jsonl(path, (dataclasses.asdict(row) for row in rows))


def read(path: Path) -> dict[str, list[Prediction]]:
    """Reads what `write` wrote, by model, in the order of the file.

    Raises:
      ValueError: a row lacks a field or has an unknown one; the message names the row.
    """
    models: dict[str, list[Prediction]] = {}
    for number, row in enumerate(files.read_jsonl_rows(path), start=1):
        try:
            prediction = Prediction(**{**row, "feedback": Feedback(row["feedback"]), "top": tuple(row.get("top", ()))})
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{path}:{number} is no prediction row ({error}); evaluate the run again") from error
        models.setdefault(prediction.model, []).append(prediction)
    return models


def align(models: Mapping[str, Sequence[Prediction]]) -> dict[str, list[Prediction]]:
    """Every model's rows in the order of the first model's.

    Raises:
      ValueError: the models do not have the same targets, or disagree about one.
    """
    name, first = next(iter(models.items()))
    by_key = sorted(range(len(first)), key=lambda index: first[index].key)
    aligned = {}
    for model, rows in models.items():
        ordered = sorted(rows, key=lambda row: row.key)
        if [row.key for row in ordered] != [first[index].key for index in by_key]:
            unshared = len({row.key for row in rows} ^ {row.key for row in first})
            raise ValueError(
                f"{model!r} ({len(rows)} rows) and {name!r} ({len(first)} rows) do not have the same targets "
                f"({unshared} are in one only); evaluate both on the same prepared corpus and split, by one protocol"
            )
        in_order: list[Prediction] = list(ordered)
        for index, row in zip(by_key, ordered, strict=True):
            reference = first[index]
            if (row.feedback, row.repeated) != (reference.feedback, reference.repeated):
                raise ValueError(
                    f"{model!r} and {name!r} disagree on target {row.target} of {row.conversation}:{row.turn} "
                    f"({row.feedback}, repeated {row.repeated}; {reference.feedback}, repeated {reference.repeated}); "
                    "evaluate both on the same prepared corpus"
                )
            in_order[index] = row
        aligned[model] = in_order
    return aligned
