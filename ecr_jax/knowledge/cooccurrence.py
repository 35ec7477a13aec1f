"""Emotion-related co-occurrence of entities in training dialogues: which entities are felt about alike (ECR 4.2.1).

Counts are sparse and kept per dialogue as well, so that a training example can be shown the table of all *other*
dialogues: with its own, the target it has to predict would stand in its input, as it never does at test time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse

from ecr_jax.files import replacing


class EmotionLabelledMention(NamedTuple):
    """An entity as a dialogue mentions it.

    Attributes:
      entity: graph id.
      emotions: ids of the emotions felt about it, most probable first.
      probabilities: theirs.
      turn: index of the turn that mentions it.
    """

    entity: int
    emotions: tuple[int, ...]
    probabilities: tuple[float, ...] = ()
    turn: int = 0


@dataclass(frozen=True)
class Cooccurrence:
    """Pair counts, per dialogue and in all. Made by `count`.

    Attributes:
      n_entities: N; ids are 0..N-1.
      starts: int64 [D+1], dialogue d's pairs are `starts[d]:starts[d+1]` of the next three.
      heads: int32 [P], sorted within a dialogue (then by tail).
      tails: int32 [P].
      counts: int32 [P], how often the dialogue has the pair.
    """

    n_entities: int
    starts: np.ndarray
    heads: np.ndarray
    tails: np.ndarray
    counts: np.ndarray

    @cached_property
    def matrix(self) -> scipy.sparse.csr_array:
        """Counts of all dialogues, int64 [N, N]: row x, column y. Columns are sorted within a row."""
        shape = (self.n_entities, self.n_entities)
        entries = (self.counts.astype(np.int64), (self.heads, self.tails))
        return scipy.sparse.coo_array(entries, shape=shape).tocsr()

    @cached_property
    def probabilities(self) -> scipy.sparse.csr_array:
        """P(y given x) over all dialogues, float64 [N, N]; an entity without pairs has an empty row."""
        totals = np.maximum(self.matrix.sum(axis=1), 1)
        return scipy.sparse.csr_array(scipy.sparse.diags_array(1 / totals) @ self.matrix)

    @cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Row bounds [N+1], then columns and counts with each row's most frequent first (ties: lower id), row sums."""
        m = self.matrix
        row = np.repeat(np.arange(self.n_entities), np.diff(m.indptr))
        order = np.lexsort((m.indices, -m.data, row))
        return m.indptr, m.indices[order], m.data[order], m.sum(axis=1)

    def neighbours(
        self, entities: Sequence[int] | np.ndarray, k: int, exclude: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k most probable neighbours of each entity.

        Args:
          entities: int [E]; the pad id N has none.
          k: how many; with at least as many as a row has entries nothing is cut.
          exclude: index of the dialogue (in the order counted) whose own counts are taken away first.

        Returns:
          ids int32 [E, k], padded with N, and weights float32 [E, k] = P(y given x), padded with 0; they sum to 1 only
          where nothing is cut. Equal counts are ordered by id.
        """
        ids = np.full((len(entities), k), self.n_entities, np.int32)
        weights = np.zeros((len(entities), k), np.float32)
        bounds, columns, row_counts, totals = self._rows
        heads = tails = own_counts = np.zeros(0, np.int32)
        if exclude is not None:
            own = slice(self.starts[exclude], self.starts[exclude + 1])
            heads, tails, own_counts = self.heads[own], self.tails[own], self.counts[own]
        for e, entity in enumerate(entities):
            if entity == self.n_entities:
                continue
            low, high = np.searchsorted(heads, [entity, entity + 1])
            # Only high - low counts shrink, so the best k are among the first k + (high - low).
            window = slice(bounds[entity], min(bounds[entity + 1], bounds[entity] + k + high - low))
            candidates, left = columns[window], row_counts[window]
            total = totals[entity]
            if high > low:
                place = np.minimum(low + np.searchsorted(tails[low:high], candidates), high - 1)
                left = left - np.where(tails[place] == candidates, own_counts[place], 0)
                total = total - own_counts[low:high].sum()
                order = np.lexsort((candidates, -left))
                candidates, left = candidates[order], left[order]
            n = min(k, np.count_nonzero(left))
            ids[e, :n] = candidates[:n]
            weights[e, :n] = left[:n] / max(total, 1)
        return ids, weights

    def towards(self, entities: np.ndarray) -> Cooccurrence:
        """Only the pairs (x, y) whose y is one of `entities`: P(y given x) is then over these."""
        kept = np.isin(self.tails, entities)
        starts = np.concatenate([[0], np.cumsum(kept)])[self.starts]
        return Cooccurrence(self.n_entities, starts, self.heads[kept], self.tails[kept], self.counts[kept])

    def save(self, path: Path) -> None:
        """Writes the counts as .npz (temporary name, then renamed)."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                n_entities=np.int64(self.n_entities),
                starts=self.starts,
                heads=self.heads,
                tails=self.tails,
                counts=self.counts,
            )

    @classmethod
    def load(cls, path: Path) -> Cooccurrence:
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            return cls(int(arrays["n_entities"]), arrays["starts"], arrays["heads"], arrays["tails"], arrays["counts"])


def count(
    dialogues: Iterable[Sequence[EmotionLabelledMention]],
    n_entities: int,
    *,
    n_f: int = 3,
    directional: bool = False,
    self_pairs: bool = False,
    require_emotion: bool = True,
) -> Cooccurrence:
    """Counts ordered pairs of mentions (earlier, later) of each dialogue whose emotions meet.

    The published code is `directional=True, self_pairs=True`; the paper's text is symmetric.

    Args:
      dialogues: of the train split only; each the mentions in order.
      n_entities: N.
      n_f: how many emotions of a mention, most probable first, are looked at; two mentions meet if they share one.
      directional: count earlier -> later only; else both ways.
      self_pairs: whether an entity mentioned again is its own neighbour.
      require_emotion: False counts every pair, felt or not.

    Returns:
      The counts; dialogue d of `neighbours(exclude=d)` is the d-th given.

    Raises:
      ValueError: if an entity id is not in 0..N-1.

    Reference: ECR 4.2.1 (Eq. before Eq. 4); reference/ecr.md B.
    """
    starts, keys, counts = [0], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for d, dialogue in enumerate(dialogues):
        entity = np.array([felt.entity for felt in dialogue], np.int64)
        if len(entity) and not 0 <= entity.min() <= entity.max() < n_entities:
            raise ValueError(
                f"dialogue {d} has entity ids from {entity.min()} to {entity.max()}, but the graph has ids 0 to "
                f"{n_entities - 1}; count with the graph that the ids come from, and leave padding out"
            )
        first, second = np.triu_indices(len(entity), 1)
        keep = np.ones(len(first), bool)
        if require_emotion:
            bits = np.array([sum(1 << e for e in set(felt.emotions[:n_f])) for felt in dialogue], np.int64)
            keep &= (bits[first] & bits[second]) != 0
        if not self_pairs:
            keep &= entity[first] != entity[second]
        x, y = entity[first[keep]], entity[second[keep]]
        key = x * n_entities + y
        if not directional:
            key = np.concatenate([key, y * n_entities + x])
        key, number = np.unique(key, return_counts=True)
        keys.append(key)
        counts.append(number)
        starts.append(starts[-1] + len(key))
    key = np.concatenate(keys)
    return Cooccurrence(
        n_entities,
        np.array(starts, np.int64),
        (key // n_entities).astype(np.int32),
        (key % n_entities).astype(np.int32),
        np.concatenate(counts).astype(np.int32),
    )
