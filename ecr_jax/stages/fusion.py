"""Stage `fusion`: words meet entities (ECR 3.2, UniCRS pre-training).

Reads every turn of either role that names entities. Trains the prompt encoder, without a task prefix, to predict these
entities from what was said before, or with `reads_turn` from what the turn says itself as well; the language model is
frozen. Loss: cross-entropy over all entities of the graph.
Selects by Recall@10 over them on validation.
"""

from __future__ import annotations

import jax.numpy as jnp

from ecr_jax.data.schema import Split
from ecr_jax.features.examples import TargetExamples, fusion_rows
from ecr_jax.losses.ranking import cross_entropy
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import recommender
from ecr_jax.training.loop import fit


def train(experiment: ExperimentContext) -> None:
    """Pre-trains the knowledge prompt."""
    config = experiment.config.fusion
    made = recommender.parts(experiment)

    def examples(split: Split, limit: int | None = None) -> TargetExamples:
        spoken = experiment.dialogues(split)[:limit]
        answer = (lambda dialogue, turn: dialogue.turns[turn]) if config.reads_turn else None
        return recommender.examples(experiment, made.words, split, spoken, fusion_rows(spoken), answer)

    training, validation = examples(Split.TRAIN), examples(Split.VALID, config.valid_dialogues)
    buckets = recommender.shapes(experiment, training, validation)
    over = recommender.batches(experiment, training, buckets, config.train.batch_size, seed=config.train.seed)
    looked_at = recommender.batches(experiment, validation, buckets, config.train.batch_size, seed=None)
    everything = recommender.all_entities(made)
    scorer = recommender.Scorer(made, everything, "fusion")

    def loss(params, frozen, batch, key):
        scores = recommender.scores(made, params, frozen, batch, jnp.asarray(everything), "fusion", key).logits
        values = cross_entropy(logits=scores, targets=batch["targets"], where=batch["target_mask"])
        return jnp.sum(values), jnp.sum(batch["target_mask"]), {}

    fit(
        experiment.config.stage_folder("fusion"),
        params=recommender.init(made, experiment.key("fusion"), looked_at[0], everything, "fusion"),
        frozen=made.frozen,
        loss=loss,
        batches=over,
        evaluate=lambda params, _: recommender.ranking_metrics(scorer.of(params), looked_at, everything),
        select="recall@10",
        mode="max",
        config=config.train,
        describe=lambda ids: [training.name(index) for index in ids],
        record=experiment.recorded("fusion"),
    )
