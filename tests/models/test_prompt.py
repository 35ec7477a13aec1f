"""The prompt encoder: shapes, masks, invariances, the published sizes and the published numbers."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.models.layers import masked_softmax
from ecr_jax.models.prompt import PromptEncoder, PromptSizes
from ecr_jax.models.rgcn import graphs_tuple
from tests.models.configs import SIZES, prompt_config
from tests.models.published import fill
from tests.models.small_inputs import random_like, small_batch, small_graph, widen


@pytest.fixture(scope="module", params=["recommendation", "conversation", "fusion"])
def task(request):
    return request.param


@pytest.fixture(scope="module")
def encoder_and_params(task):
    encoder = PromptEncoder(prompt_config(), SIZES)
    return encoder, initial(encoder, task)


@functools.partial(jax.jit, static_argnums=(0, 3))
def apply(encoder, params, batch, task):
    return encoder.apply({"params": params}, small_graph(), batch, task)


def initial(encoder, task, *entity_text):
    shapes = jax.eval_shape(
        lambda: encoder.init(jax.random.key(0), small_graph(), small_batch(), task, *entity_text)["params"]
    )
    return random_like(shapes)


def test_shapes(encoder_and_params, task):
    prefix = apply(*encoder_and_params, small_batch(), task)
    positions = {"recommendation": 2 + 6, "conversation": 3 + 4, "fusion": 6}[task]
    assert prefix.keys.shape == prefix.values.shape == (3, 3, 2, positions, 4)
    learned = {"recommendation": 2, "conversation": 3, "fusion": 0}[task]
    assert prefix.mask[:, :learned].all()
    batch = small_batch()
    if task == "conversation":
        np.testing.assert_array_equal(prefix.mask[:, learned:], batch["text_mask"])
    else:
        related = batch["entity_mask"] & (batch["neighbour_weights"] > 0).any(-1)
        np.testing.assert_array_equal(prefix.mask[:, learned:], np.hstack([batch["entity_mask"], related]))
        assert not related[0, 0]


def real(prefix):
    """The unmasked positions' keys and values, row by row."""
    rows = [np.flatnonzero(row) for row in np.asarray(prefix.mask)]
    return [np.asarray(part[:, b][:, :, rows[b]]) for b in range(len(rows)) for part in (prefix.keys, prefix.values)]


def test_padding_changes_nothing(encoder_and_params, task):
    once, wide = apply(*encoder_and_params, small_batch(), task), apply(*encoder_and_params, widen(small_batch()), task)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), real(once), real(wide))


def test_other_rows_change_nothing(encoder_and_params, task):
    batch = small_batch()
    together = real(apply(*encoder_and_params, batch, task))
    for row in range(3):
        alone = real(apply(*encoder_and_params, {key: array[row : row + 1] for key, array in batch.items()}, task))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), together[2 * row : 2 * row + 2], alone)


def test_published_preset_lets_padding_in():
    encoder = PromptEncoder(prompt_config("code"), SIZES)
    params = initial(encoder, "fusion")
    prefix = apply(encoder, params, small_batch(), "fusion")
    assert prefix.mask.all()
    batch = small_batch()
    batch["text_states"][1, 3] += 1  # a padded word
    assert np.abs(apply(encoder, params, batch, "fusion").keys - prefix.keys).max() > 1e-4


def test_padding_entity_is_zero(encoder_and_params):
    encoder, params = encoder_and_params
    table = jax.jit(lambda: encoder.apply({"params": params}, small_graph(), method="entity_table"))().rows
    assert table.shape == (12, 16) and not table[11].any() and table[:11].any(axis=1).all()


def test_only_some_entities_are_encoded(encoder_and_params):
    encoder, params = encoder_and_params
    encoded_nodes = np.array([0, 3, 4, 7, 11])
    run = jax.jit(lambda graph: encoder.apply({"params": params}, graph, method="entity_table"))
    whole, some = run(small_graph()), run(small_graph(encoded_nodes))
    assert some.rows.shape == (5, 16)
    np.testing.assert_allclose(some[encoded_nodes], whole[encoded_nodes], atol=1e-6)
    assert not some[jnp.array([[1, 11], [5, 10]])].any()  # the others are padding


def test_entity_text_is_used_and_its_absence_free():
    encoder = PromptEncoder(prompt_config(), SIZES)
    text = jnp.ones((12, 5), jnp.float16)
    params = initial(encoder, "fusion", text)
    assert params.keys() - initial(encoder, "fusion").keys() == {"entity_text"}
    table = jax.jit(functools.partial(encoder.apply, method="entity_table"))
    tables = [table({"params": params}, small_graph(), text * scale).rows for scale in (1, 2)]
    assert np.abs(tables[0] - tables[1]).max() > 1e-3


@pytest.mark.parametrize(
    "fields",
    [
        dict(emotions=False),
        dict(global_entities=False),
        dict(emotions=False, global_entities=False),
        dict(emotion_table="direct", emotion_fusion="linear"),
    ],
)
def test_ablations(fields):
    encoder = PromptEncoder(prompt_config(**fields), SIZES)
    params = initial(encoder, "recommendation")
    assert ("emotions" in params) == fields.get("emotions", True)
    prefix = apply(encoder, params, small_batch(), "recommendation")
    assert prefix.keys.shape[3] == 2 + (6 if fields.get("global_entities", True) else 3)


