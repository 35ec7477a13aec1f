"""From a dialogue to arrays: the one way for training, evaluation and chat, for the recommender and for baselines.

A `ContextFeaturizer` is a list of features, each of which contributes a few arrays of a context and declares them as
`Field`s. What is read of a context is its turns before the one to be predicted, never that turn or a later one.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ecr_jax.data.schema import Role
from ecr_jax.emotion.labels import EMOTIONS, PAD
from ecr_jax.features.batch_spec import BatchSpec, Field
from ecr_jax.features.dialogues import Context, TextContext, Utterance
from ecr_jax.features.text_states import TextStates
from ecr_jax.features.tokenizer import DialogueTokenizer, last_turns, last_turns_length
from ecr_jax.knowledge.cooccurrence import Cooccurrence
from ecr_jax.knowledge.word_graph import WordGraph

if TYPE_CHECKING:
    from ecr_jax.features.nearest_contexts import NearestContexts  # which reads instances, and so this module

Arrays = dict[str, np.ndarray]


def token_fields(vocabulary: int | None = None) -> tuple[Field, ...]:
    """The array of `TokenFeature`; `vocabulary`: number of token ids."""
    meaning = "token ids of the context's latest whole turns"
    return (Field("tokens", np.int32, ("T",), 0, "token_mask", meaning, below=vocabulary),)


def text_state_fields(width: int) -> tuple[Field, ...]:
    """The arrays of `TextStateFeature`; `width`: of the text encoder."""
    ages = "how many turns ago each state's turn was; 1 is the latest"
    return (
        Field("text_states", np.float16, ("S", width), 0, "text_mask", "states of the frozen text encoder"),
        Field("text_ages", np.int32, ("S",), 0, meaning=ages),
    )


def entity_fields(entities: int) -> tuple[Field, ...]:
    """The array of `EntityFeature`; `entities`: N, which is also the id of the padding entity."""
    meaning = "ids of the distinct entities mentioned, latest last"
    return (Field("entities", np.int32, ("E",), entities, "entity_mask", meaning, below=entities),)


def emotion_fields(per_entity: int) -> tuple[Field, ...]:
    """The arrays of `EmotionFeature`; `per_entity`: most emotions of an entity."""
    emotions = len(EMOTIONS)
    totals = "sum of the probabilities of each emotion over the seeker's turns"
    return (
        Field("emotions", np.int32, ("E", per_entity), PAD, meaning="each entity's likeliest emotions", below=emotions),
        Field("emotion_probs", np.float32, ("E", per_entity), 0, meaning="their probabilities"),
        Field("emotion_totals", np.float32, (emotions,), 0, meaning=totals),
    )


_MENTIONS = "of each entity: turns since its last mention (1: the latest turn), whether by the seeker, how often"
MENTION_FIELDS = (Field("mentions", np.int32, ("E", 3), 0, meaning=_MENTIONS),)
"""The array of `MentionFeature`."""


def neighbour_fields(entities: int, limit: int) -> tuple[Field, Field]:
    """The arrays of the global entities: the `limit` entities that are most related by emotion to each entity."""
    meaning = "entities related by emotion to each entity"
    return (
        Field("neighbours", np.int32, ("E", limit), entities, meaning=meaning, below=entities),
        Field("neighbour_weights", np.float32, ("E", limit), 0, meaning="P(y given x) of each neighbour"),
    )


def cooccurring_item_fields(entities: int, limit: int) -> tuple[Field, Field]:
    """The arrays of the `limit` items that occur most often in one dialogue with each entity."""
    meaning = "items that occur in one dialogue with each entity"
    return (
        Field("cooccurring_items", np.int32, ("E", limit), entities, meaning=meaning, below=entities),
        Field("cooccurrence_weights", np.float32, ("E", limit), 0, meaning="P(y given x) of each of these items"),
    )


def rated_item_fields(entities: int, limit: int, name: Literal["liked", "disliked"]) -> tuple[Field, Field]:
    """The arrays of the `limit` items that are liked most often where each entity is liked, or disliked."""
    meaning = f"items that are liked in dialogues in which each entity is {name}"
    return (
        Field(f"{name}_items", np.int32, ("E", limit), entities, meaning=meaning, below=entities),
        Field(f"{name}_weights", np.float32, ("E", limit), 0, meaning="how often, see `Cooccurrence.neighbours`"),
    )


def nearest_item_fields(entities: int, limit: int) -> tuple[Field, Field]:
    """The arrays of `NearestContextsFeature`."""
    meaning = "items that were recommended after the most similar training contexts"
    return (
        Field("nearest_items", np.int32, (limit,), entities, meaning=meaning, below=entities),
        Field("nearest_weights", np.float32, (limit,), 0, meaning="share of each in the scores of all items"),
    )


_VALENCE = "how the seeker felt about each entity when last naming it: -1 disliked, 1 liked, 0 where it is not known"
VALENCE_FIELDS = (Field("valence", np.float32, ("E",), 0, meaning=_VALENCE),)
"""The array of `ValenceFeature`."""


class ContextFeature(abc.ABC):
    """A few arrays of a context."""

    fields: tuple[Field, ...]

    def preload(self, turns: Iterable[Utterance]) -> None:  # noqa: B027 - most features have nothing to prepare
        """Does once what many contexts of these turns need, such as tokenising them."""

    @abc.abstractmethod
    def lengths(self, context: Context) -> dict[str, int]:
        """The length of each axis of the arrays, without building them."""

    @abc.abstractmethod
    def arrays(self, context: Context, exclude: int | None) -> Arrays:
        """The arrays. `exclude`: index of the training dialogue whose own co-occurrence counts are left out."""


class TokenFeature(ContextFeature):
    """Token ids of the latest whole turns, for a language model."""

    def __init__(self, tokenizer: DialogueTokenizer, limit: int):
        self.tokenizer, self.limit = tokenizer, limit
        self.fields = token_fields(tokenizer.vocabulary)
        self._preloaded: dict[tuple[Role, str], list[int]] = {}

    def preload(self, turns: Iterable[Utterance]) -> None:
        keys = list(dict.fromkeys((turn.role, turn.text) for turn in turns if turn.text))
        self._preloaded |= dict(zip(keys, self.tokenizer.encode_turns(keys), strict=True))

    def _turns(self, context: Context) -> list[list[int]]:
        keys = [(turn.role, turn.text) for turn in context.turns_read]
        missing = [key for key in keys if key not in self._preloaded]
        encoded = dict(zip(missing, self.tokenizer.encode_turns(missing), strict=True)) if missing else {}
        return [encoded[key] if key in encoded else self._preloaded[key] for key in keys]

    def lengths(self, context: Context) -> dict[str, int]:
        return {"T": last_turns_length([len(turn) for turn in self._turns(context)], self.limit)}

    def arrays(self, context: Context, exclude: int | None) -> Arrays:
        return {"tokens": np.asarray(last_turns(self._turns(context), self.limit), np.int32)}


class TextStateFeature(ContextFeature):
    """The text encoder's token states of the latest whole turns."""

    def __init__(self, states: TextStates, limit: int):
        self.states, self.limit = states, limit
        self.fields = text_state_fields(states.width)

    def lengths(self, context: Context) -> dict[str, int]:
        return {"S": self.states.latest_length([turn.text_with_role for turn in context.turns_read], self.limit)}

    def arrays(self, context: Context, exclude: int | None) -> Arrays:
        texts = [turn.text_with_role for turn in context.turns_read]
        return {
            "text_states": self.states.latest(texts, self.limit),
            "text_ages": self.states.latest_ages(texts, self.limit),
        }


