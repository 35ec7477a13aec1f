"""LoRA adapters: y = x W + s dropout(x) a b, with W frozen and a, b in a tree of their own.

The tree mirrors the parameters: where those have a kernel [..., in, out] at "layers/attention/q", an adapter of it has
{"a": [..., in, r], "b": [..., r, out]}; what is stacked over layers stays stacked. `variables` puts an adapter beside
its base for `module.apply`, which never forms a gradient of W; `merge` adds it to the kernels, for serving.

Reference: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, section 4.1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import quantized

Adapter = dict[str, Any]

SHARDING_RULES = (
    (r"layers/(attention/(q|k|v|qkv)|mlp/(gate|up))/a", ("layers", "width", "rank")),
    (r"layers/attention/(q|qkv)/b", ("layers", "rank", "heads")),
    (r"layers/attention/[kv]/b", ("layers", "rank", "kv_heads")),
    (r"layers/mlp/(gate|up)/b", ("layers", "rank", "hidden")),
    (r"layers/attention/o/a", ("layers", "heads", "rank")),
    (r"layers/mlp/down/a", ("layers", "hidden", "rank")),
    (r"layers/(attention/o|mlp/down)/b", ("layers", "rank", "width")),
)
"""Path in an adapter of any family -> its logical axes: those of its kernel, so that both are split alike."""


def init(key: jax.Array, params: Mapping[str, Any], config: LoraConfig) -> Adapter:
    """A new adapter: `a` uniform in ±1/sqrt(in), as PEFT has it, `b` zero, so that it changes nothing yet.

    Args:
        key: random key.
        params: the parameters to adapt, whole or quantised (shapes are enough: `jax.eval_shape` results serve).
        config: what is adapted.

    Raises:
        ValueError: a pattern of `config` that matches no projection.
    """
    shapes = _projections(params)
    for pattern in (*config.patterns, *(pattern for pattern, _ in (*config.rank_pattern, *config.alpha_pattern))):
        if not any(re.fullmatch(pattern, path) for path in shapes):
            raise ValueError(f"LoRA pattern {pattern!r} matches no projection; there are {', '.join(sorted(shapes))}")
    chosen = sorted(path for path in shapes if any(re.fullmatch(pattern, path) for pattern in config.patterns))
    adapter = {}
    for index, path in enumerate(chosen):
        *stack, inputs, outputs = shapes[path]
        rank, bound = config.rank_of(path), 1 / math.sqrt(inputs)
        a = jax.random.uniform(jax.random.fold_in(key, index), (*stack, inputs, rank), jnp.float32, -bound, bound)
        adapter[path] = {"a": a, "b": jnp.zeros((*stack, rank, outputs), jnp.float32)}
    return unflat(adapter)


def variables(params: Mapping[str, Any], adapter: Adapter, config: LoraConfig) -> dict[str, Any]:
    """What `module.apply` takes: the base as it is, and the adapter's collection, `b` times its scale.

    Gradients flow to the adapter; the base is differentiated only if the caller asks for it.

    Raises:
        ValueError: a part of the adapter that does not fit the parameters.
    """
    return {"params": params, "lora": _scaled(params, adapter, config)}


def merge(params: Mapping[str, Any], adapter: Adapter, config: LoraConfig, dtype: Any = None) -> dict[str, Any]:
    """The parameters with s a b added to the adapted kernels: as fast as the base, for one adapter.

    The sum is taken in float32. `params` stay as they are: whoever keeps them has the base back to the bit.

    Args:
        params: the base, its kernels whole.
        adapter: as `init` gives it.
        config: its settings.
        dtype: of the merged kernels; that of the base's when None.

    Raises:
        ValueError: a part of the adapter that does not fit the parameters, or a quantised kernel.
    """
    return _added(params, adapter, config, 1, dtype)


def for_inference(params: Mapping[str, Any], adapter: Adapter, config: LoraConfig) -> dict[str, Any]:
    """The variables for `module.apply` of a model that is trained no further.

    The adapter is merged into whole kernels, which then cost what the base costs; beside quantised ones it stays apart.
    """
    if quantized.is_quantized(params):
        return variables(params, adapter, config)
    return {"params": merge(params, adapter, config)}


def unmerge(merged: Mapping[str, Any], adapter: Adapter, config: LoraConfig, dtype: Any = None) -> dict[str, Any]:
    """The base of what `merge` gave, where only the merged parameters are left: the same s a b, subtracted in float32.

    Exact to the bit where the sum was: a base of bfloat16 or float16 values that was merged into float32 comes back
    whole as `dtype` says (unless s a b is thousands of times larger than the weight). Otherwise the bits that the
    sum rounded away are gone, and a weight comes back within one float32 unit in the last place of the larger of it
    and the merged one; keep the base if you need them.

    Args:
        merged: what `merge` gave.
        adapter, config: the very ones that were merged.
        dtype: of the base's kernels; that of the merged ones when None.
    """
    return _added(merged, adapter, config, -1, dtype)


def stack(params: Mapping[str, Any], adapters: Sequence[tuple[Adapter, LoraConfig]]) -> Adapter:
    """Several adapters of one base as one tree, from which `select` takes one for each row of a batch.

    Args:
        params: the base.
        adapters: (adapter, settings) pairs, of any projections and ranks; smaller ranks are filled up with zeros.

    Returns:
        The leaves of all projections that any of them adapts, scaled: a [..., N + 1, in, r] and b [..., N + 1, r, out]
        with the largest rank r; the last one is all zeros.

    Raises:
        ValueError: no adapters, or a part of one that does not fit the parameters.
    """
    if not adapters:
        raise ValueError("give at least one adapter to stack")
    shapes = _projections(params)
    parts = [flat(_scaled(params, adapter, config)) for adapter, config in adapters]
    stacked = {}
    for path in sorted(set().union(*parts)):
        *layers, inputs, outputs = shapes[path]
        rank = max(part[path]["a"].shape[-1] for part in parts if path in part)
        none = {"a": jnp.zeros((*layers, inputs, 0)), "b": jnp.zeros((*layers, 0, outputs))}
        chosen = [*(part.get(path, none) for part in parts), none]
        stacked[path] = {
            name: jnp.stack([_fill(part[name], rank, axis) for part in chosen], axis=-3)
            for name, axis in (("a", -1), ("b", -2))
        }
    return unflat(stacked)


def select(stacked: Adapter, rows: jax.Array) -> Adapter:
    """The collection "lora" of a batch whose rows have adapters of their own.

    Args:
        stacked: from `stack`.
        rows: int [B], each row's place among the adapters stacked; -1 for the base alone. A place that there is not
            makes the row NaN, so that it cannot pass for an answer.

    Returns:
        a [..., B, in, r] and b [..., B, r, out].
    """
    places = jnp.maximum(jnp.asarray(rows), -1)  # the last place, of zeros, is what -1 finds
    return jax.tree.map(lambda leaf: jnp.take(leaf, places, axis=-3, mode="fill"), stacked)


def flat(adapter: Adapter) -> dict[str, dict[str, jax.Array]]:
    """The adapter by the paths of its projections: {"layers/attention/q": {"a", "b"}}."""
    parts: dict[str, Any] = flatten_dict(adapter, is_leaf=lambda _, value: "a" in value or "b" in value, sep="/")
    return parts


def unflat(parts: Mapping[str, dict[str, jax.Array]]) -> Adapter:
    """The inverse of `flat`."""
    return unflatten_dict(dict(parts), sep="/")


def with_rows(params: Mapping[str, Any], ids: jax.Array, rows: jax.Array) -> dict[str, Any]:
    """The parameters with rows [n, D] in the place of the embeddings of tokens `ids` [n]; a tied head follows.

    Tokens that were added to a vocabulary are trained beside an adapter this way; gradients reach `rows`.
    """
    table = params["embed"]["embedding"]
    return dict(params) | {"embed": {"embedding": table.at[ids].set(rows.astype(table.dtype))}}


def _fill(array: jax.Array, size: int, axis: int) -> jax.Array:
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, size - array.shape[axis])
    return jnp.pad(array, widths)


def _projections(params: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """{path: shape [..., in, out]} of everything that can be adapted."""
    found = flatten_dict(dict(params), is_leaf=lambda _, value: "kernel" in value or "codes" in value, sep="/")
    return {path: quantized.shape_of(value) for path, value in found.items() if isinstance(value, Mapping)}


def _scaled(params: Mapping[str, Any], adapter: Adapter, config: LoraConfig) -> Adapter:
    """The adapter with its scale in b, checked against the parameters."""
    shapes, scaled, wrong = _projections(params), {}, []
    for path, part in flat(adapter).items():
        if path not in shapes:
            wrong.append(f"{path} is no projection of the parameters")
            continue
        *layers, inputs, outputs = shapes[path]
        rank = config.rank_of(path)
        for name, expected in (("a", (*layers, inputs, rank)), ("b", (*layers, rank, outputs))):
            if name not in part or tuple(part[name].shape) != expected:
                found = tuple(part[name].shape) if name in part else "missing"
                wrong.append(f"{path}/{name} is {found}, not {expected}")
        if not wrong:
            scaled[path] = {"a": part["a"], "b": part["b"] * config.scale_of(path)}
    if wrong:
        raise ValueError(f"the adapter does not fit: {'; '.join(wrong)}")
    return unflat(scaled)


def _added(params: Mapping[str, Any], adapter: Adapter, config: LoraConfig, sign: int, dtype: Any) -> dict[str, Any]:
    leaves: dict[str, Any] = flatten_dict(dict(params), sep="/")
    for path, part in flat(_scaled(params, adapter, config)).items():
        if f"{path}/kernel" not in leaves:
            raise ValueError(
                f"{path} is quantised: a sum would have to be rounded to its few bits again; pass the "
                f"adapter beside the parameters (`variables`), or dequantise them first"
            )
        kernel = leaves[f"{path}/kernel"]
        change = jnp.matmul(part["a"], part["b"], precision="highest", preferred_element_type=jnp.float32)
        total = jnp.asarray(kernel, jnp.float32) + sign * change
        leaves[f"{path}/kernel"] = total.astype(kernel.dtype if dtype is None else dtype)
    return unflatten_dict(leaves, sep="/")
