"""Beam search over the same cache and rules as `decoding`, with Hugging Face's scores and stopping."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.inference.decoding import Decoding, ends_of, packed, read, read_prompt
from ecr_jax.inference.sampling import Rules, restrict
from ecr_jax.models.language_model import Cache, Prefix, take_rows

Early = Literal[True, False, "never"]

# Below every score, and finite, so that differences of scores stay numbers.
_NEVER = -1e9


class Beams(NamedTuple):
    """Replies of each prompt, best first.

    tokens, int32 [B, R, N], the (first) end token behind their ends; scores, float32 [B, R], log-probabilities over
    length^length_penalty.
    """

    tokens: np.ndarray
    scores: np.ndarray


class _Search(NamedTuple):
    """The search at one column: R running replies a prompt, and the R best finished ones."""

    cache: Cache  # of B * R rows
    tokens: jax.Array  # int32 [B, R, T + N], running
    sums: jax.Array  # [B, R], log-probabilities of the running, best first
    finished: jax.Array  # int32 [B, R, T + N]
    scores: jax.Array  # [B, R], of the finished, best first
    full: jax.Array  # bool [B, R], where a finished one stands
    open: jax.Array  # bool [B], whether a running one may yet be among the best
    column: jax.Array  # scalar, the next to be written
    over: jax.Array  # scalar bool


def _repeated(variables: dict[str, Any], times: int) -> dict[str, Any]:
    """Adapters that are one a row, repeated for the beams of each row; what is shared stays."""
    if "lora" not in variables:
        return variables

    def repeat(path, leaf):
        stacked = path[0].key == "layers"  # [L, in, r] is shared, [L, B, in, r] is one a row
        return jnp.repeat(leaf, times, axis=-3) if leaf.ndim - stacked == 3 else leaf

    return {**variables, "lora": jax.tree.map_with_path(repeat, variables["lora"])}


@functools.partial(jax.jit, static_argnames=("module", "max_new", "beams", "no_repeat"))
def _search(
    module: Any,
    variables: dict[str, Any],
    rules: Rules,
    tokens: jax.Array,
    length_penalty: jax.Array,
    first: jax.Array,
    never: jax.Array,
    prefix: Prefix | None,
    prefix_mask: jax.Array | None,
    *,
    max_new: int,
    beams: int,
    no_repeat: int,
) -> tuple[jax.Array, jax.Array]:
    """As `beam_search`; `first` and `never` are the two special kinds of early stopping, scalar bool."""
    batch, width = tokens.shape
    last = width + max_new - 1
    rows = jnp.arange(batch)[:, None]

    def each(array, axis=0):  # [B, ...] -> [B * R, ...]
        return None if array is None else jnp.repeat(array, beams, axis=axis)

    scores, cache = read_prompt(module, variables, tokens, rules.start, max_new, prefix, prefix_mask)
    variables = _repeated(variables, beams)
    prefix = None if prefix is None else tuple(each(part, axis=1) for part in prefix)
    prefix_mask = each(prefix_mask)
    rules = rules._replace(start=each(rules.start), first=each(rules.first))

    def extend(search: _Search, scores: jax.Array) -> _Search:
        """Writes a column, given the scores [B * R, V] of its token."""
        column, vocabulary = search.column, scores.shape[-1]
        count = jnp.full(batch * beams, column - width)
        scores = jax.nn.log_softmax(scores, axis=-1)
        scores = restrict(scores, rules, search.tokens.reshape(batch * beams, -1), column, count, no_repeat)
        sums = search.sums[:, :, None] + scores.reshape(batch, beams, vocabulary)  # [B, R, V]
        # So many that R can go on though every end token is among the best of every beam.
        kept = min((1 + rules.ends.size) * beams, beams * vocabulary)
        sums, place = jax.lax.top_k(sums.reshape(batch, -1), kept)  # [B, K]
        source, token = place // vocabulary, place % vocabulary
        tokens = search.tokens[rows, source].at[:, :, column].set(token)  # [B, K, T + N]
        ended = jnp.any(token[..., None] == rules.ends, axis=-1) | (column == last)

        # Only what is among the R best may finish; nothing more may where the search of a row is over.
        share = sums / (column + 1 - width).astype(jnp.float32) ** length_penalty
        over = ~search.open | (first & jnp.all(search.full, axis=1))  # [B]
        allowed = ended & (jnp.arange(kept) < beams) & ~over[:, None]
        merged = jnp.concatenate([search.scores, jnp.where(allowed, share, _NEVER)], axis=1)
        best, chosen = jax.lax.top_k(merged, beams)
        finished = jnp.concatenate([search.finished, tokens], axis=1)[rows, chosen]
        full = jnp.concatenate([search.full, allowed], axis=1)[rows, chosen]

        running, going = jax.lax.top_k(jnp.where(ended, _NEVER, sums), beams)
        source = source[rows, going]
        cache = take_rows(search.cache, (rows * beams + source).reshape(-1))

        # The best that the leading beam could come to, by its length now, or by the greatest one.
        length = jnp.where(never & (length_penalty > 0), max_new, column + 1 - width).astype(jnp.float32)
        hope = running[:, :1] / length**length_penalty
        worst = jnp.where(full, best[:, -1:], _NEVER)
        going_on = search.open & jnp.any(hope > worst, axis=1)
        over = ~jnp.any(going_on) | jnp.all(ended) | (first & jnp.all(full))
        return _Search(cache, tokens[rows, going], running, finished, best, full, going_on, column + 1, over)

    def step(search: _Search) -> _Search:
        newest = jax.lax.dynamic_slice_in_dim(search.tokens, search.column - 1, 1, axis=2).reshape(-1, 1)  # [B * R, 1]
        seen = jnp.ones(newest.shape, bool)
        scores, cache = read(module, variables, newest, seen, search.cache, prefix, prefix_mask)
        return extend(search._replace(cache=cache), scores)

    room = jnp.broadcast_to(rules.ends[0], (batch, max_new))
    written = jnp.repeat(jnp.concatenate([tokens, room], axis=1)[:, None], beams, axis=1)  # [B, R, T + N]
    nothing = jnp.full((batch, beams), _NEVER, jnp.float32)
    search = _Search(
        take_rows(cache, each(jnp.arange(batch))),
        written,
        nothing.at[:, 0].set(0),  # the beams of a prompt begin as one
        written,
        nothing,
        nothing > 0,
        jnp.ones(batch, bool),
        jnp.int32(width),
        jnp.bool_(False),
    )
    search = jax.lax.while_loop(lambda search: ~search.over, step, extend(search, each(scores)))
    return search.finished[:, :, width:], search.scores


def beam_search(
    module: Any,
    variables: dict[str, Any],
    tokens: Any,
    mask: Any,
    *,
    decoding: Decoding,
    end: int | Sequence[int],
    beams: int = 4,
    length_penalty: float = 1.0,
    early_stopping: Early = False,
    prefix: Prefix | None = None,
    prefix_mask: jax.Array | None = None,
) -> Beams:
    """The most probable replies that a search of width R finds.

    Args:
      module: a causal language model.
      variables: {"params": ...} and, where there are adapters, "lora" (shared, or one adapter a row).
      tokens: int [B, T] and
      mask: bool [B, T], prompts, padded on either side.
      decoding: `max_new`, `min_new`, `repetition_penalty`, `no_repeat` and `no_repeat_prompt` apply.
      end: id of the token that ends a reply, or several.
      beams: R.
      length_penalty: replies are compared by log-probability / length^length_penalty; above 0 favours longer ones.
      early_stopping: True ends a prompt's search once R replies have ended; False once the leading beam is, at its
        length so far, worse than they; "never" once it could not become better at any length.
      prefix: per-layer keys and values [L, B, Hkv, P, Dh] and
      prefix_mask: bool [B, P], or None.

    Raises:
      ValueError: as `decoding.generate`, or settings that a search has no use for.
    """
    neutral = Decoding()
    unused = [
        name for name in ("temperature", "top_k", "top_p", "min_p", "stop")
        if getattr(decoding, name) != getattr(neutral, name)
    ]  # fmt: skip
    if unused:
        raise ValueError(f"beam search neither samples nor looks for stop strings; leave {', '.join(unused)} as it is")
    if beams < 1 or early_stopping not in (True, False, "never"):
        raise ValueError(f"beams={beams} must be at least 1, early_stopping={early_stopping!r} True, False or 'never'")
    tokens, start = packed(module, tokens, mask, decoding.max_new)
    found, scores = _search(
        module, variables, decoding.rules(ends_of(end), start, tokens.shape[1]), tokens, np.float32(length_penalty),
        np.bool_(early_stopping is True), np.bool_(early_stopping == "never"), prefix, prefix_mask,
        max_new=decoding.max_new, beams=beams, no_repeat=decoding.no_repeat,
    )  # fmt: skip
    return Beams(np.asarray(found), np.asarray(scores))
