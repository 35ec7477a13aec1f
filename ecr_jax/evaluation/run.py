"""A trained run measured on a split: rankings beside the baselines, replies, classifier, costs; written as a report.

Everything else in this room is told what to measure; this file reads the run and asks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from ecr_jax.config import Config, read_recorded
from ecr_jax.data.prepare import PreparedCorpus
from ecr_jax.data.schema import Role, Split
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.evaluation import predictions, report, text, trivial_baselines
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.predictions import Prediction, Target
from ecr_jax.evaluation.protocol import PROTOCOLS, Protocol
from ecr_jax.evaluation.significance import interval, resample
from ecr_jax.features.baseline_examples import ContextExamples
from ecr_jax.features.examples import Dialogue, Examples, Row, conversation_rows, recommendation_rows, spread
from ecr_jax.files import read_jsonl_rows, write_jsonl
from ecr_jax.inference.agent import Agent
from ecr_jax.inference.agent import Reply as Utterance
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import STAGES, baselines, recommendation, recommender

NEEDED = ("emotion", "recommendation")
"""The stages without which nothing can be measured."""

_CHUNK = 8


def evaluate(
    config: Config,
    *,
    split: Split,
    console: Console,
    protocol: str = "default",
    force: bool = False,
    agent: Agent | None = None,
) -> report.Report:
    """Measures a run and writes `runs/NAME/SPLIT`, or `runs/NAME/SPLIT/published` by that protocol.

    Written: `predictions.jsonl` with `catalogue.json`, a line of `reads.jsonl` for each time the split was ranked, and
    `report.json` and `report.html` last. Where they are complete for the same parameters and settings, nothing is
    measured. What needs a stage that is not trained is left out, and the report says so.

    Args:
      config: the experiment.
      split: what is measured; nothing was selected on `test`.
      console: where the tables are printed.
      protocol: a name of `protocol.PROTOCOLS`.
      force: measure again even if it is complete.
      agent: the run as loaded already, or None.

    Raises:
      ValueError: the stage `emotion` or `recommendation` is not trained.
    """
    trained = _trained(config)
    if agent is None:  # the run's own settings, and what this call wants measured
        run = config.runs / config.name
        stages = [stage for stage in STAGES if stage in trained] + [
            f"baselines/{name}" for name in baselines.trained(run)
        ]
        kept = read_recorded(run, stages, config)
        agent = Agent(
            ExperimentContext(dataclasses.replace(kept, evaluation=config.evaluation, prepared=config.prepared))
        )
    experiment, config, by = agent.experiment, agent.config, PROTOCOLS[protocol]
    home = config.stage_folder(split.value)
    folder = home if protocol == "default" else home / protocol
    fingerprint = _made_of(experiment, split, by)
    finished = _finished(folder, fingerprint)
    if finished is not None and not force:
        console.print(f"{folder} is complete for these parameters and settings; --force measures it again")
        console.print(finished.provenance["readings"])
        return finished

    spoken = experiment.dialogues(split)
    wanted = [target for row in by.rows(spoken) for target in _targets(spoken, row)]
    training = experiment.dialogues(Split.TRAIN)
    recommended = [item for row in recommendation_rows(training) for item, _, _ in row.targets]
    found = {"ecr": list(ranked(agent, split, by))} | _trivial_baselines(experiment, training, recommended, wanted, by)
    found |= _rivals(experiment, split, by)
    catalogue = Catalogue.of(config.corpus.name, split.value, protocol, experiment.prepared.graph.items, recommended)
    catalogue.save(folder)
    predictions.write(folder / "predictions.jsonl", (row for rows in found.values() for row in rows))
    readings = _record(home, split, fingerprint)

    extra, shown, left_out, confusion = [], [], {}, {}
    if protocol == "default":
        extra, shown, left_out = _replies(agent, split, trained, console)
        extra += _classifier_rows(config, split)
        confusion = dict(zip(EMOTIONS, _classifier(config, split)["confusion"], strict=True))
    told = {"protocol": by.told, "readings": readings, "fingerprint": fingerprint}
    told |= {"left out": left_out} if left_out else {}
    made = report.build(
        found,
        config.corpus.name,
        split.value,
        measure=by.measure,
        catalogue=catalogue,
        resamples=config.evaluation.resamples,
        seed=config.seed,
        auc_batch=config.evaluation.auc_batch,
        extra=extra,
        provenance=provenance(config, experiment.prepared) | told,
        curves={stage: read_jsonl_rows(config.stage_folder(stage) / "metrics.jsonl") for stage in trained},
        replies=shown,
        confusion=confusion,
    )
    report.write(made, folder)
    report.print_tables(made, console)
    for what, why in left_out.items():
        console.print(f"left out: {what} ({why})")
    console.print(f"{readings}\nwritten: {folder / 'report.json'}, {folder / 'report.html'}")
    return made


def _trained(config: Config) -> list[str]:
    """The stages of a run that are trained to their end.

    Raises:
      ValueError: one is not that nothing can be measured without.
    """
    trained = [stage for stage in STAGES if (config.stage_folder(stage) / "summary.json").is_file()]
    for stage in NEEDED:
        if stage not in trained:
            folder = config.stage_folder(stage)
            raise ValueError(f"{folder} is not trained to its end; run `ecr train {stage}` with this config first")
    return trained


def _made_of(experiment: ExperimentContext, split: Split, by: Protocol) -> dict:
    """What the numbers follow from, with digests of all that is trained: the same again gives the same report."""
    config, manifest = experiment.config, experiment.prepared.manifest
    run, parameters = config.runs / config.name, {}
    for stage in (*STAGES, *(f"baselines/{name}" for name in baselines.BASELINES)):  # which may be links
        path = run / stage / "params.safetensors"
        if path.is_file() and (path.parent / "summary.json").is_file():
            with path.open("rb") as file:
                parameters[stage] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return {
        "split": split.value,
        "protocol": by.name,
        "evaluation": dataclasses.asdict(config.evaluation),
        "seed": config.seed,
        "inputs": manifest["inputs"],
        "parameters": parameters,
    }


def _finished(folder: Path, fingerprint: dict) -> report.Report | None:
    """The report of these very things, if it is there."""
    if not (folder / "report.json").is_file():
        return None
    found = report.read(folder / "report.json")
    return found if found.provenance.get("fingerprint") == fingerprint else None


def _record(home: Path, split: Split, fingerprint: dict) -> str:
    """Notes that a split was ranked, and says how often it was by now."""
    path = home / "reads.jsonl"
    rows, by = read_jsonl_rows(path) if path.is_file() else [], report.made_by()
    rows.append(
        {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "protocol": fingerprint["protocol"],
            "parameters": fingerprint["parameters"]["recommendation"],
            "commit": by["commit"],
            "command": by["command"],
        }
    )
    write_jsonl(path, rows)
    sets = len({row["parameters"] for row in rows})
    times = "once" if len(rows) == 1 else f"{len(rows)} times"
    return f"{split.value} was read {times} by this run, with {sets} set{'s' if sets > 1 else ''} of parameters"


def _trivial_baselines(
    experiment: ExperimentContext, training: list[Dialogue], recommended: list[int], wanted: list[Target], by: Protocol
) -> dict[str, list[Prediction]]:
    """The prediction rows of what anyone can do without learning, from the train split and its targets."""
    items = np.asarray(experiment.prepared.graph.items)
    popular = trivial_baselines.popularity(recommended, items)
    said = [[entity for turn in dialogue.turns for entity in turn.entities] for dialogue in training]
    made = {
        "popularity": popular,
        "copy-last": trivial_baselines.copy_last(popular, items),
        "co-occurrence": trivial_baselines.cooccurrence(said, popular, items),
    }
    return {name: trivial_baselines.predict(name, one, wanted, items, ties=by.ties) for name, one in made.items()}


def _targets(spoken: list[Dialogue], row: Row) -> list[Target]:
    """The targets of a turn, each with the entities mentioned before it."""
    dialogue = spoken[row.dialogue]
    context = tuple(entity for turn in dialogue.turns[: row.turn] for entity in turn.entities)
    return [
        Target(dialogue.id, row.turn, item, feedback, repeated, context) for item, feedback, repeated in row.targets
    ]


def ranked(agent: Agent, split: Split, by: Protocol = PROTOCOLS["default"]) -> Iterator[Prediction]:
    """The recommender's prediction rows; needs no stage that makes replies."""
    experiment, (made, rank) = agent.experiment, agent.ranker
    columns = None
    if by.all_entities:  # and the padding entity, which the released code scores with them
        everything = np.arange(len(experiment.prepared.graph) + 1)
        rank = recommender.Scorer(made, everything, "recommendation").of(agent.params("recommendation"))
        columns = made.items
    examples = recommendation.examples(experiment, split, by.rows)
    size = experiment.config.recommendation.train.batch_size
    over = recommender.batches(experiment, examples, recommender.shapes(experiment, examples), size, seed=None)
    yield from _ranked("ecr", examples, rank(over), len(over), made.items, by, columns)


