"""How the seeker feels about a mention, as a factor of the mention's weight in the scoring heads."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

EMOTIONS = 9

_LEAST = 0.01
"""The factor of a mention that is certainly disliked; above 0, so that its logarithm and its gradient are finite."""


def feelings_of(emotions: jax.Array, probabilities: jax.Array, valence: jax.Array) -> jax.Array:
    """The feelings about each mention [B, E, 10]: the nine emotions' probabilities, and the valence.

    Args:
      emotions: int [B, E, L] the likeliest emotions, 9 where padded.
      probabilities: [B, E, L] of these.
      valence: [B, E] from -1 (disliked) to 1 (liked), 0 where it is not known.

    >>> feelings = feelings_of(jnp.array([[[4, 9]]]), jnp.array([[[0.75, 0.0]]]), jnp.array([[-0.5]]))
    >>> feelings[0, 0].tolist()
    [0.0, 0.0, 0.0, 0.0, 0.75, 0.0, 0.0, 0.0, 0.0, -0.5]
    """
    nine = jnp.einsum("bel,belk->bek", probabilities, jax.nn.one_hot(emotions, EMOTIONS, dtype=probabilities.dtype))
    return jnp.concatenate([nine, valence[..., None].astype(nine.dtype)], axis=-1)


def dislike(feelings: jax.Array) -> jax.Array:
    """How clearly each mention is disliked [B, E], in [0, 1], from its valence v: max(0, -2 v - 1).

    Few of the films that people name are disliked, so that weak signs of it are mostly errors: they count for nothing.

    >>> dislike(jnp.array([[[0.5], [-0.5], [-0.75], [-1.0]]])).tolist()
    [[0.0, 0.0, 0.5, 1.0]]
    """
    return jnp.clip(-2 * feelings[..., -1] - 1, 0, 1)


class FeelingWeight(nn.Module):
    """The logarithm of a mention's factor exp(w · f) (1 - d), with its feelings f and how much it is disliked, d.

    w is learned from zero. The second factor is not learned: what is certainly disliked counts next to nothing,
    whatever w becomes, for corpora have too few dislikes to learn it from.
    """

    @nn.compact
    def __call__(self, feelings: jax.Array) -> jax.Array:
        """Log factors [B, E] of `feelings` [B, E, 10]."""
        weights = self.param("weights", nn.initializers.zeros, (feelings.shape[-1],))
        return feelings @ weights + jnp.log(jnp.maximum(1 - dislike(feelings), _LEAST))
