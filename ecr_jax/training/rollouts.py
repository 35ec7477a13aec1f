"""Reinforcement learning in the loop of `fit`: rollouts of a policy, what they earn, and the loss that learns from it.

`Rollouts` is an `act` of `loop.fit`: before a step it samples S outputs for each context with the parameters as they
are, has them rewarded, and adds to the batch what the step's loss (`policy_loss`) reads: the outputs, their advantages,
and the log-probabilities of their tokens under the sampling policy and under the reference. Arrays keep the contexts as
their first axis, [B, S, ...], so that rows are split over devices and micro-batches as in every other stage.

Axes: B contexts (rows of a batch), S outputs of each, K tokens of an output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.losses import policy
from ecr_jax.losses.policy import MovingAverage, PolicyObjective
from ecr_jax.training import processes
from ecr_jax.training.options import PolicyConfig
from ecr_jax.training.step import Batch, Loss, Tree


class Sampled(NamedTuple):
    """Outputs of a policy.

    Attributes:
      actions: arrays [B, S, ...] by name, which say what the outputs are; they join the batch.
      log_probs: float [B, S], log-probability of each output as the sampler has it.
    """

    actions: Mapping[str, Any]
    log_probs: Any


class TokenLogProbs(NamedTuple):
    """Log-probabilities of the outputs' tokens, float [B, S, K], and which tokens are real, bool [B, S, K]."""

    log_probs: jax.Array
    where: jax.Array


Sample = Callable[[Tree, Tree, Batch, jax.Array, int], Sampled]
"""(params, frozen, batch, key, outputs of each context) -> outputs."""

LogProbs = Callable[[Tree | None, Tree, Batch], TokenLogProbs]
"""(params, frozen, batch with actions) -> log-probabilities; without params those of the reference."""

Reward = Callable[[Batch, Mapping[str, np.ndarray]], tuple[np.ndarray, Mapping[str, np.ndarray]]]
"""(batch, actions) -> rewards [B, S], and the parts that they are made of, to be logged apart."""

Kinds = Callable[[Batch], np.ndarray]
"""batch -> what kind of context each row is, [B]: every kind has a moving average of its own."""


