"""Autoregressive decoding with a cache: the prompt is processed once, then one compiled program writes tokens.

Whole replies, streams and stop strings use the same program; only the number of tokens between two returns differs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ecr_jax.inference.sampling import TokenRules, choose_token, restrict
from ecr_jax.inference.streaming import Decode, TextStream
from ecr_jax.models.lm.language_model import Cache, Params, Prefix, init_cache, logits

_NO_TOKEN = np.iinfo(np.int32).max
# Tokens between two checks for stop strings; those generated after a stop string are discarded.
_STOP_CHECK_INTERVAL = 8


class Slots(NamedTuple):
    """How often each row writes a token, such as the slot of a title.

    Attributes:
      token: its id.
      fewest: int [B], before this many a row does not end.
      most: int [B], after this many the token is forbidden.
    """

    token: int
    fewest: ArrayLike
    most: ArrayLike


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen. Truncations of the distribution apply one after another, in the order listed here.

    Attributes:
      max_new: most new tokens.
      min_new: fewest new tokens before an end token is allowed.
      temperature: 0 takes the most probable token, else samples from softmax(scores / temperature).
      top_k: sample from this many of the most probable tokens; 0 keeps all.
      top_p: sample from the most probable tokens up to this probability mass; 1 keeps all.
      min_p: sample from tokens with at least this share of the highest probability; 0 keeps all.
      repetition_penalty: scores of tokens in prompt or output are divided by it where positive and multiplied by it
        where negative; 1 changes nothing.
      no_repeat_ngram: no n-gram of this length occurs twice in the output; 0 forbids nothing.
      count_prompt_ngrams: n-grams of the prompt count as occurred (which forbids copying a title).
      stop: strings that end a reply; they are not part of its text.

    Raises:
      ValueError: a value outside its range.
    """

    max_new: int = 64
    min_new: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    count_prompt_ngrams: bool = False
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
            "no_repeat_ngram": (self.no_repeat_ngram >= 0, "0 (forbid nothing) or above"),
            "count_prompt_ngrams": (
                self.no_repeat_ngram or not self.count_prompt_ngrams,
                "False while no_repeat_ngram is 0",
            ),
            "stop": (isinstance(self.stop, tuple) and all(self.stop), "a tuple of strings that are not empty"),
        }
        for name, (good, need) in needs.items():
            if not good:
                raise ValueError(f"Decoding: {name}={getattr(self, name)!r} must be {need}")

    def rules(
        self,
        end_tokens: np.ndarray,
        prompt_start: np.ndarray,
        width: int,
        greedy: ArrayLike | None = None,
        slots: Slots | None = None,
    ) -> TokenRules:
        """These settings as arguments of the compiled program.

        Args:
          end_tokens: int32 [E].
          prompt_start: int32 [B], column of each row's first prompt token.
          width: columns of the prompts.
          greedy: bool [B], rows that take the most probable token at any temperature; none of them when None.
          slots: how often each row writes a token; None does not count.
        """
        rows = len(prompt_start)
        if slots is None:
            slots = Slots(_NO_TOKEN, np.zeros(rows), np.full(rows, _NO_TOKEN))
        return TokenRules(
            temperature=np.float32(self.temperature),
            top_k=np.int32(self.top_k),
            top_p=np.float32(self.top_p),
            min_p=np.float32(self.min_p),
            repetition_penalty=np.float32(self.repetition_penalty),
            min_new=np.int32(self.min_new),
            greedy=np.zeros(rows, bool) if greedy is None else np.asarray(greedy, bool),
            slot=np.int32(slots.token),
            fewest_slots=np.asarray(slots.fewest, np.int32),
            most_slots=np.asarray(slots.most, np.int32),
            end_tokens=end_tokens,
            prompt_start=prompt_start,
            ngram_start=prompt_start if self.count_prompt_ngrams else np.full_like(prompt_start, width),
        )


