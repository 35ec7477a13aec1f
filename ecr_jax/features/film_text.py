"""How much the descriptions of films resemble each other, by the frozen text encoder."""

from __future__ import annotations

import numpy as np


class FilmText:
    """Cosine similarities of the items' text features, less their mean over the items, raised to a power.

    Negative ones count as 0, and so does the similarity of an item to itself.
    """

    def __init__(self, entity_text: np.ndarray, items: np.ndarray, power: float):
        """Prepares the features.

        Args:
          entity_text: float [N or more, W], a text feature of each entity; zero where it has no description.
          items: int [I], sorted entity ids.
          power: a high one leaves the most similar films only.
        """
        features = np.asarray(entity_text, np.float32)[items]
        described = features.any(axis=1)
        features[described] -= features.sum(axis=0) / max(described.sum(), 1)
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        self.items, self.power, self._features = items, power, features

    def similarities(self, columns: np.ndarray) -> np.ndarray:
        """Of the items at some columns to all items: int [D] -> float64 [D, I]."""
        cosines = self._features[columns] @ self._features.T
        similarities = np.maximum(cosines, 0).astype(np.float64) ** self.power
        similarities[np.arange(len(columns)), columns] = 0
        return similarities

    def most_similar(self, entities: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The items most similar to each entity.

        Args:
          entities: N.
          count: K, how many; fewer items leave the rest padded.

        Returns:
          ids int32 [N + 1, K], padded with N, and similarities float32 [N + 1, K], 0 where padded; an entity that is
          no item has none.
        """
        ids = np.full((entities + 1, count), entities, np.int32)
        weights = np.zeros((entities + 1, count), np.float32)
        kept = min(count, len(self.items))
        for start in range(0, len(self.items), _ROWS):
            columns = np.arange(start, min(start + _ROWS, len(self.items)))
            similarities = self.similarities(columns)
            best = np.argpartition(-similarities, kept - 1, axis=1)[:, :kept]
            values = np.take_along_axis(similarities, best, axis=1)
            weights[self.items[columns], :kept] = values
            ids[self.items[columns], :kept] = np.where(values > 0, self.items[best], entities)
        return ids, weights


_ROWS = 512
"""Items whose similarities to all others are in memory at once."""
