"""A trained run measured on a split: rankings beside the baselines, replies, classifier, costs; written as a report.

Everything else in this room is told what to measure; this file reads the run and asks.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

from ecr_jax.config import Config, read_recorded
from ecr_jax.corpus.schema import Role, Split
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.evaluation import baselines, predictions, report, text
from ecr_jax.evaluation.predictions import Prediction, Target
from ecr_jax.evaluation.significance import interval, resample
from ecr_jax.features.contexts import ContextExamples
from ecr_jax.features.examples import Dialogue, Examples, Row, conversation_rows, recommendation_rows, spread
from ecr_jax.files import read_jsonl_rows
from ecr_jax.inference.pipeline import Partner
from ecr_jax.inference.pipeline import Reply as Said
from ecr_jax.prepare import Prepared
from ecr_jax.stages import STAGES, recommender, rivals
from ecr_jax.stages.ground import Ground

_CHUNK = 8


def evaluate(config: Config, *, split: Split, console: Console, partner: Partner | None = None) -> report.Report:
    """Measures a run and writes `predictions.jsonl`, `report.json` and `report.html` into `runs/NAME/SPLIT`.

    Args:
      config: the experiment.
      split: what is measured; nothing was selected on `test`.
      console: where the tables are printed.
      partner: the run as loaded already, or None.

    Raises:
      ValueError: a stage is missing.
    """
    if partner is None:  # the run's own settings, and what this call wants measured
        run = config.runs / config.name
        kept = read_recorded(run, (*STAGES, *(f"rivals/{name}" for name in rivals.trained(run))))
        partner = Partner(Ground(dataclasses.replace(kept, evaluation=config.evaluation, prepared=config.prepared)))
    ground, config = partner.ground, partner.config
    folder = config.stage_folder(split.value)
    spoken = ground.dialogues(split)
    rows = recommendation_rows(spoken)
    wanted = [target for row in rows for target in _targets(spoken, row)]
    found = {"ecr": list(_model(partner, split))}
    items = np.asarray(ground.prepared.graph.items)
    training = ground.dialogues(Split.TRAIN)
    recommended = [item for row in recommendation_rows(training) for item, _, _ in row.targets]
    popular = baselines.popularity(recommended, items)
    said = [[entity for turn in dialogue.turns for entity in turn.entities] for dialogue in training]
    for name, baseline in {
        "popularity": popular,
        "copy-last": baselines.copy_last(popular, items),
        "co-occurrence": baselines.cooccurrence(said, popular, items),
    }.items():
        found[name] = baselines.predict(name, baseline, wanted, items)
    found |= _rivals(ground, split)
    predictions.write(folder / "predictions.jsonl", (row for rows in found.values() for row in rows))

    extra, shown = _replies(partner, split, console)
    made = report.build(
        found,
        config.corpus.name,
        split.value,
        resamples=config.evaluation.resamples,
        seed=config.seed,
        auc_batch=config.evaluation.auc_batch,
        extra=[*extra, *_classifier_rows(config, split)],
        provenance=provenance(config, ground.prepared),
        curves={stage: read_jsonl_rows(config.stage_folder(stage) / "metrics.jsonl") for stage in STAGES},
        replies=shown,
        confusion=dict(zip(EMOTIONS, _classifier(config, split)["confusion"], strict=True)),
    )
    report.write(made, folder)
    report.print_tables(made, console)
    console.print(f"written: {folder / 'report.json'}, {folder / 'report.html'}, {folder / 'predictions.jsonl'}")
    return made


def _targets(spoken: list[Dialogue], row: Row) -> list[Target]:
    """The targets of a turn, each with the entities mentioned before it."""
    dialogue = spoken[row.dialogue]
    context = tuple(entity for turn in dialogue.turns[: row.turn] for entity in turn.entities)
    return [
        Target(dialogue.id, row.turn, item, feedback, repeated, context) for item, feedback, repeated in row.targets
    ]


def _model(partner: Partner, split: Split) -> Iterator[Prediction]:
    """The recommender's prediction rows."""
    ground, (made, scorer, params) = partner.ground, partner.ranker
    examples = recommender.examples(ground, made, split, recommendation_rows)
    size = ground.config.recommendation.train.batch_size
    over = recommender.batches(ground, examples, recommender.shapes(ground, examples), size, seed=None)
    yield from _ranked("ecr", examples, scorer(params, over), len(over), made.items)


def _rivals(ground: Ground, split: Split) -> dict[str, list[Prediction]]:
    """The prediction rows of every rival that was trained in the run's folder."""
    items, found = np.asarray(ground.prepared.graph.items), {}
    for name in rivals.trained(ground.config.runs / ground.config.name):
        examples, number, scored = rivals.ranked(ground, name, split)
        found[name] = list(_ranked(name, examples, scored, number, items))
    return found


