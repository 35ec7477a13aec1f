"""The contract of a batch in one place: name, axes, dtype, padding and mask of every array.

Featurising (`featurizer`, `instances`), padding and bucketing (`batches`), the inputs of the losses and the toy batches
of tests all follow from the `BatchSpec` of an instance kind.

Axes: B rows (of every array, not listed), T tokens, S text-encoder states, E context entities, M targets, F rated
items, P own recommendations, W words. An axis with a letter is padded to the batch's length; a number is a fixed size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

Axis = str | int
Example = Mapping[str, np.ndarray]
Batch = dict[str, np.ndarray]

_TOY_CHOICES = 2


@dataclass(frozen=True)
class Field:
    """One array of an example, and how it is padded in a batch.

    Attributes:
      name: its key in examples and batches.
      dtype: its dtype.
      axes: its axes without the batch's rows; a letter is a length that differs between examples, a number is fixed.
      pad: the value of padded entries.
      mask: if given, the batch also has a boolean array of this name, [B, first axis], True where the entry is real.
      meaning: what it holds.
      below: of ids, an upper bound (exclusive) of the real values.
      loss_input: the name under which the losses (`ecr_jax.losses.INPUTS`) read it; they read the mask as `where`.
    """

    name: str
    dtype: DTypeLike
    axes: tuple[Axis, ...] = ()
    pad: float | int | bool = 0
    mask: str | None = None
    meaning: str = ""
    below: int | None = None
    loss_input: str | None = None

    def __post_init__(self) -> None:
        if self.mask is not None and not (self.axes and isinstance(self.axes[0], str)):
            raise ValueError(f"field {self.name!r}: a mask needs a first axis of differing length, not {self.axes}")

    def shape(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The padded shape of one example's array for a length of each axis letter."""
        return tuple(axis if isinstance(axis, int) else lengths[axis] for axis in self.axes)

    def check(self, array: np.ndarray, where: str) -> None:
        """Raises ValueError where an array has other axes or another dtype; the message begins with `where`."""
        shape = np.shape(array)
        fits = len(shape) == len(self.axes) and all(
            axis == size for axis, size in zip(self.axes, shape, strict=True) if isinstance(axis, int)
        )
        if not fits:
            raise ValueError(f"{where}: {self.name} has shape {shape}, its Field names the axes {self.axes}")
        if np.asarray(array).dtype != np.dtype(self.dtype):
            dtypes = f"{np.asarray(array).dtype}, its Field {np.dtype(self.dtype)}"
            raise ValueError(f"{where}: {self.name} has dtype {dtypes}")


@dataclass(frozen=True)
class BatchSpec:
    """The arrays of one kind of instance.

    Attributes:
      name: what messages call the kind.
      fields: its arrays. A batch also has `example` int32 [B], the index of each row's example, and `example_mask` bool
        [B], False in rows that are padding.
    """

    name: str
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        names = [name for field in self.fields for name in (field.name, field.mask) if name is not None]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"the batch spec {self.name!r} names {', '.join(sorted(repeated))} more than once")

    def __getitem__(self, name: str) -> Field:
        return next(field for field in self.fields if field.name == name)

    def __contains__(self, name: str) -> bool:
        return any(field.name == name for field in self.fields)

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes whose length differs between examples, in order of appearance."""
        return tuple(dict.fromkeys(axis for field in self.fields for axis in field.axes if isinstance(axis, str)))

    def extended(self, name: str, *fields: Field) -> BatchSpec:
        """A spec with more fields."""
        return BatchSpec(name, (*self.fields, *fields))

    def lengths(self, example: Example, where: str) -> dict[str, int]:
        """The length an example needs on each axis: the longest of the arrays that have it.

        Raises:
          ValueError: the example lacks an array, or one does not fit its field; the message begins with `where`.
        """
        need = dict.fromkeys(self.axes, 0)
        for field in self.fields:
            if field.name not in example:
                raise ValueError(f"{where} has no field {field.name!r}; it has {sorted(example)}")
            field.check(example[field.name], where)
            for axis, size in zip(field.axes, np.shape(example[field.name]), strict=True):
                if isinstance(axis, str):
                    need[axis] = max(need[axis], size)
        return need

    def zeros(self, rows: int, lengths: Mapping[str, int] | None = None) -> Batch:
        """A batch of padding alone, for example to initialise parameters; each length is 1 where it is not given."""
        lengths = dict.fromkeys(self.axes, 1) | dict(lengths or {})
        batch: Batch = {"example": np.zeros(rows, np.int32), "example_mask": np.zeros(rows, bool)}
        for field in self.fields:
            batch[field.name] = np.full((rows, *field.shape(lengths)), field.pad, field.dtype)
            if field.mask is not None:
                batch[field.mask] = np.zeros(batch[field.name].shape[:2], bool)
        return batch

    def toy(self, rows: int, lengths: Mapping[str, int] | None = None, seed: int = 0) -> Batch:
        """A batch of random real values without padding, for tests and benchmarks; each length is 1 where not given."""
        rng = np.random.default_rng(seed)
        batch = self.zeros(rows, lengths)
        batch["example"] = np.arange(rows, dtype=np.int32)
        batch["example_mask"][:] = True
        for field in self.fields:
            shape, dtype = batch[field.name].shape, np.dtype(field.dtype)
            if dtype.kind == "f":
                values = rng.random(shape)
            else:
                values = rng.integers(0, _TOY_CHOICES if field.below is None else field.below, shape)
            batch[field.name] = values.astype(dtype)
            if field.mask is not None:
                batch[field.mask][:] = True
        return batch

    def loss_inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The arrays of a batch that the losses read, by the names of `ecr_jax.losses.INPUTS`."""
        inputs = {}
        for field in self.fields:
            if field.loss_input is not None:
                inputs[field.loss_input] = batch[field.name]
                if field.mask is not None:
                    inputs["where"] = batch[field.mask]
        return inputs
