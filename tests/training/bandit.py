"""A bandit whose best arm depends on the state, which the tests of rollouts train. Run as a program, `bandit.py
DIRECTORY`, it trains until it is complete or killed."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.features.batch_spec import BatchSpec, Field
from ecr_jax.features.batches import Batches, InMemoryExamples
from ecr_jax.training import sharding
from ecr_jax.training.loop import fit
from ecr_jax.training.options import OptimConfig, PolicyConfig, TrainConfig
from ecr_jax.training.rollouts import Rollouts, Sampled, TokenLogProbs, policy_loss

SPEC = BatchSpec("bandit", (Field("state", np.int32),))
EARNED = np.array([[0.2, 0.9, 0.1, 0.3], [0.8, 0.1, 0.2, 0.7], [0.0, 0.1, 0.2, 1.0]])
"""What each arm earns in each state."""
TRAINING = TrainConfig(steps=60, batch_size=8, eval_every=30, optim=OptimConfig(learning_rate=0.2, clip=None), seed=3)


@jax.jit
def log_probs(params, frozen, batch):
    """An output is one token: the arm."""
    logits = frozen["reference"] if params is None else params["logits"]
    table = jax.nn.log_softmax(logits)[batch["state"]]  # [B, 4]
    return TokenLogProbs(
        jnp.take_along_axis(table, batch["arm"], axis=1)[..., None], jnp.ones((*batch["arm"].shape, 1), bool)
    )


@jax.jit
def draw(params, state, keys):
    table = jax.nn.log_softmax(params["logits"])[state]
    arms = jax.vmap(lambda key: jax.random.categorical(key, table))(keys).T  # [B, S]
    return arms, jnp.take_along_axis(table, arms, axis=1)


def sample(params, frozen, batch, key, samples):
    arms, chosen = draw(params, batch["state"], jax.random.split(key, samples))
    return Sampled({"arm": arms}, chosen)


def reward(batch, actions):
    earned = EARNED[batch["state"][:, None], actions["arm"]]
    return earned, {"earned": earned}


def evaluate(params, _=None):
    probabilities = jax.nn.softmax(jnp.asarray(params["logits"]))
    return {"reward": float((probabilities * EARNED).sum(axis=1).mean())}


REINFORCE = PolicyConfig()


def run(directory, policy=REINFORCE, sample=sample, reward=reward, kinds=None, **changes):
    examples = InMemoryExamples(SPEC, [{"state": np.int32(number % 3)} for number in range(20)])
    arguments = {
        "params": {"logits": jnp.zeros((3, 4))}, "frozen": {"reference": jnp.zeros((3, 4))},
        "loss": policy_loss(log_probs, policy),
        "batches": Batches(examples, ({},), 8, seed=1).repeated(policy.reuse), "evaluate": evaluate, "select": "reward",
        "mode": "max", "config": TRAINING, "mesh": sharding.make_mesh(devices=jax.devices()[:1]),
        "act": Rollouts(sample, log_probs, reward, policy, kinds),
    }  # fmt: skip
    return fit(Path(directory), **arguments | changes)


REUSED = PolicyConfig(loss="clipped_ratio + 0.05*kl_k3", reuse=3)
"""The bandit of the program: it resumes exactly only if the moving average and the rollout do."""

if __name__ == "__main__":
    often = dataclasses.replace(TRAINING, steps=120, checkpoint_every=4)
    run(sys.argv[1], REUSED, kinds=lambda batch: batch["state"] > 0, config=often)
