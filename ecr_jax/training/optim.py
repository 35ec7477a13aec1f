"""The optimiser: AdamW with a decay mask, clipping, learning-rate groups, and a warm-up that is a share of the run."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ecr_jax.training import sharding
from ecr_jax.training.options import OptimConfig

Tree = Any


def learning_rate(config: OptimConfig, steps: int) -> Callable[[jax.Array], jax.Array]:
    """The schedule: step (0-based) → learning rate.

    The first step of w = round(warmup * steps) has 1/w of the highest rate, the w-th the whole of it, so no update
    is lost to a rate of 0 (unless `published`); the decay then reaches 0 just after the last step.
    """
    warm = round(config.warmup * steps)

    def rate(step: jax.Array) -> jax.Array:
        rising = (step + (0 if config.published else 1)) / max(warm, 1)
        left = jnp.clip((steps - step) / max(steps - warm, 1), 0.0, 1.0)
        shape = {"linear": left, "cosine": 0.5 * (1 - jnp.cos(jnp.pi * left)), "constant": jnp.ones_like(left)}
        return config.learning_rate * jnp.where(step < warm, rising, shape[config.schedule])

    return rate


def make_optimizer(config: OptimConfig, steps: int, params: Tree) -> optax.GradientTransformation:
    """AdamW as `config` says: clip → Adam → decay → group factor → learning rate.

    Args:
        config: the fields above.
        steps: updates in the whole run; the schedule is a function of it.
        params: the trainable parameters (their paths decide decay and group).

    Raises:
        ValueError: a parameter that no pattern of `groups` covers.

    Reference: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization".
    """
    factors = sharding.match(params, config.groups, "optim.groups")
    decays = jax.tree.map(lambda name: re.search(config.no_decay, name) is None, sharding.names(params))
    clip = optax.identity() if config.clip is None else optax.clip_by_global_norm(config.clip)
    if config.published:
        return optax.chain(clip, _published_adamw(config, learning_rate(config, steps), decays, factors))
    return optax.chain(
        clip,
        optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
        # Written without optax's masks, whose state holds placeholder nodes that checkpoints need not know about.
        optax.stateless(
            lambda updates, values: jax.tree.map(
                lambda u, p, decay, factor: factor * (u + config.weight_decay * p if decay else u),
                updates,
                values,
                decays,
                factors,
            )
        ),
        optax.scale_by_learning_rate(learning_rate(config, steps)),
    )


def _published_adamw(
    config: OptimConfig, rate: Callable[[jax.Array], jax.Array], decays: Tree, factors: Tree
) -> optax.GradientTransformation:
    """AdamW in the arithmetic of transformers 4's own optimiser; see `OptimConfig.published`."""

    def init(params: Tree) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(grads: Tree, state: optax.ScaleByAdamState, params: Tree) -> tuple[Tree, optax.ScaleByAdamState]:
        count = state.count + 1
        mu = optax.tree.update_moment(grads, state.mu, config.b1, 1)
        nu = optax.tree.update_moment(grads, state.nu, config.b2, 2)
        corrected = jnp.sqrt(1 - config.b2**count) / (1 - config.b1**count)

        def move(m, v, p, decay, factor):
            moved = -factor * rate(state.count) * corrected * m / (jnp.sqrt(v) + config.eps)
            return moved - factor * rate(state.count) * config.weight_decay * (p + moved) if decay else moved

        updates = jax.tree.map(move, mu, nu, params, decays, factors)
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)
