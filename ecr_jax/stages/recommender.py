"""The recommender that the stages, the evaluation and the chat share: model, frozen arrays, examples, forward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track

from ecr_jax.data.schema import Feedback, Split
from ecr_jax.features import batch_spec
from ecr_jax.features.batch_spec import Example, Field
from ecr_jax.features.batches import Batches, Examples, bucket_shapes, pad_batch
from ecr_jax.features.dialogues import Dialogue, recommendation_counts, seeker_ratings
from ecr_jax.features.film_text import FilmText
from ecr_jax.features.instances import ExtendedExamples, Instance, RecommenderExamples, ReplyOf
from ecr_jax.features.item_odds import ItemOdds
from ecr_jax.features.text_states import TextStates
from ecr_jax.features.tokenizer import DialogueTokenizer
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.models.heads import Facts, Scores, SimilarFilms, facts_of, ranking_scores
from ecr_jax.models.hyperparameters import LIKE_PARTS, HeadsConfig, PrefixVisibility
from ecr_jax.models.layers import last_state
from ecr_jax.models.lm.convert import LanguageConfig
from ecr_jax.models.lm.language_model import Cache, Params, context_cache, read_last
from ecr_jax.models.prompt import EntityTable, Prefix, PromptSizes, Task
from ecr_jax.models.recommender import Recommender
from ecr_jax.models.rgcn import graphs_tuple
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.training.evaluation import Scorer
from ecr_jax.training.step import Batch


@dataclass(frozen=True)
class RecommenderSetup:
    """A recommender without its trained parameters.

    Attributes:
      model: prompt encoder and heads.
      language_model: the frozen language model's module.
      tokenizer: its tokenizer.
      frozen: arrays that no stage of the recommender trains: `language_model`, `graph`, `facts`, `item_prior`,
        `item_odds` and, where they are used, `similar_films` and `entity_text`.
      items: int [I] entity ids of the candidates, sorted.
      prefix_visibility: which tokens attend to the prefix, see `RecommenderConfig`.
    """

    model: Recommender
    language_model: nn.Module
    tokenizer: DialogueTokenizer
    frozen: dict[str, Any]
    items: np.ndarray
    prefix_visibility: PrefixVisibility

    @property
    def all_entities(self) -> np.ndarray:
        """The ids of all entities, sorted; without masks, as released, the padding entity is one of them."""
        return np.arange(self.model.sizes.entities + (not self.model.prompt.masked), dtype=np.int32)


def build_recommender(experiment: ExperimentContext, heads: HeadsConfig | None = None) -> RecommenderSetup:
    """Builds the recommender of an experiment; `heads`: other scoring heads than `recommender.heads`."""
    settings, graph = experiment.config.recommender, experiment.corpus.graph
    heads = settings.heads if heads is None else heads
    pretrained, tokenizer = experiment.language_model(experiment.config.language_model, settings.layers)
    sizes = prompt_sizes(experiment, pretrained.config)
    triples, relations = with_genres(graph, experiment.corpus.genres)
    facts = facts_of(triples, graph.items, len(graph), relations, settings.facts_per_item)
    similar = {"similar_films": _similar_films(experiment)} if heads.mixture and settings.entity_text else {}
    return RecommenderSetup(
        Recommender(settings.prompt, sizes, heads),
        pretrained.module,
        tokenizer,
        frozen={
            "language_model": pretrained.params,
            "item_prior": np.log(2 * item_counts(experiment)).astype(np.float32),
            "item_odds": item_odds(experiment).log_odds().astype(np.float32),
            "facts": facts,
            **similar,
            **graph_arrays(experiment),
        },
        items=np.asarray(graph.items, np.int32),
        prefix_visibility=settings.prefix_visibility,
    )


def with_genres(graph: KnowledgeGraph, genres: np.ndarray) -> tuple[np.ndarray, int]:
    """The triples of a graph and those of its film table, which are of a relation of their own.

    Args:
      graph: the graph.
      genres: int [G, 2] pairs (film, genre).

    Returns:
      Triples int [E, 3] (head, relation, tail), and the number of relations.
    """
    relation = np.full(len(genres), len(graph.relations))
    triples = np.stack([genres[:, 0], relation, genres[:, 1]], axis=1)
    return np.concatenate([graph.triples, triples]), len(graph.relations) + 1


def _similar_films(experiment: ExperimentContext) -> SimilarFilms:
    settings, graph = experiment.config.recommender, experiment.corpus.graph
    film_text = FilmText(experiment.entity_text, np.asarray(graph.items), settings.film_text_power)
    return SimilarFilms(*map(jnp.asarray, film_text.most_similar(len(graph), settings.similar_films)))


def prompt_sizes(experiment: ExperimentContext, language_model: LanguageConfig) -> PromptSizes:
    """The sizes of the prompt encoder for a language model."""
    return prompt_sizes_of(experiment.corpus.graph, language_model, experiment.encoder.width)


def prompt_sizes_of(graph: KnowledgeGraph, language_model: LanguageConfig, token_width: int) -> PromptSizes:
    """The sizes of the prompt encoder for a graph, a language model and a text encoder of width `token_width`."""
    return PromptSizes(
        entities=len(graph),
        relations=len(graph.relations),
        width=language_model.width,
        layers=language_model.layers,
        kv_heads=language_model.kv_heads,
        head_dim=language_model.head_dim,
        token_width=token_width,
    )


def graph_arrays(experiment: ExperimentContext, entities: np.ndarray | None = None) -> dict[str, Any]:
    """The frozen arrays of the graph.

    Args:
      experiment: the experiment.
      entities: the entities whose encoding is needed, see `graphs_tuple`; None for all.

    Returns:
      `graph` and, where it is used, `entity_text` [N + 1, Dt].
    """
    graph = experiment.corpus.graph
    arrays: dict[str, Any] = {"graph": graphs_tuple(*graph.message_edges(), len(graph) + 1, entities)}
    if experiment.config.recommender.entity_text:
        arrays["entity_text"] = experiment.entity_text
    return arrays


def training_entities(experiment: ExperimentContext) -> np.ndarray:
    """The entities that a training step can need: those that training dialogues mention, items, the padding entity."""
    graph, dialogues = experiment.corpus.graph, experiment.dialogues(Split.TRAIN)
    mentioned = [entity for dialogue in dialogues for turn in dialogue.turns for entity in turn.entities]
    return np.union1d(np.asarray([*mentioned, len(graph)], np.int32), graph.items)


def item_odds(experiment: ExperimentContext) -> ItemOdds:
    """The answers of the train split's seekers about each item."""
    ratings = map(seeker_ratings, experiment.dialogues(Split.TRAIN))
    shrinkage = experiment.config.recommender.heads.odds_shrinkage
    return ItemOdds.of(ratings, len(experiment.corpus.graph), shrinkage)


