"""Language models with a dialogue tokenizer: loaded by name, with an embedding for the `<movie>` slot."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp

from ecr_jax.features.tokenizer import DialogueTokenizer
from ecr_jax.models.hyperparameters import QuantizationFormat
from ecr_jax.models.lm.bert import BertConfig
from ecr_jax.pretrained import hub
from ecr_jax.pretrained.language_models import (
    PUBLISHED,
    Pretrained,
    abstract_model,
    check_tokenizer,
    extend,
    load,
    load_tokenizer,
    read_config,
)

MOST_LOADED = 4
"""Language models that are kept in memory; of more, the least recently used one is dropped."""


class LanguageModels:
    """Language models and their tokenizers, each loaded once while it is among the most recently used."""

    def __init__(self, limit: int = MOST_LOADED):
        self._load = functools.lru_cache(maxsize=limit)(load_with_movie_slot)

    def get(
        self,
        name: str,
        layers: int | None = None,
        *,
        dtype: str = "float32",
        quantize: QuantizationFormat | None = None,
        on_host: bool = False,
    ) -> tuple[Pretrained, DialogueTokenizer]:
        """A language model with its tokenizer, see `load_with_movie_slot`; with `on_host` it is not kept in memory."""
        if on_host:
            return load_with_movie_slot(name, layers, dtype, quantize, on_host=True)
        return self._load(name, layers, dtype, quantize)


def abstract(
    name: str,
    *,
    layers: int | None = None,
    dtype: Any = jnp.float32,
    quantize: QuantizationFormat | None = None,
) -> Pretrained:
    """A language model with the `<movie>` slot as shapes alone (`jax.ShapeDtypeStruct`); no weights are read.

    Published models of `language_models.PUBLISHED` are known; of others, the files' configuration is read.

    Args:
      name: a name of `pretrained.hub`.
      layers, dtype, quantize: as of `load_with_movie_slot`.

    Raises:
      ValueError: the model has fewer layers.
    """
    if name in PUBLISHED:
        config = PUBLISHED[name]
        vocabulary = config.vocab_size + 1
    else:
        path = hub.resolve(name)
        config = read_config(path)
        vocabulary = config.vocab_size
        if not isinstance(config, BertConfig):
            vocabulary = max(vocabulary, DialogueTokenizer.of(load_tokenizer(path)).movie + 1)
    if layers is not None and not 1 <= layers <= config.layers:
        raise ValueError(f"layers={layers}: {name} has {config.layers} layers; ask for 1 to {config.layers}")
    config = dataclasses.replace(config, vocab_size=vocabulary, layers=layers or config.layers)
    return abstract_model(config, dtype, quantize)


def load_with_movie_slot(
    name: str, layers: int | None, dtype: str, quantize: QuantizationFormat | None, *, on_host: bool = False
) -> tuple[Pretrained, DialogueTokenizer]:
    """Loads a language model; the new token `<movie>` starts with the mean embedding of the tokens of " movie".

    Args:
      name: a name of `pretrained.hub`.
      layers: how many of its lowest layers are used, None for all.
      dtype: of the parameters and of the computation.
      quantize: the layers' kernels in 8 or 4 bits.
      on_host: see `pretrained.language_models.load`.

    Raises:
      ValueError: the tokenizer does not fit the model, or the model has fewer layers.
    """
    path = hub.resolve(name)
    model = load(path, layers=layers, dtype=jnp.dtype(dtype), quantize=quantize, on_host=on_host)
    tokenizer = load_tokenizer(path)
    check_tokenizer(tokenizer, model.config, path)
    movie_ids = tokenizer(" movie", add_special_tokens=False)["input_ids"]
    dialogue_tokenizer = DialogueTokenizer.of(tokenizer)
    new_tokens = dialogue_tokenizer.movie + 1 - model.config.vocab_size
    if new_tokens > 0:
        row = model.params["embed"]["embedding"][jnp.asarray(movie_ids)].mean(axis=0, keepdims=True)
        model = extend(model, jnp.repeat(row, new_tokens, axis=0))
    return model, dialogue_tokenizer
