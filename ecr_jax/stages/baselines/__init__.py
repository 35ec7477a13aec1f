"""The training of a baseline: a published recommender (`models/baselines/`) on ECR's data, loop and evaluation.

Data: the recommender turns of `recommendation`. Trains one baseline to predict the items that the turn names. Loss:
cross-entropy over the items, and the baseline's auxiliary losses. Selects by Recall@10 on validation. A baseline with
closed-form solutions is solved for each of its settings and selected in the same way.

Each baseline is one short file of this package whose `build(experiment, settings)` returns a `Baseline`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import rich

from ecr_jax import files
from ecr_jax.config.registry import StageSpec
from ecr_jax.data.schema import Split
from ecr_jax.features.batches import Batches, Examples, pad_batch
from ecr_jax.features.dialogues import Utterance
from ecr_jax.features.featurizer import ContextFeaturizer
from ecr_jax.features.instances import InstancesOf, TargetExamples, film_sequence_instances, recommendation_instances
from ecr_jax.losses.ranking import cross_entropy
from ecr_jax.models.layers import candidate_positions
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages.baselines.baseline import Baseline, Solution
from ecr_jax.training.checkpoint import write_params
from ecr_jax.training.evaluation import Ranker, Scorer, mean_loss, ranking_metrics
from ecr_jax.training.loop import fit
from ecr_jax.training.options import TrainConfig
from ecr_jax.training.step import Batch, Loss, Tree

EVALUATION_BATCH = 128
"""Rows of an evaluation batch."""


def build(experiment: ExperimentContext, spec: StageSpec) -> Baseline:
    """Builds a baseline of an experiment."""
    return spec.import_function("build")(experiment, experiment.config.stage_settings(spec))


def examples(
    experiment: ExperimentContext,
    baseline: Baseline,
    split: Split,
    instances_of: InstancesOf = recommendation_instances,
) -> TargetExamples:
    """The examples of a split, without the arrays of `Baseline.extend`."""
    dialogues = experiment.dialogues(split)
    featurizer = ContextFeaturizer(baseline.features, experiment.config.recommender.max_entities)
    return TargetExamples(dialogues, instances_of(dialogues), featurizer, entities=len(experiment.corpus.graph))


def shapes(baseline: Baseline, examples: TargetExamples) -> tuple[dict[str, int], ...]:
    """Two length buckets, for contexts of up to half the longest and for all; one for baselines with a graph.

    A program with the graph takes longer to compile than its few padded entities take to compute.
    """
    targets = max((len(instance.targets) for instance in examples.instances), default=1)
    divisors = (1,) if "graph" in baseline.frozen else (2, 1)
    return tuple(
        {axis: -(-length // divisor) for axis, length in baseline.longest.items()} | {"M": targets}
        for divisor in divisors
    )


def scorer(baseline: Baseline) -> Scorer:
    """Scores the items by their log-probability."""

    def score(params: Tree, frozen: Tree, encoded: None, batch: Batch) -> jax.Array:
        return jax.nn.log_softmax(baseline.module.apply({"params": params}, batch, frozen))

    return Scorer(score, baseline.frozen)


def trained_ranker(
    experiment: ExperimentContext,
    spec: StageSpec,
    split: Split,
    instances_of: InstancesOf = recommendation_instances,
) -> tuple[Ranker, Batches]:
    """A trained baseline that scores the items by log-probability, and the batches of a split.

    Raises:
      ValueError: the baseline is not trained.
    """
    params = jax.device_put(experiment.params(spec))
    baseline = build(experiment, spec)
    targets = examples(experiment, baseline, split, instances_of)
    batches = Batches.in_order(baseline.extend(targets), shapes(baseline, targets), EVALUATION_BATCH)
    return scorer(baseline).with_params(params), batches


def dialogue_ranker(
    experiment: ExperimentContext, spec: StageSpec
) -> Callable[[Sequence[Utterance]], np.ndarray] | None:
    """A trained baseline for running dialogues: turns -> log-probability of each item, float32 [I].

    None of a baseline that reads texts, whose states exist for corpus turns alone.

    Raises:
      ValueError: the baseline is not trained.
    """
    baseline = build(experiment, spec)
    if baseline.reads_text:
        return None
    rank = scorer(baseline).with_params(jax.device_put(experiment.params(spec)))
    featurizer = ContextFeaturizer(baseline.features, experiment.config.recommender.max_entities)

    def log_probabilities(turns: Sequence[Utterance]) -> np.ndarray:
        example = featurizer.arrays(featurizer.context(turns))
        ((_, scores),) = rank([pad_batch(featurizer.spec, [example], [0], baseline.longest, 1)])
        return scores[0]

    return log_probabilities


def train(experiment: ExperimentContext, spec: StageSpec) -> None:
    """Trains a baseline."""
    baseline, settings = build(experiment, spec), experiment.config.stage_settings(spec)
    items, folder = baseline.frozen["items"], experiment.folder(spec)
    targets = examples(experiment, baseline, Split.VALID)
    validation = Batches.in_order(baseline.extend(targets), shapes(baseline, targets), EVALUATION_BATCH)
    score = scorer(baseline)

    def evaluate(params: Tree, frozen: Tree) -> dict[str, float]:
        return ranking_metrics(score.with_params(params), validation, items)

    if baseline.solutions is not None:
        _select_solution(experiment, spec, baseline.solutions(), lambda params: evaluate(params, baseline.frozen))
        return
    instances_of = recommendation_instances if baseline.reads_text else film_sequence_instances
    training = examples(experiment, baseline, Split.TRAIN, instances_of)
    extended = baseline.extend(training)

    def fit_to(
        folder: Path,
        params: Tree,
        loss: Loss,
        evaluate: Callable,
        select: str,
        mode: Literal["max", "min"],
        config: TrainConfig,
    ) -> Tree:
        return fit(
            folder,
            params=params,
            frozen=baseline.frozen,
            loss=loss,
            batches=Batches(extended, shapes(baseline, training), config.batch_size, seed=config.seed),
            evaluate=evaluate,
            select=select,
            mode=mode,
            config=config,
            describe=training.names,
            record=experiment.record(spec),
        ).params

    params = _init(baseline, extended, experiment.key(spec))
    if baseline.pretraining is not None:
        loss = auxiliary_loss(baseline)
        pretraining = baseline.pretraining
        params = fit_to(folder / "pretraining", params, loss, mean_loss(loss, validation), "loss", "min", pretraining)
    fit_to(folder, params, ranking_loss(baseline), evaluate, "recall@10", "max", settings.train)


def _init(baseline: Baseline, examples: Examples, key: jax.Array) -> Tree:
    batch = examples.spec.zeros(1)
    return jax.jit(lambda key, frozen: baseline.module.init(key, batch, frozen)["params"])(key, baseline.frozen)


def _apply(
    baseline: Baseline, params: Tree, frozen: Tree, batch: Batch, key: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Scores [B, I] and the sum of the auxiliary losses; `key` turns dropout on."""
    rngs = None if key is None else {"dropout": key}
    scores, sown = baseline.module.apply({"params": params}, batch, frozen, rngs=rngs, mutable=["losses"])
    return scores, sum((jnp.sum(leaf) for leaf in jax.tree.leaves(sown)), jnp.zeros(()))


