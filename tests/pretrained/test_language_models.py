"""Reading and writing language models: folders, shards, dtypes, tokenizers; bad files are named; real models."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ecr_jax.models.lm import convert, language_model, llama, quantized
from ecr_jax.models.lm.bert import BertConfig
from ecr_jax.models.lm.gpt2 import Gpt2Config
from ecr_jax.pretrained import language_models
from tests import tiny

GOLDEN = Path(__file__).parents[1] / "golden"
SCALING = llama.RopeScaling(8.0, 1.0, 4.0, 16)
CONFIG = llama.LlamaConfig(12, 16, 3, 4, 2, 4, 10, positions=32, rope_theta=500.0, rope_scaling=SCALING, tied=True)
CONFIGS = {
    "llama": llama.LlamaConfig(12, 16, 2, 4, 1, 6, 10, positions=32),
    "llama_tied": CONFIG,
    "gpt2": Gpt2Config(12, 16, 2, 4, 10, positions=16),
    "bert": BertConfig(12, 16, 2, 4, 10, positions=16),
    "roberta": BertConfig(12, 16, 2, 4, 10, positions=18, token_types=1, position_offset=2, eps=1e-5),
}
MODEL = tiny.random_model(CONFIG)
WORDS = ["hello", "film", "a", "the"]  # with the four special tokens: ids 0 to 7


@pytest.fixture
def folder(tmp_path):
    """A model in one file."""
    language_models.save(tmp_path / "model", MODEL)
    return tmp_path / "model"


def assert_same(left, right):
    """To the bit, dtypes too."""

    def check(a, b):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)

    jax.tree.map(check, left, right)


@pytest.mark.parametrize("shard_size", ["5GB", "3KB"])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_saved_is_loaded_to_the_bit(tmp_path, name, shard_size):
    config = CONFIGS[name]
    model = tiny.random_model(config)
    language_models.save(tmp_path / "model", model, shard_size=shard_size)
    files = sorted(file.name for file in (tmp_path / "model").iterdir())
    if shard_size == "5GB":
        assert files == ["config.json", "model.safetensors"]
    else:
        index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
        assert len(files) > 4 and set(index["weight_map"].values()) == set(files[1:-1])
        assert index["metadata"]["total_size"] == sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
    back = language_models.load(tmp_path / "model")
    assert back.config == config and back.module == model.module
    assert_same(back.params, model.params)


def test_bfloat16_is_written_read_and_computed_with(tmp_path):
    low = MODEL._replace(params=jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), MODEL.params))
    language_models.save(tmp_path / "low", low)
    language_models.save(tmp_path / "cast", MODEL, dtype=jnp.bfloat16)
    for name in ("low", "cast"):
        stored = load_file(tmp_path / name / "model.safetensors")
        assert {tensor.dtype for tensor in stored.values()} == {np.dtype(ml_dtypes.bfloat16)}
        assert json.loads((tmp_path / name / "config.json").read_text())["torch_dtype"] == "bfloat16"
        read = language_models.load(tmp_path / name, dtype=jnp.bfloat16)
        assert_same(read.params, low.params)
        assert read.module.dtype == jnp.bfloat16
    mixed = language_models.load(tmp_path / "low", dtype=jnp.bfloat16, compute_dtype=jnp.float32)
    assert mixed.module.dtype == jnp.float32
    assert_same(mixed.params, low.params)
    wide = language_models.load(tmp_path / "low")
    assert_same(wide.params, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), low.params))
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    hidden = jax.eval_shape(read.module.apply, {"params": read.params}, tokens, tokens).hidden
    assert hidden.dtype == jnp.bfloat16


def test_other_numbers_are_not_written(tmp_path):
    half = MODEL._replace(params=jax.tree.map(lambda leaf: leaf.astype(jnp.float16), MODEL.params))
    with pytest.raises(ValueError, match="weights of float16 are not written; pass dtype float32 or bfloat16"):
        language_models.save(tmp_path / "model", half)
    language_models.save(tmp_path / "model", half, dtype="float32")
    assert_same(language_models.load(tmp_path / "model", dtype=jnp.float16).params, half.params)


def test_nothing_is_overwritten_and_nothing_half_is_left(tmp_path, folder):
    (tmp_path / "letters").mkdir()
    language_models.save(tmp_path / "letters", MODEL)  # an empty folder will do
    for taken in (folder, folder / "config.json"):
        with pytest.raises(ValueError, match=f"{taken.name} is there already; name a new folder, or remove it"):
            language_models.save(taken, tiny.random_model(CONFIG, seed=1))
    assert_same(language_models.load(folder).params, MODEL.params)
    with pytest.raises(ValueError, match="head"):
        language_models.save(tmp_path / "new", MODEL._replace(params=MODEL.params | {"head": jnp.ones((12, 16))}))
    broken = tiny.tokenizer(WORDS)
    broken.save_pretrained = lambda folder: 1 / 0
    with pytest.raises(ZeroDivisionError):
        language_models.save(tmp_path / "new", MODEL, broken)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letters", "model"]


def test_an_added_token_is_saved_with_its_row_and_its_name(tmp_path):
    word_tokenizer = tiny.tokenizer(WORDS)
    model = tiny.random_model(tiny.llama(len(word_tokenizer)))
    word_tokenizer.add_tokens(["<movie>"], special_tokens=True)
    with pytest.raises(ValueError, match="'<movie>' has id 8, but the model embeds ids 0 to 7; use the tokenizer"):
        language_models.save(tmp_path / "model", model, word_tokenizer)
    longer = language_models.extend(model, jnp.full((1, 16), 0.5))
    language_models.save(tmp_path / "model", longer, word_tokenizer)
    back, read = language_models.load(tmp_path / "model"), language_models.load_tokenizer(tmp_path / "model")
    assert back.config.vocab_size == 9
    assert_same(back.params, longer.params)
    language_models.check_tokenizer(read, back.config, tmp_path)
    text = "hello <movie> film"
    assert read(text)["input_ids"] == word_tokenizer(text)["input_ids"] == [6, 8, 5]
    described = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (described["eos_token_id"], described["bos_token_id"], described["vocab_size"]) == (0, None, 9)


def test_a_tokenizer_with_ids_beyond_the_embedding_is_refused(tmp_path):
    word_tokenizer = tiny.tokenizer(WORDS)
    language_models.check_tokenizer(word_tokenizer, tiny.llama(8), tmp_path)
    with pytest.raises(ValueError, match="x: the tokenizer's token 'the' has id 7, but the model embeds ids 0 to 6; "):
        language_models.check_tokenizer(word_tokenizer, tiny.llama(7), Path("x"))


def test_a_hub_folder_is_read(tmp_path):
    """As they lie on the hub: shards of other names, bfloat16, an unused buffer, a copy of the tied embedding."""
    tensors = {name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in convert.to_hf(MODEL.params, CONFIG).items()}
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(2, np.float32)
    names = sorted(tensors)
    parts = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, tmp_path / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text(json.dumps(convert.config_to_hf(CONFIG)))
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), MODEL.params)
    assert_same(language_models.load(tmp_path).params, low)


def test_the_lowest_layers_and_the_final_norm_are_kept(folder):
    low = language_models.load(folder, layers=2)
    assert low.config.layers == 2
    assert_same(low.params["layers"], jax.tree.map(lambda leaf: leaf[:2], MODEL.params["layers"]))
    assert_same(low.params["norm"], MODEL.params["norm"])
    for layers in (0, 4):
        with pytest.raises(ValueError, match=f"layers={layers}: .* has 3 layers; ask for 1 to 3"):
            language_models.load(folder, layers=layers)


def test_parameters_may_stay_on_the_host(folder):
    read = language_models.load(folder, on_host=True)
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(read.params))
    assert_same(read.params, MODEL.params)
    longer = language_models.extend(read, jnp.ones((1, 16)))
    assert longer.params["layers"] is read.params["layers"]  # no device was given them


def test_kernels_are_quantised_as_they_are_read(folder):
    read = language_models.load(folder, quantize="nf4")
    assert_same(read.params, quantized.quantize(MODEL.params, quantized.KERNELS, "nf4"))
    longer = language_models.extend(read, jnp.ones((1, 16)))
    assert longer.params["layers"] is read.params["layers"]


def test_extended_models_read_the_new_tokens(folder):
    model = language_models.load(folder, layers=1)
    longer = language_models.extend(model, jnp.ones((2, 16)))
    assert longer.config.vocab_size == longer.module.config.vocab_size == 14
    output = jax.eval_shape(longer.module.apply, {"params": longer.params}, np.array([[13]]), np.ones((1, 1), bool))
    assert output.hidden.shape == (1, 1, 16)
    np.testing.assert_array_equal(longer.params["embed"]["embedding"][12:], 1)


def test_bad_models_are_named(tmp_path, folder):
    described = convert.config_to_hf(CONFIG)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        language_models.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"neither a folder nor a \.gguf"):
        language_models.load(folder / "config.json")
    (folder / "config.json").write_text(json.dumps(described | {"intermediate_size": 11}))
    with pytest.raises(ValueError, match=r"gate_proj.weight is \(10, 16\), not \(11, 16\)") as error:
        language_models.load(folder)
    assert str(folder) in str(error.value)
    (folder / "config.json").write_text(json.dumps(described | {"model_type": "t5"}))
    with pytest.raises(ValueError, match=r"config\.json: model_type 't5' is not supported"):
        language_models.load(folder)
    (folder / "config.json").write_text(json.dumps(described)[:40])
    with pytest.raises(ValueError, match=r"config\.json is not JSON \(.*fetch or copy it again"):
        language_models.load(folder)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"config\.json holds no JSON object"):
        language_models.load(folder)
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"model.safetensors is missing \(pytorch_model.bin would need pickle"):
        language_models.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        language_models.load(folder)


def test_half_a_safetensors_file_is_named(folder):
    whole = (folder / "model.safetensors").read_bytes()
    for size in [0, 4, 8, 100, *range(1000, len(whole), 1500), len(whole) - 1]:
        (folder / "model.safetensors").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"model\.safetensors cannot be read as safetensors .*copy it again"):
            language_models.load(folder)


def test_shards_that_are_not_there_are_named(tmp_path):
    language_models.save(tmp_path, MODEL, shard_size="3KB")
    index, gone = tmp_path / "model.safetensors.index.json", sorted(tmp_path.glob("*.safetensors"))[1]
    gone.rename(tmp_path / "elsewhere")
    message = rf"index\.json names {gone.name}, which .* does not have; fetch the missing files"
    with pytest.raises(ValueError, match=message):
        language_models.load(tmp_path)
    index.write_text("{}")
    with pytest.raises(ValueError, match=r"index\.json has no weight_map"):
        language_models.load(tmp_path)
    index.write_text(index.read_text() + "}")
    with pytest.raises(ValueError, match=r"index\.json is not JSON"):
        language_models.load(tmp_path)


def test_bad_tokenizers_are_named(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="has no tokenizer.json"):
        language_models.load_tokenizer(folder)
    tiny.tokenizer(WORDS).save_pretrained(str(folder))
    assert len(language_models.load_tokenizer(folder)) == 8
    for name in ("tokenizer.json", "tokenizer_config.json"):
        whole = (folder / name).read_text()
        (folder / name).write_text(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=f"the tokenizer in {folder} cannot be read .*copy it again"):
            language_models.load_tokenizer(folder)
        (folder / name).write_text(whole)


@pytest.mark.slow
def test_smollm2_equals_transformers(hub_model):
    """transformers on the same GGUF file, float32: logits within 2e-4 (they reach 20), states within 2e-4."""
    arrays = np.load(GOLDEN / "smollm2.npz")
    path = hub_model("smollm2-135m-instruct")
    model, mask, at = language_models.load(path), arrays["mask"], arrays["at"]
    hidden = jax.jit(model.module.apply)({"params": model.params}, arrays["tokens"], mask).hidden
    np.testing.assert_allclose(np.asarray(hidden)[mask][:, ::24], arrays["hidden"][mask], atol=2e-4)
    logits = np.asarray(language_model.logits(model.params, hidden[:, at]))
    ours = np.take_along_axis(logits, arrays["top_ids"], axis=-1)
    np.testing.assert_allclose(ours, arrays["top_logits"], atol=2e-4)
    np.testing.assert_array_equal(logits.argmax(axis=-1), arrays["top_ids"][..., 0])


@pytest.mark.slow
def test_smollm2s_tokenizer_equals_transformers(hub_model):
    arrays = np.load(GOLDEN / "smollm2.npz")
    tokenizer = language_models.load_tokenizer(hub_model("smollm2-135m-instruct"))
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
    model, mask = language_models.load(path), arrays["mask"]
    hidden = jax.jit(model.module.apply)({"params": model.params}, arrays["tokens"], mask).hidden
    np.testing.assert_allclose(np.asarray(hidden)[mask][:, ::12], arrays["hidden"][mask], atol=1e-5)
    tokenizer = language_models.load_tokenizer(path)
    for sentence, tokens, real in zip(arrays["sentences"], arrays["tokens"], mask, strict=True):
        assert tokenizer(str(sentence))["input_ids"] == tokens[real].tolist()
