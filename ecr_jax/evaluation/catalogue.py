"""What prediction rows are about: corpus, split, protocol, the candidates and how often training recommends each.

It lies beside the rows it belongs to (`catalogue.json`), so that they can be measured without the corpus.
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
      protocol: by which they were chosen and ranked, a name of `protocol.PROTOCOLS`.
      items: int [I] entity ids, rising.
      counts: int [I] how often each is a training target.
    """

    corpus: str
    split: str
    protocol: str
    items: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, corpus: str, split: str, protocol: str, items: np.ndarray, recommended: Iterable[int]) -> Catalogue:
        """Counts training targets (entity ids, all of them items)."""
        columns = np.searchsorted(items, np.fromiter(recommended, np.int64))
        return cls(corpus, split, protocol, np.asarray(items), np.bincount(columns, minlength=len(items)))

    def count(self, entities: np.ndarray) -> np.ndarray:
        """How often each of these items is a training target: int [...] -> int [...].

        Raises:
          ValueError: one is no item.
        """
        columns = np.minimum(np.searchsorted(self.items, entities), len(self.items) - 1)
        strange = self.items[columns] != entities
        if strange.any():
            raise ValueError(
                f"entity {np.asarray(entities)[strange].flat[0]} is not among the {len(self.items)} items of the "
                f"catalogue of {self.corpus}; predictions and catalogue are of different corpora: evaluate again"
            )
        return self.counts[columns]

    def head(self) -> int:
        """The least count of a head item.

        The head is the most recommended items that together are at least half of all training targets; items that are
        recommended equally often are in it together. Items that are never recommended in training are cold, the others
        the tail.
        """
        falling = np.sort(self.counts)[::-1]
        return int(max(falling[np.searchsorted(np.cumsum(falling), self.counts.sum() / 2)], 1))

    def save(self, folder: Path) -> None:
        """Writes `catalogue.json`."""
        arrays = {"items": self.items.tolist(), "counts": self.counts.tolist()}
        files.write_json(folder / NAME, dataclasses.asdict(self) | arrays)

    @classmethod
    def load(cls, folder: Path) -> Catalogue | None:
        """Reads what `save` wrote, None where there is none (predictions made before there were catalogues)."""
        path = folder / NAME
        if not path.is_file():
            return None
        kept = json.loads(path.read_text(encoding="utf-8"))
        arrays = {name: np.asarray(kept[name], np.int64) for name in ("items", "counts")}
        return cls(**{**kept, **arrays})
