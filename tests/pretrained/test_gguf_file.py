"""GGUF files: every storage gives its dequantised weights, the tokenizer is built, half a file is named."""

from __future__ import annotations

import gguf
import jax
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import convert, lora
from ecr_jax.models.lm.gpt2 import Gpt2Config
from ecr_jax.models.lm.llama import LlamaConfig, RopeScaling
from ecr_jax.pretrained import gguf_file, language_models
from tests import gguf_files
from tests.tiny import random_model, tokenizer

LLAMA = LlamaConfig(320, 32, 2, 4, 2, 8, 64, positions=32, rope_theta=500.0, tied=True)
GPT2 = Gpt2Config(320, 32, 2, 4, 64, positions=32)


@pytest.mark.parametrize("config", [LLAMA, LlamaConfig(320, 32, 2, 4, 1, 8, 64, positions=32), GPT2])
def test_what_is_written_is_read(tmp_path, config):
    model = random_model(config)
    read = language_models.load(gguf_files.write(tmp_path / "model.gguf", config, model.params))
    assert read.config == config
    jax.tree.map(np.testing.assert_array_equal, read.params, model.params)


STORED = [Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1]


@pytest.mark.parametrize("config", [LLAMA, GPT2])
@pytest.mark.parametrize("kind", STORED, ids=lambda kind: kind.name)
def test_quantised_weights_are_the_nearest_that_their_storage_has(tmp_path, config, kind):
    params = random_model(config).params
    read = language_models.load(gguf_files.write(tmp_path / "model.gguf", config, params, kind)).params
    theirs = gguf_files.stored("blk.1.ffn_up.weight", np.asarray(params["layers"]["mlp"]["up"]["kernel"][1]), config)
    theirs = theirs if config is GPT2 else theirs.T  # [out, in]: blocks lie along the inputs
    expected = gguf.dequantize(gguf.quantize(np.ascontiguousarray(theirs), kind), kind)
    np.testing.assert_array_equal(read["layers"]["mlp"]["up"]["kernel"][1], expected.T)
    np.testing.assert_array_equal(read["norm"]["scale"], params["norm"]["scale"])  # kept in float32
    # A block of 32 with b bits in a range of about 2: every storage is off by at most a step.
    step = {Kind.F16: 1e-3, Kind.BF16: 8e-3, Kind.Q8_0: 0.01, Kind.Q5_0: 0.1, Kind.Q5_1: 0.1}.get(kind, 0.2)
    for path, leaf in convert.flatten(read).items():
        assert np.abs(leaf - convert.flatten(params)[path]).max() < step, path


def test_storage_that_cannot_be_dequantised_is_named(tmp_path, monkeypatch):
    def unknown(data, kind):
        raise NotImplementedError

    path = gguf_files.write(tmp_path / "a.gguf", LLAMA, random_model(LLAMA).params, Kind.Q4_0)
    monkeypatch.setattr(gguf_file, "dequantize", unknown)
    with pytest.raises(ValueError, match=r"a\.gguf: token_embd.weight is Q4_0, which cannot be dequantised"):
        language_models.load(path)


def test_files_of_others_are_named(tmp_path):
    params = random_model(LLAMA).params
    with pytest.raises(ValueError, match=r"a\.gguf: GGUF architecture 'phi2' is not supported"):
        language_models.load(gguf_files.write(tmp_path / "a.gguf", LLAMA, params, architecture="phi2"))
    with pytest.raises(ValueError, match="pre-tokenizer 'qwen2' is not supported"):
        language_models.load_tokenizer(gguf_files.write(tmp_path / "b.gguf", LLAMA, None, pre="qwen2"))
    with pytest.raises(ValueError, match=r"c\.gguf: .*missing: layers.0.mlp.gate_proj.weight, layers.1.mlp.gate"):
        language_models.load(gguf_files.write(tmp_path / "c.gguf", LLAMA, params, skip="ffn_gate"))


def test_half_a_file_is_named(tmp_path):
    """Cut anywhere, in the metadata, the table of tensors or the weights."""
    whole = gguf_files.write(tmp_path / "whole.gguf", LLAMA, random_model(LLAMA).params).read_bytes()
    data = gguf_files.write(tmp_path / "empty.gguf", LLAMA, None).stat().st_size
    path = tmp_path / "half.gguf"
    for size in [0, 3, 4, 7, 12, 23, 24, 30, *range(40, data + 2500, 173), *range(data, len(whole), 20_011)]:
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"half\.gguf cannot be read as GGUF .*: fetch or copy it again"):
            language_models.load(path)
    with pytest.raises(ValueError, match=r"half\.gguf cannot be read as GGUF"):
        language_models.load_tokenizer(path)


def test_a_tokenizer_is_built_from_metadata(tmp_path):
    tokenizer = language_models.load_tokenizer(gguf_files.write(tmp_path / "model.gguf", LLAMA, None))
    assert tokenizer.tokenize("hello hello hell 1999") == ["hello", "Ġhello", "Ġ", "hell", "Ġ", "1", "9", "9", "9"]
    text = "  naïve\n\n“hello”\t12 🎬 it's"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer("<|im_start|>hello")["input_ids"][0] == 1
    assert tokenizer.eos_token_id == 0
    assert tokenizer.decode([1, *tokenizer("hello")["input_ids"], 0], skip_special_tokens=True) == "hello"
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False) == "hello!"
    assert tokenizer.model_max_length == LLAMA.positions
    gpt2 = language_models.load_tokenizer(gguf_files.write(tmp_path / "gpt2.gguf", GPT2, None, pre="gpt-2"))
    assert gpt2.tokenize("hello\n hello") == ["hello", "Ċ", "Ġhello"]


