"""LoRA adapters: y = x W + s dropout(x) a b, with W frozen and a, b in a tree of their own.

The tree mirrors the parameters: where those have a kernel [..., in, out] at "layers/attention/q", its adapter has
{"a": [..., in, r], "b": [..., r, out]}; kernels stacked over layers have stacked adapters. `variables` puts an adapter
beside its base for `module.apply`, which never forms a gradient of W; `merge` adds it to the kernels, for inference.

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
"""(pattern of paths in an adapter of any family, logical axes) pairs: those of its kernel, so that both split alike."""


def init(key: jax.Array, params: Mapping[str, Any], config: LoraConfig) -> Adapter:
    """A new adapter: `a` uniform in ±1/sqrt(in), as in PEFT, and `b` zero, so that it changes nothing yet.

    Args:
      key: random key.
      params: the parameters to adapt, whole or quantised; results of `jax.eval_shape` are enough.
      config: which projections are adapted, and how.

    Raises:
      ValueError: a pattern of `config` that matches no projection.
    """
    shapes = _projections(params)
    for pattern in (*config.patterns, *(pattern for pattern, _ in (*config.rank_pattern, *config.alpha_pattern))):
        if not any(re.fullmatch(pattern, path) for path in shapes):
            raise ValueError(f"LoRA pattern {pattern!r} matches no projection; there are {', '.join(sorted(shapes))}")
    adapted = sorted(path for path in shapes if any(re.fullmatch(pattern, path) for pattern in config.patterns))
    adapter = {}
    for index, path in enumerate(adapted):
        *stack, inputs, outputs = shapes[path]
        rank, bound = config.rank_of(path), 1 / math.sqrt(inputs)
        a = jax.random.uniform(jax.random.fold_in(key, index), (*stack, inputs, rank), jnp.float32, -bound, bound)
        adapter[path] = {"a": a, "b": jnp.zeros((*stack, rank, outputs), jnp.float32)}
    return unflat(adapter)


def variables(params: Mapping[str, Any], adapter: Adapter, config: LoraConfig) -> dict[str, Any]:
    """The variables for `module.apply`: the base unchanged, and the adapter's collection "lora", `b` times its scale.

    Gradients flow to the adapter; the base is differentiated only if the caller asks for it.

    Raises:
      ValueError: a part of the adapter that does not fit the parameters.
    """
    return {"params": params, "lora": _scaled(params, adapter, config)}


def merge(params: Mapping[str, Any], adapter: Adapter, config: LoraConfig, dtype: Any = None) -> dict[str, Any]:
    """The parameters with s a b added to the adapted kernels: one adapter, at the speed of the base.

    The sum is computed in float32. `params` are not changed: keep them to have the base back exactly.

    Args:
      params: the base, its kernels whole.
      adapter: a tree like that of `init`.
      config: its settings.
      dtype: of the merged kernels; the base's when None.

    Raises:
      ValueError: a part of the adapter that does not fit the parameters, or a quantised kernel.
    """
    return _add_product(params, adapter, config, 1, dtype)


def for_inference(params: Mapping[str, Any], adapter: Adapter, config: LoraConfig) -> dict[str, Any]:
    """The variables for `module.apply` of a model that is trained no further.

    The adapter is merged into whole kernels, which then cost what the base costs; beside quantised ones it stays apart.
    """
    if quantized.is_quantized(params):
        return variables(params, adapter, config)
    return {"params": merge(params, adapter, config)}


def unmerge(merged: Mapping[str, Any], adapter: Adapter, config: LoraConfig, dtype: Any = None) -> dict[str, Any]:
    """The base of merged parameters, where only these are left: the same s a b, subtracted in float32.

    Exact where the sum was exact: a base of bfloat16 or float16 values that was merged into float32 comes back bit for
    bit in that `dtype` (unless s a b is thousands of times larger than the weight). Otherwise the bits that the sum
    rounded away are lost, and a weight comes back within one float32 unit in the last place of the larger of itself and
    the merged one; keep the base if you need them.

    Args:
      merged: the result of `merge`.
      adapter, config: the same that were merged.
      dtype: of the base's kernels; that of the merged ones when None.
    """
    return _add_product(merged, adapter, config, -1, dtype)


def stack(params: Mapping[str, Any], adapters: Sequence[tuple[Adapter, LoraConfig]]) -> Adapter:
    """Several adapters of one base as one tree, from which `select` takes one for each row of a batch.

    Args:
      params: the base.
      adapters: (adapter, settings) pairs, of any projections and ranks; smaller ranks are padded with zeros.

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
        empty = {"a": jnp.zeros((*layers, inputs, 0)), "b": jnp.zeros((*layers, 0, outputs))}
        leaves = [*(part.get(path, empty) for part in parts), empty]
        stacked[path] = {
            name: jnp.stack([_pad_axis(leaf[name], rank, axis) for leaf in leaves], axis=-3)
            for name, axis in (("a", -1), ("b", -2))
        }
    return unflat(stacked)


