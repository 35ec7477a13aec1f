"""The real models have their published numbers of parameters, read from settings as their config.json gives them.

A tied output is counted once. Published numbers of encoders include the pooler (a [D, D] matrix and its bias), which
nothing here uses and which is not read.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ecr_jax.models.lm import convert
from ecr_jax.models.lm.bert import BertConfig


def gpt2(width, layers, heads):
    return {"model_type": "gpt2", "vocab_size": 50257, "n_embd": width, "n_layer": layers, "n_head": heads,
            "n_positions": 1024}  # fmt: skip


def llama(vocabulary, width, layers, heads, kv_heads, hidden, tied=False, **more):
    return {"model_type": "llama", "vocab_size": vocabulary, "hidden_size": width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads, "intermediate_size": hidden,
            "tie_word_embeddings": tied, **more}  # fmt: skip


def llama3(factor):
    return {"rope_theta": 500000.0, "max_position_embeddings": 131072, "rope_scaling": {
        "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192}}  # fmt: skip


def bert(vocabulary, width, layers, heads, positions=512, types=2, kind="bert"):
    return {"model_type": kind, "vocab_size": vocabulary, "hidden_size": width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "intermediate_size": 4 * width, "max_position_embeddings": positions,
            "type_vocab_size": types, "pad_token_id": 1 if kind == "roberta" else 0}  # fmt: skip


def roberta(width, layers, heads):
    return bert(50265, width, layers, heads, positions=514, types=1, kind="roberta")


PUBLISHED = {
    "gpt2 and DialoGPT-small": (gpt2(768, 12, 12), 124_439_808),
    "gpt2-medium and DialoGPT-medium": (gpt2(1024, 24, 16), 354_823_168),
    "gpt2-large and DialoGPT-large": (gpt2(1280, 36, 20), 774_030_080),
    "gpt2-xl": (gpt2(1600, 48, 25), 1_557_611_200),
    "Llama-2-7b": (llama(32000, 4096, 32, 32, 32, 11008), 6_738_415_616),
    "Llama-2-13b": (llama(32000, 5120, 40, 40, 40, 13824), 13_015_864_320),
    "Meta-Llama-3-8B": (llama(128256, 4096, 32, 32, 8, 14336, rope_theta=500000.0), 8_030_261_248),
    "Llama-3.1-8B": (llama(128256, 4096, 32, 32, 8, 14336, **llama3(8.0)), 8_030_261_248),
    "Llama-3.2-1B": (llama(128256, 2048, 16, 32, 8, 8192, True, head_dim=64, **llama3(32.0)), 1_235_814_400),
    "Llama-3.2-3B": (llama(128256, 3072, 28, 24, 8, 8192, True, head_dim=128, **llama3(32.0)), 3_212_749_824),
    "SmolLM2-135M": (llama(49152, 576, 30, 9, 3, 1536, True), 134_515_008),
    "SmolLM2-360M": (llama(49152, 960, 32, 15, 5, 2560, True), 361_821_120),
    "SmolLM2-1.7B": (llama(49152, 2048, 24, 32, 32, 8192, True), 1_711_376_384),
    "bert-base-uncased": (bert(30522, 768, 12, 12), 109_482_240),
    "bert-large-uncased": (bert(30522, 1024, 24, 16), 335_141_888),
    "roberta-base": (roberta(768, 12, 12), 124_645_632),
    "roberta-large": (roberta(1024, 24, 16), 355_359_744),
    "all-MiniLM-L6-v2": (bert(30522, 384, 6, 12), 22_713_216),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_number_of_parameters(name):
    values, published = PUBLISHED[name]
    config = convert.config_from_hf(values)
    tokens, mask = jax.ShapeDtypeStruct((1, 4), jnp.int32), jax.ShapeDtypeStruct((1, 4), bool)
    shapes = jax.eval_shape(convert.module_of(config)(config).init, jax.random.key(0), tokens, mask)["params"]
    pooler = config.width**2 + config.width if isinstance(config, BertConfig) else 0
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) + pooler == published