def test_llama_3_splits_and_begins_as_its_tokenizer_does(tmp_path):
    path = gguf_files.write(tmp_path / "model.gguf", LLAMA, None, pre="llama-bpe", add_bos=True)
    tokenizer = language_models.load_tokenizer(path)
    # a token that no merges lead to is found whole; newlines stay with the signs before them, a sign with its word
    assert tokenizer.tokenize("orld world") == ["orld", "Ġ", "w", "o", "r", "l", "d"]
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("It's 12345!!\n\n (no) ")
    assert [piece for piece, _ in split] == ["It", "'s", "Ġ", "123", "45", "!!ĊĊ", "Ġ(", "no", ")", "Ġ"]
    assert tokenizer("hello")["input_ids"] == [1, *tokenizer("hello", add_special_tokens=False)["input_ids"]]


def test_a_tokenizer_that_is_not_there_is_named(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"model\.gguf: no tokenizer.ggml.token_type, merges in it"):
        language_models.load_tokenizer(tmp_path / "model.gguf")


STRETCHED = LlamaConfig(
    320, 32, 2, 4, 1, 8, 64, positions=32, rope_theta=5e5, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 8192)
)


def byte_level(tmp_path, pre="smollm", **settings):
    return gguf_file.load_tokenizer(gguf_files.write(tmp_path / f"{pre}.gguf", LLAMA, None, pre=pre, **settings))


@pytest.mark.parametrize("config", [LLAMA, STRETCHED, GPT2])
def test_a_written_file_is_read_again(tmp_path, config):
    model = random_model(config)
    gguf_file.write(tmp_path / "model.gguf", model.params, config, byte_level(tmp_path), "a name")
    read = language_models.load(tmp_path / "model.gguf")
    assert read.config == config
    jax.tree.map(np.testing.assert_array_equal, read.params, model.params)


@pytest.mark.parametrize("config", [LLAMA, GPT2])
def test_a_written_file_has_the_layout_of_the_converter(tmp_path, config):
    """`tests/gguf_files.py` lays tensors out by its own code."""
    params = random_model(config).params
    gguf_file.write(tmp_path / "ours.gguf", params, config, byte_level(tmp_path), "a name")
    theirs = gguf.GGUFReader(gguf_files.write(tmp_path / "theirs.gguf", config, params))
    ours = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "ours.gguf").tensors}
    assert ours.keys() == {tensor.name for tensor in theirs.tensors}
    for tensor in theirs.tensors:
        np.testing.assert_array_equal(ours[tensor.name].data, tensor.data)


def test_matrices_of_bfloat16_stay_so(tmp_path):
    params = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), random_model(LLAMA).params)
    gguf_file.write(tmp_path / "model.gguf", params, LLAMA, byte_level(tmp_path), "a name")
    kinds = {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert kinds["blk.1.attn_q.weight"] == Kind.BF16 and kinds["blk.1.attn_norm.weight"] == Kind.F32
    read = language_models.load(tmp_path / "model.gguf").params
    jax.tree.map(lambda ours, wanted: np.testing.assert_array_equal(ours, wanted.astype("float32")), read, params)


@pytest.mark.parametrize("pre", ["smollm", "gpt-2", "llama-bpe"])
def test_a_written_tokenizer_is_read_again(tmp_path, pre):
    written = byte_level(tmp_path, pre, add_bos=pre == "llama-bpe")
    written.add_tokens(["<film>"], special_tokens=True)
    config = LlamaConfig(len(written) + 2, 32, 1, 4, 1, 8, 64, positions=32, tied=True)  # two ids without a token
    gguf_file.write(tmp_path / "a.gguf", random_model(config).params, config, written, "a name")
    read = gguf_file.load_tokenizer(tmp_path / "a.gguf")
    for text in ("hello hello", " I'll pay 1234 for <film>!\n\n é<|im_start|>", ""):
        assert read(text)["input_ids"] == written(text)["input_ids"]
    assert (read.eos_token, read.bos_token, read.chat_template) == (
        written.eos_token, written.bos_token, written.chat_template,
    )  # fmt: skip


def test_a_tokenizer_of_words_is_refused(tmp_path):
    words = tokenizer("a b".split())
    with pytest.raises(ValueError, match="byte-level BPE tokenizers .* not with this WordLevel; export to hf"):
        gguf_file.write(tmp_path / "a.gguf", random_model(LLAMA).params, LLAMA, words, "a name")
    assert not (tmp_path / "a.gguf").exists()


@pytest.mark.parametrize("config", [LLAMA, STRETCHED, GPT2])
def test_an_adapter_adds_what_merging_adds(tmp_path, config):
    model = random_model(config)
    settings = LoraConfig(
        ("layers/.*",), rank=2, alpha=3.0, rank_pattern=(("layers/mlp/.*", 4),), alpha_pattern=((".*/o", 1.5),)
    )
    shapes = jax.eval_shape(lambda key: lora.init(key, model.params, settings), jax.random.key(0))
    rng = np.random.default_rng(1)
    adapter = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)
    gguf_file.write(tmp_path / "base.gguf", model.params, config, byte_level(tmp_path), "a name")
    gguf_file.write_adapter(tmp_path / "adapter.gguf", adapter, settings, config)
    readers, read = gguf_file.read_with_adapter(tmp_path / "base.gguf", tmp_path / "adapter.gguf")
    params = convert.from_hf({name: reader() for name, reader in readers.items()}, read)
    expected = lora.merge(model.params, adapter, settings)
    jax.tree.map(lambda ours, wanted: np.testing.assert_allclose(ours, wanted, atol=2e-6), params, expected)
    with pytest.raises(ValueError, match=r"base\.gguf is no LoRA adapter of"):
        gguf_file.read_with_adapter(tmp_path / "base.gguf", tmp_path / "base.gguf")