def select(stacked: Adapter, rows: jax.Array) -> Adapter:
    """The collection "lora" of a batch with an adapter for each row.

    Args:
      stacked: from `stack`.
      rows: int [B], the index of each row's adapter; -1 for the base alone. An index that is too large makes the row
        NaN, so that it cannot pass for a result.

    Returns:
      a [..., B, in, r] and b [..., B, r, out].
    """
    index = jnp.maximum(jnp.asarray(rows), -1)  # -1 is the last adapter, which is all zeros
    return jax.tree.map(lambda leaf: jnp.take(leaf, index, axis=-3, mode="fill"), stacked)


def flat(adapter: Adapter) -> dict[str, dict[str, jax.Array]]:
    """The adapter by the paths of its projections: {"layers/attention/q": {"a", "b"}}."""
    parts: dict[str, Any] = flatten_dict(adapter, is_leaf=lambda _, value: "a" in value or "b" in value, sep="/")
    return parts


def unflat(parts: Mapping[str, dict[str, jax.Array]]) -> Adapter:
    """The inverse of `flat`."""
    return unflatten_dict(dict(parts), sep="/")


def with_rows(params: Mapping[str, Any], ids: jax.Array, rows: jax.Array) -> dict[str, Any]:
    """The parameters with rows [n, D] as embeddings of the tokens `ids` [n], in a tied head too.

    Gradients reach `rows`: tokens that were added to a vocabulary are trained beside an adapter this way.
    """
    table = params["embed"]["embedding"]
    return dict(params) | {"embed": {"embedding": table.at[ids].set(rows.astype(table.dtype))}}


def _pad_axis(array: jax.Array, size: int, axis: int) -> jax.Array:
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, size - array.shape[axis])
    return jnp.pad(array, widths)


def _projections(params: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """{path: shape [..., in, out]} of all projections, whole or quantised."""
    weights = flatten_dict(dict(params), is_leaf=lambda _, value: "kernel" in value or "codes" in value, sep="/")
    return {path: quantized.shape_of(value) for path, value in weights.items() if isinstance(value, Mapping)}


def _scaled(params: Mapping[str, Any], adapter: Adapter, config: LoraConfig) -> Adapter:
    """The adapter with its scale in b, checked against the parameters."""
    shapes, scaled, problems = _projections(params), {}, []
    for path, part in flat(adapter).items():
        if path not in shapes:
            problems.append(f"{path} is no projection of the parameters")
            continue
        *layers, inputs, outputs = shapes[path]
        rank = config.rank_of(path)
        for name, expected in (("a", (*layers, inputs, rank)), ("b", (*layers, rank, outputs))):
            if name not in part or tuple(part[name].shape) != expected:
                shape = tuple(part[name].shape) if name in part else "missing"
                problems.append(f"{path}/{name} is {shape}, not {expected}")
        if not problems:
            scaled[path] = {"a": part["a"], "b": part["b"] * config.scale_of(path)}
    if problems:
        raise ValueError(f"the adapter does not fit: {'; '.join(problems)}")
    return unflat(scaled)


def _add_product(
    params: Mapping[str, Any], adapter: Adapter, config: LoraConfig, sign: int, dtype: Any
) -> dict[str, Any]:
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
