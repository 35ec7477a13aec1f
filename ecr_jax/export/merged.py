"""Targets `hf` and `vllm`: the language model with its adapter merged, as a Hugging Face folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from ecr_jax.export import generator
from ecr_jax.export.source import Check, Source
from ecr_jax.pretrained import language_models


def write(source: Source, folder: Path) -> None:
    """Writes config, safetensors and tokenizer."""
    model = generator.generator(source)
    language_models.save(folder, model.merged(), model.tokenizer.tokenizer)


def check(source: Source, folder: Path) -> Check:
    """Compares the logits of texts of the corpus: by transformers where torch is installed, else by our own reader."""
    model, texts = generator.generator(source), generator.sample_texts(source)
    tokens, mask = generator.token_batch(model.tokenizer, texts)
    if importlib.util.find_spec("torch") is None:
        theirs = generator.logits(language_models.load(folder, dtype=jnp.float32), tokens, mask)
        return generator.compare(source, model, theirs, "ecr_jax")
    import transformers

    same_tokens(folder, texts, tokens, mask)
    theirs = torch_logits(transformers.AutoModelForCausalLM.from_pretrained(str(folder)), tokens, mask)
    return generator.compare(source, model, theirs, f"transformers {transformers.__version__}")


def same_tokens(folder: Path, texts: list[str], tokens: np.ndarray, mask: np.ndarray) -> None:
    """Raises ValueError unless the folder's tokenizer, as transformers loads it, gives these tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    for text, row, real in zip(texts, tokens, mask, strict=True):
        theirs = tokenizer(text, add_special_tokens=False)["input_ids"][: int(real.sum())]
        if theirs != row[real].tolist():
            raise ValueError(
                f"{folder}: transformers' tokenizer reads {text[:60]!r}... as {theirs[:20]}, not as the run"
            )


def torch_logits(model, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The logits [n, V] of real tokens by a torch model, in float32."""
    import torch

    with torch.no_grad():
        result = model.float().eval()(input_ids=torch.tensor(tokens).long(), attention_mask=torch.tensor(mask).long())
    return result.logits.numpy()[mask]