class Request(NamedTuple):
    """The arguments that stay the same while replies are generated.

    Attributes:
      rules: constraints on each token.
      keys: random keys [B].
      limits: int32 [B], most new tokens of each row.
      enough: int32 [B / copies], how many rows of each prompt are to end; the others are cut then.
      prefix: keys and values [L, B, Hkv, P, Dh], or None.
      prefix_mask: bool [B, P], or None.
    """

    rules: TokenRules
    keys: jax.Array
    limits: np.ndarray
    enough: np.ndarray
    prefix: Prefix | None
    prefix_mask: jax.Array | None


class Progress(NamedTuple):
    """How far the replies have been generated.

    Attributes:
      tokens: int32 [B, T + N], prompt and output; the first end token where nothing is written yet.
      column: scalar int32, the next column to be written.
      lengths: int32 [B], new tokens so far, the end token included.
      done: bool [B].
    """

    tokens: jax.Array
    column: jax.Array
    lengths: jax.Array
    done: jax.Array


class Generated(NamedTuple):
    """New tokens and their text.

    Attributes:
      tokens: int32 [B, K]; after a row's end, the (first) end token.
      texts: text of each row, or None without a decoder.
    """

    tokens: np.ndarray
    texts: list[str] | None


def _write_token(request: Request, progress: Progress, scores: jax.Array, no_repeat_ngram: int) -> Progress:
    """Chooses the next token of each row from its scores [B, V]."""
    rules = request.rules
    scores = restrict(scores, rules, progress.tokens, progress.column, progress.lengths, no_repeat_ngram)
    chosen = choose_token(scores, rules, request.keys, progress.lengths)
    token = jnp.where(progress.done, rules.end_tokens[0], chosen)  # [B]
    lengths = progress.lengths + ~progress.done
    ended = jnp.any(token[:, None] == rules.end_tokens, axis=1) | (lengths >= request.limits)
    tokens = jax.lax.dynamic_update_slice_in_dim(progress.tokens, token[:, None], progress.column, axis=1)
    done = (progress.done | ended).reshape(len(request.enough), -1)  # [prompts, copies]
    done |= jnp.sum(done, axis=1, keepdims=True) >= request.enough[:, None]
    return Progress(tokens, progress.column + 1, lengths, done.reshape(-1))


def _next_scores(
    module: nn.Module, variables: Params, request: Request, tokens: jax.Array, mask: jax.Array, cache: Cache
) -> tuple[jax.Array, Cache]:
    """Runs the model over tokens [B, T] after the cache; returns scores float32 [B, V] after the last and the cache."""
    out = module.apply(variables, tokens, mask, request.prefix, request.prefix_mask, cache)
    return logits(variables["params"], out.hidden[:, -1]), out.cache


@functools.partial(jax.jit, static_argnames=("module", "max_new", "no_repeat_ngram", "copies"))
def prefill(
    module: nn.Module,
    variables: Params,
    request: Request,
    tokens: jax.Array,
    *,
    max_new: int,
    no_repeat_ngram: int,
    copies: int,
) -> tuple[Cache, Progress]:
    """Runs the model over the prompts and writes the first token.

    Args:
      module: a causal language model.
      variables: {"params": ...} and, where there are adapters, "lora".
      request: the arguments that stay the same, for B rows.
      tokens: int32 [B / copies, T], each prompt from column `request.rules.prompt_start` of its rows on.
      max_new: N, number of columns for new tokens.
      no_repeat_ngram: as in `Decoding`.
      copies: rows that continue each prompt, which is read once.
    """
    width = tokens.shape[1]
    mask = jnp.arange(width) >= request.rules.prompt_start[::copies, None]
    cache = init_cache(module.config, tokens.shape[0], width + max_new, module.dtype, params=variables["params"])
    scores, cache = _next_scores(module, variables, _every(request, copies), tokens, mask, cache)
    scores, tokens = (jnp.repeat(x, copies, axis=0) for x in (scores, tokens))
    unwritten = jnp.broadcast_to(request.rules.end_tokens[0], (tokens.shape[0], max_new))
    zeros = jnp.zeros(tokens.shape[0], jnp.int32)
    progress = Progress(jnp.concatenate([tokens, unwritten], axis=1), jnp.int32(width), zeros, zeros > 0)
    return repeated_cache(cache, copies), _write_token(request, progress, scores, no_repeat_ngram)


