"""GGUF's names, layouts and metadata: put back by hand, Llama 3.1's factors known again, what is unknown refused."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.models.lm import convert_gguf
from ecr_jax.models.lm.gpt2 import Gpt2Config
from ecr_jax.models.lm.llama import LlamaConfig, RopeScaling
from tests.gguf_files import rope_factors

METADATA = {
    "general.architecture": "llama",
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.embedding_length": 32,
    "llama.block_count": 3,
    "llama.feed_forward_length": 10,
    "llama.context_length": 64,
    "llama.vocab_size": 11,
    "llama.attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
    "llama.rope.freq_base": 500000.0,
}
LLAMA = LlamaConfig(11, 32, 3, 4, 2, 8, 10, positions=64, rope_theta=500000.0)


def test_names():
    assert convert_gguf.hf_name("blk.12.attn_q.weight", "llama") == "model.layers.12.self_attn.q_proj.weight"
    assert convert_gguf.hf_name("output_norm.weight", "llama") == "model.norm.weight"
    assert convert_gguf.hf_name("blk.0.ffn_up.bias", "gpt2") == "transformer.h.0.mlp.c_fc.bias"
    with pytest.raises(ValueError, match="'blk.0.attn_q.bias' in a GGUF file of architecture llama"):
        convert_gguf.hf_name("blk.0.attn_q.bias", "llama")


def test_rows_of_queries_and_keys_are_put_back_by_hand():
    # One key head of size 4 (and two of queries): llama.cpp has features 0, 2, 1, 3 in that order.
    config = LlamaConfig(11, 12, 3, 2, 1, 4, 10)
    stored = np.repeat(np.array([[0.0], [2.0], [1.0], [3.0]]), 12, axis=1)
    ours = convert_gguf.to_hf_layout("blk.0.attn_k.weight", stored, config)
    np.testing.assert_array_equal(ours[:, 0], [0, 1, 2, 3])
    both = np.concatenate([stored, stored + 4])
    np.testing.assert_array_equal(convert_gguf.to_hf_layout("blk.0.attn_q.weight", both, config)[:, 0], np.arange(8))
    assert convert_gguf.to_hf_layout("blk.0.attn_v.weight", stored, config) is stored


def test_matrices_of_gpt2_are_turned():
    config = Gpt2Config(11, 12, 3, 4, 10)
    matrix, table = np.arange(6).reshape(2, 3), np.arange(4).reshape(2, 2)
    np.testing.assert_array_equal(convert_gguf.to_hf_layout("blk.0.ffn_up.weight", matrix, config), matrix.T)
    assert convert_gguf.to_hf_layout("token_embd.weight", table, config) is table
    assert convert_gguf.to_hf_layout("blk.0.attn_output.bias", table, config) is table


def test_metadata_become_configurations():
    assert convert_gguf.from_gguf(METADATA, {"output.weight": lambda: 1})[1] == LLAMA
    assert convert_gguf.from_gguf(METADATA, {})[1].tied
    gpt2 = {
        "general.architecture": "gpt2",
        "gpt2.attention.head_count": 3,
        "gpt2.embedding_length": 24,
        "gpt2.block_count": 2,
        "gpt2.feed_forward_length": 96,
        "gpt2.context_length": 16,
        "gpt2.attention.layer_norm_epsilon": 1e-5,
        "tokenizer.ggml.tokens": ["a"] * 40,
    }
    assert convert_gguf.from_gguf(gpt2, {})[1] == Gpt2Config(40, 24, 2, 3, 96, positions=16)


@pytest.mark.parametrize("theta, head_dim, factor", [(5e5, 128, 8.0), (5e5, 64, 32.0)])
def test_factors_of_llama_3_1_and_3_2_are_known_again(theta, head_dim, factor):
    factors = rope_factors(theta, head_dim, factor)
    assert factors[0] == 1 and factors[-1] == factor and ((factors > 1) & (factors < factor)).any()  # all three kinds
    assert convert_gguf.rope_scaling(factors, theta, head_dim) == RopeScaling(factor, 1.0, 4.0, 8192)
    assert convert_gguf.rope_scaling(np.ones_like(factors), theta, head_dim) is None
    metadata = METADATA | {"llama.attention.key_length": head_dim, "llama.rope.freq_base": theta}
    readers, config = convert_gguf.from_gguf(metadata, {"rope_freqs.weight": lambda: factors})
    assert config.rope_scaling == RopeScaling(factor, 1.0, 4.0, 8192) and not readers


def test_other_factors_are_refused():
    for factors in (
        rope_factors(5e5, 128, 8.0, positions=4096),
        rope_factors(5e5, 128, 8.0, high=3.0),
        rope_factors(1e4, 128, 8.0),
        rope_factors(5e5, 64, 8.0),
        np.full(64, 2.0, np.float32),
    ):
        with pytest.raises(ValueError, match=r"rope_freqs.weight .* does not hold the factors .* model's safetensors"):
            convert_gguf.rope_scaling(factors, 5e5, 128)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"general.architecture": "qwen2"}, "GGUF architecture 'qwen2' is not supported, only llama, gpt2"),
        ({"llama.rope.scaling.type": "linear"}, "llama.rope.scaling.type 'linear' is not supported; use the model's"),
        ({"split.count": 3}, "one of 3 parts; join them"),
        ({"llama.embedding_length": None}, "lack the field 'llama.embedding_length'"),
        ({"llama.attention.head_count_kv": [2, 2, 1]}, r"head_count_kv=\[2, 2, 1\] must be a whole number"),
        ({"llama.rope.dimension_count": 4}, "llama.rope.dimension_count 4 differs from the head size 8"),
        ({"llama.vocab_size": None}, "lack the field 'llama.vocab_size'"),
    ],
)
def test_metadata_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        convert_gguf.from_gguf(METADATA | change, {})
