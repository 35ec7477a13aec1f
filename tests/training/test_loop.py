"""The loop: a killed and resumed run equals one that was never killed; the best parameters are kept; values that are
not finite are reported."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from ecr_jax.features.batches import Batches
from ecr_jax.training import sharding
from ecr_jax.training.checkpoint import read_about, read_params
from ecr_jax.training.loop import Interrupted
from ecr_jax.training.options import ShardingConfig, TrainConfig
from tests.training import toy

TOY = Path(__file__).with_name("toy.py")


def rows(directory, split="train"):
    lines = (Path(directory) / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    return directory, toy.run(directory)


class Stop(Exception):
    pass


def at_batch(index, do):
    """Batches whose reader does something before it gives the batch after so many."""

    class Doing(Batches):
        def __getitem__(self, i):
            if i == index:
                do()
            return super().__getitem__(i)

    batches = toy.make_batches()
    batches.__class__ = Doing
    return batches


def dying(after):
    def die():
        raise Stop

    return at_batch(after, die)


def test_a_run_learns_and_writes_its_files(whole):
    directory, result = whole
    train, valid = rows(directory), rows(directory, "valid")
    assert [row["step"] for row in train] == list(range(1, 31))
    assert [row["step"] for row in valid] == [10, 20, 30]
    assert np.mean([r["loss"] for r in train[-5:]]) < 0.5 * np.mean([r["loss"] for r in train[:5]])
    best = min(valid, key=lambda row: row["error"])
    assert result.summary["best"] == {"step": best["step"], "value": best["error"], "metrics": {"error": best["error"]}}
    assert result.metrics == {"error": best["error"]}
    np.testing.assert_allclose(toy.evaluate(result.params)["error"], best["error"], rtol=1e-5)
    assert read_about(directory / "params.safetensors") == {"step": best["step"], "metrics": result.metrics}
    summary = json.loads((directory / "summary.json").read_text())
    assert summary == result.summary and summary["peak_memory_mb"] > 10 and summary["examples_per_second"] > 0
    assert json.loads((directory / "config.json").read_text())["train"]["optim"]["learning_rate"] == 0.02
    assert list((directory / "tensorboard").iterdir())


def test_the_callers_parameters_are_left_alone(tmp_path):
    params = toy.make_params()
    toy.run(tmp_path, params=params, config=dataclasses.replace(toy.CONFIG, steps=2))
    same(params, toy.make_params())


def test_a_finished_run_says_so_and_does_nothing(whole, capsys):
    directory, result = whole
    before = {p: p.stat().st_mtime_ns for p in directory.rglob("*") if p.is_file()}
    again = toy.run(directory, loss=None)
    assert "complete" in capsys.readouterr().out
    same(again.params, result.params)
    assert again.summary == result.summary and again.metrics == result.metrics
    assert before == {p: p.stat().st_mtime_ns for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize("after", [3, 12, 23])
def test_a_run_that_died_resumes_exactly(whole, tmp_path, after, capsys):
    with pytest.raises(Stop):
        toy.run(tmp_path, batches=dying(after))
    assert not (tmp_path / "summary.json").exists()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 29, "lo')  # what a kill may leave
    result = toy.run(tmp_path)
    assert ("resuming from step" in capsys.readouterr().out) == (after > 4)
    assert rows(tmp_path) == rows(whole[0]) and rows(tmp_path, "valid") == rows(whole[0], "valid")
    same(result.params, whole[1].params)
    assert result.summary["best"] == whole[1].summary["best"]


def test_resumes_on_another_number_of_devices(whole, tmp_path):
    with pytest.raises(Stop):
        toy.run(tmp_path, batches=dying(12))
    result = toy.run(tmp_path, mesh=sharding.make_mesh())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), result.params, whole[1].params)


@pytest.mark.slow
def test_resumes_split_over_devices_as_configured(whole, tmp_path, capsys):
    rules = (("first/kernel", ("width", "hidden")), ("first/bias|last", ("hidden",)), *sharding.REPLICATED)
    split = dataclasses.replace(toy.CONFIG, sharding=ShardingConfig("tensor", 4))
    seen = []

    def evaluate(params, frozen):
        seen.append((params["first"]["kernel"].sharding.spec, frozen["table"].sharding.mesh.shape["model"]))
        return toy.evaluate(params)

    with pytest.raises(Stop):
        toy.run(tmp_path, batches=dying(12))
    result = toy.run(tmp_path, mesh=None, config=split, rules=rules, evaluate=evaluate)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), result.params, whole[1].params)
    assert set(seen) == {(P(None, "model"), 4)} and len(result.summary["devices"]) == 8
    assert "tensor over 2 data x 4 model devices: each holds" in capsys.readouterr().out
    assert toy.run(tmp_path, loss=None).summary == result.summary  # whatever it was split over
    with pytest.raises(
        ValueError,
        match="strategy = 'tensor' is not allowed: it splits nothing over 2 data x 4 model devices",
    ):
        toy.run(tmp_path / "other", mesh=None, config=split)
    with pytest.raises(ValueError, match="ShardingConfig.model = 16 is not allowed: there are 8 devices"):
        toy.run(tmp_path / "many", mesh=None, config=dataclasses.replace(
            toy.CONFIG, sharding=ShardingConfig("tensor", 16)))  # fmt: skip


@pytest.mark.slow
def test_a_killed_process_resumes_exactly(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(TOY)]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment, capture_output=True, timeout=120)
    directory = tmp_path / "killed"
    deaths = 0
    for at in (6, 17, 28):
        process = subprocess.Popen([*command, str(directory)], env=environment, stdout=subprocess.DEVNULL)
        metrics = directory / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and f'"step": {at},' in metrics.read_text()):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        deaths += process.wait(timeout=60) == -signal.SIGKILL
    assert deaths >= 1
    subprocess.run([*command, str(directory)], check=True, env=environment, capture_output=True, timeout=120)
    for split in ("train", "valid"):
        assert rows(directory, split) == rows(tmp_path / "whole", split)
    same(read_params(directory / "params.safetensors"), read_params(tmp_path / "whole" / "params.safetensors"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_says_how_to_resume(whole, tmp_path, number, capsys):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stopped:
        toy.run(tmp_path, batches=at_batch(9, lambda: signal.raise_signal(number)))
    assert stopped.value.code == 130
    assert signal.getsignal(number) is before
    stopped_at = re.search(r"stopped at step (\d+) of 30; the same command resumes", capsys.readouterr().out)
    assert (tmp_path / "checkpoints" / stopped_at[1]).is_dir()
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, int(stopped_at[1]) + 1))
    result = toy.run(tmp_path)
    assert rows(tmp_path) == rows(whole[0])
    same(result.params, whole[1].params)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_breaks_an_evaluation_off_and_the_next_process_makes_it(whole, tmp_path, number, capsys):
    """An evaluation may take longer than a machine gives a process to end: it is not waited for."""
    ended = []

    def slow(params, frozen):
        if not ended and int(rows(tmp_path)[-1]["step"]) == 20:
            signal.raise_signal(number)
            ended.append("not broken off")
        return toy.evaluate(params)

    with pytest.raises(Interrupted):
        toy.run(tmp_path, evaluate=slow)
    assert not ended and "stopped at step 20 of 30" in capsys.readouterr().out
    assert [row["step"] for row in rows(tmp_path, "valid")] == [10]
    assert (tmp_path / "checkpoints" / "20").is_dir()
    result = toy.run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == (whole[0] / "metrics.jsonl").read_text()
    same(result.params, whole[1].params)
    assert result.summary["best"] == whole[1].summary["best"]


def test_a_signal_in_the_last_evaluation(whole, tmp_path):
    def stopping(params, frozen):
        if len(rows(tmp_path)) == 30:
            signal.raise_signal(signal.SIGTERM)
        return toy.evaluate(params)

    with pytest.raises(Interrupted):
        toy.run(tmp_path, evaluate=stopping)
    assert not (tmp_path / "summary.json").exists()
    with pytest.raises(Stop):  # killed after the evaluation that was due, before the next checkpoint
        toy.run(tmp_path, evaluate=failing_after(toy.evaluate))
    result = toy.run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == (whole[0] / "metrics.jsonl").read_text()
    same(result.params, whole[1].params)


def failing_after(evaluate):
    """An evaluation whose result can not be used: the process dies right after it."""

    class Dying(dict):
        def items(self):
            raise Stop

    return lambda params, frozen: Dying(evaluate(params))


def test_a_damaged_checkpoint_is_named_and_the_losses_are_the_same(whole, tmp_path, capsys):
    with pytest.raises(Stop):
        toy.run(tmp_path, batches=dying(23))
    *_, before, newest = sorted((tmp_path / "checkpoints").iterdir(), key=lambda path: int(path.name))
    (newest / "state" / "_METADATA").write_bytes(b"{}")
    leftover = tmp_path / ".params.safetensors.abcd1234.partial"
    leftover.mkdir()
    result = toy.run(tmp_path)
    printed = "".join(capsys.readouterr().out.split())  # without spaces: the terminal wraps long paths
    assert f"checkpoints/{newest.name}isdamagedandpassedover:state/_METADATAisnotaswritten" in printed
    assert f"resumingfromstep{before.name}of30" in printed
    assert rows(tmp_path) == rows(whole[0]) and not leftover.exists()
    same(result.params, whole[1].params)


@pytest.mark.slow
def test_eight_devices_then_four_then_two_then_one_and_another_mesh(whole, tmp_path):
    """Each process has fewer devices than the one before it, and the last ones split them differently."""
    rules = (("first/kernel", ("width", "hidden")), ("first/bias|last", ("hidden",)), *sharding.REPLICATED)
    places = [(8, 1, "fsdp"), (4, 1, "data"), (2, 1, "fsdp"), (1, 1, "data"), (8, 2, "fsdp_tensor"), (8, 4, "tensor")]
    for number, (devices, model, strategy) in enumerate(places):
        config = dataclasses.replace(toy.CONFIG, sharding=ShardingConfig(strategy, model))
        mesh = sharding.make_mesh(model, jax.devices()[:devices])
        last = number == len(places) - 1
        with contextlib.nullcontext() if last else pytest.raises(Stop):
            batches = toy.make_batches() if last else dying(5 * number + 4)
            result = toy.run(tmp_path, mesh=mesh, config=config, rules=rules, batches=batches)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), result.params, whole[1].params)
    for row, expected in zip(rows(tmp_path), rows(whole[0]), strict=True):
        np.testing.assert_allclose(row["loss"], expected["loss"], rtol=1e-4)


@pytest.mark.slow
def test_twenty_kills_at_random_moments(tmp_path):
    """Checkpoints at every step, so that many kills come while one is written; the seed names the moments."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "TOY_CHECKPOINT_EVERY": "1"}
    command = [sys.executable, str(TOY)]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment, capture_output=True, timeout=600)
    directory, moments, deaths, partial = tmp_path / "killed", np.random.default_rng(5), 0, 0
    for _ in range(20):
        process = subprocess.Popen([*command, str(directory)], env=environment, stdout=subprocess.DEVNULL)
        steps = len(rows(directory)) if (directory / "metrics.jsonl").exists() else 0
        while process.poll() is None and steps == (
            len((directory / "metrics.jsonl").read_text().splitlines()) if (directory / "metrics.jsonl").exists() else 0
        ):
            time.sleep(0.001)
        time.sleep(float(moments.uniform(0, 0.3)))
        process.send_signal(signal.SIGKILL)
        deaths += process.wait(timeout=60) == -signal.SIGKILL
        partial += any((directory / "checkpoints").glob("*.partial*"))
    assert deaths >= 1 and partial >= 1
    subprocess.run([*command, str(directory)], check=True, env=environment, capture_output=True, timeout=600)
    assert (directory / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
    same(read_params(directory / "params.safetensors"), read_params(tmp_path / "whole" / "params.safetensors"))


def poisoned(at):
    """Examples, one of which has no number for an answer, and the step (1-based) that meets it."""
    examples = toy.make_examples()
    examples[at]["y"] = np.float32("nan")
    batches = toy.make_batches(examples=examples)
    step = next(i for i in range(100) if at in batches[i]["example"][batches[i]["example_mask"]])
    ids = batches[step]["example"][batches[step]["example_mask"]]
    return batches, step + 1, ids.tolist()


def test_a_loss_that_is_not_a_number_names_step_and_examples(tmp_path):
    batches, step, ids = next(p for p in map(poisoned, range(60)) if p[1] > 5)
    with pytest.raises(FloatingPointError) as error:
        toy.run(tmp_path, batches=batches, describe=lambda numbers: [f"dialogue-{n}" for n in numbers])
    assert f"loss is nan at step {step};" in str(error.value)
    assert ", ".join(f"dialogue-{n}" for n in ids) + "." in str(error.value)
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, step))
    saved = [int(p.name) for p in (tmp_path / "checkpoints").iterdir()]
    assert saved and max(saved) < step
    with pytest.raises(FloatingPointError, match=f"at step {step};"):  # and again from the last good checkpoint
        toy.run(tmp_path, batches=batches)


