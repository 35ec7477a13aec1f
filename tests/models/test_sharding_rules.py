"""Every parameter of every model has exactly the axes that its table names, and no table has a rule for nothing."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.models import sharding_rules
from ecr_jax.models.classifier import Classifier
from ecr_jax.models.lm.llama import LlamaConfig
from ecr_jax.models.prompt import PromptEncoder
from ecr_jax.models.valence import ValenceModel
from ecr_jax.training import sharding
from tests.models.configs import SIZES, prompt_config
from tests.models.small_inputs import small_batch, small_graph
from tests.models.small_recommender import CONSTANTS, ITEMS, recommender, with_evidence, with_tokens

LLAMA = LlamaConfig(16, 8, 1, 2, 1, 4, 12)
PRESETS = ("improved", "paper", "code")
TEXT = np.zeros((12, 5), np.float32)


def recommenders():
    """All parameters that a recommender can have, over presets and what each may be given."""
    batch = with_evidence(with_tokens(small_batch()))
    for preset, heads in (
        ("improved", {}),
        ("summed", {"repetition": "gate"}),
        ("code", {"cooccurrence": "published"}),
    ):
        model = recommender(preset, **heads)
        yield jax.eval_shape(
            lambda model=model: model.init(
                jax.random.key(0), small_graph(), batch, ITEMS, entity_text=TEXT, **CONSTANTS
            )["params"]
        )


def prompts():
    for preset in PRESETS:
        encoder = PromptEncoder(prompt_config(preset), SIZES)
        for task in ("conversation", "recommendation"):
            yield jax.eval_shape(
                lambda encoder=encoder, task=task: encoder.init(
                    jax.random.key(0), small_graph(), small_batch(), task, TEXT
                )["params"]
            )


def check(table, trees):
    """Each array has a rule with its number of axes. Returns the patterns that no array needs."""
    unused = dict.fromkeys(pattern for pattern, _ in table)
    for tree in trees:
        for path, leaf in zip(jax.tree.leaves(sharding.leaf_paths(tree)), jax.tree.leaves(tree), strict=True):
            pattern, axes = next((rule for rule in table if re.search(rule[0], path)), ("", None))
            assert axes is not None and len(axes) == np.ndim(leaf), (path, np.shape(leaf), axes)
            unused.pop(pattern, None)
    return list(unused)


def test_every_parameter_of_a_recommender_has_a_rule():
    rules = sharding_rules.recommender_rules(LLAMA)
    own = [rule for rule in rules if rule[0].startswith(("^encoder", "^head"))]
    assert check(own, [*recommenders(), *({"encoder": tree} for tree in prompts())]) == []


def test_every_constant_of_a_recommender_has_a_rule():
    frozen = dict(CONSTANTS) | {"graph": small_graph(), "entity_text": TEXT}
    encoded = {"graph": small_graph(np.array([1, 4, 11]))}
    table = [(f"^(?:{pattern})$", axes) for pattern, axes in sharding_rules.RECOMMENDER_CONSTANTS]
    assert check(table, [frozen, encoded]) == []


def test_every_parameter_of_a_classifier_has_a_rule():
    tree = jax.eval_shape(lambda: Classifier(8, len(EMOTIONS)).init(jax.random.key(0), jnp.zeros((1, 6)))["params"])
    assert check(sharding_rules.classifier_rules(), [tree]) == []


def test_every_parameter_of_the_valence_model_has_a_rule():
    model = ValenceModel(classes=3, places=5, barriers=4, hidden=8, heads=2, dropout=0.1)
    states, marks = jnp.zeros((1, 4, 6)), jnp.zeros((1, 4), jnp.int32)
    init = jax.vmap(lambda key: model.init(key, states, marks.astype(bool), marks, marks)["params"])
    tree = jax.eval_shape(lambda: init(jax.random.split(jax.random.key(0), 5)))
    assert check(sharding_rules.valence_rules(), [tree]) == []


@pytest.mark.parametrize(
    ("strategy", "model", "nodes", "key_values"),
    [("data", 1, (9, 16), (32, 64)), ("fsdp", 1, (9, 2), (4, 64)), ("tensor", 4, (9, 4), (32, 16)),
     ("fsdp_tensor", 4, (9, 2), (16, 16))],
)  # fmt: skip
def test_what_a_device_holds_of_the_prompt_encoder(strategy, model, nodes, key_values):
    tree = {
        "encoder": {
            "nodes": jax.ShapeDtypeStruct((9, 16), jnp.float32),
            "key_values": {"kernel": jax.ShapeDtypeStruct((32, 64), jnp.float32)},
        }
    }
    places = sharding.shardings(tree, sharding_rules.generator_rules(LLAMA), sharding.make_mesh(model), strategy)
    held = jax.tree.map(lambda leaf, place: place.shard_shape(leaf.shape), tree, places)["encoder"]
    assert held == {"nodes": nodes, "key_values": {"kernel": key_values}}
