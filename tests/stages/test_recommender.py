"""What the config says of the recommender reaches the model; the presets' fields can each be set alone."""

from __future__ import annotations

import dataclasses
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax import config as configs
from ecr_jax.config import FIDELITY, HeadOptions, PromptOptions
from ecr_jax.models import prompt, recommender
from ecr_jax.models.lm.convert import flatten
from ecr_jax.models.lm.llama import LlamaConfig
from ecr_jax.models.prompt import PromptConfig
from ecr_jax.models.recommender import HeadConfig, Recommender, facts_of
from ecr_jax.models.rgcn import graphs_tuple
from ecr_jax.stages.recommender import head_config, prompt_config

WIDTH, ENTITIES, RELATIONS = 32, 7, 2
MODEL = LlamaConfig(11, WIDTH, 1, heads=2, kv_heads=1, head_dim=8, hidden=24, positions=64, tied=True)

OTHERS = {
    "entity_width": 12, "emotion_width": 5, "bases": 3, "recommendation_prefix": 4, "conversation_prefix": 6,
    "emotions": False, "global_entities": False, "masked": False, "cross_exponent": 0.75, "emotion_table": "direct",
    "emotion_fusion": "linear", "node_init": "glorot", "normalise": False, "prefix_scale": 0.5, "dropout": 0.25,
    "query": "state", "copy": "none", "walk": False, "mentions": False, "prior": False, "like_logits": False,
}  # fmt: skip
"""A value of every field that no preset `improved` has."""


class Graph:
    """As much of a graph as `prompt_config` looks at."""

    relations = ("r",) * RELATIONS

    def __len__(self) -> int:
        return ENTITIES


def changed(section, fidelity="improved", **fields):
    """The demo's config with these fields of `recommender.prompt` or `recommender.heads`."""
    made = configs.load("demo")
    options = {"prompt": PromptOptions(), "heads": HeadOptions()} | {section: configs_of(section)(**fields)}
    return dataclasses.replace(made, recommender=dataclasses.replace(made.recommender, fidelity=fidelity, **options))


def configs_of(section):
    return {"prompt": PromptOptions, "heads": HeadOptions}[section]


def model_of(config):
    return Recommender(prompt_config(config, Graph(), MODEL, 24), head_config(config))


def tree(config):
    """The shapes of the recommender's parameters."""
    rows, s, e, k = 1, 3, 2, 2
    batch = {
        "text_states": jnp.zeros((rows, s, 24)), "text_mask": jnp.ones((rows, s), bool),
        "text_ages": jnp.ones((rows, s), jnp.int32), "emotion_totals": jnp.zeros((rows, 9)),
        "entities": jnp.zeros((rows, e), jnp.int32), "entity_mask": jnp.ones((rows, e), bool),
        "emotions": jnp.zeros((rows, e, 3), jnp.int32), "emotion_probs": jnp.zeros((rows, e, 3)),
        "mentions": jnp.ones((rows, e, 3), jnp.int32),
        "neighbours": jnp.zeros((rows, e, k), jnp.int32), "neighbour_weights": jnp.zeros((rows, e, k)),
    }  # fmt: skip
    nodes = np.arange(ENTITIES)
    graph = graphs_tuple(nodes, nodes, nodes % RELATIONS, ENTITIES + 1)
    facts = facts_of(np.asarray([[0, 0, 3], [1, 1, 4]]), np.arange(3), ENTITIES, RELATIONS, 2)
    model, prior = model_of(config), np.zeros(ENTITIES + 1, np.float32)

    def build(key):
        task = "recommendation"
        return model.init(key, graph, batch, jnp.arange(3), task, item_prior=prior, facts=facts)["params"]

    return {name: leaf.shape for name, leaf in flatten(jax.eval_shape(build, jax.random.key(0))).items()}


