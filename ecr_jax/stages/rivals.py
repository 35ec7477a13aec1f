"""Stage `rivals/MODEL`: what others rank items with (`models/baselines/`), by ECR's data, loop and evaluator.

Reads the same recommender turns as `recommendation`. Trains one rival to predict the items that the turn names. Loss:
cross-entropy over the items, and what the rival adds. Selects by Recall@10 on validation. EASE is solved, not stepped:
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

from ecr_jax import files, losses
from ecr_jax.config import RivalsConfig, TrainConfig
from ecr_jax.corpus.schema import Split
from ecr_jax.features.batches import Batches, Field, bucket_shapes
from ecr_jax.features.contexts import ContextExamples, Read
from ecr_jax.features.examples import Context, Dialogue, Row, Said, recommendation_rows, recommended
from ecr_jax.features.text import last_turns
from ecr_jax.knowledge import words
from ecr_jax.models.baselines.autorec import AutoRec
from ecr_jax.models.baselines.ease import Ease, interactions, solve
from ecr_jax.models.baselines.kbrd import Kbrd
from ecr_jax.models.baselines.kgsf import Kgsf
from ecr_jax.models.baselines.language_model import LanguageModel
from ecr_jax.models.baselines.sasrec import SasRec
from ecr_jax.models.baselines.text_encoder import TextEncoder
from ecr_jax.models.recommender import last_state, positions
from ecr_jax.models.rgcn import graphs_tuple
from ecr_jax.stages.ground import Ground
from ecr_jax.stages.recommender import ranking_metrics
from ecr_jax.stages.response import mean_loss
from ecr_jax.training.checkpoint import read_params, write_params
from ecr_jax.training.loop import fit

RIVALS = tuple(field.name for field in dataclasses.fields(RivalsConfig))
"""Their names: of the config's section, of the folder and of the model in a report."""

Columns = Callable[[Sequence[Dialogue], Sequence[Row]], Mapping[str, np.ndarray]]
"""What is computed of all rows at once."""


@dataclass(frozen=True)
class Rival:
    """A rival without its parameters.

    Attributes:
      module: see `ecr_jax.models.baselines`.
      frozen: what it reads of the world.
      reads: what it reads of a context.
      fields: how that is padded.
      columns: what of it is computed of all rows at once.
    """

    module: nn.Module
    frozen: dict
    reads: Mapping[str, Read]
    fields: Mapping[str, Field]
    columns: Columns = field(default=lambda spoken, rows: {})


def _entities(ground: Ground) -> Read:
    most = ground.config.recommender.max_entities
    return lambda turns: np.asarray(Context.of(turns, most).entities, np.int32)


def _films(ground: Ground, most: int) -> Read:
    """Positions among the items of the latest `most` distinct films mentioned, latest last."""
    place = {item: number for number, item in enumerate(ground.prepared.graph.items.tolist())}

    def read(turns: Sequence[Said]) -> np.ndarray:
        latest: dict[int, None] = {}
        for entity in (entity for turn in turns for entity in turn.entities if entity in place):
            latest.pop(place[entity], None)
            latest[place[entity]] = None
        return np.asarray(list(latest)[-most:], np.int32)

    return read


def _text_states(ground: Ground) -> Read:
    states, most = ground.turn_states, ground.config.recommender.max_states
    return lambda turns: states.of([turn.unit for turn in turns], most)


def _last_states(ground: Ground) -> Columns:
    """The frozen language model's state of the last token of each context: `state` float32 [rows, D]."""
    settings = ground.config.recommender
    model, texts = ground.language_model(settings.language_model, ground.config.rivals.language_model.layers)
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


