"""`ecr sweep`: trains and measures a grid of losses, settings and seeds, and compares the trials in one table.

A trial is a run of its own, `runs/FOLDER/TRIAL/NAME`, named by its settings and by a digest of all that its outcome
follows from. Stages that trials share with each other or with the named run are links, so a trial is trained once,
whatever grid it is part of.
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

from ecr_jax import config as configs
from ecr_jax import files
from ecr_jax.config import Config, records, registry
from ecr_jax.config.registry import StageSpec
from ecr_jax.data.schema import Split
from ecr_jax.evaluation import predictions, report, terminal
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.predictions import Prediction
from ecr_jax.evaluation.protocol import PROTOCOLS
from ecr_jax.evaluation.provenance import fingerprint, log_read, run_provenance
from ecr_jax.evaluation.rankings import rank_stage
from ecr_jax.evaluation.report import Report
from ecr_jax.evaluation.rows import measure_models
from ecr_jax.losses.objective import Objective
from ecr_jax.runs.context import ExperimentContext, open_experiment
from ecr_jax.stages import is_complete, train

LOSS = "recommendation.loss"

Setting = tuple[str, str]
"""A field's path and its value, as on the command line."""


@dataclass(frozen=True)
class Trial:
    """One training of the grid.

    Attributes:
      label: its name in the table; all seeds of a combination have the same.
      seed: of the stages that are seeded.
      config: its settings, still in the folder of the run that they change.
    """

    label: str
    seed: int
    config: Config


@dataclass(frozen=True)
class Outcome:
    """A trained trial: its settings in its own folder, and its prediction rows."""

    trial: Trial
    config: Config
    rows: list[Prediction]


def chain(stage: StageSpec, config: Config) -> tuple[StageSpec, ...]:
    """A stage and those before it, in the order they are trained."""
    return (*stage.dependencies(config), stage)


def trials(
    config: Config,
    stage: StageSpec,
    losses: Sequence[str],
    grid: Sequence[str],
    seeds: Sequence[int],
    seed_from: str | None = None,
    each: Sequence[str] = (),
) -> list[Trial]:
    """All combinations, seeds innermost.

    Args:
      config: the settings that they change.
      stage: what is trained and measured.
      losses: values of `recommendation.loss`; where there are none, the config's own.
      grid: "PATH=VALUE,VALUE" each, values as on the command line.
      seeds: values of `train.seed` of the stages from `seed_from` on.
      seed_from: the first stage that a seed changes, by default `stage`; those before it are shared by all seeds.
      each: "PATH=VALUE" each: the config as it is, then one change at a time.

    Raises:
      ValueError: an impossible loss, setting or first stage.
    """
    stages = chain(stage, config)
    names = [spec.name for spec in stages]
    if seed_from is not None and seed_from not in names:
        raise ValueError(
            f"--seed-from {seed_from!r} is not allowed: {stage.name!r} is trained after {', '.join(names)}"
        )
    if losses and stage.section != "recommendation":
        raise ValueError(f"--losses is not allowed: {stage.name!r} has a loss of its own")
    seeded = stages[names.index(seed_from or stage.name) :]
    factors: list[list[tuple[Setting, ...]]] = []
    if losses:
        factors.append([((LOSS, loss),) for loss in dict.fromkeys(losses)])
    for factor in grid:
        path, values = _setting("--grid", factor, "VALUE,VALUE", stages)
        factors.append([((path, value),) for value in dict.fromkeys(values.split(","))])
    if each:
        changes = [_setting("--each", change, "VALUE", stages) for change in dict.fromkeys(each)]
        factors.append([(), *((change,) for change in changes)])
    combinations = []
    for combination in itertools.product(*factors):
        changed, settings = config, list(itertools.chain(*combination))
        for path, value in settings:
            changed = override(changed, path, value)
        Objective(changed.recommendation.loss)  # raises now, not after hours of training
        named = [value if path == LOSS else f"{path}={value}" for path, value in settings]
        label = ", ".join(named) or (config.recommendation.loss if stage.section == "recommendation" else stage.name)
        combinations += [Trial(label, seed, _with_seed(changed, seed, seeded)) for seed in dict.fromkeys(seeds)]
    return combinations


