"""PEFT folders: what is written is read back, what does not fit is named, and `peft` computes the same."""

from __future__ import annotations

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import convert, lora
from ecr_jax.models.lm.bert import BertConfig
from ecr_jax.models.lm.gpt2 import Gpt2Config
from ecr_jax.models.lm.language_model import logits
from ecr_jax.models.lm.llama import LlamaConfig
from ecr_jax.pretrained import language_models, peft_adapters
from ecr_jax.pretrained.peft_adapters import Adapter
from ecr_jax.training import sharding
from ecr_jax.training.optim import learning_rate, make_optimizer
from ecr_jax.training.options import OptimConfig
from ecr_jax.training.step import init_state, make_step, state_shardings

LLAMA = LlamaConfig(40, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=24, positions=32, tied=True)
GPT2 = Gpt2Config(40, width=16, layers=2, heads=2, hidden=24, positions=32)
BERT = BertConfig(40, width=16, layers=2, heads=2, hidden=24, positions=32)
CONFIGS = {"llama": LLAMA, "gpt2": GPT2, "bert": BERT}
MLP = LoraConfig((r"layers/mlp/.*",), rank=2, alpha=4.0)


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def random_adapter(config, settings, seed=0, tokens=None):
    """An adapter of random numbers."""
    projections = convert.projections(config)
    parts = {
        path: {"a": random((config.layers, size[0], settings.rank_of(path)), seed),
               "b": random((config.layers, settings.rank_of(path), size[1]), seed + 1)}
        for path, (_, size) in projections.items()
        if any(re.fullmatch(pattern, path) for pattern in settings.patterns)
    }  # fmt: skip
    return Adapter(lora.unflat(parts), settings, tokens)


def same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def settings_in(folder):
    return json.loads((folder / "adapter_config.json").read_text())


@pytest.mark.parametrize(
    ("family", "patterns", "targets"),
    [
        ("llama", ("layers/attention/[qv]",), ["q_proj", "v_proj"]),
        ("llama", ("layers/.*",), ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]),
        ("gpt2", ("layers/.*",), ["attn.c_proj", "c_attn", "c_fc", "mlp.c_proj"]),
        ("bert", ("layers/attention/.*", "layers/mlp/up"),
         ["attention.output.dense", "intermediate.dense", "key", "query", "value"]),
        # "output.dense" would be attention's too
        ("bert", ("layers/mlp/down",), ["encoder.layer.0.output.dense", "encoder.layer.1.output.dense"]),
    ],
)  # fmt: skip
def test_folders_are_written_and_read(tmp_path, family, patterns, targets):
    config = CONFIGS[family]
    tokens = (np.array([39, 3]), random((2, 16), 5)) if len(patterns) == 1 else None
    adapter = random_adapter(
        config, LoraConfig(patterns, rank=3, alpha=6.0, dropout=0.1, rank_stabilised=True), tokens=tokens
    )
    peft_adapters.write(tmp_path / "one", adapter, config, base="somebody/base")
    written = settings_in(tmp_path / "one")
    assert written["target_modules"] == targets
    assert (written["r"], written["lora_alpha"], written["use_rslora"]) == (3, 6, True)
    assert written["fan_in_fan_out"] == (family == "gpt2")
    assert written["base_model_name_or_path"] == "somebody/base"
    actual = peft_adapters.read(tmp_path / "one", config)
    same(actual.params, adapter.params)
    assert sorted(actual.config.patterns) == sorted(re.escape(path) for path in lora.flat(adapter.params))
    assert dataclasses.replace(actual.config, patterns=patterns) == adapter.config
    assert (actual.tokens is None) == (tokens is None)
    if tokens:
        same(actual.tokens, tokens)


