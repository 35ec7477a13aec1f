"""Where arrays live: a mesh with the axes `data` and `model`, rules that name the axes of every array, and strategies
that say which of them are split over which axis of the mesh."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ecr_jax.training.options import Strategy

Tree = Any

Axis = str | tuple[str, int] | None
"""A logical axis; or (axis, units): one that is split between whole units only, such as 576 features in 9 heads."""

Axes = Sequence[Axis]
Rules = Sequence[tuple[str, Axes]]
"""(regular expression of parameter paths, logical axes of the arrays there) pairs; the first match counts."""

REPLICATED: Rules = ((".*", ()),)

WHOLE = ("layers", "vocab", "positions", "rank")
"""Logical axes that no strategy splits: layers are scanned over one by one, vocabularies grow by added tokens."""

SPLIT: Mapping[str, Mapping[Strategy, tuple[str, ...]]] = {
    "width": {"fsdp": ("data",), "fsdp_tensor": ("data",)},
    "heads": {"tensor": ("model",), "fsdp_tensor": ("model",)},
    "kv_heads": {"tensor": ("model",), "fsdp_tensor": ("model",)},
    "hidden": {"tensor": ("model",), "fsdp_tensor": ("model",)},
    # `model` before `data`: the other way round XLA gathers all rows to get from these columns to a device's rows.
    "features": {"fsdp": ("data",), "tensor": ("model",), "fsdp_tensor": ("model", "data")},
}
"""Logical axis -> strategy -> axes of the mesh; what is not named stays whole.

`width` is the side of a kernel that meets the residual stream; `heads`, `kv_heads` and `hidden` are the other sides of
attention and of the feed-forward part; `features` are the columns of an embedding. So `tensor` is column-parallel, then
row-parallel, with one all-reduce after attention and one after the feed-forward part, forwards and backwards; `fsdp`
gathers a layer's kernels where the layer is computed and keeps them no longer. Norms and output biases are whole.
"""


def make_mesh(model: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh named ("data", "model") over the devices.

    Args:
        model: devices that share one copy of the parameters; the rest of the devices split the batch.
        devices: all of the process's by default.
    """
    devices = list(jax.devices() if devices is None else devices)
    if model < 1 or len(devices) % model:
        raise ValueError(f"model={model} does not divide the {len(devices)} devices; choose a divisor of them")
    # Auto axes: under Explicit ones (the default) embedding gathers and segment sums raise.
    return jax.make_mesh((len(devices) // model, model), ("data", "model"), (AxisType.Auto,) * 2, devices=devices)


def names(tree: Tree) -> Tree:
    """The same tree with each leaf's path, such as "layers/attention/kernel", in its place."""
    return jax.tree.map_with_path(lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), tree)


def match(tree: Tree, rules: Sequence[tuple[str, Any]], what: str) -> Tree:
    """For each leaf the value of the first rule whose regex is found in its path.

    Raises:
        ValueError: a path no rule covers, naming all of them; `what` says which table that is.
    """
    uncovered = [n for n in jax.tree.leaves(names(tree)) if not any(re.search(pattern, n) for pattern, _ in rules)]
    if uncovered:
        raise ValueError(f"{what}: no rule covers {', '.join(uncovered)}; add a pattern for them, or ('.*', ...) last")
    return jax.tree.map(lambda n: next(value for pattern, value in rules if re.search(pattern, n)), names(tree))


def shardings(tree: Tree, rules: Rules, mesh: Mesh, strategy: Strategy = "data") -> Tree:
    """A NamedSharding for every leaf, by the first rule whose regex is found in its path.

    An axis that does not divide into its mesh axes (three heads of keys over eight devices, an odd width) stays whole,
    and so does what the rules leave unnamed.

    Args:
        tree: arrays or ShapeDtypeStructs.
        rules: (regex, logical axes) pairs that together cover every leaf; fewer axes than the array has leave the last
            ones whole.
        mesh: names the axes.
        strategy: a column of `SPLIT`.

    Raises:
        ValueError: a leaf no rule covers; an axis that is not in `SPLIT` or `WHOLE`, more axes than the array has, two
            that collide on one axis of the mesh, or a mesh without an axis that the strategy needs.
    """
    axes = match(tree, rules, "sharding rules")
    return jax.tree.map(
        lambda name, leaf, found: _sharding(name, np.shape(leaf), found, mesh, strategy), names(tree), tree, axes
    )


def bytes_on_a_device(tree: Tree, placement: Tree) -> int:
    """Bytes that one device holds of a tree placed so."""
    sizes = jax.tree.map(
        lambda leaf, place: np.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize, tree, placement
    )
    return int(sum(jax.tree.leaves(sizes)))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
    """A batch: its first axis over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def shard_tree(tree: Tree, placement: Tree) -> Tree:
    """Puts the arrays where `placement` says, always as cooccurring_items: a donated result leaves the caller's arrays alone."""
    return jax.device_put(tree, placement, may_alias=False)


def _sharding(name: str, shape: tuple[int, ...], axes: Axes, mesh: Mesh, strategy: Strategy) -> NamedSharding:
    here = f"sharding of {name} {shape} as {tuple(axes)}"
    if len(axes) > len(shape):
        raise ValueError(f"{here}: {len(axes)} names for {len(shape)} axes; make its pattern narrower")
    parts: list[tuple[str, ...]] = []
    for axis, size in zip(axes, shape, strict=False):
        axis, units = axis if isinstance(axis, tuple) else (axis, size)
        if axis is not None and axis not in (*SPLIT, *WHOLE):
            raise ValueError(f"{here}: {axis!r} is none of {', '.join((*SPLIT, *WHOLE))}")
        over: tuple[str, ...] = ()
        for ways in SPLIT.get(axis, {}).get(strategy, ()):
            if ways not in mesh.axis_names:
                raise ValueError(f"{here}: {strategy!r} needs the mesh axis {ways!r}, but it has {mesh.axis_names}")
            count = int(np.prod([mesh.shape[a] for a in (*over, ways)]))
            if size % count == 0 and units % count == 0:
                over = (*over, ways)
        parts.append(over)
    used = [axis for part in parts for axis in part]
    if len(set(used)) < len(used):
        raise ValueError(f"{here}: collides, {strategy!r} splits two of its axes over one axis of the mesh")
    return NamedSharding(mesh, PartitionSpec(*(part[0] if len(part) == 1 else part or None for part in parts)))
