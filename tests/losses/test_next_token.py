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
