"""Every config parses; the paper's fits the published models, and names those that cannot be fetched."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax import cli
from ecr_jax import config as configs
from ecr_jax.config import presets
from ecr_jax.models.layers import last_state
from ecr_jax.models.lm import lora, quantized
from ecr_jax.models.lm.bert import Bert, BertConfig
from ecr_jax.models.lm.gpt2 import Gpt2, Gpt2Config
from ecr_jax.models.lm.llama import Llama, LlamaConfig
from ecr_jax.models.prompt import PromptEncoder, PromptSizes
from ecr_jax.models.recommender import Recommender
from ecr_jax.models.rgcn import graphs_tuple
from ecr_jax.pretrained import hub

NAMES = configs.names()
ENTITIES, RELATIONS, ITEMS = 31_161, 25, 6_281
DIALOGPT = Gpt2Config(vocab_size=50_257, width=768, layers=12, heads=12, hidden=3072)
ROBERTA = BertConfig(
    vocab_size=50_265, width=768, layers=12, heads=12, hidden=3072, positions=514, token_types=1, position_offset=2
)
LLAMA = LlamaConfig(
    vocab_size=32_000, width=4096, layers=32, heads=32, kv_heads=32, head_dim=128, hidden=11_008, positions=4096
)
ROWS = 2


class Sized:
    """As much of a graph as is looked at before the language model is loaded."""

    relations = ("r",) * RELATIONS

    def __len__(self) -> int:
        return ENTITIES


SIZES = PromptSizes(
    entities=ENTITIES, relations=RELATIONS, width=768, layers=12, kv_heads=12, head_dim=64, token_width=768
)


def count(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def shapes(module, *arguments, **named):
    return jax.eval_shape(lambda *a: module.init(jax.random.key(0), *a, **named)["params"], *arguments)


def text(rows: int, length: int):
    return jax.ShapeDtypeStruct((rows, length), jnp.int32), jax.ShapeDtypeStruct((rows, length), jnp.bool_)


@pytest.fixture(scope="module")
def paper() -> configs.Config:
    return configs.load("redial_paper")


@pytest.fixture(scope="module")
def graph():
    nodes = np.arange(ENTITIES)
    return graphs_tuple(nodes, nodes, np.arange(ENTITIES) % RELATIONS, ENTITIES + 1)


@pytest.fixture(scope="module")
def batch(paper):
    r = paper.recommender
    shapes_and_dtypes = {
        "tokens": ((r.max_tokens,), jnp.int32),
        "token_mask": ((r.max_tokens,), jnp.bool_),
        "text_states": ((r.max_states, ROBERTA.width), jnp.float16),
        "text_mask": ((r.max_states,), jnp.bool_),
        "entities": ((r.max_entities,), jnp.int32),
        "entity_mask": ((r.max_entities,), jnp.bool_),
        "emotions": ((r.max_entities, r.emotions_per_entity), jnp.int32),
        "emotion_probs": ((r.max_entities, r.emotions_per_entity), jnp.float32),
        "neighbours": ((r.max_entities, r.neighbours), jnp.int32),
        "neighbour_weights": ((r.max_entities, r.neighbours), jnp.float32),
    }
    return {name: jax.ShapeDtypeStruct((ROWS, *shape), dtype) for name, (shape, dtype) in shapes_and_dtypes.items()}


@pytest.mark.parametrize("name", NAMES)
def test_parses(name):
    config = configs.load(name)
    assert config.name == name.replace(":", "_")
    assert configs.from_json(config.as_json()) == config


@pytest.mark.parametrize(
    ("name", "emotions", "global_entities", "loss"),
    [
        ("redial:unicrs", False, False, "cross_entropy"),
        ("redial:ecr_l", True, False, "cross_entropy"),
        ("redial:ecr_none", False, False, "cross_entropy"),
        ("redial:ecr_ls", True, False, "feedback_cross_entropy + feedback_bce + like_pairwise"),
        ("redial:ecr_lg", True, True, "cross_entropy"),
    ],
)
def test_ablations_differ_from_ecr_in_what_they_are_named_for(name, emotions, global_entities, loss):
    """L local emotions, S the seeker's feedback, G global entities (ECR 6.1, Table 3); `redial` has all three."""
    variant, ecr = configs.load(name), configs.load("redial")
    prompt = variant.recommender.prompt
    assert (prompt.emotions, prompt.global_entities, variant.recommendation.loss) == (emotions, global_entities, loss)
    assert (variant.base, variant.prepared_folder) == ("redial", ecr.prepared_folder)
    same = {"fusion": ecr.fusion, "recommender": ecr.recommender, "recommendation": ecr.recommendation}
    assert dataclasses.replace(variant, name="redial", base=None, **same) == ecr


