"""`ecr sweep`: a grid of losses, settings and seeds; trains what differs, measures it, and makes one table of it.

A cell is a run of its own, `runs/FOLDER/CELL/NAME`, named by what it is and by a digest of all it rests on; the stages
that it shares with the named run or with other cells are links. So a cell is trained once, whatever grid it is in.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from ecr_jax import files
from ecr_jax.config import Config
from ecr_jax.data.schema import Split
from ecr_jax.evaluation import predictions, ranking, report
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.predictions import Prediction
from ecr_jax.evaluation.report import Report
from ecr_jax.evaluation.run import provenance, ranked
from ecr_jax.features.examples import recommendation_rows
from ecr_jax.inference.agent import Agent
from ecr_jax.losses.expression import Objective
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import complete, dependencies, train

CHAIN = ("emotion", "fusion", "recommendation")
"""The stages that a ranking rests on, in their order."""

VARIED = (*CHAIN, "recommender", "encoder")
"""Sections of the config that reach the ranking and not the prepared corpus."""


@dataclass(frozen=True)
class Cell:
    """One training of the grid.

    Attributes:
      label: what the table calls it; its seeds share it.
      seed: of the stages that are seeded.
      config: its settings, in the folder of the run that they change.
    """

    label: str
    seed: int
    config: Config


Setting = tuple[str, str]
"""A field's path and its value, as on the command line."""

Done = tuple[Cell, Config, list[Prediction]]
"""A cell that is trained: its settings in its own folder, and its prediction rows."""


def cells(
    config: Config,
    losses: Sequence[str],
    grid: Sequence[str],
    seeds: Sequence[int],
    seed_from: str = CHAIN[-1],
    each: Sequence[str] = (),
) -> list[Cell]:
    """All combinations, seeds innermost.

    Args:
      config: what they change.
      losses: values of `recommendation.loss`; where there are none, the config's own.
      grid: "PATH=VALUE,VALUE" each, values as on the command line.
      seeds: values of `train.seed` of the stages from `seed_from` on.
      seed_from: the first stage that a seed reaches; those before it are shared by all seeds.
      each: "PATH=VALUE" each: none of them, then one at a time.

    Raises:
      ValueError: a loss or a setting that cannot be.
    """
    factors: list[list[tuple[Setting, ...]]] = []
    if losses:
        factors.append([(("recommendation.loss", loss),) for loss in dict.fromkeys(losses)])
    for factor in grid:
        path, values = _setting("--grid", factor, "VALUE,VALUE")
        factors.append([((path, value),) for value in dict.fromkeys(values.split(","))])
    if each:
        factors.append([(), *((_setting("--each", change, "VALUE"),) for change in dict.fromkeys(each))])
    made = []
    for combination in itertools.product(*factors):
        changed, settings = config, list(itertools.chain(*combination))
        for path, value in settings:
            changed = override(changed, path, value)
        Objective(changed.recommendation.loss)  # what cannot be imported is better known now than after hours
        named = [value if path == "recommendation.loss" else f"{path}={value}" for path, value in settings]
        label = ", ".join(named) or config.recommendation.loss
        made += [Cell(label, seed, _seeded(changed, seed, seed_from)) for seed in dict.fromkeys(seeds)]
    return made


def _setting(flag: str, text: str, form: str) -> Setting:
    """The path and the value, or values, of a flag's argument."""
    path, _, value = text.partition("=")
    if not value or path.split(".")[0] not in VARIED or path.endswith(".seed"):
        raise ValueError(
            f"{flag} {text!r} cannot be: write PATH={form} with a setting of {', '.join(VARIED)}, for "
            "example recommendation.weights.like=1; seeds are given by --seeds"
        )
    return path, value


def override(config: Config, path: str, value: str) -> Config:
    """The config with one field as the command line would set it, e.g. "recommender.layers" to "1".

    A path or value that cannot be ends the program with a message, as on the command line.
    """
    if path == "recommendation.loss":  # an expression, not words
        return dataclasses.replace(config, recommendation=dataclasses.replace(config.recommendation, loss=value))
    flags = [f"--{path.replace('_', '-')}", *value.split()]
    return tyro.cli(tyro.conf.FlagConversionOff[Config], args=flags, default=config, prog="ecr sweep --grid")


def _seeded(config: Config, seed: int, first: str) -> Config:
    changed = {}
    for stage in CHAIN[CHAIN.index(first) :]:
        settings = getattr(config, stage)
        changed[stage] = dataclasses.replace(settings, train=dataclasses.replace(settings.train, seed=seed))
    return dataclasses.replace(config, **changed)


