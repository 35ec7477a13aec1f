"""What a device holds of a training step, from shapes alone: placement and bytes of every array."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, PartitionSpec

from ecr_jax.training import optim, sharding
from ecr_jax.training.options import ShardingConfig, TrainConfig
from ecr_jax.training.step import Loss, Tree, init_state, state_shardings


@dataclass(frozen=True)
class Placed:
    """An array of a stage and what one device holds of it.

    Attributes:
      path: of the array.
      trained: whether it is trained.
      shape, dtype: of the whole array.
      spec: the mesh axes that split it.
      bytes: that a device holds.
    """

    path: str
    trained: bool
    shape: tuple[int, ...]
    dtype: np.dtype
    spec: PartitionSpec
    bytes: int


@dataclass(frozen=True)
class StepMemory:
    """Bytes on one device.

    Attributes:
      arrays: all parameters, trained and frozen.
      parameters, frozen: of these.
      gradients: of the trained parameters; twice where micro-batches are summed up.
      optimizer: moments.
      activations: estimate of what the forward pass keeps for the backward pass: the residuals of `jax.vjp` of the
        loss that are no parameters, with their rows split over `data`. What lives for one operation only is not in it.
      gathered: of `fsdp`, the kernels of one layer while it is computed.
      batch: a micro-batch.
    """

    arrays: tuple[Placed, ...]
    parameters: int
    frozen: int
    gradients: int
    optimizer: int
    activations: int
    gathered: int
    batch: int

    @property
    def total(self) -> int:
        """All of them."""
        parts = (self.parameters, self.frozen, self.gradients, self.optimizer)
        return sum(parts) + self.activations + self.gathered + self.batch


def abstract_mesh(devices: int, model: int) -> Mesh:
    """A mesh of devices that need not be there.

    Raises:
      ValueError: `model` does not divide the number of devices.
    """
    if devices < 1 or devices % model:
        raise ValueError(f"{devices} devices cannot be split over {model} on `model`: choose a divisor of them")
    mesh = AbstractMesh((devices // model, model), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    return mesh  # pyright: ignore[reportReturnType]  # shardings take both kinds


def step_memory(
    params: Tree,
    frozen: Tree,
    loss: Loss,
    batch: Mapping[str, jax.ShapeDtypeStruct],
    rules: sharding.Rules,
    train: TrainConfig,
    devices: int,
    layout: ShardingConfig,
) -> StepMemory:
    """What a device of a mesh holds in a training step.

    Args:
      params, frozen: shapes (`jax.ShapeDtypeStruct`).
      loss: as of `training.step`.
      batch: shapes of a micro-batch over all devices.
      rules: logical axes of all arrays.
      train: the optimiser, and how many micro-batches a batch has.
      devices: of the mesh.
      layout: how the arrays are split over them.
    """
    mesh, strategy = abstract_mesh(devices, layout.model), layout.strategy
    optimizer = optim.make_optimizer(train.optim, 1, params)
    placement = state_shardings(params, optimizer, rules, mesh, strategy)
    frozen_placement = sharding.shardings(frozen, rules, mesh, strategy)
    arrays = (*_placed(params, placement["params"], True), *_placed(frozen, frozen_placement, False))
    held = sum(array.bytes for array in arrays if array.trained)
    state = jax.eval_shape(lambda tree: init_state(tree, optimizer), params)
    ways = devices // layout.model
    rows = next(iter(batch.values())).shape[0]
    return StepMemory(
        arrays,
        parameters=held,
        frozen=sum(array.bytes for array in arrays if not array.trained),
        gradients=held * (2 if train.accumulation > 1 else 1),
        optimizer=sharding.bytes_per_device(state["opt_state"], placement["opt_state"]),
        activations=_residual_bytes(params, frozen, loss, batch) * math.ceil(rows / ways) // rows,
        gathered=_gathered_bytes((params, frozen), (placement["params"], frozen_placement)),
        batch=sum(_bytes(leaf) for leaf in batch.values()) * math.ceil(rows / ways) // rows,
    )


def _bytes(leaf: Any) -> int:
    return math.prod(leaf.shape) * (0 if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.dtype.itemsize)


def _placed(tree: Tree, placement: Tree, trained: bool) -> list[Placed]:
    leaves = zip(
        *(jax.tree.leaves(part) for part in (sharding.leaf_paths(tree), tree, placement)),
        strict=True,
    )
    return [
        Placed(
            path,
            trained,
            leaf.shape,
            leaf.dtype,
            place.spec,
            math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize,
        )
        for path, leaf, place in leaves
    ]


def _residual_bytes(params: Tree, frozen: Tree, loss: Loss, batch: Mapping[str, jax.ShapeDtypeStruct]) -> int:
    """What differentiating the loss keeps, less the arrays that it is given."""

    def residuals(params: Tree, frozen: Tree, batch: Any, key: jax.Array) -> Any:
        return jax.vjp(lambda trained: loss(trained, frozen, batch, key)[0], params)[1]

    key = jax.eval_shape(lambda: jax.random.key(0))
    kept = jax.tree.leaves(jax.eval_shape(residuals, params, frozen, dict(batch), key))
    given = collections.Counter(
        (leaf.shape, leaf.dtype) for tree in (params, frozen, dict(batch)) for leaf in jax.tree.leaves(tree)
    )
    total = 0
    for leaf in kept:
        if given[leaf.shape, leaf.dtype] > 0:
            given[leaf.shape, leaf.dtype] -= 1
        else:
            total += _bytes(leaf)
    return total


def _gathered_bytes(trees: Sequence[Tree], placements: Sequence[Tree]) -> int:
    """What one layer's kernels take that are split over `data` and gathered to be used."""
    total = 0
    for tree, placement in zip(trees, placements, strict=True):
        leaves = zip(*(jax.tree.leaves(part) for part in (sharding.leaf_paths(tree), tree, placement)), strict=True)
        for path, leaf, place in leaves:
            axes = [axis for part in place.spec if part for axis in ((part,) if isinstance(part, str) else part)]
            if "data" in axes and "layers/" in path:
                ways = place.mesh.shape["data"]
                total += math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize * ways // leaf.shape[0]
    return total
