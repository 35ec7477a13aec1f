"""Conversion between GGUF's names, metadata and tensor layouts and Hugging Face's, which `convert` reads and writes.

The architectures are llama (Llama 2 and 3, SmolLM2) and gpt2. Nothing is read or written here: a tensor that is read is
a function that returns the dequantised array [out, in].
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ecr_jax.models.lm.convert import integer_setting, positive_setting
from ecr_jax.models.lm.gpt2 import Gpt2Config
from ecr_jax.models.lm.llama import LlamaConfig, RopeScaling, frequencies

Readers = dict[str, Callable[[], np.ndarray]]
"""Name of a tensor -> a function that reads it."""

_BLOCK = "blk.{l}."
LLAMA = (
    ("token_embd.weight", "model.embed_tokens.weight"),
    (_BLOCK + "attn_norm.weight", "model.layers.{l}.input_layernorm.weight"),
    (_BLOCK + "attn_q.weight", "model.layers.{l}.self_attn.q_proj.weight"),
    (_BLOCK + "attn_k.weight", "model.layers.{l}.self_attn.k_proj.weight"),
    (_BLOCK + "attn_v.weight", "model.layers.{l}.self_attn.v_proj.weight"),
    (_BLOCK + "attn_output.weight", "model.layers.{l}.self_attn.o_proj.weight"),
    (_BLOCK + "ffn_norm.weight", "model.layers.{l}.post_attention_layernorm.weight"),
    (_BLOCK + "ffn_gate.weight", "model.layers.{l}.mlp.gate_proj.weight"),
    (_BLOCK + "ffn_up.weight", "model.layers.{l}.mlp.up_proj.weight"),
    (_BLOCK + "ffn_down.weight", "model.layers.{l}.mlp.down_proj.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
)
GPT2 = (
    ("token_embd.weight", "transformer.wte.weight"),
    ("position_embd.weight", "transformer.wpe.weight"),
    (_BLOCK + "attn_norm.weight", "transformer.h.{l}.ln_1.weight"),
    (_BLOCK + "attn_norm.bias", "transformer.h.{l}.ln_1.bias"),
    (_BLOCK + "attn_qkv.weight", "transformer.h.{l}.attn.c_attn.weight"),
    (_BLOCK + "attn_qkv.bias", "transformer.h.{l}.attn.c_attn.bias"),
    (_BLOCK + "attn_output.weight", "transformer.h.{l}.attn.c_proj.weight"),
    (_BLOCK + "attn_output.bias", "transformer.h.{l}.attn.c_proj.bias"),
    (_BLOCK + "ffn_norm.weight", "transformer.h.{l}.ln_2.weight"),
    (_BLOCK + "ffn_norm.bias", "transformer.h.{l}.ln_2.bias"),
    (_BLOCK + "ffn_up.weight", "transformer.h.{l}.mlp.c_fc.weight"),
    (_BLOCK + "ffn_up.bias", "transformer.h.{l}.mlp.c_fc.bias"),
    (_BLOCK + "ffn_down.weight", "transformer.h.{l}.mlp.c_proj.weight"),
    (_BLOCK + "ffn_down.bias", "transformer.h.{l}.mlp.c_proj.bias"),
    ("output_norm.weight", "transformer.ln_f.weight"),
    ("output_norm.bias", "transformer.ln_f.bias"),
    ("output.weight", "lm_head.weight"),
)
TABLES = {"llama": LLAMA, "gpt2": GPT2}

ROPE_FACTORS = "rope_freqs.weight"
"""The tensor of the factors of Llama 3's rotary frequencies."""
# Of Llama 3.1 and 3.2, whose GGUF files do not hold them.
_LOW, _HIGH, _ORIGINAL_POSITIONS = 1.0, 4.0, 8192


def from_gguf(metadata: Mapping[str, Any], tensors: Readers) -> tuple[Readers, LlamaConfig | Gpt2Config]:
    """The content of a GGUF file in Hugging Face's names and layouts.

    Args:
      metadata: key -> value.
      tensors: GGUF name -> a function that reads the tensor, dequantised.

    Returns:
      Hugging Face's name -> a function that reads the tensor in Hugging Face's layout; and the configuration.

    Raises:
      ValueError: another architecture, a file that is one part of several, a metadata key that is missing or has an
        impossible value, a tensor that is not in the table, or rotary positions that `RopeScaling` cannot express.
    """
    kind = metadata.get("general.architecture")
    if kind not in TABLES:
        known = ", ".join(TABLES)
        raise ValueError(f"GGUF architecture {kind!r} is not supported, only {known}; use the model's safetensors")
    if (parts := metadata.get("split.count", 1)) > 1:
        raise ValueError(f"this is one of {parts} parts; join them with `llama-gguf-split --merge`")
    tensors = dict(tensors)
    factors = tensors.pop(ROPE_FACTORS, None) if kind == "llama" else None
    gguf_names = {hf_name(name, kind): name for name in tensors}
    if kind == "llama":
        config = _llama(metadata, tied="output.weight" not in tensors, factors=factors and factors())
    else:
        config = _gpt2(metadata)
    readers = {
        converted: lambda name=name: to_hf_layout(name, tensors[name](), config)
        for converted, name in gguf_names.items()
    }
    return readers, config


