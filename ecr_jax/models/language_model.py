"""What every language model here shares: masked attention with prefixes and a cache, positions, and the vocabulary.

A prefix is a pair (keys, values) of arrays [L, B, Hkv, P, Dh] that every layer puts before its own. It has no
positions: nothing is rotated, and the tokens count from 0 as if it were not there. It stays an argument beside the
cache (it is passed again with every step), so that a cache holds tokens only.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

Params = dict[str, Any]
Prefix = tuple[jax.Array, jax.Array]
Remat = Literal["none", "dots", "full"]
"""What the backward pass computes again: nothing, all but the matrix products, or whole layers."""

_REMAT_POLICIES = {"dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable, "full": None}


class Cache(NamedTuple):
    """Keys and values of the tokens read so far, in buffers of a fixed size S.

    keys, values [L, B, Hkv, S, Dh]; mask [B, S], True where a real token lies; length, scalar int32, slots in use.
    Writing past S overwrites the last slots without a word (a jitted function cannot raise): make S large enough.
    """

    keys: jax.Array
    values: jax.Array
    mask: jax.Array
    length: jax.Array


class Output(NamedTuple):
    """What a forward pass gives: states after the final norm [B, T, D], and the cache (None if none was given)."""

    hidden: jax.Array
    cache: Cache | None


class Config(Protocol):
    """The sizes that all configurations of language models have."""

    vocab_size: int
    width: int
    layers: int
    heads: int

    @property
    def kv_heads(self) -> int: ...

    @property
    def head_dim(self) -> int: ...


def stacked(layer: type[nn.Module], length: int, remat: Remat, in_axes: Any) -> type[nn.Module]:
    """`layer` scanned over parameters and adapters stacked as [L, ...], so that depth costs no compile time.

    Args:
        layer: a module whose call maps (x, *others) to (x, what each layer gives).
        length: L.
        remat: what is computed again in the backward pass, to save memory.
        in_axes: of `others`: 0 for what is stacked, `nn.broadcast` for what all layers share.
    """
    body = layer if remat == "none" else nn.remat(layer, prevent_cse=False, policy=_REMAT_POLICIES[remat])
    return nn.scan(
        body,
        variable_axes={"params": 0, "lora": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=in_axes,
        length=length,
    )


def init_cache(config: Config, batch: int, length: int, dtype: Any = jnp.float32) -> Cache:
    """An empty cache for `length` tokens a row."""
    shape = (config.layers, batch, config.kv_heads, length, config.head_dim)
    return Cache(
        jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros((batch, length), bool), jnp.zeros((), jnp.int32)
    )


def positions_of(mask: jax.Array, cache: Cache | None = None) -> jax.Array:
    """Positions [B, T] counted over real tokens only, so that padding may lie on either side."""
    counted = jnp.cumsum(mask, axis=-1, dtype=jnp.int32) - 1  # [B, T]
    if cache is not None:
        counted = counted + jnp.sum(cache.mask, axis=-1, dtype=jnp.int32)[:, None]
    return jnp.maximum(counted, 0)


def visibility(
    mask: jax.Array, prefix: Prefix | None, prefix_mask: jax.Array | None, cache: Cache | None
) -> tuple[jax.Array, jax.Array]:
    """Which keys a query may see: the unmasked prefix, and real tokens up to its own.

    Args:
        mask: bool [B, T], real tokens of this call.
        prefix: keys and values [L, B, Hkv, P, Dh], or None.
        prefix_mask: bool [B, P], or None when all prefix positions are real.
        cache: what came before, or None.

    Returns:
        visible, bool [B, T, P + S] with S = T without a cache; and the mask [B, S] of all token keys.
    """
    mask = mask.astype(bool)
    batch, length = mask.shape
    start = 0
    keys = mask
    if cache is not None:
        start = cache.length
        keys = jax.lax.dynamic_update_slice(cache.mask, mask, (0, start))  # [B, S]
    causal = jnp.arange(keys.shape[1])[None, :] <= start + jnp.arange(length)[:, None]  # [T, S]
    visible = causal[None] & keys[:, None, :]  # [B, T, S]
    if prefix is not None:
        slots = prefix[0].shape[3]
        if prefix_mask is None:
            prefix_mask = jnp.ones((batch, slots), bool)
        before = jnp.broadcast_to(prefix_mask.astype(bool)[:, None, :], (batch, length, slots))
        visible = jnp.concatenate([before, visible], axis=-1)  # [B, T, P + S]
    elif prefix_mask is not None:
        raise ValueError("prefix_mask was given without a prefix; give both or neither")
    return visible, keys


def attend(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    visible: jax.Array,
    prefix: Prefix | None = None,
    cached: Prefix | None = None,
    start: jax.Array | int = 0,
) -> tuple[jax.Array, Prefix | None]:
    """Scaled dot-product attention of one layer; the softmax is in float32, a query that sees nothing gets zero.

    Args:
        queries: [B, T, H, Dh].
        keys, values: [B, T, Hkv, Dh]; H is a multiple of Hkv (grouped-query attention).
        visible: bool [B, T, P + S].
        prefix: this layer's keys and values [B, Hkv, P, Dh].
        cached: this layer's buffers [B, Hkv, S, Dh], written at `start`.

    Returns:
        The context [B, T, H * Dh], and the written buffers (None without a cache).
    """
    batch, length, heads, size = queries.shape
    groups = keys.shape[2]
    keys, values = keys.swapaxes(1, 2), values.swapaxes(1, 2)  # [B, Hkv, T, Dh]
    if cached is not None:
        at = (0, 0, start, 0)
        keys = jax.lax.dynamic_update_slice(cached[0], keys.astype(cached[0].dtype), at)  # [B, Hkv, S, Dh]
        values = jax.lax.dynamic_update_slice(cached[1], values.astype(cached[1].dtype), at)
        cached = (keys, values)
        keys, values = keys.astype(queries.dtype), values.astype(queries.dtype)
    if prefix is not None:
        keys = jnp.concatenate([prefix[0].astype(keys.dtype), keys], axis=2)  # [B, Hkv, P + S, Dh]
        values = jnp.concatenate([prefix[1].astype(values.dtype), values], axis=2)
    queries = queries.reshape(batch, length, groups, heads // groups, size)  # [B, T, Hkv, G, Dh]
    exact = jnp.promote_types(queries.dtype, jnp.float32)
    scores = jnp.einsum("btkgd,bksd->bkgts", queries, keys, preferred_element_type=exact) * size**-0.5
    scores = jnp.where(visible[:, None, None], scores, -1e30)  # finite, so that a row without keys is no NaN
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)  # [B, Hkv, G, T, P + S]
    context = jnp.einsum("bkgts,bksd->btkgd", weights, values)
    context = jnp.where(visible.any(axis=-1)[:, :, None, None, None], context, 0)
    return context.reshape(batch, length, heads * size), cached


def context_cache(module: Any, params: Params, tokens: jax.Array, mask: jax.Array, dtype: Any = jnp.float32) -> Cache:
    """What `read_last` needs of the tokens before each row's last one: a cache of T + 1 slots, the last one free.

    It depends on frozen parameters only, so it can be computed once and kept.

    Args:
        module: a causal language model.
        params: its frozen parameters.
        tokens: int [B, T], padded on the right.
        mask: bool [B, T].
        dtype: of the cache.
    """
    last = jnp.maximum(mask.astype(jnp.int32).sum(axis=1) - 1, 0)[:, None]  # [B, 1]
    before = mask & (jnp.arange(mask.shape[1])[None, :] < last)
    cache = init_cache(module.config, tokens.shape[0], tokens.shape[1] + 1, dtype)
    return jax.lax.stop_gradient(module.apply({"params": params}, tokens, before, cache=cache).cache)


def read_last(
    module: Any,
    params: Params,
    tokens: jax.Array,
    mask: jax.Array,
    prefix: Prefix,
    prefix_mask: jax.Array,
    cache: Cache,
) -> jax.Array:
    """The state of each row's last token, which alone sees the prefix: nothing before it is differentiated.

    Args:
        module, params, tokens, mask: as given to `context_cache`.
        prefix: keys and values [L, B, Hkv, P, Dh].
        prefix_mask: bool [B, P].
        cache: from `context_cache`.

    Returns:
        [B, D].
    """
    last = jnp.maximum(mask.astype(jnp.int32).sum(axis=1) - 1, 0)[:, None]
    final = jnp.take_along_axis(tokens, last, axis=1)  # [B, 1]
    real = mask.any(axis=1, keepdims=True)
    return module.apply({"params": params}, final, real, prefix, prefix_mask, cache).hidden[:, 0]


def logits(params: Params, hidden: jax.Array) -> jax.Array:
    """Scores of the next token, float32 [..., V], from states [..., D]; the head is the embedding where tied."""
    head = params["head"] if "head" in params else params["embed"]["embedding"]  # [V, D]
    return jnp.einsum("...d,vd->...v", hidden, head.astype(hidden.dtype), preferred_element_type=jnp.float32)


def extend_vocabulary(params: Params, rows: jax.Array, head_rows: jax.Array | None = None) -> Params:
    """Adds tokens at the end of the vocabulary; a tied head follows, gradients reach `rows`.

    The module that reads the result needs `vocab_size` larger by n (`pretrained.extend` changes both).

    Args:
        params: a language model's parameters.
        rows: [n, D] embeddings of the new tokens.
        head_rows: [n, D] their rows in an untied head; `rows` when None.
    """
    table = params["embed"]["embedding"]  # [V, D]
    if rows.ndim != 2 or rows.shape[1] != table.shape[1]:
        raise ValueError(f"rows for new tokens must be [n, {table.shape[1]}], not {tuple(rows.shape)}")
    extended = dict(params)
    extended["embed"] = {"embedding": jnp.concatenate([table, rows.astype(table.dtype)])}
    if "head" in params:
        head = params["head"]
        extended["head"] = jnp.concatenate([head, (rows if head_rows is None else head_rows).astype(head.dtype)])
    return extended
