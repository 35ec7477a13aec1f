"""Stage `fusion`: pre-trains the knowledge prompt, in which words and entities are fused (ECR 3.2, UniCRS).

Data: every turn of either role that names entities. Trains the prompt encoder, without a task prefix, to predict these
entities from the turns before, or with `include_turn` from the turn itself as well; the language model is frozen. Loss:
cross-entropy over all entities of the graph. Selects by Recall@10 over them on validation.
"""

from __future__ import annotations

import jax.numpy as jnp

from ecr_jax.config.registry import StageSpec
from ecr_jax.data.schema import Split
from ecr_jax.features.batches import Batches
from ecr_jax.features.instances import RecommenderExamples, fusion_instances
from ecr_jax.losses.ranking import cross_entropy
from ecr_jax.models.sharding_rules import recommender_rules
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import recommender
from ecr_jax.training.evaluation import ranking_metrics
from ecr_jax.training.loop import fit
from ecr_jax.training.step import Loss


def examples(
    experiment: ExperimentContext, setup: recommender.RecommenderSetup, split: Split, limit: int | None = None
) -> RecommenderExamples:
    """The examples of a split, of at most `limit` dialogues."""
    dialogues = experiment.dialogues(split)[:limit]
    include_turn = experiment.config.fusion.include_turn
    reply = (lambda dialogue, turn: dialogue.turns[turn]) if include_turn else None
    instances = fusion_instances(dialogues)
    return recommender.recommender_examples(
        experiment, setup.tokenizer, split, dialogues, instances, reply, evidence=False
    )


def entity_loss(setup: recommender.RecommenderSetup) -> Loss:
    """Cross-entropy over all entities."""

    def loss(params, frozen, batch, key):
        candidates = jnp.asarray(setup.all_entities)
        predicted = recommender.scores(setup, params, frozen, batch, candidates, "fusion", key)
        values = cross_entropy(logits=predicted.logits, targets=batch["targets"], where=batch["target_mask"])
        return jnp.sum(values), jnp.sum(batch["target_mask"]), {}

    return loss


def train(experiment: ExperimentContext, spec: StageSpec) -> None:
    """Pre-trains the knowledge prompt."""
    config = experiment.config.fusion
    setup = recommender.build_recommender(experiment, config.heads)
    training = examples(experiment, setup, Split.TRAIN)
    validation = examples(experiment, setup, Split.VALID, config.valid_dialogues)
    shapes, size = recommender.recommender_shapes(experiment, training, validation), config.train.batch_size
    validation_batches = Batches.in_order(validation, shapes, size)
    entities = setup.all_entities
    scorer = recommender.scorer(setup, entities, "fusion")

    fit(
        experiment.folder(spec),
        params=recommender.init(setup, experiment.key(spec), training.spec.zeros(1), entities, "fusion"),
        frozen=setup.frozen,
        loss=entity_loss(setup),
        batches=Batches(training, shapes, size, seed=config.train.seed),
        evaluate=lambda params, frozen: ranking_metrics(
            scorer.with_params(params, frozen), validation_batches, entities
        ),
        select="recall@10",
        mode="max",
        config=config.train,
        rules=recommender_rules(setup.language_model.config),
        describe=training.names,
        record=experiment.record(spec),
    )
