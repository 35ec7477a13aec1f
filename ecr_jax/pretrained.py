"""Pretrained language models and their tokenizers from a local path: a Hugging Face folder or a GGUF file.

Neither torch nor the network is needed; `hub.resolve` turns a name into such a path.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from gguf import GGUFReader, dequantize
from safetensors import safe_open

from ecr_jax.models import convert, language_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# llama.cpp's marks of a token's kind (`tokenizer.ggml.token_type`).
_CONTROL, _USER_DEFINED = 3, 4


class Pretrained(NamedTuple):
    """A language model: its module, parameters (jax arrays) and sizes."""

    module: nn.Module
    params: dict[str, Any]
    config: convert.LanguageConfig


class _Lazy(Mapping):
    """Tensors by name, read when asked for."""

    def __init__(self, readers: dict[str, Callable[[], np.ndarray]]):
        self._readers = readers

    def __getitem__(self, name: str) -> np.ndarray:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def load(path: Path, *, layers: int | None = None, dtype: Any = jnp.float32) -> Pretrained:
    """Reads a language model.

    Args:
        path: a folder with `config.json` and safetensors (one file, or shards with their index), or a `.gguf` file.
        layers: keep only the lowest so many layers; what follows the last layer stays.
        dtype: of the parameters and of the computation.

    Raises:
        FileNotFoundError: nothing there, or a file of the model is missing.
        ValueError: an unsupported architecture, weights that do not fit, or more layers asked for than there are.
    """
    path = Path(path)
    tensors, config = _read_gguf(path) if _is_gguf(path) else _read_folder(path)
    if layers is not None:
        if not 1 <= layers <= config.layers:
            raise ValueError(f"layers={layers}: {path} has {config.layers} layers; ask for 1 to {config.layers}")
        config = dataclasses.replace(config, layers=layers)
        tensors = {name: reader for name, reader in tensors.items() if _layer(name) < layers}
    try:
        params = convert.from_hf(_Lazy(tensors), config, dtype)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    module = convert.module_of(config)(config, dtype=dtype)
    return Pretrained(module, jax.tree.map(jnp.asarray, params), config)


def extend(model: Pretrained, rows: jax.Array, head_rows: jax.Array | None = None) -> Pretrained:
    """The model with n more tokens at the end of its vocabulary, embedded by `rows` [n, D]."""
    params = language_model.extend_vocabulary(model.params, rows, head_rows)
    config = dataclasses.replace(model.config, vocab_size=model.config.vocab_size + rows.shape[0])
    return Pretrained(model.module.clone(config=config), params, config)


def _is_gguf(path: Path) -> bool:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; give a model's folder or its .gguf file")
    if path.is_file() and path.suffix != ".gguf":
        raise ValueError(f"{path} is neither a folder nor a .gguf file")
    return path.is_file()


def _layer(name: str) -> int:
    found = re.search(r"(?:^|\.)(?:layers|layer|h)\.(\d+)\.", name)
    return int(found[1]) if found else -1


def _read_folder(path: Path) -> tuple[dict[str, Callable[[], np.ndarray]], convert.LanguageConfig]:
    config_file = path / "config.json"
    if not config_file.is_file():
        raise FileNotFoundError(f"{path} has no config.json; give the folder of a Hugging Face model")
    config = convert.config_from_hf(json.loads(config_file.read_text(encoding="utf-8")))
    index = path / "model.safetensors.index.json"
    if index.is_file():
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    readers: dict[str, Callable[[], np.ndarray]] = {}
    for name in files:
        file = path / name
        if not file.is_file():
            others = [other.name for other in path.glob("*.bin")]
            hint = f" ({', '.join(others)} would need pickle: save the model as safetensors)" if others else ""
            raise FileNotFoundError(f"{file} is missing{hint}")
        handle = safe_open(file, framework="numpy")
        for tensor in handle.keys():
            readers[tensor] = lambda handle=handle, tensor=tensor: handle.get_tensor(tensor)
    return readers, config


def _read_gguf(path: Path) -> tuple[dict[str, Callable[[], np.ndarray]], convert.LlamaConfig]:
    reader = GGUFReader(path)
    names = {tensor.name for tensor in reader.tensors}
    config = convert.config_from_gguf(_metadata(reader), tied="output.weight" not in names)
    readers: dict[str, Callable[[], np.ndarray]] = {}
    for tensor in reader.tensors:
        readers[convert.hf_name(tensor.name)] = lambda tensor=tensor: convert.from_gguf_tensor(
            tensor.name, dequantize(tensor.data, tensor.tensor_type), config
        )
    return readers, config


def _metadata(reader: GGUFReader) -> dict[str, Any]:
    return {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer beside a model, or the one inside a GGUF file, its chat template included.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a folder without a tokenizer, or a kind of GGUF tokenizer that is not supported.
    """
    from transformers import AutoTokenizer  # takes seconds to import, so only who tokenises pays

    path = Path(path)
    if _is_gguf(path):
        return _gguf_tokenizer(path)
    if not any((path / name).is_file() for name in ("tokenizer.json", "vocab.json", "vocab.txt")):
        raise FileNotFoundError(f"{path} has no tokenizer.json, vocab.json or vocab.txt")
    return AutoTokenizer.from_pretrained(str(path), local_files_only=True)


def _gguf_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    metadata = _metadata(GGUFReader(path))
    kind, split = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "gpt-2")
    # llama.cpp's "smollm" splits off every digit, then splits as GPT-2 does.
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    splits = {"gpt-2": byte_level, "smollm": pre_tokenizers.Sequence([digits, byte_level])}
    if kind != "gpt2" or split not in splits:
        raise ValueError(
            f"{path}: GGUF tokenizer {kind!r} with pre-tokenizer {split!r} is not supported (supported: 'gpt2' with "
            f"{', '.join(map(repr, splits))}); use a folder with tokenizer.json"
        )
    if metadata.get("tokenizer.ggml.add_bos_token", False):
        raise ValueError(f"{path}: GGUF tokenizers that put a token first are not supported; use tokenizer.json")
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = splits[split]
    tokenizer.decoder = decoders.ByteLevel()
    kinds = metadata["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    own = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _USER_DEFINED]
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in own])
    named = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    special = {
        f"{name}_token": tokens[metadata[f"tokenizer.ggml.{theirs}_token_id"]]
        for name, theirs in named.items()
        if f"tokenizer.ggml.{theirs}_token_id" in metadata
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=metadata.get("tokenizer.chat_template"),
        model_max_length=metadata["llama.context_length"],
        clean_up_tokenization_spaces=False,
        **special,
    )