def test_a_gradient_that_is_not_finite_is_named_where_it_is(tmp_path):
    def loss(params, frozen, batch, key):
        total, count, metrics = toy.loss(params, frozen, batch, key)
        return total + jnp.sqrt(jnp.sum(0.0 * params["last"]["kernel"])), count, metrics

    with pytest.raises(FloatingPointError, match="grad_norm is nan at step 1;"):
        toy.run(tmp_path, loss=loss)


def test_patience_stops_and_the_best_stays(tmp_path):
    values = iter([3.0, 5.0, 4.0, 1.0, 9.0])
    config = TrainConfig(epochs=2, batch_size=8, eval_every=2, patience=2, optim=toy.CONFIG.optim)
    result = toy.run(
        tmp_path, config=config, evaluate=lambda params, _: {"recall": next(values)}, select="recall", mode="max"
    )
    assert result.summary["steps"] == 8 and result.summary["stopped_early"]
    assert result.summary["best"] == {"step": 4, "value": 5.0, "metrics": {"recall": 5.0}}
    assert read_about(tmp_path / "params.safetensors")["step"] == 4


def test_the_loop_compiles_one_program_a_shape(tmp_path):
    shapes = []

    def loss(params, frozen, batch, key):
        shapes.append(batch["x"].shape)
        return toy.loss(params, frozen, batch, key)

    toy.run(tmp_path, loss=loss)
    assert sorted(shapes) == [(8, 2, 3), (8, 4, 3)]