def make(ground: Ground, model: str) -> Rival:
    """Builds a rival of an experiment.

    Raises:
      ValueError: there is no such rival.
    """
    if model not in RIVALS:
        raise ValueError(f"no rival {model!r}; there are {', '.join(RIVALS)}")
    graph, settings = ground.prepared.graph, getattr(ground.config.rivals, model)
    entities, items = len(graph), len(graph.items)
    frozen: dict[str, Any] = {"items": np.asarray(graph.items, np.int32)}
    mentioned = {"entities": _entities(ground)}
    fields = {"entities": Field(entities, ("E",), "entity_mask")}
    if model in ("kbrd", "kgsf"):
        frozen["graph"] = graphs_tuple(*graph.message_edges(), entities + 1)
    match model:
        case "autorec":
            return Rival(AutoRec(entities, items, settings.width, settings.dropout), frozen, mentioned, fields)
        case "ease":
            counts = recommended(ground.dialogues(Split.TRAIN))
            share = np.asarray([counts[item] for item in graph.items.tolist()]) / max(counts.total(), 1)
            return Rival(Ease(items), frozen | {"popularity": share.astype(np.float32)}, mentioned, fields)
        case "kbrd":
            sizes = entities, len(graph.relations), items, settings.width, settings.bases
            return Rival(Kbrd(*sizes, settings.dropout), frozen, mentioned, fields)
        case "kgsf":
            spoken = ground.dialogues(Split.TRAIN)
            known = words.count([turn.masked for dialogue in spoken for turn in dialogue.turns])
            frozen["word_graph"] = {name: getattr(known, name) for name in ("senders", "receivers", "weights")}
            sizes = entities, len(graph.relations), len(known.words), items, settings.width, settings.bases
            return Rival(
                Kgsf(*sizes, settings.dropout, settings.information),
                frozen,
                mentioned | {"words": lambda turns: known.ids([turn.masked for turn in turns], settings.max_words)},
                fields | {"words": Field(len(known.words), ("W",), "word_mask")},
            )
        case "sasrec":
            length = ground.config.recommender.max_entities
            module = SasRec(items, length, settings.width, settings.layers, settings.heads, settings.dropout)
            padded = {"films": Field(items, ("E",), "film_mask")}
            return Rival(module, frozen, {"films": _films(ground, length)}, padded)
        case "text_encoder":
            module = TextEncoder(items, settings.dropout)
            padded = {"text_states": Field(0, ("S", None), "text_mask")}
            return Rival(module, frozen, {"text_states": _text_states(ground)}, padded)
        case "language_model":
            module = LanguageModel(items, settings.dropout)
            return Rival(module, frozen, {}, {"state": Field(0, (None,))}, _last_states(ground))


def examples(
    ground: Ground, rival: Rival, split: Split, rows_of: Callable[[Sequence[Dialogue]], list[Row]] = recommendation_rows
) -> ContextExamples:
    """The examples of a split."""
    spoken = ground.dialogues(split)
    rows = rows_of(spoken)
    return ContextExamples(spoken, rows, rival.reads, rival.columns(spoken, rows))


