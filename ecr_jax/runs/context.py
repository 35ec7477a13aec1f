"""What the stages stand on: prepared corpus, pretrained models, felt dialogues; each made when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq

from ecr_jax.config import Config
from ecr_jax.data.prepare import PreparedCorpus
from ecr_jax.data.schema import Role, Split
from ecr_jax.features import text_states
from ecr_jax.features.examples import ContextFeaturizer, Dialogue, Emotions, Sizes, dialogues
from ecr_jax.features.text_states import States
from ecr_jax.features.tokenizer import ROLE_WORDS, DialogueTokenizer
from ecr_jax.knowledge.cooccurrence import Cooccurrence
from ecr_jax.models.hyperparameters import QuantizationFormat
from ecr_jax.pretrained import hub
from ecr_jax.pretrained.language_models import Pretrained, check_tokenizer, extend, load, load_tokenizer
from ecr_jax.training.checkpoint import read_params


class ExperimentContext:
    """Lazily made parts that the stages, the evaluation and the chat share.

    `config` may be set to another that differs only in what comes after the emotion stage: what is made stays.
    """

    def __init__(self, config: Config):
        self.config = config

    @cached_property
    def prepared(self) -> PreparedCorpus:
        """The prepared corpus."""
        return PreparedCorpus.open(self.config.prepared_folder)

    def recorded(self, stage: str) -> dict:
        """What a stage's folder keeps of what it rests on: its settings, and the corpus as it was prepared."""
        made = {name: self.prepared.manifest[name] for name in ("corpus", "inputs")}
        return self.config.recorded(stage) | made

    @cached_property
    def encoder(self) -> tuple[Pretrained, object]:
        """The frozen text encoder and its tokenizer."""
        path = hub.resolve(self.config.encoder.name)
        model, tokenizer = load(path), load_tokenizer(path)
        check_tokenizer(tokenizer, model.config, path)
        return model, tokenizer

    def encode(self, texts: Sequence[str], max_tokens: int, label: str, *, keep: bool = True) -> States:
        """States of texts, kept on disk beside the prepared corpora unless `keep` is off."""
        cache = self.config.prepared / "states" if keep else None
        model, tokenizer = self.encoder
        return text_states.encode(texts, model, tokenizer, self.config.encoder.name, cache, max_tokens, label)

    @cached_property
    def turn_states(self) -> States:
        """States of every turn of the corpus and of every utterance that the emotion classifier learns from."""
        units = [ROLE_WORDS[turn.role] + turn.text for c in self.prepared.conversations for turn in c.turns]
        units += [ROLE_WORDS[Role.SEEKER] + text for split in Split for text, _ in self.utterances(split)]
        return self.encode(units, self.config.encoder.turn_tokens, "encode turns")

    def utterances(self, split: Split) -> list[tuple[str, tuple[int, ...]]]:
        """Utterances with their emotion ids; of the training split at most `emotion.limit`."""
        found = self.prepared.utterances(split)
        return found[: self.config.emotion.limit] if split == Split.TRAIN else found

    @cached_property
    def entity_text(self) -> np.ndarray:
        """The mean state of each entity's description, unit length, zero where there is none. float32 [N + 1, Dt]."""
        texts = self.prepared.descriptions
        told = [entity for entity, text in enumerate(texts) if text]
        mean = self.encode([texts[entity] for entity in told], self.config.encoder.entity_tokens, "encode films").mean(
            [texts[entity] for entity in told]
        )
        out = np.zeros((len(texts) + 1, mean.shape[1]), np.float32)
        out[told] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return out

    def language_model(
        self, name: str, layers: int | None, *, dtype: str = "float32", quantize: QuantizationFormat | None = None
    ) -> tuple[Pretrained, DialogueTokenizer]:
        """A language model with the `<movie>` slot, which begins as what its tokenizer says of "movie"."""
        return self._language_model(name, layers, dtype, quantize)

    @lru_cache(maxsize=4)  # noqa: B019 - a ExperimentContext lives as long as its command
    def _language_model(
        self, name: str, layers: int | None, dtype: str, quantize: QuantizationFormat | None
    ) -> tuple[Pretrained, DialogueTokenizer]:
        path = hub.resolve(name)
        model, tokenizer = load(path, layers=layers, dtype=jnp.dtype(dtype), quantize=quantize), load_tokenizer(path)
        check_tokenizer(tokenizer, model.config, path)
        pieces = tokenizer(" movie", add_special_tokens=False)["input_ids"]
        words = DialogueTokenizer.of(tokenizer)
        if words.movie >= model.config.vocab_size:
            row = model.params["embed"]["embedding"][jnp.asarray(pieces)].mean(axis=0, keepdims=True)
            model = extend(model, jnp.repeat(row, words.movie + 1 - model.config.vocab_size, axis=0))
        return model, words

    @lru_cache(maxsize=1)  # noqa: B019
    def read_contexts(self, name: str, layers: int | None) -> dict[bytes, np.ndarray]:
        """What a language model made of contexts, by their tokens: those that `stages.recommender.Read` read so far."""
        return {}

    @cached_property
    def emotions(self) -> dict[tuple[str, int], Emotions]:
        """(conversation id, turn) -> what the seeker feels, as the emotion stage labelled it."""
        path = self.config.stage_folder("emotion") / "emotions.parquet"
        if not path.is_file():
            raise ValueError(f"{path} is missing; run `ecr train emotion` with this config first")
        return {
            (row["conversation"], row["turn"]): tuple(zip(row["labels"], row["probabilities"], strict=True))
            for row in pq.read_table(path).to_pylist()
        }

    @property
    def fused(self) -> dict:
        """What the fusion stage learned: where conversation and recommendation begin."""
        path = self.config.stage_folder("fusion") / "params.safetensors"
        if not path.is_file():
            raise ValueError(f"{path} is missing; run `ecr train fusion` with this config first")
        return read_params(path)

    @lru_cache(maxsize=3)  # noqa: B019
    def dialogues(self, split: Split) -> list[Dialogue]:
        """The felt dialogues of a split, in ids."""
        graph = self.prepared.graph
        return dialogues(self.prepared.split(split), graph.ids, graph.items, self.emotions)

    def featurizer(self, words: DialogueTokenizer, states: States | None = None) -> ContextFeaturizer:
        """How contexts become arrays for the recommender; `states` where they are not the corpus's own."""
        settings, folder = self.config.recommender, self.config.stage_folder("emotion")
        sizes = Sizes(
            settings.max_tokens,
            settings.max_states,
            settings.max_entities,
            settings.emotions,
            settings.neighbours,
            settings.cooccurring_items,
        )
        related, together = (
            Cooccurrence.load(folder / "emotion_cooccurrence.npz"),
            Cooccurrence.load(folder / "cooccurrence.npz"),
        )
        return ContextFeaturizer(words, self.turn_states if states is None else states, related, together, sizes)

    def key(self, purpose: str) -> jax.Array:
        """A random key for a purpose, from the experiment's seed and, if the purpose is a stage, its own."""
        stage = getattr(self.config, purpose, None)
        seed = self.config.seed + (stage.train.seed if stage else 0)
        return jax.random.fold_in(jax.random.key(seed), sum(purpose.encode()))