def _every(request: Request, copies: int) -> Request:
    """The prefix of the first of each prompt's rows."""
    if copies == 1 or request.prefix is None:
        return request
    keys, values = (part[:, ::copies] for part in request.prefix)
    mask = None if request.prefix_mask is None else request.prefix_mask[::copies]
    return request._replace(prefix=(keys, values), prefix_mask=mask)


def repeated_cache(cache: Cache, copies: int) -> Cache:
    """The cache with each row repeated; rows are the axis before heads, slots and their width."""
    if copies == 1:
        return cache
    keys, values = jax.tree.map(lambda x: jnp.repeat(x, copies, axis=-4), (cache.keys, cache.values))
    return Cache(keys, values, jnp.repeat(cache.mask, copies, axis=0), cache.length)


@functools.partial(jax.jit, static_argnames=("module", "no_repeat_ngram"), donate_argnames="cache")
def advance(
    module: nn.Module,
    variables: Params,
    request: Request,
    cache: Cache,
    progress: Progress,
    end_column: jax.Array,
    *,
    no_repeat_ngram: int,
) -> tuple[Cache, Progress]:
    """Writes tokens up to, but not including, column `end_column`, or until all rows are done.

    Args:
      module, variables, request: as in `prefill`.
      cache: from `prefill` or the call before; its memory is reused, so it cannot be used again.
      progress: likewise.
      end_column: scalar int32, at most T + N.
      no_repeat_ngram: as in `Decoding`.
    """

    def unfinished(carry):
        _, progress = carry
        return (progress.column < end_column) & ~jnp.all(progress.done)

    def step(carry):
        cache, progress = carry
        last = jax.lax.dynamic_slice_in_dim(progress.tokens, progress.column - 1, 1, axis=1)  # [B, 1]
        scores, cache = _next_scores(module, variables, request, last, ~progress.done[:, None], cache)
        return cache, _write_token(request, progress, scores, no_repeat_ngram)

    return jax.lax.while_loop(unfinished, step, (cache, progress))


def _padded_left(module: nn.Module, tokens: ArrayLike, mask: ArrayLike, max_new: int) -> tuple[np.ndarray, np.ndarray]:
    """Moves all padding of the prompts to the left, so that every row continues at the same column.

    Args:
      module: the language model.
      tokens: int [B, T].
      mask: bool [B, T], padding anywhere.
      max_new: number of tokens to be generated.

    Returns:
      The tokens int32 [B, T], and the column int32 [B] where each row begins.

    Raises:
      ValueError: the shapes differ, a row has no tokens, or the tokens exceed the model's context.
    """
    tokens, mask = np.asarray(tokens, np.int32), np.asarray(mask, bool)
    if tokens.ndim != 2 or tokens.shape != mask.shape:
        raise ValueError(f"prompts {tokens.shape} and their mask {mask.shape} must both be [batch, tokens]")
    lengths = mask.sum(axis=1)
    if not lengths.all():
        row = int(np.flatnonzero(lengths == 0)[0])
        raise ValueError(f"prompt {row} is empty; give it at least one token, such as the end token")
    width, positions = tokens.shape[1], module.config.positions
    if width + max_new > positions:
        longest = int(lengths.argmax())
        raise ValueError(
            f"prompts padded to {width} tokens (the longest, number {longest}, has {lengths[longest]}) and {max_new} "
            f"new ones need {width + max_new} positions, but this model has {positions}: shorten the prompts and their "
            f"padding to {max(positions - max_new, 0)} tokens, or generate fewer new ones"
        )
    order = np.argsort(mask, axis=1, kind="stable")
    return np.take_along_axis(tokens, order, axis=1), (width - lengths).astype(np.int32)


def _end_tokens(end: int | Sequence[int]) -> np.ndarray:
    """The end tokens as int32 [E]. Raises ValueError if there are none."""
    ends = np.atleast_1d(np.asarray(end, np.int32))
    if ends.ndim != 1 or not ends.size:
        raise ValueError(f"end={end!r}: give the id of the token that ends a reply, or several")
    return ends


