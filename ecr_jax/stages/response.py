"""Stage `response`: the emotional response u^e, a continuation with feeling that is bound to facts (ECR Eqs. 8-9).

Data: top-rated reviews of films with their entities and triples. Trains a LoRA adapter of a language model to write the
review after the prompt [movie, entities, triples, first sentence]; everything else is frozen. Loss: next-token
cross-entropy over the review only. Selects by the lowest validation loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.config.registry import StageSpec
from ecr_jax.data.schema import MOVIE, Role, Split
from ecr_jax.features.batch_spec import Example
from ecr_jax.features.batches import Batches, InMemoryExamples, bucket_shapes
from ecr_jax.features.instances import REVIEW
from ecr_jax.features.tokenizer import DialogueTokenizer
from ecr_jax.inference.decoding import Decoding
from ecr_jax.inference.responses import EmotionalResponder, Generator, prompt_tokens
from ecr_jax.knowledge.reviews import Review, response_prompt
from ecr_jax.models.lm import lora
from ecr_jax.models.lm.sharding_rules import language_model_rules
from ecr_jax.pretrained.language_models import Pretrained
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.training import sharding
from ecr_jax.training.evaluation import language_model_loss, mean_loss
from ecr_jax.training.loop import fit


def language_model(experiment: ExperimentContext) -> tuple[Pretrained, DialogueTokenizer]:
    """The stage's language model and its tokenizer."""
    settings = experiment.config.response
    return experiment.language_model(settings.language_model, None, dtype=settings.dtype, quantize=settings.quantize)


def first_sentences(experiment: ExperimentContext) -> list[str]:
    """Recommender utterances of the train split with one `<movie>`: templates of the prompt's first sentence.

    ECR's released code also fills templates instead of the real u^r of Eq. 8; its template file is not published.

    Their length is bounded by `response.min_sentence_words` and `max_sentence_words`. Distinct and sorted.
    """
    settings = experiment.config.response
    utterances = {
        turn.masked()
        for conversation in experiment.corpus.split(Split.TRAIN)
        for turn in conversation.turns
        if turn.role == Role.RECOMMENDER
    }
    return sorted(
        text
        for text in utterances
        if text.count(MOVIE) == 1 and settings.min_sentence_words <= len(text.split()) <= settings.max_sentence_words
    )


def examples(
    experiment: ExperimentContext, tokenizer: DialogueTokenizer, reviews: Sequence[Review]
) -> InMemoryExamples:
    """One example of `features.instances.REVIEW` for each review."""
    config, templates = experiment.config.response, first_sentences(experiment)
    arrays: list[Example] = []
    for index, review in enumerate(reviews):
        rng = np.random.default_rng((experiment.config.seed, index))
        first = templates[rng.integers(len(templates))].replace(MOVIE, review.title) if templates else review.title
        text = response_prompt(
            review.title, review.entities[: config.entities], review.triples[: config.triples], first
        )
        prompt_ids = prompt_tokens(tokenizer, text, config.max_prompt)
        # A review that is cut has no end token: the model does not learn to stop in the middle.
        review_ids = [*tokenizer.encode([review.text])[0], tokenizer.end][: config.max_review]
        loss_mask = np.arange(len(prompt_ids) + len(review_ids)) >= len(prompt_ids)
        arrays.append({"tokens": np.asarray(prompt_ids + review_ids, np.int32), "loss_mask": loss_mask})
    return InMemoryExamples(REVIEW, arrays)


def responder(experiment: ExperimentContext) -> EmotionalResponder:
    """The generator of emotional responses with the trained adapter.

    Raises:
      ValueError: the stage is not trained.
    """
    settings = experiment.config.response
    adapter = jax.tree.map(jnp.asarray, experiment.params("response"))["adapter"]
    model, tokenizer = language_model(experiment)
    decoding = Decoding(
        max_new=settings.max_review,
        min_new=min(settings.min_reply, settings.max_review),
        no_repeat_ngram=settings.no_repeat_ngram,
    )
    variables = lora.for_inference(model.params, adapter, settings.adapter)
    return EmotionalResponder(Generator(model.module, variables, tokenizer, decoding, settings.max_prompt))


def train(experiment: ExperimentContext, spec: StageSpec) -> None:
    """Fine-tunes the generator of emotional responses.

    Raises:
      ValueError: the prepared corpus has no reviews.
    """
    config, reviews = experiment.config.response, experiment.corpus.reviews
    if not len(reviews):
        raise ValueError("the prepared corpus has no reviews; set corpus.reviews and prepare again")
    model, tokenizer = language_model(experiment)
    module = model.module.clone(adapter_dropout=config.adapter.dropout, remat=config.remat)
    training = examples(experiment, tokenizer, reviews.of_split(Split.TRAIN))
    validation = examples(experiment, tokenizer, reviews.of_split(Split.VALID)[: config.valid_examples])
    limit, size = config.max_prompt + config.max_review, config.train.batch_size
    shapes = bucket_shapes([training, validation], {"T": (limit // 2, 3 * limit // 4, limit)})

    def loss(params, frozen, batch, key):
        variables = lora.variables(frozen["language_model"], params["adapter"], config.adapter)
        return language_model_loss(module, variables, batch, key)

    fit(
        experiment.folder(spec),
        params={"adapter": lora.init(experiment.key(spec), model.params, config.adapter)},
        frozen={"language_model": model.params},
        loss=loss,
        batches=Batches(training, shapes, size, seed=config.train.seed),
        evaluate=mean_loss(loss, Batches.in_order(validation, shapes, size)),
        select="loss",
        mode="min",
        config=config.train,
        rules=(*language_model_rules(model.config, "language_model|adapter"), *sharding.REPLICATED),
        record=experiment.record(spec),
    )
