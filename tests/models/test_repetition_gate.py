"""The repetition gate by hand, at its ends, and in the whole recommender."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ecr_jax.models.heads import RepetitionGate, mention_kind
from tests.models.small_inputs import small_batch, widen
from tests.models.small_recommender import ITEMS, logits_of, random_params, recommender, with_cooccurrence, with_tokens

GATE = RepetitionGate(mention_turns=6, mention_counts=3)
LOGITS = jnp.log(jnp.array([[1.0, 2, 3, 4]]))
BATCH = {
    "columns": jnp.array([[0, 2, 4, 1]]),  # the third is no candidate, the fourth is padding
    "entity_mask": jnp.array([[True, True, True, False]]),
    "mentions": jnp.array([[[1, 1, 1], [2, 0, 1], [1, 1, 1], [0, 0, 0]]]),
    "text_states": jnp.array([[[1.0, -1.0], [5.0, 3.0], [9.0, 9.0]]]),
    "text_mask": jnp.array([[True, True, False]]),
    "text_ages": jnp.array([[1, 2, 1]]),
}


def params(bias=0.0, kinds=None, last_turn=(0.0, 0.0)):
    table = jnp.zeros(36)
    for mention, value in (kinds or {}).items():
        table = table.at[mention_kind(np.array(mention), 6, 3)].set(value)
    return {"bias": jnp.asarray(bias), "kind": table, "last_turn": {"kernel": jnp.array(last_turn)[:, None]}}


def probabilities(gate_params, logits=LOGITS, **changes):
    return jnp.exp(GATE.apply({"params": gate_params}, logits=logits, **{**BATCH, **changes}))


def test_by_hand():
    """Odds of e^b (2 + 4): by the kinds of the two mentioned candidates; each softmax is over its own candidates."""
    chances = probabilities(params(np.log(0.25), {(1, 1, 1): np.log(2.0), (2, 0, 1): np.log(4.0)}))
    g = 1.5 / 2.5
    np.testing.assert_allclose(chances, [[g * 1 / 4, (1 - g) * 2 / 6, g * 3 / 4, (1 - g) * 4 / 6]], rtol=1e-6)


def test_only_the_last_turn_opens_the_gate():
    """Its one real state is (1, -1), which normalisation leaves: w . s = 0.7 - 0.2."""
    chances = probabilities(params(0.0, last_turn=(0.7, 0.2)))
    odds = float((chances[0, 0] + chances[0, 2]) / (chances[0, 1] + chances[0, 3]))
    assert odds == pytest.approx(2 * np.exp(0.5), rel=1e-4)
    moved = probabilities(params(0.0, last_turn=(0.7, 0.2)), text_states=BATCH["text_states"].at[0, 1:].set(7.0))
    np.testing.assert_array_equal(moved, chances)


@pytest.mark.parametrize(("bias", "expected"), [(200.0, [1 / 4, 0, 3 / 4, 0]), (-200.0, [0, 2 / 6, 0, 4 / 6])])
def test_open_and_closed(bias, expected):
    np.testing.assert_allclose(probabilities(params(bias)), [expected], atol=1e-6)


def test_nothing_or_everything_is_mentioned():
    nothing = probabilities(params(3.0), entity_mask=jnp.zeros((1, 4), bool))
    np.testing.assert_allclose(nothing, [[0.1, 0.2, 0.3, 0.4]], rtol=1e-6)
    everything = probabilities(params(-3.0), columns=jnp.array([[0, 1, 2, 3]]), entity_mask=jnp.ones((1, 4), bool))
    np.testing.assert_allclose(everything, [[0.1, 0.2, 0.3, 0.4]], rtol=1e-6)


@pytest.mark.parametrize("mask", [[True, True, True, False], [False] * 4], ids=["some", "none"])
def test_gradients(mask):
    gate_params = params(-1.0, {(1, 1, 1): 0.5, (2, 0, 1): -0.5}, (0.3, -0.1))

    def log_probabilities(gate_params, logits):
        return GATE.apply({"params": gate_params}, logits=logits, **{**BATCH, "entity_mask": jnp.array([mask])})

    check_grads(log_probabilities, (gate_params, LOGITS), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)
    gradients = jax.grad(lambda *x: log_probabilities(*x).sum(), argnums=(0, 1))(gate_params, LOGITS)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_starts_with_few_repetitions():
    initial = GATE.init(jax.random.key(0), logits=LOGITS, **BATCH)["params"]
    chances = probabilities(initial)
    odds = 2 * np.exp(-3.5)  # two candidates are mentioned
    assert float(chances[0, 0] + chances[0, 2]) == pytest.approx(odds / (1 + odds), rel=1e-5)


@pytest.mark.slow
def test_in_the_recommender():
    """Probabilities over the candidates sum to 1; the gate orders the mentioned ones as the score alone does."""
    gated, scored = recommender(repetition="gate"), recommender()
    batch = with_cooccurrence(with_tokens(small_batch()))
    batch["entities"][0] = [4, 9, 7]
    learned = random_params(gated)
    logits = logits_of(gated, learned, batch)
    np.testing.assert_allclose(jnp.exp(logits).sum(axis=1), 1, rtol=1e-5)
    head = {name: value for name, value in learned["head"].items() if name != "gate"}
    plain = logits_of(scored, {**learned, "head": head}, batch)
    for columns in ([1, 3], [0, 2]):  # mentioned: 4 and 9
        shift = (logits - plain)[0, jnp.array(columns)]
        np.testing.assert_allclose(shift[0], shift[1], atol=1e-4)
    assert ITEMS[[1, 3]].tolist() == [4, 9]
    np.testing.assert_allclose(logits[2], jax.nn.log_softmax(plain[2]), atol=1e-5)  # row 2 mentions nothing


@pytest.mark.slow
def test_padding_changes_nothing():
    model = recommender(repetition="gate")
    batch = with_cooccurrence(with_tokens(small_batch()))
    learned = random_params(model)
    narrow = {name: value for name, value in batch.items() if not name.startswith(("token", "cooccur"))}
    wide = {**widen(narrow), **{name: batch[name] for name in ("tokens", "token_mask")}}
    narrow = {**narrow, **{name: batch[name] for name in ("tokens", "token_mask")}}
    np.testing.assert_allclose(logits_of(model, learned, wide), logits_of(model, learned, narrow), atol=1e-4)
    alone = logits_of(model, learned, {name: value[1:2] for name, value in narrow.items()})
    np.testing.assert_allclose(alone, logits_of(model, learned, narrow)[1:2], atol=1e-4)
