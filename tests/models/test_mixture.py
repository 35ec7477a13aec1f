"""The mixture head by hand: its parts, their weights, and what recency, feelings and padding change."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.models.heads import Mixture
from ecr_jax.models.heads.mixture import INITIAL_SHARES

MIXTURE = Mixture(recency_slots=4, mention_turns=6, mention_counts=3)
PARTS = ("cooccurrence", "disliked", "film_text", "liked", "mentioned", "nearest", "popular")
NONE = 4  # the column of what is no candidate
BATCH = {
    "associated": {
        "cooccurrence": (jnp.array([[[1, 2], [2, NONE]]]), jnp.array([[[0.3, 0.1], [0.4, 0.0]]])),
        "liked": (jnp.array([[[3, NONE], [NONE, NONE]]]), jnp.array([[[0.5, 0.0], [0.0, 0.0]]])),
        "disliked": (jnp.array([[[0, NONE], [1, NONE]]]), jnp.array([[[0.5, 0.0], [0.5, 0.0]]])),
        "film_text": (jnp.array([[[0, NONE], [0, NONE]]]), jnp.array([[[0.2, 0.0], [0.3, 0.0]]])),
    },
    "nearest": (jnp.array([[3, 0]]), jnp.array([[0.9, 0.1]])),
    "log_popularity": jnp.log(jnp.array([4.0, 3, 2, 1])),
    "columns": jnp.array([[0, NONE]]),
    "entity_mask": jnp.array([[True, True]]),
    "recency": jnp.array([[1, 0]]),
    "mentions": jnp.array([[[2, 1, 1], [1, 0, 1]]]),
    "feelings": None,
    "last_turn": jnp.array([[1.0, -1.0]]),
}
FEELINGS = jnp.zeros((1, 2, 10))


def params(**shares):
    """Parameters at their initial values, but with these weights of the parts alone."""
    initial = MIXTURE.init(jax.random.key(0), **{**BATCH, "feelings": FEELINGS})["params"]
    if shares:
        initial["share"] = jnp.array([np.log(shares[name]) if name in shares else -1e9 for name in PARTS])
    return initial


def probabilities(of, **changes):
    return jnp.exp(MIXTURE.apply({"params": of}, **{**BATCH, **changes}))[0]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("cooccurrence", [0, 0.375, 0.625, 0]),  # 0.3, 0.1 + 0.4 of 0.8
        ("liked", [0, 0, 0, 1]),
        ("disliked", [0.5, 0.5, 0, 0]),
        ("film_text", [1, 0, 0, 0]),
        ("nearest", [0.1, 0, 0, 0.9]),
        ("mentioned", [1, 0, 0, 0]),  # the other mention is no candidate
        ("popular", [0.4, 0.3, 0.2, 0.1]),
    ],
)
def test_parts_alone(part, expected):
    np.testing.assert_allclose(probabilities(params(**{part: 1.0})), expected, atol=1e-6)


def test_a_mixture_of_parts():
    mixed = probabilities(params(cooccurrence=0.5, nearest=0.3, popular=0.2))
    expected = (
        0.5 * np.array([0, 0.375, 0.625, 0]) + 0.3 * np.array([0.1, 0, 0, 0.9]) + 0.2 * np.array([4, 3, 2, 1]) / 10
    )
    np.testing.assert_allclose(mixed, expected, rtol=1e-5)
    np.testing.assert_allclose(mixed.sum(), 1, rtol=1e-6)
    shares = jax.nn.softmax(params()["share"])
    np.testing.assert_allclose(shares, [INITIAL_SHARES[name] for name in PARTS], rtol=1e-6)
    assert sum(INITIAL_SHARES.values()) == pytest.approx(1)


def test_the_last_turn_chooses_among_the_parts():
    learned = params(cooccurrence=0.5, mentioned=0.5)
    kernel = jnp.zeros((2, len(PARTS))).at[0, PARTS.index("mentioned")].set(np.log(3.0))
    learned["last_turn"]["kernel"] = kernel
    np.testing.assert_allclose(probabilities(learned)[0], 0.75, rtol=1e-3)
    np.testing.assert_allclose(probabilities(learned, last_turn=-BATCH["last_turn"])[0], 0.25, rtol=1e-3)


def test_recency():
    learned = params(cooccurrence=1.0)
    learned["cooccurrence_recency"] = jnp.log(jnp.array([1.0, 3.0, 1.0, 1.0]))  # three times for the earlier mention
    np.testing.assert_allclose(probabilities(learned), np.array([0, 0.9, 0.3 + 0.4, 0]) / 1.6, rtol=1e-5, atol=1e-9)


def test_feelings_at_zero_change_nothing():
    learned = params()
    np.testing.assert_allclose(probabilities(learned, feelings=FEELINGS)[2:], probabilities(learned)[2:], rtol=0.03)
    without = params(cooccurrence=0.4, liked=0.1, nearest=0.3, film_text=0.1, mentioned=0.05, popular=0.05)
    emotional = FEELINGS.at[..., :9].set(0.7)
    np.testing.assert_allclose(probabilities(without, feelings=emotional), probabilities(without), rtol=1e-6)


def test_what_is_disliked_leaves_its_part_to_the_others():
    """The first mention is disliked by 0.8: of its 0.4 a fifth is left, of its part 0.08 + 0.4 of 0.8."""
    hated = FEELINGS.at[0, 0, 9].set(-0.9)
    mixed = probabilities(params(cooccurrence=0.5, popular=0.5), feelings=hated)
    expected = 0.5 * np.array([0, 0.06, 0.02 + 0.4, 0]) / 0.8 + 0.5 * np.array([4, 3, 2, 1]) / 10
    np.testing.assert_allclose(mixed, expected, rtol=1e-5)
    np.testing.assert_allclose(
        probabilities(params(disliked=1.0), feelings=hated), [0.8 * 0.5, 0, 0, 0], atol=1e-6
    )  # what is liked where it is disliked


def test_nothing_is_mentioned():
    nothing = probabilities(params(), entity_mask=jnp.zeros((1, 2), bool))
    parts = {name: INITIAL_SHARES[name] for name in ("nearest", "popular")}
    expected = parts["nearest"] * np.array([0.1, 0, 0, 0.9]) + parts["popular"] * np.array([4, 3, 2, 1]) / 10
    np.testing.assert_allclose(nothing, expected, rtol=1e-5)


def test_gradients_are_finite():
    def loss(of, feelings, mask):
        return MIXTURE.apply({"params": of}, **{**BATCH, "feelings": feelings, "entity_mask": mask})[0, 1]

    for mask in (jnp.ones((1, 2), bool), jnp.zeros((1, 2), bool)):
        gradients = jax.grad(loss)(params(), FEELINGS.at[0, 0, 9].set(-1.0), mask)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
