"""A stage's arrays and loss as shapes alone: what it would train, without weights, examples or earlier stages.

Sizes come from the prepared corpus and the configurations of the models; `response` needs no corpus.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.config import Config
from ecr_jax.data.prepare import PreparedCorpus
from ecr_jax.features.acts import acts_spec
from ecr_jax.features.batch_spec import BatchSpec
from ecr_jax.features.featurizer import token_fields
from ecr_jax.features.instances import LOSS_MASK, REVIEW, classifier_spec, recommendation_fields, tuned_classifier_spec
from ecr_jax.features.language_models import abstract
from ecr_jax.features.valence import VALENCES, valence_spec
from ecr_jax.inference import trie
from ecr_jax.losses.objective import Objective
from ecr_jax.manager.prompts import Instructions, prompt_text
from ecr_jax.manager.schema import choices
from ecr_jax.models import sharding_rules
from ecr_jax.models.heads import Facts, SimilarFilms
from ecr_jax.models.hyperparameters import HeadsConfig
from ecr_jax.models.lm.language_model import Params
from ecr_jax.models.prompt import Task
from ecr_jax.models.recommender import Recommender
from ecr_jax.pretrained.language_models import Pretrained
from ecr_jax.runs.caches import BoundedCache
from ecr_jax.runs.context import ExperimentContext, InMemoryEmotionLabels
from ecr_jax.stages import (
    acts,
    conversation,
    emotion,
    emotion_model,
    fusion,
    manager,
    recommendation,
    recommender,
    response,
    tuning,
    valence,
)
from ecr_jax.training import sharding
from ecr_jax.training.options import TrainConfig
from ecr_jax.training.step import Loss, Tree

MANY = 8
"""Targets, rated films and own recommendations of a row, which have no limit: few bytes beside the rest."""


_LETTERS_PER_TOKEN = 3
"""Fewest letters of English that a token of a vocabulary has on average."""
_SUMMARY = 48
"""Tokens of the summary and the question that end a manager's prompt."""


@dataclass(frozen=True)
class AbstractStage:
    """What `fit` would get, as shapes.

    Attributes:
      params, frozen: trees of `jax.ShapeDtypeStruct`.
      loss: of a batch.
      batch: shapes of the largest micro-batch.
      rules: logical axes of all arrays.
      train: the stage's settings.
    """

    params: Tree
    frozen: Tree
    loss: Loss
    batch: Mapping[str, jax.ShapeDtypeStruct]
    rules: sharding.Rules
    train: TrainConfig


def abstract_stage(config: Config, stage: str) -> AbstractStage:
    """The shapes of a stage.

    Raises:
      ValueError: a stage that is not in `STAGES`, or a corpus that is not prepared.
    """
    if stage not in STAGES:
        raise ValueError(f"the shapes of {stage!r} are not known; choose one of {', '.join(STAGES)}")
    return STAGES[stage](config)


def _abstract(tree: Tree) -> Tree:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), jax.dtypes.canonicalize_dtype(leaf.dtype)), tree
    )