def item_counts(experiment: ExperimentContext) -> np.ndarray:
    """How often each entity is recommended in the train split, plus a half. float64 [N + 1]."""
    counts = np.full(len(experiment.corpus.graph) + 1, 0.5)
    for item, number in recommendation_counts(experiment.dialogues(Split.TRAIN)).items():
        counts[item] += number
    return counts


# -------------------------------------------------------------------------------------------------------- examples


def recommender_examples(
    experiment: ExperimentContext,
    tokenizer: DialogueTokenizer,
    split: Split,
    dialogues: Sequence[Dialogue],
    instances: Sequence[Instance],
    reply: ReplyOf | None = None,
    states: TextStates | None = None,
    evidence: bool = True,
) -> RecommenderExamples:
    """The examples of instances of a split.

    Args:
      experiment: the experiment.
      tokenizer: of the language model.
      split: the split.
      dialogues: its dialogues, or the first of them.
      instances: of these dialogues.
      reply: a turn that is read after each context, see `ContextExamples`.
      states: text-encoder states of all turns that are read, where they are not those of the corpus alone.
      evidence: read what the scoring heads of the recommendation read besides the knowledge prompt.
    """
    weights = experiment.config.recommendation.weights
    return RecommenderExamples(
        dialogues,
        instances,
        experiment.featurizer(tokenizer, states, evidence=evidence),
        weights={
            Feedback.LIKE: weights.like,
            Feedback.DISLIKE: weights.dislike,
            Feedback.UNSAID: weights.unsaid,
        },
        item_counts=item_counts(experiment),
        item_odds=item_odds(experiment),
        exclude_own=split == Split.TRAIN,
        reply=reply,
    )


