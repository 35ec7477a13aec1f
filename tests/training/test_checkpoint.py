"""Checkpoints: complete or ignored, on any number of devices; parameters as safetensors."""

from __future__ import annotations

import shutil

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
    # What a kill leaves: a folder under Orbax's temporary name.
    shutil.copytree(tmp_path / "3", tmp_path / "4.orbax-checkpoint-tmp")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 3
        assert checkpoints.restore(state, placement, data())[1] == {"at": 3}


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