def _rivals(experiment: ExperimentContext, split: Split, by: Protocol) -> dict[str, list[Prediction]]:
    """The prediction rows of every baseline that was trained in the run's folder."""
    items, found = np.asarray(experiment.prepared.graph.items), {}
    for name in baselines.trained(experiment.config.runs / experiment.config.name):
        examples, number, scored = baselines.ranked(experiment, name, split, by.rows)
        found[name] = list(_ranked(name, examples, scored, number, items, by))
    return found


def _ranked(
    model: str,
    examples: Examples | ContextExamples,
    scored: Iterable[tuple[dict, np.ndarray]],
    number: int,
    items: np.ndarray,
    by: Protocol,
    columns: np.ndarray | None = None,
) -> Iterator[Prediction]:
    """Prediction rows of `number` batches with their scores [B, C]; `columns` are the items', by default all C."""
    rows: dict[int, list[Prediction]] = {}
    for batch, scores in track(scored, total=number, description=f"rank, {model}"):
        shares = np.exp(scores)
        if by.all_entities:  # probabilities, without the odds of liking
            shares /= shares.sum(axis=1, keepdims=True)
        shares = shares if columns is None else shares[:, columns]
        for place in np.flatnonzero(batch["example_mask"]):
            example = int(batch["example"][place])
            targets = _targets(examples.spoken, examples.rows[example])
            repeated = np.repeat(shares[place : place + 1], len(targets), axis=0)
            rows[example] = predictions.predictions(model, targets, repeated, items, ties=by.ties)
    for example in sorted(rows):
        yield from rows[example]


