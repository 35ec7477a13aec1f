"""Decoding with a cache: the prompt is read once, then one compiled program writes as many tokens as it is asked for.

Whole replies, streams and searches for stop strings run the same program; only how far it goes differs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.inference.sampling import Rules, choose, restrict
from ecr_jax.inference.streaming import Decode, TextStream
from ecr_jax.models.lm.language_model import Cache, Prefix, init_cache, logits

# Tokens between two looks for stop strings; those written after one are thrown away.
_STRIDE = 8


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen. The bounds on sampling apply one after another, in the order they stand here.

    Attributes:
      max_new: most new tokens.
      min_new: a reply does not end before so many tokens.
      temperature: 0 takes the most probable token, else samples from softmax(scores / temperature).
      top_k: sampling keeps so many of the most probable tokens; 0 keeps all.
      top_p: it keeps the most probable tokens up to this mass; 1 keeps all.
      min_p: it keeps tokens of at least this share of the most probable one's probability; 0 keeps all.
      repetition_penalty: scores of tokens in prompt or output are divided by it where positive and multiplied by it
        where negative; 1 changes nothing.
      no_repeat: no n-gram of this length occurs twice in the output; 0 forbids nothing.
      no_repeat_prompt: n-grams of the prompt count too (copying a title is then forbidden).
      stop: strings that end a reply; they are not part of its text.
    """

    max_new: int = 64
    min_new: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat: int = 0
    no_repeat_prompt: bool = False
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        needs = {
            "max_new": (self.max_new >= 1, "at least 1"),
            "min_new": (0 <= self.min_new <= self.max_new, f"between 0 and max_new={self.max_new}"),
            "temperature": (0 <= self.temperature < float("inf"), "0 (greedy) or above"),
            "top_k": (self.top_k >= 0, "0 (all) or above"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1 (all)"),
            "min_p": (0 <= self.min_p <= 1, "between 0 (all) and 1"),
            "repetition_penalty": (0 < self.repetition_penalty < float("inf"), "above 0; 1 changes nothing"),
            "no_repeat": (self.no_repeat >= 0, "0 (forbid nothing) or above"),
            "no_repeat_prompt": (self.no_repeat or not self.no_repeat_prompt, "False while no_repeat is 0"),
            "stop": (isinstance(self.stop, tuple) and all(self.stop), "a tuple of strings that are not empty"),
        }
        for name, (good, need) in needs.items():
            if not good:
                raise ValueError(f"Decoding: {name}={getattr(self, name)!r} must be {need}")

    def rules(self, ends: np.ndarray, start: np.ndarray, width: int) -> Rules:
        """The numbers that a compiled program is given.

        Args:
          ends: int32 [E].
          start: int32 [B], where each row begins within
          width: columns of the prompt.
        """
        first = start if self.no_repeat_prompt else np.full_like(start, width)
        exact = np.float32
        return Rules(
            exact(self.temperature), np.int32(self.top_k), exact(self.top_p), exact(self.min_p),
            exact(self.repetition_penalty), np.int32(self.min_new), ends, start, first,
        )  # fmt: skip


class Request(NamedTuple):
    """What stays the same while replies are written.

    keys: random keys [B]; limits: int32 [B], most new tokens of each row; prefix: keys and values [L, B, Hkv, P, Dh]
    and prefix_mask: bool [B, P], or None.
    """

    rules: Rules
    keys: jax.Array
    limits: np.ndarray
    prefix: Prefix | None
    prefix_mask: jax.Array | None


class Rows(NamedTuple):
    """How far the replies are.

    tokens: int32 [B, T + N], prompt and output, the first end token where nothing is written yet; column: scalar int32,
    the next to be written; lengths: int32 [B], new tokens so far (the end token counts); done: bool [B].
    """

    tokens: jax.Array
    column: jax.Array
    lengths: jax.Array
    done: jax.Array


class Written(NamedTuple):
    """New tokens int32 [B, K], the (first) end token behind a row's end; and their text, if a decoder was given."""

    tokens: np.ndarray
    texts: list[str] | None


def read(
    module: Any,
    variables: dict[str, Any],
    tokens: jax.Array,
    mask: jax.Array,
    cache: Cache,
    prefix: Prefix | None,
    prefix_mask: jax.Array | None,
) -> tuple[jax.Array, Cache]:
    """Reads tokens [B, T] behind a cache; gives the scores float32 [B, V] of what follows their last, and the cache."""
    out = module.apply(variables, tokens, mask, prefix, prefix_mask, cache)
    return logits(variables["params"], out.hidden[:, -1]), out.cache


def read_prompt(
    module: Any,
    variables: dict[str, Any],
    tokens: jax.Array,
    start: jax.Array,
    room: int,
    prefix: Prefix | None,
    prefix_mask: jax.Array | None,
) -> tuple[jax.Array, Cache]:
    """Reads prompts [B, T] that begin at column `start` [B], into a cache with `room` for more tokens; as `read`."""
    batch, width = tokens.shape
    mask = jnp.arange(width) >= start[:, None]
    cache = init_cache(module.config, batch, width + room, module.dtype, params=variables["params"])
    return read(module, variables, tokens, mask, cache, prefix, prefix_mask)


def _write(request: Request, rows: Rows, scores: jax.Array, no_repeat: int) -> Rows:
    """Chooses a token for each row from its scores [B, V]."""
    rules = request.rules
    scores = restrict(scores, rules, rows.tokens, rows.column, rows.lengths, no_repeat)
    token = jnp.where(rows.done, rules.ends[0], choose(scores, rules, request.keys, rows.lengths))  # [B]
    lengths = rows.lengths + ~rows.done
    ended = jnp.any(token[:, None] == rules.ends, axis=1) | (lengths >= request.limits)
    tokens = jax.lax.dynamic_update_slice_in_dim(rows.tokens, token[:, None], rows.column, axis=1)
    return Rows(tokens, rows.column + 1, lengths, rows.done | ended)


@functools.partial(jax.jit, static_argnames=("module", "max_new", "no_repeat"))
def prefill(
    module: Any, variables: dict[str, Any], request: Request, tokens: jax.Array, *, max_new: int, no_repeat: int
) -> tuple[Cache, Rows]:
    """Reads the prompts and writes the first token.

    Args:
      module: a causal language model.
      variables: {"params": ...} and, where there are adapters, "lora".
      request: what stays the same.
      tokens: int32 [B, T], each row's prompt from column `request.rules.start` on.
      max_new: N, room for new tokens.
      no_repeat: as in `Decoding`.
    """
    batch, width = tokens.shape
    start = request.rules.start
    scores, cache = read_prompt(module, variables, tokens, start, max_new, request.prefix, request.prefix_mask)
    room = jnp.broadcast_to(request.rules.ends[0], (batch, max_new))
    nothing = jnp.zeros(batch, jnp.int32)
    rows = Rows(jnp.concatenate([tokens, room], axis=1), jnp.int32(width), nothing, nothing > 0)
    return cache, _write(request, rows, scores, no_repeat)


@functools.partial(jax.jit, static_argnames=("module", "no_repeat"), donate_argnames="cache")
def advance(
    module: Any,
    variables: dict[str, Any],
    request: Request,
    cache: Cache,
    rows: Rows,
    upto: jax.Array,
    *,
    no_repeat: int,
) -> tuple[Cache, Rows]:
    """Writes tokens until column `upto`, or until all rows are done.

    Args:
      module, variables, request: as given to `prefill`.
      cache: from `prefill` or the call before; it is used up.
      rows: likewise.
      upto: scalar int32, at most T + N.
      no_repeat: as in `Decoding`.
    """

    def more(carry):
        _, rows = carry
        return (rows.column < upto) & ~jnp.all(rows.done)

    def step(carry):
        cache, rows = carry
        last = jax.lax.dynamic_slice_in_dim(rows.tokens, rows.column - 1, 1, axis=1)  # [B, 1]
        alive = ~rows.done[:, None]
        scores, cache = read(module, variables, last, alive, cache, request.prefix, request.prefix_mask)
        return cache, _write(request, rows, scores, no_repeat)

    return jax.lax.while_loop(more, step, (cache, rows))


def packed(module: Any, tokens: Any, mask: Any, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts with all padding on the left, so that every row goes on at the same column.

    Args:
      module: the language model that will read them.
      tokens: int [B, T].
      mask: bool [B, T], padding anywhere.
      new: tokens that are to follow.

    Returns:
      The tokens int32 [B, T], and the column int32 [B] where each row begins.

    Raises:
      ValueError: shapes that differ, a row without tokens, or more tokens than the model's context holds.
    """
    tokens, mask = np.asarray(tokens, np.int32), np.asarray(mask, bool)
    if tokens.ndim != 2 or tokens.shape != mask.shape:
        raise ValueError(f"prompts {tokens.shape} and their mask {mask.shape} must both be [batch, tokens]")
    lengths = mask.sum(axis=1)
    if not lengths.all():
        row = int(np.flatnonzero(lengths == 0)[0])
        raise ValueError(f"prompt {row} is empty; give it at least one token, such as the end token")
    width, positions = tokens.shape[1], module.config.positions
    if width + new > positions:
        longest = int(lengths.argmax())
        raise ValueError(
            f"prompts padded to {width} tokens (the longest, number {longest}, has {lengths[longest]}) and {new} new "
            f"ones need {width + new} positions, but this model has {positions}: shorten the prompts and their padding "
            f"to {max(positions - new, 0)} tokens, or ask for fewer new ones"
        )
    order = np.argsort(mask, axis=1, kind="stable")
    return np.take_along_axis(tokens, order, axis=1), (width - lengths).astype(np.int32)


def ends_of(end: int | Sequence[int]) -> np.ndarray:
    """The end tokens as int32 [E]. Raises ValueError where there is none."""
    ends = np.atleast_1d(np.asarray(end, np.int32))
    if ends.ndim != 1 or not ends.size:
        raise ValueError(f"end={end!r}: give the id of the token that ends a reply, or several")
    return ends


def _request(decoding, tokens, start, end, keys, limits, prefix, prefix_mask) -> Request:
    batch, width = tokens.shape
    if keys is None:
        if decoding.temperature > 0:
            raise ValueError(f"temperature={decoding.temperature} samples: give keys, one a row (jax.random.split)")
        keys = jax.random.split(jax.random.key(0), batch)
    if keys.shape != (batch,):
        raise ValueError(f"keys {keys.shape} must be [{batch}], one a row: jax.random.split(key, {batch})")
    limits = np.full(batch, decoding.max_new) if limits is None else np.asarray(limits)
    if limits.shape != (batch,) or limits.min() < 1 or limits.max() > decoding.max_new:
        raise ValueError(f"limits={limits.tolist()} must be {batch} numbers from 1 to max_new={decoding.max_new}")
    rules = decoding.rules(ends_of(end), start, width)
    return Request(rules, keys, limits.astype(np.int32), prefix, prefix_mask)


def stream(
    module: Any,
    variables: dict[str, Any],
    tokens: Any,
    mask: Any,
    *,
    decoding: Decoding,
    end: int | Sequence[int],
    keys: jax.Array | None = None,
    limits: Any = None,
    decode: Decode | None = None,
    prefix: Prefix | None = None,
    prefix_mask: jax.Array | None = None,
    every: int = 1,
) -> Iterator[Written]:
    """Continues each row until an end token, a stop string or its limit, and tells what it writes as it comes.

    A row's text depends on its own prompt, prefix, adapter, key and limit, and on no other row.

    Args:
      module: a causal language model.
      variables: {"params": ...} and, where there are adapters, "lora" (shared, or one adapter a row).
      tokens: int [B, T] and
      mask: bool [B, T], prompts, padded on either side.
      decoding: how tokens are chosen.
      end: id of the token that ends a reply, or several; the first fills up what is behind an end.
      keys: random keys [B], needed for sampling only.
      limits: int [B], most new tokens of each row; `decoding.max_new` when None.
      decode: text of token ids (see `TextStream`); with it the pieces of text are told, and stop strings need it.
      prefix: per-layer keys and values [L, B, Hkv, P, Dh] and
      prefix_mask: bool [B, P], or None.
      every: new tokens between two pieces.

    Yields:
      `Written` with K <= `every` tokens; fewer at the end.

    Raises:
      ValueError: an empty or too long prompt, or arguments that do not fit each other.
    """
    if decoding.stop and decode is None:
        raise ValueError(f"stop={decoding.stop} needs `decode`, a function from token ids to text")
    if every < 1:
        raise ValueError(f"every={every} must be at least 1")
    tokens, start = packed(module, tokens, mask, decoding.max_new)
    request = _request(decoding, tokens, start, end, keys, limits, prefix, prefix_mask)
    return _written(module, variables, request, tokens, decoding, decode, every)


def _written(module, variables, request, tokens, decoding, decode, every) -> Iterator[Written]:
    batch, column = tokens.shape
    last, lengths, alive = column + decoding.max_new, np.zeros(batch, int), np.ones(batch, bool)
    texts = None if decode is None else [TextStream(decode, decoding.stop) for _ in range(batch)]
    given = {"no_repeat": decoding.no_repeat}
    cache, rows = prefill(module, variables, request, tokens, max_new=decoding.max_new, **given)
    while alive.any():
        upto = np.int32(min(column + every, last))
        cache, rows = advance(module, variables, request, cache, rows, upto, **given)
        now = jax.device_get(rows)
        new, done = now.tokens[:, column : now.column].copy(), now.done.copy()
        pieces = None
        if texts is not None:
            pieces = [""] * batch
            for row in np.flatnonzero(alive):
                said = new[row, : now.lengths[row] - lengths[row]]
                count = texts[row].push(said[~np.isin(said, request.rules.ends)])
                if texts[row].stopped:
                    new[row, count:], done[row] = request.rules.ends[0], True
                pieces[row] = texts[row].take(last=bool(done[row]))
            if (done != now.done).any():
                rows = rows._replace(done=jnp.asarray(done))
        yield Written(new, pieces)
        column, lengths, alive = int(now.column), now.lengths, ~done


def generate(
    module: Any,
    variables: dict[str, Any],
    tokens: Any,
    mask: Any,
    *,
    decoding: Decoding,
    end: int | Sequence[int],
    keys: jax.Array | None = None,
    limits: Any = None,
    decode: Decode | None = None,
    prefix: Prefix | None = None,
    prefix_mask: jax.Array | None = None,
) -> Written:
    """Continues each row until an end token, a stop string or its limit: `stream`, at once.

    Args:
      module, variables, tokens, mask, decoding, end, keys, limits, decode, prefix, prefix_mask: as in `stream`.

    Returns:
      `Written` with K = `decoding.max_new`. The tokens that complete a stop string are among the tokens, the string is
      not in the text.
    """
    every = _STRIDE if decoding.stop else decoding.max_new
    pieces = list(
        stream(
            module, variables, tokens, mask, decoding=decoding, end=end, keys=keys, limits=limits, decode=decode,
            prefix=prefix, prefix_mask=prefix_mask, every=every,
        )
    )  # fmt: skip
    new = np.concatenate([piece.tokens for piece in pieces], axis=1)
    behind = ((0, 0), (0, decoding.max_new - new.shape[1]))
    texts = None if decode is None else ["".join(parts) for parts in zip(*(p.texts for p in pieces), strict=True)]
    return Written(np.pad(new, behind, constant_values=ends_of(end)[0]), texts)


def pad_left(rows: Sequence[Sequence[int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Pads prompts on the left. Returns ids int32 and mask bool [B, length].

    Raises:
      ValueError: a prompt longer than `length`.
    """
    tokens, mask = np.zeros((len(rows), length), np.int32), np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        if len(row) > length:
            raise ValueError(f"prompt {i} has {len(row)} tokens and there is room for {length}; shorten it")
        if len(row):
            tokens[i, -len(row) :], mask[i, -len(row) :] = row, True
    return tokens, mask
