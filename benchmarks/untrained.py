"""The baselines on a prepared corpus, without the recommender and without emotions, which no baseline reads.

    python -m benchmarks.untrained [--config redial] [--prepared prepared] [--runs runs] [--split valid]
        [--train NAME ...] [--compared NAME] [--into FOLDER]

By default the untrained baselines on the validation split: for choosing the settings of `nearest contexts` and
`hybrid`, and to see in a minute what a recommender must beat. `--train` trains baselines as well (`ecr train` lists
them), into `runs/NAME`. Reports of `ecr evaluate` have the same rows. `--into` writes a report.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax import stages
from ecr_jax.config import Config, registry
from ecr_jax.data.schema import Split
from ecr_jax.evaluation import rankings, report, terminal
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.protocol import PROTOCOLS
from ecr_jax.evaluation.provenance import environment
from ecr_jax.evaluation.report import Report
from ecr_jax.runs.context import InMemoryEmotionLabels, open_experiment
from ecr_jax.stages import baselines


def measure(config: Config, split: Split = Split.VALID, train: Sequence[str] = (), compared: str = "hybrid") -> Report:
    """Ranks a split with the untrained baselines, and with some that are trained before.

    Args:
      config: whose corpus is prepared.
      split: which.
      train: names of baselines; one that is trained already is not trained again.
      compared: the model whose paired differences from all others are reported.
    """
    experiment = dataclasses.replace(open_experiment(config), emotions=InMemoryEmotionLabels({}))
    protocol = PROTOCOLS["default"]
    started = time.monotonic()
    models = rankings.rank_untrained(experiment, rankings.RankedTargets.of(experiment, split, protocol))
    for spec in map(registry.find, train):
        if not stages.is_complete(experiment, spec):
            baselines.train(experiment, spec)
        models[spec.name] = rankings.rank_stage(experiment, spec, split, protocol)
    seconds = time.monotonic() - started
    label, items = config.corpus.label, experiment.corpus.graph.items
    return report.build(
        models,
        label,
        split.value,
        main=compared,
        catalogue=Catalogue.of(label, split.value, protocol.name, items, experiment.recommended),
        resamples=config.evaluation.resamples,
        seed=config.seed,
        auc_batch=config.evaluation.auc_batch,
        provenance=environment()
        | {
            "command": " ".join(["python -m benchmarks.untrained", *sys.argv[1:]]),
            "seconds": round(seconds, 1),
            "settings": dataclasses.asdict(config.evaluation),
        },
    )


def main(
    config: str = "redial",
    prepared: Path = Path("prepared"),
    runs: Path = Path("runs"),
    split: Literal["valid", "test"] = "valid",
    train: tuple[str, ...] = (),
    compared: str = "hybrid",
    into: Path | None = None,
) -> None:
    """Measures baselines on a split of a corpus.

    Args:
      config: name of the config whose corpus `ecr prepare` prepared, such as redial:all_data.
      prepared: the folder of prepared corpora.
      runs: the folder of runs, for the baselines that are trained.
      split: what is ranked; choose settings on `valid` alone.
      train: baselines to train and rank beside the untrained ones.
      compared: the model whose paired differences from all others are reported.
      into: folder to write report.json and report.html to.
    """
    result = measure(
        dataclasses.replace(configs.load(config), prepared=prepared, runs=runs), Split(split), train, compared
    )
    console = Console()
    terminal.print_tables(result, console)
    console.print(f"ranked in {result.provenance['seconds']} s")
    if into is not None:
        report.write(result, into)


if __name__ == "__main__":
    tyro.cli(main)
