"""What the language models here share: masked attention with prefixes and a cache, positions, and the vocabulary.

A prefix is a pair (keys, values) of arrays [L, B, Hkv, P, Dh] that every layer puts before its own keys and values. It
has no positions: nothing is rotated, and tokens count from 0 as if it were not there. It stays an argument beside the
cache (and is passed again with every step), so that a cache holds tokens only.

Axes: B rows, T tokens of a call, S slots of a cache, P prefix positions, L layers, H heads, Hkv heads of keys and
values, Dh width of a head, D width of a state, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from ecr_jax.models.hyperparameters import Remat

Params = dict[str, Any]
Prefix = tuple[jax.Array, jax.Array]

_REMAT_POLICIES = {"dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable, "full": None}


class Cache(NamedTuple):
    """Keys and values of the tokens read so far, in buffers of a fixed size S.

    keys, values [L, B, Hkv, S, Dh], or L arrays [B, Hkv, S, Dh] for unstacked parameters; mask [B, S], True where a
    real token lies; length, scalar int32, slots in use.
    Writing past S silently overwrites the last slots (a jitted function cannot raise): make S large enough.
    """

    keys: jax.Array | tuple[jax.Array, ...]
    values: jax.Array | tuple[jax.Array, ...]
    mask: jax.Array
    length: jax.Array


class Output(NamedTuple):
    """The result of a forward pass: states after the final norm [B, T, D], and the cache (None if none was passed)."""

    hidden: jax.Array
    cache: Cache | None


class Config(Protocol):
    """The sizes that the configuration of every language model has."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def layers(self) -> int: ...

    @property
    def heads(self) -> int: ...

    @property
    def head_dim(self) -> int: ...


class DecoderConfig(Config, Protocol):
    """The sizes of a causal language model, whose keys and values can be cached."""

    @property
    def kv_heads(self) -> int: ...


class LanguageModel(Protocol):
    """The attributes of a flax module that `apply_layers` uses."""

    @property
    def config(self) -> Config: ...

    @property
    def remat(self) -> Remat: ...

    def has_variable(self, col: str, name: str) -> bool: ...


