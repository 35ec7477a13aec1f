"""Rule tables over a mesh of eight fake devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from ecr_jax.training import sharding

TREE = {"a": {"kernel": jnp.zeros((4, 8)), "bias": jnp.zeros(8)}}


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh(model=2)


def test_mesh_axes(mesh):
    assert dict(mesh.shape) == {"data": 4, "model": 2}
    with pytest.raises(ValueError, match="model=3 does not divide the 8 devices"):
        sharding.make_mesh(model=3)


def test_first_rule_counts_and_arrays_go_there(mesh):
    rules = (("kernel$", P(None, "model")), ("a/", P()))
    placement = sharding.shardings(TREE, rules, mesh)
    assert placement["a"]["kernel"].spec == P(None, "model")
    placed = sharding.shard_tree(TREE, placement)
    assert placed["a"]["kernel"].addressable_shards[0].data.shape == (4, 4)
    assert placed["a"]["bias"].sharding.is_fully_replicated


def test_shard_tree_copies_so_that_donation_leaves_the_caller_alone():
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    mine = jax.device_put(TREE, sharding.replicated(mesh))
    placed = sharding.shard_tree(mine, sharding.shardings(mine, sharding.REPLICATED, mesh))
    jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)(placed)
    np.testing.assert_array_equal(mine["a"]["bias"], np.zeros(8))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("kernel", P()),), "sharding rules: no rule covers a/bias; add a pattern"),
        ((("kernel", P("modle")), (".*", P())), "mesh has no axis \\['modle'\\]"),
        ((("kernel", P("model", "model")), (".*", P())), "may be used once"),
        (((".*", P(None, "model")),), "2 entries for 1 axes"),
        ((("kernel", P(("data", "model"))), (".*", P())), "axis 0 of 4 does not divide into 8"),
    ],
)
def test_bad_rules_say_what_is_wrong(mesh, rules, message):
    with pytest.raises(ValueError, match=message):
        sharding.shardings(TREE, rules, mesh)