def _replies(
    agent: Agent, split: Split, trained: list[str], console: Console
) -> tuple[list[report.Row], list[report.Reply], dict[str, str]]:
    """Text metrics of u^r over a sample of recommender turns, replies to show, and what is left out and why."""
    settings = agent.config.evaluation
    missing = [stage for stage in ("conversation", "response") if stage not in trained]
    why = f"not trained: {', '.join(missing)}"
    left_out = {"text metrics of u^r": why} if "conversation" in missing and settings.replies else {}
    left_out |= {"sample replies": why} if missing and settings.shown else {}
    measured = [] if "conversation" in missing or not settings.replies else _responses(agent, split, console)
    return measured, [] if missing or not settings.shown else _shown(agent, split), left_out


def _responses(agent: Agent, split: Split, console: Console) -> list[report.Row]:
    """Text metrics of u^r over a sample of recommender turns."""
    config, experiment = agent.config, agent.experiment
    spoken = experiment.dialogues(split)
    chosen = spread(conversation_rows(spoken), config.evaluation.replies)
    if not chosen:
        return []
    answers = list(agent.recommendation_responder.of_turns(split, spoken, chosen, console).values())
    references = [spoken[row.dialogue].turns[row.turn].masked for row in chosen]
    draws = resample([spoken[row.dialogue].id for row in chosen], config.evaluation.resamples, config.seed)
    bleus = text.bleus(answers, references)
    bounds = [interval(samples) for samples in draws.means(bleus).T]
    made = []
    for name, value in text.measure(answers, references).items():
        bound = bounds[int(name[-1]) - 1] if name.startswith("bleu") else None
        low, high = bound or (None, None)
        made.append(report.Row("ecr", config.corpus.name, split.value, "all", name, value, low, high, len(answers)))
    return made


def _shown(agent: Agent, split: Split) -> list[report.Reply]:
    """Replies to show."""
    experiment = agent.experiment
    spoken, graph = experiment.dialogues(split), experiment.prepared.graph
    rows = [row for row in recommendation_rows(spoken) if len(spoken[row.dialogue].turns[: row.turn]) > 2]
    rows = spread(rows, agent.config.evaluation.shown)
    contexts = [spoken[row.dialogue].turns[: row.turn] for row in rows]
    replies: list[Utterance] = agent.replies(contexts, states=experiment.turn_states) if rows else []
    return [
        report.Reply(
            tuple((turn.role.value, turn.text) for turn in context),
            tuple(graph.title(item) for item in reply.items),
            reply.recommendation,
            reply.emotional,
            spoken[row.dialogue].turns[row.turn].text,
        )
        for row, context, reply in zip(rows, contexts, replies, strict=True)
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


def provenance(config: Config, prepared: PreparedCorpus) -> dict:
    """What a report's numbers come from: code, command, machine, data, and what each stage cost."""
    folders = {"prepare": prepared.folder} | {stage: config.stage_folder(stage) for stage in STAGES}
    files = {name: folder / "cost.json" for name, folder in folders.items()}
    costs = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in files.items() if path.is_file()}
    return report.made_by() | {
        "config": config.name,
        "data": {name: digest[:16] for name, digest in prepared.manifest["inputs"].items()},
        "counts": prepared.manifest["counts"],
        "stages": {
            name: f"{cost['seconds']:.0f} s, {cost['peak_memory_mb'] / 1024:.1f} GiB" for name, cost in costs.items()
        },
    }


def turns_of(context: tuple[tuple[str, str], ...], last: int = 4) -> str:
    """The end of a context as lines of "role: text"."""
    return "\n".join(f"  {'you' if role == Role.SEEKER else 'ecr'}: {said}" for role, said in context[-last:])