def _setting(flag: str, text: str, form: str, stages: Sequence[StageSpec]) -> Setting:
    """The path and the value, or values, in a flag's argument."""
    path, _, value = text.partition("=")
    fields = {field for spec in stages for field in (spec.section, *spec.reads)} - {"corpus", "seed"}
    fields = {field for field in fields if not any(field.startswith(f"{other}.") for other in fields)}
    known = any(path == field or path.startswith(f"{field}.") for field in fields)
    if not value or not known or path.endswith(".seed"):
        raise ValueError(
            f"{flag} {text!r} is not allowed: write PATH={form} with a setting of {', '.join(sorted(fields))}; seeds "
            "are given by --seeds"
        )
    return path, value


def override(config: Config, path: str, value: str) -> Config:
    """The config with one field as the command line would set it, e.g. "recommender.layers" to "1".

    An impossible path or value ends the program with a message, as on the command line.
    """
    if path == LOSS:  # an expression, which is not split at its spaces
        return configs.replace(config, path, value)
    flags = [f"--{path.replace('_', '-')}", *value.split()]
    return tyro.cli(tyro.conf.FlagConversionOff[Config], args=flags, default=config, prog="ecr sweep")


def _with_seed(config: Config, seed: int, stages: Sequence[StageSpec]) -> Config:
    for spec in stages:
        if hasattr(config.stage_settings(spec), "train"):  # EASE has no seed
            config = configs.replace(config, f"{spec.section}.train.seed", seed)
    return config


class Trainer:
    """Trains trials, each stage in the one folder that belongs to all that its outcome follows from."""

    def __init__(self, config: Config, stage: StageSpec, root: Path):
        """Opens the experiment.

        Args:
          config: the run that the trials change.
          stage: what is trained and measured.
          root: folder of what only trials have.
        """
        self.base, self.stage, self.root = config, stage, root
        self.experiment = open_experiment(config)

    def digest(self, config: Config, stage: StageSpec) -> str:
        """Digest of all that a stage's outcome follows from: settings, corpus, and the stages before it."""
        manifest = self.experiment.corpus.manifest
        content = [records.record(config, spec) for spec in chain(stage, config)]
        content.append({name: manifest[name] for name in ("corpus", "inputs")})
        content = json.loads(json.dumps(content), parse_float=_number)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    def train(self, config: Config, stage: StageSpec, name: str) -> ExperimentContext:
        """Trains a stage and the stages before it, unless they are complete.

        Args:
          config: settings; its `runs` is ignored.
          stage: the trial's or one before it.
          name: begins the name of its folder.

        Returns:
          The context of the trial's run.
        """
        digest = self.digest(config, stage)
        shared = stage != self.stage and digest == self.digest(self.base, stage)
        placed = dataclasses.replace(config, runs=self.base.runs if shared else self.root / f"{name}-{digest}")
        for needed in stage.dependencies(config):
            source = self.train(config, needed, needed.name).config
            records.write_run(placed, needed)
            files.link(source.stage_folder(needed), placed.stage_folder(needed))
        self.experiment = self.experiment.with_config(placed)
        if not is_complete(self.experiment, stage):
            train(placed, stage.name, experiment=self.experiment)
        return self.experiment


def _number(text: str) -> float:
    """The same number whether it is written as 5 in a config or as 5.0 on the command line."""
    value = float(text)
    return int(value) if value.is_integer() else value


def predict(experiment: ExperimentContext, stage: StageSpec, split: Split) -> list[Prediction]:
    """The prediction rows of a trained trial, computed unless the file is newer than its parameters.

    They are written as `ecr evaluate` writes them, with the catalogue and a line of `reads.jsonl`, so that
    `ecr compare` reads trials as it reads runs.
    """
    folder = experiment.config.folder / split.value
    path, summary = folder / "predictions.jsonl", experiment.folder(stage) / "summary.json"
    if not path.is_file() or path.stat().st_mtime < summary.stat().st_mtime:
        rows = rank_stage(experiment, stage, split)
        _catalogue(experiment, split).save(folder)
        predictions.write(path, rows)
        chosen = PROTOCOLS["default"]
        log_read(folder, split, fingerprint(experiment.config, experiment.corpus, split, chosen), stage.folder)
    (rows,) = predictions.read(path).values()
    return rows


