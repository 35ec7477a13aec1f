"""The language model of a generating stage, by what the stage trained."""

from __future__ import annotations

import types

import jax
import numpy as np
import pytest

from ecr_jax import config as configs
from ecr_jax.export import adapter, generator, manifest
from ecr_jax.export.source import Source
from ecr_jax.models.lm import lora
from tests import tiny

SIZES = tiny.llama(12)


def source(stage, params=None, **changes):
    config = configs.load("demo")
    for path, value in changes.items():
        config = configs.replace(config, path.replace("__", "."), value)
    experiment = types.SimpleNamespace(
        config=config,
        params=lambda name: params,
        language_model=lambda *_, **__: (tiny.random_model(SIZES), None),
    )
    return Source(experiment, stage)


def test_a_model_that_was_tuned_as_a_whole_is_its_own_base(tmp_path):
    tuned = tiny.random_model(SIZES, seed=1).params
    whole = source("response", {"language_model": tuned})
    model = generator.generator(whole)
    assert model.adapter is None
    jax.tree.map(np.testing.assert_array_equal, model.merged().params, tuned)
    with pytest.raises(ValueError, match=r"'response' trained no adapter \(response.tune\); export it with --to hf"):
        adapter.write(whole, tmp_path)


def test_trained_rows_are_the_embeddings_of_the_last_tokens():
    rows = np.full((2, SIZES.width), 7, np.float32)
    model = generator.generator(source("conversation", {"movie": {"rows": rows}}))
    embedding = np.asarray(model.merged().params["embed"]["embedding"])
    np.testing.assert_array_equal(embedding[-2:], rows)
    np.testing.assert_array_equal(
        embedding[:-2], np.asarray(tiny.random_model(SIZES).params["embed"]["embedding"])[:-2]
    )


def test_an_adapter_stays_apart_until_it_is_merged():
    base, stage = tiny.random_model(SIZES), source("response")
    settings = stage.experiment.config.response.adapter
    shapes = jax.eval_shape(lambda key: lora.init(key, base.params, settings), jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, np.float32), shapes)
    model = generator.generator(source("response", {"adapter": params}))
    jax.tree.map(np.testing.assert_array_equal, model.base.params, base.params)
    jax.tree.map(np.testing.assert_array_equal, model.merged().params, lora.merge(base.params, params, settings))


def test_only_a_stage_with_a_knowledge_prompt_lacks_it():
    assert "knowledge prompt" in manifest.limits(source("conversation", conversation__prefix=True))
    assert "knowledge prompt" not in manifest.limits(source("conversation", conversation__prefix=False))
