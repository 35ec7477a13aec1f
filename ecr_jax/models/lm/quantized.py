"""Frozen kernels in 8 or 4 bits, decoded where they are used: the base that an adapter is trained on (QLoRA).

A quantised kernel [..., in, out] is {"codes", "scales"} in place of "kernel"; in every column, blocks of consecutive
inputs share a scale. The dtype and shape of the codes show the format:

    int8   codes int8 [..., in, out]         scales float32 [..., 1, out]           weight = code * scale
    nf4    codes uint8 [..., in / 2, out]    scales bfloat16 [..., in / 64, out]    weight = NORMAL_FLOAT[code] * scale

int8 is symmetric over a whole column and takes 8 bits a weight. nf4 holds the inputs 2i (low bits) and 2i + 1 of a
column in one byte and takes 4.25 bits a weight: its scales are rounded to bfloat16 before the codes are chosen, which
saves most of what QLoRA's second quantisation of the scales saves (4.13 bits) and needs no further arrays.

The library `qwix` (0.1.8) does not fit: it takes the layers of a stacked kernel for inputs, and on a CPU it stores each
4-bit code in a byte.

Reference: Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", 2023, section 3 and appendix E.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ecr_jax.models.hyperparameters import QuantizationFormat

KERNELS = (r"layers/.*/kernel",)
"""Patterns of all kernels of a language model; embeddings, heads, norms and biases stay as they are."""

NORMAL_FLOAT = np.array(
    [-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0]
    + [0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0],
    np.float32,
)
"""The value of each 4-bit code: quantiles of the standard normal scaled to [-1, 1], including zero."""

_THRESHOLDS = (NORMAL_FLOAT[1:] + NORMAL_FLOAT[:-1]) / 2
_BLOCK = 64


@partial(jax.jit, static_argnames="format")
def encode(kernel: jax.Array, format: QuantizationFormat) -> dict[str, jax.Array]:
    """A kernel [in, out] as {"codes", "scales"}.

    Raises:
      ValueError: an unknown format, or an odd number of inputs for nf4.
    """
    if format not in get_args(QuantizationFormat):
        raise ValueError(f"format={format!r}: must be one of {', '.join(get_args(QuantizationFormat))}")
    kernel = jnp.asarray(kernel, jnp.float32)
    inputs, outputs = kernel.shape
    if format == "int8":
        scales = jnp.max(jnp.abs(kernel), axis=0, keepdims=True) / 127  # [1, out]
        codes = jnp.round(kernel / jnp.where(scales == 0, 1, scales)).astype(jnp.int8)
        return {"codes": codes, "scales": scales}
    if inputs % 2:
        raise ValueError(f"nf4 packs two inputs in a byte, so {inputs} inputs do not fit; use int8")
    # 64, or the longest block below it that divides the inputs.
    block = next(size for size in range(min(_BLOCK, inputs), 0, -1) if inputs % size == 0)
    blocks = kernel.reshape(inputs // block, block, outputs)
    scales = jnp.max(jnp.abs(blocks), axis=1).astype(jnp.bfloat16)  # [in / block, out]
    scaled = blocks / jnp.where(scales == 0, 1, scales).astype(jnp.float32)[:, None]
    codes = jnp.searchsorted(_THRESHOLDS, scaled).astype(jnp.uint8).reshape(inputs // 2, 2, outputs)
    return {"codes": codes[:, 0] | codes[:, 1] << 4, "scales": scales}


def decode(codes: jax.Array, scales: jax.Array, dtype: Any) -> jax.Array:
    """The kernel [..., in, out] of codes and scales."""
    if codes.dtype == jnp.int8:
        return (codes * scales).astype(dtype)
    pairs = jnp.stack([codes & 15, codes >> 4], axis=-2)  # [..., in / 2, 2, out]
    values = jnp.take(NORMAL_FLOAT, pairs.astype(jnp.int32), mode="clip")
    blocks = values.reshape(*scales.shape[:-1], -1, scales.shape[-1])  # [..., in / block, block, out]
    scaled = blocks * scales.astype(jnp.float32)[..., None, :]
    return scaled.reshape(*codes.shape[:-2], -1, codes.shape[-1]).astype(dtype)


def shape_of(weight: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape [..., in, out] of the kernel of {"kernel"} or {"codes", "scales"} (arrays or their shapes)."""
    if "kernel" in weight:
        return tuple(weight["kernel"].shape)
    *stack, rows, outputs = weight["codes"].shape
    return (*stack, rows if weight["codes"].dtype == jnp.int8 else 2 * rows, outputs)


def is_quantized(params: Mapping[str, Any]) -> bool:
    """Whether any kernel of the parameters is quantised."""
    return any(path[-1] == "codes" for path in flatten_dict(dict(params)))


def quantize(params: Mapping[str, Any], patterns: Sequence[str], format: QuantizationFormat) -> dict[str, Any]:
    """The parameters with the matching kernels in 8 or 4 bits; everything else is passed on unchanged.

    Kernels are encoded one layer at a time: of parameters in host memory (numpy), the device never holds all.

    Args:
      params: parameters with kernels [..., in, out].
      patterns: regular expressions of whole paths; each must match a kernel (`KERNELS`: all of a language model).
      format: "int8" or "nf4".

    Raises:
      ValueError: an unknown format, a pattern that matches nothing or no kernel, or inputs that do not fit.
    """
    flat: dict[str, Any] = flatten_dict(dict(params), sep="/")
    for pattern in patterns:
        matched = [path for path in flat if re.fullmatch(pattern, path)]
        if not matched or not all(path.endswith("/kernel") for path in matched):
            raise ValueError(f"pattern {pattern!r} must match kernels; it matches {', '.join(matched) or 'nothing'}")
    result: dict[str, Any] = {}
    for path, leaf in flat.items():
        if not any(re.fullmatch(pattern, path) for pattern in patterns):
            result[path] = leaf
            continue
        *stack, inputs, outputs = leaf.shape
        try:
            layers = [encode(layer, format) for layer in leaf.reshape(-1, inputs, outputs)]
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        for name in ("codes", "scales"):
            parts = jnp.stack([layer[name] for layer in layers])
            result[path.removesuffix("kernel") + name] = parts.reshape(*stack, *parts.shape[1:])
    return unflatten_dict(result, sep="/")


def dequantize(params: Mapping[str, Any], dtype: Any = jnp.float32) -> dict[str, Any]:
    """The parameters with whole kernels [..., in, out] again, decoded."""
    flat: dict[str, Any] = flatten_dict(dict(params), sep="/")
    result: dict[str, Any] = {}
    for path, leaf in flat.items():
        if path.endswith("/codes"):
            parent = path.removesuffix("codes")
            result[parent + "kernel"] = decode(leaf, flat[parent + "scales"], dtype)
        elif not path.endswith("/scales"):
            result[path] = leaf
    return unflatten_dict(result, sep="/")
