"""The step: devices and micro-batches change nothing, frozen arrays stay, one program a shape."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ecr_jax.training import sharding
from ecr_jax.training.optim import learning_rate, make_optimizer
from ecr_jax.training.options import OptimConfig
from ecr_jax.training.step import init_state, make_step, state_shardings
from tests.training import toy

RULES = (("first/kernel", ("width", "hidden")), ("first/bias", ("hidden",)), ("last/kernel", ("hidden",)), (".*", ()))


def train(mesh, *, accumulation=1, steps=4, loss=toy.loss, frozen=None, strategy="data", batch_size=16):
    config = OptimConfig(learning_rate=0.05, warmup=0.0)
    params, frozen = toy.make_params(), toy.make_frozen() if frozen is None else frozen
    optimizer = make_optimizer(config, 10, params)
    placement = state_shardings(params, optimizer, RULES, mesh, strategy)
    step = make_step(
        loss, optimizer, mesh, state_placement=placement, frozen_placement=sharding.shardings(frozen, RULES, mesh),
        schedule=learning_rate(config, 10), accumulation=accumulation,
    )  # fmt: skip
    state = jax.device_put(init_state(sharding.shard_tree(params, placement["params"]), optimizer), placement)
    rows, batches = [], iter(toy.make_batches(batch_size))
    for _ in range(steps):
        state, metrics = step(state, frozen, next(batches), jax.random.key(0))
        rows.append(jax.device_get(metrics))
    return state, rows, step


def close(a, b, tolerance=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


def values(state):
    return jax.device_get(state["params"])


@pytest.fixture(scope="module")
def one():
    return train(sharding.make_mesh(devices=jax.devices()[:1]))


@pytest.mark.parametrize("model", [1, 2, 8])
def test_eight_devices_give_the_result_of_one(one, model):
    state, rows, _ = train(sharding.make_mesh(model=model), strategy="tensor")
    close(values(state), values(one[0]))
    close(rows, one[1])
    kernel, bias = state["params"]["first"]["kernel"], state["params"]["first"]["bias"]
    assert kernel.sharding.shard_shape(kernel.shape) == (3, 8 // model)
    mu = optax.tree.get(state["opt_state"], "mu")
    assert mu["first"]["bias"].sharding == bias.sharding


@pytest.mark.slow
@pytest.mark.parametrize(("accumulation", "devices"), [(2, 1), (16, 1), (2, 8)])
def test_accumulation_equals_the_big_batch(one, accumulation, devices):
    mesh = sharding.make_mesh(devices=jax.devices()[:devices])
    state, rows, _ = train(mesh, accumulation=accumulation)
    close(values(state), values(one[0]))
    close(rows, one[1])


def test_first_step_by_hand(one):
    batch = next(iter(toy.make_batches(16)))
    mean = lambda params: toy.loss(params, toy.make_frozen(), batch, None)[0] / batch["example_mask"].sum()  # noqa: E731
    value, grads = jax.jit(jax.value_and_grad(mean))(toy.make_params())
    np.testing.assert_allclose(one[1][0]["loss"], value, rtol=1e-6)
    np.testing.assert_allclose(one[1][0]["grad_norm"], optax.tree.norm(grads), rtol=1e-5)
    np.testing.assert_allclose(one[1][0]["learning_rate"], 0.05, rtol=1e-6)
    assert one[1][0]["count"] == batch["example_mask"].sum()
    assert int(one[0]["step"]) == 4


def test_frozen_arrays_are_in_no_gradient_and_no_state(one):
    # An integer table could not be differentiated at all, and nothing of it is among the state's leaves.
    assert sum(leaf.size for leaf in jax.tree.leaves(one[0]["opt_state"])) == 2 * (24 + 8 + 8) + 2

    def loss(params, frozen, batch, key):
        with pytest.raises(TypeError):
            hash(frozen["scale"])  # a tracer, so an argument: not a constant baked into the program
        return toy.loss(params, frozen, batch, key)

    frozen = toy.make_frozen()
    train(sharding.make_mesh(), loss=loss, frozen=frozen, steps=1)
    close(frozen, toy.make_frozen(), 0)


def test_one_program_for_each_shape():
    traces = []

    def loss(*arguments):
        traces.append(arguments[2]["x"].shape)
        return toy.loss(*arguments)

    _, _, step = train(sharding.make_mesh(), loss=loss, steps=8)
    assert sorted(traces) == [(16, 2, 3), (16, 4, 3)]
    assert step._cache_size() == 2


def test_a_batch_of_padding_alone_has_no_loss():
    mesh = sharding.make_mesh()
    _, rows, _ = train(mesh, steps=1, loss=lambda p, f, b, k: toy.loss(p, f, b | {"example_mask": b["example"] < 0}, k))
    assert rows[0]["loss"] == 0 and rows[0]["grad_norm"] == 0


def test_random_numbers_differ_by_step_and_micro_batch():
    def loss(params, frozen, batch, key):
        zero = 0.0 * jnp.sum(params["last"]["kernel"])
        return zero + jax.random.normal(key), jnp.float32(1.0), {}

    _, rows, _ = train(sharding.make_mesh(), steps=3, loss=loss, accumulation=1)
    _, again, _ = train(sharding.make_mesh(), steps=3, loss=loss, accumulation=2)
    losses = {float(r["loss"]) for r in rows}
    assert len(losses) == 3
    assert not losses & {float(r["loss"]) for r in again}