def batches(ground: Ground, rival: Rival, made: ContextExamples, size: int = 128, seed: int | None = None) -> Batches:
    """Batches of two shapes, for contexts up to half the longest and for all; `seed` None: once, in order."""
    settings = ground.config.recommender
    fields = {**rival.fields, "targets": Field(len(ground.prepared.graph), ("M",), "target_mask")}
    longest = {"E": settings.max_entities, "S": settings.max_states, "W": ground.config.rivals.kgsf.max_words}
    most = max((len(row.targets) for row in made.rows), default=1)
    # A program with the graph takes longer to compile than its few padded entities take to compute.
    parts = (1,) if "graph" in rival.frozen else (2, 1)
    shapes = tuple({name: -(-size // part) for name, size in longest.items()} | {"M": most} for part in parts)
    if seed is None:
        return Batches(made, fields, shapes, size, shuffle=False, epochs=1)
    return Batches(made, fields, shapes, size, seed=seed)


class Scorer:
    """Scores the items for batches of a rival's examples, with one program for all parameters."""

    def __init__(self, rival: Rival):
        self.frozen = jax.device_put(rival.frozen)
        self._rank = jax.jit(
            lambda params, frozen, batch: jax.nn.log_softmax(rival.module.apply({"params": params}, batch, frozen))
        )

    def __call__(self, params: dict, over: Batches) -> Iterator[tuple[dict, np.ndarray]]:
        """Yields each batch with the log-probabilities of the items, float32 [B, I]."""
        for batch in over:
            yield batch, np.asarray(self._rank(params, self.frozen, batch))


def _apply(rival: Rival, params: dict, frozen: dict, batch: dict, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Scores [B, I] and the sum of what the rival adds to the loss; `key` turns dropout on."""
    rngs = None if key is None else {"dropout": key}
    scores, sown = rival.module.apply({"params": params}, batch, frozen, rngs=rngs, mutable=["losses"])
    return scores, sum((jnp.sum(leaf) for leaf in jax.tree.leaves(sown)), jnp.zeros(()))


def train(ground: Ground, model: str) -> None:
    """Trains a rival."""
    rival = make(ground, model)
    training, validation = (examples(ground, rival, split) for split in (Split.TRAIN, Split.VALID))
    looked_at = batches(ground, rival, validation)
    scorer, items = Scorer(rival), rival.frozen["items"]

    def evaluate(params: dict, _: Any = None) -> dict[str, float]:
        return ranking_metrics(functools.partial(scorer, params), looked_at, items)

    if model == "ease":
        _solve(ground, evaluate)
        return

    def ranking(params, frozen, batch, key):
        scores, added = _apply(rival, params, frozen, batch, key)
        targets, known = positions(batch["targets"], frozen["items"])
        where = batch["target_mask"] & known
        values = jnp.sum(losses.cross_entropy(logits=scores, targets=targets, where=where))
        return values + added, jnp.sum(where), {"cross_entropy": values}

    def added(params, frozen, batch, key):
        return _apply(rival, params, frozen, batch, key)[1], jnp.sum(batch["example_mask"]), {}

    settings, stage = getattr(ground.config.rivals, model), f"rivals/{model}"
    folder, record = ground.config.stage_folder(stage), ground.recorded(stage)

    def fitted(folder: Path, params: dict, loss, evaluate, select: str, mode: str, config: TrainConfig) -> dict:
        over = batches(ground, rival, training, config.batch_size, config.seed)
        return fit(
            folder,
            params=params,
            frozen=rival.frozen,
            loss=loss,
            batches=over,
            evaluate=evaluate,
            select=select,
            mode=mode,
            config=config,
            describe=lambda ids: [training.name(index) for index in ids],
            record=record,
        ).params

    init = jax.jit(lambda key, frozen: rival.module.init(key, looked_at[0], frozen)["params"])
    params = init(ground.key(stage), rival.frozen)
    if model == "kgsf":
        drawn = mean_loss(added, looked_at)
        params = fitted(folder / "pretraining", params, added, drawn, "loss", "min", settings.pretraining)
    fitted(folder, params, ranking, evaluate, "recall@10", "max", settings.train)


def _solve(ground: Ground, evaluate: Callable[[dict], dict[str, float]]) -> None:
    """Solves EASE for each regulariser and keeps the best, in a folder like that of a training."""
    started, folder = time.monotonic(), ground.config.stage_folder("rivals/ease")
    items = len(ground.prepared.graph.items)
    films = _films(ground, items)
    seen = interactions([films(dialogue.turns) for dialogue in ground.dialogues(Split.TRAIN)], items)
    gram = (seen.T @ seen).toarray()
    files.write_json(folder / "config.json", ground.recorded("rivals/ease"))
    rows, best = [], None
    for strength in ground.config.rivals.ease.strengths:
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
    """The names of the rivals that a run's folder holds."""
    return tuple(name for name in RIVALS if (run / "rivals" / name / "summary.json").is_file())


def ranked(
    ground: Ground, model: str, split: Split, rows: Callable[[Sequence[Dialogue]], list[Row]]
) -> tuple[ContextExamples, int, Iterator[tuple[dict, np.ndarray]]]:
    """What a trained rival says of a split: the examples of `rows`, the number of batches, each with its scores."""
    rival = make(ground, model)
    made = examples(ground, rival, split, rows)
    over = batches(ground, rival, made)
    params = read_params(ground.config.stage_folder(f"rivals/{model}") / "params.safetensors")
    return made, len(over), Scorer(rival)(jax.device_put(params), over)