def test_dropout_needs_an_rng(encoder_and_params, task):
    encoder, params = encoder_and_params
    still = apply(encoder, params, small_batch(), task).keys

    @jax.jit
    def dropped(key):
        return encoder.apply({"params": params}, small_graph(), small_batch(), task, rngs={"dropout": key}).keys

    first, second = dropped(jax.random.key(1)), dropped(jax.random.key(2))
    assert np.abs(still - first).max() > 1e-4 and np.abs(first - second).max() > 1e-4


def test_masked_softmax():
    scores, mask = jnp.array([[0.0, jnp.log(3.0), 9.0], [1.0, 2.0, 3.0]]), jnp.array([[1, 1, 0], [0, 0, 0]], bool)
    np.testing.assert_allclose(masked_softmax(scores, mask, 1), [[0.25, 0.75, 0], [0, 0, 0]], rtol=1e-6)
    gradient = jax.grad(lambda s: masked_softmax(s, mask, 1)[0, 0])(scores)
    assert np.isfinite(gradient).all() and not gradient[1].any()


def test_initial_values():
    encoder = PromptEncoder(prompt_config(), SIZES)
    graph, batch = small_graph(), small_batch()
    params = jax.jit(lambda key: encoder.init(key, graph, batch, "recommendation"))(jax.random.key(0))["params"]
    kernel, bias = params["key_values"]["kernel"], params["key_values"]["bias"]
    for leaf in (kernel, bias):  # uniform within prefix_scale / sqrt(16)
        assert 0.2 < np.abs(leaf).max() / 0.02 <= 0.25
    np.testing.assert_allclose(np.linalg.norm(params["nodes"], axis=1).mean(), 1, atol=0.2)
    assert not params["rgcn"]["bias"].any()


def test_published_sizes():
    config = prompt_config(
        "code", entity_width=384, emotion_width=48, bases=8, recommendation_prefix=10, conversation_prefix=20
    )
    sizes = PromptSizes(entities=31_161, relations=25, width=768, layers=12, kv_heads=12, head_dim=64, token_width=768)
    none = np.zeros(0, np.int32)
    graph = graphs_tuple(none, none, none, 31_162)
    batch = {key: array[:, :, :1] if array.ndim > 2 else array for key, array in small_batch(rows=1).items()}
    batch["text_states"] = np.zeros((1, 4, 768), np.float32)
    batch["emotions"], batch["emotion_probs"] = np.zeros((1, 3, 3), np.int32), np.zeros((1, 3, 3), np.float32)

    def count(task):
        tree = jax.eval_shape(lambda: PromptEncoder(config, sizes).init(jax.random.key(0), graph, batch, task))
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    unused = 590_592 + 21_145  # a third fusion layer and the co-occurrence head, which these tasks do not use
    assert count("fusion") == 33_403_905 - unused
    assert count("recommendation") == 34_002_561 - unused


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)


MODES = {
    "pre": ("fusion", {}),
    "rec": ("recommendation", {}),
    "rec_noglobal": ("recommendation", dict(global_entities=False)),
    "rec_noemo": ("recommendation", dict(global_entities=False, emotions=False)),
    "conv": ("conversation", {}),
    "conv48": ("conversation", dict(emotions=False)),
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_published_numbers(published, mode):
    task, fields = MODES[mode]
    model = "kgC" if mode == "conv48" else "kgA"
    batch = published.batch(token_states="token_states48" if mode == "conv48" else "token_states")
    encoder = PromptEncoder(published.config(**fields), published.sizes(48 if mode == "conv48" else 64))
    shapes = jax.eval_shape(lambda: encoder.init(jax.random.key(0), published.graph, batch, task))["params"]
    params = fill(shapes, published.arrays, f"{model}/")

    def run(params):
        bound = encoder.bind({"params": params})
        table = bound.entity_table(published.graph)
        fused = bound.fuse(table, batch, task)
        emotions = bound.emotion_table() if mode == "rec" else None
        return table, fused, emotions, bound.task_prompt(fused, task)[0], bound.project(fused, task)

    table, fused, emotions, prompt, prefix = jax.jit(run)(params)
    close(table.rows, published["out/kgC/entity_embeds" if mode == "conv48" else "out/entity_embeds"])
    close(prompt, published[f"out/{mode}/prompt_in"])
    close(jnp.stack([prefix.keys, prefix.values], axis=1), published[f"out/{mode}/prompt_embeds"])
    assert prefix.mask.all()
    for part, array in (("local", fused.local), ("global", fused.neighbours), ("fused", fused.prompt)):
        if f"out/{mode}/{part}" in published.arrays:
            close(array, published[f"out/{mode}/{part}"])
    if mode == "rec":
        close(emotions, published["out/emo_embeds"])
        close(fused.neighbours, published["out/nei_rep"])
        emotion = jnp.einsum("bel,belm->bem", batch["emotion_probs"], emotions[batch["emotions"]])
        close(emotion, published["out/emotion_fused_per_entity"])
