"""The `ecr` command: parses, calls, prints; what it does is done elsewhere."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Union

import tyro
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.config import Config
from ecr_jax.data.schema import Split
from ecr_jax.pretrained.hub import HubError

Stage = Literal["emotion", "fusion", "conversation", "recommendation", "response"]
Baseline = Literal["autorec", "ease", "kbrd", "kgsf", "language_model", "sasrec", "text_encoder"]
Settings = Annotated[Config, tyro.conf.arg(name="")]
_KNOWN = f"{', '.join(configs.names())}; or the path of a .py file that defines `config`."
Named = Annotated[str, tyro.conf.arg(help=f"A name in configs/: {_KNOWN}")]


@dataclass(frozen=True)
class Prepare:
    """Read a corpus, link it to the knowledge graph and write `prepared/NAME`."""

    settings: Settings
    config: Named = "demo"
    force: bool = False
    """Prepare again even if it is complete."""
    skip_bad: bool = False
    """Leave malformed lines out where they would end the command; they are written to rejected.jsonl."""


@dataclass(frozen=True)
class Train:
    """Train one stage, or go on where it was stopped; writes `runs/NAME/STAGE`."""

    settings: Settings
    stage: tyro.conf.Positional[Stage]
    """Which; in this order: emotion, fusion, conversation, recommendation, response."""
    config: Named = "demo"
    force: bool = False
    """Remove what the stage wrote before and begin anew."""


@dataclass(frozen=True)
class Sweep:
    """Train a grid of losses, settings and seeds, and put them into one table; writes `runs/FOLDER/report.json`."""

    settings: Settings
    config: Named = "demo"
    losses: tuple[str, ...] = ()
    """Ranking losses as in --recommendation.loss, each in quotes if it has brackets or a sum."""
    grid: tuple[str, ...] = ()
    """Other settings, PATH=VALUE,VALUE each: all combinations are trained."""
    each: tuple[str, ...] = ()
    """Single changes, PATH=VALUE each: trained are the config as it is, and one change at a time."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of each combination; the table has their mean."""
    seed_from: Literal["emotion", "fusion", "recommendation"] = "recommendation"
    """The first stage that a seed reaches; those before it are trained once."""
    split: Literal["valid", "test"] = "valid"
    """What is measured; settle everything on `valid` before you look at `test`."""
    folder: str = "sweep"
    """Where the trainings and the table go, under `runs`."""


@dataclass(frozen=True)
class TrainBaseline:
    """Train a baseline on what the recommender is trained on; writes `runs/NAME/baselines/RIVAL`, which `evaluate` finds."""

    settings: Settings
    baseline: tyro.conf.Positional[Baseline]
    """Which. Its settings are `--baselines.RIVAL.…`."""
    config: Named = "demo"
    force: bool = False
    """Remove what it wrote before and begin anew."""


@dataclass(frozen=True)
class Evaluate:
    """Measure a run beside the baselines and its baselines, once; writes report.json and .html to `runs/NAME/SPLIT`."""

    settings: Settings
    config: Named = "demo"
    split: Literal["valid", "test"] = "test"
    """What is measured; settle everything on `valid` before you look at `test`."""
    protocol: Literal["default", "published"] = "default"
    """How: one target an item and turn, or as the released code does (one a mention, ...), to lay beside papers."""
    force: bool = False
    """Measure again even if it is complete for the same parameters and settings; `reads.jsonl` counts."""


@dataclass(frozen=True)
class Compare:
    """Compare evaluated runs on the same targets: the first with each other, with intervals and tests."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Each [LABEL=]RUN[:MODEL][,RUN[:MODEL]...]: a run's folder or a predictions.jsonl, a model in it (the run's own by
    default); with commas, the seeds of one model. For example runs/ecr-s0,runs/ecr-s1 runs/redial:co-occurrence"""
    split: Literal["valid", "test"] = "test"
    """Whose predictions in the runs' folders."""
    every_pair: bool = False
    """Compare every two, not only the first with the others."""
    metrics: tuple[str, ...] = ()
    """What is tested, for example recall@10 auc_pooled; by default what the tables show. p is adjusted for all."""
    strata: tuple[str, ...] = ()
    """Where it is tested, for example all new."""
    resamples: int = 10_000
    """Bootstrap resamples, and permutations of each test."""
    into: Path = Path("runs/comparison")
    """Folder for report.json and report.html."""


