"""Pure per-example losses, chosen by name: the place for loss research.

Every loss takes keyword arrays and returns one value an example; the caller takes the mean once, over its mask.
Padding (masked targets, masked tokens) never changes a value.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def _log_likelihood(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """log softmax(logits)[labels]: logits [..., V], labels [...] -> [...]; float32 at least."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


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


def masked_language_model(*, logits: jax.Array, tokens: jax.Array, where: jax.Array) -> jax.Array:
    """Cross-entropy of hidden tokens at their own positions (no shift).

    Args:
      logits: [B, T, V].
      tokens: int [B, T] the original tokens.
      where: bool [B, T], True where a token was hidden.

    Returns:
      [B] sums over a row's hidden tokens; 0 for a row without any.

    Reference: Devlin et al. 2019, 3.1.
    """
    likelihood = _log_likelihood(logits, jnp.where(where, tokens, 0))
    return -jnp.sum(jnp.where(where, likelihood, 0.0), axis=-1)


def language_model(*, logits: jax.Array, tokens: jax.Array, where: jax.Array) -> jax.Array:
    """Next-token cross-entropy, shifted: position t predicts token t + 1.

    Args:
      logits: [B, T, V].
      tokens: int [B, T] the very tokens that were read.
      where: bool [B, T], True for a token to be predicted: all real tokens (UniCRS's conversation), or those of the
        completion only (ECR Eqs. 8-9). The first token is never predicted.

    Returns:
      [B] sums over a row's predicted tokens; divide the batch's sum by `where[:, 1:].sum()` for the token mean.

    Reference: ECR Eqs. 1, 9.
    """
    return masked_language_model(logits=logits[:, :-1], tokens=tokens[:, 1:], where=where[:, 1:])


RANKING: dict[str, Callable[..., jax.Array]] = {
    "cross_entropy": cross_entropy,
    "feedback_cross_entropy": feedback_cross_entropy,
}
"""Losses of the recommendation stage by name, all called with `logits`, `targets`, `weights` and `where`."""
