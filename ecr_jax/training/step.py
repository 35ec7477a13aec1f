"""One training step: gradients over micro-batches, one update; jitted, donated, with every sharding stated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ecr_jax.training import sharding

Tree = Any
Batch = dict[str, jax.Array]
State = dict[str, Any]
Loss = Callable[[Tree, Tree, Batch, jax.Array], tuple[jax.Array, jax.Array, dict[str, jax.Array]]]
Step = Callable[[State, Tree, Batch, jax.Array], tuple[State, dict[str, jax.Array]]]


def init_state(params: Tree, optimizer: optax.GradientTransformation) -> State:
    """The state of a run before its first step: {"step": int32 [], "params", "opt_state"}."""
    return {"step": jnp.zeros((), jnp.int32), "params": params, "opt_state": optimizer.init(params)}


def state_shardings(
    params: Tree,
    optimizer: optax.GradientTransformation,
    rules: sharding.Rules,
    mesh: Mesh,
    strategy: sharding.Strategy = "data",
) -> State:
    """Shardings of a state: parameters by the rules, the optimiser's moments beside their parameters, the rest
    on every device. Arguments as of `sharding.shardings`."""
    placed = sharding.shardings(params, rules, mesh, strategy)
    everywhere = sharding.replicated(mesh)
    opt_state = optax.tree_map_params(
        optimizer,
        lambda _, place: place,
        jax.eval_shape(optimizer.init, params),
        placed,
        transform_non_params=lambda _: everywhere,
    )
    return {"step": everywhere, "params": placed, "opt_state": opt_state}


def make_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    state_placement: State,
    frozen_placement: Tree,
    schedule: Callable[[jax.Array], jax.Array],
    accumulation: int = 1,
) -> Step:
    """Builds `(state, frozen, batch, key) -> (state, metrics)`, jitted; the state given is donated.

    The objective is sum(total) / sum(count) over all rows of the batch, so micro-batches and devices change nothing
    but rounding (and which random numbers a loss draws: each micro-batch has a key of its own). The key is the run's
    root key: the step folds in its number.

    Args:
        loss: `(params, frozen, batch, key) -> (total, count, metrics)`, all scalar sums over the rows.
        optimizer: updates `params`; `frozen` is an argument only.
        mesh: with the axes `data` and `model`.
        state_placement: from `state_shardings`.
        frozen_placement: shardings of the frozen tree (one sharding may stand for a whole subtree).
        schedule: step → learning rate, for the metrics.
        accumulation: micro-batches a batch is split into; divides the batch's rows.

    Returns:
        The step. Its metrics are scalars on the device: `loss`, `grad_norm` (before clipping), `learning_rate`,
        `count`, and the loss's own divided by `count`.
    """
    micro_rows = NamedSharding(mesh, PartitionSpec(None, "data"))

    def split(array: jax.Array) -> jax.Array:
        # Row r goes to micro-batch r % A: each device splits the rows it already has.
        rows = array.shape[0] // accumulation
        parts = array.reshape(rows, accumulation, *array.shape[1:]).swapaxes(0, 1)  # [A, B/A, ...]
        return jax.lax.with_sharding_constraint(parts, micro_rows)

    def gradients(params: Tree, frozen: Tree, batch: Batch, key: jax.Array) -> tuple[Tree, tuple]:
        def objective(trained: Tree) -> tuple[jax.Array, tuple]:
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # language models say where their rows lie
                total, count, metrics = loss(trained, frozen, batch, key)
            return total, (total, count, metrics)

        grads, sums = jax.grad(objective, has_aux=True)(params)
        # Summed up (and gathered, for what is whole) once and here, not once for each moment that they go into.
        return jax.lax.with_sharding_constraint(grads, state_placement["params"]), sums

    def step(state: State, frozen: Tree, batch: Batch, key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        key = jax.random.fold_in(key, state["step"])
        params = state["params"]
        if accumulation == 1:
            grads, sums = gradients(params, frozen, batch, key)
        else:
            parts = (jax.tree.map(split, batch), jnp.arange(accumulation))
            zeros = jax.tree.map(
                lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
                jax.eval_shape(gradients, params, frozen, jax.tree.map(lambda a: a[0], parts[0]), key),
            )

            def add(sofar: Tree, part: tuple[Batch, jax.Array]) -> tuple[Tree, None]:
                micro, number = part
                found = gradients(params, frozen, micro, jax.random.fold_in(key, number))
                return jax.tree.map(jnp.add, sofar, found), None

            (grads, sums), _ = jax.lax.scan(add, zeros, parts)
        total, count, extra = sums
        share = 1.0 / jnp.where(count > 0, count, 1.0)  # a batch of padding alone changes nothing
        grads = jax.tree.map(lambda g: (g * share).astype(g.dtype), grads)
        updates, opt_state = optimizer.update(grads, state["opt_state"], params)
        metrics = {name: value * share for name, value in extra.items()} | {
            "loss": total * share,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": schedule(state["step"]),
            "count": count,
        }
        return {
            "step": state["step"] + 1,
            "params": optax.apply_updates(params, updates),
            "opt_state": opt_state,
        }, metrics

    everywhere = sharding.replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(state_placement, frozen_placement, sharding.by_row(mesh), everywhere),
        out_shardings=(state_placement, everywhere),
        donate_argnums=0,
    )
