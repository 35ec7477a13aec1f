"""Several processes: each reads its rows; together they train as one does; one that dies ends all, and they resume."""

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
import numpy as np
import pytest

from ecr_jax.training import processes, sharding
from ecr_jax.training.checkpoint import read_params
from tests.training import toy

ROOT = Path(__file__).parents[2]
TOY = [sys.executable, str(Path(__file__).with_name("toy.py"))]
LAUNCH = [sys.executable, str(ROOT / "launch" / "local.py")]


def environment():
    flags = " ".join(flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag)
    return os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}


def train(directory, count, devices=1, sharding=()):
    command = [*LAUNCH, "--processes", str(count), "--devices", str(devices), "--", *TOY, str(directory), *sharding]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def rows(directory):
    path = directory / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_rows_of_processes_make_the_whole_batch():
    batches = toy.make_batches()
    for index in range(12):
        whole = batches[index]
        parts = [batches.of_rows(rows)[index] for rows in (slice(0, 2), slice(2, 5), slice(5, 8))]
        for name, array in whole.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)
        assert batches.example_numbers(index) == whole["example"][whole["example_mask"]].tolist()
        assert batches.of_rows(slice(0, 1)).example_numbers(index) == batches.example_numbers(index)


def test_a_process_reads_its_rows_alone():
    examples = toy.make_examples()
    read = []

    class Noting(list):
        def __getitem__(self, number):
            read.append(number)
            return super().__getitem__(number)

    batches = toy.make_batches(examples=Noting(examples))
    read.clear()
    batches.of_rows(slice(2, 4))[0]
    assert read == batches.example_numbers(0)[2:4]


def test_one_process_holds_all_rows_and_agrees_with_itself():
    assert processes.rows(sharding.split_rows(sharding.make_mesh(model=2)), 8) == slice(0, 8)
    assert not processes.are_several() and processes.is_first()
    assert processes.agree(3, True, False) == (True, False) and processes.agree(10, False, True) == (False, True)
    assert isinstance(processes.fetch({"a": jax.numpy.ones(2)})["a"], np.ndarray)


@pytest.mark.parametrize(
    "values", [{"ECR_PROCESSES": "2"}, {"ECR_PROCESSES": "two", "ECR_PROCESS": "0", "ECR_COORDINATOR": "a:1"}]
)
def test_what_is_not_set_is_named(monkeypatch, values):
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="ECR_PROCESSES='(2|two)': set it, ECR_PROCESS and ECR_COORDINATOR"):
        processes.join()


def test_alone_without_the_variables(monkeypatch):
    monkeypatch.delenv("ECR_PROCESSES", raising=False)
    processes.join()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    directory = tmp_path_factory.mktemp("two")
    process = train(directory, 2)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return directory


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(two, tmp_path):
    subprocess.run([*TOY, str(tmp_path)], check=True, env=environment(), capture_output=True, timeout=600)
    assert len(rows(two)) == len(rows(tmp_path)) == 33  # each row once
    for row, expected in zip(rows(two), rows(tmp_path), strict=True):
        assert row.keys() == expected.keys() and row["step"] == expected["step"]
        for name in row.keys() & {"loss", "error"}:
            np.testing.assert_allclose(row[name], expected[name], rtol=1e-5)
    for result in (two, tmp_path):
        assert {path.name for path in result.iterdir() if path.name != "tensorboard"} == {
            "checkpoints", "config.json", "metrics.jsonl", "speed.jsonl", "params.safetensors", "summary.json",
        }  # fmt: skip
    summary = json.loads((two / "summary.json").read_text())
    assert len(summary["devices"]) == 2 and summary["best"]["step"] == 30
    assert {path.name for path in (two / "checkpoints").iterdir()} == {"28", "30"}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [("fsdp", "1"), ("tensor", "2"), ("fsdp_tensor", "2")])
@pytest.mark.parametrize(("count", "devices"), [(2, 2), (4, 1)])
def test_parameters_that_no_process_has_whole(two, tmp_path, strategy, count, devices):
    """Split over the processes, each of which evaluates on the part that it has; resumed by one, which has all."""
    process = train(tmp_path, count, devices, strategy)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert f"{strategy[0]} over {4 // int(strategy[1])} data x {strategy[1]} model devices" in output
    for row, expected in zip(rows(tmp_path), rows(two), strict=True):
        for name in row.keys() & {"loss", "error"}:
            np.testing.assert_allclose(row[name], expected[name], rtol=1e-5)
    (tmp_path / "summary.json").unlink()
    again = toy.run(tmp_path, mesh=sharding.make_mesh(devices=jax.devices()[:1]), rules=toy.RULES)
    assert again.summary["best"]["step"] == 30


@pytest.mark.slow
def test_one_that_is_killed_ends_all_and_the_run_resumes(two, tmp_path):
    """Whichever it is; the message comes within a minute, and in the end each number is the same to the bit."""
    process = train(tmp_path, 2)
    while not any(row["step"] >= 12 for row in rows(tmp_path)):
        assert process.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    killed_at = time.monotonic()
    output, _ = process.communicate(timeout=120)
    assert time.monotonic() - killed_at < 60 and process.returncode != 0
    assert "process 1 of 2 was killed by SIGKILL: the others are ended; the same command resumes" in output
    again = train(tmp_path, 2)
    output, _ = again.communicate(timeout=600)
    assert again.returncode == 0 and "resuming from step" in output
    assert rows(tmp_path) == rows(two)
    jax.tree.map(
        np.testing.assert_array_equal,
        read_params(tmp_path / "params.safetensors"),
        read_params(two / "params.safetensors"),
    )


@pytest.mark.slow
def test_begun_by_two_processes_and_ended_by_one_with_eight_devices(two, tmp_path):
    process = train(tmp_path, 2)
    while not any(row["step"] >= 12 for row in rows(tmp_path)):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command resumes from there" in output
    result = toy.run(tmp_path, mesh=sharding.make_mesh())
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), result.params, read_params(two / "params.safetensors")
    )


def test_several_processes_need_every_device(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "are_several", lambda: True)
    config = dataclasses.replace(toy.CONFIG, batch_size=12)
    with pytest.raises(ValueError, match="batch_size = 12 .*several processes need all 8 devices: .* a multiple of 8"):
        toy.run(tmp_path, mesh=None, config=config, batches=toy.make_batches(12))
