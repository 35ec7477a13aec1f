"""Next-token cross-entropy of a language model, chunked over the vocabulary."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def next_token_cross_entropy(
    *, hidden: jax.Array, head: jax.Array, tokens: jax.Array, where: jax.Array, chunk: int = 256
) -> tuple[jax.Array, jax.Array]:
    r"""Next-token cross-entropy from hidden states, shifted: position t predicts token t + 1.

    The scores of the vocabulary exist for about `chunk` tokens at a time, never as [B, T, V], and only for tokens that
    are to be predicted: those of a row come first, and chunks without any are skipped. The gradient of the scores is
    computed in the same pass, so that the backward pass computes no scores again.

    .. math:: \sum_{b,t} w_{b,t+1} \left(\log \sum_v e^{h_{bt} \cdot W_v} - h_{bt} \cdot W_{x_{b,t+1}}\right)

    Args:
      hidden: [B, T, D] states after the final norm.
      head: [V, D] output embeddings (`language_model.head`); a frozen head costs no gradient.
      tokens: int [B, T] the input tokens.
      where: bool [B, T], True for a token to be predicted: all real tokens (UniCRS's conversation), or those of the
        completion only (ECR Eqs. 8-9). The first token is never predicted. Numbers weigh tokens.
      chunk: about how many tokens are scored at once, over all rows.

    Returns:
      The sum over all predicted tokens, a scalar of at least float32 (divide by `where[:, 1:].sum()` for the token
      mean), and how many of them had the highest score, int32 scalar.

    Reference: ECR Eqs. 1, 9.

    >>> tokens = jnp.array([[3, 1, 2]])
    >>> loss, hits = next_token_cross_entropy(
    ...     hidden=jnp.zeros((1, 3, 2)), head=jnp.ones((4, 2)), tokens=tokens, where=jnp.ones((1, 3), bool)
    ... )
    >>> round(float(loss), 4)  # two predicted tokens, log 4 each
    2.7726
    """
    batch, length = tokens.shape
    weights = where[:, 1:].astype(jnp.promote_types(hidden.dtype, jnp.float32))
    labels = jnp.where(weights != 0, tokens[:, 1:], 0)
    order = jnp.argsort(weights == 0, axis=1)  # within rows, which a mesh may split
    hidden, labels, weights = (
        jnp.take_along_axis(array, order.reshape(order.shape + (1,) * (array.ndim - 2)), axis=1)
        for array in (hidden[:, :-1], labels, weights)
    )
    size = max(1, min(length - 1, chunk // batch))
    spare = -(length - 1) % size

    def split(array: jax.Array) -> jax.Array:  # [B, T - 1, ...] -> [chunks, B * size, ...]; each chunk has all rows
        array = jnp.pad(array, ((0, 0), (0, spare)) + ((0, 0),) * (array.ndim - 2))
        array = jnp.moveaxis(array.reshape(batch, -1, size, *array.shape[2:]), 1, 0)
        return array.reshape(-1, batch * size, *array.shape[3:])

    return _scored(split(hidden), head, split(labels), split(weights))


def _score(
    hidden: jax.Array, head: jax.Array, labels: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Scores [n, V] of one chunk, their log-sum-exp, the weighted loss and the number of hits."""
    scores = jnp.einsum("nd,vd->nv", hidden, head.astype(hidden.dtype), preferred_element_type=weights.dtype)
    mass = jax.nn.logsumexp(scores, axis=-1)
    chosen = jnp.take_along_axis(scores, labels[..., None], axis=-1)[..., 0]
    hits = (chosen >= scores.max(axis=-1)) & (weights != 0)
    return scores, mass, jnp.sum(weights * (mass - chosen)), jnp.sum(hits, dtype=jnp.int32)


@jax.custom_vjp
def _scored(hidden: jax.Array, head: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Loss and hits of chunks: hidden [C, n, D], labels and weights [C, n]."""

    def add(sums: tuple, part: tuple) -> tuple[tuple, None]:
        def score() -> tuple:
            _, _, loss, hits = _score(states, head, labels, weights)
            return sums[0] + loss, sums[1] + hits

        states, labels, weights = part
        return jax.lax.cond(jnp.any(weights != 0), score, lambda: sums), None

    start = jnp.zeros((), weights.dtype), jnp.zeros((), jnp.int32)
    return jax.lax.scan(add, start, (hidden, labels, weights))[0]


def _scored_forward(hidden: Any, head: Any, labels: Any, weights: Any) -> tuple:
    """The same with the gradients of the loss, which the backward pass multiplies by a scalar."""
    table, trained, exact = head.value, head.perturbed, weights.value.dtype

    def add(sums: tuple, part: tuple) -> tuple[tuple, jax.Array]:
        def score() -> tuple:
            scores, mass, loss, hits = _score(states, table, labels, weights)
            change = jnp.exp(scores - mass[..., None])
            change = change - (labels[..., None] == jnp.arange(table.shape[0]))  # softmax less the label
            change = (change * weights[..., None]).astype(states.dtype)  # [n, V]
            to_states = jnp.einsum("nv,vd->nd", change, table.astype(states.dtype))
            to_table = sums[2]
            if trained:
                to_table += jnp.einsum("nv,nd->vd", change, states, preferred_element_type=exact)
            return (sums[0] + loss, sums[1] + hits, to_table), to_states

        states, labels, weights = part
        return jax.lax.cond(jnp.any(weights != 0), score, lambda: (sums, jnp.zeros_like(states)))

    to_table = jnp.zeros(table.shape if trained else (), exact)
    start = (jnp.zeros((), exact), jnp.zeros((), jnp.int32), to_table)
    (loss, hits, to_table), to_states = jax.lax.scan(add, start, (hidden.value, labels.value, weights.value))
    return (loss, hits), (to_states, to_table.astype(table.dtype) if trained else None)


def _scored_backward(residuals: tuple, incoming: tuple) -> tuple:
    to_states, to_table = residuals
    if isinstance(incoming[0], jax.custom_derivatives.SymbolicZero):  # only the number of hits is used
        return None, None, None, None
    factor = jnp.asarray(incoming[0])
    change = None if to_table is None else factor.astype(to_table.dtype) * to_table
    return factor.astype(to_states.dtype) * to_states, change, None, None


_scored.defvjp(_scored_forward, _scored_backward, symbolic_zeros=True)
