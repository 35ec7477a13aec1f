"""Live against transformers on torch: every family and feature gives the same scores, states and gradients.

`make test-parity` runs this; tests/models/test_golden.py asks the same of stored arrays, without torch.
"""

from __future__ import annotations

import json

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.models.lm import convert, llama
from ecr_jax.pretrained import language_models
from tests import gguf_files, tiny
from tests.parity import TOLERANCE, Ours, assert_equal, decoder, gap, pad, positions

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]

ROPE3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROPE3 |= {"original_max_position_embeddings": 16, "rope_theta": 500.0}
LLAMA = {"model_type": "llama", "vocab_size": 40, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2}
LLAMA |= {"num_attention_heads": 4, "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 0}
GPT2 = {"model_type": "gpt2", "vocab_size": 40, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 16}
GPT2 |= {"bos_token_id": 0, "eos_token_id": 0}
BERT = {"model_type": "bert", "vocab_size": 40, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2}
BERT |= {"num_attention_heads": 3, "max_position_embeddings": 16}
CASES = {
    "llama-all-key-heads": LLAMA | {"num_key_value_heads": 4},
    "llama-two-key-heads-tied": LLAMA | {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "llama-one-key-head": LLAMA | {"num_key_value_heads": 1, "rms_norm_eps": 1e-5},
    "llama-odd-head-count": LLAMA | {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 14},
    "llama3": LLAMA | {"num_key_value_heads": 2, "head_dim": 8, "rope_parameters": ROPE3},
    "llama3-tied": LLAMA | {"num_key_value_heads": 1, "rope_parameters": ROPE3, "tie_word_embeddings": True},
    "gpt2": GPT2,
    "gpt2-narrow": GPT2 | {"n_inner": 20, "n_head": 2},
    "bert": BERT | {"type_vocab_size": 2},
    "bert-one-type": BERT | {"type_vocab_size": 1, "num_attention_heads": 12, "layer_norm_eps": 1e-12},
    "roberta": BERT | {"model_type": "roberta", "pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
    "roberta-far-offset": BERT | {"model_type": "roberta", "pad_token_id": 2, "type_vocab_size": 1},
}
WIDTH = 13
ROWS = [np.random.default_rng(3).integers(3, 40, length).tolist() for length in (11, 6)]


@pytest.fixture(scope="module")
def torch_side():
    pytest.importorskip("torch")
    from tests import transformers_side

    return transformers_side


def saved(torch_side, values, folder):
    """A random model of transformers, as it writes itself, and ours read from there."""
    import transformers

    model = torch_side.build(transformers.AutoConfig.for_model(**values))
    model.save_pretrained(folder)
    return model, language_models.load(folder)


def batch(config, side, start=0):
    filler = config.position_offset - 1 if getattr(config, "position_offset", 0) else 1
    tokens, mask = pad(ROWS, side, WIDTH, filler)
    arrays = {"tokens": tokens, "mask": mask, "positions": positions(mask, start)}
    if getattr(config, "token_types", 0) > 1:
        arrays["token_types"] = (positions(mask) > 4).astype(np.int32)
    return arrays


@pytest.mark.parametrize("name", CASES)
def test_equals_transformers(torch_side, tmp_path, name):
    """Padding on either side and in both rows, and the last positions there are (9000 beyond a Llama's context)."""
    theirs, model = saved(torch_side, CASES[name], tmp_path)
    ours = Ours(model)
    last = 9000 if isinstance(model.config, llama.LlamaConfig) else 16 - max(map(len, ROWS))
    starts = {"right": 0, "left": 0, "far": last}
    if theirs.config.model_type == "roberta":
        del starts["far"]  # it counts for itself
    for side, start in starts.items():
        inputs = batch(model.config, "right" if side == "far" else side, start)
        assert_equal(ours.read(inputs), torch_side.read(theirs, inputs), inputs["mask"])


@pytest.mark.parametrize("name", CASES)
def test_reads_what_we_write(torch_side, tmp_path, name):
    """Back from transformers' folder to ours: the same weights to the bit, the same scores; an added row survives."""
    import transformers

    theirs, model = saved(torch_side, CASES[name], tmp_path / "theirs")
    language_models.save(tmp_path / "ours", model, shard_size="8KB")
    kind = transformers.AutoModelForCausalLM if decoder(model.config) else transformers.AutoModel
    again = kind.from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    assert again.config.model_type == theirs.config.model_type and type(again) is type(theirs)
    state = again.state_dict()
    for key, tensor in theirs.state_dict().items():
        assert "pooler" in key or bool((state[key] == tensor).all()), key
    inputs = batch(model.config, "left")
    np.testing.assert_array_equal(torch_side.read(again, inputs)["logits"], torch_side.read(theirs, inputs)["logits"])

    longer = language_models.extend(model, jnp.full((1, 24), 0.5), jnp.full((1, 24), 0.25))
    language_models.save(tmp_path / "longer", longer)
    again = kind.from_pretrained(tmp_path / "longer", attn_implementation="eager").eval()
    inputs["tokens"][:, -2] = 40
    mask = inputs["mask"]
    assert gap(Ours(longer).scores(inputs)[mask], torch_side.read(again, inputs)["logits"][mask]) < TOLERANCE


def test_bfloat16_folders_are_read_as_such(torch_side, tmp_path):
    import torch
    import transformers

    _, model = saved(torch_side, CASES["llama3"], tmp_path / "theirs")
    language_models.save(tmp_path / "ours", model, dtype=jnp.bfloat16)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert again.dtype == torch.bfloat16
    low = convert.to_hf(
        jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), model.params), model.config
    )
    for key, tensor in again.state_dict().items():
        np.testing.assert_array_equal(tensor.float().numpy(), low[key])


@pytest.mark.parametrize("theta, head_dim, factor", [(1e4, 128, None), (5e5, 128, None), (5e5, 128, 8.0),
                                                     (5e5, 64, 32.0), (1e5, 64, None)])  # fmt: skip
def test_rotations_are_the_same_numbers_at_any_position(torch_side, theta, head_dim, factor):
    """Llama 2, Llama 3, 3.1 8B, 3.2 1B, SmolLM2: frequencies to the bit, angles of positions up to 128 thousand."""
    import torch
    import transformers
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rope = {"rope_type": "default"} if factor is None else ROPE3 | {"original_max_position_embeddings": 8192}
    values = LLAMA | {"head_dim": head_dim, "max_position_embeddings": 131072}
    values["rope_parameters"] = rope | {"rope_theta": theta} | ({} if factor is None else {"factor": factor})
    theirs = LlamaRotaryEmbedding(transformers.AutoConfig.for_model(**values))
    config = convert.config_from_hf(values)
    np.testing.assert_array_equal(llama.frequencies(config), theirs.inv_freq.numpy())
    at = np.array([[0, 1, 4095, 8191, 131071]])
    for one, other in zip(
        llama.rotation(config, jnp.asarray(at)), theirs(torch.zeros(1), torch.tensor(at)), strict=True
    ):
        np.testing.assert_allclose(one[:, :, 0], other[..., : head_dim // 2], atol=2e-7)


KINDS = [gguf.GGMLQuantizationType[name] for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_gguf_files_are_read_as_transformers_reads_them(torch_side, tmp_path, name, kind):
    import transformers

    config = {
        "llama": llama.LlamaConfig(320, 32, 2, 4, 2, 8, 64, positions=32, rope_theta=500.0),
        # transformers leaves n_positions at 1024, whatever the file says
        "gpt2": convert.config_from_hf(GPT2 | {"vocab_size": 320, "n_embd": 32, "n_head": 4, "n_positions": 1024}),
    }[name]
    gguf_files.write(tmp_path / "model.gguf", config, tiny.random_model(config, scale=0.1).params, kind)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", attn_implementation="eager", dtype="float32"
    ).eval()
    inputs = batch(config, "left")
    scores, mask = Ours(language_models.load(tmp_path / "model.gguf")).scores(inputs), inputs["mask"]
    assert gap(scores[mask], torch_side.read(theirs, inputs)["logits"][mask]) < TOLERANCE


def test_llama_3s_tokenizer_in_a_gguf_file_is_read_as_transformers_reads_it(torch_side, tmp_path):
    import transformers

    config = llama.LlamaConfig(320, 32, 2, 4, 2, 8, 64, positions=32)
    ours = language_models.load_tokenizer(
        gguf_files.write(tmp_path / "model.gguf", config, None, pre="llama-bpe", add_bos=True)
    )
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    for text in ("hello hello", "It's 1994: 12345!!\n\n  naïve café (no), WE'LL “see” 🎬", "<|im_start|>hello\r\n\t"):
        assert ours(text, add_special_tokens=False)["input_ids"] == theirs(text, add_special_tokens=False)["input_ids"]


def test_configurations_are_what_transformers_reads(torch_side, tmp_path):
    """Every field that we write means to transformers what it means to us."""
    import transformers

    for name, values in CASES.items():
        written = convert.config_to_hf(convert.config_from_hf(transformers.AutoConfig.for_model(**values).to_dict()))
        (tmp_path / "config.json").write_text(json.dumps(written))
        read = transformers.AutoConfig.from_pretrained(tmp_path).to_dict()
        assert convert.config_from_hf(read) == convert.config_from_hf(written), name