class EntityFeature(ContextFeature):
    """The distinct entities of the context, latest last."""

    def __init__(self, entities: int):
        """`entities`: N, the number of entities; the padding entity is N."""
        self.fields = entity_fields(entities)

    def lengths(self, context: Context) -> dict[str, int]:
        return {"E": context.entity_count}

    def arrays(self, context: Context, exclude: int | None) -> Arrays:
        return {"entities": np.asarray(context.entities, np.int32)}


class EmotionFeature(ContextFeature):
    """The emotions of each entity of the context, and of the context as a whole."""

    def __init__(self, per_entity: int):
        """`per_entity`: most emotions of an entity."""
        self.per_entity = per_entity
        self.fields = emotion_fields(per_entity)

    def lengths(self, context: Context) -> dict[str, int]:
        return {"E": context.entity_count}

    def arrays(self, context: Context, exclude: int | None) -> Arrays:
        labels = np.full((len(context.mentioned), self.per_entity), PAD, np.int32)
        probabilities = np.zeros(labels.shape, np.float32)
        for row, mentioned in enumerate(context.mentioned):
            for column, (label, probability) in enumerate(mentioned.emotions[: self.per_entity]):
                labels[row, column], probabilities[row, column] = label, probability
        totals = np.zeros(len(EMOTIONS), np.float32)
        for label, probability in (emotion for turn in context.turns_read for emotion in turn.emotions):
            totals[label] += probability
        return {"emotions": labels, "emotion_probs": probabilities, "emotion_totals": totals}


