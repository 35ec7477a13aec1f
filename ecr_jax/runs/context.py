"""The experiment context: what the stages, the evaluation and the chat share of one experiment.

`open_experiment` gives the context of a config. Its parts are given explicitly and never reassigned; another config is
another context (`ExperimentContext.with_config`), which shares the parts that stay the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from ecr_jax.config import Config, records, registry
from ecr_jax.config.registry import StageSpec
from ecr_jax.data.prepare import PreparedCorpus
from ecr_jax.data.schema import Role, Split
from ecr_jax.emotion.annotation import Annotations, folder_of
from ecr_jax.features.batch_spec import BatchSpec
from ecr_jax.features.dialogues import Dialogue, Emotions, dialogues_of, seeker_ratings, with_valences
from ecr_jax.features.featurizer import (
    ContextFeaturizer,
    ContextLimits,
    Evidence,
    EvidenceLimits,
    prompt_featurizer,
    prompt_spec,
    recommender_featurizer,
    recommender_spec,
)
from ecr_jax.features.instances import recommendation_instances
from ecr_jax.features.language_models import LanguageModels
from ecr_jax.features.nearest_contexts import NearestContexts
from ecr_jax.features.text_states import TextEncoder, TextStates
from ecr_jax.features.tokenizer import DialogueTokenizer, with_role
from ecr_jax.features.valence import Valence, valence_of
from ecr_jax.files import read_parquet
from ecr_jax.knowledge.cooccurrence import Cooccurrence, count_rated_pairs
from ecr_jax.models.hyperparameters import QuantizationFormat
from ecr_jax.pretrained.language_models import Pretrained
from ecr_jax.runs.caches import BoundedCache
from ecr_jax.training.checkpoint import read_params

Value = TypeVar("Value")

_CACHED_VALUES = 16
"""Splits, counts, text states and entity features that contexts of one experiment keep in memory."""


@dataclass(frozen=True, eq=False)
class EmotionLabels:
    """The emotions of the seekers' turns, as the emotion stage labelled them. Read when they are first needed.

    Attributes:
      path: the stage's emotions.parquet.
    """

    path: Path

    @cached_property
    def by_turn(self) -> Mapping[tuple[str, int], Emotions]:
        """(conversation id, turn) -> emotions with probabilities, most probable first.

        Raises:
          ValueError: the emotion stage is not trained.
        """
        if not self.path.is_file():
            raise ValueError(f"{self.path} is missing; run `ecr train emotion` with this config first")
        table = read_parquet(self.path)
        columns = (table[name] for name in ("conversation", "turn", "labels", "probabilities"))
        return {
            (conversation, turn): tuple(zip(labels, probabilities, strict=True))
            for conversation, turn, labels, probabilities in zip(*columns, strict=True)
        }


@dataclass(frozen=True, eq=False)
class ValenceLabels:
    """How seekers feel about what they mention, as the stage `valence` labelled it. Read when they are first needed.

    Attributes:
      path: the stage's valence.parquet.
    """

    path: Path

    @cached_property
    def by_mention(self) -> Mapping[tuple[str, int, int], Valence]:
        """(conversation id, turn, entity id) -> valence; that of the last mention where a turn has several.

        Raises:
          ValueError: the stage `valence` is not trained.
        """
        if not self.path.is_file():
            raise ValueError(f"{self.path} is missing; run `ecr train valence` with this config first")
        table = read_parquet(self.path)
        columns = (table[name] for name in ("conversation", "turn", "entity", "like", "dislike", "unclear"))
        return {
            (conversation, turn, entity): (like, dislike, unclear)
            for conversation, turn, entity, like, dislike, unclear in zip(*columns, strict=True)
            if entity is not None
        }

    @cached_property
    def prior(self) -> Valence:
        """The classes' shares among the mentions with feedback."""
        record = json.loads((self.path.parent / "valence.json").read_text(encoding="utf-8"))
        like, dislike, unclear = record["calibration"]["prior"]
        return like, dislike, unclear

    @cached_property
    def signed(self) -> Mapping[tuple[str, int, int], float]:
        """(conversation id, turn, entity id) -> valence from -1 to 1, see `valence_of`."""
        return {mention: valence_of(label, self.prior) for mention, label in self.by_mention.items()}


