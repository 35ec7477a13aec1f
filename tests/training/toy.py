"""A two-layer network on random rows of two lengths, which the tests of this folder train. Run as a program,
`toy.py DIRECTORY [STRATEGY MODEL]`, it trains until it is complete or killed."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.features.batch_spec import BatchSpec, Field
from ecr_jax.features.batches import Batches, InMemoryExamples
from ecr_jax.training import processes, sharding
from ecr_jax.training.evaluation import jit_over_rows
from ecr_jax.training.loop import fit
from ecr_jax.training.options import OptimConfig, ShardingConfig, TrainConfig

SPEC = BatchSpec("toy", (Field("x", np.float32, ("T", 3), mask="mask"), Field("y", np.float32)))
SHAPES = ({"T": 2}, {"T": 4})


def make_examples(count=60, seed=0):
    rng = np.random.default_rng(seed)
    rows = [rng.normal(size=(rng.integers(1, 5), 3)).astype(np.float32) for _ in range(count)]
    return [{"x": x, "y": np.float32(np.tanh(x).mean())} for x in rows]


def make_batches(batch_size=8, examples=None, seed=0):
    examples = make_examples() if examples is None else examples
    return Batches(InMemoryExamples(SPEC, examples), SHAPES, batch_size, seed=seed)


def make_params(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "first": {"kernel": jnp.asarray(rng.normal(size=(3, 8)) / 2, jnp.float32), "bias": jnp.zeros(8)},
        "last": {"kernel": jnp.asarray(rng.normal(size=(8,)) / 3, jnp.float32)},
    }


def make_frozen():
    return {"scale": jnp.float32(1.5), "table": jnp.arange(4)}


def predict(params, frozen, batch):
    hidden = jnp.tanh(batch["x"] @ params["first"]["kernel"] + params["first"]["bias"])  # [B, T, 8]
    rows = jnp.where(batch["mask"], frozen["scale"] * (hidden @ params["last"]["kernel"]), 0.0)  # [B, T]
    return rows.sum(-1) / jnp.maximum(batch["mask"].sum(-1), 1)  # [B]


def loss(params, frozen, batch, key):
    errors = jnp.where(batch["example_mask"], (predict(params, frozen, batch) - batch["y"]) ** 2, 0.0)
    return errors.sum(), batch["example_mask"].sum(), {"error": jnp.sqrt(errors).sum()}


jitted_loss = jit_over_rows(lambda params, frozen, batch: loss(params, frozen, batch, None))
RULES = (("first/kernel", (None, "features")), ("first/bias|last", ("features",)), (".*", ()))


def noisy_loss(params, frozen, batch, key):
    """The loss with noise on its input: a run resumes exactly only if its random numbers do."""
    return loss(params, frozen, batch | {"x": batch["x"] + 0.1 * jax.random.normal(key, batch["x"].shape)}, key)


def evaluate(params, _=None):
    batches = Batches.in_order(InMemoryExamples(SPEC, make_examples(20, seed=1)), SHAPES, 8)
    sums = [jitted_loss(params, make_frozen(), batch)[:2] for batch in batches]
    return {"error": float(sum(t for t, _ in sums) / sum(c for _, c in sums))}


CONFIG = TrainConfig(
    steps=30, batch_size=8, eval_every=10, checkpoint_every=4, optim=OptimConfig(learning_rate=0.02), seed=7
)


def run(directory, **changes):
    arguments = {
        "params": make_params(), "frozen": make_frozen(), "loss": noisy_loss, "batches": make_batches(),
        "evaluate": evaluate, "select": "error", "mode": "min", "config": CONFIG,
        "mesh": sharding.make_mesh(devices=jax.devices()[:1]),
    }  # fmt: skip
    return fit(Path(directory), **arguments | changes)


if __name__ == "__main__":
    processes.join()
    every = int(os.environ.get("TOY_CHECKPOINT_EVERY", CONFIG.checkpoint_every))
    strategy, model = sys.argv[2:] or ("data", "1")
    config = dataclasses.replace(CONFIG, checkpoint_every=every, sharding=ShardingConfig(strategy, int(model)))
    run(sys.argv[1], config=config, rules=RULES, **({"mesh": None} if processes.are_several() else {}))
