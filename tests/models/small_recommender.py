"""A recommender over eleven entities, with a stand-in for the language model."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.models.heads import SimilarFilms, facts_of
from ecr_jax.models.layers import last_state
from ecr_jax.models.recommender import Recommender
from tests.models.configs import SIZES, heads_config, prompt_config
from tests.models.small_inputs import random_like, small_batch, small_graph

ITEMS = np.array([1, 4, 5, 9], np.int32)
ODDS = np.linspace(-1, 1, 12, dtype=np.float32)  # of being liked, by entity
# 7 directs 1 and 4; 4, 5 and 9 are of the genre 8; the last triple joins no item.
TRIPLES = np.array([[1, 0, 7], [4, 0, 7], [4, 1, 8], [5, 1, 8], [9, 1, 8], [10, 2, 2]])


def facts(most=2):
    return facts_of(TRIPLES, ITEMS, 11, 3, most)


SIMILAR_FILMS = SimilarFilms(
    jnp.full((12, 2), 11).at[1].set(jnp.array([4, 9])).at[4, 0].set(1).at[9, 0].set(1),
    jnp.zeros((12, 2)).at[1].set(jnp.array([0.7, 0.2])).at[4, 0].set(0.7).at[9, 0].set(0.2),
)
CONSTANTS = {"item_prior": jnp.arange(12.0), "facts": facts(), "item_odds": ODDS, "similar_films": SIMILAR_FILMS}


def language_model(batch, prefix):
    """A stand-in that attends to the prefix as a decoder does: states depend on unmasked positions only."""
    tokens, mask = batch["tokens"], batch["token_mask"]
    scores = jnp.where(prefix.mask, prefix.keys[0, :, 0].sum(-1), -1e30)  # [B, P]
    weights = jax.nn.softmax(scores, axis=-1) * prefix.mask.any(-1, keepdims=True)
    read = jnp.einsum("bp,lbhpd->bd", weights, prefix.values)  # [B, Dh]
    states = jnp.sin(tokens[:, :, None] + jnp.arange(SIZES.width))
    states += jnp.tile(read, (1, SIZES.width // SIZES.head_dim))[:, None]
    return last_state(states, mask)


def with_tokens(batch, length=4):
    rows = batch["entities"].shape[0]
    mask = np.arange(length) < np.array([[4], [3], [2]])[:rows]
    return {**batch, "tokens": np.where(mask, np.arange(length)[None], 7).astype(np.int32), "token_mask": mask}


def recommender(preset="improved", **fields):
    return Recommender(prompt_config(preset), SIZES, heads_config(preset, **fields))


def random_params(model):
    batch = with_evidence(with_tokens(small_batch()))
    init = functools.partial(model.init, **CONSTANTS)
    return random_like(jax.eval_shape(init, jax.random.key(0), small_graph(), batch, ITEMS)["params"])


@functools.partial(jax.jit, static_argnums=(0,))
def scores_of(model, params, batch):
    return model.apply({"params": params}, small_graph(), batch, ITEMS, language_model=language_model, **CONSTANTS)


def logits_of(model, params, batch):
    return scores_of(model, params, batch).logits


def with_cooccurrence(batch, seed=4):
    """Adds co-occurring items, padded as in a batch: short rows and padded slots hold the pad id with weight 0."""
    rng = np.random.default_rng(seed)
    ids, weights = _weighted_items(rng, (*batch["entities"].shape, 3), batch["entity_mask"][:, :, None])
    return {**batch, "cooccurring_items": ids, "cooccurrence_weights": weights}


def with_evidence(batch, seed=5):
    """Adds co-occurring items and what else the mixture head reads, padded as in a batch."""
    rng, mask = np.random.default_rng(seed), batch["entity_mask"]
    evidence = {"valence": np.where(mask, rng.uniform(-1, 1, mask.shape), 0).astype(np.float32)}
    for name in ("liked", "disliked"):
        ids, weights = _weighted_items(rng, (*mask.shape, 2), mask[:, :, None])
        evidence |= {f"{name}_items": ids, f"{name}_weights": weights}
    ids, weights = _weighted_items(rng, (len(mask), 3), np.ones((len(mask), 1), bool))
    return {**with_cooccurrence(batch), **evidence, "nearest_items": ids, "nearest_weights": weights}


def _weighted_items(rng, shape, mask):
    real = (rng.random(shape) < 0.7) & mask
    ids = np.where(real, rng.integers(0, 11, shape), 11).astype(np.int32)
    return ids, (real * rng.random(shape)).astype(np.float32)
