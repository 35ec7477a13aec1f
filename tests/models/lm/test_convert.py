"""Conversion between Hugging Face's names and configurations and ours: both ways, every shape, every complaint."""

from __future__ import annotations

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.models.lm import bert, convert, gpt2, llama

CONFIGS = {
    "llama": llama.LlamaConfig(11, 12, 3, 4, 2, 4, 10),
    "llama_tied": llama.LlamaConfig(11, 12, 3, 4, 2, 4, 10, tied=True),
    "gpt2": gpt2.Gpt2Config(11, 12, 3, 4, 10, positions=8),
    "bert": bert.BertConfig(11, 12, 3, 4, 10, positions=8),
}
RULES = {llama.LlamaConfig: llama, gpt2.Gpt2Config: gpt2, bert.BertConfig: bert}


def init(config):
    """Random parameters, drawn by numpy: nothing is compiled."""
    tokens, mask = jax.ShapeDtypeStruct((1, 4), jnp.int32), jax.ShapeDtypeStruct((1, 4), bool)
    shapes = jax.eval_shape(convert.module_of(config)(config).init, jax.random.key(0), tokens, mask)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("name", CONFIGS)
def test_to_hugging_face_and_back_changes_nothing(name):
    config = CONFIGS[name]
    params = init(config)
    back = convert.from_hf(convert.to_hf(params, config), config)
    jax.tree.map(np.testing.assert_array_equal, params, back)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_has_one_sharding_rule_of_its_rank(name):
    config = CONFIGS[name]
    for path, leaf in convert.flatten(init(config)).items():
        covering = [axes for pattern, axes in RULES[type(config)].SHARDING_RULES if re.fullmatch(pattern, path)]
        assert len(covering) == 1, path
        assert len(covering[0]) == leaf.ndim, path


def test_linear_weights_are_transposed_and_layers_stacked():
    config = CONFIGS["llama"]
    tensors = convert.to_hf(init(config), config)
    weight = np.arange(8 * 12, dtype=np.float32).reshape(8, 12)  # [Hkv * Dh, D]
    tensors["model.layers.1.self_attn.k_proj.weight"] = weight
    kernel = convert.from_hf(tensors, config)["layers"]["attention"]["k"]["kernel"]
    assert kernel.shape == (3, 12, 8)
    np.testing.assert_array_equal(kernel[1], weight.T)


def test_gpt2_weights_are_not_transposed():
    config = CONFIGS["gpt2"]
    tensors = convert.to_hf(init(config), config)
    weight = np.arange(12 * 36, dtype=np.float32).reshape(12, 36)
    tensors["transformer.h.2.attn.c_attn.weight"] = weight
    np.testing.assert_array_equal(convert.from_hf(tensors, config)["layers"]["attention"]["qkv"]["kernel"][2], weight)


def test_prefixes_may_be_absent_and_buffers_are_passed_over():
    config = CONFIGS["gpt2"]
    params = init(config)
    tensors = {name.removeprefix("transformer."): array for name, array in convert.to_hf(params, config).items()}
    tensors |= {"h.0.attn.bias": np.ones((1, 1, 8, 8)), "lm_head.weight": tensors["wte.weight"]}
    jax.tree.map(np.testing.assert_array_equal, params, convert.from_hf(tensors, config))
    config = CONFIGS["bert"]
    params = init(config)
    tensors = {f"roberta.{name}": array for name, array in convert.to_hf(params, config).items()}
    tensors |= {"roberta.pooler.dense.weight": np.ones((12, 12)), "lm_head.bias": np.ones(11)}
    jax.tree.map(np.testing.assert_array_equal, params, convert.from_hf(tensors, config))


def test_all_that_does_not_fit_is_named_at_once():
    config = CONFIGS["llama"]
    tensors = convert.to_hf(init(config), config)
    del tensors["model.layers.2.mlp.up_proj.weight"], tensors["lm_head.weight"]
    tensors["model.layers.3.mlp.up_proj.weight"] = np.ones((10, 12), np.float32)
    tensors["model.norm.weight"] = np.ones(13, np.float32)
    with pytest.raises(ValueError, match="do not fit") as error:
        convert.from_hf(tensors, config)
    for part in (
        "missing: layers.2.mlp.up_proj.weight, lm_head.weight",
        "not used by LlamaConfig: layers.3.mlp.up_proj.weight",
        "model.norm.weight is (13,), not (12,)",
    ):
        assert part in str(error.value)


def test_trees_that_do_not_fit_are_not_exported():
    config = CONFIGS["bert"]
    params = init(config)
    with pytest.raises(ValueError, match="head"):
        convert.to_hf(params | {"head": np.ones(3)}, config)
    params["layers"]["mlp"]["up"]["bias"] = np.ones((3, 9))
    with pytest.raises(ValueError, match=r"layers/mlp/up/bias is \(3, 9\), not \(3, 10\)"):
        convert.to_hf(params, config)


@pytest.mark.parametrize(
    "config",
    [
        *CONFIGS.values(),
        llama.LlamaConfig(11, 12, 3, 4, 1, 6, 10, 64, 5e5, llama.RopeScaling(8.0, 1.0, 4.0, 16), 1e-6, tied=True),
        bert.BertConfig(11, 12, 3, 4, 10, positions=10, token_types=1, position_offset=2, eps=1e-5),
    ],
    ids=lambda config: type(config).__name__,
)
def test_configurations_come_back(config):
    written = json.loads(json.dumps(convert.config_to_hf(config)))
    assert convert.config_from_hf(written) == config


LLAMA_JSON = convert.config_to_hf(CONFIGS["llama"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "mamba"}, "model_type 'mamba' is not supported; supported are llama, gpt2, bert, roberta"),
        ({"attention_bias": True}, "attention_bias=True is not supported"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn' is not supported; supported are default"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type 'linear' is not supported"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "lack the field 'low_freq_factor'"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5 is not supported"),
        ({"hidden_size": None}, "lack the field 'hidden_size'"),
        ({"hidden_size": "12"}, "hidden_size='12' must be a whole number of at least 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0 must be a whole number of at least 1"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps=-1.0 must be a number above 0"),
        ({"num_key_value_heads": 3}, "heads=4 must be a multiple of kv_heads=3"),
    ],
)
def test_configurations_refuse_what_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        convert.config_from_hf(LLAMA_JSON | change)


def test_old_and_new_rope_fields_say_the_same():
    old = {"model_type": "llama", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    old |= {"intermediate_size": 4}
    stretched = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    config = convert.config_from_hf(old | {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **stretched}})
    newer = convert.config_from_hf(old | {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **stretched}})
    assert config == newer
    assert config.rope_scaling == llama.RopeScaling(8.0, 1.0, 4.0, 64)
    assert config.kv_heads == 2 and config.head_dim == 4