def test_unicrs_has_none_of_our_heads_in_pre_training_and_after():
    unicrs = configs.load("redial:unicrs")
    for heads in (unicrs.recommender.heads, unicrs.fusion.heads):
        assert heads.cooccurrence == "none"
        assert heads.repetition == "none" and not (heads.two_hop or heads.prior or heads.like_probability)


@pytest.mark.parametrize("preset", ["paper", "code"])
def test_presets_are_variants_of_redial(preset):
    variant = configs.load(f"redial:{preset}_preset")
    prompt = getattr(presets, preset)(576).prompt
    assert variant.recommender.prompt == dataclasses.replace(prompt, entity_width=128)
    assert variant.recommender.heads == variant.fusion.heads == presets.published_heads()


@pytest.mark.parametrize("name", configs.files())
def test_every_config_states_paper_command_hardware_and_time(name):
    head = (configs.folder() / f"{name}.py").read_text(encoding="utf-8").split('"""')[1]
    assert all(word in head for word in ("Paper:", "Command", "Hardware:", "Time"))


@pytest.mark.slow
@pytest.mark.parametrize("words", [["prepare"], ["train", "emotion"], ["evaluate"]])
@pytest.mark.parametrize("name", NAMES)
def test_command_line_takes_it_and_changes_a_field(name, words):
    command = cli.parse([*words, "--config", name, "--recommendation.train.batch-size", "32",
                       "--recommendation.train.accumulation", "1"])  # fmt: skip
    assert command.settings == dataclasses.replace(
        configs.load(name),
        recommendation=dataclasses.replace(
            configs.load(name).recommendation,
            train=dataclasses.replace(configs.load(name).recommendation.train, batch_size=32, accumulation=1),
        ),
    )


def test_published_sizes_of_the_models():
    assert count(shapes(Gpt2(DIALOGPT), *text(1, 8))) == 124_439_808
    assert count(shapes(Bert(ROBERTA), *text(1, 8))) == 124_055_040  # without the pooler, which nobody reads
    assert count(shapes(Llama(LLAMA), *text(1, 8))) == 6_738_415_616


@pytest.mark.parametrize(
    ("preset", "task", "expected"),
    [
        # the released checkpoint's 33,403,905 and 34,002,561 hold 611,737 parameters that no forward pass reads
        ("code", "fusion", 33_403_905 - 611_737),
        ("code", "recommendation", 34_002_561 - 611_737),
        # a table of width 48 for table, tower and projection; one linear map for three
        ("paper", "recommendation", 34_002_561 - 611_737 - (7_680 + 590_976 + 36_912) + 10 * 48 - 1_254_960),
    ],
)
def test_published_sizes_of_the_prompt_encoder(graph, batch, preset, task, expected):
    prompt = getattr(presets, preset)(DIALOGPT.width).prompt
    assert count(shapes(PromptEncoder(prompt, SIZES), graph, batch, task=task)) == expected


def test_paper_widths(paper):
    prompt = paper.recommender.prompt
    assert (prompt.entity_width, prompt.emotion_width, prompt.bases, prompt.dropout) == (384, 48, 8, 0.0)
    assert prompt == presets.paper_prompt(768)


