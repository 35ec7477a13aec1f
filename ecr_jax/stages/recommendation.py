"""Stage `recommendation`: which films fit what was said and felt (ECR Eqs. 3-7).

Reads recommender turns that name items. Trains the prompt encoder with its recommendation prefix and the scoring heads,
beginning with what `fusion` learned; the language model is frozen. Loss: the one that the config names, by default
cross-entropy over the items weighted by the seeker's feedback. Selects by Recall@10 among the items on validation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from ecr_jax.data.schema import Split
from ecr_jax.features.examples import Dialogue, Row, TargetExamples, recommendation_rows
from ecr_jax.losses.objective import Objective
from ecr_jax.losses.ranking import cross_entropy
from ecr_jax.models.layers import candidate_positions
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import conversation, recommender
from ecr_jax.training.loop import fit


def examples(
    experiment: ExperimentContext,
    split: Split,
    rows_of: Callable[[Sequence[Dialogue]], list[Row]] = recommendation_rows,
    limit: int | None = None,
) -> TargetExamples:
    """The examples of a split, with what `conversation` replies if the recommender reads it.

    Args:
      experiment: the experiment.
      split: which.
      rows_of: dialogues -> what is to be predicted of them.
      limit: most dialogues.
    """
    settings = experiment.config.recommender
    _, words = experiment.language_model(settings.language_model, settings.layers)
    spoken = experiment.dialogues(split)[:limit]
    rows = rows_of(spoken)
    if not experiment.config.recommendation.use_resp:
        return recommender.examples(experiment, words, split, spoken, rows)
    replies = conversation.replies(experiment, split, spoken, rows)
    said = sorted({turn.unit for turn in replies.values()})
    more = experiment.encode(said, experiment.config.encoder.turn_tokens, "encode replies")
    states = dataclasses.replace(experiment.turn_states, more=more)
    answer = lambda dialogue, turn: replies[dialogue.id, turn]  # noqa: E731
    return recommender.examples(experiment, words, split, spoken, rows, answer, states)


def train(experiment: ExperimentContext) -> None:
    """Trains the recommender."""
    config = experiment.config.recommendation
    objective = Objective(config.loss)
    made = recommender.parts(experiment)
    training, validation = (
        examples(experiment, Split.TRAIN),
        examples(experiment, Split.VALID, limit=config.valid_dialogues),
    )
    buckets, name = recommender.shapes(experiment, training, validation), training.name
    size = config.train.batch_size
    needed = recommender.read_bytes(made, len(training) + len(validation), experiment.config.recommender.max_tokens)
    if made.prefix_visibility == "last" and needed <= recommender.READ_LIMIT:
        settings = experiment.config.recommender
        known = experiment.read_contexts(settings.language_model, settings.layers)
        training, validation = (
            recommender.CachedContexts(
                found, recommender.batches(experiment, found, buckets, size, seed=None), made, known
            )
            for found in (training, validation)
        )
    over = recommender.batches(experiment, training, buckets, size, seed=config.train.seed)
    looked_at = recommender.batches(experiment, validation, buckets, size, seed=None)
    scorer = recommender.Scorer(made, made.items, "recommendation")
    scored = made.items if config.candidates == "items" else recommender.all_entities(made)
    candidates = jnp.asarray(scored)
    # Of the graph, training encodes no more than it can ask for.
    asked = (
        recommender.graph_arrays(experiment, recommender.training_entities(experiment))
        if config.candidates == "items"
        else {}
    )
    counts = jnp.asarray(recommender.item_counts(experiment)[scored], jnp.float32)

    def loss(params, frozen, batch, key):
        scores = recommender.scores(made, params, frozen, batch, candidates, "recommendation", key)
        targets, known = candidate_positions(batch["targets"], candidates)
        rated_items, candidate = candidate_positions(batch["rated_items"], candidates)
        where = batch["target_mask"] & known
        total, count, parts = objective(
            logits=scores.logits,
            like_logits=scores.like_logits,
            targets=targets,
            where=where,
            weights=batch["target_weight"],
            feedback=batch["feedback"],
            rated_items=rated_items,
            ratings=batch["ratings"] * candidate,
            reaction=batch["reaction"],
            counts=counts,
            key=jax.random.fold_in(key, 1),  # the dropout's is the key itself
        )
        plain = cross_entropy(logits=scores.logits, targets=targets, where=where)
        # Whatever the loss is divided by, this one is a mean over targets.
        parts["cross_entropy"] = jnp.sum(plain) / jnp.maximum(jnp.sum(where), 1) * count
        return total, count, parts

    params = recommender.init(made, experiment.key("recommendation"), looked_at[0], made.items, "recommendation")
    fit(
        experiment.config.stage_folder("recommendation"),
        params=recommender.transfer(params, experiment.fused),
        frozen=made.frozen | asked,
        loss=loss,
        batches=over,
        evaluate=lambda params, _: recommender.ranking_metrics(scorer.of(params), looked_at, made.items),
        select="recall@10",
        mode="max",
        config=config.train,
        describe=lambda ids: [name(index) for index in ids],
        record=experiment.recorded("recommendation"),
    )
