"""The recommender as its stages, the evaluation and the chat use it: model, frozen arrays, forward pass, ranking."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track

from ecr_jax import metrics
from ecr_jax.config import Config
from ecr_jax.data.schema import Split
from ecr_jax.features.batches import Batches, Field, bucket_shapes, pad_batch
from ecr_jax.features.examples import (
    Dialogue,
    Examples,
    Row,
    TargetExamples,
    Utterance,
    fields,
    recommended,
    target_fields,
)
from ecr_jax.features.text_states import States
from ecr_jax.features.tokenizer import DialogueTokenizer
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.models.heads import Scores, facts_of, ranking_scores
from ecr_jax.models.layers import last_state
from ecr_jax.models.lm.language_model import Cache, context_cache, read_last
from ecr_jax.models.prompt import EntityTable, Prefix, PromptSizes, Task
from ecr_jax.models.recommender import Recommender
from ecr_jax.models.rgcn import graphs_tuple
from ecr_jax.runs.context import ExperimentContext

READ_LIMIT = 4 * 2**30
"""Bytes of read contexts that are kept in memory; where they would be more, each step reads its own again."""

FACTS_PER_ITEM = 24
"""Facts of an item that are walked over; of more the rarest are kept."""

Rank = Callable[[Iterable[dict]], Iterator[tuple[dict, np.ndarray]]]
"""Batches -> each with what every item is ranked by (`ranking_scores`), float32 [B, I]."""


@dataclass(frozen=True)
class Parts:
    """A recommender without its parameters.

    Attributes:
      model: prompt encoder and heads.
      language_model: the frozen language model's module.
      words: its tokenizer.
      frozen: arrays that no stage of the recommender trains: `language_model`, `graph`, `facts`, `item_prior` and,
        where it is used, `entity_text`.
      items: int [I] ids of the candidates, rising.
      prefix_visibility: which tokens see the prefix, see `RecommenderConfig`.
    """

    model: Recommender
    language_model: Any
    words: DialogueTokenizer
    frozen: dict
    items: np.ndarray
    prefix_visibility: str


def prompt_sizes(graph: KnowledgeGraph, language_model: Any, token_width: int) -> PromptSizes:
    """The sizes of the prompt encoder for a graph, a language model (its config) and a text encoder's width."""
    return PromptSizes(
        entities=len(graph),
        relations=len(graph.relations),
        width=language_model.width,
        layers=language_model.layers,
        kv_heads=language_model.kv_heads,
        head_dim=language_model.head_dim,
        token_width=token_width,
    )


def graph_arrays(experiment: ExperimentContext, wanted: np.ndarray | None = None) -> dict:
    """The frozen arrays of the graph (see `graphs_tuple`): `graph` and, where it is used, `entity_text` [N + 1, Dt]."""
    graph = experiment.prepared.graph
    arrays: dict = {"graph": graphs_tuple(*graph.message_edges(), len(graph) + 1, wanted)}
    if experiment.config.recommender.chosen("entity_text"):
        arrays["entity_text"] = experiment.entity_text
    return arrays


def training_entities(experiment: ExperimentContext) -> np.ndarray:
    """The entities that training dialogues mention, the items and the padding entity: all that a step may ask for."""
    said = [
        entity for dialogue in experiment.dialogues(Split.TRAIN) for turn in dialogue.turns for entity in turn.entities
    ]
    graph = experiment.prepared.graph
    return np.union1d(np.asarray([*said, len(graph)], np.int32), graph.items)


def all_entities(made: Parts) -> np.ndarray:
    """The ids of all entities, rising; where nothing is masked, as released, the padding entity is one of them."""
    return np.arange(made.model.sizes.entities + (not made.model.prompt.masked), dtype=np.int32)


def item_counts(experiment: ExperimentContext) -> np.ndarray:
    """How often each entity is recommended in the train split, add-half. float64 [N + 1]."""
    counts = np.full(len(experiment.prepared.graph) + 1, 0.5)
    for item, number in recommended(experiment.dialogues(Split.TRAIN)).items():
        counts[item] += number
    return counts