def test_recommendation_step_fits(paper, graph, batch):
    model = Recommender(paper.recommender.prompt, SIZES, paper.recommender.heads)
    gpt2 = Gpt2(dataclasses.replace(DIALOGPT, vocab_size=DIALOGPT.vocab_size + 1))
    frozen = shapes(gpt2, batch["tokens"], batch["token_mask"])
    items = jax.ShapeDtypeStruct((ITEMS,), jnp.int32)
    params = jax.eval_shape(lambda b, i: model.init(jax.random.key(0), graph, b, i)["params"], batch, items)
    assert set(params) == {"encoder"}  # the published score has no parameters of its own

    prefixes = []

    def loss(params, frozen, batch, items):
        def read(batch, prefix):
            prefixes.append(prefix)
            mask = batch["token_mask"]
            layers = (prefix.keys, prefix.values)
            return last_state(gpt2.apply({"params": frozen}, batch["tokens"], mask, layers, prefix.mask).hidden, mask)

        return model.apply({"params": params}, graph, batch, items, "recommendation", read).logits.sum()

    value, grads = jax.eval_shape(jax.value_and_grad(loss), params, frozen, batch, items)
    assert value.shape == ()
    assert jax.tree.map(lambda leaf: leaf.shape, grads) == jax.tree.map(lambda leaf: leaf.shape, params)
    positions = 10 + 2 * paper.recommender.max_entities
    assert prefixes[0].keys.shape == prefixes[0].values.shape == (12, ROWS, 12, positions, 64)
    assert prefixes[0].mask.shape == (ROWS, positions)


def test_contexts_fit_the_models(paper):
    assert paper.recommender.max_tokens + paper.conversation.max_reply <= DIALOGPT.positions
    assert paper.encoder.turn_tokens <= ROBERTA.positions - ROBERTA.position_offset
    assert paper.response.max_prompt + paper.response.max_review <= LLAMA.positions


def test_response_step_fits(paper):
    length = paper.response.max_prompt + paper.response.max_review
    module = Llama(LLAMA, remat="full", dtype=jnp.bfloat16)
    whole = jax.eval_shape(
        lambda params: jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params), shapes(module, *text(1, 8))
    )
    four = jax.eval_shape(lambda params: quantized.quantize(params, quantized.KERNELS, "nf4"), whole)
    config = paper.response.adapter

    def forward(adapter, params, tokens, mask):
        return module.apply(lora.variables(params, adapter, config), tokens, mask).hidden.sum()

    for params, gigabytes in ((whole, 13.5), (four, 4.0)):  # as the head of the config says
        assert round(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params)) / 1e9, 1) == gigabytes
        adapter = jax.eval_shape(lambda p: lora.init(jax.random.key(0), p, config), params)
        assert count(adapter) == 32 * 4 * 2 * 4096 * config.rank
        grads = jax.eval_shape(jax.grad(forward), adapter, params, *text(ROWS, length))
        assert count(grads) == count(adapter)


@pytest.mark.parametrize("part", ["encoder.name", "language_model", "response.language_model"])
def test_models_that_cannot_be_fetched_are_named_with_the_remedy(paper, part, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    name = paper.value(part)
    with pytest.raises(hub.HubError, match="offline") as error:
        hub.resolve(name, offline=True)
    assert name in str(error.value) and "path of the folder" in str(error.value)


def test_training_without_the_weights_ends_with_an_error(paper, tmp_path, monkeypatch, capsys):
    """No network is used: the hub is offline, and its cache is empty."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    prepared = tmp_path / "prepared" / paper.name
    prepared.mkdir(parents=True)
    (prepared / "manifest.json").write_text("{}")
    monkeypatch.setattr("ecr_jax.data.prepare.PreparedCorpus.graph", Sized())
    folders = ["--prepared", str(tmp_path / "prepared"), "--runs", str(tmp_path / "runs")]
    assert cli.main(["train", "recommendation", "--config", "redial_paper", *folders]) == 1
    printed = capsys.readouterr().err
    assert "DialoGPT-small" in printed and "offline" in printed
