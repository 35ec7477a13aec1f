"""The choice of the next token from scores: forbidden tokens, truncated distributions and the draw.

Pure functions over arrays. Nothing here sorts the vocabulary: thresholds are found by bisection, which costs a few
passes over the scores.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class TokenRules(NamedTuple):
    """Constraints on the next token, as arguments of the compiled program: other values do not recompile it.

    Attributes:
      temperature, top_p, min_p, repetition_penalty: float32 scalars, see `decoding.Decoding`.
      top_k, min_new: int32 scalars, likewise.
      greedy: bool [B], rows that take the most probable token at any temperature.
      slot: int32 scalar, the token that `fewest_slots` and `most_slots` count in the output.
      fewest_slots, most_slots: int32 [B]; with fewer of it no end token is allowed, with so many it is forbidden.
      end_tokens: int32 [E], tokens that end a reply.
      prompt_start: int32 [B], column of each row's first prompt token.
      ngram_start: int32 [B], column from which n-grams count as used.
    """

    temperature: np.ndarray
    top_k: np.ndarray
    top_p: np.ndarray
    min_p: np.ndarray
    repetition_penalty: np.ndarray
    min_new: np.ndarray
    greedy: np.ndarray
    slot: np.ndarray
    fewest_slots: np.ndarray
    most_slots: np.ndarray
    end_tokens: np.ndarray
    prompt_start: np.ndarray
    ngram_start: np.ndarray


def completes_ngram(tokens: jax.Array, start: jax.Array, column: jax.Array, n: int) -> jax.Array:
    """Marks earlier tokens that would complete an n-gram which their row already contains.

    Args:
      tokens: int [B, S]; row b is searched from column `start[b]` up to, but not including, `column`.
      start: int [B].
      column: scalar, the column to be written next.
      n: n-gram length, at least 1.

    Returns:
      bool [B, S]: where True, `tokens[b, j]` must not come next in row b.
    """
    columns = jnp.arange(tokens.shape[1])
    matches = (columns < column) & (columns >= start[:, None] + n - 1)  # [B, S], where an n-gram ends
    for back in range(1, n):
        latest = jax.lax.dynamic_index_in_dim(tokens, jnp.maximum(column - back, 0), axis=1)  # [B, 1]
        matches &= jnp.roll(tokens, back, axis=1) == latest
    return matches


def penalise_repetition(scores: jax.Array, tokens: jax.Array, counted: jax.Array, penalty: jax.Array) -> jax.Array:
    """Divides positive scores of tokens that a row already contains by `penalty`, and multiplies negative ones by it.

    Args:
      scores: float [B, V].
      tokens: int [B, S].
      counted: bool [B, S], which of the tokens count.
      penalty: scalar, above 1 to discourage repetition.

    Reference: Keskar et al., "CTRL: A Conditional Transformer Language Model", 2019, section 4.1; with the sign rule of
    Hugging Face.
    """
    rows = jnp.arange(scores.shape[0])[:, None]
    old = scores[rows, tokens]  # [B, S]
    new = jnp.where(old < 0, old * penalty, old / penalty)
    out_of_range = scores.shape[1]  # mode="drop" ignores this column
    return scores.at[rows, jnp.where(counted, tokens, out_of_range)].set(new, mode="drop")


def restrict(
    scores: jax.Array,
    rules: TokenRules,
    tokens: jax.Array,
    column: jax.Array,
    new_tokens: jax.Array,
    no_repeat_ngram: int,
) -> jax.Array:
    """Applies the repetition penalty; forbids repeated n-grams, early end tokens and slots beyond the limit.

    Args:
      scores: float32 [B, V], of the token at `column`.
      rules: the constraints.
      tokens: int [B, S], prompt and output so far.
      column: scalar, the first column not yet written.
      new_tokens: int [B], number of new tokens so far.
      no_repeat_ngram: n-gram length, 0 for none.

    Returns:
      float32 [B, V], -inf for forbidden tokens.
    """
    columns = jnp.arange(tokens.shape[1])
    counted = (columns < column) & (columns >= rules.prompt_start[:, None])  # [B, S]
    scores = jax.lax.cond(
        rules.repetition_penalty != 1,
        lambda scores: penalise_repetition(scores, tokens, counted, rules.repetition_penalty),
        lambda scores: scores,
        scores,
    )
    if no_repeat_ngram:
        repeated = completes_ngram(tokens, rules.ngram_start, column, no_repeat_ngram)
        bound = jnp.where(repeated, -jnp.inf, jnp.inf)
        scores = scores.at[jnp.arange(scores.shape[0])[:, None], tokens].min(bound)
    written = (columns < column) & (columns >= column - new_tokens[:, None])  # [B, S]
    slots = jnp.sum(written & (tokens == rules.slot), axis=1)
    early = (new_tokens < rules.min_new) | (slots < rules.fewest_slots)
    scores = scores.at[:, rules.end_tokens].min(jnp.where(early, -jnp.inf, jnp.inf)[:, None], mode="drop")
    return scores.at[:, rules.slot].min(jnp.where(slots >= rules.most_slots, -jnp.inf, jnp.inf), mode="drop")


def _ordered_bits(scores: jax.Array) -> jax.Array:
    """int32 values that sort as the float32 scores do."""
    bits = jax.lax.bitcast_convert_type(scores, jnp.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def keep_highest(scores: jax.Array, weights: jax.Array, total: jax.Array) -> jax.Array:
    """Keeps the highest scores until their weights sum to `total`; the others become -inf. Ties are kept together.

    The lowest kept score is found by bisection over the 2^32 values of a float.

    Args:
      scores: float32 [B, V].
      weights: float32 [B, V], not negative.
      total: scalar.
    """
    order = _ordered_bits(scores)

    def halve(_, bounds):
        low, high = bounds  # a threshold of `low` keeps enough weight, one of `high` does not
        middle = (low & high) + ((low ^ high) >> 1)
        enough = jnp.sum(jnp.where(order >= middle[:, None], weights, 0), axis=1) >= total
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    limits = jnp.iinfo(jnp.int32)
    bounds = tuple(jnp.full(scores.shape[0], bound, jnp.int32) for bound in (limits.min, limits.max))
    threshold, _ = jax.lax.fori_loop(0, 32, halve, bounds)
    return jnp.where(order >= threshold[:, None], scores, -jnp.inf)


def truncate(scores: jax.Array, rules: TokenRules) -> jax.Array:
    """Scores [B, V] to sample from: divided by the temperature, then top-k, top-p and min-p; the rest is -inf.

    Each truncation applies to what the one before left, in the order of Hugging Face.

    References: Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p); Nguyen et al. 2024 (min-p).
    """
    scores = scores / rules.temperature
    scores = jax.lax.cond(
        rules.top_k > 0,
        lambda scores: keep_highest(scores, jnp.ones_like(scores), rules.top_k),
        lambda scores: scores,
        scores,
    )
    scores = jax.lax.cond(
        rules.top_p < 1,
        lambda scores: keep_highest(scores, jax.nn.softmax(scores, axis=-1), rules.top_p),
        lambda scores: scores,
        scores,
    )
    lowest = jnp.max(scores, axis=-1, keepdims=True) + jnp.log(rules.min_p)
    return jnp.where(scores < lowest, -jnp.inf, scores)


def argmax(scores: jax.Array) -> jax.Array:
    """Index of the highest score, the first among ties, [B, V] -> int32 [B]; fast on CPUs too."""
    highest = jnp.max(scores, axis=-1, keepdims=True)
    index = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1)
    return jnp.min(jnp.where(scores == highest, index, scores.shape[-1] - 1), axis=-1)


def sample(scores: jax.Array, keys: jax.Array) -> jax.Array:
    """Draws one token a row with probabilities softmax(scores): first a block of the vocabulary, then a token of it.

    This needs two uniform numbers a row instead of one for each token of the vocabulary.

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

    def pick(weights, quantile):  # [B, N], [B]; quantile < 1, so the result is below N
        sums = jnp.cumsum(weights, axis=-1)
        return jnp.sum(sums <= quantile[:, None] * sums[:, -1:], axis=-1, dtype=jnp.int32)

    block = pick(jnp.sum(blocks, axis=-1), uniform[:, 0])
    return block * size + pick(blocks[jnp.arange(batch), block], uniform[:, 1])


def choose_token(scores: jax.Array, rules: TokenRules, keys: jax.Array, new_tokens: jax.Array) -> jax.Array:
    """The next token of each row: the highest score if it is greedy or at temperature 0, else a sample; int32 [B].

    Args:
      scores: float32 [B, V], as `restrict` returns them.
      rules: the constraints.
      keys: random keys [B], one a row. Each token's own key is derived from its row's key and its position in the
        reply, so neither other rows nor padding change a draw.
      new_tokens: int [B], number of new tokens so far.
    """

    def draw(scores):
        drawn = sample(truncate(scores, rules), jax.vmap(jax.random.fold_in)(keys, new_tokens))
        return jnp.where(rules.greedy, argmax(scores), drawn)

    return jax.lax.cond(rules.temperature > 0, draw, argmax, scores)
