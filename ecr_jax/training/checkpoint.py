"""Checkpoints of a training run: state and data position (Orbax), and parameters alone (safetensors).

This is the only module that imports Orbax.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import jax
import numpy as np
import safetensors
import safetensors.numpy
from orbax.checkpoint import v1 as ocp

from ecr_jax import files
from ecr_jax.training import sharding
from ecr_jax.training.sharding import Tree


class Checkpoints:
    """The checkpoints of one run. Only complete ones count: partly written ones are ignored and removed."""

    def __init__(self, directory: Path, keep: int = 2):
        """Opens a folder of checkpoints.

        Args:
          directory: the folder, with one subfolder for each checkpointed step.
          keep: how many of the latest checkpoints stay.
        """
        self._checkpointer = ocp.training.Checkpointer(
            str(Path(directory).resolve()),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),  # pyright: ignore[reportArgumentType]
            cleanup_tmp_directories=True,
        )

    @property
    def latest(self) -> int | None:
        """The step of the latest complete checkpoint, or None."""
        checkpoint = self._checkpointer.latest
        return None if checkpoint is None else checkpoint.step

    def save(self, step: int, state: Tree, iterator: Any, extra: dict[str, Any]) -> None:
        """Saves a state, a data iterator's position and a JSON value; does nothing if the step is already saved."""
        if self.latest != step:
            self._checkpointer.save_checkpointables(
                step, {"state": state, "data": iterator}, custom_metadata=extra, force=True
            )

    def restore(self, state: Tree, placement: Tree, iterator: Any) -> tuple[Tree, dict[str, Any]]:
        """Restores the latest checkpoint, on however many devices there are now.

        Args:
          state: a tree of arrays or ShapeDtypeStructs: the structure, shapes and dtypes expected.
          placement: shardings of the same structure.
          iterator: a fresh iterator over the same data; it is moved to the saved position.

        Returns:
          The state, placed on the devices, and the JSON value saved with it.

        Raises:
          ValueError: the saved parameters have other names, shapes or dtypes than expected.
        """
        metadata = self._checkpointer.metadata(self.latest)
        saved, expected = _shapes(metadata.metadata["params"]), _shapes(state["params"])
        if saved != expected:
            differences = [
                f"{name}: saved {saved.get(name, 'not at all')}, expected {expected.get(name, 'not at all')}"
                for name in sorted(saved.keys() | expected.keys())
                if saved.get(name) != expected.get(name)
            ]
            raise ValueError(
                f"{metadata.path} holds another model ({'; '.join(differences)}): train in another directory, or "
                f"remove the run to start again"
            )
        abstract = jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state, placement
        )
        restored = self._checkpointer.load_checkpointables(self.latest, {"state": abstract, "data": iterator})
        return restored["state"], cast(dict[str, Any], metadata.custom_metadata)

    def close(self) -> None:
        """Waits for the last save and releases the folder."""
        self._checkpointer.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _shapes(params: Tree) -> dict[str, str]:
    """{path: "float32 (3, 4)"}."""
    shapes = jax.tree.map(lambda leaf: f"{np.dtype(leaf.dtype)} {tuple(leaf.shape)}", params)
    return dict(zip(jax.tree.leaves(sharding.leaf_paths(params)), jax.tree.leaves(shapes), strict=True))


def write_params(path: Path, params: Tree, about: dict[str, Any] | None = None) -> None:
    """Writes nested dicts of arrays as one safetensors file, atomically.

    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name) / "params.safetensors"
    >>> write_params(path, {"dense": {"bias": np.zeros(2, np.float32)}}, {"step": 3})
    >>> read_params(path)["dense"]["bias"].shape, read_about(path)
    ((2,), {'step': 3})
    >>> folder.cleanup()

    Args:
      path: of the file.
      params: dicts of dicts of arrays; a tensor's name in the file is its path, joined by "/".
      about: a JSON value for the file's header; `read_about` returns it.

    Raises:
      ValueError: a tree that is not nested dicts, or a key that contains "/": it could not be read back.
    """
    tensors: dict[str, np.ndarray] = {}

    def collect(tree: Tree, path: tuple[str, ...]) -> None:
        if not isinstance(tree, dict):
            if not hasattr(tree, "dtype"):
                raise ValueError(f"{'/'.join(path)} is a {type(tree).__name__}: only nested dicts of arrays are saved")
            tensors["/".join(path)] = np.ascontiguousarray(jax.device_get(tree)).reshape(tree.shape)
            return
        for key, value in tree.items():
            if not isinstance(key, str) or not key or "/" in key:
                raise ValueError(f"key {key!r} at {'/'.join(path) or 'the top'}: must be a name without '/'")
            collect(value, (*path, key))

    collect(params, ())
    with files.replacing(path) as temporary:
        safetensors.numpy.save_file(tensors, temporary, metadata={"about": json.dumps(about or {}, sort_keys=True)})


def read_params(path: Path) -> dict[str, Any]:
    """Reads a file of `write_params`: nested dicts of numpy arrays."""
    tree: dict[str, Any] = {}
    for name, array in safetensors.numpy.load_file(path).items():
        *parents, last = name.split("/")
        subtree = tree
        for parent in parents:
            subtree = subtree.setdefault(parent, {})
        subtree[last] = array
    return tree


def read_about(path: Path) -> dict[str, Any]:
    """The JSON value that `write_params` put into the file's header."""
    with safetensors.safe_open(path, framework="numpy") as file:
        return json.loads((file.metadata() or {}).get("about", "{}"))