def test_names_and_shapes_are_pefts(tmp_path):
    adapter = random_adapter(
        GPT2, LoraConfig(("layers/attention/qkv",), rank=1), tokens=(np.array([7]), np.ones((1, 16)))
    )
    peft_adapters.write(tmp_path / "one", adapter, GPT2)
    tensors = load_file(tmp_path / "one" / "adapter_model.safetensors")
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight": (1, 16),
        "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight": (48, 1),
        "base_model.model.transformer.h.1.attn.c_attn.lora_A.weight": (1, 16),
        "base_model.model.transformer.h.1.attn.c_attn.lora_B.weight": (48, 1),
        "base_model.model.transformer.wte.token_adapter.trainable_tokens_delta": (1, 16),
    }
    np.testing.assert_array_equal(
        tensors["base_model.model.transformer.h.1.attn.c_attn.lora_B.weight"][:, 0],
        adapter.params["layers"]["attention"]["qkv"]["b"][1, 0],
    )
    assert settings_in(tmp_path / "one")["trainable_token_indices"] == {"wte": [7]}


def test_overrides_are_written_by_name(tmp_path):
    settings = LoraConfig(
        ("layers/.*",), rank=2, alpha=4.0, rank_pattern=(("layers/mlp/down", 1),), alpha_pattern=((".*/o", 8.0),)
    )
    adapter = random_adapter(BERT, settings)
    peft_adapters.write(tmp_path / "one", adapter, BERT)
    written = settings_in(tmp_path / "one")
    assert written["rank_pattern"] == {r"encoder\.layer\.\d+\.output\.dense": 1}
    assert written["alpha_pattern"] == {r"encoder\.layer\.\d+\.attention\.output\.dense": 8}
    actual = peft_adapters.read(tmp_path / "one", BERT)
    same(actual.params, adapter.params)
    for path in convert.projections(BERT):
        assert (actual.config.rank_of(path), actual.config.scale_of(path)) == (
            settings.rank_of(path), settings.scale_of(path)
        )  # fmt: skip


def write_by_hand(folder, tensors, **settings):
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]} | settings
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file({f"base_model.model.{name}": tensor for name, tensor in tensors.items()},
              folder / "adapter_model.safetensors")  # fmt: skip
    return folder


def layers_of(*ranks, prefix="model."):
    """Tensors of q_proj in layers of these ranks."""
    return {
        f"{prefix}layers.{layer}.self_attn.q_proj.lora_{letter}.weight": random(shape, 10 * layer + len(letter))
        for layer, rank in enumerate(ranks)
        for letter, shape in (("A", (rank, 16)), ("B", (16, rank)))
        if rank
    }


def test_ranks_and_scales_of_single_layers_become_one(tmp_path):
    """The rank of layer 0 is 1 and its scale 4, of layer 1 they are 2 and 1.5: the products stay."""
    tensors = layers_of(1, 2, prefix="")  # as the model without its head is called
    patterns = {"rank_pattern": {"layers.0.self_attn.q_proj": 1}, "alpha_pattern": {"1.self_attn.q_proj": 3}}
    folder = write_by_hand(tmp_path / "one", tensors, **patterns)
    actual = peft_adapters.read(folder, LLAMA)
    part, path = actual.params["layers"]["attention"]["q"], "layers/attention/q"
    assert part["a"].shape == (2, 16, 2) and actual.config.rank_of(path) == 2
    assert actual.config.scale_of(path) == 1.5
    for layer, scale in enumerate((4.0, 1.5)):
        a, b = (tensors[f"layers.{layer}.self_attn.q_proj.lora_{letter}.weight"] for letter in "AB")
        np.testing.assert_allclose(1.5 * part["a"][layer] @ part["b"][layer], scale * (b @ a).T, rtol=1e-5, atol=1e-6)


