"""ECR in JAX: an empathetic conversational recommender, from raw dialogues to a chat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecr_jax.inference.loaded_run import LoadedRun


def load(run: Path | str) -> LoadedRun:
    """A trained run that recommends films and replies, see `inference.loaded_run.LoadedRun`.

    Args:
      run: the run's folder, for example `runs/demo`.

    Raises:
      ValueError: it is not the folder of a run, or a stage is missing there.
    """
    from ecr_jax.inference.loaded_run import LoadedRun  # jax is imported here, and not with the package

    return LoadedRun.open(run)
