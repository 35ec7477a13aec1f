"""Next-token cross-entropy in bfloat16: gradients keep the dtype of what they are of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.losses.next_token import next_token_cross_entropy


def test_gradients_of_a_trained_head_in_bfloat16():
    rng = np.random.default_rng(0)
    hidden, head = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((2, 5, 8), (11, 8)))
    tokens, where = jnp.asarray(rng.integers(0, 11, (2, 5))), jnp.ones((2, 5), bool)

    def loss(hidden, head):
        return next_token_cross_entropy(hidden=hidden, head=head, tokens=tokens, where=where)[0]

    exact = jax.grad(loss, argnums=(0, 1))(hidden, head)
    rough = jax.grad(loss, argnums=(0, 1))(hidden.astype(jnp.bfloat16), head.astype(jnp.bfloat16))
    for one, other in zip(exact, rough, strict=True):
        assert other.dtype == jnp.bfloat16
        np.testing.assert_allclose(one, other.astype(jnp.float32), atol=0.05)


def test_tokens_that_are_not_predicted_are_skipped_without_a_trace():
    # Three chunks of two tokens a row: predicted tokens fill one of them in the first row, and one token in the second.
    rng = np.random.default_rng(1)
    hidden, head = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((2, 7, 4), (9, 4)))
    tokens = jnp.asarray(rng.integers(0, 9, (2, 7)))
    where = jnp.zeros((2, 7)).at[0, 3].set(1.0).at[0, 6].set(0.5).at[1, 2].set(2.0)

    def chunked(hidden, head):
        return next_token_cross_entropy(hidden=hidden, head=head, tokens=tokens, where=where, chunk=4)

    def direct(hidden, head):
        losses = -jnp.take_along_axis(jax.nn.log_softmax(hidden[:, :-1] @ head.T), tokens[:, 1:, None], axis=-1)[..., 0]
        right = jnp.argmax(hidden[:, :-1] @ head.T, axis=-1) == tokens[:, 1:]
        return jnp.sum(losses * where[:, 1:]), jnp.sum(right & (where[:, 1:] != 0))

    (loss, hits), gradients = jax.value_and_grad(chunked, argnums=(0, 1), has_aux=True)(hidden, head)
    (expected, right), slopes = jax.value_and_grad(direct, argnums=(0, 1), has_aux=True)(hidden, head)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert hits == right
    for gradient, slope in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(gradient, slope, atol=1e-6)


def test_nothing_to_predict_costs_nothing():
    hidden, head = jnp.ones((1, 3, 2)), jnp.ones((4, 2))
    tokens, where = jnp.zeros((1, 3), int), jnp.zeros((1, 3), bool)
    loss, hits = next_token_cross_entropy(hidden=hidden, head=head, tokens=tokens, where=where)
    assert float(loss) == 0 and int(hits) == 0