def test_layers_without_an_adapter_are_zeros(tmp_path):
    folder = write_by_hand(tmp_path / "one", layers_of(2), layers_to_transform=[0])
    part = peft_adapters.read(folder, LLAMA).params["layers"]["attention"]["q"]
    assert np.any(part["a"][0]) and not np.any(part["a"][1]) and not np.any(part["b"][1])
    with pytest.raises(ValueError, match="model.layers.1.self_attn.q_proj.lora_A.weight is missing"):
        peft_adapters.read(write_by_hand(tmp_path / "two", layers_of(2)), LLAMA)


def test_modules_are_targeted_as_peft_does(tmp_path):
    tensors = layers_of(2, 2)
    for number, targets in enumerate((r".*\.self_attn\.q_proj", ["self_attn.q_proj"],
                                      [f"model.layers.{layer}.self_attn.q_proj" for layer in range(2)])):  # fmt: skip
        folder = write_by_hand(tmp_path / str(number), tensors, target_modules=targets)
        assert set(lora.flat(peft_adapters.read(folder, LLAMA).params)) == {"layers/attention/q"}
    others = ["k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    folder = write_by_hand(tmp_path / "all", tensors, target_modules="all-linear", exclude_modules=others)
    assert set(lora.flat(peft_adapters.read(folder, LLAMA).params)) == {"layers/attention/q"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type 'IA3' is not supported, only LORA"),
        ({"bias": "lora_only"}, "bias='lora_only' is not supported"),
        ({"use_dora": True}, "use_dora=True: not supported; merge the adapter"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\]: not supported"),
        ({"an_option_of_tomorrow": 1}, "an_option_of_tomorrow=1: not supported"),
        ({"r": 3}, r"q_proj.lora_A.weight is \(2, 16\), not \(3, 16\); .*lora_B.weight is \(16, 2\), not \(16, 3\)"),
        ({"target_modules": ["v_proj"]}, "not used: .*self_attn.q_proj.lora_A.weight"),
        ({"target_modules": ["c_attn"]}, "not used: .*q_proj"),
        ({"trainable_token_indices": [3]}, "embed_tokens.token_adapter.trainable_tokens_delta is missing"),
        ({"trainable_token_indices": {"lm_head": [3]}}, "trainable_token_indices of lm_head are not supported"),
    ],
)
def test_unsupported_settings_are_refused(tmp_path, changes, message):
    folder = write_by_hand(tmp_path / "one", layers_of(2, 2), **changes)
    with pytest.raises(ValueError, match=f"one: .*{message}"):
        peft_adapters.read(folder, LLAMA)


def test_tensors_that_are_left_over_or_of_another_shape_are_named(tmp_path):
    head = {"lm_head.lora_A.weight": random((2, 16)), "lm_head.lora_B.weight": random((40, 2))}
    with pytest.raises(ValueError, match="not used: .*lm_head.lora_A.weight, .*lm_head.lora_B.weight"):
        peft_adapters.read(write_by_hand(tmp_path / "head", layers_of(2, 2) | head), LLAMA)
    rows = {"model.embed_tokens.token_adapter.trainable_tokens_delta": random((2, 16))}
    tokens = {"trainable_token_indices": [3, 40]}
    with pytest.raises(ValueError, match="token 40 was trained, but the base has 40; extend it first"):
        peft_adapters.read(write_by_hand(tmp_path / "rows", layers_of(2, 2) | rows, **tokens), LLAMA)
    with pytest.raises(ValueError, match=r"trainable_tokens_delta is \(2, 16\), not \(1, 16\)"):
        peft_adapters.read(write_by_hand(tmp_path / "few", layers_of(2, 2) | rows, trainable_token_indices=[3]), LLAMA)


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="adapter_config.json is missing"):
        peft_adapters.read(tmp_path, LLAMA)
    folder = write_by_hand(tmp_path / "one", layers_of(2, 2))
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ValueError, match="adapter_model.safetensors cannot be read .* cut off"):
        peft_adapters.read(folder, LLAMA)
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(FileNotFoundError, match=r"adapter_model.bin would need pickle"):
        peft_adapters.read(folder, LLAMA)