def _catalogue(experiment: ExperimentContext, split: Split) -> Catalogue:
    items, name = experiment.corpus.graph.items, experiment.config.corpus.name
    return Catalogue.of(name, split.value, "default", items, experiment.recommended)


def run(
    config: Config,
    *,
    stage: str = "recommendation",
    losses: Sequence[str] = (),
    grid: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    seed_from: str | None = None,
    each: Sequence[str] = (),
    split: Split = Split.VALID,
    folder: str = "sweep",
    console: Console,
) -> Report:
    """Trains and measures the trials that are missing; writes `runs/FOLDER/report.json` and .html, prints the table.

    Args:
      config: the run whose stages are shared; missing ones are trained in its own folder.
      stage: what is trained and measured: `recommendation` or a baseline.
      losses, grid, seeds, seed_from, each: see `trials`.
      split: what is measured; nothing was selected on `test`.
      folder: of the trials and the table, under `config.runs`.
      console: where progress is printed.

    Raises:
      ValueError: an impossible setting.
      FloatingPointError: a trial's training diverged; raised when the others are in the table.
    """
    spec = registry.find(stage)
    planned = trials(config, spec, losses, grid, seeds, seed_from, each)
    trainer = Trainer(config, spec, config.runs / folder)
    outcomes: list[Outcome] = []
    failed: list[str] = []
    for number, trial in enumerate(planned, start=1):
        title = f"{trial.label}, seed {trial.seed}"
        console.rule(f"{number} of {len(planned)}: {title}")
        try:
            experiment = trainer.train(trial.config, spec, f"{_slug(trial.label)}-seed{trial.seed}")
        except FloatingPointError as error:
            console.print(f"{title}: {error}", style="red", highlight=False, markup=False)
            failed.append(title)
        else:
            outcomes.append(Outcome(trial, experiment.config, predict(experiment, spec, split)))
    failure = FloatingPointError(f"{len(failed)} of {len(planned)} trials are not in the table: {'; '.join(failed)}")
    if not outcomes:
        raise failure
    result = _report(outcomes, spec, trainer.experiment, split, failed)
    report.write(result, trainer.root)
    terminal.print_tables(result, console)
    console.print(f"all tables and strata: {trainer.root / 'report.html'}")
    if failed:
        raise failure
    return result


def _slug(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.=]+", "-", label).strip("-")


def _report(
    outcomes: Sequence[Outcome], stage: StageSpec, experiment: ExperimentContext, split: Split, failed: list[str]
) -> Report:
    """The metrics of each label, its difference to the first label, and a record of each trial."""
    settings, corpus = experiment.config.evaluation, experiment.config.corpus
    seeds: dict[str, list[list[Prediction]]] = {}
    for outcome in outcomes:
        seeds.setdefault(outcome.trial.label, []).append(outcome.rows)
    first, *others = seeds
    rows = measure_models(
        seeds,
        corpus.label,
        split.value,
        pairs=[(other, first) for other in others],
        catalogue=_catalogue(experiment, split),
        resamples=settings.resamples,
        seed=experiment.config.seed,
        auc_batch=settings.auc_batch,
    )
    trials = []
    for outcome in outcomes:
        summary = json.loads((outcome.config.stage_folder(stage) / "summary.json").read_text(encoding="utf-8"))
        trials.append({
            "model": outcome.trial.label,
            "seed": outcome.trial.seed,
            "folder": str(outcome.config.folder),
            "train_seconds": summary.get("train_seconds", summary["seconds"]),
            "best_step": summary["best"]["step"],
        })  # fmt: skip
    source = run_provenance(outcomes[0].config, experiment.corpus) | {"trials": trials, "failed": failed}
    return Report(tuple(rows), source)