def _batch(spec: BatchSpec, train: TrainConfig, **lengths: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a micro-batch."""
    needed = {axis: lengths.get(axis, MANY) for axis in spec.axes}
    rows = train.batch_size // train.accumulation
    return {
        name: jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype)
        for name, array in spec.zeros(1, needed).items()
    }


def _key() -> jax.Array:
    return cast(jax.Array, jax.eval_shape(lambda: jax.random.key(0)))


@dataclass(frozen=True)
class _Encoder:
    """The text encoder as shapes, in place of a `TextEncoder`."""

    model: Pretrained

    @property
    def width(self) -> int:
        return self.model.config.width


def _context(config: Config, *, reads_corpus: bool) -> ExperimentContext:
    """A context without weights, and without a corpus where none is read."""
    return ExperimentContext(
        config,
        corpus=PreparedCorpus.open(config.prepared_folder) if reads_corpus else cast(Any, None),
        encoder=cast(Any, _Encoder(abstract(config.encoder.name))),
        language_models=cast(Any, None),
        emotions=InMemoryEmotionLabels({}),
        cache=BoundedCache(1),
        context_cache=BoundedCache(1),
    )


def _emotion(config: Config) -> AbstractStage:
    experiment, settings = _context(config, reads_corpus=False), config.emotion
    model, frozen = emotion_model.emotion_model(experiment), emotion_model.frozen_arrays(experiment)
    width = experiment.encoder.width
    spec = classifier_spec(width) if settings.adapter is None else tuned_classifier_spec()
    params = jax.eval_shape(lambda key, frozen: model.init(key, width, frozen), _key(), frozen)
    batch = _batch(spec, settings.train, T=config.encoder.turn_tokens)
    rules = sharding_rules.emotion_rules(experiment.encoder.model.config)
    return AbstractStage(params, frozen, emotion.classifier_loss(model), batch, rules, settings.train)


def _acts(config: Config) -> AbstractStage:
    experiment = _context(config, reads_corpus=False)
    model, spec, train = acts.classifier(experiment), acts_spec(experiment.encoder.width), config.acts.train
    params = jax.eval_shape(model.init, _key(), spec.zeros(1)["state"])["params"]
    rules = sharding_rules.classifier_rules()
    return AbstractStage(params, {}, acts.act_loss(model), _batch(spec, train), rules, train)


def _valence(config: Config) -> AbstractStage:
    settings, experiment = config.valence, _context(config, reads_corpus=False)
    model, spec = valence.valence_model(experiment), valence_spec(experiment.encoder.width)
    params = jax.eval_shape(lambda key: valence.init(model, key, spec, settings.folds), _key())
    loss = valence.fold_loss(model, np.ones(len(VALENCES)), settings.folds)
    batch = _batch(spec, settings.train, T=3 * config.encoder.turn_tokens)
    return AbstractStage(params, {}, loss, batch, sharding_rules.valence_rules(), settings.train)


def _graph(experiment: ExperimentContext) -> dict[str, Any]:
    graph = experiment.corpus.graph
    arrays = {"graph": recommender.graphs_tuple(*graph.message_edges(), len(graph) + 1)}
    shapes = _abstract(arrays)
    if experiment.config.recommender.entity_text:
        shapes["entity_text"] = jax.ShapeDtypeStruct((len(graph) + 1, experiment.encoder.width), jnp.float32)
    return shapes


def _recommender(
    config: Config, heads: HeadsConfig | None, task: Task
) -> tuple[ExperimentContext, recommender.RecommenderSetup, BatchSpec, Params]:
    """The context, the recommender with shapes for its frozen arrays, its batches, and its parameters."""
    experiment, settings = _context(config, reads_corpus=True), config.recommender
    graph, heads = experiment.corpus.graph, settings.heads if heads is None else heads
    model = abstract(config.language_model, layers=settings.layers)
    entities = len(graph) + 1
    _, relations = recommender.with_genres(graph, experiment.corpus.genres)

    def table(columns: int, dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((entities, columns), dtype)

    frozen = _graph(experiment) | {
        "language_model": model.params,
        "item_prior": jax.ShapeDtypeStruct((entities,), jnp.float32),
        "item_odds": jax.ShapeDtypeStruct((entities,), jnp.float32),
        "facts": Facts(
            *(cast(jax.Array, table(settings.facts_per_item, dtype)) for dtype in (jnp.int32, jnp.int32, jnp.float32)),
            relations,
        ),
    }
    if heads.mixture and settings.entity_text:
        similar = (table(settings.similar_films, dtype) for dtype in (jnp.int32, jnp.float32))
        frozen["similar_films"] = SimilarFilms(*(cast(jax.Array, part) for part in similar))
    setup = recommender.RecommenderSetup(
        Recommender(settings.prompt, recommender.prompt_sizes(experiment, model.config), heads),
        model.module,
        cast(Any, None),
        frozen=frozen,
        items=np.asarray(graph.items, np.int32),
        prefix_visibility=settings.prefix_visibility,
    )
    context = experiment.prompt_spec if task == "fusion" else experiment.context_spec
    spec = context.extended("recommendation", *recommendation_fields(len(graph)))
    candidates = setup.items if task == "recommendation" else setup.all_entities

    def init(key: jax.Array, frozen: Params) -> Params:
        return recommender.init(dataclasses.replace(setup, frozen=frozen), key, spec.zeros(1), candidates, task)

    rest = {name: value for name, value in frozen.items() if name != "language_model"}
    return experiment, setup, spec, jax.eval_shape(init, _key(), rest)


def _lengths(config: Config) -> dict[str, int]:
    settings = config.recommender
    return {"T": settings.max_tokens, "S": settings.max_states, "E": settings.max_entities}


def _fusion(config: Config) -> AbstractStage:
    _, setup, spec, params = _recommender(config, config.fusion.heads, "fusion")
    train = config.fusion.train
    rules = sharding_rules.recommender_rules(cast(Any, setup.language_model).config)
    batch = _batch(spec, train, **_lengths(config))
    return AbstractStage(params, setup.frozen, fusion.entity_loss(setup), batch, rules, train)


def _recommendation(config: Config) -> AbstractStage:
    _, setup, spec, params = _recommender(config, None, "recommendation")
    settings = config.recommendation
    candidates = setup.items if settings.candidates == "items" else setup.all_entities
    counts = jnp.ones(len(candidates), jnp.float32)
    loss = recommendation.item_loss(setup, Objective(settings.loss), spec, candidates, counts)
    rules = sharding_rules.recommender_rules(cast(Any, setup.language_model).config)
    batch = _batch(spec, settings.train, **_lengths(config))
    return AbstractStage(params, setup.frozen, loss, batch, rules, settings.train)


def _tuned(settings: Any, model: Pretrained) -> tuple[Params, Params]:
    """The trained parameters that `tuning.initial` gives, and the frozen ones."""
    if settings.tune == "model":
        return {"language_model": model.params}, {}
    initial = jax.eval_shape(lambda key: tuning.initial(key, model, settings.tune, settings.adapter), _key())
    return initial, {"language_model": model.params}


def _conversation(config: Config) -> AbstractStage:
    settings, train = config.conversation, config.conversation.train
    model = abstract(config.language_model, layers=settings.layers, dtype=jnp.dtype(settings.dtype))
    params, frozen = _tuned(settings, model)
    if settings.tune != "model":
        params["movie"] = {"rows": jax.ShapeDtypeStruct((1, model.config.width), jnp.float32)}
    experiment = _context(config, reads_corpus=settings.prefix)
    if settings.prefix:
        encoder, frozen = conversation.prompt_encoder(experiment, model), frozen | _graph(experiment)
        spec = experiment.prompt_spec

        def init(key: jax.Array, graph: Any, text: jax.Array | None) -> Params:
            return encoder.init(key, graph, experiment.prompt_spec.zeros(1), "conversation", text)["params"]

        params["encoder"] = jax.eval_shape(init, _key(), frozen["graph"], frozen.get("entity_text"))
    else:
        spec = BatchSpec("context", token_fields())
    lengths = _lengths(config)
    lengths["T"] += settings.max_plan + settings.max_reply
    batch = _batch(spec.extended("reply", LOSS_MASK), train, **lengths)
    loss = conversation.reply_loss(experiment, model)
    return AbstractStage(params, frozen, loss, batch, sharding_rules.generator_rules(model.config), train)


def _response(config: Config) -> AbstractStage:
    settings, train = config.response, config.response.train
    model = abstract(settings.language_model, dtype=jnp.dtype(settings.dtype), quantize=settings.quantize)
    params, frozen = _tuned(settings, model)
    batch = _batch(REVIEW, train, T=settings.max_prompt + settings.max_review)
    rules = sharding_rules.generator_rules(model.config)
    return AbstractStage(params, frozen, response.review_loss(settings, model), batch, rules, train)


def _manager(config: Config) -> AbstractStage:
    """Without a tokenizer: a choice has no more tokens than bytes, and a prompt is as long as its letters say."""
    settings = config.manager
    model, experiment = abstract(config.language_model, layers=settings.layers), _context(config, reads_corpus=True)
    schema = manager.schema_of(experiment)
    every = choices(schema)
    instructions = Instructions(
        settings.schema, manager.demonstrations(experiment, settings.demonstrations), settings.summary
    )
    frozen = {"language_model": model.params}
    policy = manager.Policy(
        module=model.module,
        frozen=frozen,
        adapter=settings.adapter,
        trie=trie.build([list(str(choice).encode()) for choice in every], 256),
        schema=schema,
        choices=every,
        tokenizer=cast(Any, None),
        graph=cast(Any, None),
        instructions=instructions,
        max_tokens=settings.max_tokens,
    )
    length = len(prompt_text(schema, instructions)) // _LETTERS_PER_TOKEN + settings.max_tokens + _SUMMARY
    batch = _batch(manager.spec_of(len(every)), settings.train, T=manager.padded_width(length))
    params = jax.eval_shape(lambda key: tuning.initial(key, model, "adapter", settings.adapter), _key())
    rules = sharding_rules.generator_rules(model.config)
    return AbstractStage(params, frozen, manager.choice_loss(policy), batch, rules, settings.train)


STAGES: Mapping[str, Callable[[Config], AbstractStage]] = {
    "emotion": _emotion,
    "valence": _valence,
    "acts": _acts,
    "fusion": _fusion,
    "conversation": _conversation,
    "recommendation": _recommendation,
    "response": _response,
    "manager": _manager,
}
"""The stages whose shapes are known."""
