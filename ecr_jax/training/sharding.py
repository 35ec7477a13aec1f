"""Where arrays live: a mesh with the axes `data` and `model`, and rule tables that give every parameter its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

Tree = Any
Rules = Sequence[tuple[str, PartitionSpec]]

REPLICATED: Rules = ((".*", PartitionSpec()),)


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


def shardings(tree: Tree, rules: Rules, mesh: Mesh) -> Tree:
    """A NamedSharding for every leaf, by the first rule whose regex is found in its path.

    Args:
        tree: arrays or ShapeDtypeStructs.
        rules: (regex, PartitionSpec) pairs that together cover every leaf.
        mesh: names the axes.

    Raises:
        ValueError: a leaf no rule covers; a spec with an unknown axis, an axis used twice, more entries than the
            array has axes, or one that does not divide the array's axis.
    """
    specs = match(tree, rules, "sharding rules")
    return jax.tree.map(lambda name, leaf, spec: _sharding(name, np.shape(leaf), spec, mesh), names(tree), tree, specs)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
    """A batch: its first axis over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def shard_tree(tree: Tree, placement: Tree) -> Tree:
    """Puts the arrays where `placement` says, always as copies: a donated result leaves the caller's arrays alone."""
    return jax.device_put(tree, placement, may_alias=False)


def _sharding(name: str, shape: tuple[int, ...], spec: PartitionSpec, mesh: Mesh) -> NamedSharding:
    parts = [() if part is None else (part,) if isinstance(part, str) else tuple(part) for part in spec]
    used = [axis for part in parts for axis in part]
    here = f"sharding of {name} {shape} as {spec}"
    if unknown := set(used) - set(mesh.axis_names):
        raise ValueError(f"{here}: the mesh has no axis {sorted(unknown)}, only {mesh.axis_names}")
    if len(set(used)) < len(used):
        raise ValueError(f"{here}: a mesh axis may be used once in a spec")
    if len(parts) > len(shape):
        raise ValueError(f"{here}: the spec has {len(parts)} entries for {len(shape)} axes; make its pattern narrower")
    for axis, (size, part) in enumerate(zip(shape, parts, strict=False)):
        ways = int(np.prod([mesh.shape[a] for a in part]))
        if size % ways:
            raise ValueError(f"{here}: axis {axis} of {size} does not divide into {ways}; pad it, choose another axis, "
                             f"or give {name} a rule of its own with PartitionSpec()")
    return NamedSharding(mesh, spec)
