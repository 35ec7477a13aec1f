"""The language model of a generating stage: base, adapter, tokenizer, and its logits for texts of the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.config import ConversationConfig, ResponseConfig
from ecr_jax.data.schema import Role, Split
from ecr_jax.export.source import Check, Source, difference
from ecr_jax.features.tokenizer import DialogueTokenizer, pad, with_role
from ecr_jax.knowledge.reviews import response_prompt
from ecr_jax.models.lm import language_model, lora
from ecr_jax.pretrained.language_models import Pretrained
from ecr_jax.pretrained.peft_adapters import Adapter

_TEXTS, _TOKENS = 4, 64
"""How many texts the logits are compared for, and how many tokens of each."""

TOLERANCES = {"float32": 1e-4, "bfloat16": 3e-2}
"""Largest difference of logits, as a share of the largest one, by the dtype of the exported parameters."""


class Generator(NamedTuple):
    """The language model of a generating stage.

    Attributes:
      base: the model without the adapter, its kernels whole, the embeddings of trained tokens in their places.
      adapter: the trained adapter, with these tokens; None where the stage trained none.
      tokenizer: with the token `<movie>`.
      name: of the base.
      settings: of the stage.
    """

    base: Pretrained
    adapter: Adapter | None
    tokenizer: DialogueTokenizer
    name: str
    settings: ConversationConfig | ResponseConfig

    @property
    def layers(self) -> int | None:
        """How many of the base's lowest layers the stage uses; None for all."""
        return self.settings.layers if isinstance(self.settings, ConversationConfig) else None

    @property
    def tolerance(self) -> float:
        """See `TOLERANCES`."""
        return TOLERANCES[self.base.params["embed"]["embedding"].dtype.name]

    def merged(self) -> Pretrained:
        """The model with the adapter in its kernels."""
        if self.adapter is None:
            return self.base
        params = lora.merge(self.base.params, self.adapter.params, self.adapter.config)
        return Pretrained(self.base.module, params, self.base.config)


def generator(source: Source) -> Generator:
    """Loads the language model of a stage, `conversation` or `response`.

    Raises:
      ValueError: the stage is not trained.
    """
    experiment = source.experiment
    params = jax.tree.map(jnp.asarray, experiment.params(source.stage))
    settings = getattr(experiment.config, source.stage)
    if isinstance(settings, ResponseConfig):
        name = settings.language_model
        base, tokenizer = experiment.language_model(name, None, dtype=settings.dtype)
    else:
        name = experiment.config.language_model
        base, tokenizer = experiment.language_model(name, settings.layers, dtype=settings.dtype)
    if "language_model" in params:  # tuned as a whole
        base = base._replace(params=params["language_model"])
    tokens = None
    if "movie" in params:
        rows, vocabulary = params["movie"]["rows"], base.config.vocab_size
        tokens = np.arange(vocabulary - len(rows), vocabulary), rows
        base = base._replace(params=lora.with_rows(base.params, *tokens))
    adapter = Adapter(params["adapter"], settings.adapter, tokens) if "adapter" in params else None
    return Generator(base, adapter, tokenizer, name, settings)


def sample_texts(source: Source) -> list[str]:
    """A few texts of the train split as the stage reads them: prompts with their reviews, or masked turns."""
    corpus, settings = source.experiment.corpus, source.experiment.config.response
    if source.stage == "response":
        return [
            response_prompt(r.title, r.entities[: settings.entities], r.triples[: settings.triples], r.title) + r.text
            for r in corpus.reviews.of_split(Split.TRAIN)[:_TEXTS]
        ]
    turns = [turn for conversation in corpus.split(Split.TRAIN) for turn in conversation.turns if turn.text]
    replies = [turn for turn in turns if turn.role == Role.RECOMMENDER and any(m.film for m in turn.mentions)]
    return [with_role(turn.role, turn.masked()) for turn in replies[:_TEXTS]]


def token_batch(tokenizer: DialogueTokenizer, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The first tokens of each text: ids int32 [B, T] and mask bool [B, T], padded on the right."""
    rows = [row[:_TOKENS] for row in tokenizer.encode(texts)]
    return pad(rows, max(map(len, rows)))


def logits(model: Pretrained, tokens: np.ndarray, mask: np.ndarray, adapter: Adapter | None = None) -> np.ndarray:
    """The logits of real tokens, computed in float32: [n, V].

    Args:
      model: the model; its parameters may be of any dtype, and quantised.
      tokens: int [B, T].
      mask: bool [B, T].
      adapter: put beside the model's kernels.
    """
    variables: dict[str, Any] = {"params": model.params}
    if adapter is not None:
        variables = lora.variables(model.params, adapter.params, adapter.config)
    module = model.module.clone(dtype=jnp.float32)

    @jax.jit
    def compute(variables, tokens, mask):
        return language_model.logits(variables["params"], module.apply(variables, tokens, mask).hidden)

    with jax.default_matmul_precision("highest"):
        return np.asarray(compute(variables, tokens, mask))[mask]


def compare(source: Source, model: Generator, theirs: np.ndarray, reader: str) -> Check:
    """Compares a reader's logits of the sample texts with those of the run's model, its adapter unmerged.

    Args:
      source: the stage.
      model: its language model.
      theirs: [n, V'] the reader's logits; a token that the stage neither trained nor uses may be missing at the end.
      reader: the program and its version.
    """
    tokens, mask = token_batch(model.tokenizer, texts := sample_texts(source))
    ours = logits(model.base, tokens, mask, model.adapter)
    notes = []
    if (quantize := getattr(model.settings, "quantize", None)) is not None:
        experiment, settings = source.experiment, source.experiment.config.response
        small, _ = experiment.language_model(settings.language_model, None, dtype=settings.dtype, quantize=quantize)
        gap = difference(logits(small, tokens, mask, model.adapter), ours)
        notes.append(
            f"The run computes with a base in {quantize}, the export holds it whole: their logits differ by {gap:.2g} "
            "of the largest one."
        )
    shared = theirs.shape[-1] if model.adapter is None or model.adapter.tokens is None else ours.shape[-1]
    return Check(reader, "logits", len(texts), difference(ours[:, :shared], theirs), model.tolerance, tuple(notes))
