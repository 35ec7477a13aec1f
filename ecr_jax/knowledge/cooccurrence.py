"""Co-occurrence and emotion co-occurrence of entities in training dialogues (ECR 4.2.1).

Two mentions of a dialogue co-occur; they co-occur in emotion if they share an emotion of the seeker. Counts are sparse
and stored per dialogue, so that a training instance can use the table of all *other* dialogues: its own dialogue would
put the target into its input, which never happens at test time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
      emotions: ids of the emotions that the seeker expresses about it, most probable first.
      probabilities: one per emotion.
      turn: index of the turn that mentions it.
    """

    entity: int
    emotions: tuple[int, ...]
    probabilities: tuple[float, ...] = ()
    turn: int = 0


@dataclass(frozen=True)
class Cooccurrence:
    """Counts of entity pairs (x, y), per dialogue and in total. `count_cooccurrence` builds it.

    Attributes:
      n_entities: N; ids are 0..N-1.
      starts: int64 [D+1]; the pairs of dialogue d are `starts[d]:starts[d+1]` of the next three arrays.
      heads: int32 [P], the x of each pair; sorted within a dialogue, then by tail.
      tails: int32 [P], the y of each pair.
      counts: int32 [P], how often the pair occurs in the dialogue.
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
        totals = np.maximum(np.asarray(self.matrix.sum(axis=1)), 1)
        return scipy.sparse.csr_array(scipy.sparse.diags_array(1 / totals) @ self.matrix)

    @cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Row bounds [N+1], then columns and counts with each row's most frequent first (ties: lower id), row sums."""
        m = self.matrix
        row = np.repeat(np.arange(self.n_entities), np.diff(m.indptr))
        order = np.lexsort((m.indices, -m.data, row))
        return m.indptr, m.indices[order], m.data[order], np.asarray(m.sum(axis=1))

    def neighbours(
        self, entities: Sequence[int] | np.ndarray, k: int, exclude: int | None = None, power: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k most probable neighbours of each entity.

        Args:
          entities: int [E]; the pad id N has none.
          k: number of neighbours; a row with fewer entries is returned whole.
          exclude: index of the dialogue (in the order of counting) whose own counts are subtracted first.
          power: of an entity's number of pairs, which its counts are divided by. With 1 the weights are P(y given x);
            with a lower power, entities with many pairs weigh more.

        Returns:
          ids int32 [E, k], padded with N, and weights float32 [E, k], padded with 0; with the power 1 they are
          P(y given x), and sum to 1 only where no neighbour is left out. Equal counts are ordered by id.
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
            candidates, remaining = columns[window], row_counts[window]
            total = totals[entity]
            if high > low:
                position = np.minimum(low + np.searchsorted(tails[low:high], candidates), high - 1)
                remaining = remaining - np.where(tails[position] == candidates, own_counts[position], 0)
                total = total - own_counts[low:high].sum()
                order = np.lexsort((candidates, -remaining))
                candidates, remaining = candidates[order], remaining[order]
            n = min(k, np.count_nonzero(remaining))
            ids[e, :n] = candidates[:n]
            weights[e, :n] = remaining[:n] / max(total, 1) ** power
        return ids, weights

    def restricted_to(self, entities: np.ndarray) -> Cooccurrence:
        """Only the pairs (x, y) whose y is one of `entities`, so that P(y given x) is a distribution over these."""
        selected = np.isin(self.tails, entities)
        starts = np.concatenate([[0], np.cumsum(selected)])[self.starts]
        return Cooccurrence(self.n_entities, starts, self.heads[selected], self.tails[selected], self.counts[selected])

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


def count_rated_pairs(dialogues: Iterable[Mapping[int, int]], n_entities: int, first: int) -> Cooccurrence:
    """Counts the pairs (x, y) of each dialogue in which x is rated `first` and y, another item, is liked.

    Args:
      dialogues: of the train split only; each is the seeker's ratings of items, 1 (liked) or -1 (disliked).
      n_entities: N.
      first: the rating of x: 1 counts what is liked by those who like x, -1 by those who dislike it.

    Returns:
      The counts; the d of `neighbours(exclude=d)` is the index in `dialogues`.
    """
    starts, heads, tails = [0], [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    for ratings in dialogues:
        items = np.array(sorted(ratings), np.int32)
        rating = np.array([ratings[item] for item in items.tolist()], np.int64)
        x, y = np.nonzero((rating[:, None] == first) & (rating[None, :] == 1) & ~np.eye(len(items), dtype=bool))
        heads.append(items[x])
        tails.append(items[y])
        starts.append(starts[-1] + len(x))
    tail = np.concatenate(tails)
    return Cooccurrence(n_entities, np.array(starts, np.int64), np.concatenate(heads), tail, np.ones_like(tail))


def count_cooccurrence(
    dialogues: Iterable[Sequence[EmotionLabelledMention]],
    n_entities: int,
    *,
    emotions_per_mention: int = 3,
    directional: bool = False,
    self_pairs: bool = False,
    require_emotion: bool = True,
) -> Cooccurrence:
    """Counts the pairs (earlier mention, later mention) of each dialogue that share an emotion.

    The published code is `directional=True, self_pairs=True`; the paper's text is symmetric.

    Args:
      dialogues: of the train split only; each is its mentions in order.
      n_entities: N.
      emotions_per_mention: how many emotions of a mention, most probable first, are compared (n_f in the paper).
      directional: count earlier -> later only; else in both directions.
      self_pairs: whether an entity that is mentioned again is its own neighbour.
      require_emotion: False counts every pair, whether or not they share an emotion.

    Returns:
      The counts; the d of `neighbours(exclude=d)` is the index in `dialogues`.

    Raises:
      ValueError: an entity id is not in 0..N-1.

    Reference: ECR 4.2.1 (the equation before Eq. 4); `co_appear.py` of its released code.
    """
    starts, keys, counts = [0], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for d, dialogue in enumerate(dialogues):
        entity = np.array([mention.entity for mention in dialogue], np.int64)
        if len(entity) and not 0 <= entity.min() <= entity.max() < n_entities:
            raise ValueError(
                f"dialogue {d} has entity ids from {entity.min()} to {entity.max()}, but the graph has ids 0 to "
                f"{n_entities - 1}; count with the graph that the ids come from, and leave padding out"
            )
        first, second = np.triu_indices(len(entity), 1)
        selected = np.ones(len(first), bool)
        if require_emotion:
            bits = np.array([sum(1 << e for e in set(m.emotions[:emotions_per_mention])) for m in dialogue], np.int64)
            selected &= (bits[first] & bits[second]) != 0
        if not self_pairs:
            selected &= entity[first] != entity[second]
        x, y = entity[first[selected]], entity[second[selected]]
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
