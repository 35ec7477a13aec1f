"""The optimiser: AdamW with a weight-decay mask, clipping, learning-rate groups and a warm-up."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ecr_jax.training import sharding
from ecr_jax.training.options import OptimConfig
from ecr_jax.training.sharding import Tree


def learning_rate(config: OptimConfig, steps: int) -> optax.Schedule:
    """The schedule: step (counted from 0) -> learning rate.

    Of w = round(warmup * steps) warm-up steps the first has 1/w of the highest rate and the w-th all of it, so that no
    update is lost to a rate of 0 (unless `published`); the decay then reaches 0 just after the last step.
    """
    warmup_steps = round(config.warmup * steps)

    def rate(step: Any) -> Any:
        warmup = (step + (0 if config.published else 1)) / max(warmup_steps, 1)
        remaining = jnp.clip((steps - step) / max(steps - warmup_steps, 1), 0.0, 1.0)
        decay = {
            "linear": remaining,
            "cosine": 0.5 * (1 - jnp.cos(jnp.pi * remaining)),
            "constant": jnp.ones_like(remaining),
        }
        return config.learning_rate * jnp.where(step < warmup_steps, warmup, decay[config.schedule])

    return rate


def make_optimizer(config: OptimConfig, steps: int, params: Tree) -> optax.GradientTransformation:
    """AdamW: clipping -> Adam -> weight decay -> group factor -> learning rate.

    Args:
      config: see `OptimConfig`.
      steps: updates of the whole training; the schedule depends on it.
      params: the trainable parameters; their paths decide decay and group.

    Raises:
      ValueError: a parameter that no pattern of `groups` covers.

    Reference: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization".
    """
    factors = sharding.match_rules(params, config.groups, "optim.groups")
    decays = jax.tree.map(lambda path: re.search(config.no_decay, path) is None, sharding.leaf_paths(params))
    clip = optax.identity() if config.clip is None else optax.clip_by_global_norm(config.clip)
    if config.published:
        return optax.chain(clip, _published_adamw(config, learning_rate(config, steps), decays, factors))

    def decay_and_scale(updates: Tree, params: Tree) -> Tree:
        return jax.tree.map(
            lambda update, param, decay, factor: factor * (update + config.weight_decay * param if decay else update),
            updates,
            params,
            decays,
            factors,
        )

    return optax.chain(
        clip,
        optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
        # Not optax's masks: their state holds placeholder nodes, which checkpoints would have to know about.
        optax.stateless(decay_and_scale),
        optax.scale_by_learning_rate(learning_rate(config, steps)),
    )


def _published_adamw(
    config: OptimConfig, rate: optax.Schedule, decays: Tree, factors: Tree
) -> optax.GradientTransformation:
    """AdamW in the arithmetic of transformers 4's own optimiser; see `OptimConfig.published`."""

    def init(params: Tree) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(
        updates: Tree, state: optax.ScaleByAdamState, params: Tree | None = None
    ) -> tuple[Tree, optax.ScaleByAdamState]:
        count = state.count + 1
        mu = optax.tree.update_moment(updates, state.mu, config.b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, config.b2, 2)
        bias_correction = jnp.sqrt(1 - config.b2**count) / (1 - config.b1**count)

        def leaf_update(m: jax.Array, v: jax.Array, p: jax.Array, decay: bool, factor: float) -> Any:
            step = -factor * rate(state.count) * bias_correction * m / (jnp.sqrt(v) + config.eps)
            return step - factor * rate(state.count) * config.weight_decay * (p + step) if decay else step

        return jax.tree.map(leaf_update, mu, nu, params, decays, factors), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]