class MentionFeature(ContextFeature):
    """When, by whom and how often each entity of the context was mentioned."""

    fields = MENTION_FIELDS

    def lengths(self, context: Context) -> dict[str, int]:
        return {"E": context.entity_count}

    def arrays(self, context: Context, exclude: int | None) -> Arrays:
        rows = [(mentioned.turns_ago, mentioned.by_seeker, mentioned.mentions) for mentioned in context.mentioned]
        return {"mentions": np.asarray(rows, np.int32).reshape(-1, 3)}


class ValenceFeature(ContextFeature):
    """How the seeker feels about each entity of the context."""

    fields = VALENCE_FIELDS

    def lengths(self, context: Context) -> dict[str, int]:
        return {"E": context.entity_count}

    def arrays(self, context: Context, exclude: int | None) -> Arrays:
        return {"valence": np.asarray([mentioned.valence for mentioned in context.mentioned], np.float32)}


class CooccurrenceFeature(ContextFeature):
    """The entities that most often occur with each entity of the context in training dialogues."""

    def __init__(self, cooccurrence: Cooccurrence, fields: tuple[Field, Field], power: float = 1.0):
        """Prepares the feature.

        Args:
          cooccurrence: counts of the train split.
          fields: of the ids and of the weights, such as `neighbour_fields`.
          power: see `Cooccurrence.neighbours`.
        """
        self.cooccurrence, self.fields, self.power = cooccurrence, fields, power
        (_, self.limit) = fields[0].axes

    def lengths(self, context: Context) -> dict[str, int]:
        return {"E": context.entity_count}

    def arrays(self, context: Context, exclude: int | None) -> Arrays:
        entities = np.asarray(context.entities, np.int32)
        ids, weights = self.cooccurrence.neighbours(entities, self.limit, exclude, self.power)
        return {field.name: array for field, array in zip(self.fields, (ids, weights), strict=True)}


class NearestContextsFeature(ContextFeature):
    """The items that were recommended after the most similar contexts of other training dialogues."""

    def __init__(self, nearest: NearestContexts, entities: int, limit: int):
        """`entities`: N, the number of entities; `limit`: most items."""
        self.nearest, self.limit = nearest, limit
        self.fields = nearest_item_fields(entities, limit)
        # A training context is read once an epoch; finding its neighbours takes longer than reading all the rest.
        self._found: dict[tuple[TextContext, int | None], Arrays] = {}

    def lengths(self, context: Context) -> dict[str, int]:
        return {}

    def arrays(self, context: Context, exclude: int | None) -> Arrays:
        key = TextContext.of(context.turns), exclude
        if key not in self._found:
            self._found[key] = self._find(*key)
        return self._found[key]

    def _find(self, context: TextContext, exclude: int | None) -> Arrays:
        arrays = {field.name: np.full(self.limit, field.pad, field.dtype) for field in self.fields}
        scores = self.nearest.scores([context], exclude)
        real = scores.data > 0
        values, items = scores.data[real], self.nearest.items[scores.indices[real]]
        best = np.lexsort((items, -values))[: self.limit]
        arrays["nearest_items"][: len(best)] = items[best]
        arrays["nearest_weights"][: len(best)] = values[best] / max(values.sum(), 1e-12)
        return arrays


