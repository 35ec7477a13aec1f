"""The optimiser: AdamW with a decay mask, clipping, learning-rate groups, and a warm-up that is a share of the run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ecr_jax.training import sharding

Tree = Any
SCHEDULES = ("linear", "cosine", "constant")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """How parameters are updated.

    Attributes:
        learning_rate: the highest, at the end of the warm-up.
        warmup: fraction of the steps in which the learning rate rises linearly from 0.
        weight_decay: decoupled; parameters whose path matches `no_decay` have none.
        clip: largest global norm of the gradient; None does not clip.
        b1: decay of the mean of gradients.
        b2: decay of the mean of squared gradients.
        eps: added to the root of the corrected mean square.
        schedule: after the warm-up, "linear" or "cosine" to 0 at the last step, or "constant".
        no_decay: regex of the parameters that do not decay (biases, norms' scales).
        groups: (regex, factor of the learning rate) pairs; the first that matches counts, each parameter needs one.
        published: as the published code's library has it: eps is added to the root of the mean square before it is
            corrected, decay acts on what the step has moved, and the first step's learning rate is 0.
    """

    learning_rate: float = 1e-4
    warmup: float = 0.06
    weight_decay: float = 0.01
    clip: float | None = 1.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    schedule: str = "linear"
    no_decay: str = r"(?i)bias$|scale$|norm"
    groups: tuple[tuple[str, float], ...] = ((".*", 1.0),)
    published: bool = False

    def __post_init__(self) -> None:
        def check(field: str, good: bool, remedy: str) -> None:
            if not good:
                raise ValueError(f"optim.{field}={getattr(self, field)!r}: {remedy}")

        check("learning_rate", self.learning_rate > 0, "must be above 0, for example 1e-4")
        check("warmup", 0 <= self.warmup < 1, "is a fraction of the steps: at least 0 and below 1, for example 0.06")
        check("weight_decay", self.weight_decay >= 0, "must not be negative; 0 turns decay off")
        check("clip", self.clip is None or self.clip > 0, "must be above 0; None turns clipping off")
        check("b1", 0 <= self.b1 < 1, "must be at least 0 and below 1, for example 0.9")
        check("b2", 0 <= self.b2 < 1, "must be at least 0 and below 1, for example 0.999")
        check("eps", self.eps > 0, "must be above 0, for example 1e-8")
        check("schedule", self.schedule in SCHEDULES, f"must be one of {', '.join(SCHEDULES)}")
        for field, patterns in (("no_decay", [self.no_decay]), ("groups", [pattern for pattern, _ in self.groups])):
            for pattern in patterns:
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(f"optim.{field}={pattern!r}: not a regular expression ({error})") from error
        check("groups", all(factor >= 0 for _, factor in self.groups), "factors must not be negative")


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
