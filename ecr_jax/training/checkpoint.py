"""Checkpoints of a training run: state and data position (Orbax), and parameters alone (safetensors).

This is the only module that imports Orbax.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import jax
import numpy as np
import safetensors
import safetensors.numpy
from orbax.checkpoint import v1 as ocp

from ecr_jax import files
from ecr_jax.training import processes, sharding
from ecr_jax.training.sharding import Tree

_PARTIAL = ".partial"
_CHECKSUMS = "checksums.json"


class Checkpoints:
    """The checkpoints of one run: folders that are named by their step and hold the checksum of each of their files.

    A checkpoint is written while the training goes on, under a temporary name; when its checksums are in it, one rename
    makes it count. So what a kill or a full disk leaves never counts, and what is damaged later is found.

    Attributes:
      latest: the step of the latest checkpoint, or None.
      damaged: a sentence about each checkpoint that was not whole when the folder was opened, newest first.
    """

    def __init__(self, directory: Path, keep: int = 2):
        """Opens a folder of checkpoints; removes what a kill left, and each that is newer than the latest whole one.

        Args:
          directory: the folder.
          keep: how many of the latest checkpoints stay.

        Raises:
          ValueError: there are checkpoints, and none of them is whole.
        """
        self._directory, self._keep = Path(directory).resolve(), keep
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._pending: Future[None] | None = None
        self._directory.mkdir(parents=True, exist_ok=True)
        self.damaged: list[str] = []
        if processes.is_first():
            self._remove_what_is_not_whole()
        processes.wait_for_all("checkpoints are checked")
        steps = self._steps()
        self.latest = steps[-1] if steps else None

    def _remove_what_is_not_whole(self) -> None:
        for leftover in self._directory.glob(f"*{_PARTIAL}*"):
            shutil.rmtree(leftover)
        steps = self._steps()
        while steps and (fault := _fault(self._path(steps[-1]))) is not None:
            self.damaged.append(f"the checkpoint {self._path(steps.pop())} is damaged and passed over: {fault}")
        if self.damaged and not steps:
            raise ValueError(
                f"no checkpoint is whole: {'; '.join(self.damaged)}. Copy a whole one back, or start again (--force)"
            )
        for step in self._steps()[len(steps) :]:
            shutil.rmtree(self._path(step))

    def _path(self, step: int) -> Path:
        return self._directory / str(step)

    def _steps(self) -> list[int]:
        return sorted(int(path.name) for path in self._directory.iterdir() if path.name.isdecimal())

    def save(self, step: int, state: Tree, iterator: Any, extra: dict[str, Any]) -> None:
        """Saves a state, a data iterator's position and a JSON value; does nothing if the step is already saved.

        Returns when all values are copied, and writes them in the background; the state may be donated then.

        Raises:
          OSError: the checkpoint before this one could not be written.
        """
        if self.latest == step:
            return
        self.wait()
        temporary = self._directory / f"{step}{_PARTIAL}"
        saved = {"data": iterator.get_state(), "extra": extra}
        written = ocp.save_checkpointables_async(
            str(temporary), {"state": state}, custom_metadata=saved, overwrite=True
        )
        self._pending = self._writer.submit(self._finish, written, temporary, step)
        self.latest = step

    def _finish(self, written: ocp.AsyncResponse[None], temporary: Path, step: int) -> None:
        written.result()
        if not processes.is_first():
            return
        files.write_json(temporary / _CHECKSUMS, _checksums(temporary))
        temporary.rename(self._path(step))
        for old in self._steps()[: -self._keep]:
            shutil.rmtree(self._path(old))

    def wait(self) -> None:
        """Waits until the last checkpoint is written.

        Raises:
          OSError: it could not be written; the one before it stays.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except Exception as error:  # a full disk comes as one of many kinds
            raise OSError(
                f"cannot write the checkpoint {self._path(self.latest or 0)}: {error}. The run resumes from the one "
                f"before it"
            ) from error

    def restore(self, state: Tree, placement: Tree, iterator: Any) -> tuple[Tree, dict[str, Any]]:
        """Restores the latest checkpoint, on however many devices there are now.

        Args:
          state: a tree of arrays or ShapeDtypeStructs: the structure, shapes and dtypes expected.
          placement: shardings of the same structure.
          iterator: a fresh iterator over the same data; it is moved to the saved position.

        Returns:
          The state, placed on the devices, and the JSON value saved with it.

        Raises:
          ValueError: there is no checkpoint; the saved parameters have other names, shapes or dtypes than expected.
        """
        self.wait()
        if self.latest is None:
            raise ValueError(f"{self._directory} holds no checkpoint")
        path = self._path(self.latest)
        metadata = ocp.metadata(str(path), "state")
        saved, expected = _shapes(metadata.metadata["params"]), _shapes(state["params"])  # pyright: ignore[reportIndexIssue]
        if saved != expected:
            differences = [
                f"{name}: saved {saved.get(name, 'not at all')}, expected {expected.get(name, 'not at all')}"
                for name in sorted(saved.keys() | expected.keys())
                if saved.get(name) != expected.get(name)
            ]
            raise ValueError(
                f"{path} holds another model ({'; '.join(differences)}): train in another directory, or remove the run "
                f"to start again"
            )
        abstract = jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state, placement
        )
        restored = ocp.load_checkpointables(str(path), {"state": abstract})
        kept = cast(dict[str, Any], metadata.custom_metadata)
        iterator.set_state(kept["data"])
        return restored["state"], kept["extra"]

    def close(self) -> None:
        """Waits for the last save."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _checksums(folder: Path) -> dict[str, str]:
    """{relative path: sha256} of all files of a folder but the checksums themselves."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _CHECKSUMS)
    with ThreadPoolExecutor() as threads:  # hashing leaves the interpreter free
        return dict(
            zip((str(path.relative_to(folder)) for path in paths), threads.map(files.sha256, paths), strict=True)
        )


def _fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint; None where it is as it was written."""
    try:
        written = json.loads((folder / _CHECKSUMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"it has no {_CHECKSUMS}"
    except ValueError:
        return f"{_CHECKSUMS} is not JSON"
    found = _checksums(folder)
    if differing := [name for name in written if written[name] != found.get(name)]:
        return f"{', '.join(differing)} {'is' if len(differing) == 1 else 'are'} not as written"
    return None


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


def write_tree(path: Path, tree: Tree) -> None:
    """Writes nested dicts of arrays as an Orbax checkpoint, for other programs; `path` must not exist."""
    ocp.save(str(Path(path).resolve()), jax.tree.map(np.asarray, tree))


def read_tree(path: Path) -> Tree:
    """Reads a checkpoint of `write_tree`: nested dicts of numpy arrays."""
    return jax.tree.map(np.asarray, ocp.load(str(Path(path).resolve())))