def test_another_configuration_is_refused_by_field(whole):
    with pytest.raises(ValueError, match=r"other settings \(data: None → 'x'; train.seed: 7 → 8\).*--force"):
        toy.run(whole[0], config=dataclasses.replace(toy.CONFIG, seed=8), record={"data": "x"})


def test_bad_values_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="select='recall': the evaluation gives error"):
        toy.run(tmp_path / "a", select="recall")
    with pytest.raises(ValueError, match="batch_size = 4 is not allowed: must be a multiple of devices x accumulation"):
        toy.run(
            tmp_path / "b",
            batches=toy.make_batches(4),
            mesh=sharding.make_mesh(),
            config=dataclasses.replace(toy.CONFIG, batch_size=4),
        )
    with pytest.raises(ValueError, match="TrainConfig.batch_size = 8 is not allowed: the batches have 16 rows"):
        toy.run(tmp_path / "c", batches=toy.make_batches(16))
    with pytest.raises(ValueError, match="mode='best'"):
        toy.run(tmp_path / "d", mode="best")
    with pytest.raises(FloatingPointError, match="error is not a number at step 10"):
        toy.run(tmp_path / "e", evaluate=lambda params, _: {"error": float("nan")})
    with pytest.raises(ValueError, match="give either `steps` or `epochs`"):
        TrainConfig()
    with pytest.raises(ValueError, match="TrainConfig.eval_every = 0 is not allowed: give a number of at least 1"):
        TrainConfig(steps=1, eval_every=0)
    with pytest.raises(ValueError, match="TrainConfig.accumulation = 3 is not allowed: must divide batch_size = 64"):
        TrainConfig(steps=1, accumulation=3)
