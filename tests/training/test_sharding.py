"""Rule tables over a mesh of eight fake devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from ecr_jax.training import sharding
from ecr_jax.training.options import ShardingConfig

TREE = {"a": {"kernel": jnp.zeros((4, 8)), "bias": jnp.zeros(8)}}


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh(model=2)


def test_mesh_axes(mesh):
    assert dict(mesh.shape) == {"data": 4, "model": 2}
    with pytest.raises(ValueError, match="model=3 does not divide the 8 devices"):
        sharding.make_mesh(model=3)


def test_first_rule_counts_and_arrays_go_there(mesh):
    rules = (("kernel$", ("width", "hidden")), ("a/", ("rank",)))
    placement = sharding.shardings(TREE, rules, mesh, "tensor")
    assert placement["a"]["kernel"].spec == P(None, "model")
    placed = sharding.shard_tree(TREE, placement)
    assert placed["a"]["kernel"].addressable_shards[0].data.shape == (4, 4)
    assert placed["a"]["bias"].sharding.is_fully_replicated
    assert sharding.bytes_per_device(TREE, placement) == 4 * (4 * 4 + 8)


@pytest.mark.parametrize(
    ("strategy", "kernel", "embedding", "bias"),
    [
        ("data", (4, 16, 24), (5, 16), (24,)),
        ("fsdp", (4, 4, 24), (5, 4), (24,)),
        ("tensor", (4, 16, 12), (5, 8), (12,)),
        ("fsdp_tensor", (4, 4, 12), (5, 2), (12,)),
    ],
)
def test_what_each_strategy_leaves_on_a_device(mesh, strategy, kernel, embedding, bias):
    tree = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, shape in {"kernel": (4, 16, 24), "embedding": (5, 16), "bias": (24,), "norm": (16,)}.items()
    }
    rules = (
        ("kernel", ("layers", "width", "hidden")),
        ("embedding", ("vocab", "features")),
        ("bias", ("hidden",)),
        ("norm", (None,)),
    )
    placement = sharding.shardings(tree, rules, mesh, strategy)
    actual = {name: place.shard_shape(tree[name].shape) for name, place in placement.items()}
    assert actual == {"kernel": kernel, "embedding": embedding, "bias": bias, "norm": (16,)}


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((6, 16), ("width", "hidden"), P(None, "model")),  # 6 rows over 4 devices: whole
        ((8, 15), ("width", "hidden"), P("data", None)),
        ((7, 12), ("vocab", "features"), P(None, "model")),  # 12 columns over 2, but not over 2 x 4
        ((8, 192), ("width", ("kv_heads", 3)), P("data", None)),  # 96 features each, but 1.5 heads
        ((8, 256), ("width", ("kv_heads", 4)), P("data", "model")),
        ((8, 3), ("width", ("heads", 4)), P("data", None)),  # four heads in three blocks of a quantised kernel
    ],
)
def test_what_does_not_divide_stays_whole(mesh, shape, axes, expected):
    tree = {"x": jax.ShapeDtypeStruct(shape, jnp.float32)}
    assert sharding.shardings(tree, ((".*", axes),), mesh, "fsdp_tensor")["x"].spec == expected


def test_shard_tree_copies_so_that_donation_leaves_the_caller_alone():
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    mine = jax.device_put(TREE, sharding.replicated(mesh))
    placed = sharding.shard_tree(mine, sharding.shardings(mine, sharding.REPLICATED, mesh))
    jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)(placed)
    np.testing.assert_array_equal(mine["a"]["bias"], np.zeros(8))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("kernel", ()),), "sharding rules: no rule covers a/bias; add a pattern"),
        ((("kernel", ("hiden",)), (".*", ())), "'hiden' is none of width, heads"),
        ((("kernel", ("heads", "hidden")), (".*", ())), r"a/kernel \(4, 8\) as \('heads', 'hidden'\): collides"),
        (((".*", ("width", "hidden")),), "2 names for 1 axes"),
    ],
)
def test_bad_rules_say_what_is_wrong(mesh, rules, message):
    with pytest.raises(ValueError, match=message):
        sharding.shardings(TREE, rules, mesh, "tensor")


def test_a_mesh_without_the_axis_is_refused():
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    with pytest.raises(ValueError, match=r"'tensor' needs the mesh axis 'model', but the mesh has \('data',\)"):
        sharding.shardings(TREE, ((".*", ("hidden",)),), mesh, "tensor")


@pytest.mark.parametrize(
    ("strategy", "model", "message"),
    [
        ("zero", 1, "ShardingConfig.strategy = 'zero' is not allowed: choose one of data, fsdp, tensor, fsdp_tensor"),
        ("tensor", 1, "ShardingConfig.model = 1 is not allowed: 'tensor' needs 2 or more"),
        ("fsdp", 2, "ShardingConfig.model = 2 is not allowed: 'fsdp' splits nothing over `model`"),
    ],
)
def test_strategies_that_cannot_be_are_refused(strategy, model, message):
    with pytest.raises(ValueError, match=message):
        ShardingConfig(strategy, model)
