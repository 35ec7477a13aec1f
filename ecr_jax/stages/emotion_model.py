"""The classifier of the stage `emotion`, and how a trained one is applied to texts.

Without an adapter it reads the mean of the frozen text encoder's states, which are computed once. With one
(`emotion.adapter`), a LoRA adapter of the encoder is trained with it, and it reads the mean of the adapted states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from transformers import PreTrainedTokenizerBase

from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.features.batches import Batches, InMemoryExamples
from ecr_jax.features.instances import classifier_spec, tuned_classifier_spec
from ecr_jax.features.text_states import TextStates
from ecr_jax.models.classifier import Classifier
from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import lora
from ecr_jax.models.lm.language_model import Params
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.training.evaluation import jit_over_rows
from ecr_jax.training.step import Batch

Labels = tuple[int, ...]
"""The emotion ids of an utterance."""

Labeller = Callable[[Sequence[str]], np.ndarray]
"""Texts with their role words -> the probabilities of the nine emotions, float32 [n, 9]."""

_PREDICTION_BATCH = 256


@dataclass(frozen=True, eq=False)
class EmotionModel:
    """Logits of the nine emotions. Its parameters are "classifier" and, where there is one, "adapter".

    Attributes:
      classifier: over a mean state.
      encoder: the text encoder; None where the classifier reads states that are given.
      adapter: the settings of its adapter.
    """

    classifier: Classifier
    encoder: nn.Module | None
    adapter: LoraConfig

    def init(self, key: jax.Array, width: int, frozen: Params) -> Params:
        """Initial parameters; `width`: D, of the states; `frozen`: with "encoder", the encoder's parameters."""
        params = {"classifier": self.classifier.init(key, jnp.zeros((1, width)))["params"]}
        if self.encoder is not None:
            params["adapter"] = lora.init(jax.random.fold_in(key, 1), frozen["encoder"], self.adapter)
        return params

    def logits(self, params: Params, frozen: Params, batch: Batch) -> jax.Array:
        """The logits of a batch of examples, [B, 9]."""
        if self.encoder is None:
            state = batch["state"]
        else:
            variables = lora.variables(frozen["encoder"], params["adapter"], self.adapter)
            hidden = self.encoder.apply(variables, batch["tokens"], batch["token_mask"]).hidden
            mask = batch["token_mask"][..., None]
            # A row of padding has no tokens.
            state = jnp.sum(hidden * mask, axis=1) / jnp.maximum(jnp.sum(mask, axis=1), 1)
        return self.classifier.apply({"params": params["classifier"]}, state)


def emotion_model(experiment: ExperimentContext) -> EmotionModel:
    """The stage's model."""
    settings = experiment.config.emotion
    encoder = None if settings.adapter is None else experiment.encoder.model.module
    return EmotionModel(Classifier(settings.hidden, len(EMOTIONS)), encoder, settings.adapter or LoraConfig())


def frozen_arrays(experiment: ExperimentContext) -> Params:
    """What the model reads and does not train: the encoder's parameters, where they are adapted."""
    return {} if experiment.config.emotion.adapter is None else {"encoder": experiment.encoder.model.params}


def shapes(experiment: ExperimentContext) -> tuple[dict[str, int], ...]:
    """The length buckets of the model's batches."""
    if experiment.config.emotion.adapter is None:
        return ({},)
    longest = experiment.config.encoder.turn_tokens
    return tuple({"T": length} for length in (16, 32) if length < longest) + ({"T": longest},)


def examples(
    experiment: ExperimentContext,
    texts: Sequence[str],
    labels: Sequence[Labels] | None = None,
    states: TextStates | None = None,
) -> InMemoryExamples:
    """One example for each text.

    Args:
      experiment: the experiment.
      texts: with their role words.
      labels: of each; the target is the uniform distribution over them, and zero where they are not given.
      states: the frozen encoder's states of the texts, where they are known; read without an adapter only.
    """
    targets = np.zeros((len(texts), len(EMOTIONS)), np.float32)
    for row, of_text in enumerate(labels or ()):
        targets[row, list(of_text)] = 1 / len(of_text)
    if experiment.config.emotion.adapter is None:
        known = experiment.encode_turns(list(texts), cached=False) if states is None else states
        inputs: Sequence[np.ndarray] = known.mean(texts)
        spec, name = classifier_spec(experiment.encoder.width), "state"
    else:
        inputs = _token_ids(experiment.encoder.tokenizer, texts, experiment.config.encoder.turn_tokens)
        spec, name = tuned_classifier_spec(), "tokens"
    return InMemoryExamples(spec, [{name: i, "target": target} for i, target in zip(inputs, targets, strict=True)])


def _token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], longest: int) -> list[np.ndarray]:
    rows: Any = tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
    return [np.asarray(row, np.int32) for row in rows]


class Predictor:
    """Probabilities of examples, with the same compiled programs for all parameters."""

    def __init__(self, model: EmotionModel, shapes: Sequence[dict[str, int]]):
        self._shapes = shapes
        self._apply = jit_over_rows(lambda params, frozen, batch: jax.nn.softmax(model.logits(params, frozen, batch)))

    def __call__(
        self, params: Params, frozen: Params, of: InMemoryExamples, batch_size: int = _PREDICTION_BATCH
    ) -> np.ndarray:
        """Probabilities float32 [n, 9]."""
        probabilities = np.zeros((len(of), len(EMOTIONS)), np.float32)
        for batch in Batches.in_order(of, self._shapes, batch_size) if len(of) else ():
            inputs = {name: batch[name] for name in ("state", "tokens", "token_mask") if name in batch}
            real = batch["example_mask"]
            probabilities[batch["example"][real]] = np.asarray(self._apply(params, frozen, inputs))[real]
        return probabilities


def labeller(experiment: ExperimentContext, encode: Callable[[list[str]], TextStates] | None = None) -> Labeller:
    """The trained classifier. A text's probabilities do not depend on the texts beside it.

    Args:
      experiment: with this stage trained.
      encode: gives the frozen encoder's states of texts, where they are kept; read without an adapter only.

    Raises:
      ValueError: the stage is not trained.
    """
    params, frozen = jax.device_put(experiment.params("emotion")), frozen_arrays(experiment)
    predict = Predictor(emotion_model(experiment), shapes(experiment))
    frozen_states = encode if experiment.config.emotion.adapter is None else None

    def label(texts: Sequence[str]) -> np.ndarray:
        states = None if frozen_states is None else frozen_states(list(texts))
        return predict(params, frozen, examples(experiment, texts, states=states), batch_size=1)

    return label


def classify(experiment: ExperimentContext, texts: Sequence[str], states: TextStates | None = None) -> np.ndarray:
    """The probabilities that the trained classifier gives to many texts with their role words: float32 [n, 9].

    Args:
      experiment: with this stage trained.
      texts: the texts.
      states: as of `examples`.

    Raises:
      ValueError: the stage is not trained.
    """
    predict = Predictor(emotion_model(experiment), shapes(experiment))
    of_texts = examples(experiment, texts, states=states)
    return predict(experiment.params("emotion"), frozen_arrays(experiment), of_texts)


CLEAR = 0.5
"""The probability from which the label of a text that was not labelled by people is used as its tone."""


def clear_labels(experiment: ExperimentContext, texts: Sequence[str], states: TextStates) -> list[str]:
    """The emotion of each text, see `classify`; "" where none has a probability of `CLEAR`."""
    probabilities = classify(experiment, texts, states)
    best = probabilities.argmax(axis=1)
    return [EMOTIONS[label] if row[label] >= CLEAR else "" for label, row in zip(best, probabilities, strict=True)]
