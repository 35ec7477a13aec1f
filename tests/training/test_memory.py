"""Bytes of a step from shapes alone, worked out by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ecr_jax.training.memory import abstract_mesh, step_memory
from ecr_jax.training.options import ShardingConfig, TrainConfig

RULES = (("layers", ("layers", "width", "hidden")), ("bias", (None,)))
PARAMS = {"layers": {"kernel": jax.ShapeDtypeStruct((2, 16, 16), jnp.float32)}}
FROZEN = {"bias": jax.ShapeDtypeStruct((16,), jnp.bfloat16)}
BATCH = {"x": jax.ShapeDtypeStruct((64, 16), jnp.float32)}


def loss(params, frozen, batch, key):
    def layer(x, kernel):
        return jnp.sin(x @ kernel), None

    x, _ = jax.lax.scan(layer, batch["x"] + frozen["bias"], params["layers"]["kernel"])
    return x.sum(), jnp.float32(1), {}


def needs(devices, layout, accumulation=1):
    train = TrainConfig(steps=1, batch_size=64 * accumulation, accumulation=accumulation)
    return step_memory(PARAMS, FROZEN, loss, BATCH, RULES, train, devices, layout)


@pytest.mark.parametrize(
    ("devices", "layout", "held", "gathered"),
    [
        (1, ShardingConfig(), 2048, 0),
        (8, ShardingConfig(), 2048, 0),
        (8, ShardingConfig("fsdp"), 256, 1024),
        (8, ShardingConfig("tensor", 4), 512, 0),
        (8, ShardingConfig("fsdp_tensor", 4), 256, 256),
        (4096, ShardingConfig("fsdp"), 2048, 0),  # 16 rows do not divide
    ],
)
def test_bytes_of_a_device(devices, layout, held, gathered):
    found = needs(devices, layout)
    (kernel, bias) = found.arrays
    assert (kernel.path, kernel.trained, kernel.bytes) == ("layers/kernel", True, held)
    assert (bias.path, bias.trained, bias.bytes) == ("bias", False, 32)
    assert (found.parameters, found.frozen, found.gradients, found.gathered) == (held, 32, held, gathered)
    assert found.optimizer == 2 * held + 8  # two moments, and the counts of Adam and of the schedule
    # A layer keeps its input and the cosine of its sum for 64 rows of 16 numbers; rows are split over `data`.
    ways = devices // layout.model
    rows = -(-64 // ways)
    assert found.batch == rows * 16 * 4
    assert found.activations == 2 * 2 * rows * 16 * 4
    assert found.total == 2 * held + found.optimizer + 32 + gathered + found.batch + found.activations


def test_micro_batches_hold_gradients_twice():
    assert needs(8, ShardingConfig("fsdp"), 4).gradients == 2 * needs(8, ShardingConfig("fsdp")).gradients


def test_devices_that_do_not_divide():
    with pytest.raises(ValueError, match="6 devices cannot be split over 4 on `model`"):
        abstract_mesh(6, 4)