@pytest.mark.parametrize(("options", "config"), [(PromptOptions, PromptConfig), (HeadOptions, HeadConfig)])
def test_options_are_fields_of_the_model(options, config):
    """The same values are allowed, and nothing that a preset sets is missing."""
    ours, theirs = (typing.get_type_hints(kind) for kind in (options, config))
    for name, kind in ours.items():
        assert kind in (theirs[name], theirs[name] | None)
    # the sizes of what it is put into
    sizes = {"entities", "relations", "width", "layers", "kv_heads", "head_dim", "token_width"}
    assert theirs.keys() - ours.keys() == (sizes if config is PromptConfig else set())
    assert OTHERS.keys() >= ours.keys()


@pytest.mark.parametrize("preset", ["paper", "code", "improved"])
def test_presets_are_kept_where_nothing_is_said(preset):
    made = model_of(changed("prompt", preset))
    assert {name: getattr(made.prompt, name) for name in prompt.FIDELITY[preset]} == prompt.FIDELITY[preset]
    assert vars(made.heads) == recommender.FIDELITY[preset]
    settings = changed("prompt", preset).recommender
    assert {name: settings.chosen(name) for name in FIDELITY[preset]} == FIDELITY[preset]
    assert dataclasses.replace(settings, directional=False, prefix_visibility="all").chosen("directional") is False


@pytest.mark.parametrize("section", ["prompt", "heads"])
def test_each_field_reaches_the_model(section):
    for field in dataclasses.fields(configs_of(section)):
        value, plain = OTHERS[field.name], getattr(model_of(changed(section)), section)
        made = getattr(model_of(changed(section, **{field.name: value})), section)
        assert getattr(plain, field.name) != value
        assert made == dataclasses.replace(plain, **{field.name: value})  # and nothing else changes


@pytest.mark.parametrize(
    ("section", "fields", "gone", "new"),
    [
        ("prompt", {"emotions": False}, "emotions emotion_tower emotion_out emotion_fusion", ""),
        ("prompt", {"emotion_table": "direct"}, "emotion_tower emotion_out", ""),
        ("prompt", {"emotion_fusion": "published"}, "", "emotion_fusion/up"),
        ("prompt", {"emotion_fusion": "linear"}, "emotion_fusion/down", ""),
        ("prompt", {"normalise": False}, "prompt_norm", ""),
        ("heads", {"query": "state"}, "recency state state_norm entity_pool token_pool", ""),
        ("heads", {"copy": "none"}, "copy_scale copy_unit copy_recency", ""),
        ("heads", {"copy": "published"}, "copy_scale copy_unit copy_recency", "copy_up copy_down copy_out"),
        ("heads", {"walk": False}, "walk_norm walk_slot walk_recency walk_relations walk_unit walk_scale", ""),
        ("heads", {"mentions": False}, "mention_recency mention_kind mention mention_norm", ""),
        ("heads", {"prior": False}, "prior_scale", ""),
        ("heads", {"like_logits": False}, "like", ""),
    ],
)
def test_parameters_come_and_go(section, fields, gone, new):
    root = {"prompt": "encoder/", "heads": "head/"}[section]
    before, after = tree(changed(section)), tree(changed(section, **fields))
    for told, found in ((gone, before.keys() - after.keys()), (new, after.keys() - before.keys())):
        parts = {root + name for name in told.split()}
        assert {part for part in parts for name in found if f"{name}/".startswith(f"{part}/")} == parts
        assert all(any(f"{name}/".startswith(f"{part}/") for part in parts) for name in found)


def test_lengths_and_widths_of_the_prompt():
    found = tree(changed("prompt", recommendation_prefix=4, entity_width=12, emotion_width=5, bases=3))
    assert found["encoder/recommendation/table"] == (4, WIDTH)
    assert found["encoder/nodes"] == (ENTITIES + 1, 12) and found["encoder/emotion_out/kernel"] == (WIDTH, 5)
    assert found["encoder/rgcn/bases"][0] == 3