def recommender_shapes(experiment: ExperimentContext, *sets: Examples) -> tuple[dict[str, int], ...]:
    """Two length buckets that serve all of these examples: up to half of `recommender.max_tokens`, and up to it."""
    limit = experiment.config.recommender.max_tokens
    return bucket_shapes(sets, {"T": (limit // 2, limit)})


def context_batch(
    experiment: ExperimentContext, contexts: Sequence[Example], *, prompt_only: bool = False
) -> batch_spec.Batch:
    """One batch of contexts (the arrays of `ContextFeaturizer.arrays`), padded to the longest shape.

    Args:
      experiment: the experiment.
      contexts: with the arrays of `experiment.context_spec`, or at least those of `experiment.prompt_spec`.
      prompt_only: only what the knowledge prompt reads.
    """
    settings = experiment.config.recommender
    shape = {"T": settings.max_tokens, "S": settings.max_states, "E": settings.max_entities}
    spec = experiment.prompt_spec if prompt_only else experiment.context_spec
    return pad_batch(spec, contexts, range(len(contexts)), shape, len(contexts))


def with_cached_contexts(
    experiment: ExperimentContext,
    setup: RecommenderSetup,
    sets: Sequence[Examples],
    shapes: Sequence[dict[str, int]],
    batch_size: int,
) -> list[Examples]:
    """Examples with the frozen language model's keys and values of their contexts, where these can be used and fit.

    They are computed once, in the buckets of training, so that no training step runs the context through the language
    model. They cannot be used where all tokens attend to the prefix, and fit where they need at most
    `recommendation.context_cache_gib`; otherwise the examples are returned as they are.

    Args:
      experiment: the experiment; its `context_cache` keeps what is computed.
      setup: the recommender.
      sets: the examples, for instance of training and validation.
      shapes: the length buckets.
      batch_size: contexts in one forward pass.

    Returns:
      The sets; each example also has `past` float16 [2, L, Hkv, T, Dh].
    """
    model, settings = setup.language_model.config, experiment.config.recommender
    contexts = sum(map(len, sets))
    half_bytes = 2 * model.layers * model.kv_heads * model.head_dim * settings.max_tokens * contexts
    if setup.prefix_visibility != "last" or 2 * half_bytes > experiment.config.recommendation.context_cache_gib * 2**30:
        return list(sets)
    field = Field("past", np.float16, (2, model.layers, model.kv_heads, "T", model.head_dim),
                  meaning="the frozen language model's keys and values of the context")  # fmt: skip
    return [
        ExtendedExamples(
            examples, field, _keys_and_values(experiment, setup, Batches.in_order(examples, shapes, batch_size))
        )
        for examples in sets
    ]


def _keys_and_values(experiment: ExperimentContext, setup: RecommenderSetup, batches: Batches) -> list[np.ndarray]:
    """Keys and values of each example's context, float16 [2, L, Hkv, T, Dh]; T is the context's own length."""
    cache = experiment.context_cache
    model_key = experiment.config.language_model, experiment.config.recommender.layers
    compute = jax.jit(
        lambda params, tokens, mask: context_cache(setup.language_model, params, tokens, mask, jnp.float16)[:2]
    )
    params = jax.device_put(setup.frozen["language_model"])
    of_example: list[np.ndarray] = [np.zeros(0)] * len(batches.examples)
    for batch in track(batches, total=len(batches), description="encode contexts"):
        lengths = batch["token_mask"].sum(axis=1)
        rows = np.flatnonzero(batch["example_mask"])
        keys = {row: (*model_key, batch["tokens"][row, : lengths[row]].tobytes()) for row in rows}
        arrays = {row: array for row, key in keys.items() if (array := cache.get(key)) is not None}
        if len(arrays) < len(keys):
            k, v = (np.asarray(part) for part in compute(params, batch["tokens"], batch["token_mask"]))
            for row in keys.keys() - arrays.keys():
                real = slice(0, lengths[row])
                arrays[row] = np.stack([k[:, row, :, real], v[:, row, :, real]])
                cache.put(keys[row], arrays[row])
        for row, array in arrays.items():
            of_example[int(batch["example"][row])] = array
    return of_example


# ---------------------------------------------------------------------------------------------------- forward pass


def scores(
    setup: RecommenderSetup,
    params: Params,
    frozen: dict[str, Any],
    batch: Batch,
    candidates: jax.Array,
    task: Task,
    key: jax.Array | None = None,
    table: EntityTable | None = None,
) -> Scores:
    """Scores of candidates for each row of a batch.

    Args:
      setup: the recommender.
      params: its trained parameters.
      frozen: as `setup.frozen`.
      batch: of `RecommenderExamples`, or contexts alone.
      candidates: int [I] entity ids.
      task: "recommendation" or "fusion".
      key: of the dropout; None turns it off.
      table: the encoded entities, where they are known; otherwise the graph is encoded.
    """
    constants = _constants(frozen, task)
    language_model = functools.partial(_last_state, setup, frozen["language_model"])
    if table is not None:
        return setup.model.apply(
            {"params": params}, table, batch, candidates, task, language_model, *constants, method="rank"
        )
    return setup.model.apply(
        {"params": params},
        frozen["graph"],
        batch,
        candidates,
        task,
        language_model,
        *constants,
        entity_text=frozen.get("entity_text"),
        rngs=None if key is None else {"dropout": key},
    )


def _constants(
    frozen: dict[str, Any], task: Task
) -> tuple[jax.Array, Facts | None, jax.Array | None, SimilarFilms | None]:
    """The items' prior; for the task that uses them their facts, odds of being liked, and the films similar to them."""
    if task == "recommendation":
        return frozen["item_prior"], frozen["facts"], frozen["item_odds"], frozen.get("similar_films")
    return frozen["item_prior"], None, None, None


def _last_state(setup: RecommenderSetup, params: Params, batch: Batch, prefix: Prefix) -> jax.Array:
    """The language model's state [B, D] of the last context token, behind the prefix."""
    module, tokens, mask = setup.language_model, batch["tokens"], batch["token_mask"]
    layers = prefix.keys, prefix.values
    if setup.prefix_visibility == "all":
        return last_state(module.apply({"params": params}, tokens, mask, layers, prefix.mask).hidden, mask)
    if "past" in batch:
        keys, values = jnp.moveaxis(batch["past"].astype(prefix.keys.dtype), (1, 2), (0, 1))  # [2, L, B, Hkv, T, Dh]
        slot = ((0, 0),) * 3 + ((0, 1), (0, 0))
        before = jnp.arange(mask.shape[1])[None, :] < mask.sum(axis=1, keepdims=True) - 1
        length = jnp.asarray(mask.shape[1], jnp.int32)
        cache = Cache(jnp.pad(keys, slot), jnp.pad(values, slot), jnp.pad(before, ((0, 0), (0, 1))), length)
    else:
        cache = context_cache(module, params, tokens, mask)
    return read_last(module, params, tokens, mask, layers, prefix.mask, cache)


def init(
    setup: RecommenderSetup, key: jax.Array, batch: batch_spec.Batch, candidates: np.ndarray, task: Task
) -> Params:
    """Initial parameters for a task; of `batch`, such as `BatchSpec.zeros`, only names, shapes and dtypes are used."""

    def build(key: jax.Array, frozen: dict[str, Any]) -> Params:
        return setup.model.init(
            {"params": key},
            frozen["graph"],
            batch,
            candidates,
            task,
            None,
            *_constants(frozen, task),
            entity_text=frozen.get("entity_text"),
        )["params"]

    return jax.jit(build)(key, {name: value for name, value in setup.frozen.items() if name != "language_model"})


def scorer(setup: RecommenderSetup, candidates: np.ndarray, task: Task = "recommendation") -> Scorer:
    """Scores candidates by `ranking_scores`; the graph is encoded once for given parameters."""
    return _scorer(setup, candidates, task, lambda found: ranking_scores(found, setup.model.heads.like_power))


def liking_scorer(setup: RecommenderSetup, candidates: np.ndarray) -> Scorer | None:
    """Gives the log odds of being liked of each candidate, [B, P, I] in the order of `LIKE_PARTS`.

    None where the recommender has no like-probability head.
    """

    def parts(found: Scores) -> jax.Array:
        assert found.liking is not None
        of_parts = [getattr(found.liking, name) for name in LIKE_PARTS]
        return jnp.stack([jnp.broadcast_to(part, found.logits.shape) for part in of_parts], axis=1)

    return _scorer(setup, candidates, "recommendation", parts) if setup.model.heads.like_probability else None


def _scorer(
    setup: RecommenderSetup, candidates: np.ndarray, task: Task, result: Callable[[Scores], jax.Array]
) -> Scorer:
    def encode(params: Params, frozen: dict[str, Any]) -> EntityTable:
        variables = {"params": params}
        return setup.model.apply(variables, frozen["graph"], frozen.get("entity_text"), method="entity_table")

    def score(params: Params, frozen: dict[str, Any], table: EntityTable, batch: Batch) -> jax.Array:
        return result(scores(setup, params, frozen, batch, frozen["candidates"], task, table=table))

    return Scorer(score, setup.frozen | {"candidates": jnp.asarray(candidates)}, encode)