def _checked_request(
    decoding: Decoding,
    tokens: np.ndarray,
    prompt_start: np.ndarray,
    end: int | Sequence[int],
    keys: jax.Array | None,
    limits: ArrayLike | None,
    prefix: Prefix | None,
    prefix_mask: jax.Array | None,
    copies: int,
    enough: int | None,
    greedy: ArrayLike | None,
    slots: Slots | None,
) -> Request:
    batch, width = len(tokens) * copies, tokens.shape[1]
    if not 1 <= (enough := copies if enough is None else enough) <= copies:
        raise ValueError(f"enough={enough} must be between 1 and copies={copies}")
    if keys is None:
        if decoding.temperature > 0:
            raise ValueError(f"temperature={decoding.temperature} samples: give keys, one a row (jax.random.split)")
        keys = jax.random.split(jax.random.key(0), batch)
    if keys.shape != (batch,):
        raise ValueError(f"keys {keys.shape} must be [{batch}], one a row: jax.random.split(key, {batch})")
    limits = np.full(batch, decoding.max_new) if limits is None else np.asarray(limits)
    if limits.shape != (batch,) or limits.min() < 1 or limits.max() > decoding.max_new:
        raise ValueError(f"limits={limits.tolist()} must be {batch} numbers from 1 to max_new={decoding.max_new}")
    for name, values in (("greedy", greedy), *(() if slots is None else slots._asdict().items())):
        if name != "token" and values is not None and np.shape(values) != (batch,):
            raise ValueError(f"{name} has the shape {np.shape(values)}, and there are {batch} rows")
    prefix = None if prefix is None else tuple(jnp.repeat(part, copies, axis=1) for part in prefix)
    prefix_mask = None if prefix_mask is None else jnp.repeat(prefix_mask, copies, axis=0)
    rules = decoding.rules(_end_tokens(end), np.repeat(prompt_start, copies), width, greedy, slots)
    wanted = np.full(len(tokens), enough, np.int32)
    return Request(rules, keys, limits.astype(np.int32), wanted, prefix, prefix_mask)


def stream(
    module: nn.Module,
    variables: Params,
    tokens: ArrayLike,
    mask: ArrayLike,
    *,
    decoding: Decoding,
    end: int | Sequence[int],
    keys: jax.Array | None = None,
    limits: ArrayLike | None = None,
    decode: Decode | None = None,
    prefix: Prefix | None = None,
    prefix_mask: jax.Array | None = None,
    copies: int = 1,
    enough: int | None = None,
    greedy: ArrayLike | None = None,
    slots: Slots | None = None,
    tokens_per_piece: int = 1,
) -> Iterator[Generated]:
    """Continues each row until an end token, a stop string or its limit, and yields the new tokens in pieces.

    A row's text depends on its own prompt, prefix, adapter, key and limit, and on no row of another prompt.

    Args:
      module: a causal language model.
      variables: {"params": ...} and, where there are adapters, "lora" (shared, or one adapter a row).
      tokens: int [B / copies, T], prompts.
      mask: bool [B / copies, T], False for padding, on either side.
      decoding: how tokens are chosen.
      end: id of the token that ends a reply, or several; columns after an end hold the first.
      keys: random keys [B], needed for sampling only.
      limits: int [B], most new tokens of each row; None takes `decoding.max_new`.
      decode: text of token ids (see `TextStream`); without it no text is returned. Stop strings need it.
      prefix: per-layer keys and values [L, B / copies, Hkv, P, Dh], or None.
      prefix_mask: bool [B / copies, P], or None.
      copies: rows that continue each prompt, one after another; the prompt is read once. Adapters must be shared.
      enough: when so many of a prompt's rows have ended, its other rows are cut; None: all are written to their end.
      greedy: bool [B], rows that take the most probable token at any temperature; None: no row.
      slots: how often each row writes a token; None: any number.
      tokens_per_piece: new tokens between two pieces.

    Yields:
      `Generated` with K <= `tokens_per_piece` tokens; fewer at the end.

    Raises:
      ValueError: an empty or too long prompt, or arguments that contradict each other.
    """
    if decoding.stop and decode is None:
        raise ValueError(f"stop={decoding.stop} needs `decode`, a function from token ids to text")
    if tokens_per_piece < 1:
        raise ValueError(f"tokens_per_piece={tokens_per_piece} must be at least 1")
    tokens, prompt_start = _padded_left(module, tokens, mask, decoding.max_new)
    request = _checked_request(
        decoding, tokens, prompt_start, end, keys, limits, prefix, prefix_mask, copies, enough, greedy, slots
    )
    return _pieces(module, variables, request, tokens, decoding, decode, tokens_per_piece)


