"""Evaluates a trained run on a split and writes its report: rankings beside baselines, replies, classifier, costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich.console import Console

from ecr_jax.config import Config, read_run, replace
from ecr_jax.config.records import RANKING_FIELD
from ecr_jax.config.registry import StageSpec
from ecr_jax.data.schema import Split
from ecr_jax.evaluation import (
    emotion_classifier,
    predictions,
    provenance,
    rankings,
    replies,
    report,
    system_replies,
    terminal,
)
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.protocol import PROTOCOLS
from ecr_jax.evaluation.provenance import Fingerprint
from ecr_jax.evaluation.report import Report, SampleReply
from ecr_jax.evaluation.rows import ReportRow
from ecr_jax.files import read_jsonl_rows
from ecr_jax.inference.agent import Agent
from ecr_jax.runs.context import ExperimentContext, open_experiment

REQUIRED_STAGES = ("emotion", "recommendation")
"""The stages without which nothing can be measured."""


def evaluate(
    config: Config,
    *,
    split: Split,
    console: Console,
    protocol: str = "default",
    force: bool = False,
    experiment: ExperimentContext | None = None,
) -> Report:
    """Evaluates a run and writes `runs/NAME/SPLIT`, or `runs/NAME/SPLIT/published` by that protocol.

    Writes `predictions.jsonl` with `catalogue.json`, a line of `reads.jsonl` for each time the split was ranked, the
    whole replies of `replies.jsonl`, and `report.json` and `report.html` last. Where these are complete for the same
    parameters and settings, nothing is measured. What needs a stage that is not trained is left out, and the report
    says so.

    Args:
      config: the experiment.
      split: what is measured; no setting was selected on `test`.
      console: where the tables are printed.
      protocol: a name in `protocol.PROTOCOLS`.
      force: measure again even if the report is complete.
      experiment: the run's context, to share it with other commands of the process; opened where None.

    Raises:
      ValueError: the stage `emotion` or `recommendation` is not trained.
    """
    trained = provenance.complete_stages(config)
    names = {spec.name for spec in trained}
    for name in REQUIRED_STAGES:
        if name not in names:
            folder = config.stage_folder(name)
            raise ValueError(f"{folder} is not trained to its end; run `ecr train {name}` with this config first")
    experiment = _open(config, trained) if experiment is None else experiment
    config, chosen = experiment.config, PROTOCOLS[protocol]
    split_folder = config.folder / split.value
    folder = split_folder if protocol == "default" else split_folder / protocol
    fingerprint = provenance.fingerprint(config, experiment.corpus, split, chosen)
    complete = _complete_report(folder, fingerprint)
    if complete is not None and not force:
        console.print(f"{folder} is complete for these parameters and settings; --force measures it again")
        console.print(complete.provenance["readings"])
        return complete

    models = rankings.rank_run(experiment, split, chosen, trained)
    items = experiment.corpus.graph.items
    catalogue = Catalogue.of(config.corpus.name, split.value, protocol, items, experiment.recommended)
    catalogue.save(folder)
    predictions.write(folder / "predictions.jsonl", (row for rows in models.values() for row in rows))
    readings = provenance.log_read(split_folder, split, fingerprint)

    rows, samples, left_out, confusion = [], [], {}, {}
    if protocol == "default":
        rows, samples, left_out = _reply_report(experiment, split, names, folder, console)
        classifier_rows, confusion = emotion_classifier.classifier_report(config, split)
        rows += classifier_rows
    source = provenance.run_provenance(config, experiment.corpus)
    source |= {"protocol": chosen.description, "readings": readings, "fingerprint": fingerprint}
    source |= {"left out": left_out} if left_out else {}
    result = report.build(
        models,
        config.corpus.label,
        split.value,
        measure=chosen.measure,
        catalogue=catalogue,
        resamples=config.evaluation.resamples,
        seed=config.seed,
        auc_batch=config.evaluation.auc_batch,
        extra=rows,
        provenance=source,
        curves={
            spec.name: read_jsonl_rows(config.stage_folder(spec) / "metrics.jsonl")
            for spec in trained
            if spec.kind == "stage"
        },
        replies=samples,
        confusion=confusion,
    )
    report.write(result, folder)
    terminal.print_report(result, console)
    for part, reason in left_out.items():
        console.print(f"left out: {part} ({reason})")
    console.print(readings)
    console.print(f"all tables, strata, replies and learning curves: {folder / 'report.html'}")
    return result


def _open(config: Config, trained: list[StageSpec]) -> ExperimentContext:
    """The run with the settings that its stages were trained with, and this config's of the evaluation and ranking."""
    recorded = replace(read_run(config.folder, trained), RANKING_FIELD, config.recommender.heads.like_power)
    return open_experiment(dataclasses.replace(recorded, evaluation=config.evaluation, prepared=config.prepared))


def _complete_report(folder: Path, fingerprint: Fingerprint) -> Report | None:
    """The report in a folder if it has this fingerprint."""
    path = folder / "report.json"
    if not path.is_file():
        return None
    written = report.read(path)
    return written if written.provenance.get("fingerprint") == fingerprint else None


def _reply_report(
    experiment: ExperimentContext, split: Split, trained: set[str], folder: Path, console: Console
) -> tuple[list[ReportRow], list[SampleReply], dict[str, str]]:
    """Text metrics and measures of whole replies, sample replies, and what is left out with the reason."""
    settings = experiment.config.evaluation
    missing = [name for name in ("conversation", "response") if name not in trained]
    reason = f"not trained: {', '.join(missing)}"
    agent = Agent(experiment)
    rows: list[ReportRow] = []
    samples: list[SampleReply] = []
    left_out: dict[str, str] = {}
    if settings.replies and "conversation" in missing:
        left_out["text metrics of u^r"] = reason
    elif settings.replies:
        rows = replies.response_metrics(agent, split, console)
    if settings.whole_replies and missing:
        left_out["measures of whole replies"] = reason
    elif settings.whole_replies:
        written = replies.system_replies(agent, split, console)
        system_replies.write(folder / "replies.jsonl", written)
        rows = [*rows, *replies.reply_measures(agent, written, split)]
    if settings.samples and missing:
        left_out["sample replies"] = reason
    elif settings.samples:
        samples = replies.sample_replies(agent, split)
    return rows, samples, left_out