@dataclass(frozen=True)
class Chat:
    """Talk with a trained run in the terminal."""

    run: tyro.conf.Positional[Path]
    """The run's folder, for example runs/demo."""
    explain: bool = False
    """Show emotions, linked entities, knowledge and scores with each reply."""
    items: int = 0
    """Least films a reply recommends; with 0 it recommends when its own words do."""


@dataclass(frozen=True)
class Demo:
    """Prepare the built-in corpus, train all five stages, report, and show three replies."""

    short: bool = False
    """A few steps of each stage: does it work?"""


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    console = Console()
    try:
        _run(_parse(sys.argv[1:] if arguments is None else arguments), console)
    except KeyboardInterrupt:
        console.print("\nstopped; what was finished is kept, and the same command goes on from there")
        return 130
    except (ValueError, OSError, FloatingPointError, HubError) as error:
        Console(stderr=True).print(f"error: {error}", style="bold red", highlight=False, markup=False)
        return 1
    return 0


def _parse(arguments: list[str]) -> Prepare | Train | TrainBaseline | Sweep | Evaluate | Compare | Chat | Demo:
    # The named config is the default that the other flags change, so it is looked up first.
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--config", default="demo")
    name = first.parse_known_args(arguments)[0].config
    settings = configs.load(name)
    made = {
        "prepare": Prepare(settings, name),
        "train": Train(settings, tyro.MISSING, name),
        "baseline": TrainBaseline(settings, tyro.MISSING, name),
        "sweep": Sweep(settings, name),
        "evaluate": Evaluate(settings, name),
        "compare": Compare(tyro.MISSING),
        "chat": Chat(tyro.MISSING),
        "demo": Demo(),
    }
    kinds = tuple(
        Annotated[type(default), tyro.conf.subcommand(command, default=default)] for command, default in made.items()
    )
    commands = Union[kinds]  # noqa: UP007 - made at run time
    return tyro.cli(commands, args=arguments, prog="ecr", description=__doc__)


def _run(command: Prepare | Train | TrainBaseline | Sweep | Evaluate | Compare | Chat | Demo, console: Console) -> None:
    # Imported here, so that --help and a mistyped flag answer at once.
    from ecr_jax.data.prepare import prepare
    from ecr_jax.evaluation import compare
    from ecr_jax.evaluation import run as evaluation
    from ecr_jax.inference import chat
    from ecr_jax.runs import demo, sweep
    from ecr_jax.runs.machine import keep_freed_memory
    from ecr_jax.stages import train

    keep_freed_memory()
    match command:
        case Prepare(settings, force=force, skip_bad=skip_bad):
            corpus = dataclasses.replace(settings.corpus, skip_bad=skip_bad or settings.corpus.skip_bad)
            settings = dataclasses.replace(settings, corpus=corpus)
            prepare(settings, force=force, console=console)
        case Train(settings, stage, force=force):
            train(settings, stage, force=force)
        case TrainBaseline(settings, baseline, force=force):
            train(settings, f"baselines/{baseline}", force=force)
        case Evaluate(settings, split=split, protocol=protocol, force=force):
            evaluation.evaluate(settings, split=Split(split), protocol=protocol, force=force, console=console)
        case Compare(runs, split, every_pair, metrics, strata, resamples, into):
            chosen = {"strata": strata, "metrics": metrics, "every_pair": every_pair, "resamples": resamples}
            compare.compare(runs, split=Split(split), into=into, console=console, **chosen)
        case Sweep(settings, losses=losses, grid=grid, each=each, seeds=seeds, seed_from=seed_from, split=split):
            cells = {"losses": losses, "grid": grid, "each": each, "seeds": seeds, "seed_from": seed_from}
            sweep.run(settings, **cells, split=Split(split), folder=command.folder, console=console)
        case Chat(run, explain, items):
            chat.talk(run, explain=explain, items=items, console=console)
        case Demo(short):
            demo.run(short=short, console=console)
