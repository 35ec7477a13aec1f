r"""Policy gradients: losses of the tokens that a policy chose, what they are averaged over, and advantages.

A policy writes S outputs after each context, token by token; a reward judges whole outputs. Three independent choices
make an estimator of the gradient of the expected reward:

- an **advantage** (`ADVANTAGES`): by how much an output's reward is above a baseline that does not depend on it;
- **losses** of each token (`LOSSES`), summed by an expression such as "clipped_ratio(clip=0.2) + 0.05*kl_k3";
- an **average** (`AVERAGES`) over the tokens and outputs of a batch, the same for all terms, so that micro-batches and
  devices change nothing.

`ESTIMATORS` names the published combinations. All functions are pure; tokens after an output's end are masked by
`where` and change neither values nor gradients.

Axes: B contexts, S outputs of a context, N = B S outputs, T tokens of an output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.losses.expression import parse
from ecr_jax.losses.named import Family

GROUP = "ecr_jax.policy_losses"
"""Entry points of this group are policy losses of other packages."""

INPUTS = {
    "log_probs": "float [N, T], log-probability of each token under the policy, which is differentiated",
    "behaviour": "float [N, T], the same under the policy that the outputs were sampled from",
    "reference": "float [N, T], the same under the reference: the policy before training",
    "advantage": "float [N], of each output",
}
"""What policy losses read, by the names of their arguments."""

_MOST = 20.0
"""Bound of a log-ratio: its exponential stays finite, and any clip lies far below."""


def _ratio(log_probs: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.exp(jnp.clip(log_probs - other, -_MOST, _MOST))


def reinforce(*, log_probs: jax.Array, advantage: jax.Array) -> jax.Array:
    r"""The score function, whose gradient is that of the expected reward, for outputs of the present policy.

    .. math:: -A \log \pi(y_t)

    Reference: Williams 1992; LLMCRS Eqs. 3-5.

    >>> reinforce(log_probs=jnp.log(jnp.array([[0.5, 0.25]])), advantage=jnp.array([2.0])).round(3).tolist()
    [[1.386, 2.773]]
    """
    return -advantage[:, None] * log_probs


def clipped_ratio(*, log_probs: jax.Array, behaviour: jax.Array, advantage: jax.Array, clip: float = 0.2) -> jax.Array:
    r"""The clipped surrogate: nothing is gained by a ratio to the sampling policy beyond the clip.

    .. math:: -\min(\rho_t A, \operatorname{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon) A), \quad
       \rho_t = \pi(y_t) / \pi_{\text{behaviour}}(y_t)

    For outputs of the present policy its gradient is that of `reinforce`.

    Args:
      clip: epsilon.

    Reference: Schulman et al. 2017, Eq. 7.
    """
    ratio, advantage = _ratio(log_probs, behaviour), advantage[:, None]
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


def kl_k1(*, log_probs: jax.Array, reference: jax.Array) -> jax.Array:
    r"""The plain estimate of KL(policy || reference), unbiased, of high variance, and negative at times.

    .. math:: \log \pi(y_t) - \log \pi_{\text{ref}}(y_t)

    As a loss its expected gradient is zero. Subtract it from the reward (`rlpf.kl_in_reward`), where it counts as k1.

    Reference: Schulman 2020, "Approximating KL divergence".
    """
    return log_probs - reference


def kl_k3(*, log_probs: jax.Array, reference: jax.Array) -> jax.Array:
    r"""An estimate of KL(policy || reference) that is unbiased and never negative.

    .. math:: e^{d} - d - 1, \quad d = \log \pi_{\text{ref}}(y_t) - \log \pi(y_t)

    Reference: Schulman 2020 (k3); GRPO's term, Shao et al. 2024, Eq. 4.
    """
    return _ratio(reference, log_probs) - (reference - log_probs) - 1


LOSSES: dict[str, Callable[..., jax.Array]] = {loss.__name__: loss for loss in (reinforce, clipped_ratio, kl_k1, kl_k3)}
"""Policy losses by name: keyword arguments of `INPUTS` -> values [N, T]."""

FAMILY = Family("policy loss", LOSSES, INPUTS, GROUP)

# ------------------------------------------------------------------------------------------------------------ averages


def token_mean(values: jax.Array, where: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Every token of the batch counts the same: sum [] over tokens, and their number []. Long outputs count more."""
    return jnp.sum(jnp.where(where, values, 0.0)), jnp.sum(where)