def split_rows(x: jax.Array) -> jax.Array:
    """Constrains x [B, ...] to be split by rows over the mesh axis `data` and whole on every other axis.

    Returns x itself where no mesh is set (`jax.sharding.use_abstract_mesh`, `jax.set_mesh`), or its rows do not divide.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if "data" not in mesh.axis_names or x.shape[0] % mesh.shape["data"]:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec("data"))


def apply_layers(
    model: LanguageModel,
    layer: type[nn.Module],
    settings: tuple[Any, ...],
    x: jax.Array,
    shared: tuple[Any, ...],
    prefix: Prefix | None = None,
    cache: Cache | None = None,
) -> tuple[jax.Array, tuple[Any, Any] | None]:
    """Runs x through all layers of a model; called in the model's compact method.

    Parameters (and adapters) under "layers", stacked as [L, ...], are scanned: one body, so depth costs no compile
    time. Parameters under "layers_0", "layers_1", ... (see `unstack`) are applied one by one: no layer's weights are
    sliced out of a larger array first, which on a CPU takes as long as the arithmetic of a decoding step; but depth
    then costs compile time.

    Args:
      model: has `config` and `remat`.
      layer: its call maps (x, shared, prefix, cached, start) to x and the layer's updated keys and values.
      settings: the layer's constructor arguments.
      x: [B, T, D].
      shared: arguments that all layers get.
      prefix: keys and values [L, B, Hkv, P, Dh].
      cache: keys and values of earlier tokens.

    Returns:
      x, and the updated keys and values of the cache (None without a cache).
    """
    length = model.config.layers
    if model.remat != "none":
        layer = nn.remat(layer, prevent_cse=False, policy=_REMAT_POLICIES[model.remat])
    cached, start = (None, 0) if cache is None else ((cache.keys, cache.values), cache.length)
    # Before and after the layers: otherwise XLA lets the split of the embedding's columns run through all of them,
    # and every device computes all rows.
    x = split_rows(x)
    if not model.has_variable("params", "layers_0"):
        same_for_all, one_per_layer = nn.broadcast, 0
        scanned = nn.scan(
            layer,
            variable_axes={"params": 0, "lora": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=cast(
                Any, (same_for_all, one_per_layer, one_per_layer, same_for_all)
            ),  # flax annotates one axis alone
            length=length,
        )
        x, written = scanned(*settings, name="layers")(x, shared, prefix, cached, start)
        return split_rows(x), written
    written = []
    for index in range(length):
        own = [None if parts is None else tuple(part[index] for part in parts) for parts in (prefix, cached)]
        x, keys_and_values = layer(*settings, name=f"layers_{index}")(x, shared, *own, start)
        written.append(keys_and_values)
    if cached is None:
        return split_rows(x), None
    keys, values = zip(*written, strict=True)
    return split_rows(x), (keys, values)


def unstack(variables: Params) -> Params:
    """Parameters or an adapter with a subtree "layers_0", ... for every layer in place of the stacked "layers".

    Models accept both, see `apply_layers`. The result is a copy: drop the stacked tree to keep memory as it was.
    """
    length = jax.tree.leaves(variables["layers"])[0].shape[0]
    rest = {name: value for name, value in variables.items() if name != "layers"}
    take_layer = jax.jit(lambda tree, index: jax.tree.map(lambda leaf: leaf[index], tree))
    return rest | {f"layers_{index}": take_layer(variables["layers"], index) for index in range(length)}


def init_cache(
    config: DecoderConfig, batch: int, length: int, dtype: Any = jnp.float32, *, params: Params | None = None
) -> Cache:
    """An empty cache for `length` tokens a row; unstacked if `params` are (see `unstack`), else stacked."""
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
    """Which keys a query attends to: the unmasked prefix, and real tokens up to its own.

    Args:
      mask: bool [B, T], real tokens of this call.
      prefix: keys and values [L, B, Hkv, P, Dh], or None.
      prefix_mask: bool [B, P], or None when all prefix positions are real.
      cache: earlier tokens, or None.

    Returns:
      visible, bool [B, T, P + S] with S = T without a cache; and the mask [B, S] of all token keys.

    Raises:
      ValueError: a prefix mask without a prefix.
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
    """Scaled dot-product attention of one layer; the softmax is in float32, and a query without visible keys gets zero.

    Args:
      queries: [B, T, H, Dh].
      keys, values: [B, T, Hkv, Dh]; H is a multiple of Hkv (grouped-query attention).
      visible: bool [B, T, P + S].
      prefix: this layer's keys and values [B, Hkv, P, Dh].
      cached: this layer's buffers [B, Hkv, S, Dh], to be written at `start`.
      start: the first free slot of the buffers.

    Returns:
      The context [B, T, H * Dh], and the updated buffers (None without a cache).
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
    scores = jnp.where(visible[:, None, None], scores, -1e30)  # finite, so that a row without keys gives no NaN
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    context = jnp.einsum("bkqs,bksd->bkqd", weights.reshape(batch, groups, -1, weights.shape[-1]), values)
    context = context.reshape(queries.shape).transpose(0, 3, 1, 2, 4)  # [B, T, Hkv, G, Dh]
    context = jnp.where(visible.any(axis=-1)[:, :, None, None, None], context, 0)
    return context.reshape(batch, length, heads * size), cached


def context_cache(module: Any, params: Params, tokens: jax.Array, mask: jax.Array, dtype: Any = jnp.float32) -> Cache:
    """The cache that `read_last` needs: all tokens but each row's last one, in T + 1 slots of which the last is free.

    It depends on frozen parameters only, so it can be computed once and reused.

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
    """The state of each row's last token, the only one that attends to the prefix: no gradient flows before it.

    Args:
      module, params, tokens, mask: as passed to `context_cache`.
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
    """The output embeddings [V, D], whose products with a state are its logits; tied ones are the input embeddings."""
    return params["head"] if "head" in params else params["embed"]["embedding"]


def logits(params: Params, hidden: jax.Array) -> jax.Array:
    """Logits of the next token, float32 [..., V], from states [..., D]."""
    rows = head(params).astype(hidden.dtype)
    return jnp.einsum("...d,vd->...v", hidden, rows, preferred_element_type=jnp.float32)


def extend_vocabulary(params: Params, rows: jax.Array, head_rows: jax.Array | None = None) -> Params:
    """Adds tokens at the end of the vocabulary, in a tied head too; gradients reach `rows`.

    The module for the result needs a `vocab_size` larger by n (`pretrained.language_models.extend` changes both).

    Args:
      params: a language model's parameters.
      rows: [n, D] embeddings of the new tokens.
      head_rows: [n, D] their rows in an untied head; `rows` when None.

    Raises:
      ValueError: rows of another width.
    """
    table = params["embed"]["embedding"]  # [V, D]
    if rows.ndim != 2 or rows.shape[1] != table.shape[1]:
        raise ValueError(f"rows for new tokens must be [n, {table.shape[1]}], not {tuple(rows.shape)}")
    extended = dict(params)
    extended["embed"] = {"embedding": jnp.concatenate([table, rows.astype(table.dtype)])}
    if "head" in params:
        old, new = params["head"], rows if head_rows is None else head_rows
        extended["head"] = jnp.concatenate([old, new.astype(old.dtype)])
    return extended
