"""A small graph, batches of random arrays and random parameters, which the tests of the models share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.models.rgcn import graphs_tuple


def small_graph(encoded_nodes=None):
    rng = np.random.default_rng(0)
    return graphs_tuple(*np.unique(rng.integers(0, [11, 11, 3], (40, 3)), axis=0).T, 12, encoded_nodes)


def small_batch(rows=3, text=4, slots=3, neighbours=2, seed=0):
    """A batch of random arrays in which some words, slots and neighbours are padding."""
    rng = np.random.default_rng(seed)
    text_mask = np.arange(text) < np.array([text, 2, 1])[:rows, None]
    entity_mask = np.arange(slots) < np.array([slots, 1, 0])[:rows, None]
    entities = np.where(entity_mask, rng.integers(0, 11, (rows, slots)), 11)
    weights = rng.random((rows, slots, neighbours)) * entity_mask[:, :, None]
    weights[0, 0] = 0
    return {
        "text_states": rng.standard_normal((rows, text, 6)).astype(np.float32),
        "text_mask": text_mask,
        "text_ages": rng.integers(1, 12, (rows, text)),
        "emotion_totals": rng.random((rows, 9), np.float32),
        "entities": entities.astype(np.int32),
        "entity_mask": entity_mask,
        "emotions": rng.integers(0, 9, (rows, slots, 3)).astype(np.int32),
        "emotion_probs": (rng.random((rows, slots, 3)) * entity_mask[:, :, None]).astype(np.float32),
        "mentions": rng.integers(0, 4, (rows, slots, 3)).astype(np.int32) % np.array([4, 2, 4]),
        "neighbours": rng.integers(0, 11, (rows, slots, neighbours)).astype(np.int32),
        "neighbour_weights": weights.astype(np.float32),
    }


def widen(batch, text=2, slots=2, seed=9):
    """The same rows with more padding, filled with arbitrary values where masks hide them."""
    rng = np.random.default_rng(seed)
    extra = {"text_states": text, "text_mask": text, "text_ages": text}
    wide = {"emotion_totals": batch["emotion_totals"]}
    for key, array in batch.items():
        if key in wide:
            continue
        shape = (array.shape[0], extra.get(key, slots), *array.shape[2:])
        if key in ("text_mask", "entity_mask"):
            more = np.zeros(shape, bool)
        elif key == "text_states":
            more = 100 * rng.standard_normal(shape)
        elif key in ("entities", "neighbours", "emotions"):
            more = np.full(shape, {"entities": 11, "neighbours": 11, "emotions": 9}[key])
        else:
            more = np.zeros(shape)
        wide[key] = np.concatenate([array, more.astype(array.dtype)], axis=1)
    return wide


def random_like(shapes, seed=0):
    """Parameters in which nothing is zero, without compiling an initialisation."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(0.4 * rng.standard_normal(leaf.shape), leaf.dtype), shapes)
