"""Losses against numbers worked out by hand, and against padding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ecr_jax import losses

LOGITS = jnp.log(jnp.array([[1.0, 2.0, 5.0], [6.0, 1.0, 1.0]]))  # softmax: 1/8 2/8 5/8, 6/8 1/8 1/8


def test_cross_entropy_by_hand():
    targets, where = jnp.array([[1, 2], [0, 99]]), jnp.array([[True, True], [True, False]])
    values = losses.cross_entropy(logits=LOGITS, targets=targets, where=where)
    np.testing.assert_allclose(values, [np.log(4) + np.log(8 / 5), np.log(8 / 6)], rtol=1e-6)


def test_feedback_cross_entropy_by_hand():
    values = losses.feedback_cross_entropy(
        logits=LOGITS,
        targets=jnp.array([[1, 2], [0, 0]]),
        weights=jnp.array([[2.0, 0.5], [1.0, 7.0]]),
        where=jnp.array([[True, True], [True, False]]),
    )
    np.testing.assert_allclose(values, [2 * np.log(4) + 0.5 * np.log(8 / 5), np.log(8 / 6)], rtol=1e-6)


def test_language_model_is_shifted():
    logits = jnp.log(jnp.array([[[1.0, 3.0], [1.0, 1.0], [5.0, 1.0]]]))
    tokens = jnp.array([[0, 1, 0]])
    everything = losses.language_model(logits=logits, tokens=tokens, where=jnp.ones((1, 3), bool))
    np.testing.assert_allclose(everything, [np.log(4 / 3) + np.log(2)], rtol=1e-6)
    completion = losses.language_model(logits=logits, tokens=tokens, where=jnp.array([[False, False, True]]))
    np.testing.assert_allclose(completion, [np.log(2)], rtol=1e-6)


def test_masked_language_model_by_hand():
    logits = jnp.log(jnp.array([[[1.0, 3.0], [1.0, 1.0]], [[1.0, 3.0], [1.0, 1.0]]]))
    where = jnp.array([[True, False], [False, False]])
    values = losses.masked_language_model(logits=logits, tokens=jnp.array([[1, 0], [1, 0]]), where=where)
    np.testing.assert_allclose(values, [np.log(4 / 3), 0], rtol=1e-6)


@pytest.mark.parametrize("name", [*losses.RANKING, "language_model", "masked_language_model"])
def test_padding_changes_neither_value_nor_gradient(name):
    loss, key = getattr(losses, name), jax.random.key(0)
    where = jnp.array([[True, True, True, False], [True, True, False, False]])
    labels = jax.random.randint(key, (2, 4), 0, 5)
    if "language" in name:
        logits, labelled = jax.random.normal(key, (2, 4, 5)), "tokens"
    else:
        logits, labelled = jax.random.normal(key, (2, 5)), "targets"
    more = {"weights": jnp.array([[2.0, 1.0, 0.5, 9.0]] * 2)} if name in losses.RANKING else {}

    def total(logits, labels):
        return loss(logits=logits, where=where, **{labelled: labels}, **more).sum()

    value, gradient = jax.value_and_grad(total)(logits, labels)
    other = jnp.where(where, labels, 10**6)
    again, gradient_again = jax.value_and_grad(total)(logits, other)
    np.testing.assert_array_equal(value, again)
    np.testing.assert_array_equal(gradient, gradient_again)
    assert np.isfinite(gradient).all()
    check_grads(lambda x: total(x, labels), (logits,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_large_logits_stay_finite():
    logits = jnp.array([[1e4, 0.0]], jnp.float32)
    value = losses.cross_entropy(logits=logits, targets=jnp.array([[1]]), where=jnp.array([[True]]))
    np.testing.assert_allclose(value, [1e4])
