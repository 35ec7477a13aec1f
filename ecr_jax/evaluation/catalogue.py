"""The candidates that targets were ranked among, and how often training recommends each of them.

`catalogue.json` is written beside the prediction rows, so that they can be measured without the corpus.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecr_jax import files

NAME = "catalogue.json"


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The candidates among which targets were ranked.

    Attributes:
      corpus: its name.
      split: of the targets.
      protocol: how targets were chosen and ranked, a name in `protocol.PROTOCOLS`.
      items: int [I], sorted entity ids.
      counts: int [I], how often each item is a training target.
    """

    corpus: str
    split: str
    protocol: str
    items: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, corpus: str, split: str, protocol: str, items: np.ndarray, recommended: Iterable[int]) -> Catalogue:
        """Builds it from the training targets `recommended` (entity ids, all of them items)."""
        columns = np.searchsorted(items, np.fromiter(recommended, np.int64))
        return cls(corpus, split, protocol, np.asarray(items), np.bincount(columns, minlength=len(items)))

    def count(self, entities: np.ndarray) -> np.ndarray:
        """How often each of these items is a training target: int [...] -> int [...].

        Raises:
          ValueError: one of them is not an item.
        """
        columns = np.minimum(np.searchsorted(self.items, entities), len(self.items) - 1)
        unknown = self.items[columns] != entities
        if unknown.any():
            raise ValueError(
                f"entity {np.asarray(entities)[unknown].flat[0]} is not among the {len(self.items)} items of the "
                f"catalogue of {self.corpus}; predictions and catalogue are of different corpora: evaluate again"
            )
        return self.counts[columns]

    def head(self) -> int:
        """The lowest count of a head item.

        The head consists of the most recommended items that together are at least half of all training targets, with
        all items of equal count. Items that are never recommended in training are cold, the others are the tail.
        """
        descending = np.sort(self.counts)[::-1]
        return int(max(descending[np.searchsorted(np.cumsum(descending), self.counts.sum() / 2)], 1))

    def save(self, folder: Path) -> None:
        """Writes `catalogue.json`."""
        arrays = {"items": self.items.tolist(), "counts": self.counts.tolist()}
        files.write_json(folder / NAME, dataclasses.asdict(self) | arrays)

    @classmethod
    def load(cls, folder: Path) -> Catalogue | None:
        """Reads what `save` wrote; None where the folder has no catalogue."""
        path = folder / NAME
        if not path.is_file():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        arrays = {name: np.asarray(content[name], np.int64) for name in ("items", "counts")}
        return cls(**{**content, **arrays})
