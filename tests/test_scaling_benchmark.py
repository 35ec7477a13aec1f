"""The benchmark of collectives: bytes and numbers by hand, of a text and of a compiled program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.scaling import Assumptions, Collective, arithmetic_share, collectives
from ecr_jax.training import sharding

PROGRAM = """\
HloModule step

%body (state: (s32[], f32[4])) -> (s32[], f32[4]) {
  %gathered = bf16[8,4]{1,0} all-gather(%part), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
}

%condition (state: (s32[], f32[4])) -> pred[] {
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %loop = (s32[], f32[4]) while(%start), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %sums = (f32[10]{0}, /*index=1*/f32[6]{0}) all-reduce(%a, %b), channel_id=2, replica_groups={{0,1},{2,3},{4,5},{6,7}}
  ROOT %rows = f32[2]{0} reduce-scatter(%c), channel_id=3, dimensions={0}
}
"""


def test_collectives_of_a_text():
    gather, reduced, scattered = collectives(PROGRAM, devices=8)
    assert gather == Collective("all-gather", 64, 4, 3) and gather.sent == 3 * 64 * 3 / 4
    assert reduced == Collective("all-reduce", 64, 2, 1) and reduced.sent == 64
    assert scattered == Collective("reduce-scatter", 64, 8, 1) and scattered.sent == 64 * 7 / 8


def test_collectives_of_a_compiled_sum():
    mesh = sharding.make_mesh()
    rows, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    total = jax.jit(lambda x: jnp.sum(x, axis=0), in_shardings=rows, out_shardings=whole)
    text = total.lower(jax.ShapeDtypeStruct((16, 32), jnp.float32)).compile().as_text()
    assert collectives(text) == [Collective("all-reduce", 32 * 4, 8, 1)]


def test_more_devices_spend_a_larger_share_on_collectives():
    assumed = Assumptions(flops=1e9, bandwidth=1e6, latency=0.5)
    found = [Collective("all-reduce", 1_000_000, 8, 1)]
    seconds = 2 * 7 / 8 + 0.5 * 3
    assert arithmetic_share(found, 1e9, 8, assumed) == pytest.approx(1 / (1 + seconds))
    seconds = 2 * 63 / 64 + 0.5 * 6
    assert arithmetic_share(found, 1e9, 64, assumed) == pytest.approx(1 / (1 + seconds))
