"""Checkpoints: complete or ignored, on any number of devices; parameters as safetensors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from ecr_jax.features.batch_spec import BatchSpec, Field
from ecr_jax.features.batches import Batches, InMemoryExamples
from ecr_jax.training import sharding
from ecr_jax.training.checkpoint import Checkpoints, read_about, read_params, write_params
from ecr_jax.training.optim import make_optimizer
from ecr_jax.training.options import OptimConfig
from ecr_jax.training.step import init_state, state_shardings

PARAMS = {"a": {"kernel": jnp.arange(32.0).reshape(4, 8), "bias": jnp.ones(8, jnp.bfloat16)}}
OPTIMIZER = make_optimizer(OptimConfig(), 10, PARAMS)


def data():
    spec = BatchSpec("numbers", (Field("x", np.int32),))
    return iter(Batches(InMemoryExamples(spec, [{"x": np.int32(i)} for i in range(10)]), [{}], 2))


RULES = (("kernel", ("width", "hidden")), (".*", ()))


def placed(mesh, strategy="data"):
    placement = state_shardings(PARAMS, OPTIMIZER, RULES, mesh, strategy)
    return jax.device_put(init_state(PARAMS, OPTIMIZER), placement), placement


def test_restored_on_other_devices_by_another_strategy_with_the_iterator(tmp_path):
    state, _ = placed(sharding.make_mesh(model=4), "fsdp_tensor")
    iterator = data()
    for _ in range(7):
        next(iterator)
    extra = {"best": {"step": 3, "value": 0.1}, "none": None}
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest is None
        checkpoints.save(3, state, iterator, extra)
        checkpoints.save(3, state, iterator, extra)
    expected = next(iterator)
    assert state["params"]["a"]["kernel"].sharding.spec == P("data", "model")
    for count, model, strategy in ((1, 1, "data"), (2, 1, "fsdp"), (8, 8, "tensor")):
        blank, placement = placed(sharding.make_mesh(model, jax.devices()[:count]), strategy)
        other = data()
        with Checkpoints(tmp_path) as checkpoints:
            restored, note = checkpoints.restore(jax.eval_shape(lambda s: s, blank), placement, other)
        assert note == extra
        assert jax.tree.structure(restored) == jax.tree.structure(state)
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), jax.device_get(state))
        assert restored["params"]["a"]["kernel"].sharding == placement["params"]["a"]["kernel"]
        np.testing.assert_array_equal(next(other)["x"], expected["x"])


def test_latest_are_kept_and_partly_written_ones_ignored(tmp_path):
    state, placement = placed(sharding.make_mesh())
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state, data(), {"at": step})
    assert {p.name for p in tmp_path.iterdir()} == {"2", "3"}
    # What a kill leaves: a folder under Orbax's temporary name, or a complete one that does not count yet.
    shutil.copytree(tmp_path / "3", tmp_path / "4.partial.orbax-checkpoint-tmp")
    shutil.copytree(tmp_path / "3", tmp_path / "5.partial")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 3 and not checkpoints.damaged
        assert checkpoints.restore(state, placement, data())[1] == {"at": 3}
    assert {p.name for p in tmp_path.iterdir()} == {"2", "3"}


def test_the_state_may_be_donated_while_it_is_written(tmp_path):
    """A save returns before the files are there, and keeps the values and the position of its moment."""
    state, placement = placed(sharding.make_mesh())
    expected = jax.device_get(state)
    iterator = data()
    advance = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, iterator, {})
        for _ in range(5):
            state = advance(state)
            next(iterator)
    other = data()
    with Checkpoints(tmp_path) as checkpoints:
        restored, _ = checkpoints.restore(state, placement, other)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), expected)
    np.testing.assert_array_equal(next(other)["x"], next(data())["x"])


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A folder with the checkpoints 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("three")
    state, _ = placed(sharding.make_mesh())
    with Checkpoints(folder, keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state, data(), {"at": step})
    return folder


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def files_of(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.stat().st_size)


@pytest.mark.parametrize("damage", [flip, truncate, empty, lambda path: path.unlink()])
def test_any_damage_to_any_file_is_named_and_passed_over(three, tmp_path, damage):
    names = files_of(three / "3")
    assert {"checksums.json", "state/_METADATA"} < set(names) and len(names) > 6
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        shutil.copytree(three, folder)
        damage(folder / "3" / name)
        with Checkpoints(folder) as checkpoints:
            assert checkpoints.latest == 2
            (sentence,) = checkpoints.damaged
        assert f"the checkpoint {folder / '3'} is damaged and passed over: " in sentence
        assert name in sentence or name == "checksums.json"
        assert {path.name for path in folder.iterdir()} == {"1", "2"}


def test_what_is_saved_after_a_damaged_checkpoint_takes_its_place(three, tmp_path):
    shutil.copytree(three, tmp_path, dirs_exist_ok=True)
    flip(tmp_path / "3" / "state/_METADATA")
    flip(tmp_path / "2" / "state/_METADATA")
    state, placement = placed(sharding.make_mesh())
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 1 and len(checkpoints.damaged) == 2
        assert checkpoints.restore(state, placement, data())[1] == {"at": 1}
        checkpoints.save(3, state, data(), {"at": "again"})
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 3 and checkpoints.restore(state, placement, data())[1] == {"at": "again"}


def test_damaged_checkpoints_alone_are_not_taken_for_a_new_run(three, tmp_path):
    shutil.copytree(three, tmp_path, dirs_exist_ok=True)
    for step in ("1", "2", "3"):
        flip(tmp_path / step / "checksums.json")
    with pytest.raises(ValueError, match=r"no checkpoint is whole: .*/3 is damaged.*/1 is damaged.*\(--force\)"):
        Checkpoints(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2", "3"}  # nothing is lost


FULL_DISK = """
import pathlib, resource, sys
from tests.training.test_checkpoint import Checkpoints, data, placed, sharding

