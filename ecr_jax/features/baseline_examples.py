"""The same rows as ECR's examples, with only what a baseline reads of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ecr_jax.features.examples import Dialogue, Row, Utterance

ContextFeature = Callable[[Sequence[Utterance]], np.ndarray]
"""What a model reads: the turns before the one to be predicted -> an array."""


class ContextExamples(Sequence):
    """Examples with `targets` int32 [M] and an array for each of the things that are read."""

    def __init__(
        self,
        spoken: Sequence[Dialogue],
        rows: Sequence[Row],
        reads: Mapping[str, ContextFeature],
        columns: Mapping[str, np.ndarray] | None = None,
    ):
        """`reads`: name -> how it is read; `columns`: name -> an array of one entry a row, read before."""
        self.spoken, self.rows, self.reads, self.columns = spoken, rows, reads, columns or {}

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """What a message calls the example: conversation id and turn."""
        row = self.rows[index]
        return f"{self.spoken[row.dialogue].id}:{row.turn}"

    def __getitem__(self, index: int) -> dict:
        row = self.rows[index]
        before = self.spoken[row.dialogue].turns[: row.turn]
        made = {name: read(before) for name, read in self.reads.items()}
        made |= {name: column[index] for name, column in self.columns.items()}
        return made | {"targets": np.asarray([entity for entity, _, _ in row.targets], np.int32)}