def parts(experiment: ExperimentContext) -> Parts:
    """Builds the recommender of an experiment."""
    settings, graph = experiment.config.recommender, experiment.prepared.graph
    pretrained, words = experiment.language_model(settings.language_model, settings.layers)
    encoder, _ = experiment.encoder
    sizes = prompt_sizes(graph, pretrained.config, encoder.config.width)
    model = Recommender(settings.prompt, sizes, settings.heads)
    frozen = {
        "language_model": pretrained.params,
        "item_prior": np.log(2 * item_counts(experiment)).astype(np.float32),
        "facts": facts_of(graph.triples, graph.items, len(graph), len(graph.relations), FACTS_PER_ITEM),
        **graph_arrays(experiment),
    }
    items = np.asarray(graph.items, np.int32)
    return Parts(model, pretrained.module, words, frozen, items, settings.chosen("prefix_visibility"))


def scores(
    made: Parts,
    params: dict,
    frozen: dict,
    batch: dict,
    items: jax.Array,
    task: Task,
    key: jax.Array | None = None,
    table: EntityTable | None = None,
) -> Scores:
    """Scores of `items` [I] for each row. `key` turns dropout on; `table`, where it is known."""
    language_model = functools.partial(_read, made, frozen["language_model"])
    given = batch, items, task, language_model, *_constants(frozen, task)
    if table is not None:
        return made.model.apply({"params": params}, table, *given, method="rank")
    rngs = None if key is None else {"dropout": key}
    return made.model.apply(
        {"params": params}, frozen["graph"], *given, entity_text=frozen.get("entity_text"), rngs=rngs
    )


def _constants(frozen: dict, task: Task) -> tuple[Any, Any]:
    """The items' prior and facts, as a task uses them."""
    return frozen["item_prior"], frozen["facts"] if task == "recommendation" else None


def _read(made: Parts, params: dict, batch: dict, prefix: Prefix) -> jax.Array:
    """The language model's state [B, D] of the last context token, behind the prefix."""
    module, tokens, mask = made.language_model, batch["tokens"], batch["token_mask"]
    layers = prefix.keys, prefix.values
    if made.prefix_visibility == "all":
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


def init(made: Parts, key: jax.Array, batch: dict, items: np.ndarray, task: Task) -> dict:
    """New parameters for a task."""
    build = jax.jit(
        lambda key, frozen: made.model.init(
            {"params": key},
            frozen["graph"],
            batch,
            items,
            task,
            None,
            *_constants(frozen, task),
            entity_text=frozen.get("entity_text"),
        )["params"]
    )
    return build(key, {name: value for name, value in made.frozen.items() if name != "language_model"})


def transfer(new: dict, old: dict) -> dict:
    """`new` with the leaves of `old` that have the same path and shape: what one stage hands to the next."""
    if not isinstance(new, dict):
        return old if np.shape(old) == np.shape(new) else new
    return {name: transfer(value, old[name]) if name in old else value for name, value in new.items()}


def examples(
    experiment: ExperimentContext,
    words: DialogueTokenizer,
    split: Split,
    spoken: Sequence[Dialogue],
    rows: Sequence[Row],
    answer: Callable[[Dialogue, int], Utterance] | None = None,
    states: States | None = None,
) -> TargetExamples:
    """The examples of rows of a split's first dialogues.

    Args:
      experiment: the experiment.
      words: the language model's tokenizer.
      split: which.
      spoken: its dialogues, as many as are wanted.
      rows: theirs.
      answer: a turn that is read after each context, see `Examples`.
      states: of all that is read, where it is not the corpus alone.
    """
    weights = experiment.config.recommendation.weights
    by_feedback = {"like": weights.like, "dislike": weights.dislike, "unsaid": weights.unsaid}
    given = spoken, rows, experiment.featurizer(words, states), split == Split.TRAIN, answer
    return TargetExamples(*given, weights=by_feedback, counts=item_counts(experiment))


def context_batch(experiment: ExperimentContext, contexts: Sequence[dict]) -> dict:
    """One batch of contexts, all of them rows of the longest shape."""
    settings, padding = experiment.config.recommender, fields(len(experiment.prepared.graph))
    shape = {"T": settings.max_tokens, "S": settings.max_states, "E": settings.max_entities}
    return pad_batch(contexts, range(len(contexts)), padding, shape, len(contexts))


