"""The recommender's settings reach its model: which parameters there are, and how large; transfer between stages."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.config import presets
from ecr_jax.features.featurizer import ContextLimits, EvidenceLimits, prompt_spec, recommender_spec
from ecr_jax.models.heads import facts_of
from ecr_jax.models.lm.convert import flatten
from ecr_jax.models.lm.llama import LlamaConfig
from ecr_jax.models.recommender import Recommender
from ecr_jax.models.rgcn import graphs_tuple
from ecr_jax.stages.recommender import prompt_sizes_of

WIDTH, ENTITIES, RELATIONS, TOKEN_WIDTH = 32, 7, 2, 24
MODEL = LlamaConfig(11, WIDTH, 1, heads=2, kv_heads=1, head_dim=8, hidden=24, positions=64, tied=True)
LIMITS = ContextLimits(tokens=4, states=3, entities=2, emotions=3, neighbours=2, cooccurring_items=2)
EVIDENCE = EvidenceLimits(rated_items=2, nearest_items=2)


class Graph:
    """As much of a graph as `prompt_sizes_of` looks at."""

    relations = ("r",) * RELATIONS

    def __len__(self) -> int:
        return ENTITIES


FELT_PARTS = "mixture/cooccurrence_feeling mixture/liked_feeling mixture/mentioned_feeling"


def shapes(section="prompt", **fields):
    """The shapes of the parameters of the preset `improved` with other fields of its `prompt` or `heads`.

    Where the prompt is changed, the heads that read feelings are off, for these need the prompt's emotions.
    """
    settings = presets.improved(WIDTH)
    if section == "prompt":
        settings = dataclasses.replace(
            settings, heads=dataclasses.replace(settings.heads, feeling=False, like_probability=False)
        )
    settings = dataclasses.replace(settings, **{section: dataclasses.replace(getattr(settings, section), **fields)})
    spec = recommender_spec(prompt_spec(ENTITIES, TOKEN_WIDTH, LIMITS, vocabulary=11), ENTITIES, EVIDENCE)
    batch = spec.toy(1, {"S": 3, "E": 2})
    nodes = np.arange(ENTITIES)
    graph = graphs_tuple(nodes, nodes, nodes % RELATIONS, ENTITIES + 1)
    facts = facts_of(np.asarray([[0, 0, 3], [1, 1, 4]]), np.arange(3), ENTITIES, RELATIONS, 2)
    model = Recommender(settings.prompt, prompt_sizes_of(Graph(), MODEL, TOKEN_WIDTH), settings.heads)
    prior = np.zeros(ENTITIES + 1, np.float32)

    def init(key):
        task = "recommendation"
        return model.init(key, graph, batch, jnp.arange(3), task, item_prior=prior, facts=facts, item_odds=prior)[
            "params"
        ]

    return {name: leaf.shape for name, leaf in flatten(jax.eval_shape(init, jax.random.key(0))).items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "fields", "gone", "new"),
    [
        ("prompt", {"emotions": False}, "emotions emotion_tower emotion_out emotion_fusion", ""),
        ("prompt", {"emotion_table": "direct"}, "emotion_tower emotion_out", ""),
        ("prompt", {"emotion_fusion": "published"}, "", "emotion_fusion/up"),
        ("prompt", {"emotion_fusion": "linear"}, "emotion_fusion/down", ""),
        ("prompt", {"normalise": False}, "prompt_norm", ""),
        ("heads", {"query": "state"}, "query", ""),
        ("heads", {"cooccurrence": "mass"}, "", "cooccurrence"),
        ("heads", {"cooccurrence": "published"}, "", "cooccurrence/up cooccurrence/down cooccurrence/out"),
        ("heads", {"mixture": False}, "mixture correction", ""),
        ("heads", {"feeling": False}, f"aversion two_hop/feeling repetition/feeling {FELT_PARTS}", ""),
        ("heads", {"two_hop": False}, "two_hop", ""),
        ("heads", {"repetition": "none"}, "repetition", ""),
        ("heads", {"repetition": "gate"}, "", "gate/bias gate/kind gate/last_turn"),
        ("heads", {"prior": True}, "", "prior"),
        ("heads", {"like_probability": False}, "like_probability", ""),
    ],
)
def test_parameters_come_and_go(section, fields, gone, new):
    root = {"prompt": "encoder/", "heads": "head/"}[section]
    before, after = shapes(section), shapes(section, **fields)
    for expected, names in ((gone, before.keys() - after.keys()), (new, after.keys() - before.keys())):
        subtrees = {root + name for name in expected.split()}
        assert {subtree for subtree in subtrees for name in names if f"{name}/".startswith(f"{subtree}/")} == subtrees
        assert all(any(f"{name}/".startswith(f"{subtree}/") for subtree in subtrees) for name in names)


def test_lengths_and_widths_of_the_prompt():
    sizes = shapes(recommendation_prefix=4, entity_width=12, emotion_width=5, bases=3)
    assert sizes["encoder/recommendation/table"] == (4, WIDTH)
    assert sizes["encoder/nodes"] == (ENTITIES + 1, 12) and sizes["encoder/emotion_out/kernel"] == (WIDTH, 5)
    assert sizes["encoder/rgcn/bases"][0] == 3