def test_what_cannot_be_written_is_named(tmp_path):
    adapter = random_adapter(LLAMA, MLP)
    with pytest.raises(ValueError, match="layers/mlp/gate is no projection of Gpt2Config"):
        peft_adapters.write(tmp_path / "one", adapter, GPT2)
    with pytest.raises(ValueError, match=r"layers/mlp/up/a is \(2, 16, 2\), not \(2, 16, 4\)"):
        peft_adapters.write(tmp_path / "one", adapter._replace(config=dataclasses.replace(MLP, rank=4)), LLAMA)
    with pytest.raises(ValueError, match=r"tokens \[40\] with rows \(1, 16\) are not \[n, 16\] among 40"):
        peft_adapters.write(tmp_path / "one", adapter._replace(tokens=(np.array([40]), np.ones((1, 16)))), LLAMA)
    assert not (tmp_path / "one").exists()
    (tmp_path / "one").mkdir()
    peft_adapters.write(tmp_path / "one", adapter, LLAMA)
    with pytest.raises(ValueError, match="one is there already; name a new folder, or remove it"):
        peft_adapters.write(tmp_path / "one", adapter, LLAMA)


# ---------------------------------------------------------------------------------------------------- beside peft

TOKENS = np.random.default_rng(0).integers(0, 40, (3, 7))


def torch_model(family):
    """A random model of `transformers` and of ours, with the same weights."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("peft")
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    torch.manual_seed(0)
    if family == "llama":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
            vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=32, tie_word_embeddings=True, initializer_range=0.2,
            **special,
        ))  # fmt: skip
    elif family == "gpt2":
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
            vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_inner=24, n_positions=32, initializer_range=0.2, **special
        ))  # fmt: skip
    else:
        model = transformers.BertModel(transformers.BertConfig(
            vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=32, initializer_range=0.2,
        ))  # fmt: skip
    model = model.eval()
    config = convert.config_from_hf(model.config.to_dict())
    params = convert.from_hf({name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}, config)
    return model, language_models.Pretrained(
        convert.module_of(config)(config), jax.tree.map(jnp.asarray, params), config
    )


def outputs(model):
    """Logits (states, of BERT) by torch."""
    import torch

    with torch.no_grad():
        out = model(torch.tensor(TOKENS))
    return (out.logits if hasattr(out, "logits") else out.last_hidden_state).numpy()


def ours(model, adapter, family):
    base = model.params if adapter.tokens is None else lora.with_rows(model.params, *adapter.tokens)
    read = jax.jit(model.module.apply)
    both = []
    for variables in (
        lora.variables(base, adapter.params, adapter.config),
        {"params": lora.merge(base, adapter.params, adapter.config)},
    ):
        hidden = read(variables, TOKENS, np.ones_like(TOKENS, bool)).hidden
        both.append(np.asarray(hidden if family == "bert" else logits(base, hidden)))
    return both


def close(actual, expected):
    """Within 1e-5 of the largest."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def train(model, settings, steps=20):
    """So many real steps of an adapter, with dropout, and of the row of one token."""
    base = model.params
    params = {
        "adapter": lora.init(jax.random.key(0), base, settings),
        "rows": base["embed"]["embedding"][39:],
    }
    module = model.module.clone(adapter_dropout=settings.dropout)

    def loss(params, frozen, batch, key):
        base = lora.with_rows(frozen, jnp.array([39]), params["rows"])
        hidden = module.apply(
            lora.variables(base, params["adapter"], settings), batch["tokens"], batch["mask"], rngs={"dropout": key}
        ).hidden
        scores = jax.nn.log_softmax(logits(base, hidden))
        chosen = jnp.take_along_axis(scores[:, :-1], batch["tokens"][:, 1:, None], axis=-1)
        return -chosen.sum(), jnp.float32(chosen.size), {}

    mesh, optim = sharding.make_mesh(devices=jax.devices()[:1]), OptimConfig(learning_rate=0.02)
    optimizer = make_optimizer(optim, steps, params)
    placement = state_shardings(params, optimizer, sharding.REPLICATED, mesh)
    step = make_step(
        loss, optimizer, mesh, state_placement=placement, schedule=learning_rate(optim, steps),
        frozen_placement=sharding.shardings(base, sharding.REPLICATED, mesh),
    )  # fmt: skip
    state = jax.device_put(init_state(sharding.shard_tree(params, placement["params"]), optimizer), placement)
    batch = {"tokens": TOKENS.astype(np.int32), "mask": np.ones_like(TOKENS, bool)}
    losses = []
    for _ in range(steps):
        state, metrics = step(state, base, batch, jax.random.key(0))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.5
    params = jax.device_get(state["params"])
    return Adapter(params["adapter"], settings, (np.array([39]), params["rows"]))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.filterwarnings("ignore")  # peft and transformers warn of each other
