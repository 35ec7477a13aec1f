"""Prediction rows of every model of a run on the same targets: recommender, trivial baselines, trained baselines.

Every model scores the items for the contexts of instances; `RankedTargets.predictions` turns the scores into prediction
rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from rich.progress import track

from ecr_jax.config import registry
from ecr_jax.config.registry import StageSpec
from ecr_jax.data.schema import Split
from ecr_jax.evaluation.predictions import Prediction, Target, rank_targets
from ecr_jax.evaluation.protocol import PROTOCOLS, Protocol
from ecr_jax.evaluation.trivial_baselines import ContextScorer, trivial_baselines
from ecr_jax.features.batches import Batches
from ecr_jax.features.dialogues import Dialogue, TextContext
from ecr_jax.features.instances import Instance
from ecr_jax.models.hyperparameters import LIKE_PARTS
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import baselines, recommendation, recommender
from ecr_jax.training.evaluation import Ranker

RECOMMENDER = "ecr"
"""What prediction rows and reports call the run's own recommender."""

_TRIVIAL_BATCH = 512


Scores = Iterable[tuple[np.ndarray, np.ndarray]]
"""Batches of (indices of instances int [B], scores of the items float [B, I], as in `Prediction.score`)."""


@dataclass(frozen=True)
class RankedTargets:
    """The targets of a split that every model ranks.

    Attributes:
      dialogues: of the split.
      instances: the turns, with their targets.
      items: int [I], sorted entity ids of the candidates.
      protocol: how they are chosen and ranked.
      top_items: how many of the best items a prediction row lists.
    """

    dialogues: Sequence[Dialogue]
    instances: Sequence[Instance]
    items: np.ndarray
    protocol: Protocol
    top_items: int

    @classmethod
    def of(cls, experiment: ExperimentContext, split: Split, protocol: Protocol) -> RankedTargets:
        """Chooses the targets of a split by a protocol."""
        dialogues = experiment.dialogues(split)
        items = np.asarray(experiment.corpus.graph.items)
        return cls(dialogues, protocol.instances(dialogues), items, protocol, experiment.config.evaluation.top_items)

    def targets(self, index: int) -> list[Target]:
        """The targets of an instance."""
        instance = self.instances[index]
        conversation = self.dialogues[instance.dialogue].id
        return [Target(conversation, instance.turn, *target) for target in instance.targets]

    def context(self, index: int) -> TextContext:
        """What is mentioned and said before the turn of an instance."""
        instance = self.instances[index]
        return TextContext.of(self.dialogues[instance.dialogue].turns[: instance.turn])

    def predictions(self, model: str, scores: Scores) -> list[Prediction]:
        """The prediction rows of a model, in the order of the instances."""
        rows: dict[int, list[Prediction]] = {}
        for indices, batch_scores in scores:
            for index, item_scores in zip(indices.tolist(), batch_scores, strict=True):
                targets = self.targets(index)
                repeated = np.repeat(item_scores[None], len(targets), axis=0)
                rows[index] = rank_targets(
                    model, targets, repeated, self.items, top_items=self.top_items, ties=self.protocol.ties
                )
        return [row for index in sorted(rows) for row in rows[index]]

    def with_liking(self, predictions: Iterable[Prediction], liking: Scores) -> list[Prediction]:
        """Prediction rows with the parts of the targets' log odds of being liked.

        Args:
          predictions: rows of these targets, in any order.
          liking: batches of (indices of instances int [B], the parts [B, P, I] in the order of `LIKE_PARTS`).
        """
        of_target: dict[tuple[str, int, int], dict[str, float]] = {}
        for indices, parts in liking:
            for index, of_items in zip(indices.tolist(), parts, strict=True):
                for target in self.targets(index):
                    values = of_items[:, np.searchsorted(self.items, target.target)].tolist()
                    key = target.conversation, target.turn, target.target
                    of_target[key] = dict(zip(LIKE_PARTS, values, strict=True))
        return [dataclasses.replace(row, liking=of_target[row.key]) for row in predictions]


def rank_run(
    experiment: ExperimentContext, split: Split, protocol: Protocol, trained: Iterable[StageSpec]
) -> dict[str, list[Prediction]]:
    """The prediction rows of every model of a run, by its name in reports: the recommender first, then baselines.

    Args:
      experiment: the run.
      split: which.
      protocol: how targets are chosen and ranked.
      trained: the run's complete stages and baselines; `recommendation` must be one of them.
    """
    targets = RankedTargets.of(experiment, split, protocol)
    models = {RECOMMENDER: rank_stage(experiment, registry.find("recommendation"), split, protocol)}
    models |= rank_untrained(experiment, targets)
    for spec in trained:
        if spec.kind == "baseline":
            models[spec.name] = rank_stage(experiment, spec, split, protocol)
    return models