class Trainer:
    """Trains cells, each stage in the one folder where all that it rests on is the same."""

    def __init__(self, config: Config, root: Path):
        """`config`: the run that cells change; `root`: the folder of what only cells have."""
        self.base, self.root, self.experiment = config, root, ExperimentContext(config)

    def digest(self, config: Config, stage: str) -> str:
        """Of all that a stage rests on: settings, corpus, stages before it."""
        manifest = self.experiment.prepared.manifest
        kept = [config.recorded(name) for name in (*dependencies(config, stage), stage)]
        kept.append({name: manifest[name] for name in ("corpus", "inputs")})
        kept = json.loads(json.dumps(kept), parse_float=_number)
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]

    def train(self, config: Config, stage: str, name: str) -> ExperimentContext:
        """Trains a stage and what it rests on, unless it is done, and returns the experiment with it.

        Args:
          config: settings; `runs` is left out of account.
          stage: one of `CHAIN` or what they rest on.
          name: begins the name of its folder.
        """
        digest = self.digest(config, stage)
        shared = stage != CHAIN[-1] and digest == self.digest(self.base, stage)
        placed = dataclasses.replace(config, runs=self.base.runs if shared else self.root / f"{name}-{digest}")
        for needed in dependencies(config, stage):
            before = self.train(config, needed, needed).config
            files.link(before.stage_folder(needed), placed.stage_folder(needed))
        if self.digest(self.experiment.config, CHAIN[0]) != self.digest(placed, CHAIN[0]):
            self.experiment = ExperimentContext(placed)
        self.experiment.config = placed
        if not complete(self.experiment, stage):
            train(placed, stage, experiment=self.experiment)
        return self.experiment


def _number(text: str) -> float:
    """A number as it is, whether a config says 5 or the command line 5.0."""
    value = float(text)
    return int(value) if value.is_integer() else value


def predicted(experiment: ExperimentContext, split: Split) -> list[Prediction]:
    """The prediction rows of a trained cell, made unless they are newer than what it learned."""
    path = experiment.config.stage_folder(split.value) / "predictions.jsonl"
    learned = experiment.config.stage_folder(CHAIN[-1]) / "summary.json"
    if not path.is_file() or path.stat().st_mtime < learned.stat().st_mtime:
        predictions.write(path, ranked(Agent(experiment), split))
    (rows,) = predictions.read(path).values()
    return rows


def run(
    config: Config,
    *,
    losses: Sequence[str] = (),
    grid: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    seed_from: str = CHAIN[-1],
    each: Sequence[str] = (),
    split: Split = Split.VALID,
    folder: str = "sweep",
    console: Console,
) -> Report:
    """Trains and measures the cells that are not done; writes `runs/FOLDER/report.json` and .html, prints the table.

    Args:
      config: the run whose stages are shared; those that are missing are trained in its own folder.
      losses, grid, seeds, seed_from, each: see `cells`.
      split: what is measured; nothing was selected on `test`.
      folder: of the cells and the table, under `config.runs`.
      console: where it is told.

    Raises:
      ValueError: a setting that cannot be.
      FloatingPointError: a cell's training was not finite; raised when the others are in the table.
    """
    planned = cells(config, losses, grid, seeds, seed_from, each)
    trainer = Trainer(config, config.runs / folder)
    done: list[Done] = []
    failed: list[str] = []
    for number, cell in enumerate(planned, start=1):
        title = f"{cell.label}, seed {cell.seed}"
        console.rule(f"{number} of {len(planned)}: {title}")
        try:
            experiment = trainer.train(cell.config, CHAIN[-1], f"{_slug(cell.label)}-seed{cell.seed}")
        except FloatingPointError as error:
            console.print(f"{title}: {error}", style="red", highlight=False, markup=False)
            failed.append(title)
        else:
            done.append((cell, experiment.config, predicted(experiment, split)))
    failure = FloatingPointError(f"{len(failed)} of {len(planned)} cells are not in the table: {'; '.join(failed)}")
    if not done:
        raise failure
    made = _report(done, trainer.experiment, split, failed)
    report.write(made, trainer.root)
    report.print_tables(made, console)
    console.print(f"written: {trainer.root / 'report.json'}, {trainer.root / 'report.html'}")
    if failed:
        raise failure
    return made


def _slug(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.=]+", "-", label).strip("-")


def _report(done: Sequence[Done], experiment: ExperimentContext, split: Split, failed: list[str]) -> Report:
    """The table of the cells that are done, each label's difference to the first, and what each cell came to alone."""
    settings, corpus = experiment.config.evaluation, experiment.config.corpus.name
    runs: dict[str, list[list[Prediction]]] = {}
    for cell, _, rows in done:
        runs.setdefault(cell.label, []).append(rows)
    first, *others = runs
    training = experiment.dialogues(Split.TRAIN)
    recommended = [item for row in recommendation_rows(training) for item, _, _ in row.targets]
    rows = ranking.table(
        runs,
        corpus,
        split.value,
        pairs=[(other, first) for other in others],
        catalogue=Catalogue.of(corpus, split.value, "default", experiment.prepared.graph.items, recommended),
        resamples=settings.resamples,
        seed=experiment.config.seed,
        auc_batch=settings.auc_batch,
    )
    told = []
    for cell, config, _ in done:
        summary = json.loads((config.stage_folder(CHAIN[-1]) / "summary.json").read_text(encoding="utf-8"))
        told.append({
            "model": cell.label,
            "seed": cell.seed,
            "folder": str(config.runs / config.name),
            "train_seconds": summary["train_seconds"],
            "best_step": summary["best"]["step"],
        })  # fmt: skip
    return Report(tuple(rows), provenance(done[0][1], experiment.prepared) | {"cells": told, "failed": failed})
