"""Small GGUF files as llama.cpp's converter writes them: any of our decoders, any storage, a byte-level tokenizer."""

from __future__ import annotations

import gguf
import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

from ecr_jax.models.lm import convert, convert_gguf
from ecr_jax.models.lm.llama import LlamaConfig

SPECIAL = ("<|endoftext|>", "<|im_start|>")
MERGES = ("h e", "l l", "he ll", "hell o", "Ġ hello")


def words(size: int) -> list[str]:
    """A vocabulary: two control tokens, the 256 bytes, the results of MERGES, a word without a merge, and fillers."""
    tokens = [*SPECIAL, *sorted(ByteLevel.alphabet()), "he", "ll", "hell", "hello", "Ġhello", "orld"]
    return tokens + [f"unused{number}" for number in range(size - len(tokens))]


def write(path, config, params, kind=gguf.GGMLQuantizationType.F32, pre="smollm", architecture=None, factors=None,
          skip="", add_bos=False):  # fmt: skip
    """Writes `params` (none when None) in the storage `kind`; matrices only, as llama.cpp keeps norms in float32."""
    llama = isinstance(config, LlamaConfig)
    writer = gguf.GGUFWriter(path, architecture or ("llama" if llama else "gpt2"))
    writer.add_block_count(config.layers)
    writer.add_context_length(config.positions)
    writer.add_embedding_length(config.width)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    if llama:
        writer.add_head_count_kv(config.kv_heads)
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_key_length(config.head_dim)
        writer.add_rope_freq_base(config.rope_theta)
        writer.add_layer_norm_rms_eps(config.eps)
    else:
        writer.add_layer_norm_eps(config.eps)
    tokens = words(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(add_bos)
    writer.add_chat_template("{{ messages[0]['content'] }}!")
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    if params is not None:
        _add_weights(writer, config, params, kind, skip)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_weights(writer, config, params, kind, skip):
    weights = convert.to_hf(params, config)
    llama = isinstance(config, LlamaConfig)
    for theirs, ours in convert_gguf.LLAMA if llama else convert_gguf.GPT2:
        for layer in range(config.layers if "{l}" in theirs else 1):
            name, ours_here = theirs.replace("{l}", str(layer)), ours.replace("{l}", str(layer))
            if ours_here not in weights or (skip and skip in name):
                continue
            tensor = stored(name, weights[ours_here], config)
            if tensor.ndim == 1 or kind == gguf.GGMLQuantizationType.F32:
                writer.add_tensor(name, tensor)
            else:
                writer.add_tensor(name, gguf.quantize(tensor, kind), raw_dtype=kind)


def stored(name, tensor, config):
    """A Hugging Face tensor as llama.cpp's converter lays it out: [out, in], heads' halves of q and k interleaved."""
    if not isinstance(config, LlamaConfig):
        transposed = name.split(".")[-2] in ("attn_qkv", "attn_output", "ffn_up", "ffn_down") and tensor.ndim == 2
        return np.ascontiguousarray(tensor.T if transposed else tensor)
    if not name.endswith(("attn_q.weight", "attn_k.weight")):
        return tensor
    heads = config.heads if "attn_q" in name else config.kv_heads
    halves = tensor.reshape(heads, 2, config.head_dim // 2, tensor.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(tensor.shape))


def rope_factors(theta, head_dim, factor, low=1.0, high=4.0, positions=8192):
    """llama.cpp's `rope_freqs.weight` for Llama 3.1: 1 for fast frequencies, `factor` for slow ones, between: mixed."""
    factors = []
    for pair in range(head_dim // 2):
        wavelength = 2 * np.pi * theta ** (2 * pair / head_dim)
        if wavelength < positions / high:
            factors.append(1.0)
        elif wavelength > positions / low:
            factors.append(factor)
        else:
            unscaled = (positions / wavelength - low) / (high - low)
            factors.append(1 / ((1 - unscaled) / factor + unscaled))
    return np.array(factors, np.float32)
