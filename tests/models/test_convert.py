"""Conversion between Hugging Face's, GGUF's and our names: both ways, every shape, every complaint."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.models import bert, convert, gpt2, llama

GOLDEN = Path(__file__).parents[1] / "golden"
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


def test_gguf_names():
    assert convert.hf_name("blk.12.attn_q.weight") == "model.layers.12.self_attn.q_proj.weight"
    assert convert.hf_name("output_norm.weight") == "model.norm.weight"
    with pytest.raises(ValueError, match="rope_freqs"):
        convert.hf_name("rope_freqs.weight")


def test_gguf_rows_of_queries_and_keys_are_put_back_by_hand():
    # One key head of size 4 (and two of queries): llama.cpp has features 0, 2, 1, 3 in that order.
    config = llama.LlamaConfig(11, 12, 3, 2, 1, 4, 10)
    stored = np.repeat(np.array([[0.0], [2.0], [1.0], [3.0]]), 12, axis=1)
    ours = convert.from_gguf_tensor("blk.0.attn_k.weight", stored, config)
    np.testing.assert_array_equal(ours[:, 0], [0, 1, 2, 3])
    both = np.concatenate([stored, stored + 4])
    np.testing.assert_array_equal(convert.from_gguf_tensor("blk.0.attn_q.weight", both, config)[:, 0], np.arange(8))
    assert convert.from_gguf_tensor("blk.0.attn_v.weight", stored, config) is stored


def test_configurations_refuse_what_is_not_implemented():
    values = json.loads(str(np.load(GOLDEN / "tiny_llama.npz")["config"]))
    with pytest.raises(ValueError, match="model_type 'mamba' is not supported; supported are llama"):
        convert.config_from_hf({"model_type": "mamba"})
    with pytest.raises(ValueError, match="attention_bias=True is not supported"):
        convert.config_from_hf(values | {"attention_bias": True})
    with pytest.raises(ValueError, match="rope_type 'yarn'"):
        convert.config_from_hf(values | {"rope_parameters": {"rope_type": "yarn"}})
    with pytest.raises(ValueError, match="lacks the field 'hidden_size'"):
        convert.config_from_hf({name: value for name, value in values.items() if name != "hidden_size"})
    with pytest.raises(ValueError, match="GGUF architecture 'qwen2'"):
        convert.config_from_gguf({"general.architecture": "qwen2"}, tied=True)
    with pytest.raises(ValueError, match="lacks llama.embedding_length|lacks llama.attention.head_count"):
        convert.config_from_gguf({"general.architecture": "llama"}, tied=True)


def test_old_and_new_rope_fields_say_the_same():
    old = {"model_type": "llama", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    old |= {"intermediate_size": 4}
    stretched = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    config = convert.config_from_hf(old | {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **stretched}})
    newer = convert.config_from_hf(old | {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **stretched}})
    assert config == newer
    assert config.rope_scaling == llama.RopeScaling(8.0, 1.0, 4.0, 64)
    assert config.kv_heads == 2 and config.head_dim == 4


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["llama", "llama3", "gpt2", "bert", "roberta"])
def test_transformers_reads_what_we_export(name):
    """Our random weights → to_hf → torch: the same states, another seed than the golden arrays."""
    torch = pytest.importorskip("torch")
    import transformers

    arrays = np.load(GOLDEN / f"tiny_{name}.npz")
    values = json.loads(str(arrays["config"]))
    config = convert.config_from_hf(values)
    params = init(config)
    theirs = transformers.AutoConfig.for_model(**values)
    decoder = not isinstance(config, bert.BertConfig)
    model = (transformers.AutoModelForCausalLM if decoder else transformers.AutoModel).from_config(theirs).eval()
    state = {key: torch.tensor(np.asarray(value, np.float32)) for key, value in convert.to_hf(params, config).items()}
    keys = model.load_state_dict(state, strict=False)
    assert not keys.unexpected_keys
    assert all("lm_head" in key or "pooler" in key or "position_ids" in key for key in keys.missing_keys)
    tokens, mask = arrays["tokens"], arrays["mask"]
    with torch.no_grad():
        read = {"input_ids": torch.tensor(tokens), "attention_mask": torch.tensor(mask)}
        want = model(**read, output_hidden_states=True).hidden_states[-1].numpy()
    hidden = jax.jit(convert.module_of(config)(config).apply)({"params": params}, tokens, mask).hidden
    np.testing.assert_allclose(np.asarray(hidden)[mask], want[mask], atol=2e-5)
