"""The power of the odds of being liked in the ranking, on the validation split of a trained run.

    python -m benchmarks.like_power [--config redial] [--prepared prepared] [--runs runs] [--powers 0 0.5 1 2]
        [--into FOLDER]

For choosing `recommender.heads.like_power`, which changes how items are ranked but not what is learned: one training
is ranked with each power. With 0 the odds of being liked do not enter. `--into` writes a report.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.config import Config, registry, replace
from ecr_jax.data.schema import Split
from ecr_jax.evaluation import rankings, report, terminal
from ecr_jax.evaluation.predictions import Prediction
from ecr_jax.evaluation.provenance import environment
from ecr_jax.evaluation.report import Report
from ecr_jax.runs.context import open_experiment


def measure(config: Config, powers: Sequence[float]) -> Report:
    """Ranks the validation split with each power; differences are to the first.

    Raises:
      ValueError: the run's stage `recommendation` is not trained.
    """
    experiment, stage = open_experiment(config), registry.find("recommendation")
    models: dict[str, list[Prediction]] = {}
    for power in powers:
        with_power = experiment.with_config(replace(config, "recommender.heads.like_power", power))
        models[_name(power)] = rankings.rank_stage(with_power, stage, Split.VALID)
    return report.build(
        models,
        config.corpus.label,
        Split.VALID.value,
        main=_name(powers[0]),
        resamples=config.evaluation.resamples,
        seed=config.seed,
        provenance=environment() | {"command": " ".join(["python -m benchmarks.like_power", *sys.argv[1:]])},
    )


def _name(power: float) -> str:
    return f"like_power {power:g}"


def main(
    config: str = "redial",
    prepared: Path = Path("prepared"),
    runs: Path = Path("runs"),
    powers: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0),
    into: Path | None = None,
) -> None:
    """Ranks the validation split of a run with several powers of the odds of being liked.

    Args:
      config: name of the config whose run is trained.
      prepared: the folder of prepared corpora.
      runs: the folder of runs.
      powers: which are compared; the first is what the others are compared with.
      into: folder to write report.json and report.html to.
    """
    result = measure(dataclasses.replace(configs.load(config), prepared=prepared, runs=runs), powers)
    terminal.print_tables(result, Console())
    if into is not None:
        report.write(result, into)


if __name__ == "__main__":
    tyro.cli(main)
