"""How often each film is liked by those who answered about it, as shrunk log odds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ItemOdds:
    """The answers of the train split about each entity, and their log odds.

    Attributes:
      likes, dislikes: float [N + 1] dialogues in which the seeker likes or dislikes each entity.
      shrinkage: a, how many answers the mean film's odds count as. A film of few answers stays close to the mean.
    """

    likes: np.ndarray
    dislikes: np.ndarray
    shrinkage: float

    @classmethod
    def of(cls, ratings: Iterable[Mapping[int, int]], entities: int, shrinkage: float) -> ItemOdds:
        """Counts answers.

        Args:
          ratings: of each dialogue, entity -> 1 or -1, as `dialogues.seeker_ratings`.
          entities: N.
          shrinkage: a.
        """
        counts = np.zeros((2, entities + 1))
        for answers in ratings:
            for entity, rating in answers.items():
                counts[int(rating < 0), entity] += 1
        return cls(counts[0], counts[1], shrinkage)

    @property
    def like_rate(self) -> float:
        """p, the share of likes among all answers, with one of each added."""
        return float((self.likes.sum() + 1) / (self.likes.sum() + self.dislikes.sum() + 2))

    def log_odds(self) -> np.ndarray:
        """log((likes + a p) / (dislikes + a (1 - p))) less log(p / (1 - p)): 0 for a film without answers. [N + 1]."""
        return self._log_odds(self.likes, self.dislikes)

    def own_shift(self, answers: Mapping[int, int]) -> np.ndarray:
        """What to add to the log odds of the films of a dialogue of the train split to leave its own answers out.

        Args:
          answers: the dialogue's, entity -> 1 or -1.

        Returns:
          float32 [len(answers)], in their order.
        """
        entities = np.asarray([*answers], np.int64)
        ratings = np.asarray([*answers.values()], np.int64)
        likes, dislikes = self.likes[entities], self.dislikes[entities]
        without = self._log_odds(likes - (ratings > 0), dislikes - (ratings < 0))
        return (without - self._log_odds(likes, dislikes)).astype(np.float32)

    def _log_odds(self, likes: np.ndarray, dislikes: np.ndarray) -> np.ndarray:
        p, a = self.like_rate, self.shrinkage
        return np.log(likes + a * p) - np.log(dislikes + a * (1 - p)) - np.log(p / (1 - p))
