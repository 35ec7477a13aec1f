"""`ecr export`: writes a stage of a run for another program, which checks it; what fails is not kept."""

from __future__ import annotations

import importlib
from pathlib import Path

from rich.console import Console

from ecr_jax.config import read_run, registry
from ecr_jax.export import manifest, targets
from ecr_jax.export.source import Source
from ecr_jax.files import replacing
from ecr_jax.runs.context import open_experiment


def export(
    run: Path,
    to: str,
    *,
    console: Console,
    stage: str | None = None,
    into: Path | None = None,
    unverified: bool = False,
) -> Path:
    """Exports a stage of a run.

    It is written to a temporary folder, read there by its consumer, and renamed only if that computes what the run
    computes.

    Args:
      run: the run's folder.
      to: a name in `targets.TARGETS`.
      console: where the result is printed.
      stage: which stage; the target's default where None.
      into: the folder to write, which must not exist; `RUN/exports/TO-STAGE` where None.
      unverified: export even where the consumer is not installed: then our own reader checks it, and the manifest and
        the model card say so.

    Returns:
      The folder.

    Raises:
      ValueError: no such run or target, a stage that is not trained or that the target does not hold, a folder that is
        there already, a consumer that is not installed, or an export that its consumer computes something else from.
    """
    target, stage = targets.find(to, stage)
    if target.not_verified and not unverified:
        raise ValueError(f"{target.not_verified}; or pass --unverified to have the export without that check")
    folder = run / "exports" / f"{to}-{stage}" if into is None else into
    if folder.exists():
        raise ValueError(f"{folder} is there already; name a new folder (--into), or remove it")
    source = open_source(run, stage)
    module = importlib.import_module(f"ecr_jax.export.{target.module}")
    with replacing(folder) as temporary:
        temporary.mkdir()
        module.write(source, temporary)
        check = module.check(source, temporary)
        if not check.passed:
            raise ValueError(
                f"nothing is exported: {check.reader} computes other {check.compared} from it than the run: they "
                f"differ by {check.difference:.2g} of the largest value, {check.tolerance:.2g} are allowed"
            )
        manifest.write(source, target, check, temporary)
    console.print(
        f"{folder}: {target.summary}\n{check.compared} by {check.reader}: largest difference {check.difference:.2g} "
        f"of the largest value (tolerance {check.tolerance:.2g})",
        highlight=False,
        markup=False,
    )
    return folder


def open_source(run: Path, stage: str) -> Source:
    """A stage of a run, with the settings that it was trained with.

    Raises:
      ValueError: it is not the folder of a run, or the stage is not trained.
    """
    if not (run / "config.json").is_file():
        raise ValueError(f"{run} is not the folder of a run, such as runs/demo; `ecr train` makes one")
    spec = registry.find(stage)
    if not (run / spec.folder / "params.safetensors").is_file():
        raise ValueError(f"{run} has no trained stage {stage!r}; run `ecr train {stage}` with its config first")
    trained = [spec for spec in registry.stages() if (run / spec.folder / "params.safetensors").is_file()]
    return Source(open_experiment(read_run(run, trained)), stage)
