"""How long, how large and how carefully a stage trains, as frozen dataclasses. Imports no jax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ecr_jax.errors import require, require_at_least, require_choice, require_patterns

Strategy = Literal["data", "fsdp", "tensor", "fsdp_tensor"]
Schedule = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with warm-up, clipping and learning-rate groups.

    Attributes:
      learning_rate: the highest one, at the end of the warm-up.
      warmup: fraction of the steps in which the learning rate rises linearly from 0.
      weight_decay: decoupled; parameters whose path matches `no_decay` have none.
      clip: largest global norm of the gradient; None does not clip.
      b1: decay of the mean of gradients.
      b2: decay of the mean of squared gradients.
      eps: added to the root of the bias-corrected mean square.
      schedule: after the warm-up, "linear" or "cosine" to 0 at the last step, or "constant".
      no_decay: regular expression of the parameters without decay (biases, scales of norms).
      groups: (regular expression of a parameter path, factor of the learning rate) pairs; the first match counts, and
        every parameter needs one.
      published: the arithmetic of the published code's library: eps is added to the root of the mean square before
        bias correction, decay acts on the updated parameters, and the first step's learning rate is 0.
    """

    learning_rate: float = 1e-4
    warmup: float = 0.06
    weight_decay: float = 0.01
    clip: float | None = 1.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    schedule: Schedule = "linear"
    no_decay: str = r"(?i)bias$|scale$|norm"
    groups: tuple[tuple[str, float], ...] = ((".*", 1.0),)
    published: bool = False

    def __post_init__(self) -> None:
        require(self, "learning_rate", self.learning_rate > 0, "must be above 0, for example 1e-4")
        require(self, "warmup", 0 <= self.warmup < 1, "a fraction of the steps lies in [0, 1), for example 0.06")
        require(self, "weight_decay", self.weight_decay >= 0, "must not be negative; 0 turns decay off")
        require(self, "clip", self.clip is None or self.clip > 0, "must be above 0; None turns clipping off")
        require(self, "b1", 0 <= self.b1 < 1, "must be at least 0 and below 1, for example 0.9")
        require(self, "b2", 0 <= self.b2 < 1, "must be at least 0 and below 1, for example 0.999")
        require(self, "eps", self.eps > 0, "must be above 0, for example 1e-8")
        require_choice(self, "schedule", get_args(Schedule))
        require_patterns(self, "no_decay", [self.no_decay])
        require_patterns(self, "groups", (pattern for pattern, _ in self.groups))
        require(self, "groups", all(factor >= 0 for _, factor in self.groups), "factors must not be negative")


@dataclass(frozen=True)
class ShardingConfig:
    """How a stage is spread over devices. Rows of a batch are split over the mesh axis `data` in every strategy.

    Attributes:
      strategy: what else is split.
        `data`: nothing; every device holds all parameters.
        `fsdp` (fully sharded data parallel): kernels, embeddings and their moments over `data` too.
        `tensor`: attention heads, feed-forward units and embeddings, with their moments, over `model`.
        `fsdp_tensor`: both.
      model: devices on the mesh axis `model`, which compute the same rows together; the others are on `data`.
    """

    strategy: Strategy = "data"
    model: int = 1

    def __post_init__(self) -> None:
        require_choice(self, "strategy", get_args(Strategy))
        if self.strategy in ("tensor", "fsdp_tensor"):
            require(self, "model", self.model >= 2, f"{self.strategy!r} needs 2 or more devices on `model`")
        else:
            remedy = f"{self.strategy!r} splits nothing over `model`: give 1, or take 'tensor' or 'fsdp_tensor'"
            require(self, "model", self.model == 1, remedy)


@dataclass(frozen=True)
class TrainConfig:
    """How one stage trains.

    Attributes:
      epochs: passes over the training examples (1.5 is allowed); give this or `steps`.
      steps: parameter updates; give this or `epochs`.
      batch_size: rows of an update, over all micro-batches and devices.
      accumulation: micro-batches a batch is split into, to fit into memory.
      eval_every: steps between evaluations; None evaluates after each epoch. The last step always evaluates.
      patience: evaluations without improvement after which training stops; None never stops early.
      checkpoint_every: steps between checkpoints, besides those after each evaluation; None leaves it to the clock.
      checkpoint_seconds: most seconds between checkpoints.
      keep: latest checkpoints kept (the best parameters are kept beside them).
      seed: of the data order, of the random numbers of a step and, with the experiment's seed, of initial parameters.
      optim: the optimiser.
      sharding: how parameters are spread over the devices. It changes nothing but rounding, so a run may resume with
        another one.
    """

    epochs: float | None = None
    steps: int | None = None
    batch_size: int = 64
    accumulation: int = 1
    eval_every: int | None = None
    patience: int | None = None
    checkpoint_every: int | None = None
    checkpoint_seconds: float = 300.0
    keep: int = 2
    seed: int = 0
    optim: OptimConfig = OptimConfig()
    sharding: ShardingConfig = ShardingConfig()

    def __post_init__(self) -> None:
        require(self, "steps", (self.epochs is None) != (self.steps is None), "give either `steps` or `epochs`")
        require(self, "epochs", self.epochs is None or self.epochs > 0, "must be above 0")
        require(self, "checkpoint_seconds", self.checkpoint_seconds > 0, "must be above 0")
        require_at_least(
            self, 1, "steps", "batch_size", "accumulation", "eval_every", "patience", "checkpoint_every", "keep"
        )
        divides = self.batch_size % self.accumulation == 0
        require(self, "accumulation", divides, f"must divide batch_size = {self.batch_size}")

    def total_steps(self, per_epoch: int) -> int:
        """Updates of the whole training, for so many batches an epoch."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None  # one of the two is given
        return max(1, round(self.epochs * per_epoch))


@dataclass(frozen=True)
class PolicyConfig:
    """How a policy learns from what its outputs earn. The defaults are REINFORCE as in LLMCRS, with several outputs.

    `losses.policy` has the losses, averages and advantages by name, and in `ESTIMATORS` the published combinations.

    Attributes:
      loss: an expression of policy losses, such as "clipped_ratio(clip=0.2) + 0.05*kl_k3".
      advantage: what rewards are compared with: "moving_average" of earlier rewards, "leave_one_out", "group_centred"
        or "group_normalised" with the other outputs of the context, or "no_baseline".
      average: of the losses of tokens: "sequence_sum", "sequence_mean" or "token_mean".
      samples: outputs of each context.
      reuse: updates that a rollout serves; above 1 with a loss that reads the sampling policy, such as `clipped_ratio`.
      decay: of the moving averages, in updates.
      kl_in_reward: how much of the KL to the reference (estimate k1 of each output) is taken off its reward.
    """

    loss: str = "reinforce"
    advantage: str = "moving_average"
    average: str = "sequence_sum"
    samples: int = 4
    reuse: int = 1
    decay: float = 0.95
    kl_in_reward: float = 0.0

    def __post_init__(self) -> None:
        require_at_least(self, 1, "samples", "reuse")
        require_choice(
            self,
            "advantage",
            ("moving_average", "no_baseline", "leave_one_out", "group_centred", "group_normalised"),
        )
        require_choice(self, "average", ("token_mean", "sequence_mean", "sequence_sum"))
        require(self, "decay", 0 <= self.decay < 1, "must be at least 0 and below 1, for example 0.95")
        require(self, "kl_in_reward", self.kl_in_reward >= 0, "must not be negative; 0 turns it off")
        compares = self.advantage not in ("moving_average", "no_baseline")
        require(self, "samples", self.samples > 1 or not compares, f"{self.advantage!r} compares 2 outputs or more")