class FilmSequenceFeature(ContextFeature):
    """Positions among the items of the latest distinct films mentioned, latest last."""

    def __init__(self, items: Sequence[int] | np.ndarray, limit: int):
        self.limit = limit
        self._position = {int(item): position for position, item in enumerate(items)}
        meaning = "positions among the items of the films mentioned, latest last"
        self.fields = (
            Field("films", np.int32, ("E",), len(self._position), "film_mask", meaning, below=len(self._position)),
        )

    def lengths(self, context: Context) -> dict[str, int]:
        films = {entity for turn in context.turns for entity in turn.entities if entity in self._position}
        return {"E": min(self.limit, len(films))}

    def arrays(self, context: Context, exclude: int | None) -> Arrays:
        latest: dict[int, None] = {}
        for entity in (entity for turn in context.turns for entity in turn.entities if entity in self._position):
            latest.pop(self._position[entity], None)
            latest[self._position[entity]] = None
        return {"films": np.asarray(list(latest)[-self.limit :], np.int32)}


class WordFeature(ContextFeature):
    """The latest distinct words of a word graph, latest last."""

    def __init__(self, word_graph: WordGraph, limit: int):
        self.word_graph, self.limit = word_graph, limit
        words, meaning = len(word_graph.words), "ids of the distinct words, latest last"
        self.fields = (Field("words", np.int32, ("W",), words, "word_mask", meaning, below=words),)
        self._preloaded: dict[str, tuple[int, ...]] = {}

    def preload(self, turns: Iterable[Utterance]) -> None:
        self._preloaded |= {turn.masked: self._words(turn.masked) for turn in turns}

    def _words(self, text: str) -> tuple[int, ...]:
        known = self._preloaded.get(text)
        return tuple(self.word_graph.ids([text], len(self.word_graph.words)).tolist()) if known is None else known

    def lengths(self, context: Context) -> dict[str, int]:
        return {"W": min(self.limit, len({word for turn in context.turns for word in self._words(turn.masked)}))}

    def arrays(self, context: Context, exclude: int | None) -> Arrays:
        latest: dict[int, None] = {}
        for word in (word for turn in context.turns for word in self._words(turn.masked)):
            latest.pop(word, None)
            latest[word] = None
        return {"words": np.asarray(list(latest)[-self.limit :], np.int32)}


@dataclass(frozen=True)
class ContextLimits:
    """Most of each thing that is read of a context.

    Attributes:
      tokens, states, entities: tokens, text-encoder states, distinct entities.
      emotions, neighbours, cooccurring_items: of each entity.
    """

    tokens: int
    states: int
    entities: int
    emotions: int
    neighbours: int
    cooccurring_items: int


@dataclass(frozen=True)
class EvidenceLimits:
    """Most of each thing that is read of the `Evidence`.

    Attributes:
      rated_items: items that are liked where an entity is liked, or disliked.
      nearest_items: items of the nearest training contexts.
    """

    rated_items: int
    nearest_items: int


@dataclass(frozen=True)
class Evidence:
    """What the recommender reads of the train split, besides what the knowledge prompt reads.

    Attributes:
      liked, disliked: items that are liked where an entity is liked, or disliked (`count_rated_pairs`).
      nearest: the training contexts.
    """

    liked: Cooccurrence
    disliked: Cooccurrence
    nearest: NearestContexts


