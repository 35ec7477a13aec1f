"""Several processes that train one stage together, each with devices of its own (`jax.distributed`).

All of them run the same program on one mesh of all their devices. Each reads only its rows of a batch; the first one
alone writes what is written once. The functions here do nothing where there is one process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

HEARTBEAT_SECONDS = 20
"""A process that is silent for so long is taken for dead, and the others end."""

AGREE_EVERY = 10
"""Steps between two times at which the processes agree whether to stop: asking at each would make the devices wait."""


def join() -> None:
    """Joins the other processes that the environment names; call it before anything else uses the devices.

    `ECR_PROCESSES` (how many), `ECR_PROCESS` (the number of this one, from 0) and `ECR_COORDINATOR` (host:port of the
    first); or `ECR_PROCESSES=auto` where jax finds out itself: SLURM, TPU slices, Kubernetes.

    Raises:
      ValueError: not all three are set, or a number is none.
    """
    count = os.environ.get("ECR_PROCESSES")
    if count is None:
        return
    arguments: dict[str, Any] = {}
    if count != "auto":
        try:
            arguments = {
                "num_processes": int(count),
                "process_id": int(os.environ["ECR_PROCESS"]),
                "coordinator_address": os.environ["ECR_COORDINATOR"],
            }
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"ECR_PROCESSES={count!r}: set it, ECR_PROCESS and ECR_COORDINATOR as `launch/local.py` does ({error})"
            ) from error
    jax.distributed.initialize(**arguments, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)


def are_several() -> bool:
    """Whether there is more than one process."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def wait_for_all(where: str) -> None:
    """Returns when all processes are here; `where` names the place in errors."""
    if are_several():
        multihost_utils.sync_global_devices(where)


def agree(step: int, stop: bool, due: bool) -> tuple[bool, bool]:
    """Whether any process wants to stop, and whether the first one's clock says that a checkpoint is due.

    Where there are several, they ask each other at every `AGREE_EVERY`th step alone; at the others nothing is due.
    """
    if not are_several():
        return stop, due
    if step % AGREE_EVERY:
        return False, False
    flags = np.asarray(multihost_utils.process_allgather(np.array([stop, due])))  # [P, 2]
    return bool(flags[:, 0].any()), bool(flags[0, 1])


def rows(placement: NamedSharding, batch_size: int) -> slice:
    """The rows of a batch that the devices of this process hold.

    Args:
      placement: of a batch, whose first axis it splits.
      batch_size: rows over all processes.

    Raises:
      ValueError: this process has no device in the mesh, or its rows do not follow each other.
    """
    indices = placement.addressable_devices_indices_map((batch_size,)).values()
    held = {index[0].indices(batch_size)[:2] for index in indices if index is not None}
    if not held or max(held)[1] - min(held)[0] != sum(stop - start for start, stop in held):
        raise ValueError(
            f"process {jax.process_index()} holds the rows {sorted(held)} of {batch_size}: all processes need devices "
            f"in the mesh, next to each other on `data`"
        )
    return slice(min(held)[0], max(held)[1])


def to_devices(batch: Mapping[str, np.ndarray], placement: NamedSharding, batch_size: int) -> dict[str, jax.Array]:
    """The whole batch, [batch_size, ...] an array, of which each process gives its own rows."""
    return {
        name: jax.make_array_from_process_local_data(placement, array, (batch_size, *array.shape[1:]))
        for name, array in batch.items()
    }


def put_whole(tree: Any) -> Any:
    """Arrays that every process has, whole on each device of the mesh that is set, or on the default device."""
    mesh = jax.sharding.get_mesh()
    if not mesh.axis_names:
        return jax.device_put(tree)
    whole = NamedSharding(mesh, PartitionSpec())

    def put(array: Any) -> jax.Array:
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, whole, lambda index: host[index])

    return jax.tree.map(put, tree)


def fetch(tree: Any) -> Any:
    """The arrays of all devices as numpy, on every process."""
    return multihost_utils.process_allgather(tree, tiled=True) if are_several() else jax.device_get(tree)
