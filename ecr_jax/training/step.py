"""One training step: gradients over micro-batches and one update; jitted, donated, with every sharding explicit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ecr_jax.training import sharding
from ecr_jax.training.options import Strategy
from ecr_jax.training.sharding import Tree

Batch = dict[str, Any]
"""Arrays [B, ...] by name, see `features.batch_spec`."""

State = dict[str, Any]
Metrics = dict[str, jax.Array]
Loss = Callable[[Tree, Tree, Batch, jax.Array | None], tuple[jax.Array, jax.Array, Metrics]]
"""(params, frozen, batch, key) -> (total, count, metrics): scalar sums over the rows of the batch.

The key is None in evaluation, where nothing is random."""

Step = Callable[[State, Tree, Batch, jax.Array], tuple[State, Metrics]]
"""(state, frozen, batch, key) -> (state, metrics)."""


def init_state(params: Tree, optimizer: optax.GradientTransformation) -> State:
    """The state before the first step: {"step": int32 [], "params", "opt_state"}."""
    return {"step": jnp.zeros((), jnp.int32), "params": params, "opt_state": optimizer.init(params)}


def state_shardings(
    params: Tree,
    optimizer: optax.GradientTransformation,
    rules: sharding.Rules,
    mesh: Mesh,
    strategy: Strategy = "data",
) -> State:
    """Shardings of a state: parameters by the rules, the optimiser's moments like their parameters, the rest whole on
    every device. Arguments as in `sharding.shardings`."""
    param_shardings = sharding.shardings(params, rules, mesh, strategy)
    replicated = sharding.replicated(mesh)
    opt_state = optax.tree_map_params(
        optimizer,
        lambda _, param_sharding: param_sharding,
        jax.eval_shape(optimizer.init, params),
        param_shardings,
        transform_non_params=lambda _: replicated,
    )
    return {"step": replicated, "params": param_shardings, "opt_state": opt_state}


def make_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    state_placement: State,
    frozen_placement: Tree,
    schedule: optax.Schedule,
    accumulation: int = 1,
) -> Step:
    """Builds `(state, frozen, batch, key) -> (state, metrics)`, jitted; its state argument is donated.

    The objective is sum(total) / sum(count) over all rows of the batch, so micro-batches and devices change nothing
    but rounding (and the random numbers of the loss: each micro-batch has its own key). The key is the root key of the
    training: the step folds in its number.

    Args:
      loss: `(params, frozen, batch, key) -> (total, count, metrics)`, all scalar sums over the rows.
      optimizer: updates `params`; `frozen` is only an argument.
      mesh: with the axes `data` and `model`.
      state_placement: from `state_shardings`.
      frozen_placement: shardings of the frozen tree (one sharding may stand for a whole subtree).
      schedule: step -> learning rate, for the metrics.
      accumulation: micro-batches a batch is split into; divides the batch's rows.

    Returns:
      The step. Its metrics are scalars on the device: `loss`, `grad_norm` (before clipping), `learning_rate`, `count`,
      and the loss's own metrics divided by `count`.
    """
    micro_batches = NamedSharding(mesh, PartitionSpec(None, "data"))

    def split(array: jax.Array) -> jax.Array:
        # Row r goes to micro-batch r % A: each device splits the rows it already has.
        rows = array.shape[0] // accumulation
        parts = array.reshape(rows, accumulation, *array.shape[1:]).swapaxes(0, 1)  # [A, B/A, ...]
        return jax.lax.with_sharding_constraint(parts, micro_batches)

    def gradients(params: Tree, frozen: Tree, batch: Batch, key: jax.Array) -> tuple[Tree, tuple]:
        def objective(params: Tree) -> tuple[jax.Array, tuple]:
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # language models constrain where rows lie
                total, count, metrics = loss(params, frozen, batch, key)
            return total, (total, count, metrics)

        grads, sums = jax.grad(objective, has_aux=True)(params)
        # Reduced (and gathered, for what is whole) once and here, not once for each moment that they go into.
        return jax.lax.with_sharding_constraint(grads, state_placement["params"]), sums

    def step(state: State, frozen: Tree, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
        key = jax.random.fold_in(key, state["step"])
        params = state["params"]
        if accumulation == 1:
            grads, sums = gradients(params, frozen, batch, key)
        else:
            numbered = (jax.tree.map(split, batch), jnp.arange(accumulation))
            zeros = jax.tree.map(
                lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
                jax.eval_shape(gradients, params, frozen, jax.tree.map(lambda array: array[0], numbered[0]), key),
            )

            def add(sums: Tree, numbered_batch: tuple[Batch, jax.Array]) -> tuple[Tree, None]:
                micro_batch, number = numbered_batch
                terms = gradients(params, frozen, micro_batch, jax.random.fold_in(key, number))
                return jax.tree.map(jnp.add, sums, terms), None

            (grads, sums), _ = jax.lax.scan(add, zeros, numbered)
        total, count, loss_metrics = sums
        scale = 1.0 / jnp.where(count > 0, count, 1.0)  # a batch of padding alone changes nothing
        grads = jax.tree.map(lambda grad: (grad * scale).astype(grad.dtype), grads)
        updates, opt_state = optimizer.update(grads, state["opt_state"], params)
        metrics = {name: value * scale for name, value in loss_metrics.items()} | {
            "loss": total * scale,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": schedule(state["step"]),
            "count": count,
        }
        new_state = {
            "step": state["step"] + 1,
            "params": optax.apply_updates(params, updates),
            "opt_state": opt_state,
        }
        return new_state, metrics

    replicated = sharding.replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(state_placement, frozen_placement, sharding.split_rows(mesh), replicated),
        out_shardings=(state_placement, replicated),
        donate_argnums=0,
    )