state, _ = placed(sharding.make_mesh())
checkpoints = Checkpoints(pathlib.Path(sys.argv[1]))
# The kernel refuses to write beyond this size, as it does on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
checkpoints.save(4, state, data(), {})
try:
    checkpoints.close()
except OSError as error:
    sys.exit(f"stopped: {error}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("most_bytes", [0, 300])
def test_a_full_disk_ends_in_one_error_and_keeps_the_last_checkpoint(three, tmp_path, most_bytes):
    shutil.copytree(three, tmp_path, dirs_exist_ok=True)
    process = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(most_bytes)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    last = [line for line in process.stderr.splitlines() if line.startswith("stopped: ")]
    assert process.returncode == 1 and len(last) == 1
    assert re.search(r"cannot write the checkpoint .*/4: .*\. The run resumes from the one before it", last[0])
    state, placement = placed(sharding.make_mesh())
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 3 and not checkpoints.damaged
        assert checkpoints.restore(state, placement, data())[1] == {"at": 3}
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2", "3"}


def test_a_checkpoint_of_another_model_is_refused_by_name(tmp_path):
    state, _ = placed(sharding.make_mesh())
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, data(), {})
        other = init_state({"a": {"kernel": jnp.zeros((4, 9)), "bias": jnp.ones(8, jnp.bfloat16)}}, OPTIMIZER)
        message = r"another model \(a/kernel: saved float32 \(4, 8\), expected float32 \(4, 9\)\)"
        with pytest.raises(ValueError, match=message):
            checkpoints.restore(other, None, data())


def test_params_there_and_back(tmp_path):
    path = tmp_path / "deep" / "params.safetensors"
    write_params(path, PARAMS | {"n": np.int32(3)}, {"step": 4})
    restored = read_params(path)
    assert restored["a"]["bias"].dtype == ml_dtypes.bfloat16 and restored["n"].shape == ()
    jax.tree.map(np.testing.assert_array_equal, restored, jax.device_get(PARAMS | {"n": np.int32(3)}))
    assert read_about(path) == {"step": 4}
    turned = {"a": np.arange(6.0).reshape(2, 3).T}
    write_params(path, turned)
    np.testing.assert_array_equal(read_params(path)["a"], turned["a"])
    assert read_about(path) == {}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": [jnp.ones(1)]}, "a is a list"),
        ({"a/b": jnp.ones(1)}, "key 'a/b' at the top"),
        ({"a": {1: 2}}, "key 1 at a"),
    ],
)
def test_params_that_could_not_be_read_back_are_refused(tmp_path, tree, message):
    with pytest.raises(ValueError, match=message):
        write_params(tmp_path / "p", tree)
    assert not list(tmp_path.iterdir())
