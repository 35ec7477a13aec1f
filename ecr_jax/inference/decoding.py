"""Decoding with a cache: greedy or sampled, one compiled loop, n-grams never repeated within the output."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.models.language_model import Prefix, init_cache, logits


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen.

    Attributes:
      max_new: most new tokens.
      temperature: 0 takes the most probable token, else samples.
      top_p: sampling keeps the most probable tokens up to this mass.
      min_new: the reply does not end before so many tokens.
      no_repeat: no n-gram of this length occurs twice in the output (the prompt is not counted: copying a title is
        allowed); 0 forbids nothing.
    """

    max_new: int = 64
    temperature: float = 0.0
    top_p: float = 0.9
    min_new: int = 4
    no_repeat: int = 3

    def __post_init__(self) -> None:
        if self.max_new < 1 or self.temperature < 0 or not 0 < self.top_p <= 1 or min(self.min_new, self.no_repeat) < 0:
            raise ValueError(
                f"{self} cannot be: max_new >= 1, temperature >= 0, 0 < top_p <= 1, min_new >= 0, no_repeat >= 0"
            )


def repeats(output: jax.Array, length: jax.Array, n: int) -> jax.Array:
    """Which earlier tokens would complete an n-gram that the output already has.

    Args:
      output: int [B, S], the first `length` columns are written.
      length: scalar.
      n: n-gram length, at least 1.

    Returns:
      bool [B, S]: token `output[b, j]` must not come next in row b.
    """
    size = output.shape[1]
    places = jnp.arange(size)
    same = places[None, :] < length  # [1, S]
    same = jnp.broadcast_to(same & (places >= n - 1)[None, :], output.shape)
    for back in range(1, n):
        earlier = jnp.roll(output, back, axis=1)
        latest = jax.lax.dynamic_index_in_dim(output, jnp.maximum(length - back, 0), axis=1)  # [B, 1]
        same &= earlier == latest
    return same & (length >= n - 1)


@functools.partial(jax.jit, static_argnames=("module", "decoding", "end"))
def generate(
    module: Any,
    params: Any,
    tokens: jax.Array,
    mask: jax.Array,
    key: jax.Array,
    *,
    decoding: Decoding,
    end: int,
    prefix: Prefix | None = None,
    prefix_mask: jax.Array | None = None,
) -> jax.Array:
    """Continues each row until its end token or `max_new` tokens.

    Args:
      module: a causal language model.
      params: its parameters.
      tokens: int [B, T], padded on the left.
      mask: bool [B, T].
      key: for sampling.
      decoding: how tokens are chosen.
      end: id of the token that ends a reply.
      prefix: per-layer keys and values [L, B, Hkv, P, Dh] and
      prefix_mask: bool [B, P], or None.

    Returns:
      int32 [B, max_new]; from the end token on every entry is `end`.
    """
    batch, length = tokens.shape
    rows = jnp.arange(batch)[:, None]

    def read(tokens, mask, cache):
        out = module.apply({"params": params}, tokens, mask, prefix, prefix_mask, cache)
        return logits(params, out.hidden[:, -1]), out.cache  # [B, V]

    def choose(scores, output, step):
        if decoding.no_repeat:
            banned = repeats(output, step, decoding.no_repeat)
            scores = scores.at[rows, output].min(jnp.where(banned, -jnp.inf, jnp.inf))
        scores = scores.at[:, end].set(jnp.where(step < decoding.min_new, -jnp.inf, scores[:, end]))
        if decoding.temperature == 0:
            return jnp.argmax(scores, axis=-1).astype(jnp.int32)
        scores = scores / decoding.temperature
        order = jnp.sort(jax.nn.softmax(scores), axis=-1)[:, ::-1]
        kept = jnp.sum(jnp.cumsum(order, axis=-1) < decoding.top_p, axis=-1, keepdims=True)
        # Rounding may keep the sum of all below top_p.
        least = jnp.take_along_axis(order, jnp.minimum(kept, scores.shape[-1] - 1), axis=-1)
        scores = jnp.where(jax.nn.softmax(scores) >= least, scores, -jnp.inf)
        return jax.random.categorical(jax.random.fold_in(key, step), scores).astype(jnp.int32)

    def more(carry):
        step, _, _, _, done = carry
        return (step < decoding.max_new) & ~done.all()

    def advance(carry):
        step, scores, cache, output, done = carry
        token = jnp.where(done, end, choose(scores, output, step))
        output = output.at[:, step].set(token)
        done = done | (token == end)
        scores, cache = read(token[:, None], jnp.ones((batch, 1), bool), cache)
        return step + 1, scores, cache, output, done

    cache = init_cache(module.config, batch, length + decoding.max_new)
    scores, cache = read(tokens, mask, cache)
    output = jnp.full((batch, decoding.max_new), end, jnp.int32)
    carry = (jnp.zeros((), jnp.int32), scores, cache, output, jnp.zeros(batch, bool))
    return jax.lax.while_loop(more, advance, carry)[3]


def pad_left(rows: list[list[int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Pads prompts on the left, cutting what is too long on its left. Returns ids int32 and mask bool [B, length]."""
    tokens, mask = np.zeros((len(rows), length), np.int32), np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        row = row[-length:]
        if row:
            tokens[i, -len(row) :], mask[i, -len(row) :] = row, True
    return tokens, mask
