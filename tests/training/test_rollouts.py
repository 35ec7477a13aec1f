"""Rollouts in the loop: bandits and digits are learned by every estimator; a killed run ends as if it were whole."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.errors import ConfigError
from ecr_jax.features.batch_spec import BatchSpec, Field
from ecr_jax.features.batches import Batches, InMemoryExamples
from ecr_jax.inference.decoding import Decoding, generate
from ecr_jax.losses.policy import ADVANTAGES, ESTIMATORS
from ecr_jax.models.lm.language_model import head
from ecr_jax.models.lm.llama import LlamaConfig
from ecr_jax.training import sharding
from ecr_jax.training.checkpoint import read_params
from ecr_jax.training.loop import fit
from ecr_jax.training.options import OptimConfig, PolicyConfig, TrainConfig
from ecr_jax.training.rollouts import Rollouts, Sampled, TokenLogProbs, policy_loss
from tests.tiny import random_model
from tests.training import bandit


def config_of(estimator, **changes):
    return PolicyConfig(**ESTIMATORS[estimator]._asdict() | changes)


def rows(directory, split="train"):
    lines = (Path(directory) / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_bandit_is_learned(estimator, tmp_path):
    """By chance an arm earns 0.38 on average; the best ones earn 0.9."""
    reuse = 2 if "clipped" in ESTIMATORS[estimator].loss else 1
    result = bandit.run(tmp_path, config_of(estimator, reuse=reuse))
    assert result.metrics["reward"] > 0.85
    first, *_, last = rows(tmp_path)
    assert last["reward"] > first["reward"] and last["entropy"] < 0.5 < first["entropy"] and last["kl_k3"] > 0.5
    assert all(row["sampler_difference"] < 1e-6 for row in rows(tmp_path))
    of_rollouts = rows(tmp_path)[::reuse]
    np.testing.assert_allclose([row["ratio"] for row in of_rollouts], 1, atol=1e-6)
    assert all(row["clipped"] == 0 for row in of_rollouts)
    if reuse > 1:
        assert max(abs(row["ratio"] - 1) for row in rows(tmp_path)[1::2]) > 1e-3
        assert [row["reward"] for row in of_rollouts] == [row["reward"] for row in rows(tmp_path)[1::2]]


@pytest.mark.slow
def test_the_kl_keeps_the_policy_near_the_reference(tmp_path):
    """In the loss as k3 and in the reward as k1."""
    learned = bandit.run(tmp_path / "free", config_of("rloo")).params["logits"]
    for name, changes in {"k3": {"loss": "reinforce + 1*kl_k3"}, "k1": {"kl_in_reward": 1.0}}.items():
        held = bandit.run(tmp_path / name, config_of("rloo", **changes)).params["logits"]
        entropies = [-np.sum(jax.nn.softmax(x) * jax.nn.log_softmax(x)) for x in (learned, held)]
        assert entropies[0] < 1 < 3 < entropies[1]


@pytest.mark.slow
def test_a_penalised_policy_is_the_known_one(tmp_path):
    """KL-regularised rewards have a closed form: the best policy is reference * e^(reward / beta)."""

    def evaluate(params, _):
        log_probs = jax.nn.log_softmax(jnp.asarray(params["logits"]))
        values = bandit.EARNED - 0.5 * (log_probs - np.log(1 / 4))
        return {"reward": float((jnp.exp(log_probs) * values).sum(axis=1).mean())}

    optim = OptimConfig(learning_rate=0.05, clip=None, warmup=0, schedule="linear")
    training = dataclasses.replace(bandit.TRAINING, steps=200, eval_every=200, optim=optim)
    found = bandit.run(
        tmp_path, config_of("rloo", kl_in_reward=0.5, samples=64), config=training, evaluate=evaluate
    ).params["logits"]
    np.testing.assert_allclose(jax.nn.softmax(found), jax.nn.softmax(bandit.EARNED / 0.5), atol=0.03)


def test_every_kind_has_a_moving_average(tmp_path):
    """Rewards that differ between kinds alone teach nothing once the averages know them."""

    def by_state(batch, actions):
        return np.where(batch["state"][:, None] > 0, 1.0, 0.0) + 0 * actions["arm"], {}

    config = PolicyConfig(decay=0.5)
    bandit.run(tmp_path / "kinds", config, reward=by_state, kinds=lambda batch: (batch["state"] > 0).astype(int))
    last = rows(tmp_path / "kinds")[-1]
    assert last["baseline/0"] == 0 and last["baseline/1"] == 1 and last["loss"] == 0
    assert last["zero_variance"] == 1
    bandit.run(tmp_path / "one", config, reward=by_state)
    assert 0 < rows(tmp_path / "one")[-1]["baseline/0"] < 1


def test_a_reward_that_is_not_finite_ends_the_training(tmp_path):
    def broken(batch, actions):
        return np.where(actions["arm"] == 2, np.nan, 1.0), {}

    with pytest.raises(FloatingPointError, match="loss is nan at step 1; the batch's examples: "):
        bandit.run(tmp_path, reward=broken)


@pytest.mark.slow
def test_eight_devices_and_micro_batches_are_one_device(tmp_path):
    training = dataclasses.replace(bandit.TRAINING, steps=6, eval_every=6)
    config = bandit.REUSED
    whole = bandit.run(tmp_path / "one", config, config=training)
    split = bandit.run(tmp_path / "eight", config, config=training, mesh=None)
    assert len(split.summary["devices"]) == 8
    parts = bandit.run(tmp_path / "parts", config, config=dataclasses.replace(training, accumulation=4))
    for other in (split, parts):
        np.testing.assert_allclose(other.params["logits"], whole.params["logits"], rtol=2e-5, atol=1e-6)


class Stop(Exception):
    pass


def test_a_broken_run_ends_as_one_that_was_not(tmp_path):
    """It resumes from step 10, whose rollout is that of step 9 and serves step 11 too."""
    training = dataclasses.replace(bandit.TRAINING, steps=18, eval_every=9, checkpoint_every=5)

    def breaking(batch, actions):
        if len(rows(tmp_path / "broken")) >= 10:  # of step 12, which are read late
            raise Stop
        return bandit.reward(batch, actions)

    def by_state(batch):
        return batch["state"] > 0

    arguments = {"policy": bandit.REUSED, "kinds": by_state, "config": training}
    whole = bandit.run(tmp_path / "whole", **arguments)
    with pytest.raises(Stop):
        bandit.run(tmp_path / "broken", **arguments, reward=breaking)
    resumed = bandit.run(tmp_path / "broken", **arguments)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)
    for split in ("train", "valid"):
        assert rows(tmp_path / "broken", split) == rows(tmp_path / "whole", split)


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_was_not(tmp_path):
    """Parameters, moving averages and shared rollouts are bit-equal, at whatever moment it is killed."""
    command = [sys.executable, bandit.__file__]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment, stdout=subprocess.DEVNULL)
    killed, deaths, last = tmp_path / "killed", 0, 0
    while not (killed / "summary.json").is_file():
        process = subprocess.Popen([*command, str(killed)], env=environment, stdout=subprocess.DEVNULL)
        while deaths < 3 and process.poll() is None:
            if (killed / "metrics.jsonl").is_file() and len(rows(killed)) > last + 17 + 5 * deaths:
                last = len(rows(killed))
                process.send_signal(signal.SIGKILL)
                deaths += 1
            time.sleep(0.005)
        assert process.wait() in (0, -signal.SIGKILL)
    assert deaths == 3
    for split in ("train", "valid"):
        assert rows(killed, split) == rows(tmp_path / "whole", split)
    ours, theirs = (read_params(folder / "params.safetensors") for folder in (killed, tmp_path / "whole"))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"advantage": "median"}, "advantage = 'median' is not allowed: choose one of"),
        ({"advantage": "leave_one_out", "samples": 1}, "samples = 1 is not allowed: 'leave_one_out' compares"),
        ({"decay": 1.0}, "decay = 1.0"),
        ({"average": "mean"}, "average = 'mean'"),
        ({"kl_in_reward": -1.0}, "kl_in_reward = -1.0"),
    ],
)
def test_settings_that_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        PolicyConfig(**changes)


def test_a_loss_that_does_not_read_the_sampling_policy_cannot_reuse_rollouts():
    with pytest.raises(ValueError, match="'reinforce' .* reuse = 2"):
        policy_loss(bandit.log_probs, PolicyConfig(reuse=2))


def test_the_config_names_the_advantages_that_there_are():
    for advantage in ADVANTAGES:
        PolicyConfig(advantage=advantage)


# ----------------------------------------------------------------------------------------------- a tiny language model

END = 10
SIZES = LlamaConfig(11, 32, 1, heads=2, kv_heads=1, head_dim=16, hidden=48, positions=8, tied=True)


def learn_to_count(directory, config, steps=120):
    """After a digit, the two next ones: each right one earns a half. Written by the decoder, token by token."""
    model = random_model(SIZES, scale=0.2)
    module, decoding = model.module, Decoding(max_new=2, temperature=1.0)
    spec = BatchSpec("digits", (Field("digit", np.int32),))
    examples = InMemoryExamples(spec, [{"digit": np.int32(digit)} for digit in range(8)])

    def token_log_probs(params, batch):
        written = batch["written"]  # [B, S, 2]
        prompt = jnp.broadcast_to(batch["digit"][:, None, None], (*written.shape[:2], 1))
        tokens = jnp.concatenate([prompt, written], axis=-1).reshape(-1, 3)
        hidden = module.apply({"params": params}, tokens, jnp.ones_like(tokens, bool)).hidden[:, :-1]
        scores = jax.nn.log_softmax(hidden @ head(params).T)
        chosen = jnp.take_along_axis(scores, tokens[:, 1:, None], axis=-1)[..., 0].reshape(written.shape)
        ended = jnp.cumsum(written == END, axis=-1) - (written == END) > 0
        return TokenLogProbs(chosen, ~ended)

    def log_probs(params, frozen, batch):
        return token_log_probs(frozen["reference"] if params is None else params, batch)

    scorer = jax.jit(log_probs)

    def sample(params, frozen, batch, key, samples):
        prompts = np.asarray(batch["digit"])[:, None]
        keys = jax.random.split(key, len(prompts) * samples)
        new = generate(module, {"params": params}, prompts, np.ones_like(prompts, bool), decoding=decoding, end=END,
                       keys=keys, copies=samples).tokens.reshape(len(prompts), samples, 2)  # fmt: skip
        scored = scorer(params, frozen, batch | {"written": new})
        return Sampled({"written": new}, np.where(scored.where, scored.log_probs, 0).sum(axis=-1))

    def right(batch, written):
        return np.mean(written == (batch["digit"][:, None, None] + [1, 2]), axis=-1)

    def reward(batch, actions):
        return right(batch, actions["written"]), {}

    def evaluate(params, _):
        prompts = np.arange(8)[:, None]
        new = generate(module, {"params": params}, prompts, np.ones_like(prompts, bool), decoding=Decoding(max_new=2),
                       end=END).tokens  # fmt: skip
        return {"right": float(right({"digit": np.arange(8)}, new[:, None]).mean())}

    training = TrainConfig(steps=steps, batch_size=8, optim=OptimConfig(learning_rate=0.01), eval_every=steps // 4)
    return fit(
        directory,
        params=model.params,
        frozen={"reference": model.params},
        loss=policy_loss(log_probs, config),
        batches=Batches(examples, ({},), 8, seed=0).repeated(config.reuse),
        evaluate=evaluate,
        select="right",
        mode="max",
        config=training,
        mesh=sharding.make_mesh(devices=jax.devices()[:1]),
        act=Rollouts(sample, scorer, reward, config),
    )


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_digits_are_learned_by_a_language_model(estimator, tmp_path):
    reuse = 2 if "clipped" in ESTIMATORS[estimator].loss else 1
    result = learn_to_count(tmp_path, config_of(estimator, samples=16, reuse=reuse))
    assert result.metrics["right"] > 0.9
    assert all(row["sampler_difference"] < 1e-5 for row in rows(tmp_path))