def _ranked(
    model: str,
    examples: Examples | ContextExamples,
    scored: Iterable[tuple[dict, np.ndarray]],
    number: int,
    items: np.ndarray,
) -> Iterator[Prediction]:
    """Prediction rows of `number` batches with their scores [B, I], in the order of the examples."""
    rows: dict[int, list[Prediction]] = {}
    for batch, scores in track(scored, total=number, description=f"rank, {model}"):
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        for place in np.flatnonzero(batch["example_mask"]):
            example = int(batch["example"][place])
            targets = _targets(examples.spoken, examples.rows[example])
            repeated = np.repeat(shares[place : place + 1], len(targets), axis=0)
            rows[example] = predictions.predictions(model, targets, repeated, items)
    for example in sorted(rows):
        yield from rows[example]


def _replies(partner: Partner, split: Split, console: Console) -> tuple[list[report.Row], list[report.Reply]]:
    """Text metrics of u^r over a sample of recommender turns, and replies to show."""
    config, ground = partner.config, partner.ground
    spoken, graph = ground.dialogues(split), ground.prepared.graph
    rows = conversation_rows(spoken)
    if not rows or not config.evaluation.replies:
        return [], []
    chosen = spread(rows, config.evaluation.replies)
    answers, references = [], []
    for start in track(range(0, len(chosen), _CHUNK), description="reply", console=console):
        part = chosen[start : start + _CHUNK]
        padded = part + part[-1:] * (_CHUNK - len(part))  # one program for all chunks
        heard = [spoken[row.dialogue].turns[: row.turn] for row in padded]
        arrays = [array for _, array in partner.contexts(heard, ground.turn_states)]
        answers += partner.recommendation_responses(arrays)[: len(part)]
        references += [spoken[row.dialogue].turns[row.turn].masked for row in part]
    draws = resample([spoken[row.dialogue].id for row in chosen], config.evaluation.resamples, config.seed)
    bleus = text.bleus(answers, references)
    measured = text.measure(answers, references)
    bounds = [interval(samples) for samples in draws.means(bleus).T]
    made = []
    for name, value in measured.items():
        bound = bounds[int(name[-1]) - 1] if name.startswith("bleu") else None
        low, high = bound or (None, None)
        made.append(report.Row("ecr", config.corpus.name, split.value, "all", name, value, low, high, len(answers)))

    shown = [row for row in recommendation_rows(spoken) if len(spoken[row.dialogue].turns[: row.turn]) > 2]
    shown = spread(shown, config.evaluation.shown)
    contexts = [spoken[row.dialogue].turns[: row.turn] for row in shown]
    replies: list[Said] = partner.replies(contexts, states=ground.turn_states) if shown else []
    return made, [
        report.Reply(
            tuple((turn.role.value, turn.text) for turn in context),
            tuple(graph.title(item) for item in reply.items),
            reply.recommendation,
            reply.emotional,
            spoken[row.dialogue].turns[row.turn].text,
        )
        for row, context, reply in zip(shown, contexts, replies, strict=True)
    ]


def _classifier(config: Config, split: Split) -> dict:
    """What the emotion stage measured of its classifier."""
    path = config.stage_folder("emotion") / "classifier.json"
    return json.loads(path.read_text(encoding="utf-8"))[split.value]


def _classifier_rows(config: Config, split: Split) -> list[report.Row]:
    """The emotion classifier's figures as report rows."""
    found = _classifier(config, split)
    corpus = "goemotions" if config.corpus.goemotions else config.corpus.name
    return [
        report.Row(model, corpus, split.value, "all", metric, found[name], None, None, found["utterances"])
        for model, metric, name in (
            ("classifier", "emotion_recall@2", "recall@2"),
            ("classifier", "emotion_macro_f1", "macro_f1"),
            ("classifier", "emotion_accuracy", "accuracy"),
            ("majority", "emotion_recall@2", "majority_recall@2"),
        )
    ]


def provenance(config: Config, prepared: Prepared) -> dict:
    """What a report's numbers come from: commit, command, data, hardware, libraries, and what each stage cost."""
    here = Path(__file__).parent
    commit = ""
    if shutil.which("git"):
        asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        commit = subprocess.run(asked, cwd=here, capture_output=True, text=True, check=False).stdout.strip()
    folders = {"prepare": prepared.folder} | {stage: config.stage_folder(stage) for stage in STAGES}
    costs = {name: json.loads((folder / "cost.json").read_text(encoding="utf-8")) for name, folder in folders.items()}
    return {
        "commit": commit or "not a git checkout",
        "command": " ".join(["ecr", *sys.argv[1:]]),
        "config": config.name,
        "data": {name: digest[:16] for name, digest in prepared.manifest["inputs"].items()},
        "counts": prepared.manifest["counts"],
        "hardware": f"{os.cpu_count()} x {platform.machine()}, {jax.devices()[0].device_kind}",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "stages": {
            name: f"{cost['seconds']:.0f} s, {cost['peak_memory_mb'] / 1024:.1f} GiB" for name, cost in costs.items()
        },
    }


def turns_of(context: tuple[tuple[str, str], ...], last: int = 4) -> str:
    """The end of a context as lines of "role: text"."""
    return "\n".join(f"  {'you' if role == Role.SEEKER else 'ecr'}: {said}" for role, said in context[-last:])
