"""Target `gguf`: the language model's base and its LoRA adapter as two GGUF files, for llama.cpp."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp

from ecr_jax.export import generator
from ecr_jax.export.source import Check, Source
from ecr_jax.models.lm import convert
from ecr_jax.pretrained import gguf_file
from ecr_jax.pretrained.language_models import Pretrained

BASE, ADAPTER = "base.gguf", "adapter.gguf"


def write(source: Source, folder: Path) -> None:
    """Writes the base with its tokenizer, and the adapter where the stage trained one."""
    model = generator.generator(source)
    name = f"{source.experiment.config.name} {source.stage}"
    gguf_file.write(folder / BASE, model.base.params, model.base.config, model.tokenizer.tokenizer, name)
    if model.adapter is not None:
        gguf_file.write_adapter(folder / ADAPTER, model.adapter.params, model.adapter.config, model.base.config)


def check(source: Source, folder: Path) -> Check:
    """Compares the logits of texts of the corpus by the weights in the files, and the tokens by the tokenizer in them.

    Raises:
      ValueError: the tokenizer reads a text otherwise than the run's.
    """
    model, texts = generator.generator(source), generator.sample_texts(source)
    tokens, mask = generator.token_batch(model.tokenizer, texts)
    for text, row, real in zip(texts, tokens, mask, strict=True):
        theirs = gguf_file.load_tokenizer(folder / BASE)(text, add_special_tokens=False)["input_ids"]
        if theirs[: int(real.sum())] != row[real].tolist():
            raise ValueError(f"the tokenizer in {BASE} reads {text[:60]!r}... as {theirs[:20]}, not as the run")
    adapted = (folder / ADAPTER).is_file()
    readers, config = (
        gguf_file.read_with_adapter(folder / BASE, folder / ADAPTER) if adapted else gguf_file.read(folder / BASE)
    )
    params = convert.from_hf({name: reader() for name, reader in readers.items()}, config)
    read = Pretrained(convert.module_of(config)(config), jax.tree.map(jnp.asarray, params), config)
    return generator.compare(source, model, generator.logits(read, tokens, mask), f"gguf {version('gguf')}")