def hf_name(name: str, architecture: str) -> str:
    """Hugging Face's name of a tensor in a GGUF file.

    Raises:
      ValueError: a name that the architecture's table does not have.
    """
    for gguf_name, converted in TABLES[architecture]:
        pattern = re.escape(gguf_name).replace(re.escape("{l}"), r"(\d+)")
        if match := re.fullmatch(pattern, name):
            return converted.replace("{l}", match[1]) if match.groups() else converted
    raise ValueError(f"unknown tensor {name!r} in a GGUF file of architecture {architecture}")


def to_hf_layout(name: str, tensor: np.ndarray, config: LlamaConfig | Gpt2Config) -> np.ndarray:
    """A dequantised GGUF tensor in Hugging Face's layout: Llama's q and k reordered, GPT-2's matrices transposed.

    Rotary positions rotate neighbouring features (2i, 2i + 1) in llama.cpp and features (i, i + Dh/2) in Hugging Face's
    models; llama.cpp's converter reorders the rows of every head accordingly, and this undoes it. GPT-2's linear layers
    are [out, in] in GGUF and [in, out] in Hugging Face's files.
    """
    if isinstance(config, Gpt2Config):
        return tensor.T if re.search(r"\.(attn_qkv|attn_output|ffn_up|ffn_down)\.weight$", name) else tensor
    if not (match := re.search(r"\.attn_([qk])\.weight$", name)):
        return tensor
    heads = config.heads if match[1] == "q" else config.kv_heads
    if tensor.shape[0] != heads * config.head_dim:
        return tensor  # `from_hf` reports it with the shape expected
    paired = tensor.reshape(heads, config.head_dim // 2, 2, tensor.shape[1])
    return paired.swapaxes(1, 2).reshape(tensor.shape)


def architecture(config: LlamaConfig | Gpt2Config) -> str:
    """GGUF's name of a configuration's architecture."""
    return "llama" if isinstance(config, LlamaConfig) else "gpt2"


def gguf_name(name: str, config: LlamaConfig | Gpt2Config) -> str:
    """GGUF's name of a tensor that Hugging Face calls `name`; the inverse of `hf_name`."""
    pattern = re.sub(r"\.\d+\.", ".{l}.", name, count=1)
    template = next(ours for ours, theirs in TABLES[architecture(config)] if theirs == pattern)
    number = re.search(r"\.(\d+)\.", name)
    return template.replace("{l}", number[1]) if number else template


def to_gguf_layout(name: str, tensor: np.ndarray, config: LlamaConfig | Gpt2Config) -> np.ndarray:
    """A tensor of Hugging Face's layout in GGUF's, the inverse of `to_hf_layout`.

    Args:
      name: in GGUF.
      tensor: a weight; of Llama's also the factor [out, r] of an adapter, whose rows are those of the weight.
      config: sizes of the model.
    """
    if isinstance(config, Gpt2Config):
        return to_hf_layout(name, tensor, config)  # a transposition is its own inverse
    if not (match := re.search(r"\.attn_([qk])\.weight$", name)):
        return tensor
    heads = config.heads if match[1] == "q" else config.kv_heads
    halves = tensor.reshape(heads, 2, config.head_dim // 2, tensor.shape[1])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def metadata_of(config: LlamaConfig | Gpt2Config) -> dict[str, int | float]:
    """The metadata that `from_gguf` reads a configuration from; that of a llama's rotary factors is a tensor."""
    values: dict[str, int | float] = {
        "vocab_size": config.vocab_size,
        "block_count": config.layers,
        "context_length": config.positions,
        "embedding_length": config.width,
        "feed_forward_length": config.hidden,
        "attention.head_count": config.heads,
    }
    if isinstance(config, LlamaConfig):
        values |= {
            "attention.head_count_kv": config.kv_heads,
            "attention.key_length": config.head_dim,
            "attention.value_length": config.head_dim,
            "rope.dimension_count": config.head_dim,
            "rope.freq_base": config.rope_theta,
            "attention.layer_norm_rms_epsilon": config.eps,
        }
    else:
        values["attention.layer_norm_epsilon"] = config.eps
    return {f"{architecture(config)}.{name}": value for name, value in values.items()}


def rope_factors(config: LlamaConfig) -> np.ndarray | None:
    """GGUF's `rope_freqs.weight` [Dh / 2], by which the plain frequencies are divided; None without a stretching."""
    if config.rope_scaling is None:
        return None
    plain = dataclasses.replace(config, rope_scaling=None)
    return (frequencies(plain) / frequencies(config)).astype(np.float32)


def _vocabulary(metadata: Mapping[str, Any], kind: str) -> int:
    return integer_setting(metadata, f"{kind}.vocab_size", len(metadata.get("tokenizer.ggml.tokens", ())) or None)


def _llama(metadata: Mapping[str, Any], tied: bool, factors: np.ndarray | None) -> LlamaConfig:
    if (scaling := metadata.get("llama.rope.scaling.type", "none")) != "none":
        raise ValueError(f"llama.rope.scaling.type {scaling!r} is not supported; use the model's safetensors")
    heads, width = (
        integer_setting(metadata, "llama.attention.head_count"),
        integer_setting(metadata, "llama.embedding_length"),
    )
    head_dim = integer_setting(metadata, "llama.attention.key_length", width // heads)
    if (rotated := integer_setting(metadata, "llama.rope.dimension_count", head_dim)) != head_dim:
        raise ValueError(f"llama.rope.dimension_count {rotated} differs from the head size {head_dim}")
    return LlamaConfig(
        vocab_size=_vocabulary(metadata, "llama"),
        width=width,
        layers=integer_setting(metadata, "llama.block_count"),
        heads=heads,
        kv_heads=integer_setting(metadata, "llama.attention.head_count_kv", heads),
        head_dim=head_dim,
        hidden=integer_setting(metadata, "llama.feed_forward_length"),
        positions=integer_setting(metadata, "llama.context_length"),
        rope_theta=(theta := positive_setting(metadata, "llama.rope.freq_base", 10000.0)),
        rope_scaling=None if factors is None else rope_scaling(factors, theta, head_dim),
        eps=_eps(metadata, "llama.attention.layer_norm_rms_epsilon"),
        tied=tied,
    )


def _gpt2(metadata: Mapping[str, Any]) -> Gpt2Config:
    return Gpt2Config(
        vocab_size=_vocabulary(metadata, "gpt2"),
        width=integer_setting(metadata, "gpt2.embedding_length"),
        layers=integer_setting(metadata, "gpt2.block_count"),
        heads=integer_setting(metadata, "gpt2.attention.head_count"),
        hidden=integer_setting(metadata, "gpt2.feed_forward_length"),
        positions=integer_setting(metadata, "gpt2.context_length"),
        eps=_eps(metadata, "gpt2.attention.layer_norm_epsilon"),
    )


def _eps(metadata: Mapping[str, Any], key: str) -> float:
    """The shortest decimal that rounds to GGUF's float32: what was meant (1e-5, not 9.99999975e-6)."""
    return float(str(np.float32(positive_setting(metadata, key))))


def rope_scaling(factors: np.ndarray, theta: float, head_dim: int) -> RopeScaling | None:
    """The `RopeScaling` that divides the plain frequencies by `factors` [Dh / 2], GGUF's `rope_freqs.weight`.

    A GGUF file has the result of Llama 3.1's stretching, not its parameters. The factor is the largest one (slow
    frequencies are divided by exactly it), the other parameters are assumed to be Llama 3.1's, and the result is
    compared with `factors`.

    Raises:
      ValueError: these parameters do not give these factors.
    """
    largest = float(factors.max())
    if largest == 1.0 == float(factors.min()):
        return None
    scaling = RopeScaling(largest, _LOW, _HIGH, _ORIGINAL_POSITIONS)
    if factors.shape == (head_dim // 2,):
        plain = LlamaConfig(1, head_dim, 1, 1, 1, head_dim, 1, rope_theta=theta)
        stretched = LlamaConfig(1, head_dim, 1, 1, 1, head_dim, 1, rope_theta=theta, rope_scaling=scaling)
        if np.allclose(frequencies(plain) / frequencies(stretched), factors, rtol=1e-5, atol=0):
            return scaling
    raise ValueError(
        f"{ROPE_FACTORS} {factors.shape} does not hold the factors of Llama 3.1's positions (factor {largest:g}, low "
        f"{_LOW:g}, high {_HIGH:g}, {_ORIGINAL_POSITIONS} positions, head size {head_dim}); use the model's safetensors"
    )
