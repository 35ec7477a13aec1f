"""Pretrained language models and their tokenizers: read from a Hugging Face folder or a GGUF file, written to a folder.

Neither torch nor the network is needed; `hub.resolve` turns a name into such a path.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ecr_jax.files import replacing, write_json
from ecr_jax.models.hyperparameters import QuantizationFormat
from ecr_jax.models.lm import convert, language_model, quantized
from ecr_jax.models.lm.bert import BertConfig
from ecr_jax.models.lm.convert_gguf import Readers
from ecr_jax.models.lm.gpt2 import Gpt2Config
from ecr_jax.models.lm.llama import LlamaConfig
from ecr_jax.pretrained import gguf_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_INDEX = "model.safetensors.index.json"
_FETCH_AGAIN = "it may be cut off or damaged: fetch or copy it again"


class Pretrained(NamedTuple):
    """A language model: its module, parameters (jax arrays) and sizes."""

    module: nn.Module
    params: dict[str, Any]
    config: convert.LanguageConfig


PUBLISHED: dict[str, convert.LanguageConfig] = {
    **dict.fromkeys(
        ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-chat-hf"),
        LlamaConfig(32000, 4096, 32, 32, 32, 128, 11008, positions=4096, eps=1e-5),
    ),
    "microsoft/DialoGPT-small": Gpt2Config(50257, 768, 12, 12, 3072),
    "FacebookAI/roberta-base": BertConfig(50265, 768, 12, 12, 3072, 514, 1, position_offset=2, eps=1e-5),
}
"""Sizes of models that configs name, so that their memory is known before their files are fetched."""


def abstract_model(config: convert.LanguageConfig, dtype: Any, quantize: QuantizationFormat | None) -> Pretrained:
    """A model as shapes alone: `jax.ShapeDtypeStruct`s in place of its parameters."""
    module = convert.module_of(config)(config, dtype=dtype)
    tokens, mask = jax.ShapeDtypeStruct((1, 1), jnp.int32), jax.ShapeDtypeStruct((1, 1), bool)
    shapes = jax.eval_shape(module.init, jax.random.key(0), tokens, mask)["params"]
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), shapes)
    if quantize is not None:
        params = jax.eval_shape(lambda tree: quantized.quantize(tree, quantized.KERNELS, quantize), params)
    return Pretrained(module, params, config)


def read_config(path: Path) -> convert.LanguageConfig:
    """The sizes of the model at a path; errors as of `load`."""
    return gguf_file.read(path)[1] if _is_gguf(path) else _folder_config(path)


class _LazyTensors(Mapping[str, np.ndarray]):
    """Tensors by name, each read when it is accessed."""

    def __init__(self, readers: Readers):
        self._readers = readers

    def __getitem__(self, name: str) -> np.ndarray:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def load(
    path: Path,
    *,
    layers: int | None = None,
    dtype: Any = jnp.float32,
    compute_dtype: Any | None = None,
    quantize: QuantizationFormat | None = None,
    on_host: bool = False,
) -> Pretrained:
    """Reads a language model.

    Args:
      path: a folder with `config.json` and safetensors (one file, or shards with their index), or a `.gguf` file.
      layers: how many of the lowest layers to keep; what follows the last layer stays. All when None.
      dtype: of the parameters, whatever the file holds.
      compute_dtype: dtype of the computation; `dtype` when None.
      quantize: the format for the layers' kernels, which are quantised one by one: the device never holds all of them
        whole. None leaves them as they are.
      on_host: leave the parameters in numpy arrays, from which each device is given its part: no device ever holds all.

    Raises:
      FileNotFoundError: no such path, or no model in the folder.
      ValueError: a damaged file, a missing shard, an unsupported architecture, weights that do not fit the
        configuration, or more layers requested than there are.
    """
    path = Path(path)
    tensors, config = gguf_file.read(path) if _is_gguf(path) else _read_folder(path)
    if layers is not None:
        if not 1 <= layers <= config.layers:
            raise ValueError(f"layers={layers}: {path} has {config.layers} layers; ask for 1 to {config.layers}")
        config = dataclasses.replace(config, layers=layers)
        tensors = {name: reader for name, reader in tensors.items() if _layer_number(name) < layers}
    try:
        params = convert.from_hf(_LazyTensors(tensors), config, dtype)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if quantize is not None:
        params = quantized.quantize(params, quantized.KERNELS, quantize)
    module = convert.module_of(config)(config, dtype=dtype if compute_dtype is None else compute_dtype)
    return Pretrained(module, jax.tree.map(np.asarray if on_host else jnp.asarray, params), config)


def save(
    folder: Path,
    model: Pretrained,
    tokenizer: PreTrainedTokenizerFast | None = None,
    *,
    dtype: Any | None = None,
    shard_size: str = "5GB",
) -> None:
    """Writes a language model as a Hugging Face folder, which `load` and transformers read; completely or not at all.

    Args:
      folder: the target; it must be new or empty.
      model: adapters must be merged beforehand; a quantised model cannot be written.
      tokenizer: written beside the weights; transformers' `generate` ends and pads texts with its special tokens.
      dtype: float32 or bfloat16; that of the parameters when None.
      shard_size: the largest size of a file; more than one file get an index.

    Raises:
      ValueError: the folder is not empty, the tokenizer has ids without an embedding, the parameters do not fit the
        configuration, or another dtype.
    """
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"{folder} is there already; name a new folder, or remove it")
    views = dict(convert.hf_views(model.params, model.config))
    dtypes = {name: np.dtype(view.dtype if dtype is None else dtype) for name, view in views.items()}
    if others := {dtype.name for dtype in dtypes.values()} - {"float32", "bfloat16"}:
        raise ValueError(f"weights of {', '.join(sorted(others))} are not written; pass dtype float32 or bfloat16")
    widest = max(dtypes.values(), key=lambda dtype: dtype.itemsize)
    hf_config = convert.config_to_hf(model.config) | {"torch_dtype": widest.name}
    if tokenizer is not None:
        check_tokenizer(tokenizer, model.config, folder)
    if not isinstance(model.config, BertConfig):  # RoBERTa's padding id is part of its positions
        hf_config |= {key: getattr(tokenizer, key, None) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    sizes = {name: views[name].size * dtype.itemsize for name, dtype in dtypes.items()}
    split = split_state_dict_into_shards_factory(
        sizes,
        get_storage_size=lambda size: size,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=shard_size,
    )
    with replacing(folder) as temporary:
        temporary.mkdir()
        for file, names in split.filename_to_tensors.items():
            tensors = {name: np.ascontiguousarray(views[name], dtypes[name]) for name in names}
            save_file(tensors, temporary / file, metadata={"format": "pt"})  # transformers requires this mark
        if split.is_sharded:
            write_json(temporary / _INDEX, {"metadata": split.metadata, "weight_map": split.tensor_to_filename})
        write_json(temporary / "config.json", hf_config)
        if tokenizer is not None:
            tokenizer.save_pretrained(str(temporary))


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


def _layer_number(name: str) -> int:
    """The layer of a tensor by its Hugging Face name; -1 outside the layers."""
    match = re.search(r"(?:^|\.)(?:layers|layer|h)\.(\d+)\.", name)
    return int(match[1]) if match else -1


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not even text
        raise ValueError(f"{file} is not JSON ({error}); {_FETCH_AGAIN}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{file} holds no JSON object; {_FETCH_AGAIN}")
    return value


def _folder_config(path: Path) -> convert.LanguageConfig:
    config_file = path / "config.json"
    if not config_file.is_file():
        raise FileNotFoundError(f"{path} has no config.json; give the folder of a Hugging Face model")
    try:
        return convert.config_from_hf(_read_json(config_file))
    except ValueError as error:
        raise ValueError(f"{config_file}: {error}") from error


def _read_folder(path: Path) -> tuple[Readers, convert.LanguageConfig]:
    config = _folder_config(path)
    readers: Readers = {}
    for file in _weight_files(path):
        try:
            handle = safe_open(file, framework="numpy")
        except SafetensorError as error:
            raise ValueError(f"{file} cannot be read as safetensors ({error}); {_FETCH_AGAIN}") from error
        for tensor in handle.keys():
            readers[tensor] = lambda handle=handle, tensor=tensor: handle.get_tensor(tensor)
    return readers, config


def _weight_files(path: Path) -> list[Path]:
    index = path / _INDEX
    if index.is_file():
        file_of = _read_json(index).get("weight_map")
        if not isinstance(file_of, dict):
            raise ValueError(f"{index} has no weight_map; {_FETCH_AGAIN}")
        files = [path / name for name in sorted(set(file_of.values()))]
        if absent := [file.name for file in files if not file.is_file()]:
            raise ValueError(f"{index} names {', '.join(absent)}, which {path} does not have; fetch the missing files")
        return files
    file = path / "model.safetensors"
    if not file.is_file():
        others = [other.name for other in path.glob("*.bin")]
        hint = f" ({', '.join(others)} would need pickle: save the model as safetensors)" if others else ""
        raise FileNotFoundError(f"{file} is missing{hint}")
    return [file]


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer beside a model, or the one inside a GGUF file, its chat template included.

    Raises:
      FileNotFoundError: no such path, or a folder without a tokenizer.
      ValueError: a damaged file, or an unsupported kind of GGUF tokenizer.
    """
    from transformers import AutoTokenizer  # not above: the import takes seconds

    path = Path(path)
    if _is_gguf(path):
        return gguf_file.load_tokenizer(path)
    if not any((path / name).is_file() for name in ("tokenizer.json", "vocab.json", "vocab.txt")):
        raise FileNotFoundError(f"{path} has no tokenizer.json, vocab.json or vocab.txt")
    try:
        return AutoTokenizer.from_pretrained(str(path), local_files_only=True)
    except Exception as error:  # the library passes on whatever its parsers raise, bare Exceptions too
        raise ValueError(f"the tokenizer in {path} cannot be read ({error}); {_FETCH_AGAIN}") from error


def check_tokenizer(tokenizer: PreTrainedTokenizerFast, config: convert.LanguageConfig, path: Path) -> None:
    """Raises ValueError for a tokenizer with ids that the model has no embedding for.

    Args:
      tokenizer: the tokenizer.
      config: of the model.
      path: where they come from, for the message.

    Raises:
      ValueError: names the highest token and the number of embeddings.
    """
    token, highest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if highest >= config.vocab_size:
        raise ValueError(
            f"{path}: the tokenizer's token {token!r} has id {highest}, but the model embeds ids 0 to "
            f"{config.vocab_size - 1}; use the tokenizer that the model was trained with, or give every added token a "
            "row (`pretrained.language_models.extend`)"
        )
