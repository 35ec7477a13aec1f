"""Choosing a token from scores: what is forbidden, what sampling keeps, and the draw. No file, no model, no text.

Nothing here sorts the vocabulary: thresholds are found by bisection, which costs a few passes over the scores.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Rules(NamedTuple):
    """What bounds the choice, as arguments of the compiled program: other numbers compile nothing anew.

    Scalars: temperature, top_p, min_p, penalty float32; top_k, min_new int32 (see `decoding.Decoding`).
    ends, int32 [E]: tokens that end a reply. start, int32 [B]: column of each row's first prompt token.
    first, int32 [B]: column from which n-grams count.
    """

    temperature: np.ndarray
    top_k: np.ndarray
    top_p: np.ndarray
    min_p: np.ndarray
    penalty: np.ndarray
    min_new: np.ndarray
    ends: np.ndarray
    start: np.ndarray
    first: np.ndarray


def repeats(tokens: jax.Array, first: jax.Array, column: jax.Array, n: int) -> jax.Array:
    """Which earlier tokens would complete an n-gram that their row already has.

    Args:
      tokens: int [B, S]; of row b the columns from `first[b]` up to `column` are looked at.
      first: int [B].
      column: scalar, the column to be written next.
      n: n-gram length, at least 1.

    Returns:
      bool [B, S]: token `tokens[b, j]` must not come next in row b.
    """
    places = jnp.arange(tokens.shape[1])
    same = (places < column) & (places >= first[:, None] + n - 1)  # [B, S], where an n-gram ends
    for back in range(1, n):
        latest = jax.lax.dynamic_index_in_dim(tokens, jnp.maximum(column - back, 0), axis=1)  # [B, 1]
        same &= jnp.roll(tokens, back, axis=1) == latest
    return same


def penalise(scores: jax.Array, tokens: jax.Array, counted: jax.Array, penalty: jax.Array) -> jax.Array:
    """Scores of tokens that a row has are divided by `penalty` where positive and multiplied by it where negative.

    Args:
      scores: float [B, V].
      tokens: int [B, S].
      counted: bool [B, S], which of them count.
      penalty: scalar, above 1 to discourage.

    Reference: Keskar et al., "CTRL: A Conditional Transformer Language Model", 2019, section 4.1; with the sign rule of
    Hugging Face.
    """
    rows = jnp.arange(scores.shape[0])[:, None]
    old = scores[rows, tokens]  # [B, S]
    new = jnp.where(old < 0, old * penalty, old / penalty)
    nowhere = scores.shape[1]  # a column that is not there is dropped
    return scores.at[rows, jnp.where(counted, tokens, nowhere)].set(new, mode="drop")


def restrict(
    scores: jax.Array, rules: Rules, tokens: jax.Array, column: jax.Array, count: jax.Array, no_repeat: int
) -> jax.Array:
    """Scores after the repetition penalty, without forbidden n-grams and ends that come too early.

    Args:
      scores: float32 [B, V], of the token at `column`.
      rules: what bounds the choice.
      tokens: int [B, S], prompt and output so far.
      column: scalar, the first column not yet written.
      count: int [B], new tokens so far.
      no_repeat: n-gram length, 0 for none.
    """
    places = jnp.arange(tokens.shape[1])
    counted = (places < column) & (places >= rules.start[:, None])  # [B, S]
    scores = jax.lax.cond(
        rules.penalty != 1,
        lambda scores: penalise(scores, tokens, counted, rules.penalty),
        lambda scores: scores,
        scores,
    )
    if no_repeat:
        banned = jnp.where(repeats(tokens, rules.first, column, no_repeat), -jnp.inf, jnp.inf)
        scores = scores.at[jnp.arange(scores.shape[0])[:, None], tokens].min(banned)
    early = jnp.where(count < rules.min_new, -jnp.inf, jnp.inf)
    return scores.at[:, rules.ends].min(early[:, None], mode="drop")


def _ordered(scores: jax.Array) -> jax.Array:
    """int32 that sort as the float32 scores do."""
    bits = jax.lax.bitcast_convert_type(scores, jnp.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def keep(scores: jax.Array, weights: jax.Array, enough: jax.Array) -> jax.Array:
    """Keeps the best scores until their weights sum to `enough`; the others become -inf. Equal scores stay together.

    The lowest kept score is found by bisection over the 2^32 values of a float.

    Args:
      scores: float32 [B, V].
      weights: float32 [B, V], not negative.
      enough: scalar.
    """
    order = _ordered(scores)

    def halve(_, bounds):
        low, high = bounds  # low keeps enough, high does not
        middle = (low & high) + ((low ^ high) >> 1)
        held = jnp.sum(jnp.where(order >= middle[:, None], weights, 0), axis=1) >= enough
        return jnp.where(held, middle, low), jnp.where(held, high, middle)

    limits = jnp.iinfo(jnp.int32)
    bounds = tuple(jnp.full(scores.shape[0], bound, jnp.int32) for bound in (limits.min, limits.max))
    least, _ = jax.lax.fori_loop(0, 32, halve, bounds)
    return jnp.where(order >= least[:, None], scores, -jnp.inf)


def heated(scores: jax.Array, rules: Rules) -> jax.Array:
    """Scores [B, V] that are sampled from: over the temperature, then top-k, top-p and min-p, the rest -inf.

    Each bound applies to what the one before left, in the order of Hugging Face.

    References: Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p); Nguyen et al. 2024 (min-p).
    """
    scores = scores / rules.temperature
    scores = jax.lax.cond(
        rules.top_k > 0, lambda scores: keep(scores, jnp.ones_like(scores), rules.top_k), lambda scores: scores, scores
    )
    scores = jax.lax.cond(
        rules.top_p < 1,
        lambda scores: keep(scores, jax.nn.softmax(scores, axis=-1), rules.top_p),
        lambda scores: scores,
        scores,
    )
    least = jnp.max(scores, axis=-1, keepdims=True) + jnp.log(rules.min_p)
    return jnp.where(scores < least, -jnp.inf, scores)


def best(scores: jax.Array) -> jax.Array:
    """Index of the highest score, the first of equal ones, [B, V] -> int32 [B]: an argmax that is fast on CPUs too."""
    highest = jnp.max(scores, axis=-1, keepdims=True)
    places = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1)
    return jnp.min(jnp.where(scores == highest, places, scores.shape[-1] - 1), axis=-1)


def draw(scores: jax.Array, keys: jax.Array) -> jax.Array:
    """Draws a token a row with probabilities softmax(scores): first a block of the vocabulary, then a token of it.

    Two uniform numbers a row take the place of one a token.

    Args:
      scores: float32 [B, V], at least one a row above -inf.
      keys: random keys [B].

    Returns:
      int32 [B].
    """
    batch, vocabulary = scores.shape
    size = math.isqrt(vocabulary - 1) + 1
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    blocks = jnp.pad(weights, ((0, 0), (0, size * size - vocabulary))).reshape(batch, size, size)
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys)  # [B, 2]

    def pick(weights, share):  # [B, N], [B]
        sums = jnp.cumsum(weights, axis=-1)
        return jnp.sum(sums <= share[:, None] * sums[:, -1:], axis=-1, dtype=jnp.int32)  # share < 1: never past the end

    block = pick(jnp.sum(blocks, axis=-1), uniform[:, 0])
    return block * size + pick(blocks[jnp.arange(batch), block], uniform[:, 1])


def choose(scores: jax.Array, rules: Rules, keys: jax.Array, count: jax.Array) -> jax.Array:
    """The next token of each row: the best at temperature 0, else a draw. [B, V] -> int32 [B].

    Args:
      scores: float32 [B, V], restricted.
      rules: what bounds the choice.
      keys: random keys [B] of the rows; each token has one of its own, made of the row's and
      count: int [B], new tokens so far. So no other row and no padding changes a draw.
    """

    def sample(scores):
        return draw(heated(scores, rules), jax.vmap(jax.random.fold_in)(keys, count))

    return jax.lax.cond(rules.temperature > 0, sample, best, scores)
