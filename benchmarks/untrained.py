"""The untrained baselines on a prepared corpus's validation split, with nothing trained.

    python -m benchmarks.untrained [--config redial] [--prepared prepared] [--into FOLDER]

For choosing the settings of `nearest contexts` and `hybrid`, and to see in a minute what a recommender must beat. Only
the validation split is ranked; reports of `ecr evaluate` have the same rows for each split. `--into` writes a report.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import tyro
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.config import Config
from ecr_jax.data.schema import Split
from ecr_jax.evaluation import rankings, report, terminal
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.protocol import PROTOCOLS
from ecr_jax.evaluation.provenance import environment
from ecr_jax.evaluation.report import Report
from ecr_jax.runs.context import InMemoryEmotionLabels, open_experiment


def measure(config: Config) -> Report:
    """Ranks the validation split with the untrained baselines; their counts need no emotions, so none are read."""
    experiment = dataclasses.replace(open_experiment(config), emotions=InMemoryEmotionLabels({}))
    protocol = PROTOCOLS["default"]
    started = time.monotonic()
    models = rankings.rank_untrained(experiment, rankings.RankedTargets.of(experiment, Split.VALID, protocol))
    seconds = time.monotonic() - started
    label, items = config.corpus.label, experiment.corpus.graph.items
    return report.build(
        models,
        label,
        Split.VALID.value,
        main="hybrid",
        catalogue=Catalogue.of(label, Split.VALID.value, protocol.name, items, experiment.recommended),
        resamples=config.evaluation.resamples,
        seed=config.seed,
        auc_batch=config.evaluation.auc_batch,
        provenance=environment() | {"seconds": round(seconds, 1), "settings": dataclasses.asdict(config.evaluation)},
    )


def main(config: str = "redial", prepared: Path = Path("prepared"), into: Path | None = None) -> None:
    """Measures the untrained baselines on a corpus's validation split.

    Args:
      config: name of the config whose corpus `ecr prepare` prepared, such as redial:all_data.
      prepared: the folder of prepared corpora.
      into: folder to write report.json and report.html to.
    """
    result = measure(dataclasses.replace(configs.load(config), prepared=prepared))
    console = Console()
    terminal.print_tables(result, console)
    console.print(f"ranked in {result.provenance['seconds']} s")
    if into is not None:
        report.write(result, into)


if __name__ == "__main__":
    tyro.cli(main)
