"""Stage `response`: a continuation with feeling and true facts (ECR Eqs. 8-9).

Reads top-rated reviews of films with their entities and triples. Trains a LoRA adapter of a language model to write the
review after the prompt [movie, entities, triples, first sentence]; everything else is frozen. Loss: next-token
cross-entropy over the review only. Selects by the lowest validation loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax import losses
from ecr_jax.data.schema import MOVIE, Role, Split
from ecr_jax.features.batches import Batches, Field, bucket_shapes
from ecr_jax.features.tokenizer import DialogueTokenizer
from ecr_jax.knowledge.reviews import Review, prompt
from ecr_jax.models.lm import lora
from ecr_jax.models.lm.language_model import head
from ecr_jax.models.lm.sharding_rules import language_model_rules
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.training import sharding
from ecr_jax.training.loop import fit

FIELDS = {"tokens": Field(0, ("T",), "token_mask"), "loss_mask": Field(False, ("T",))}


def prompt_ids(words: DialogueTokenizer, review_prompt: str, limit: int) -> list[int]:
    """Token ids of a generator prompt; of one that is too long the beginning is kept, and its last line's end."""
    ids = words.encode([review_prompt])[0]
    return ids if len(ids) <= limit else ids[: limit - 1] + ids[-1:]


def first_sentences(experiment: ExperimentContext) -> list[str]:
    """What recommenders of the train split say with one `<movie>` in it: the templates of the first sentence (H12)."""
    said = {
        turn.masked()
        for conversation in experiment.prepared.split(Split.TRAIN)
        for turn in conversation.turns
        if turn.role == Role.RECOMMENDER
    }
    return sorted(text for text in said if text.count(MOVIE) == 1 and 4 <= len(text.split()) <= 24)


def examples(
    experiment: ExperimentContext, words: DialogueTokenizer, reviews: Sequence[Review]
) -> list[dict[str, np.ndarray]]:
    """One example a review: `tokens` of prompt and review, `loss_mask` over the review."""
    config, templates = experiment.config.response, first_sentences(experiment)
    made = []
    for index, review in enumerate(reviews):
        rng = np.random.default_rng((experiment.config.seed, index))
        first = templates[rng.integers(len(templates))].replace("<movie>", review.title) if templates else review.title
        text = prompt(review.title, review.entities[: config.entities], review.triples[: config.triples], first)
        before = prompt_ids(words, text, config.max_prompt)
        after = [*words.encode([review.text])[0], words.end][: config.max_review]  # a cut review has no end
        marks = np.zeros(len(before) + len(after), bool)
        marks[len(before) :] = True
        made.append({"tokens": np.asarray(before + after, np.int32), "loss_mask": marks})
    return made


def language_model_loss(module: Any, variables: dict, batch: dict, key: jax.Array | None, **prefix: Any) -> tuple:
    """(total, count, metrics) of next-token cross-entropy over the marked tokens; `key` turns dropout on."""
    rngs = None if key is None else {"dropout": key}
    out = module.apply(variables, batch["tokens"], batch["token_mask"], rngs=rngs, **prefix)
    marked = batch["loss_mask"] & batch["token_mask"]
    scored = head(variables["params"])
    total, hits = losses.next_token_cross_entropy(hidden=out.hidden, head=scored, tokens=batch["tokens"], where=marked)
    return total, jnp.sum(marked[:, 1:]), {"accuracy": hits}


def train(experiment: ExperimentContext) -> None:
    """Tunes the generator."""
    config, store = experiment.config.response, experiment.prepared.reviews
    if not len(store):
        raise ValueError("the prepared corpus has no reviews; set corpus.reviews and prepare again")
    model, words = experiment.language_model(config.language_model, None, dtype=config.dtype, quantize=config.quantize)
    module = model.module.clone(adapter_dropout=config.adapter.dropout, remat=config.remat)
    training = examples(experiment, words, store.of_split(Split.TRAIN))
    validation = examples(experiment, words, store.of_split(Split.VALID)[: config.valid_examples])
    limit = config.max_prompt + config.max_review
    shapes = bucket_shapes([*training, *validation], FIELDS, {"T": (limit // 2, 3 * limit // 4, limit)})
    size = config.train.batch_size

    def loss(params, frozen, batch, key):
        variables = lora.variables(frozen["language_model"], params["adapter"], config.adapter)
        return language_model_loss(module, variables, batch, key)

    frozen = {"language_model": model.params}
    fit(
        experiment.config.stage_folder("response"),
        params={"adapter": lora.init(experiment.key("response"), model.params, config.adapter)},
        frozen=frozen,
        loss=loss,
        batches=Batches(training, FIELDS, shapes, size, seed=config.train.seed),
        evaluate=mean_loss(loss, Batches(validation, FIELDS, shapes, size, epochs=1, shuffle=False)),
        select="loss",
        mode="min",
        config=config.train,
        rules=(*language_model_rules(model.config, "language_model|adapter"), *sharding.REPLICATED),
        record=experiment.recorded("response"),
    )


def mean_loss(loss, batches: Batches):
    """An `evaluate` for `fit`: the loss and its metrics over whole validation batches, each token counted once."""
    forward = jax.jit(loss)

    def evaluate(params, frozen) -> dict[str, float]:
        totals: dict[str, float] = {}
        for batch in batches:
            total, count, extra = forward(params, frozen, batch, None)
            for name, value in {"loss": total, "count": count, **extra}.items():
                totals[name] = totals.get(name, 0.0) + float(value)
        count = totals.pop("count")
        return {name: value / count for name, value in totals.items()}

    return evaluate
