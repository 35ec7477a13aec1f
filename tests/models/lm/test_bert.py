"""BERT and RoBERTa: equal to transformers, indifferent to padding."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.models.lm import bert, convert

GOLDEN = Path(__file__).parents[2] / "golden"


def tiny(name):
    arrays = np.load(GOLDEN / f"tiny_{name}.npz")
    config = convert.config_from_hf(json.loads(str(arrays["config"])))
    weights = {key.removeprefix("weights/"): arrays[key] for key in arrays.files if key.startswith("weights/")}
    model, params = bert.Bert(config), convert.from_hf(weights, config)
    return arrays, config, jax.jit(lambda *args: model.apply({"params": params}, *args))


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_tiny_models_equal_transformers(name):
    arrays, config, forward = tiny(name)
    assert config.position_offset == (2 if name == "roberta" else 0)
    types, mask = arrays["token_types"] if name == "bert" else None, arrays["mask"]
    hidden = forward(arrays["tokens"], mask, types).hidden
    np.testing.assert_allclose(np.asarray(hidden)[mask], arrays["hidden"][mask], atol=2e-5)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_padding_changes_nothing_on_either_side(name):
    arrays, _, forward = tiny(name)
    tokens, length = arrays["tokens"][1:], 7
    alone = forward(tokens[:, :length], np.ones((1, length), bool)).hidden
    for at in (0, 4):
        moved, mask = np.full((1, 11), 5, np.int32), np.zeros((1, 11), bool)
        moved[:, at : at + length], mask[:, at : at + length] = tokens[:, :length], True
        hidden = forward(moved, mask).hidden
        np.testing.assert_allclose(hidden[:, at : at + length], alone, atol=1e-5)


def test_an_empty_row_gives_no_nan():
    arrays, _, forward = tiny("bert")
    hidden = forward(arrays["tokens"], jnp.zeros_like(arrays["mask"])).hidden
    assert np.isfinite(hidden).all()


def test_more_tokens_than_positions_are_refused():
    config = bert.BertConfig(9, 8, 1, 2, 8, positions=6, position_offset=2)
    tokens = jnp.zeros((1, 5), jnp.int32)
    with pytest.raises(ValueError, match="5 tokens, but this model has 4 positions"):
        jax.eval_shape(bert.Bert(config).init, jax.random.key(0), tokens, tokens == 0)
    with pytest.raises(ValueError, match="width=8 must be a multiple of heads=3"):
        bert.BertConfig(9, 8, 1, 3, 8)


def test_roberta_base_has_its_size():
    config = bert.BertConfig(50265, 768, 12, 12, 3072, positions=514, token_types=1, position_offset=2, eps=1e-5)
    tokens = jax.ShapeDtypeStruct((1, 512), jnp.int32)
    shapes = jax.eval_shape(bert.Bert(config).init, jax.random.key(0), tokens, jax.ShapeDtypeStruct((1, 512), bool))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 124_645_632 - 768 * 768 - 768  # without the pooler