def ranking_loss(baseline: Baseline) -> Loss:
    """Cross-entropy over the items, and the baseline's auxiliary losses."""

    def loss(params: Tree, frozen: Tree, batch: Batch, key: jax.Array | None):
        scores, auxiliary = _apply(baseline, params, frozen, batch, key)
        targets, is_item = candidate_positions(batch["targets"], frozen["items"])
        where = batch["target_mask"] & is_item
        total = jnp.sum(cross_entropy(logits=scores, targets=targets, where=where))
        return total + auxiliary, jnp.sum(where), {"cross_entropy": total}

    return loss


def auxiliary_loss(baseline: Baseline) -> Loss:
    """The baseline's auxiliary losses alone."""

    def loss(params: Tree, frozen: Tree, batch: Batch, key: jax.Array | None):
        return _apply(baseline, params, frozen, batch, key)[1], jnp.sum(batch["example_mask"]), {}

    return loss


def _select_solution(
    experiment: ExperimentContext,
    spec: StageSpec,
    solutions: Iterator[Solution],
    evaluate: Callable[[Tree], dict[str, float]],
) -> None:
    """Keeps the best of the closed-form solutions, in a folder like that of a training."""
    started, folder = time.monotonic(), experiment.folder(spec)
    files.write_json(folder / "config.json", experiment.record(spec))
    rows, best = [], None
    for settings, params in solutions:
        metrics = {**settings, **evaluate(params)}
        rows.append({"step": len(rows) + 1, "split": "valid", **metrics})
        described = "  ".join(f"{name} {value:g}" for name, value in settings.items())
        rich.get_console().print(f"{described}  recall@10 {metrics['recall@10']:.4f}")
        if best is None or metrics["recall@10"] > best["value"]:
            best = {"step": len(rows), "value": metrics["recall@10"], "metrics": metrics}
            write_params(folder / "params.safetensors", params, {"metrics": metrics})
    files.write_jsonl(folder / "metrics.jsonl", rows)
    summary = {"steps": len(rows), "best": best, "select": "recall@10", "mode": "max"}
    files.write_json(folder / "summary.json", summary | {"seconds": time.monotonic() - started})
