"""Stage `baselines/MODEL`: what others rank items with (`models/baselines/`), by ECR's data, loop and evaluator.

Reads the same recommender turns as `recommendation`. Trains one baseline to predict the items that the turn names. Loss:
cross-entropy over the items, and what the baseline adds. Selects by Recall@10 on validation. EASE is solved, not stepped:
for each regulariser once, selected alike.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import rich
from rich.progress import track

from ecr_jax import files
from ecr_jax.config import BaselinesConfig, TrainConfig
from ecr_jax.data.schema import Split
from ecr_jax.features.baseline_examples import ContextExamples, ContextFeature
from ecr_jax.features.batches import Batches, Field, bucket_shapes
from ecr_jax.features.examples import Context, Dialogue, Row, Utterance, recommendation_rows, recommended
from ecr_jax.features.tokenizer import last_turns
from ecr_jax.knowledge import word_graph
from ecr_jax.losses.ranking import cross_entropy
from ecr_jax.models.baselines.autorec import AutoRec
from ecr_jax.models.baselines.ease import Ease, interactions, solve
from ecr_jax.models.baselines.kbrd import Kbrd
from ecr_jax.models.baselines.kgsf import Kgsf
from ecr_jax.models.baselines.language_model import LanguageModel
from ecr_jax.models.baselines.sasrec import SasRec
from ecr_jax.models.baselines.text_encoder import TextEncoder
from ecr_jax.models.layers import candidate_positions, last_state
from ecr_jax.models.rgcn import graphs_tuple
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages.recommender import ranking_metrics
from ecr_jax.stages.response import mean_loss
from ecr_jax.training.checkpoint import read_params, write_params
from ecr_jax.training.loop import fit

BASELINES = tuple(field.name for field in dataclasses.fields(BaselinesConfig))
"""Their names: of the config's section, of the folder and of the model in a report."""

Columns = Callable[[Sequence[Dialogue], Sequence[Row]], Mapping[str, np.ndarray]]
"""What is computed of all rows at once."""


@dataclass(frozen=True)
class Baseline:
    """A baseline without its parameters.

    Attributes:
      module: see `ecr_jax.models.baselines`.
      frozen: what it reads of the world.
      reads: what it reads of a context.
      fields: how that is padded.
      columns: what of it is computed of all rows at once.
    """

    module: nn.Module
    frozen: dict
    reads: Mapping[str, ContextFeature]
    fields: Mapping[str, Field]
    columns: Columns = field(default=lambda spoken, rows: {})


def _entities(experiment: ExperimentContext) -> ContextFeature:
    most = experiment.config.recommender.max_entities
    return lambda turns: np.asarray(Context.of(turns, most).entities, np.int32)


def _films(experiment: ExperimentContext, most: int) -> ContextFeature:
    """Positions among the items of the latest `most` distinct films mentioned, latest last."""
    place = {item: number for number, item in enumerate(experiment.prepared.graph.items.tolist())}

    def read(turns: Sequence[Utterance]) -> np.ndarray:
        latest: dict[int, None] = {}
        for entity in (entity for turn in turns for entity in turn.entities if entity in place):
            latest.pop(place[entity], None)
            latest[place[entity]] = None
        return np.asarray(list(latest)[-most:], np.int32)

    return read


def _text_states(experiment: ExperimentContext) -> ContextFeature:
    states, most = experiment.turn_states, experiment.config.recommender.max_states
    return lambda turns: states.of([turn.unit for turn in turns], most)