def _pieces(
    module: nn.Module,
    variables: Params,
    request: Request,
    tokens: np.ndarray,
    decoding: Decoding,
    decode: Decode | None,
    tokens_per_piece: int,
) -> Iterator[Generated]:
    batch, column = len(request.limits), tokens.shape[1]
    last_column, lengths, active = column + decoding.max_new, np.zeros(batch, int), np.ones(batch, bool)
    streams = None if decode is None else [TextStream(decode, decoding.stop) for _ in range(batch)]
    ngram = decoding.no_repeat_ngram
    cache, progress = prefill(
        module,
        variables,
        request,
        tokens,
        max_new=decoding.max_new,
        no_repeat_ngram=ngram,
        copies=batch // len(tokens),
    )
    while active.any():
        end_column = np.int32(min(column + tokens_per_piece, last_column))
        cache, progress = advance(module, variables, request, cache, progress, end_column, no_repeat_ngram=ngram)
        now = jax.device_get(progress)
        new, done = now.tokens[:, column : now.column].copy(), now.done.copy()
        texts = None
        if streams is not None:
            texts = [""] * batch
            for row in np.flatnonzero(active):
                row_tokens = new[row, : now.lengths[row] - lengths[row]]
                count = streams[row].push(row_tokens[~np.isin(row_tokens, request.rules.end_tokens)])
                if streams[row].stopped:
                    new[row, count:], done[row] = request.rules.end_tokens[0], True
                texts[row] = streams[row].take(last=bool(done[row]))
            if (done != now.done).any():
                progress = progress._replace(done=jnp.asarray(done))
        yield Generated(new, texts)
        column, lengths, active = int(now.column), now.lengths, ~done


def generate(
    module: nn.Module,
    variables: Params,
    tokens: ArrayLike,
    mask: ArrayLike,
    *,
    decoding: Decoding,
    end: int | Sequence[int],
    keys: jax.Array | None = None,
    limits: ArrayLike | None = None,
    decode: Decode | None = None,
    prefix: Prefix | None = None,
    prefix_mask: jax.Array | None = None,
    copies: int = 1,
    enough: int | None = None,
    greedy: ArrayLike | None = None,
    slots: Slots | None = None,
) -> Generated:
    """Continues each row until an end token, a stop string or its limit. Arguments and errors are those of `stream`.

    Returns:
      `Generated` with K = `decoding.max_new`. The tokens that complete a stop string are among the tokens, the string
      is not in the text.
    """
    pieces = list(
        stream(
            module,
            variables,
            tokens,
            mask,
            decoding=decoding,
            end=end,
            keys=keys,
            limits=limits,
            decode=decode,
            prefix=prefix,
            prefix_mask=prefix_mask,
            copies=copies,
            enough=enough,
            greedy=greedy,
            slots=slots,
            tokens_per_piece=_STOP_CHECK_INTERVAL if decoding.stop else decoding.max_new,
        )
    )
    new = np.concatenate([piece.tokens for piece in pieces], axis=1)
    unwritten = ((0, 0), (0, decoding.max_new - new.shape[1]))
    texts = None if decode is None else ["".join(parts) for parts in zip(*(p.texts for p in pieces), strict=True)]
    return Generated(np.pad(new, unwritten, constant_values=_end_tokens(end)[0]), texts)


def pad_left(rows: Sequence[Sequence[int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Pads prompts on the left. Returns ids int32 and mask bool [B, length].

    Raises:
      ValueError: a prompt is longer than `length`.
    """
    tokens, mask = np.zeros((len(rows), length), np.int32), np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        if len(row) > length:
            raise ValueError(f"prompt {i} has {len(row)} tokens and there is room for {length}; shorten it")
        if len(row):
            tokens[i, -len(row) :], mask[i, -len(row) :] = row, True
    return tokens, mask