@dataclass(frozen=True)
class Rollouts:
    """What a policy does before it is updated; an `act` of `loop.fit`.

    Attributes:
      sample: draws outputs.
      log_probs: scores them, with the trainer's arithmetic.
      reward: what they earn.
      config: see `PolicyConfig`.
      kinds: None has one moving average.
    """

    sample: Sample
    log_probs: LogProbs
    reward: Reward
    config: PolicyConfig
    kinds: Kinds | None = None

    def __call__(
        self, params: Tree, frozen: Tree, batch: Batch, done: int, key: jax.Array, memory: Mapping[str, Any]
    ) -> tuple[Batch, dict[str, float], dict[str, Any]]:
        """See `loop.Act`. The memory holds the moving averages and, where updates share a rollout, the rollout."""
        shared = self.config.reuse > 1
        if not (shared and done % self.config.reuse):
            added, seen, averages = self._rollout(params, frozen, batch, key, memory.get("averages", {}))
            memory = {"averages": averages}
            if shared:
                memory |= {"seen": seen, "added": {name: _to_json(array) for name, array in added.items()}}
            return batch | added, seen, memory
        added = {name: _from_json(value) for name, value in memory["added"].items()}
        return batch | added, memory["seen"], dict(memory)

    def _rollout(
        self, params: Tree, frozen: Tree, batch: Batch, key: jax.Array, averages: Mapping[str, Any]
    ) -> tuple[Batch, dict[str, float], dict[str, Any]]:
        config, real = self.config, batch["example_mask"]
        sampled = processes.fetch(self.sample(params, frozen, batch, key, config.samples))
        actions = {name: np.asarray(array) for name, array in sampled.actions.items()}
        behaviour, where = processes.fetch(self.log_probs(params, frozen, batch | actions))
        reference, _ = processes.fetch(self.log_probs(None, frozen, batch | actions))
        where = where & real[:, None, None]
        earned, parts = self.reward(batch, actions)
        divergence = np.sum(np.where(where, behaviour - reference, 0), axis=-1)  # k1 of each output
        rewards = np.asarray(earned - config.kl_in_reward * divergence, np.float64)
        advantages, averages = self._advantages(batch, rewards, averages)
        count = max(real.sum(), 1)
        differences = np.abs(np.sum(np.where(where, behaviour, 0), axis=-1) - sampled.log_probs)
        seen = {
            "reward": float(earned[real].mean(axis=1).sum() / count),
            **{f"reward/{name}": float(part[real].mean(axis=1).sum() / count) for name, part in parts.items()},
            "zero_variance": float(policy.zero_variance(rewards[real]).sum() / count),
            "sampler_difference": float(differences[real].mean(axis=1).sum() / count),
            **{f"baseline/{kind}": MovingAverage(*average).value for kind, average in averages.items()},
        }
        added = actions | {
            "advantages": np.where(real[:, None], advantages, 0).astype(np.float32),
            "behaviour": behaviour,
            "reference": reference,
            "where": where,
        }
        return added, seen, averages

    def _advantages(
        self, batch: Batch, rewards: np.ndarray, averages: Mapping[str, Any]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Advantages [B, S] of rewards [B, S], and the moving averages with these rewards in them."""
        if self.config.advantage != "moving_average":
            return policy.GROUP_ADVANTAGES[self.config.advantage](rewards), {}
        real = batch["example_mask"]
        kinds = np.zeros(len(rewards), int) if self.kinds is None else self.kinds(batch)
        before = {int(kind): MovingAverage(*averages.get(str(kind), ())) for kind in np.unique(kinds[real])}
        baselines = np.array([before[int(kind)].value if kind in before else 0.0 for kind in kinds])
        after = {
            str(kind): list(average.updated(rewards[real & (kinds == kind)], self.config.decay))
            for kind, average in before.items()
        }
        return rewards - baselines[:, None], {**averages, **after}


def policy_loss(log_probs: LogProbs, config: PolicyConfig) -> Loss:
    """The loss of a batch that `Rollouts` completed; its metrics are those of `losses.policy.measures`.

    Raises:
      ValueError: `config` names what does not exist, or uses rollouts again with a loss that takes them for new.
    """
    objective = PolicyObjective(config.loss, config.average)
    if config.reuse > 1 and "behaviour" not in objective.reads:
        raise ValueError(
            f"the policy loss {config.loss!r} does not read what sampled the outputs, so it cannot serve reuse = "
            f"{config.reuse} updates of a rollout: take clipped_ratio, or reuse = 1"
        )

    def loss(params: Tree, frozen: Tree, batch: Batch, key: jax.Array | None):
        scored = log_probs(params, frozen, batch)
        tokens = scored.log_probs.shape[-1]
        rows = {
            "log_probs": scored.log_probs.reshape(-1, tokens),
            "behaviour": batch["behaviour"].reshape(-1, tokens),
            "reference": batch["reference"].reshape(-1, tokens),
            "advantage": batch["advantages"].reshape(-1),
            "where": batch["where"].reshape(-1, tokens),
        }
        total, count = objective(**rows)
        outputs = jnp.maximum(jnp.sum(jnp.any(rows["where"], axis=-1)), 1)
        measured = policy.measures(**jax.lax.stop_gradient(rows))
        return total, count, {name: value * (count / outputs) for name, value in measured.items()}

    return loss


def _to_json(array: np.ndarray) -> list[Any]:
    """An array as its dtype, shape and values; floats of 32 bits come back as they were."""
    array = np.asarray(array)
    return [array.dtype.name, list(array.shape), array.ravel().tolist()]


def _from_json(value: list[Any]) -> np.ndarray:
    dtype, shape, values = value
    return np.asarray(values, dtype).reshape(shape)
