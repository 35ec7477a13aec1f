"""Pure per-example losses, chosen by name: the place for loss research.

Every ranking loss takes keyword arrays and returns one value an example; the caller takes the mean once, over its mask.
Padding (masked targets, masked tokens) never changes a value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def cross_entropy(
    *, logits: jax.Array, targets: jax.Array, where: jax.Array, weights: jax.Array | None = None
) -> jax.Array:
    """Cross-entropy of every target of a row, added up: one forward serves all films of a turn.

    Args:
      logits: [B, I] scores of I candidates.
      targets: int [B, M] positions in the candidates; anything where masked.
      where: bool [B, M], True for a real target.
      weights: what the other ranking losses weigh by; every target counts alike here.

    Returns:
      [B] sums over a row's targets; divide the batch's sum by the number of targets for the mean.

    Reference: ECR 3.2 (fusion), UniCRS Eq. 6.
    """
    weights = jnp.ones(targets.shape, jnp.float32)  # whatever was given
    return feedback_cross_entropy(logits=logits, targets=targets, weights=weights, where=where)


def feedback_cross_entropy(*, logits: jax.Array, targets: jax.Array, weights: jax.Array, where: jax.Array) -> jax.Array:
    r"""Cross-entropy weighted by what the seeker said of the film afterwards.

    .. math:: \sum_m w_m \left(\log \sum_i e^{s_i} - s_{y_m}\right)

    Args:
      logits: [B, I] scores of I candidates.
      targets: int [B, M] positions in the candidates; anything where masked.
      weights: [B, M] weight of each target (ECR: like 2, dislike 1, unsaid 0.5). A batch mean of these is not divided
        by the sum of the weights, as published.
      where: bool [B, M], True for a real target.

    Returns:
      [B] weighted sums over a row's targets.

    Reference: ECR Eq. 7.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    chosen = jnp.take_along_axis(logits, jnp.where(where, targets, 0), axis=-1)  # [B, M]
    losses = jax.nn.logsumexp(logits, axis=-1, keepdims=True) - chosen
    return jnp.sum(jnp.where(where, weights * losses, 0.0), axis=-1)


def language_model(
    *, hidden: jax.Array, head: jax.Array, tokens: jax.Array, where: jax.Array, chunk: int = 1024
) -> tuple[jax.Array, jax.Array]:
    r"""Next-token cross-entropy from hidden states, shifted: position t predicts token t + 1.

    The vocabulary's scores exist for about `chunk` tokens at a time, never as [B, T, V], and their gradient is taken
    while they are there, so that a backward pass computes none of them again.

    .. math:: \sum_{b,t} w_{b,t+1} \left(\log \sum_v e^{h_{bt} \cdot W_v} - h_{bt} \cdot W_{x_{b,t+1}}\right)

    Args:
      hidden: [B, T, D] states after the final norm.
      head: [V, D] rows that score the tokens (`language_model.head`); a frozen one costs no gradient.
      tokens: int [B, T] the very tokens that were read.
      where: bool [B, T], True for a token to be predicted: all real tokens (UniCRS's conversation), or those of the
        completion only (ECR Eqs. 8-9). The first token is never predicted. Numbers weigh tokens.
      chunk: about how many tokens are scored at once, over all rows.

    Returns:
      The sum over all predicted tokens, float32 scalar (divide by `where[:, 1:].sum()` for the token mean), and how
      many of them had the highest score, int32 scalar.

    Reference: ECR Eqs. 1, 9.
    """
    batch, length = tokens.shape
    weights = where[:, 1:].astype(jnp.float32)
    labels = jnp.where(weights != 0, tokens[:, 1:], 0)
    size = max(1, min(length - 1, chunk // batch))
    spare = -(length - 1) % size

    def split(array: jax.Array) -> jax.Array:  # [B, T - 1, ...] -> [chunks, B * size, ...]; each chunk has all rows
        array = jnp.pad(array, ((0, 0), (0, spare)) + ((0, 0),) * (array.ndim - 2))
        array = jnp.moveaxis(array.reshape(batch, -1, size, *array.shape[2:]), 1, 0)
        return array.reshape(-1, batch * size, *array.shape[3:])

    return _scored(split(hidden[:, :-1]), head, split(labels), split(weights))


def _score(hidden: jax.Array, head: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple:
    """Scores [n, V] of one chunk, their log-sum-exp, the weighted loss and the number of hits."""
    scores = jnp.einsum("nd,vd->nv", hidden, head.astype(hidden.dtype), preferred_element_type=jnp.float32)
    mass = jax.nn.logsumexp(scores, axis=-1)
    chosen = jnp.take_along_axis(scores, labels[..., None], axis=-1)[..., 0]
    hits = (chosen >= scores.max(axis=-1)) & (weights != 0)
    return scores, mass, jnp.sum(weights * (mass - chosen)), jnp.sum(hits, dtype=jnp.int32)


@jax.custom_vjp
def _scored(hidden: jax.Array, head: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Loss and hits of chunks: hidden [C, n, D], labels and weights [C, n]."""

    def add(sofar: tuple, part: tuple) -> tuple[tuple, None]:
        _, _, loss, hits = _score(part[0], head, *part[1:])
        return (sofar[0] + loss, sofar[1] + hits), None

    return jax.lax.scan(add, (jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)), (hidden, labels, weights))[0]


def _scored_forward(hidden: Any, head: Any, labels: Any, weights: Any) -> tuple:
    """The same with the gradients of the loss, which are linear in what comes from above: one number."""
    table, trained = head.value, head.perturbed

    def add(sofar: tuple, part: tuple) -> tuple[tuple, jax.Array]:
        states, labels, weights = part
        scores, mass, loss, hits = _score(states, table, labels, weights)
        change = jnp.exp(scores - mass[..., None])
        change = change - (labels[..., None] == jnp.arange(table.shape[0]))  # softmax less the label
        change = (change * weights[..., None]).astype(states.dtype)  # [n, V]
        to_states = jnp.einsum("nv,vd->nd", change, table.astype(states.dtype))
        to_table = sofar[2]
        if trained:
            to_table += jnp.einsum("nv,nd->vd", change, states, preferred_element_type=jnp.float32)
        return (sofar[0] + loss, sofar[1] + hits, to_table), to_states

    to_table = jnp.zeros(table.shape if trained else (), jnp.float32)
    start = (jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32), to_table)
    (loss, hits, to_table), to_states = jax.lax.scan(add, start, (hidden.value, labels.value, weights.value))
    return (loss, hits), (to_states, to_table.astype(table.dtype) if trained else None)


def _scored_backward(kept: tuple, above: tuple) -> tuple:
    to_states, to_table = kept
    if isinstance(above[0], jax.custom_derivatives.SymbolicZero):  # only the hits were asked for
        return None, None, None, None
    factor = jnp.asarray(above[0])
    return factor.astype(to_states.dtype) * to_states, None if to_table is None else factor * to_table, None, None


_scored.defvjp(_scored_forward, _scored_backward, symbolic_zeros=True)


RANKING: dict[str, Callable[..., jax.Array]] = {
    "cross_entropy": cross_entropy,
    "feedback_cross_entropy": feedback_cross_entropy,
}
"""Losses of the recommendation stage by name, all called with `logits`, `targets`, `weights` and `where`."""
