"""The optimiser: schedule and decay by hand, clipping, groups, refused values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ecr_jax.training.optim import learning_rate, make_optimizer
from ecr_jax.training.options import OptimConfig

PARAMS = {"dense": {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.full(2, 2.0)}, "input_norm": {"weight": jnp.ones(2)}}


def updates(config, grads, params=PARAMS, steps=10):
    optimizer = make_optimizer(config, steps, params)
    return optimizer.update(grads, optimizer.init(params), params)[0]


def test_linear_schedule_by_hand():
    rate = learning_rate(OptimConfig(learning_rate=1.0, warmup=0.2), 10)
    np.testing.assert_allclose(
        [rate(step) for step in range(11)],
        [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0],
        rtol=1e-6,
    )


def test_other_schedules_by_hand():
    constant = learning_rate(OptimConfig(learning_rate=0.1, warmup=0.0, schedule="constant"), 4)
    np.testing.assert_allclose([constant(s) for s in range(4)], [0.1] * 4, rtol=1e-6)
    cosine = learning_rate(OptimConfig(learning_rate=1.0, warmup=0.0, schedule="cosine"), 4)
    np.testing.assert_allclose([cosine(s) for s in range(5)], 0.5 * (1 + np.cos(np.pi * np.arange(5) / 4)), atol=1e-6)


def test_decay_leaves_biases_and_norms_alone():
    config = OptimConfig(learning_rate=0.1, warmup=0.0, weight_decay=0.5)
    actual = updates(config, jax.tree.map(jnp.zeros_like, PARAMS))
    np.testing.assert_allclose(actual["dense"]["kernel"], -0.1 * 0.5 * 2.0)
    assert not actual["dense"]["bias"].any() and not actual["input_norm"]["weight"].any()


def test_equals_optax_adamw():
    config = OptimConfig(learning_rate=0.1, warmup=0.0, weight_decay=0.5, clip=None, no_decay="^$", schedule="constant")
    grads = jax.tree.map(lambda p: jnp.arange(p.size, dtype=p.dtype).reshape(p.shape) - 1, PARAMS)
    other = optax.adamw(0.1, weight_decay=0.5)
    expected = other.update(grads, other.init(PARAMS), PARAMS)[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), updates(config, grads), expected)


def test_published_arithmetic_by_hand():
    config = OptimConfig(learning_rate=0.1, warmup=0.0, weight_decay=0.5, clip=None, eps=1e-2, published=True)
    actual = updates(config, jax.tree.map(jnp.ones_like, PARAMS))
    # m = 0.1, v = 0.001; eps beside the root of v itself; then decay of what has moved
    moved = -0.1 * (0.001**0.5 / 0.1) * 0.1 / (0.001**0.5 + 0.01)
    np.testing.assert_allclose(actual["dense"]["bias"], moved, rtol=1e-5)
    np.testing.assert_allclose(actual["dense"]["kernel"], moved - 0.1 * 0.5 * (2.0 + moved), rtol=1e-5)
    rate = learning_rate(OptimConfig(learning_rate=1.0, warmup=0.2, published=True), 10)
    np.testing.assert_allclose([rate(step) for step in (0, 1, 2, 3, 10)], [0, 0.5, 1, 7 / 8, 0], rtol=1e-6)
    # its state is sharded beside its parameters, as the other's is
    optimizer = make_optimizer(config, 10, PARAMS)
    marked = optax.tree_map_params(optimizer, lambda _: "p", optimizer.init(PARAMS), transform_non_params=lambda _: "x")
    assert sorted(jax.tree.leaves(marked)) == ["p"] * 6 + ["x"]


def test_clipping_bounds_what_adam_sees():
    optimizer = make_optimizer(OptimConfig(clip=1.0), 10, PARAMS)
    grads = jax.tree.map(lambda p: jnp.full_like(p, 100.0), PARAMS)
    _, state = optimizer.update(grads, optimizer.init(PARAMS), PARAMS)
    mu = optax.tree.get(state, "mu")
    np.testing.assert_allclose(optax.tree.norm(mu), 0.1, rtol=1e-5)  # (1 - b1) * clip


def test_groups_scale_the_learning_rate_and_must_cover_everything():
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    base = OptimConfig(learning_rate=0.1, warmup=0.0, weight_decay=0.0)
    plain = updates(base, ones)
    actual = updates(OptimConfig(**vars(base) | {"groups": (("^dense/kernel$", 0.1), (".*", 1.0))}), ones)
    np.testing.assert_allclose(actual["dense"]["kernel"], 0.1 * plain["dense"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(actual["dense"]["bias"], plain["dense"]["bias"])
    with pytest.raises(ValueError, match="optim.groups: no rule covers input_norm/weight; add a pattern"):
        make_optimizer(OptimConfig(groups=(("dense", 1.0),)), 10, PARAMS)


@pytest.mark.parametrize(
    ("field", "value"),
    [("learning_rate", 0), ("warmup", 1), ("warmup", -0.1), ("weight_decay", -1), ("clip", 0), ("b1", 1), ("b2", 1.5),
     ("eps", 0), ("schedule", "exp"), ("no_decay", "("), ("groups", (("(", 1.0),)), ("groups", (("a", -1.0),))],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=rf"^OptimConfig\.{field} = .* is not allowed: "):
        OptimConfig(**{field: value})