def read_bytes(made: Parts, contexts: int, tokens: int) -> int:
    """Memory that `CachedContexts` takes for so many contexts of so many tokens."""
    model = made.language_model.config
    return 2 * model.layers * model.kv_heads * model.head_dim * 2 * tokens * contexts


class CachedContexts(Sequence):
    """Examples with what the frozen language model made of their contexts: `past` float16 [2, L, Hkv, T, Dh].

    Computed once, in the buckets that training will use, it spares every later step the forward pass over the context.
    """

    def __init__(self, examples: Examples, over: Batches, made: Parts, known: dict[bytes, np.ndarray]):
        """`known`: what was read before with the same language model, by tokens; what is read now is added to it."""
        self.examples, self.past = examples, [np.zeros(0)] * len(examples)
        read = jax.jit(
            lambda params, tokens, mask: context_cache(made.language_model, params, tokens, mask, jnp.float16)[:2]
        )
        params = jax.device_put(made.frozen["language_model"])
        for batch in track(over, total=len(over), description="read contexts"):
            lengths = batch["token_mask"].sum(axis=1)
            texts = {
                place: batch["tokens"][place, : lengths[place]].tobytes()
                for place in np.flatnonzero(batch["example_mask"])
            }
            if not known.keys() >= set(texts.values()):
                keys, values = (np.asarray(part) for part in read(params, batch["tokens"], batch["token_mask"]))
                for place, text in texts.items():
                    part = slice(0, lengths[place])
                    known[text] = np.stack([keys[:, place, :, part], values[:, place, :, part]])
            for place, text in texts.items():
                self.past[int(batch["example"][place])] = known[text]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict:
        return self.examples[index] | {"past": self.past[index]}


def shapes(experiment: ExperimentContext, *sets: Examples) -> tuple[dict[str, int], ...]:
    """The two length buckets that serve all of these examples."""
    every = [example for examples in sets for example in examples]
    limit = experiment.config.recommender.max_tokens
    return bucket_shapes(every, target_fields(len(experiment.prepared.graph)), {"T": (limit // 2, limit)})


def batches(
    experiment: ExperimentContext, made: TargetExamples | CachedContexts, buckets, size: int, *, seed: int | None
) -> Batches:
    """Batches of target examples; `seed` None: once, in order."""
    padding = target_fields(len(experiment.prepared.graph))
    if isinstance(made, CachedContexts):
        padding["past"] = Field(0, (None, None, None, "T", None))
    if seed is None:
        return Batches(made, padding, buckets, size, shuffle=False, epochs=1)
    return Batches(made, padding, buckets, size, seed=seed)


class Scorer:
    """Scores the items for batches of examples, with the same programs for all parameters."""

    def __init__(self, made: Parts, items: np.ndarray, task: Task):
        self.frozen = jax.device_put(made.frozen)
        self.items = jnp.asarray(items)
        self._table = jax.jit(
            lambda params, graph, text: made.model.apply({"params": params}, graph, text, method="entity_table")
        )
        self._rank = jax.jit(
            lambda params, frozen, table, batch, items: (
                ranking_scores(
                    scores(made, params, frozen, batch, items, task, table=table), made.model.heads.like_power
                )
            )
        )

    def of(self, params: dict) -> Rank:
        """Encodes the graph, once; what is returned goes over batches."""
        table = self._table(params, self.frozen["graph"], self.frozen.get("entity_text"))

        def rank(over: Iterable[dict]) -> Iterator[tuple[dict, np.ndarray]]:
            for batch in over:
                yield batch, np.asarray(self._rank(params, self.frozen, table, batch, self.items))

        return rank


def ranking_metrics(rank: Rank, over: Batches, items: np.ndarray) -> dict[str, float]:
    """Validation metrics of all targets: recall@1/10/50 and mrr@50."""
    found = []
    for batch, scores in rank(over):
        rows, slots = np.nonzero(batch["target_mask"])
        wanted = np.searchsorted(items, batch["targets"][rows, slots])
        found.append(metrics.ranks(scores[rows], wanted))
    rank = np.concatenate(found)
    return {f"recall@{k}": float(metrics.recall_at(rank, k).mean()) for k in (1, 10, 50)} | {
        "mrr@50": float(metrics.mrr_at(rank, 50).mean())
    }
