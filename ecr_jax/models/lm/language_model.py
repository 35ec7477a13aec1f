"""What every language model here shares: masked attention with prefixes and a cache, positions, and the vocabulary.

A prefix is a pair (keys, values) of arrays [L, B, Hkv, P, Dh] that every layer puts before its own. It has no
positions: nothing is rotated, and the tokens count from 0 as if it were not there. It stays an argument beside the
cache (it is passed again with every step), so that a cache holds tokens only.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

Params = dict[str, Any]
Prefix = tuple[jax.Array, jax.Array]

_REMAT_POLICIES = {"dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable, "full": None}


class Cache(NamedTuple):
    """Keys and values of the tokens read so far, in buffers of a fixed size S.

    keys, values [L, B, Hkv, S, Dh], or L arrays [B, Hkv, S, Dh] for unstacked parameters; mask [B, S], True where a
    real token lies; length, scalar int32, slots in use.
    Writing past S overwrites the last slots without a word (a jitted function cannot raise): make S large enough.
    """

    keys: jax.Array | tuple[jax.Array, ...]
    values: jax.Array | tuple[jax.Array, ...]
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


def by_row(x: jax.Array) -> jax.Array:
    """x [B, ...] with its rows split over the mesh axis `data`, all else of it whole on every device; x itself where no
    mesh is set (`jax.sharding.use_abstract_mesh`, `jax.set_mesh`)."""
    if "data" not in jax.sharding.get_abstract_mesh().axis_names:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec("data"))


def apply_layers(
    model: nn.Module,
    layer: type[nn.Module],
    settings: tuple[Any, ...],
    x: jax.Array,
    shared: tuple[Any, ...],
    prefix: Prefix | None = None,
    cache: Cache | None = None,
) -> tuple[jax.Array, tuple[Any, Any] | None]:
    """x through all layers of a model; called in its compact method.

    Parameters (and adapters) under "layers", stacked as [L, ...], are scanned: one body, so depth costs no compile
    time. Parameters under "layers_0", "layers_1", ... (see `unstack`) are gone through one by one: no layer's weights
    are cut out of a larger array first, which on a CPU takes as long as a decoding step's arithmetic; but then depth
    costs compile time.

    Args:
        model: with `config` and `remat`.
        layer: its call maps (x, shared, prefix, cached, start) to x and the layer's part of the cache, written.
        settings: what the layer is made with.
        x: [B, T, D].
        shared: what all layers are given alike.
        prefix: keys and values [L, B, Hkv, P, Dh].
        cache: what came before.

    Returns:
        x, and keys and values of the cache, written (None without a cache).
    """
    length = model.config.layers
    if model.remat != "none":
        layer = nn.remat(layer, prevent_cse=False, policy=_REMAT_POLICIES[model.remat])
    cached, start = (None, 0) if cache is None else ((cache.keys, cache.values), cache.length)
    # Before and after the layers: otherwise XLA lets the split of the embedding's columns run through all of them,
    # and every device computes all rows.
    x = by_row(x)
    if not model.has_variable("params", "layers_0"):
        shares, each = nn.broadcast, 0
        scanned = nn.scan(
            layer,
            variable_axes={"params": 0, "lora": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=cast(Any, (shares, each, each, shares)),  # flax annotates one axis alone
            length=length,
        )
        x, written = scanned(*settings, name="layers")(x, shared, prefix, cached, start)
        return by_row(x), written
    written = []
    for index in range(length):
        own = [None if parts is None else tuple(part[index] for part in parts) for parts in (prefix, cached)]
        x, kept = layer(*settings, name=f"layers_{index}")(x, shared, *own, start)
        written.append(kept)
    if cached is None:
        return by_row(x), None
    keys, values = zip(*written, strict=True)
    return by_row(x), (keys, values)


def unstack(variables: Params) -> Params:
    """Parameters or an adapter with a subtree "layers_0", ... for every layer in place of the stacked "layers".

    The same models read both, see `through`. It is a copy: let go of the stacked tree to keep memory as it was.
    """
    length = jax.tree.leaves(variables["layers"])[0].shape[0]
    rest = {name: value for name, value in variables.items() if name != "layers"}
    cut = jax.jit(lambda tree, index: jax.tree.map(lambda leaf: leaf[index], tree))
    return rest | {f"layers_{index}": cut(variables["layers"], index) for index in range(length)}


def init_cache(
    config: Config, batch: int, length: int, dtype: Any = jnp.float32, *, params: Params | None = None
) -> Cache:
    """An empty cache for `length` tokens a row; in the form that suits `params`, stacked if none are given."""
    shape = (batch, config.kv_heads, length, config.head_dim)
    if params is not None and "layers_0" in params:
        keys, values = (tuple(jnp.zeros(shape, dtype) for _ in range(config.layers)) for _ in range(2))
    else:
        keys, values = (jnp.zeros((config.layers, *shape), dtype) for _ in range(2))
    return Cache(keys, values, jnp.zeros((batch, length), bool), jnp.zeros((), jnp.int32))


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
    # Queries of one group of heads are rows of one product: [B, Hkv, G * T, Dh] times [B, Hkv, P + S, Dh].
    queries = queries.reshape(batch, length, groups, -1, size).transpose(0, 2, 3, 1, 4)  # [B, Hkv, G, T, Dh]
    exact = jnp.promote_types(queries.dtype, jnp.float32)
    rows = queries.reshape(batch, groups, -1, size)
    scores = jnp.einsum("bkqd,bksd->bkqs", rows, keys, preferred_element_type=exact) * size**-0.5
    scores = scores.reshape(*queries.shape[:4], -1)  # [B, Hkv, G, T, P + S]
    scores = jnp.where(visible[:, None, None], scores, -1e30)  # finite, so that a row without keys is no NaN
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    context = jnp.einsum("bkqs,bksd->bkqd", weights.reshape(batch, groups, -1, weights.shape[-1]), values)
    context = context.reshape(queries.shape).transpose(0, 3, 1, 2, 4)  # [B, T, Hkv, G, Dh]
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


def head(params: Params) -> jax.Array:
    """The rows [V, D] that score tokens: the embedding's where the head is tied."""
    return params["head"] if "head" in params else params["embed"]["embedding"]


def logits(params: Params, hidden: jax.Array) -> jax.Array:
    """Scores of the next token, float32 [..., V], from states [..., D]."""
    rows = head(params).astype(hidden.dtype)
    return jnp.einsum("...d,vd->...v", hidden, rows, preferred_element_type=jnp.float32)


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
