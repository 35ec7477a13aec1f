"""Small layers and array functions that several models share.

Letters: B rows, S positions of a row, D width, I candidates, N entities (row N of a table is the padding entity).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecr_jax.models.lm.linear import matmul


class Linear(nn.Module):
    """y = x W + b with PyTorch's default initialisation: both uniform within scale / sqrt(fan in).

    Attributes:
      features: width of the output.
      use_bias: whether b exists.
      scale: multiplies the bounds; 0 starts at zero.
    """

    features: int
    use_bias: bool = True
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [..., in] -> [..., features]."""
        bound = self.scale * x.shape[-1] ** -0.5

        def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        y = matmul(x, self.param("kernel", init, (x.shape[-1], self.features)))
        return y + self.param("bias", init, (self.features,)) if self.use_bias else y


class Tower(nn.Module):
    """x + MLP(x), with a hidden layer of half the width and a ReLU."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [..., D] -> [..., D]."""
        width = x.shape[-1]
        return x + Linear(width, name="up")(nn.relu(Linear(width // 2, name="down")(x)))


class AttentionPool(nn.Module):
    """Weighted mean of rows by a learned score tanh(x W) v (+ bias), then a linear map."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, bias: jax.Array | float = 0.0) -> jax.Array:
        """x [B, S, D], mask bool [B, S], bias [B, S] added to the scores -> [B, D]."""
        width = x.shape[-1]
        x = nn.LayerNorm(name="norm")(x)
        scores = Linear(1, use_bias=False, name="score")(nn.tanh(Linear(width // 4, name="hidden")(x)))[..., 0]
        weights = masked_softmax(scores + bias, mask, axis=1)  # [B, S]
        return Linear(width, use_bias=False, name="out")(jnp.einsum("bs,bsd->bd", weights, x))


def masked_softmax(scores: jax.Array, mask: jax.Array | None, axis: int) -> jax.Array:
    """Softmax over the True entries of an axis; zeros where there is none. `mask` None means that all are real.

    >>> masked_softmax(jnp.array([0.0, 0.0, 5.0]), jnp.array([True, True, False]), axis=0).tolist()
    [0.5, 0.5, 0.0]
    """
    if mask is None:
        return jax.nn.softmax(scores, axis=axis)
    scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    return jnp.where(mask, jax.nn.softmax(scores, axis=axis), 0)


def masked_mean(rows: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean of the rows [B, S, D] whose mask, bool [B, S], is True: [B, D], zero where there is none."""
    weights = mask / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
    return jnp.einsum("bs,bsd->bd", weights.astype(rows.dtype), rows)


def last_state(hidden: jax.Array, mask: jax.Array) -> jax.Array:
    """The state of each row's last real token: hidden [B, T, D], mask [B, T] right-padded -> [B, D]."""
    last = jnp.maximum(mask.astype(jnp.int32).sum(axis=1) - 1, 0)
    return jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]


def recency(mask: jax.Array, slots: int) -> jax.Array:
    """How many real positions follow each position, at most slots - 1: mask bool [B, S] -> int [B, S].

    >>> recency(jnp.array([[True, True, True, False]]), slots=32).tolist()
    [[2, 1, 0, 0]]
    """
    count = jnp.cumsum(mask.astype(jnp.int32), axis=1)
    return jnp.clip(count[:, -1:] - count, 0, slots - 1)


def candidate_positions(entities: jax.Array, candidates: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Finds entities among the candidates.

    Args:
      entities: int [...] entity ids.
      candidates: int [I] entity ids in rising order.

    Returns:
      int [...] positions in `candidates`, meaningless for an entity that is not a candidate, and bool [...], whether it
      is one.

    >>> positions, known = candidate_positions(jnp.array([9, 2]), jnp.array([1, 4, 9]))
    >>> int(positions[0]), known.tolist()
    (2, [True, False])
    """
    positions = jnp.minimum(jnp.searchsorted(candidates, entities), candidates.shape[0] - 1)
    return positions, candidates[positions] == entities


def candidate_columns(candidates: jax.Array, entities: int) -> jax.Array:
    """The column of each entity among the candidates, int [N + 1]; I, which `scatter_by_entity` drops, for the others.

    Args:
      candidates: int [I] entity ids.
      entities: N.

    >>> candidate_columns(jnp.array([1, 3]), entities=3).tolist()
    [2, 0, 2, 1]
    """
    count = candidates.shape[0]
    return jnp.full(entities + 1, count).at[candidates].set(jnp.arange(count))


def scatter_by_entity(ids: jax.Array, values: jax.Array, entities: int) -> jax.Array:
    """Adds up values by id: ids int [B, ...], values [B, ...] -> [B, entities]; ids from `entities` on are dropped.

    >>> scatter_by_entity(jnp.array([[1, 1, 5]]), jnp.array([[1.0, 2.0, 4.0]]), entities=3).tolist()
    [[0.0, 3.0, 0.0]]
    """
    rows = ids.shape[0]
    ids, values = ids.reshape(rows, -1), values.reshape(rows, -1)
    return jnp.zeros((rows, entities), values.dtype).at[jnp.arange(rows)[:, None], ids].add(values, mode="drop")
