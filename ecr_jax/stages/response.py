"""Stage `response`: the emotional response u^e, a continuation with feeling that is bound to facts (ECR Eqs. 8-9).

Data: top-rated reviews of films with their entities and triples. Trains a language model, by a LoRA adapter or as a
whole, to write the review after the prompt [movie, entities, triples, feeling, first sentence]. Loss: next-token
cross-entropy over the review. Selects by the lowest validation loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.config import ResponseConfig
from ecr_jax.config.registry import StageSpec
from ecr_jax.data.acts import ActName
from ecr_jax.data.schema import MOVIE, Role, Split
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.features.batch_spec import Example
from ecr_jax.features.batches import Batches, InMemoryExamples, bucket_shapes
from ecr_jax.features.instances import REVIEW
from ecr_jax.features.tokenizer import DialogueTokenizer, with_role
from ecr_jax.inference.decoding import Decoding
from ecr_jax.inference.writing import EmotionalRequest, EmotionalWriter, Generator, emotional_prompt
from ecr_jax.knowledge.reviews import Review, pieces
from ecr_jax.models.sharding_rules import generator_rules
from ecr_jax.pretrained.language_models import Pretrained
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import emotion_model, tuning
from ecr_jax.training.evaluation import language_model_loss, mean_loss
from ecr_jax.training.loop import fit
from ecr_jax.training.step import Loss


def language_model(experiment: ExperimentContext, *, on_host: bool = False) -> tuple[Pretrained, DialogueTokenizer]:
    """The stage's language model and its tokenizer; `on_host` as of `pretrained.language_models.load`."""
    settings = experiment.config.response
    return experiment.language_model(
        settings.language_model, None, dtype=settings.dtype, quantize=settings.quantize, on_host=on_host
    )


def first_sentences(experiment: ExperimentContext) -> list[str]:
    """Recommendations of the train split with one `<movie>`: templates of the prompt's first sentence.

    ECR's released code also fills templates instead of the real u^r of Eq. 8; its template file is not published.

    Their length is bounded by `response.min_sentence_words` and `max_sentence_words`. Distinct and sorted.
    """
    settings = experiment.config.response
    utterances = {
        turn.masked()
        for conversation in experiment.corpus.split(Split.TRAIN)
        for turn in conversation.turns
        if turn.role == Role.RECOMMENDER and (not turn.acts or any(act.name == ActName.RECOMMEND for act in turn.acts))
    }
    return sorted(
        text
        for text in utterances
        if text.count(MOVIE) == 1 and settings.min_sentence_words <= len(text.split()) <= settings.max_sentence_words
    )


def examples(
    experiment: ExperimentContext, tokenizer: DialogueTokenizer, reviews: Sequence[Review]
) -> InMemoryExamples:
    """One example of `features.instances.REVIEW` for each review, or for each piece of `response.sentences`.

    Its tone is the emotion that the review is labelled with; where no review has a label, what the classifier of the
    stage `emotion` finds in it. A review answers nobody: in half of the prompts the seeker feels something that is
    drawn at random, so that the writer has seen such prompts; how to answer a feeling is in the tone.
    """
    config, templates = experiment.config.response, first_sentences(experiment)
    if config.sentences is not None:
        reviews = [piece for review in reviews for piece in pieces(review, config.sentences)]
    tones = [review.emotion for review in reviews]
    labelled = any(review.emotion for review in experiment.corpus.reviews.reviews)
    if reviews and config.classify_emotions and not labelled:
        texts = [with_role(Role.SEEKER, review.text) for review in reviews]
        states = experiment.encode_turns(texts, label="encode reviews")
        tones = emotion_model.clear_labels(experiment, texts, states)
    arrays: list[Example] = []
    for index, (review, tone) in enumerate(zip(reviews, tones, strict=True)):
        rng = np.random.default_rng((experiment.config.seed, index))
        first = templates[rng.integers(len(templates))].replace(MOVIE, review.title) if templates else review.title
        heard = EMOTIONS[rng.integers(len(EMOTIONS))] if rng.random() < 0.5 else ""
        request = EmotionalRequest(
            review.title, review.entities[: config.entities], review.triples[: config.triples], first, heard, tone
        )
        prompt_ids = emotional_prompt(tokenizer, request, config.max_prompt, config.chat)
        # A review that is cut has no end token: the model does not learn to stop in the middle.
        review_ids = [*tokenizer.encode([review.text])[0], tokenizer.end][: config.max_review]
        learned = np.arange(len(prompt_ids) + len(review_ids)) >= (0 if config.learn_prompt else len(prompt_ids))
        arrays.append({"tokens": np.asarray(prompt_ids + review_ids, np.int32), "loss_mask": learned})
    return InMemoryExamples(REVIEW, arrays)


def writer(experiment: ExperimentContext) -> EmotionalWriter:
    """The writer of emotional responses, with the trained parameters.

    Raises:
      ValueError: the stage is not trained.
    """
    settings = experiment.config.response
    params = jax.tree.map(jnp.asarray, experiment.params("response"))
    model, tokenizer = language_model(experiment)
    decoding = Decoding(
        max_new=settings.max_review,
        min_new=min(settings.min_reply, settings.max_review),
        temperature=settings.sampling.temperature,
        min_p=settings.sampling.min_p,
        no_repeat_ngram=settings.no_repeat_ngram,
        count_prompt_ngrams=settings.count_prompt_ngrams,
    )
    variables = tuning.variables(params, {"language_model": model.params}, settings.adapter, for_inference=True)
    generator = Generator(model.module, variables, tokenizer, decoding, settings.max_prompt, experiment.config.seed)
    return EmotionalWriter(generator, settings.chat)


def review_loss(config: ResponseConfig, model: Pretrained) -> Loss:
    """Next-token cross-entropy over the reviews of a batch."""
    module = model.module.clone(adapter_dropout=config.adapter.dropout, remat=config.remat)

    def loss(params, frozen, batch, key):
        return language_model_loss(module, tuning.variables(params, frozen, config.adapter), batch, key)

    return loss


def train(experiment: ExperimentContext, spec: StageSpec) -> None:
    """Fine-tunes the generator of emotional responses.

    Raises:
      ValueError: the prepared corpus has no reviews.
    """
    config, reviews = experiment.config.response, experiment.corpus.reviews
    if not len(reviews):
        raise ValueError("the prepared corpus has no reviews; set corpus.reviews and prepare again")
    model, tokenizer = language_model(experiment, on_host=True)
    training = examples(experiment, tokenizer, reviews.of_split(Split.TRAIN))
    validation = examples(experiment, tokenizer, reviews.of_split(Split.VALID)[: config.valid_examples])
    limit, size = config.max_prompt + config.max_review, config.train.batch_size
    shapes = bucket_shapes([training, validation], {"T": (limit // 2, 3 * limit // 4, limit)})
    params = tuning.initial(experiment.key(spec), model, config.tune, config.adapter)

    loss = review_loss(config, model)
    fit(
        experiment.folder(spec),
        params=tuning.begun_with(params, config.begin_with, spec.name, config.language_model, config.adapter),
        frozen={} if config.tune == "model" else {"language_model": model.params},
        loss=loss,
        batches=Batches(training, shapes, size, seed=config.train.seed),
        evaluate=mean_loss(loss, Batches.in_order(validation, shapes, size)),
        select="loss",
        mode="min",
        config=config.train,
        rules=generator_rules(model.config),
        record=experiment.record(spec),
    )
