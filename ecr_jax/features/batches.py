"""Examples of different lengths -> batches of a handful of static shapes, shuffled by a seed and resumable.

Which examples a batch holds is a pure function of the seed, the epoch and the lengths, so the n-th batch of a run is
the same whatever happened before it; grain counts the batches, reads ahead in a thread and saves where it was.
"""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import grain
import numpy as np

from ecr_jax.features.batch_spec import Batch, BatchSpec, Example


class Examples(Protocol):
    """A sequence of examples of one kind, whose lengths are known without building them."""

    @property
    def spec(self) -> BatchSpec:
        """The arrays of an example and how they are padded."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...

    def lengths(self) -> dict[str, np.ndarray]:
        """The length each example needs on each axis of the spec: {axis: int64 [N]}."""
        ...


class InMemoryExamples(Sequence):
    """Examples that are in memory already."""

    def __init__(self, spec: BatchSpec, examples: Sequence[Example]):
        """Raises ValueError where an example does not fit the spec."""
        self.spec, self.examples = spec, examples
        needs = [spec.lengths(example, f"example {index}") for index, example in enumerate(examples)]
        self._lengths = {axis: np.asarray([need[axis] for need in needs], np.int64) for axis in spec.axes}

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]

    def lengths(self) -> dict[str, np.ndarray]:
        """See `Examples.lengths`."""
        return self._lengths


class Batches:
    """Batches of static shapes over a sequence of examples; `iter()` gives a fresh, resumable grain iterator.

    A batch has the spec's arrays, [batch_size, ...], their masks, `example` int32 [batch_size] (the index into
    `examples`; 0 in padding rows) and `example_mask` bool [batch_size] (False = a padding row, whose fields are all
    padding). Examples of one batch share a length bucket. Every example occurs exactly once an epoch; a bucket's last
    batch may have padding rows.

    Args:
        examples: their spec says how arrays are padded; arrays that it does not name are left out.
        shapes: the buckets, smallest first, each a length for every axis of the spec, e.g. `({"T": 64, "E": 8},
            {"T": 128, "E": 16})`. An example goes to the first bucket it fits in. Each bucket is one compiled program.
        batch_size: rows of a batch, over all devices and micro-batches.
        seed: with the epoch's number, decides the order.
        shuffle: a new order each epoch; otherwise the examples' own order, bucket by bucket.
        epochs: passes over the examples; None for endless.

    Raises:
        ValueError: no examples, an example longer than the largest bucket, or an axis without a length.
    """

    def __init__(
        self,
        examples: Examples,
        shapes: Sequence[Mapping[str, int]],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        epochs: int | None = None,
    ):
        if len(examples) == 0:
            raise ValueError("no examples to batch: check the split's file and the filters before this stage")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: must be at least 1")
        axes = set(examples.spec.axes)
        for shape in shapes:
            if axes - shape.keys():
                raise ValueError(f"bucket {dict(shape)} has no length for the axes {sorted(axes - shape.keys())}")
        self.examples, self.spec, self.shapes, self.batch_size = examples, examples.spec, tuple(shapes), batch_size
        self.seed, self.shuffle = seed, shuffle
        self.rows, self.times = slice(0, batch_size), 1
        self.buckets = _buckets(examples.lengths(), self.shapes, len(examples))
        counts = np.bincount(self.buckets, minlength=len(self.shapes))
        self.per_epoch = int(np.sum(-(-counts // batch_size)))
        # grain needs a length: endless is as many whole epochs as an index can count.
        self.batches = self.per_epoch * (sys.maxsize // self.per_epoch if epochs is None else epochs)
        self._plan = functools.lru_cache(maxsize=2)(
            lambda epoch: plan_epoch(self.buckets, batch_size, seed=seed if shuffle else None, epoch=epoch)
        )

    @classmethod
    def in_order(cls, examples: Examples, shapes: Sequence[Mapping[str, int]], batch_size: int) -> Batches:
        """Each example once, in the examples' own order, bucket by bucket: for evaluation."""
        return cls(examples, shapes, batch_size, shuffle=False, epochs=1)

    def of_rows(self, rows: slice) -> Batches:
        """The same batches, but of each only these rows: what one of several processes reads."""
        part = copy.copy(self)
        part.rows = rows
        return part

    def repeated(self, times: int) -> Batches:
        """The same batches, each `times` times in succession."""
        part = copy.copy(self)
        part.times, part.per_epoch = self.times * times, self.per_epoch * times
        part.batches = min(self.batches * times, sys.maxsize)
        return part

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> Batch:
        """The batch at a place in the run, counted over all epochs."""
        bucket, numbers = self._planned(index)
        numbers = numbers[self.rows]
        examples = [self.examples[int(number)] for number in numbers]
        return pad_batch(self.spec, examples, numbers, self.shapes[bucket], self.rows.stop - self.rows.start)

    def example_numbers(self, index: int) -> list[int]:
        """The examples of the whole batch at a place in the run, whichever rows are read."""
        return self._planned(index)[1].tolist()

    def _planned(self, index: int) -> tuple[int, np.ndarray]:
        epoch, position = divmod(int(index) // self.times, self.per_epoch // self.times)
        return self._plan(epoch)[position]

    def __iter__(self) -> Iterator[Batch]:
        """A grain DatasetIterator: `next`, `get_state`, `set_state`; Orbax saves it as it is."""
        read_ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
        return iter(grain.MapDataset.source(self).to_iter_dataset(read_ahead))


def plan_epoch(buckets: np.ndarray, batch_size: int, *, seed: int | None, epoch: int) -> list[tuple[int, np.ndarray]]:
    """Which examples go together in an epoch.

    Args:
        buckets: int [N], the bucket of each example.
        batch_size: most rows of a batch.
        seed: with `epoch`, decides the order; None keeps the examples' order.
        epoch: counted from 0.

    Returns:
        A list of (bucket, int64 example indices [<= batch_size]); every example is in exactly one.
    """
    rng = None if seed is None else np.random.default_rng((seed, epoch))
    order = np.arange(len(buckets)) if rng is None else rng.permutation(len(buckets))
    batches = []
    for bucket in np.unique(buckets):
        members = order[buckets[order] == bucket]
        batches += [(int(bucket), members[i : i + batch_size]) for i in range(0, len(members), batch_size)]
    if rng is None:
        return batches
    return [batches[i] for i in rng.permutation(len(batches))]


def pad_batch(
    spec: BatchSpec,
    examples: Sequence[Example],
    indices: Sequence[int] | np.ndarray,
    shape: Mapping[str, int],
    batch_size: int,
) -> Batch:
    """Stacks examples into arrays of one static shape; the rows after the last example are padding.

    Args:
        spec: how each array is padded.
        examples: at most `batch_size` dicts of arrays.
        indices: the examples' numbers, for the batch's `example`.
        shape: a length for each axis of the spec.
        batch_size: rows of the result.

    Returns:
        The batch, as `Batches` describes it.
    """
    batch = spec.zeros(batch_size, shape)
    batch["example"][: len(examples)] = np.asarray(indices)
    batch["example_mask"][: len(examples)] = True
    for row, example in enumerate(examples):
        where = f"example {int(indices[row])}"
        for field in spec.fields:
            array = np.asarray(example[field.name])
            field.check(array, where)
            batch[field.name][(row, *(slice(size) for size in array.shape))] = array
            if field.mask is not None:
                batch[field.mask][row, : array.shape[0]] = True
    return batch


def bucket_shapes(
    sets: Sequence[Examples], sizes: Mapping[str, Sequence[int]], multiple: int = 4
) -> tuple[dict[str, int], ...]:
    """Buckets by the length of one axis; the other axes get what the examples of each bucket need.

    Args:
        sets: the examples that will be batched, of one spec (all that should share compiled programs: training and
            validation).
        sizes: the one axis to bucket by, e.g. `{"T": (64, 96, 128)}`; a bucket no example falls into is left out.
        multiple: the other axes' lengths are rounded up to a multiple of this.

    Returns:
        `shapes` for `Batches`, smallest first; each at least as large as the one before on every axis.
    """
    if sum(map(len, sets)) == 0:
        raise ValueError("no examples to batch: does any turn of these splits name what this stage learns?")
    ((axis, steps),) = sizes.items()
    lengths = [examples.lengths() for examples in sets]
    need = {name: np.concatenate([each[name] for each in lengths]) for name in sets[0].spec.axes}
    shapes: list[dict[str, int]] = []
    floor = 0
    for size in sorted(steps):
        inside = (need[axis] > floor) & (need[axis] <= size) if floor else need[axis] <= size
        floor = size
        if not inside.any():
            continue
        shape = {other: max(multiple, -(-int(n[inside].max()) // multiple) * multiple) for other, n in need.items()}
        shape[axis] = size
        shapes.append({k: max(v, shapes[-1][k]) if shapes else v for k, v in shape.items()})
    if not shapes or (need[axis] > floor).any():
        longest = int(need[axis].max())
        raise ValueError(
            f"axis {axis!r}: an example needs {longest}, the largest bucket is {floor}; truncate the "
            f"example or add a bucket"
        )
    return tuple(shapes)


def _buckets(need: Mapping[str, np.ndarray], shapes: Sequence[Mapping[str, int]], count: int) -> np.ndarray:
    """The first bucket each example fits in, int64 [N]."""
    fits = np.ones((count, len(shapes)), bool)  # [N, buckets]
    for axis, lengths_ in need.items():
        fits &= lengths_[:, None] <= np.array([shape[axis] for shape in shapes])[None, :]
    lost = np.flatnonzero(~fits.any(axis=1))
    if len(lost):
        first: dict[str, Any] = {axis: int(n[lost[0]]) for axis, n in need.items()}
        raise ValueError(
            f"{len(lost)} examples fit in no bucket; example {lost[0]} needs {first}, the largest bucket "
            f"is {dict(shapes[-1]) if shapes else 'missing'}: truncate the example or add a larger one"
        )
    return fits.argmax(axis=1)