def rank_untrained(experiment: ExperimentContext, targets: RankedTargets) -> dict[str, list[Prediction]]:
    """The prediction rows of the trivial baselines, by name. Reads no trained stage but the emotions of the turns."""
    scorers = trivial_baselines(
        experiment.dialogues(Split.TRAIN),
        experiment.recommended,
        targets.items,
        lambda: experiment.entity_text,
        experiment.config.evaluation,
    )
    return {name: targets.predictions(name, score_contexts(targets, scorer)) for name, scorer in scorers.items()}


def rank_stage(
    experiment: ExperimentContext, stage: StageSpec, split: Split, protocol: Protocol = PROTOCOLS["default"]
) -> list[Prediction]:
    """The prediction rows of a trained stage that ranks items: `recommendation` or a baseline.

    Raises:
      ValueError: the stage does not rank items.
    """
    targets = RankedTargets.of(experiment, split, protocol)
    if stage.kind == "baseline":
        return targets.predictions(stage.name, _score_baseline(experiment, stage, split, protocol))
    if stage.name != "recommendation":
        raise ValueError(f"the stage {stage.name!r} ranks no items; choose 'recommendation' or a baseline")
    rows = targets.predictions(RECOMMENDER, _score_recommender(experiment, split, protocol))
    liking = None if protocol.all_entities else _score_liking(experiment, split, protocol)
    return rows if liking is None else targets.with_liking(rows, liking)


def score_contexts(targets: RankedTargets, scorer: ContextScorer) -> Scores:
    """The scores of a trivial baseline, in batches that bound the memory."""
    for start in range(0, len(targets.instances), _TRIVIAL_BATCH):
        indices = np.arange(start, min(start + _TRIVIAL_BATCH, len(targets.instances)))
        yield indices, scorer([targets.context(index) for index in indices.tolist()])


def _score_recommender(experiment: ExperimentContext, split: Split, protocol: Protocol) -> Scores:
    """The scores of the trained recommender, with the odds of liking, or as the protocol wants them."""
    setup = recommender.build_recommender(experiment)
    candidates, columns = setup.items, None
    if protocol.all_entities:  # and the padding entity, which the released code scores with them
        candidates, columns = np.arange(len(experiment.corpus.graph) + 1), setup.items
    rank = recommender.scorer(setup, candidates).with_params(jax.device_put(experiment.params("recommendation")))
    return _scored_batches(RECOMMENDER, rank, _recommender_batches(experiment, split, protocol), protocol, columns)


def _score_liking(experiment: ExperimentContext, split: Split, protocol: Protocol) -> Scores | None:
    """The trained recommender's log odds of being liked, see `RankedTargets.with_liking`; None where it has none."""
    setup = recommender.build_recommender(experiment)
    scorer = recommender.liking_scorer(setup, setup.items)
    if scorer is None:
        return None
    rank = scorer.with_params(jax.device_put(experiment.params("recommendation")))
    batches = _recommender_batches(experiment, split, protocol)
    return (
        (batch["example"][batch["example_mask"]], parts[batch["example_mask"]])
        for batch, parts in rank(track(batches, total=len(batches), description="odds of being liked"))
    )


def _recommender_batches(experiment: ExperimentContext, split: Split, protocol: Protocol) -> Batches:
    examples = recommendation.examples(experiment, split, protocol.instances)
    shapes = recommender.recommender_shapes(experiment, examples)
    return Batches.in_order(examples, shapes, experiment.config.recommendation.train.batch_size)


def _score_baseline(experiment: ExperimentContext, spec: StageSpec, split: Split, protocol: Protocol) -> Scores:
    """The scores of a trained baseline."""
    rank, batches = baselines.trained_ranker(experiment, spec, split, protocol.instances)
    return _scored_batches(spec.name, rank, batches, protocol)


def _scored_batches(
    name: str, rank: Ranker, batches: Batches, protocol: Protocol, columns: np.ndarray | None = None
) -> Scores:
    """Turns the log scores of a model into the scores of prediction rows.

    Args:
      name: of the model, shown beside the progress.
      rank: the model.
      batches: all instances once.
      protocol: whether scores are probabilities over all candidates.
      columns: the items' places among the candidates; None: the candidates are the items.
    """
    for batch, log_scores in rank(track(batches, total=len(batches), description=f"rank, {name}")):
        scores = np.exp(log_scores)
        if protocol.all_entities:
            scores /= scores.sum(axis=1, keepdims=True)
        rows = batch["example_mask"]
        yield batch["example"][rows], (scores if columns is None else scores[:, columns])[rows]