def _last_states(experiment: ExperimentContext) -> Columns:
    """The frozen language model's state of the last token of each context: `state` float32 [rows, D]."""
    settings = experiment.config.recommender
    model, texts = experiment.language_model(settings.language_model, experiment.config.baselines.language_model.layers)
    forward = jax.jit(
        lambda params, tokens, mask: last_state(model.module.apply({"params": params}, tokens, mask).hidden, mask)
    )

    def read(spoken: Sequence[Dialogue], rows: Sequence[Row]) -> dict[str, np.ndarray]:
        ids = [texts.turns([(turn.role, turn.text) for turn in dialogue.turns]) for dialogue in spoken]
        contexts = [
            {"tokens": np.asarray(last_turns(ids[row.dialogue][: row.turn], settings.max_tokens), np.int32)}
            for row in rows
        ]
        fields = {"tokens": Field(0, ("T",), "token_mask")}
        shapes = bucket_shapes(contexts, fields, {"T": (settings.max_tokens // 2, settings.max_tokens)})
        state = np.zeros((len(rows), model.config.width), np.float32)
        over = Batches(contexts, fields, shapes, 64, shuffle=False, epochs=1)
        for batch in track(over, total=len(over), description="read contexts"):
            real = batch["example_mask"]
            found = np.asarray(forward(model.params, batch["tokens"], batch["token_mask"]))
            state[batch["example"][real]] = found[real]
        return {"state": state}

    return read


def make(experiment: ExperimentContext, model: str) -> Baseline:
    """Builds a baseline of an experiment.

    Raises:
      ValueError: there is no such baseline.
    """
    if model not in BASELINES:
        raise ValueError(f"no baseline {model!r}; there are {', '.join(BASELINES)}")
    graph, settings = experiment.prepared.graph, getattr(experiment.config.baselines, model)
    entities, items = len(graph), len(graph.items)
    frozen: dict[str, Any] = {"items": np.asarray(graph.items, np.int32)}
    mentioned = {"entities": _entities(experiment)}
    fields = {"entities": Field(entities, ("E",), "entity_mask")}
    if model in ("kbrd", "kgsf"):
        frozen["graph"] = graphs_tuple(*graph.message_edges(), entities + 1)
    match model:
        case "autorec":
            return Baseline(AutoRec(entities, items, settings.width, settings.dropout), frozen, mentioned, fields)
        case "ease":
            counts = recommended(experiment.dialogues(Split.TRAIN))
            share = np.asarray([counts[item] for item in graph.items.tolist()]) / max(counts.total(), 1)
            return Baseline(Ease(items), frozen | {"popularity": share.astype(np.float32)}, mentioned, fields)
        case "kbrd":
            sizes = entities, len(graph.relations), items, settings.width, settings.bases
            return Baseline(Kbrd(*sizes, settings.dropout), frozen, mentioned, fields)
        case "kgsf":
            spoken = experiment.dialogues(Split.TRAIN)
            known = word_graph.count([turn.masked for dialogue in spoken for turn in dialogue.turns])
            frozen["word_graph"] = {name: getattr(known, name) for name in ("senders", "receivers", "weights")}
            sizes = entities, len(graph.relations), len(known.words), items, settings.width, settings.bases
            return Baseline(
                Kgsf(*sizes, settings.dropout, settings.information),
                frozen,
                mentioned | {"words": lambda turns: known.ids([turn.masked for turn in turns], settings.max_words)},
                fields | {"words": Field(len(known.words), ("W",), "word_mask")},
            )
        case "sasrec":
            length = experiment.config.recommender.max_entities
            module = SasRec(items, length, settings.width, settings.layers, settings.heads, settings.dropout)
            padded = {"films": Field(items, ("E",), "film_mask")}
            return Baseline(module, frozen, {"films": _films(experiment, length)}, padded)
        case "text_encoder":
            module = TextEncoder(items, settings.dropout)
            padded = {"text_states": Field(0, ("S", None), "text_mask")}
            return Baseline(module, frozen, {"text_states": _text_states(experiment)}, padded)
        case "language_model":
            module = LanguageModel(items, settings.dropout)
            return Baseline(module, frozen, {}, {"state": Field(0, (None,))}, _last_states(experiment))


def examples(
    experiment: ExperimentContext,
    baseline: Baseline,
    split: Split,
    rows_of: Callable[[Sequence[Dialogue]], list[Row]] = recommendation_rows,
) -> ContextExamples:
    """The examples of a split."""
    spoken = experiment.dialogues(split)
    rows = rows_of(spoken)
    return ContextExamples(spoken, rows, baseline.reads, baseline.columns(spoken, rows))


def batches(
    experiment: ExperimentContext, baseline: Baseline, made: ContextExamples, size: int = 128, seed: int | None = None
) -> Batches:
    """Batches of two shapes, for contexts up to half the longest and for all; `seed` None: once, in order."""
    settings = experiment.config.recommender
    fields = {**baseline.fields, "targets": Field(len(experiment.prepared.graph), ("M",), "target_mask")}
    longest = {"E": settings.max_entities, "S": settings.max_states, "W": experiment.config.baselines.kgsf.max_words}
    most = max((len(row.targets) for row in made.rows), default=1)
    # A program with the graph takes longer to compile than its few padded entities take to compute.
    parts = (1,) if "graph" in baseline.frozen else (2, 1)
    shapes = tuple({name: -(-size // part) for name, size in longest.items()} | {"M": most} for part in parts)
    if seed is None:
        return Batches(made, fields, shapes, size, shuffle=False, epochs=1)
    return Batches(made, fields, shapes, size, seed=seed)


class Scorer:
    """Scores the items for batches of a baseline's examples, with one program for all parameters."""

    def __init__(self, baseline: Baseline):
        self.frozen = jax.device_put(baseline.frozen)
        self._rank = jax.jit(
            lambda params, frozen, batch: jax.nn.log_softmax(baseline.module.apply({"params": params}, batch, frozen))
        )

    def __call__(self, params: dict, over: Batches) -> Iterator[tuple[dict, np.ndarray]]:
        """Yields each batch with the log-probabilities of the items, float32 [B, I]."""
        for batch in over:
            yield batch, np.asarray(self._rank(params, self.frozen, batch))


def _apply(
    baseline: Baseline, params: dict, frozen: dict, batch: dict, key: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Scores [B, I] and the sum of what the baseline adds to the loss; `key` turns dropout on."""
    rngs = None if key is None else {"dropout": key}
    scores, sown = baseline.module.apply({"params": params}, batch, frozen, rngs=rngs, mutable=["losses"])
    return scores, sum((jnp.sum(leaf) for leaf in jax.tree.leaves(sown)), jnp.zeros(()))


def train(experiment: ExperimentContext, model: str) -> None:
    """Trains a baseline."""
    baseline = make(experiment, model)
    training, validation = (examples(experiment, baseline, split) for split in (Split.TRAIN, Split.VALID))
    looked_at = batches(experiment, baseline, validation)
    scorer, items = Scorer(baseline), baseline.frozen["items"]

    def evaluate(params: dict, _: Any = None) -> dict[str, float]:
        return ranking_metrics(functools.partial(scorer, params), looked_at, items)

    if model == "ease":
        _solve(experiment, evaluate)
        return

    def ranking(params, frozen, batch, key):
        scores, added = _apply(baseline, params, frozen, batch, key)
        targets, known = candidate_positions(batch["targets"], frozen["items"])
        where = batch["target_mask"] & known
        values = jnp.sum(cross_entropy(logits=scores, targets=targets, where=where))
        return values + added, jnp.sum(where), {"cross_entropy": values}

    def added(params, frozen, batch, key):
        return _apply(baseline, params, frozen, batch, key)[1], jnp.sum(batch["example_mask"]), {}

    settings, stage = getattr(experiment.config.baselines, model), f"baselines/{model}"
    folder, record = experiment.config.stage_folder(stage), experiment.recorded(stage)

    def fitted(folder: Path, params: dict, loss, evaluate, select: str, mode: str, config: TrainConfig) -> dict:
        over = batches(experiment, baseline, training, config.batch_size, config.seed)
        return fit(
            folder,
            params=params,
            frozen=baseline.frozen,
            loss=loss,
            batches=over,
            evaluate=evaluate,
            select=select,
            mode=mode,
            config=config,
            describe=lambda ids: [training.name(index) for index in ids],
            record=record,
        ).params

    init = jax.jit(lambda key, frozen: baseline.module.init(key, looked_at[0], frozen)["params"])
    params = init(experiment.key(stage), baseline.frozen)
    if model == "kgsf":
        drawn = mean_loss(added, looked_at)
        params = fitted(folder / "pretraining", params, added, drawn, "loss", "min", settings.pretraining)
    fitted(folder, params, ranking, evaluate, "recall@10", "max", settings.train)


def _solve(experiment: ExperimentContext, evaluate: Callable[[dict], dict[str, float]]) -> None:
    """Solves EASE for each regulariser and keeps the best, in a folder like that of a training."""
    started, folder = time.monotonic(), experiment.config.stage_folder("baselines/ease")
    items = len(experiment.prepared.graph.items)
    films = _films(experiment, items)
    seen = interactions([films(dialogue.turns) for dialogue in experiment.dialogues(Split.TRAIN)], items)
    gram = (seen.T @ seen).toarray()
    files.write_json(folder / "config.json", experiment.recorded("baselines/ease"))
    rows, best = [], None
    for strength in experiment.config.baselines.ease.strengths:
        params = {"weights": solve(gram, strength)}
        found = {"strength": strength, **evaluate(params)}
        rows.append({"step": len(rows) + 1, "split": "valid", **found})
        rich.get_console().print(f"strength {strength:g}  recall@10 {found['recall@10']:.4f}")
        if best is None or found["recall@10"] > best["value"]:
            best = {"step": len(rows), "value": found["recall@10"], "metrics": found}
            write_params(folder / "params.safetensors", params, {"metrics": found})
    files.write_jsonl(folder / "metrics.jsonl", rows)
    summary = {"steps": len(rows), "best": best, "select": "recall@10", "mode": "max"}
    files.write_json(folder / "summary.json", summary | {"seconds": time.monotonic() - started})


def trained(run: Path) -> tuple[str, ...]:
    """The names of the baselines that a run's folder holds."""
    return tuple(name for name in BASELINES if (run / "baselines" / name / "summary.json").is_file())


def ranked(
    experiment: ExperimentContext, model: str, split: Split, rows: Callable[[Sequence[Dialogue]], list[Row]]
) -> tuple[ContextExamples, int, Iterator[tuple[dict, np.ndarray]]]:
    """What a trained baseline says of a split: the examples of `rows`, the number of batches, each with its scores."""
    baseline = make(experiment, model)
    made = examples(experiment, baseline, split, rows)
    over = batches(experiment, baseline, made)
    params = read_params(experiment.config.stage_folder(f"baselines/{model}") / "params.safetensors")
    return made, len(over), Scorer(baseline)(jax.device_put(params), over)