@dataclass(frozen=True, eq=False)
class InMemoryEmotionLabels:
    """Emotions of turns that are in memory; used instead of `EmotionLabels`."""

    by_turn: Mapping[tuple[str, int], Emotions]


@dataclass(frozen=True, eq=False)
class ExperimentContext:
    """What the stages, the evaluation and the chat share.

    Attributes:
      config: the experiment's settings.
      corpus: the prepared corpus.
      encoder: the frozen text encoder.
      language_models: language models by name.
      emotions: the emotion labels of the corpus.
      cache: values that follow from the parts, shared by the contexts of `with_config`.
      context_cache: keys and values that frozen language models computed of contexts, by model and token ids; see
        `stages.recommender.with_cached_contexts`. Bounded by `recommendation.context_cache_gib`.
    """

    config: Config
    corpus: PreparedCorpus
    encoder: TextEncoder
    language_models: LanguageModels
    emotions: EmotionLabels | InMemoryEmotionLabels
    cache: BoundedCache[Any]
    context_cache: BoundedCache[np.ndarray]

    def with_config(self, config: Config) -> ExperimentContext:
        """The context of another config; parts that the change does not concern are the same objects."""
        emotions, path = self.emotions, _emotions_path(config)
        if isinstance(emotions, EmotionLabels) and path.resolve() != emotions.path.resolve():
            emotions = EmotionLabels(path)
        limit = _context_cache_bytes(config)
        return dataclasses.replace(
            self,
            config=config,
            corpus=self.corpus if config.prepared_folder == self.corpus.folder else _open_corpus(config),
            encoder=self.encoder if _encoder_key(config) == _encoder_key(self.config) else _open_encoder(config),
            emotions=emotions,
            context_cache=self.context_cache if limit == self.context_cache.limit else _open_context_cache(config),
        )

    # ---------------------------------------------------------------------------------------------- stages' folders

    def folder(self, stage: StageSpec | str) -> Path:
        """The folder of a stage or baseline."""
        return self.config.stage_folder(stage)

    def record(self, stage: StageSpec | str) -> dict[str, Any]:
        """What config.json of a stage's folder records: settings that its outcome follows from, and the corpus."""
        spec = registry.find(stage) if isinstance(stage, str) else stage
        manifest = self.corpus.manifest
        return records.record(self.config, spec) | {name: manifest[name] for name in ("corpus", "inputs")}

    def key(self, stage: StageSpec | str) -> jax.Array:
        """A random key for a stage's initial parameters: from the experiment's seed, the stage's own, and its name."""
        spec = registry.find(stage) if isinstance(stage, str) else stage
        train = getattr(self.config.stage_settings(spec), "train", None)  # EASE has nothing random
        digest = int.from_bytes(hashlib.sha256(spec.name.encode()).digest()[:4], "big")
        key = jax.random.key(self.config.seed)
        for number in (0 if train is None else train.seed, digest):
            key = jax.random.fold_in(key, number)
        return key

    def params(self, stage: StageSpec | str) -> dict[str, Any]:
        """The parameters that a stage learned, as numpy arrays.

        Raises:
          ValueError: the stage is not trained.
        """
        spec = registry.find(stage) if isinstance(stage, str) else stage
        path = self.folder(spec) / "params.safetensors"
        if not path.is_file():
            raise ValueError(f"{path} is missing; run `ecr train {spec.name}` with this config first")
        return read_params(path)

    # -------------------------------------------------------------------------------------------- dialogues and text

    def _cached(self, key: tuple[Hashable, ...], compute: Callable[[], Value]) -> Value:
        return self.cache.get_or_compute(key, compute)

    def dialogues(self, split: Split) -> list[Dialogue]:
        """The dialogues of a split in ids, with their emotion labels."""
        graph = self.corpus.graph
        return self._cached(
            ("dialogues", self.corpus.folder, self.emotions, split),
            lambda: dialogues_of(self.corpus.split(split), graph.ids, graph.items, self.emotions.by_turn),
        )

    def dialogues_with_valence(self, split: Split) -> list[Dialogue]:
        """The dialogues of a split with how the seeker feels about each mention, where the recommender reads it.

        Raises:
          ValueError: it is read, but the stage `valence` is not trained.
        """
        dialogues = self.dialogues(split)
        if not self.config.recommender.valence:
            return dialogues
        labels = self.valence
        key = ("dialogues with valence", self.corpus.folder, self.emotions, labels, split)
        return self._cached(key, lambda: with_valences(dialogues, labels.signed))

    @property
    def valence(self) -> ValenceLabels:
        """How the seekers' mentions are felt about, as the stage `valence` labelled them."""
        path = self.folder("valence") / "valence.parquet"
        key = ("valence", path.resolve(), path.stat().st_mtime_ns if path.is_file() else None)
        return self._cached(key, lambda: ValenceLabels(path))

    @property
    def recommended(self) -> list[int]:
        """The targets of the train split: the items of every recommender turn, as often as they are recommended."""
        instances = recommendation_instances(self.dialogues(Split.TRAIN))
        return [item for instance in instances for item, _, _ in instance.targets]

    def utterances(self, split: Split) -> list[tuple[str, tuple[int, ...]]]:
        """Utterances with their emotion ids; of the training split at most `emotion.limit`.

        Raises:
          ValueError: `emotion.annotations` is not there, or was made of another preparation of the corpus.
        """
        name = self.config.emotion.annotations
        if name is None:
            utterances = self.corpus.utterances(split)
        else:
            utterances = self._annotations(name).utterances(self.corpus.split(split))
        return utterances[: self.config.emotion.limit] if split == Split.TRAIN else utterances

    def _annotations(self, name: str) -> Annotations:
        folder = folder_of(self.corpus.folder, name)
        manifest = folder / "manifest.json"  # written with the rest
        key = ("annotations", folder.resolve(), manifest.stat().st_mtime_ns if manifest.is_file() else None)
        annotations = self._cached(key, lambda: Annotations.load(folder))
        if any(annotations.manifest[part] != self.corpus.manifest[part] for part in ("corpus", "inputs")):
            raise ValueError(f"{folder} annotates another preparation of the corpus; run `ecr annotate` again")
        return annotations

    @property
    def turn_states(self) -> TextStates:
        """Text-encoder states of every turn of the corpus with a text, and the emotion classifier's utterances."""

        def encode() -> TextStates:
            turns = [turn for conversation in self.corpus.conversations for turn in conversation.turns if turn.text]
            texts = [with_role(turn.role, turn.text) for turn in turns]
            texts += [with_role(Role.SEEKER, text) for split in Split for text, _ in self.utterances(split)]
            return self.encode_turns(texts)

        emotion = self.config.emotion
        key = ("turn states", self.corpus.folder, self.encoder, self.config.encoder, emotion.limit, emotion.annotations)
        return self._cached(key, encode)

    def encode_turns(self, texts: list[str], *, label: str = "encode turns", cached: bool = True) -> TextStates:
        """Text-encoder states of turns with their role words; `label` and `cached` as of `TextEncoder.encode`."""
        return self.encoder.encode(texts, self.config.encoder.turn_tokens, label, cached=cached)

    @property
    def entity_text(self) -> np.ndarray:
        """The mean state of each entity's description, unit length, zero where there is none. float32 [N + 1, Dt]."""

        def encode() -> np.ndarray:
            descriptions = self.corpus.descriptions
            described = [entity for entity, text in enumerate(descriptions) if text]
            texts = [descriptions[entity] for entity in described]
            mean = self.encoder.encode(texts, self.config.encoder.entity_tokens, "encode films").mean(texts)
            features = np.zeros((len(descriptions) + 1, mean.shape[1]), np.float32)
            features[described] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
            return features

        key = ("entity text", self.corpus.folder, self.encoder, self.config.encoder)
        return self._cached(key, encode)

    # ----------------------------------------------------------------------------------------- models and featurisers

    def language_model(
        self,
        name: str,
        layers: int | None = None,
        *,
        dtype: str = "float32",
        quantize: QuantizationFormat | None = None,
        on_host: bool = False,
    ) -> tuple[Pretrained, DialogueTokenizer]:
        """A language model with the `<movie>` slot and its tokenizer, see `features.language_models`."""
        return self.language_models.get(name, layers, dtype=dtype, quantize=quantize, on_host=on_host)

    def featurizer(
        self, tokenizer: DialogueTokenizer, states: TextStates | None = None, *, evidence: bool = False
    ) -> ContextFeaturizer:
        """The featurizer of the knowledge prompt.

        Args:
          tokenizer: of the language model.
          states: of all turns that will be read, where they are not those of the corpus alone.
          evidence: that of the recommender, which also reads what its scoring heads need of the train split.

        Raises:
          ValueError: the emotion stage is not trained.
        """
        folder, settings = self.folder("emotion"), self.config.recommender
        prompt = prompt_featurizer(
            tokenizer,
            self.turn_states if states is None else states,
            self._cooccurrence(folder / "emotion_cooccurrence.npz"),
            self.cooccurrence,
            self._limits,
            settings.cooccurrence_power,
        )
        if not evidence:
            return prompt
        return recommender_featurizer(prompt, self._evidence, self._evidence_limits, settings.cooccurrence_power)

    @property
    def _evidence(self) -> Evidence:
        settings, graph = self.config.recommender.nearest_contexts, self.corpus.graph

        def collect() -> Evidence:
            dialogues = self.dialogues(Split.TRAIN)
            ratings = [seeker_ratings(dialogue) for dialogue in dialogues]
            liked, disliked = (count_rated_pairs(ratings, len(graph), first) for first in (1, -1))
            items = np.asarray(graph.items)
            nearest = NearestContexts.of(dialogues, items, count=settings.contexts, power=settings.power)
            return Evidence(liked, disliked, nearest)

        return self._cached(("evidence", self.corpus.folder, settings), collect)

    @property
    def cooccurrence(self) -> Cooccurrence:
        """How often items occur in one dialogue with an entity. Raises ValueError where `emotion` is not trained."""
        return self._cooccurrence(self.folder("emotion") / "cooccurrence.npz")

    def _cooccurrence(self, path: Path) -> Cooccurrence:
        if not path.is_file():
            raise ValueError(f"{path} is missing; run `ecr train emotion` with this config first")
        key = ("co-occurrence", path.resolve(), path.stat().st_mtime_ns)
        return self._cached(key, lambda: Cooccurrence.load(path))

    @property
    def prompt_spec(self) -> BatchSpec:
        """The arrays of a context as the knowledge prompt reads them."""
        return prompt_spec(len(self.corpus.graph), self.encoder.width, self._limits)

    @property
    def context_spec(self) -> BatchSpec:
        """The arrays of a context as the recommender reads them: those of the prompt and of its scoring heads."""
        return recommender_spec(self.prompt_spec, len(self.corpus.graph), self._evidence_limits)

    @property
    def _evidence_limits(self) -> EvidenceLimits:
        settings = self.config.recommender
        return EvidenceLimits(settings.rated_items, settings.nearest_items)

    @property
    def _limits(self) -> ContextLimits:
        settings = self.config.recommender
        return ContextLimits(
            tokens=settings.max_tokens,
            states=settings.max_states,
            entities=settings.max_entities,
            emotions=settings.emotions_per_entity,
            neighbours=settings.neighbours,
            cooccurring_items=settings.cooccurring_items,
        )


