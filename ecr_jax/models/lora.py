"""LoRA adapters as a parameter tree of their own: W + scale · a b, with W an argument that stays as it is.

An adapter has {"a": [..., in, r], "b": [..., r, out]} where the parameters have a kernel [..., in, out]; kernels that
are stacked over layers have stacked adapters.

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

Adapter = dict[str, Any]

# The kernels [in, out] of attention, in all our language models.
ATTENTION = (r"layers/attention/.*/kernel",)

SHARDING_RULES = (
    (r"layers/(attention/(q|k|v|qkv)|mlp/(gate|up))/(kernel/)?a", ("layers", "width", "rank")),
    (r"layers/attention/(q|qkv)/(kernel/)?b", ("layers", "rank", "heads")),
    (r"layers/attention/[kv]/(kernel/)?b", ("layers", "rank", "kv_heads")),
    (r"layers/mlp/(gate|up)/(kernel/)?b", ("layers", "rank", "hidden")),
    (r"layers/attention/o/(kernel/)?a", ("layers", "heads", "rank")),
    (r"layers/mlp/down/(kernel/)?a", ("layers", "hidden", "rank")),
    (r"layers/(attention/o|mlp/down)/(kernel/)?b", ("layers", "rank", "width")),
)
"""Path in an adapter of any family -> its logical axes: those of its kernel, so that both are split alike."""


def init(key: jax.Array, params: Mapping[str, Any], patterns: Sequence[str], rank: int) -> Adapter:
    """A new adapter: `a` uniform in ±1/sqrt(in), as PEFT has it, `b` zero, so that merging changes nothing yet.

    Args:
        key: random key.
        params: the parameters to adapt (shapes are enough: `jax.eval_shape` results serve).
        patterns: regular expressions of whole paths; each must match a kernel.
        rank: r.

    Raises:
        ValueError: a rank below 1, a pattern that matches nothing, or a match that is not a kernel.
    """
    if rank < 1:
        raise ValueError(f"rank={rank}: a LoRA adapter needs rank >= 1")
    flat = {"/".join(str(step.key) for step in path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    chosen: set[str] = set()
    for pattern in patterns:
        matched = {path for path in flat if re.fullmatch(pattern, path)}
        if not matched:
            raise ValueError(f"LoRA pattern {pattern!r} matches no parameter; there are {', '.join(sorted(flat))}")
        chosen |= matched
    adapter = {}
    for index, path in enumerate(sorted(chosen)):
        if not path.endswith("/kernel"):
            raise ValueError(f"LoRA adapts kernels; {path} is none, narrow the patterns")
        *stack, inputs, outputs = flat[path].shape
        bound = 1 / math.sqrt(inputs)
        a = jax.random.uniform(jax.random.fold_in(key, index), (*stack, inputs, rank), jnp.float32, -bound, bound)
        adapter[tuple(path.split("/"))] = {"a": a, "b": jnp.zeros((*stack, rank, outputs), jnp.float32)}
    return unflatten_dict(adapter)


def merge(params: Mapping[str, Any], adapter: Adapter, scale: float) -> dict[str, Any]:
    """The parameters with `scale · a b` added to the adapted kernels; gradients reach the adapter only.

    Args:
        params: the frozen parameters.
        adapter: as `init` gives it.
        scale: PEFT's alpha / r.

    Raises:
        ValueError: a path that the parameters do not have.
    """
    kernels = flatten_dict(jax.lax.stop_gradient(params))
    low = flatten_dict(adapter, is_leaf=lambda _, value: set(value) == {"a", "b"})
    unknown = sorted("/".join(path) for path in set(low) - set(kernels))
    if unknown:
        raise ValueError(f"the adapter changes {', '.join(unknown)}, which the parameters do not have")
    for path, part in low.items():
        kernels[path] += (scale * (part["a"] @ part["b"])).astype(kernels[path].dtype)
    return unflatten_dict(kernels)