@pytest.mark.parity
def test_an_adapter_trained_here_gives_equal_logits_in_peft(tmp_path, family):
    theirs, model = torch_model(family)
    settings = LoraConfig(
        ("layers/.*",), rank=4, alpha=6.0, dropout=0.1, rank_pattern=(("layers/mlp/.*", 2),),
        alpha_pattern=(("layers/mlp/down", 3.0),),
    )  # fmt: skip
    adapter = train(model, settings)
    peft_adapters.write(tmp_path / "trained", adapter, model.config)
    import peft

    before = outputs(theirs)
    loaded = peft.PeftModel.from_pretrained(theirs, str(tmp_path / "trained")).eval()
    expected = outputs(loaded)
    assert np.abs(expected - before).max() > 0.5
    for actual in ours(model, adapter, family):
        close(actual, expected)
    close(outputs(loaded.merge_and_unload()), expected)  # its own use of fan_in_fan_out


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
@pytest.mark.filterwarnings("ignore")  # peft and transformers warn of each other
@pytest.mark.parity
def test_an_adapter_of_pefts_gives_equal_logits_here(tmp_path, family):
    theirs, model = torch_model(family)
    import peft

    options = {
        "llama": {"target_modules": ["q_proj", "v_proj", "down_proj"], "use_rslora": True,
                  "rank_pattern": {"layers.0.self_attn.q_proj": 1}, "alpha_pattern": {"1.mlp.down_proj": 5},
                  "trainable_token_indices": [3, 17]},
        "gpt2": {"target_modules": ["c_attn", "mlp.c_proj"], "layers_to_transform": [1], "fan_in_fan_out": True,
                 "trainable_token_indices": {"wte": [5]}},
        "bert": {"target_modules": r"encoder\.layer\.\d\.(attention\.self\.(query|key)|output\.dense)",
                 "rank_pattern": {r"layer\.\d\.output\.dense": 5}},
    }[family]  # fmt: skip
    adapted = peft.get_peft_model(theirs, peft.LoraConfig(r=2, lora_alpha=6, lora_dropout=0.1, **options)).eval()
    rng = np.random.default_rng(0)
    import torch

    for name, parameter in adapted.named_parameters():
        if "lora_" in name or "trainable_tokens" in name:
            parameter.data = torch.tensor(rng.normal(0, 0.3, tuple(parameter.shape)), dtype=torch.float32)
    adapted.save_pretrained(str(tmp_path / "theirs"))
    adapter = peft_adapters.read(tmp_path / "theirs", model.config)
    expected = outputs(adapted)
    for actual in ours(model, adapter, family):
        close(actual, expected)
    # and back again
    peft_adapters.write(tmp_path / "ours", adapter, model.config)
    _, model = torch_model(family)
    again = peft.PeftModel.from_pretrained(torch_model(family)[0], str(tmp_path / "ours")).eval()
    close(outputs(again), expected)
