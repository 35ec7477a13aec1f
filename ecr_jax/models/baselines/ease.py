"""EASE: a linear map from the films of a dialogue to its films, solved in closed form."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import numpy as np
import scipy.linalg
import scipy.sparse

from ecr_jax.models.layers import candidate_positions, scatter_by_entity


def solve(gram: np.ndarray, strength: float) -> np.ndarray:
    r"""The weights that reconstruct every row x of X from its other entries.

    .. math:: B = \arg\min_{B, \mathrm{diag}(B) = 0} \|X - X B\|^2 + \lambda \|B\|^2
              = I - P \, \mathrm{diag}(1 / \mathrm{diag}(P)), \quad P = (X^T X + \lambda I)^{-1}

    X holds one row a training dialogue, 1 for each film it mentions. The zero diagonal keeps a film from predicting
    itself.

    Args:
      gram: [I, I] X^T X.
      strength: lambda, above 0.

    Returns:
      B float32 [I, I].

    Reference: Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", Eqs. 2-8.
    """
    mentioned = np.flatnonzero(np.diag(gram))  # a film that nobody mentions has neither row nor column
    regular = np.asarray(gram, np.float64)[np.ix_(mentioned, mentioned)] + strength * np.eye(len(mentioned))
    inverse = scipy.linalg.cho_solve(scipy.linalg.cho_factor(regular), np.eye(len(mentioned)))
    weights = np.zeros(gram.shape, np.float32)
    weights[np.ix_(mentioned, mentioned)] = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def interactions(dialogues: list[np.ndarray], items: int) -> scipy.sparse.csr_array:
    """X float64 [dialogues, items]: 1 for each film that a dialogue mentions.

    Args:
      dialogues: positions among the items of the films that each dialogue mentions.
      items: I.

    >>> interactions([np.array([2, 0, 2]), np.array([], int)], items=3).toarray().tolist()
    [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    films = [np.unique(dialogue) for dialogue in dialogues]
    bounds = np.concatenate([[0], np.cumsum([len(row) for row in films])])
    columns = np.concatenate([np.zeros(0, np.int64), *films]).astype(np.int64)
    return scipy.sparse.csr_array((np.ones(len(columns)), columns, bounds), (len(films), items))


class Ease(nn.Module):
    """Scores x B of the films x of a context, plus a little popularity.

    Reads `entities` and `entity_mask` [B, E]; `items` int [I] and `popularity` [I].

    Attributes:
      items: I.
      tie_break: factor of the popularity, which orders items of equal scores.
    """

    items: int
    tie_break: float

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], frozen: Mapping[str, jax.Array]) -> jax.Array:
        """Logits [B, I]."""
        weights = self.param("weights", nn.initializers.zeros, (self.items, self.items))
        positions, known = candidate_positions(batch["entities"], frozen["items"])
        known &= batch["entity_mask"]
        present = scatter_by_entity(positions, known.astype(weights.dtype), self.items)  # [B, I]
        return present @ weights + self.tie_break * frozen["popularity"]
