"""Loading language models and tokenizers: SmolLM2 and MiniLM equal transformers, bad files are named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import gguf
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from ecr_jax import pretrained
from ecr_jax.models import convert, llama

GOLDEN = Path(__file__).parent / "golden"
CONFIG = llama.LlamaConfig(300, 16, 3, 4, 2, 4, 10, positions=32, rope_theta=500.0, tied=True)
TOKENS = np.array([[1, 2, 3, 4]])


def tensors(config=CONFIG, seed=0):
    """Random weights under Hugging Face's names."""
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    mask = jax.ShapeDtypeStruct((1, 4), bool)
    shapes = jax.eval_shape(convert.module_of(config)(config).init, jax.random.key(0), tokens, mask)["params"]
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)
    return convert.to_hf(params, config)


def config_json(config=CONFIG):
    return {
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.hidden,
        "max_position_embeddings": config.positions,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.eps,
        "tie_word_embeddings": config.tied,
    }


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config_json()))
    save_file(tensors(), tmp_path / "model.safetensors")
    return tmp_path


def byte_alphabet():
    """GPT-2's printable names of the 256 bytes, in the order of the bytes."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def write_gguf(path, weights, pre="smollm", architecture="llama"):
    """A GGUF file as llama.cpp's converter writes it, with a byte-level tokenizer."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(CONFIG.layers)
    writer.add_context_length(CONFIG.positions)
    writer.add_embedding_length(CONFIG.width)
    writer.add_feed_forward_length(CONFIG.hidden)
    writer.add_head_count(CONFIG.heads)
    writer.add_head_count_kv(CONFIG.kv_heads)
    writer.add_rope_freq_base(CONFIG.rope_theta)
    writer.add_layer_norm_rms_eps(CONFIG.eps)
    words = ["<|endoftext|>", "<|im_start|>", *byte_alphabet(), "he", "ll", "hell", "hello", "Ġhello"]
    words += [f"unused{i}" for i in range(CONFIG.vocab_size - len(words))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(words)
    writer.add_token_types([3, 3] + [1] * (len(words) - 2))
    writer.add_token_merges(["h e", "l l", "he ll", "hell o", "Ġ hello"])
    writer.add_eos_token_id(0)
    writer.add_chat_template("{{ messages[0]['content'] }}!")
    for theirs, ours in convert.GGUF_LLAMA:
        for layer in range(CONFIG.layers if "{l}" in theirs else 1):
            name = ours.replace("{l}", str(layer))
            if name not in weights:
                continue
            tensor = weights[name]
            if name.endswith(("q_proj.weight", "k_proj.weight")):  # llama.cpp's permutation, from its converter
                heads = CONFIG.heads if "q_proj" in name else CONFIG.kv_heads
                halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, tensor.shape[1])
                tensor = halves.swapaxes(1, 2).reshape(tensor.shape)
            writer.add_tensor(theirs.replace("{l}", str(layer)), np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_a_folder_its_shards_and_a_gguf_file_are_one_model(folder, tmp_path):
    model = pretrained.load(folder)
    assert model.config == CONFIG
    weights = tensors()
    assert_same(model.params, convert.from_hf(weights, CONFIG))
    names = sorted(weights)
    (folder / "model.safetensors").unlink()
    halves = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, part in halves.items():
        save_file({name: weights[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same(model.params, pretrained.load(folder).params)
    from_gguf = pretrained.load(write_gguf(tmp_path / "model.gguf", weights))
    assert_same(model.params, from_gguf.params)
    assert dataclasses.replace(from_gguf.config, eps=CONFIG.eps) == CONFIG
    assert from_gguf.config.eps == pytest.approx(CONFIG.eps)


def test_the_lowest_layers_and_the_final_norm_are_kept(folder):
    whole, low = pretrained.load(folder), pretrained.load(folder, layers=2)
    assert low.config.layers == 2
    assert_same(low.params["layers"], jax.tree.map(lambda leaf: leaf[:2], whole.params["layers"]))
    assert_same(low.params["norm"], whole.params["norm"])
    for layers in (0, 4):
        with pytest.raises(ValueError, match=f"layers={layers}: .* has 3 layers; ask for 1 to 3"):
            pretrained.load(folder, layers=layers)


def test_bfloat16_weights_are_read_and_kept(folder):
    weights = {name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in tensors().items()}
    save_file(weights, folder / "model.safetensors")
    assert pretrained.load(folder).params["norm"]["scale"].dtype == jnp.float32
    low = pretrained.load(folder, dtype=jnp.bfloat16)
    assert low.params["norm"]["scale"].dtype == jnp.bfloat16
    hidden = jax.jit(low.module.apply)({"params": low.params}, TOKENS, TOKENS > 0).hidden
    assert hidden.dtype == jnp.bfloat16


def test_extended_models_read_the_new_tokens(folder):
    model = pretrained.load(folder, layers=1)
    longer = pretrained.extend(model, jnp.ones((2, 16)))
    assert longer.config.vocab_size == longer.module.config.vocab_size == 302
    output = jax.eval_shape(longer.module.apply, {"params": longer.params}, np.array([[301]]), np.ones((1, 1), bool))
    assert output.hidden.shape == (1, 1, 16)
    np.testing.assert_array_equal(longer.params["embed"]["embedding"][300:], 1)


def test_bad_models_are_named(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        pretrained.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"neither a folder nor a \.gguf"):
        pretrained.load(folder / "config.json")
    (folder / "config.json").write_text(json.dumps(config_json() | {"intermediate_size": 11}))
    with pytest.raises(ValueError, match=r"gate_proj.weight is \(10, 16\), not \(11, 16\)") as error:
        pretrained.load(folder)
    assert str(folder) in str(error.value)
    (folder / "config.json").write_text(json.dumps(config_json() | {"model_type": "t5"}))
    with pytest.raises(ValueError, match="model_type 't5' is not supported"):
        pretrained.load(folder)
    (folder / "config.json").write_text(json.dumps(config_json()))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"model.safetensors is missing \(pytorch_model.bin would need pickle"):
        pretrained.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        pretrained.load(folder)
    with pytest.raises(FileNotFoundError, match="has no tokenizer.json"):
        pretrained.load_tokenizer(folder)


def test_bad_gguf_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="GGUF architecture 'phi2' is not supported"):
        pretrained.load(write_gguf(tmp_path / "a.gguf", tensors(), architecture="phi2"))
    with pytest.raises(ValueError, match="pre-tokenizer 'qwen2' is not supported"):
        pretrained.load_tokenizer(write_gguf(tmp_path / "b.gguf", tensors(), pre="qwen2"))
    some = {name: tensor for name, tensor in tensors().items() if "layers.2.mlp" not in name}
    with pytest.raises(ValueError, match=r"c\.gguf: .*missing: layers.2.mlp.gate_proj.weight"):
        pretrained.load(write_gguf(tmp_path / "c.gguf", some))


def test_a_tokenizer_is_built_from_gguf_metadata(tmp_path):
    tokenizer = pretrained.load_tokenizer(write_gguf(tmp_path / "model.gguf", {}))
    assert tokenizer.tokenize("hello hello hell 1999") == ["hello", "Ġhello", "Ġ", "hell", "Ġ", "1", "9", "9", "9"]
    text = "  naïve\n\n“hello”\t12 🎬 it's"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer("<|im_start|>hello")["input_ids"][0] == 1
    assert tokenizer.eos_token_id == 0
    assert tokenizer.decode([1, *tokenizer("hello")["input_ids"], 0], skip_special_tokens=True) == "hello"
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False) == "hello!"
    assert tokenizer.model_max_length == CONFIG.positions


@pytest.mark.slow
def test_smollm2_equals_transformers(hub_model):
    """transformers on the same GGUF file, float32: logits within 2e-4 (they reach 20), states within 2e-4."""
    arrays = np.load(GOLDEN / "smollm2.npz")
    path = hub_model("smollm2-135m-instruct")
    model, mask, at = pretrained.load(path), arrays["mask"], arrays["at"]
    hidden = jax.jit(model.module.apply)({"params": model.params}, arrays["tokens"], mask).hidden
    np.testing.assert_allclose(np.asarray(hidden)[mask][:, ::24], arrays["hidden"][mask], atol=2e-4)
    logits = np.asarray(llama.logits(model.params, hidden[:, at]))
    ours = np.take_along_axis(logits, arrays["top_ids"], axis=-1)
    np.testing.assert_allclose(ours, arrays["top_logits"], atol=2e-4)
    np.testing.assert_array_equal(logits.argmax(axis=-1), arrays["top_ids"][..., 0])


@pytest.mark.slow
def test_smollm2s_tokenizer_equals_transformers(hub_model):
    arrays = np.load(GOLDEN / "smollm2.npz")
    tokenizer = pretrained.load_tokenizer(hub_model("smollm2-135m-instruct"))
    for sentence, tokens, mask in zip(arrays["sentences"], arrays["tokens"], arrays["mask"], strict=True):
        assert tokenizer(str(sentence))["input_ids"] == tokens[mask].tolist()
    message = [{"role": "user", "content": str(arrays["sentences"][0])}]
    chat = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert chat == str(arrays["chat"])
    tokens = tokenizer(chat)["input_ids"]
    assert tokens[0] == 1 and tokens.count(1) == 3 and tokens.count(2) == 2  # <|im_start|>, <|im_end|>
    assert tokenizer.convert_tokens_to_ids("<|endoftext|>") == 0
    text = "It's 1994: \n\n  naïve café, “quoted” – 🎬 <movie> 東京物語"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_minilm_equals_transformers(hub_model):
    """transformers on the same folder, float32: states within 1e-5."""
    arrays = np.load(GOLDEN / "minilm.npz")
    path = hub_model("minilm-l6")
    model, mask = pretrained.load(path), arrays["mask"]
    hidden = jax.jit(model.module.apply)({"params": model.params}, arrays["tokens"], mask).hidden
    np.testing.assert_allclose(np.asarray(hidden)[mask][:, ::12], arrays["hidden"][mask], atol=1e-5)
    tokenizer = pretrained.load_tokenizer(path)
    for sentence, tokens, real in zip(arrays["sentences"], arrays["tokens"], mask, strict=True):
        assert tokenizer(str(sentence))["input_ids"] == tokens[real].tolist()