def open_experiment(config: Config) -> ExperimentContext:
    """The context of a config. Models and files are read when they are first needed.

    Raises:
      ValueError: the corpus is not prepared.
    """
    return ExperimentContext(
        config,
        corpus=_open_corpus(config),
        encoder=_open_encoder(config),
        language_models=LanguageModels(),
        emotions=EmotionLabels(_emotions_path(config)),
        cache=BoundedCache(_CACHED_VALUES),
        context_cache=_open_context_cache(config),
    )


def _open_corpus(config: Config) -> PreparedCorpus:
    return PreparedCorpus.open(config.prepared_folder)


def _encoder_key(config: Config) -> tuple[str, Path]:
    """The text encoder's name and the folder in which its states are cached, beside the prepared corpora."""
    return config.encoder.name, config.prepared / "states"


def _open_encoder(config: Config) -> TextEncoder:
    return TextEncoder(*_encoder_key(config))


def _emotions_path(config: Config) -> Path:
    return config.stage_folder("emotion") / "emotions.parquet"


def _context_cache_bytes(config: Config) -> float:
    return config.recommendation.context_cache_gib * 2**30


def _open_context_cache(config: Config) -> BoundedCache[np.ndarray]:
    return BoundedCache(_context_cache_bytes(config), size=lambda array: array.nbytes)
