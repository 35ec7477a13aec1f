"""Which device holds which part of an array.

A mesh has the axes `data` and `model`; rules name the logical axes of every array; a strategy decides which logical
axes are split over which mesh axis. The rules of each family of models are in
`models.sharding_rules`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ecr_jax.training.options import Strategy

Tree = Any
Value = TypeVar("Value")

Axis = str | tuple[str, int] | None
"""A logical axis; or (axis, units): one that is split between whole units only, such as 576 features in 9 heads."""

Axes = Sequence[Axis]
Rules = Sequence[tuple[str, Axes]]
"""(regular expression of parameter paths, logical axes of the arrays there) pairs; the first match counts."""

REPLICATED: Rules = ((".*", ()),)
"""Every device holds every array whole."""

WHOLE = ("layers", "vocab", "positions", "rank", "folds", "entities", "relations", "edges")
"""Logical axes that no strategy splits: layers are scanned one by one, vocabularies grow by added tokens, and a graph
has any number of entities and edges."""

SPLIT: Mapping[str, Mapping[Strategy, tuple[str, ...]]] = {
    "width": {"fsdp": ("data",), "fsdp_tensor": ("data",)},
    "heads": {"tensor": ("model",), "fsdp_tensor": ("model",)},
    "kv_heads": {"tensor": ("model",), "fsdp_tensor": ("model",)},
    "hidden": {"tensor": ("model",), "fsdp_tensor": ("model",)},
    # `model` before `data`: the other way round XLA gathers all rows to get from these columns to a device's rows.
    "features": {"fsdp": ("data",), "tensor": ("model",), "fsdp_tensor": ("model", "data")},
}
"""Logical axis -> strategy -> mesh axes that split it; all else stays whole.

`width` is the side of a kernel that meets a whole state, such as the residual stream; `heads`, `kv_heads` and `hidden`
are the other sides of attention and of the feed-forward part; `features` are the columns of an embedding. So `tensor`
is column-parallel, then row-parallel, with one all-reduce after attention and one after the feed-forward part, forwards
and backwards; `fsdp` gathers a layer's kernels where the layer is computed and drops them afterwards. Norms and output
biases are whole.
"""


def make_mesh(model: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with the axes ("data", "model").

    Args:
      model: devices that share one copy of the parameters; the other devices split the batch.
      devices: all devices of the process by default.

    Raises:
      ValueError: `model` does not divide the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    if model < 1 or len(devices) % model:
        raise ValueError(f"model={model} does not divide the {len(devices)} devices; choose a divisor of them")
    # Auto axes: under Explicit ones (the default) embedding gathers and segment sums raise.
    return jax.make_mesh((len(devices) // model, model), ("data", "model"), (AxisType.Auto,) * 2, devices=devices)


def leaf_paths(tree: Tree) -> Tree:
    """The same tree with each leaf replaced by its path, such as "layers/attention/kernel"."""
    return jax.tree.map_with_path(lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), tree)


def match_rules(tree: Tree, rules: Sequence[tuple[str, Value]], what: str) -> Tree:
    """The same tree with each leaf replaced by the value of the first rule whose pattern is found in its path.

    Raises:
      ValueError: paths that no rule covers, all of them listed; `what` names the table of rules in the message.
    """

    def matching(path: str) -> list[Value]:
        return [value for pattern, value in rules if re.search(pattern, path)]

    paths = leaf_paths(tree)
    if uncovered := [path for path in jax.tree.leaves(paths) if not matching(path)]:
        raise ValueError(f"{what}: no rule covers {', '.join(uncovered)}; add a pattern for them, or ('.*', ...) last")
    return jax.tree.map(lambda path: matching(path)[0], paths)


def shardings(tree: Tree, rules: Rules, mesh: Mesh, strategy: Strategy = "data") -> Tree:
    """A NamedSharding for every leaf, by the first rule whose pattern is found in its path.

    An axis whose size the mesh axes do not divide (three heads of keys over eight devices, an odd width) stays whole,
    and so does an axis without a name.

    Args:
      tree: arrays or ShapeDtypeStructs.
      rules: they must cover every leaf; an array with more axes than its rule names has its last axes whole.
      mesh: has the mesh axes that the strategy splits over.
      strategy: a column of `SPLIT`.

    Raises:
      ValueError: a leaf that no rule covers; an axis that is in neither `SPLIT` nor `WHOLE`; more names than the array
        has axes; two axes split over the same mesh axis; or a mesh without an axis that the strategy needs.
    """
    axes = match_rules(tree, rules, "sharding rules")
    return jax.tree.map(
        lambda path, leaf, leaf_axes: _sharding(path, np.shape(leaf), leaf_axes, mesh, strategy),
        leaf_paths(tree),
        tree,
        axes,
    )


def bytes_per_device(tree: Tree, placement: Tree) -> int:
    """Bytes of a tree that one device holds under these shardings."""
    sizes = jax.tree.map(
        lambda leaf, place: np.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize, tree, placement
    )
    return int(sum(jax.tree.leaves(sizes)))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_rows(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its first axis over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def shard_tree(tree: Tree, placement: Tree, *, may_alias: bool = False) -> Tree:
    """Arrays where `placement` says. Each process gives its own devices their parts; all must have the same arrays.

    Args:
      tree: arrays of this process.
      placement: a sharding for each.
      may_alias: whether what is there already may stay; otherwise donating the result leaves the caller's arrays alone.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, placement, may_alias=may_alias)

    def put(array: Any, place: NamedSharding) -> jax.Array:
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, place, lambda index: np.array(host[index]))

    return jax.tree.map(put, tree, placement)


def _sharding(path: str, shape: tuple[int, ...], axes: Axes, mesh: Mesh, strategy: Strategy) -> NamedSharding:
    subject = f"sharding of {path} {shape} as {tuple(axes)}"
    if len(axes) > len(shape):
        raise ValueError(f"{subject}: {len(axes)} names for {len(shape)} axes; make its pattern narrower")
    parts: list[tuple[str, ...]] = []
    for named_axis, size in zip(axes, shape, strict=False):
        axis, units = named_axis if isinstance(named_axis, tuple) else (named_axis, size)
        if axis is not None and axis not in (*SPLIT, *WHOLE):
            raise ValueError(f"{subject}: {axis!r} is none of {', '.join((*SPLIT, *WHOLE))}")
        mesh_axes: tuple[str, ...] = ()
        for mesh_axis in SPLIT.get(axis or "", {}).get(strategy, ()):
            if mesh_axis not in mesh.axis_names:
                raise ValueError(
                    f"{subject}: {strategy!r} needs the mesh axis {mesh_axis!r}, but the mesh has {mesh.axis_names}"
                )
            ways = int(np.prod([mesh.shape[name] for name in (*mesh_axes, mesh_axis)]))
            if size % ways == 0 and units % ways == 0:
                mesh_axes = (*mesh_axes, mesh_axis)
        parts.append(mesh_axes)
    used = [mesh_axis for part in parts for mesh_axis in part]
    if len(set(used)) < len(used):
        raise ValueError(f"{subject}: collides, {strategy!r} splits two of its axes over one axis of the mesh")
    return NamedSharding(mesh, PartitionSpec(*(part[0] if len(part) == 1 else part or None for part in parts)))
