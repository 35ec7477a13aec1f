"""Stage `recommendation`: which items to recommend, given the entities and emotions of the context (ECR Eqs. 3-7).

Data: recommender turns that name items. Trains the prompt encoder with its recommendation prefix and the scoring heads,
initialised from `fusion`; the language model is frozen. Loss: the one that the config names, by default cross-entropy
over the items weighted by the seeker's feedback. Selects by `recommendation.select` among the items on validation.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.config.registry import StageSpec
from ecr_jax.data.schema import Split
from ecr_jax.features.batch_spec import BatchSpec
from ecr_jax.features.batches import Batches
from ecr_jax.features.instances import InstancesOf, RecommenderExamples, recommendation_instances
from ecr_jax.inference.responses import response_utterance
from ecr_jax.losses.objective import Objective
from ecr_jax.losses.ranking import cross_entropy
from ecr_jax.models.layers import candidate_positions
from ecr_jax.models.sharding_rules import recommender_rules
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import conversation, recommender
from ecr_jax.stages.transfer import transfer
from ecr_jax.training.evaluation import ranking_metrics
from ecr_jax.training.loop import fit
from ecr_jax.training.step import Batch, Loss


def examples(
    experiment: ExperimentContext,
    split: Split,
    instances_of: InstancesOf = recommendation_instances,
    limit: int | None = None,
) -> RecommenderExamples:
    """The examples of a split, with the responses of the stage `conversation` if the recommender reads them.

    Args:
      experiment: the experiment.
      split: the split.
      instances_of: chooses the turns to be predicted.
      limit: most dialogues.
    """
    _, tokenizer = experiment.language_model(experiment.config.language_model, experiment.config.recommender.layers)
    dialogues = experiment.dialogues_with_valence(split)[:limit]
    instances = instances_of(dialogues)
    if not experiment.config.recommendation.use_resp:
        return recommender.recommender_examples(experiment, tokenizer, split, dialogues, instances)
    texts = conversation.responder(experiment).of_turns(split, dialogues, instances)
    responses = {place: response_utterance(text) for place, text in texts.items()}
    distinct = sorted({response.text_with_role for response in responses.values()})
    states = experiment.turn_states.with_fallback(experiment.encode_turns(distinct, label="encode replies"))
    return recommender.recommender_examples(
        experiment, tokenizer, split, dialogues, instances, lambda dialogue, turn: responses[dialogue.id, turn], states
    )


def loss_inputs(spec: BatchSpec, batch: Batch, candidates: jax.Array) -> dict[str, jax.Array]:
    """The arrays of a batch that the losses read, with entity ids as positions among the candidates.

    A target that is not a candidate is masked; a rating of an item that is not a candidate is 0.
    """
    inputs = spec.loss_inputs(batch)
    targets, is_candidate = candidate_positions(inputs["targets"], candidates)
    rated_items, is_rated_candidate = candidate_positions(inputs["rated_items"], candidates)
    return inputs | {
        "targets": targets,
        "where": inputs["where"] & is_candidate,
        "rated_items": rated_items,
        "ratings": inputs["ratings"] * is_rated_candidate,
    }


def item_loss(
    setup: recommender.RecommenderSetup,
    objective: Objective,
    spec: BatchSpec,
    candidates: np.ndarray,
    counts: jax.Array,
) -> Loss:
    """The loss that the config names, over candidates.

    Args:
      setup: the recommender.
      objective: the loss.
      spec: of the training batches.
      candidates: int [I] entity ids, sorted.
      counts: [I] how often each is recommended in the train split.
    """

    def loss(params, frozen, batch, key):
        predicted = recommender.scores(setup, params, frozen, batch, jnp.asarray(candidates), "recommendation", key)
        inputs = loss_inputs(spec, batch, jnp.asarray(candidates))
        total, count, metrics = objective(
            logits=predicted.logits,
            like_logits=None if predicted.liking is None else predicted.liking.total,
            counts=counts,
            key=jax.random.fold_in(key, 1),  # the key itself is the dropout's
            **inputs,
        )
        values = cross_entropy(logits=predicted.logits, targets=inputs["targets"], where=inputs["where"])
        # A mean over targets, whatever the loss is divided by.
        mean = jnp.sum(values) / jnp.maximum(jnp.sum(inputs["where"]), 1)
        return total, count, metrics | {"cross_entropy": mean * count}

    return loss


def train(experiment: ExperimentContext, spec: StageSpec) -> None:
    """Trains the recommender."""
    config = experiment.config.recommendation
    objective = Objective(config.loss)
    setup = recommender.build_recommender(experiment)
    training = examples(experiment, Split.TRAIN)
    validation = examples(experiment, Split.VALID, limit=config.valid_dialogues)
    shapes, size = recommender.recommender_shapes(experiment, training, validation), config.train.batch_size
    sets = recommender.with_cached_contexts(experiment, setup, (training, validation), shapes, size)
    training_batches = Batches(sets[0], shapes, size, seed=config.train.seed)
    validation_batches = Batches.in_order(sets[1], shapes, size)
    frozen, candidates = setup.frozen, setup.all_entities
    if config.candidates == "items":  # training needs the encoding of these entities only
        frozen = frozen | recommender.graph_arrays(experiment, recommender.training_entities(experiment))
        candidates = setup.items
    counts = jnp.asarray(recommender.item_counts(experiment)[candidates], jnp.float32)
    scorer = recommender.scorer(setup, setup.items)

    initial = recommender.init(setup, experiment.key(spec), training.spec.zeros(1), setup.items, "recommendation")
    fit(
        experiment.folder(spec),
        params=transfer(initial, experiment.params("fusion"), "fusion"),
        frozen=frozen,
        loss=item_loss(setup, objective, training.spec, candidates, counts),
        batches=training_batches,
        evaluate=lambda params, frozen: ranking_metrics(
            # Not the graph, which in training encodes fewer entities than are scored after.
            scorer.with_params(params, {"language_model": frozen["language_model"]}),
            validation_batches,
            setup.items,
        ),
        select=config.select,
        mode="max",
        config=config.train,
        rules=recommender_rules(setup.language_model.config),
        describe=training.names,
        record=experiment.record(spec),
    )