class ContextFeaturizer:
    """Turns contexts into arrays, by a list of features."""

    def __init__(self, features: Sequence[ContextFeature], max_entities: int):
        """`max_entities`: most distinct entities of a context, the latest."""
        self.features, self.max_entities = tuple(features), max_entities
        self.spec = BatchSpec("context", tuple(field for feature in features for field in feature.fields))

    def preload(self, turns: Iterable[Utterance]) -> None:
        """Prepares for many contexts of these turns; the arrays are the same without."""
        turns = list(turns)
        for feature in self.features:
            feature.preload(turns)

    def context(self, turns: Sequence[Utterance], reply: Utterance | None = None) -> Context:
        """The context of turns; `reply` is read after them, see `Context`."""
        return Context(tuple(turns), self.max_entities, reply)

    def lengths(self, context: Context) -> dict[str, int]:
        """The length of the context's arrays on each axis, without building them."""
        lengths = dict.fromkeys(self.spec.axes, 0)
        for feature in self.features:
            for axis, length in feature.lengths(context).items():
                lengths[axis] = max(lengths[axis], length)
        return lengths

    def arrays(self, context: Context, exclude: int | None = None) -> Arrays:
        """The arrays of `spec` for one context.

        Args:
          context: from `context`.
          exclude: index of the training dialogue whose own co-occurrence counts are left out (no leakage).
        """
        return {name: array for feature in self.features for name, array in feature.arrays(context, exclude).items()}


def prompt_featurizer(
    tokenizer: DialogueTokenizer,
    states: TextStates,
    emotion_cooccurrence: Cooccurrence,
    cooccurrence: Cooccurrence,
    limits: ContextLimits,
    power: float = 1.0,
) -> ContextFeaturizer:
    """The featurizer of the stages fusion and conversation: what the knowledge prompt and the language model read.

    Args:
      tokenizer: of the language model.
      states: the text encoder's states of all turns that will be read.
      emotion_cooccurrence: entities related by emotion, the global entities.
      cooccurrence: items that occur in one dialogue with an entity.
      limits: how much is read.
      power: of the counts of co-occurring items, see `Cooccurrence.neighbours`.
    """
    entities = emotion_cooccurrence.n_entities
    features = (
        TokenFeature(tokenizer, limits.tokens),
        TextStateFeature(states, limits.states),
        EntityFeature(entities),
        EmotionFeature(limits.emotions),
        MentionFeature(),
        CooccurrenceFeature(emotion_cooccurrence, neighbour_fields(entities, limits.neighbours)),
        CooccurrenceFeature(cooccurrence, cooccurring_item_fields(entities, limits.cooccurring_items), power),
    )
    return ContextFeaturizer(features, limits.entities)


def recommender_featurizer(
    prompt: ContextFeaturizer, evidence: Evidence, limits: EvidenceLimits, power: float = 1.0
) -> ContextFeaturizer:
    """The featurizer of the recommender: that of the knowledge prompt, and what the scoring heads read besides.

    Args:
      prompt: from `prompt_featurizer`.
      evidence: of the train split.
      limits: how much is read.
      power: of the counts, see `Cooccurrence.neighbours`.
    """
    entities = evidence.liked.n_entities
    features = (
        *prompt.features,
        ValenceFeature(),
        CooccurrenceFeature(evidence.liked, rated_item_fields(entities, limits.rated_items, "liked"), power),
        CooccurrenceFeature(evidence.disliked, rated_item_fields(entities, limits.rated_items, "disliked"), power),
        NearestContextsFeature(evidence.nearest, entities, limits.nearest_items),
    )
    return ContextFeaturizer(features, prompt.max_entities)


def prompt_spec(entities: int, token_width: int, limits: ContextLimits, vocabulary: int | None = None) -> BatchSpec:
    """The spec of `prompt_featurizer`, from sizes alone.

    Args:
      entities: N.
      token_width: width of the text encoder.
      limits: how much is read.
      vocabulary: number of token ids, for toy batches.
    """
    return BatchSpec(
        "context",
        (
            *token_fields(vocabulary),
            *text_state_fields(token_width),
            *entity_fields(entities),
            *emotion_fields(limits.emotions),
            *MENTION_FIELDS,
            *neighbour_fields(entities, limits.neighbours),
            *cooccurring_item_fields(entities, limits.cooccurring_items),
        ),
    )


def recommender_spec(prompt: BatchSpec, entities: int, limits: EvidenceLimits) -> BatchSpec:
    """The spec of `recommender_featurizer`, from that of `prompt_featurizer` and sizes."""
    return prompt.extended(
        "context",
        *VALENCE_FIELDS,
        *rated_item_fields(entities, limits.rated_items, "liked"),
        *rated_item_fields(entities, limits.rated_items, "disliked"),
        *nearest_item_fields(entities, limits.nearest_items),
    )
