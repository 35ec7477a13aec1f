"""What a run leaves on disk to go on from: the state and the data iterator's place (Orbax), and parameters alone
(safetensors). The only file that knows Orbax."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from orbax.checkpoint import v1 as ocp

from ecr_jax import files
from ecr_jax.training import sharding

Tree = Any


class Checkpoints:
    """The checkpoints of one run. One is there when it is whole: half-written ones are ignored and swept away.

    Args:
        directory: of the checkpoints, one folder a step.
        keep: how many of the latest stay.
    """

    def __init__(self, directory: Path, keep: int = 2):
        self._checkpointer = ocp.training.Checkpointer(
            Path(directory).resolve(),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    @property
    def latest(self) -> int | None:
        """The step of the last whole checkpoint, or None."""
        found = self._checkpointer.latest
        return None if found is None else found.step

    def save(self, step: int, state: Tree, iterator: Any, extra: dict[str, Any]) -> None:
        """Saves a state, a data iterator's place and a JSON value under a step; does nothing where it is there."""
        if self.latest != step:
            self._checkpointer.save_checkpointables(
                step, {"state": state, "data": iterator}, custom_metadata=extra, force=True
            )

    def restore(self, state: Tree, placement: Tree, iterator: Any) -> tuple[Tree, dict[str, Any]]:
        """Restores the latest checkpoint, on however many devices there are now.

        Args:
            state: a tree of arrays or ShapeDtypeStructs: the structure, shapes and dtypes expected.
            placement: shardings of the same structure.
            iterator: a fresh iterator over the same data; it is moved to the place saved.

        Returns:
            The state, placed, and the JSON value saved with it.

        Raises:
            ValueError: the parameters saved have other names, shapes or dtypes than those expected.
        """
        about = self._checkpointer.metadata(self.latest)
        saved, expected = _described(about.metadata["params"]), _described(state["params"])
        if saved != expected:
            changed = [
                f"{name}: saved {saved.get(name, 'not at all')}, expected {expected.get(name, 'not at all')}"
                for name in sorted(saved.keys() | expected.keys())
                if saved.get(name) != expected.get(name)
            ]
            raise ValueError(
                f"{about.path} is of another model ({'; '.join(changed)}): train in another directory, or "
                f"remove the run to begin anew"
            )
        abstract = jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state, placement
        )
        found = self._checkpointer.load_checkpointables(self.latest, {"state": abstract, "data": iterator})
        return found["state"], dict(about.custom_metadata)

    def close(self) -> None:
        self._checkpointer.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _described(params: Tree) -> dict[str, str]:
    """{path: "float32 (3, 4)"}."""
    described = jax.tree.map(lambda leaf: f"{np.dtype(leaf.dtype)} {tuple(leaf.shape)}", params)
    return dict(zip(jax.tree.leaves(sharding.names(params)), jax.tree.leaves(described), strict=True))


def write_params(path: Path, params: Tree, about: dict[str, Any] | None = None) -> None:
    """Writes nested dicts of arrays as one safetensors file, atomically.

    Args:
        path: of the file.
        params: dicts of dicts of arrays; the names of the file are the paths, joined by "/".
        about: a JSON value kept in the file's header; `read_about` gives it back.

    Raises:
        ValueError: a tree that is not nested dicts, or a key with "/" in it: it could not be read back.
    """
    flat = {}

    def walk(tree: Tree, path: tuple[str, ...]) -> None:
        if not isinstance(tree, dict):
            if not hasattr(tree, "dtype"):
                raise ValueError(f"{'/'.join(path)} is a {type(tree).__name__}: only nested dicts of arrays are saved")
            flat["/".join(path)] = np.ascontiguousarray(jax.device_get(tree)).reshape(tree.shape)
            return
        for key, value in tree.items():
            if not isinstance(key, str) or not key or "/" in key:
                raise ValueError(f"key {key!r} at {'/'.join(path) or 'the top'}: must be a name without '/'")
            walk(value, (*path, key))

    walk(params, ())
    with files.replacing(path) as temporary:
        safetensors.numpy.save_file(flat, temporary, metadata={"about": json.dumps(about or {}, sort_keys=True)})


def read_params(path: Path) -> Tree:
    """Reads what `write_params` wrote: nested dicts of numpy arrays."""
    tree: dict[str, Any] = {}
    for name, array in safetensors.numpy.load_file(path).items():
        *parents, last = name.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = array
    return tree


def read_about(path: Path) -> dict[str, Any]:
    """The JSON value that `write_params` put in the file's header."""
    with safetensors.safe_open(path, framework="numpy") as file:
        return json.loads((file.metadata() or {}).get("about", "{}"))
