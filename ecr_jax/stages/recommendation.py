"""Stage `recommendation`: which films fit what was said and felt (ECR Eqs. 3-7).

Reads recommender turns that name items. Trains the prompt encoder with its recommendation prefix and the scoring heads,
beginning with what `fusion` learned; the language model is frozen. Loss: the one that the config names, by default
cross-entropy over the items weighted by the seeker's feedback. Selects by Recall@10 on validation.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ecr_jax import losses
from ecr_jax.corpus.schema import Split
from ecr_jax.features.examples import recommendation_rows
from ecr_jax.models.recommender import positions
from ecr_jax.objective import Objective
from ecr_jax.stages import recommender
from ecr_jax.stages.ground import Ground
from ecr_jax.training.loop import fit


def train(ground: Ground) -> None:
    """Trains the recommender."""
    config = ground.config.recommendation
    objective = Objective(config.loss)
    made = recommender.parts(ground)
    training = recommender.examples(ground, made, Split.TRAIN, recommendation_rows)
    validation = recommender.examples(ground, made, Split.VALID, recommendation_rows, config.valid_dialogues)
    buckets, name = recommender.shapes(ground, training, validation), training.name
    size = config.train.batch_size
    needed = recommender.read_bytes(made, len(training) + len(validation), ground.config.recommender.max_tokens)
    if made.reach == "last" and needed <= recommender.READ_LIMIT:
        training, validation = (
            recommender.Read(found, recommender.batches(ground, found, buckets, size, seed=None), made)
            for found in (training, validation)
        )
    over = recommender.batches(ground, training, buckets, size, seed=config.train.seed)
    looked_at = recommender.batches(ground, validation, buckets, size, seed=None)
    scorer = recommender.Scorer(made, made.items, "recommendation")
    items = jnp.asarray(made.items)
    counts = jnp.asarray(recommender.item_counts(ground)[made.items], jnp.float32)

    def loss(params, frozen, batch, key):
        scores = recommender.scores(made, params, frozen, batch, items, "recommendation", key)
        targets, known = positions(batch["targets"], items)
        answered, candidate = positions(batch["answered"], items)
        where = batch["target_mask"] & known
        total, count, parts = objective(
            logits=scores.logits,
            liking=scores.liking,
            targets=targets,
            where=where,
            weights=batch["target_weight"],
            feedback=batch["feedback"],
            answered=answered,
            answers=batch["answers"] * candidate,
            reaction=batch["reaction"],
            counts=counts,
            key=jax.random.fold_in(key, 1),  # the dropout's is the key itself
        )
        plain = losses.cross_entropy(logits=scores.logits, targets=targets, where=where)
        # Whatever the loss is divided by, this one is a mean over targets.
        parts["cross_entropy"] = jnp.sum(plain) / jnp.maximum(jnp.sum(where), 1) * count
        return total, count, parts

    params = recommender.init(made, ground.key("recommendation"), looked_at[0], made.items, "recommendation")
    fit(
        ground.config.stage_folder("recommendation"),
        params=recommender.transfer(params, ground.fused),
        frozen=made.frozen | recommender.graph_arrays(ground, recommender.met(ground)),
        loss=loss,
        batches=over,
        evaluate=lambda params, _: recommender.ranking_metrics(scorer.of(params), looked_at, made.items),
        select="recall@10",
        mode="max",
        config=config.train,
        describe=lambda ids: [name(index) for index in ids],
        record=ground.recorded("recommendation"),
    )
