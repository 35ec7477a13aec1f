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


def scored(hidden, head, tokens, where):
    """The plain way: all scores at once."""
    shares = jax.nn.log_softmax(hidden[:, :-1] @ head.T)
    chosen = jnp.take_along_axis(shares, tokens[:, 1:, None], axis=-1)[..., 0]
    hits = (shares.argmax(-1) == tokens[:, 1:]) & (where[:, 1:] != 0)
    return -jnp.sum(where[:, 1:] * chosen), hits.sum()


def test_language_model_is_shifted():
    hidden = jnp.log(jnp.array([[[1.0, 3.0], [1.0, 1.0], [5.0, 1.0]]]))
    given = dict(hidden=hidden, head=jnp.eye(2), tokens=jnp.array([[0, 1, 0]]))
    everything, hits = losses.language_model(**given, where=jnp.ones((1, 3), bool))
    np.testing.assert_allclose(everything, np.log(4 / 3) + np.log(2), rtol=1e-6)
    assert hits == 2
    completion, hits = losses.language_model(**given, where=jnp.array([[False, False, True]]))
    np.testing.assert_allclose(completion, np.log(2), rtol=1e-6)
    assert hits == 1


@pytest.mark.parametrize("chunk", [1, 4, 6, 1024])
def test_chunks_of_the_vocabulary_loss_change_nothing(chunk):
    keys = jax.random.split(jax.random.key(0), 4)
    hidden, head = jax.random.normal(keys[0], (2, 6, 3)), jax.random.normal(keys[1], (11, 3))
    tokens = jax.random.randint(keys[2], (2, 6), 0, 11)
    where = jax.random.uniform(keys[3], (2, 6)) * jnp.array([[1, 1, 1, 1, 0, 0], [1, 1, 0, 1, 1, 1]])

    def ours(hidden, head):
        return losses.language_model(hidden=hidden, head=head, tokens=tokens, where=where, chunk=chunk)

    (value, hits), (to_hidden, to_head) = jax.value_and_grad(ours, (0, 1), has_aux=True)(hidden, head)
    plain, plain_hits = scored(hidden, head, tokens, where)
    want = jax.grad(lambda *given: 3.0 * scored(*given, tokens, where)[0], (0, 1))(hidden, head)
    np.testing.assert_allclose(value, plain, rtol=1e-6)
    assert hits == plain_hits
    np.testing.assert_allclose(3 * to_hidden, want[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(3 * to_head, want[1], rtol=1e-5, atol=1e-6)
    scaled = jax.grad(lambda hidden: 3.0 * ours(hidden, head)[0])(hidden)  # a frozen head, another factor
    np.testing.assert_allclose(scaled, want[0], rtol=1e-5, atol=1e-6)


def test_the_vocabulary_loss_never_holds_all_scores():
    def total(hidden, head):
        tokens = jnp.zeros((4, 65), jnp.int32)
        return losses.language_model(hidden=hidden, head=head, tokens=tokens, where=tokens == 0, chunk=64)[0]

    shapes = jax.ShapeDtypeStruct((4, 65, 8), jnp.float32), jax.ShapeDtypeStruct((5000, 8), jnp.float32)
    needed = jax.jit(jax.grad(total)).lower(*shapes).compile().memory_analysis().temp_size_in_bytes
    assert needed < 4 * 64 * 5000 * 4  # of 256 tokens at once: four chunks


def test_padding_tokens_change_neither_value_nor_gradient():
    keys = jax.random.split(jax.random.key(0), 3)
    hidden, head = jax.random.normal(keys[0], (2, 4, 3)), jax.random.normal(keys[1], (5, 3))
    where = jnp.array([[True, True, True, False], [True, True, False, False]])
    tokens = jax.random.randint(keys[2], (2, 4), 0, 5)

    def total(hidden, tokens):
        return losses.language_model(hidden=hidden, head=head, tokens=tokens, where=where)[0]

    value, gradient = jax.value_and_grad(total)(hidden, tokens)
    again, gradient_again = jax.value_and_grad(total)(hidden, jnp.where(where, tokens, 10**6))
    np.testing.assert_array_equal(value, again)
    np.testing.assert_array_equal(gradient, gradient_again)
    check_grads(lambda x: total(x, tokens), (hidden,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("name", losses.RANKING)
def test_padding_changes_neither_value_nor_gradient(name):
    loss, key = getattr(losses, name), jax.random.key(0)
    where = jnp.array([[True, True, True, False], [True, True, False, False]])
    labels = jax.random.randint(key, (2, 4), 0, 5)
    logits, weights = jax.random.normal(key, (2, 5)), jnp.array([[2.0, 1.0, 0.5, 9.0]] * 2)

    def total(logits, labels):
        return loss(logits=logits, where=where, targets=labels, weights=weights).sum()

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