def sequence_mean(values: jax.Array, where: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean of each output's mean: sum [] over outputs, and their number []. As GRPO is published.

    Of two outputs with the same advantage, the tokens of the longer one count less: long wrong answers cost little.
    """
    lengths = jnp.sum(where, axis=-1)
    means = jnp.sum(jnp.where(where, values, 0.0), axis=-1) / jnp.maximum(lengths, 1)
    return jnp.sum(means), jnp.sum(lengths > 0)


def sequence_sum(values: jax.Array, where: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean of each output's sum: sum [] over tokens, number [] of outputs. Unbiased: an output's log-probability
    is the sum of its tokens' (LLMCRS Eq. 4; Dr. GRPO)."""
    return jnp.sum(jnp.where(where, values, 0.0)), jnp.sum(jnp.any(where, axis=-1))


AVERAGES = {average.__name__: average for average in (token_mean, sequence_mean, sequence_sum)}
"""(values [N, T], where [N, T]) -> total and count, by name."""


class PolicyObjective:
    """An expression of policy losses with an average, as a function to the sums that `training.step` divides."""

    def __init__(self, text: str, average: str):
        """Finds the losses.

        Raises:
          ValueError: see `Family.bound`; an average that does not exist.
        """
        if average not in AVERAGES:
            raise ValueError(f"there is no average {average!r}; there are {', '.join(AVERAGES)}")
        self.average, self.terms = AVERAGES[average], parse(text)
        self._bound = [FAMILY.bound(term) for term in self.terms]

    @property
    def reads(self) -> frozenset[str]:
        """The inputs that some term reads."""
        return frozenset(name for _, names in self._bound for name in names)

    def __call__(
        self,
        *,
        log_probs: jax.Array,
        behaviour: jax.Array,
        reference: jax.Array,
        advantage: jax.Array,
        where: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """Total and count; total / count over the batch is the objective. Arguments: `INPUTS`, and where [N, T].

        >>> objective = PolicyObjective("reinforce", "sequence_sum")
        >>> half = jnp.full((1, 2), jnp.log(0.5))
        >>> rows = {"log_probs": half, "behaviour": half, "reference": half, "where": jnp.array([[True, False]])}
        >>> total, count = objective(**rows, advantage=jnp.array([1.0]))
        >>> round(float(total), 4), int(count)
        (0.6931, 1)
        """
        log_probs, behaviour, reference = (
            jnp.where(where, each, 0.0) for each in (log_probs, behaviour, reference)
        )  # what lies behind an end may be infinite
        inputs = {"log_probs": log_probs, "behaviour": behaviour, "reference": reference, "advantage": advantage}
        values = sum(
            (
                term.weight * loss(**{name: inputs[name] for name in names})
                for term, (loss, names) in zip(self.terms, self._bound, strict=True)
            ),
            start=jnp.zeros(()),
        )
        if jnp.shape(values) != where.shape:
            raise ValueError(f"the loss returns the shape {jnp.shape(values)} for tokens {where.shape}")
        return self.average(values, where)


def measures(
    *,
    log_probs: jax.Array,
    behaviour: jax.Array,
    reference: jax.Array,
    advantage: jax.Array,
    where: jax.Array,
    clip: float = 0.2,
) -> dict[str, jax.Array]:
    """What to watch in training, each the mean over outputs times their number: scalars, to be divided by the count.

    Args:
      log_probs, behaviour, reference, advantage: `INPUTS`.
      where: bool [N, T].
      clip: of `clipped_ratio`.

    Returns:
      `ratio` is the mean of an output's ratios to the sampling policy, and `clipped` the share of its tokens whose
      ratio the clip holds back. `log_prob_difference` is the mean absolute difference of log-probabilities to the
      sampling policy; at the first update that a rollout serves it is the difference between sampler and trainer, which
      should be rounding. `kl_k1` and `kl_k3` estimate the KL to the reference, summed over an output's tokens, and
      `entropy` is the negative log-probability of an output, an unbiased estimate of the policy's entropy.
    """
    log_probs, behaviour, reference = (jnp.where(where, each, 0.0) for each in (log_probs, behaviour, reference))
    ratio, advantage = _ratio(log_probs, behaviour), advantage[:, None]
    held_back = ((ratio > 1 + clip) & (advantage > 0)) | ((ratio < 1 - clip) & (advantage < 0))
    return {
        "ratio": sequence_mean(ratio, where)[0],
        "clipped": sequence_mean(held_back.astype(ratio.dtype), where)[0],
        "log_prob_difference": sequence_mean(jnp.abs(log_probs - behaviour), where)[0],
        "kl_k1": sequence_sum(kl_k1(log_probs=log_probs, reference=reference), where)[0],
        "kl_k3": sequence_sum(kl_k3(log_probs=log_probs, reference=reference), where)[0],
        "entropy": sequence_sum(-log_probs, where)[0],
    }


# ---------------------------------------------------------------------------------------------------------- advantages


def no_baseline(rewards: np.ndarray) -> np.ndarray:
    """The rewards themselves (LLMCRS Eq. 4)."""
    return rewards


def leave_one_out(rewards: np.ndarray) -> np.ndarray:
    r"""Against the mean of the context's other outputs, [B, S] -> [B, S]: unbiased, whatever the context is worth.

    .. math:: r_i - \frac{1}{S - 1} \sum_{j \ne i} r_j

    Reference: Kool et al. 2019; RLOO of Ahmadian et al. 2024.

    >>> leave_one_out(np.array([[1.0, 0.0, 0.5]])).tolist()
    [[0.75, -0.75, 0.0]]
    """
    outputs = rewards.shape[1]
    if outputs < 2:
        raise ValueError("leave_one_out compares the outputs of a context: sample at least 2 of each")
    return (rewards - rewards.mean(axis=1, keepdims=True)) * outputs / (outputs - 1)


def group_centred(rewards: np.ndarray) -> np.ndarray:
    """Against the mean of the context's outputs, itself among them, [B, S] -> [B, S].

    Reference: Dr. GRPO, Liu et al. 2025, section 3.2.

    >>> group_centred(np.array([[1.0, 0.0, 0.5]])).tolist()
    [[0.5, -0.5, 0.0]]
    """
    return rewards - rewards.mean(axis=1, keepdims=True)


def group_normalised(rewards: np.ndarray) -> np.ndarray:
    """`group_centred`, divided by the standard deviation of the context's rewards; 0 where all are the same.

    Contexts on which nearly all outputs earn the same count most.

    Reference: GRPO, Shao et al. 2024, section 4.1.

    >>> group_normalised(np.array([[1.0, 0.0, 1.0, 0.0], [0.3, 0.3, 0.3, 0.3]])).tolist()
    [[1.0, -1.0, 1.0, -1.0], [0.0, 0.0, 0.0, 0.0]]
    """
    same = zero_variance(rewards)[:, None]
    return np.where(same, 0.0, group_centred(rewards) / np.where(same, 1.0, rewards.std(axis=1, keepdims=True)))


def zero_variance(rewards: np.ndarray) -> np.ndarray:
    """The contexts whose outputs all earn the same, [B, S] -> bool [B]: compared with each other they teach nothing."""
    return np.ptp(rewards, axis=1) == 0


GROUP_ADVANTAGES = {
    advantage.__name__: advantage for advantage in (no_baseline, leave_one_out, group_centred, group_normalised)
}
"""Advantages that follow from the rewards of a batch alone, [B, S] -> [B, S], by name."""

ADVANTAGES = ("moving_average", *GROUP_ADVANTAGES)


class MovingAverage(NamedTuple):
    """An exponential moving average of earlier rewards, corrected for its start at zero: b of LLMCRS Eq. 5.

    Attributes:
      total: the weighted sum of the rewards, later ones weighing more.
      weight: the sum of their weights, 1 - decay^n.
    """

    total: float = 0.0
    weight: float = 0.0

    @property
    def value(self) -> float:
        """The average; 0 before the first reward."""
        return self.total / self.weight if self.weight else 0.0

    def updated(self, rewards: np.ndarray, decay: float) -> MovingAverage:
        """With the mean of a batch's rewards as one more value; the same where there are none.

        >>> average = MovingAverage().updated(np.array([1.0]), 0.5).updated(np.array([4.0]), 0.5)
        >>> average.value  # (1 * 0.25 + 4 * 0.5) / 0.75
        3.0
        """
        if not rewards.size:
            return self
        return MovingAverage(
            decay * self.total + (1 - decay) * float(rewards.mean()), decay * self.weight + (1 - decay)
        )


class Estimator(NamedTuple):
    """A published combination: an advantage, losses and an average."""

    advantage: str
    loss: str
    average: str


ESTIMATORS = {
    "reinforce": Estimator("moving_average", "reinforce", "sequence_sum"),
    "rloo": Estimator("leave_one_out", "reinforce", "sequence_sum"),
    "grpo": Estimator("group_normalised", "clipped_ratio", "sequence_mean"),
    "dr_grpo": Estimator("group_centred", "clipped_ratio", "sequence_sum"),
    "ppo": Estimator("moving_average", "clipped_ratio", "token_mean"),
}
"""By name: REINFORCE as in LLMCRS, RLOO, GRPO, its length-unbiased form, and PPO's loss without a value network."""
