"""How feelings reach the scores: factors of mentions at zero and beyond, and the aversion head by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.models.heads import Aversion, FeelingWeight, dislike, facts_of, feelings_of

FEELINGS = feelings_of(
    jnp.array([[[4, 2, 9], [0, 9, 9], [9, 9, 9]]]),
    jnp.array([[[0.5, 0.2, 0.0], [0.8, 0.0, 0.0], [0.0, 0.0, 0.0]]]),
    jnp.array([[-0.75, 0.6, -1.0]]),
)


def factors(**weights):
    """The factors of the three mentions, with w by the names of some feelings."""
    w = jnp.zeros(10)
    for name, value in weights.items():
        w = w.at[{"like": 0, "happy": 2, "negative": 4, "valence": 9}[name]].set(value)
    return jnp.exp(FeelingWeight().apply({"params": {"weights": w}}, FEELINGS))[0]


def test_feelings():
    np.testing.assert_allclose(FEELINGS[0, 0], [0, 0, 0.2, 0, 0.5, 0, 0, 0, 0, -0.75])
    np.testing.assert_allclose(dislike(FEELINGS), [[0.5, 0, 1]])


def test_at_zero_only_dislike_counts():
    """What is liked, or of which nothing is known, counts as it did without feelings; dislike takes its part away."""
    np.testing.assert_allclose(factors(), [0.5, 1, 0.01], rtol=1e-6)
    assert not FeelingWeight().init(jax.random.key(0), FEELINGS)["params"]["weights"].any()


def test_learned_factors():
    expected = [0.5 * np.exp(2 * 0.5 - 0.75), np.exp(0.6), 0.01 * np.exp(-1.0)]
    np.testing.assert_allclose(factors(negative=2.0, valence=1.0), expected, rtol=1e-5)


# 7 directs 1 and 4; 4, 5 and 9 are of the genre 8.
TRIPLES = np.array([[1, 0, 7], [4, 0, 7], [4, 1, 8], [5, 1, 8], [9, 1, 8]])
ITEMS = np.array([1, 4, 5, 9], np.int32)
FACTS = facts_of(TRIPLES, ITEMS, 11, 2, most=2)
STRENGTHS = {"relations": np.array([1.0, 2.0, 0.0]), "itself": np.array(3.0), "cooccurrence": np.array(0.5)}


def aversion(entities, disliked, columns=(4, 4), weights=(0.0, 0.0)):
    """The logits of one mention, with the strengths 1 for directors, 2 for genres, 3 and 0.5 for the others."""
    params = jax.tree.map(lambda strength: jnp.log(jnp.expm1(strength)), STRENGTHS)  # the inverse of softplus
    shape = (1, len(entities), 2)
    return Aversion().apply(
        {"params": params},
        dislike=jnp.array([disliked]),
        entities=jnp.array([entities]),
        facts=FACTS,
        item_ids=jnp.asarray(ITEMS),
        columns=jnp.broadcast_to(jnp.asarray(columns), shape),
        weights=jnp.broadcast_to(jnp.asarray(weights), shape),
    )[0]


def specificity(degree):
    return 1 - np.log(degree) / np.log(11)


@pytest.mark.slow
def test_a_disliked_genre_or_person_counts_against_what_has_it():
    np.testing.assert_allclose(aversion([8], [1.0]), [0, -3, -3, -3], rtol=1e-5)
    np.testing.assert_allclose(aversion([7], [0.5]), [-1.5, -1.5, 0, 0], rtol=1e-5)


def test_a_disliked_film_counts_against_what_shares_its_facts():
    director, genre = 1 * specificity(2), 2 * specificity(3)
    np.testing.assert_allclose(aversion([4], [1.0]), [-director, -director - genre, -genre, -genre], rtol=1e-5)


def test_a_disliked_film_counts_against_what_co_occurs_with_it():
    """By the root of its share of the most frequent one: all and half of the strength; the second mention is liked."""
    logits = aversion([11, 11], [1.0, 0.0], columns=[2, 3], weights=[0.2, 0.05])
    np.testing.assert_allclose(logits, [0, 0, -0.5, -0.25], rtol=1e-5)


@pytest.mark.parametrize("strength", [-5.0, 0.0, 5.0])
def test_nothing_learned_makes_dislike_a_recommendation(strength):
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, strength), STRENGTHS)
    arguments = {"facts": FACTS, "item_ids": jnp.asarray(ITEMS), "entities": jnp.array([[4, 8]])}
    arguments |= {"columns": jnp.array([[[1, 2], [0, 3]]]), "weights": jnp.array([[[0.3, 0.1], [0.2, 0.2]]])}
    logits = Aversion().apply({"params": params}, dislike=jnp.array([[0.9, 0.4]]), **arguments)
    assert (logits < 0).all()
    assert not Aversion().apply({"params": params}, dislike=jnp.zeros((1, 2)), **arguments).any()
