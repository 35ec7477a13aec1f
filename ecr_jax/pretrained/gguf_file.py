"""GGUF files, llama.cpp's format: the weights under Hugging Face's names, the tokenizer in the metadata, adapters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import (
    GGMLQuantizationType,
    GGUFEndian,
    GGUFReader,
    GGUFType,
    GGUFValueType,
    GGUFWriter,
    Keys,
    dequantize,
    quantize,
)

from ecr_jax.models.lm import convert, convert_gguf, lora
from ecr_jax.models.lm.bert import BertConfig
from ecr_jax.models.lm.convert import LanguageConfig
from ecr_jax.models.lm.convert_gguf import Readers
from ecr_jax.models.lm.gpt2 import Gpt2Config
from ecr_jax.models.lm.llama import LlamaConfig
from ecr_jax.models.lm.lora import LoraConfig

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer
    from transformers import PreTrainedTokenizerFast

# llama.cpp's codes of a token's kind (`tokenizer.ggml.token_type`).
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_LORA_A, _LORA_B = ".lora_a", ".lora_b"


def read(path: Path) -> tuple[Readers, LanguageConfig]:
    """The weights, as functions that dequantise one tensor each, and the configuration.

    Raises:
      ValueError: a damaged file, or one that `convert_gguf.from_gguf` does not support.
    """
    reader, metadata = _open(path)

    def weight(tensor: Any) -> np.ndarray:
        try:
            return dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError as error:
            kind = tensor.tensor_type.name
            raise ValueError(f"{tensor.name} is {kind}, which cannot be dequantised here; take Q8_0 or F16") from error

    tensors = {tensor.name: lambda tensor=tensor: weight(tensor) for tensor in reader.tensors}
    try:
        return convert_gguf.from_gguf(metadata, tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


class _Reader(GGUFReader):
    """The package's reader with fast arrays: it makes several numpy views of each of a tokenizer's 100,000 strings."""

    @property
    def data(self) -> np.ndarray:
        return self._data

    @data.setter
    def data(self, memory: np.memmap) -> None:
        self._data = np.asarray(memory)

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> tuple[int, list[Any], list[int], list[GGUFValueType]]:
        if raw_type != GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        item_type = self._get(orig_offs, np.uint32)
        kind, length = GGUFValueType(item_type[0]), self._get(orig_offs + 4, np.uint64)
        start, count, types = orig_offs + 12, int(length[0]), [GGUFValueType.ARRAY, kind]
        if kind in self.gguf_scalar_to_np:
            values = self._get(start, self.gguf_scalar_to_np[kind], count)
            return 12 + values.nbytes, [item_type, length, values], [2] if count else [], types
        if kind != GGUFValueType.STRING:
            return super()._get_field_parts(orig_offs, raw_type)
        memory, order = memoryview(self._data), "little" if self.endianess == GGUFEndian.LITTLE else "big"
        parts: list[Any] = [item_type, length]
        for _ in range(count):
            end = start + 8 + int.from_bytes(memory[start : start + 8], order)
            if end > len(memory):
                raise IndexError(f"a string ends at byte {end}, and there are {len(memory)}")
            parts.append(memory[start + 8 : end])
            start = end
        return start - orig_offs, parts, list(range(2, 2 + count)), types


def _open(path: Path) -> tuple[GGUFReader, dict[str, Any]]:
    """The reader, and the metadata as plain values."""
    try:
        reader = _Reader(path)
        return reader, {name: field.contents() for name, field in reader.fields.items() if name[:5] != "GGUF."}
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:  # raised at a damaged header
        raise ValueError(
            f"{path} cannot be read as GGUF ({error}); it may be cut off or damaged: fetch or copy it again"
        ) from error


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in the metadata, its chat template included.

    Raises:
      ValueError: a damaged file, or a tokenizer other than byte-level BPE with a known pre-tokenizer.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors
    from transformers import PreTrainedTokenizerFast

    _, metadata = _open(path)
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "gpt-2")
    pre_tokenizers = _pre_tokenizers()
    if kind != "gpt2" or pre not in pre_tokenizers:
        raise ValueError(
            f"{path}: GGUF tokenizer {kind!r} with pre-tokenizer {pre!r} is not supported (supported: 'gpt2' with "
            f"{', '.join(map(repr, pre_tokenizers))}); use a folder with tokenizer.json"
        )
    fields = {name: f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "merges")}
    if absent := [name for name, field in fields.items() if metadata.get(field) is None]:
        raise ValueError(f"{path}: no tokenizer.ggml.{', '.join(absent)} in it; use a folder with tokenizer.json")
    tokens: list[str] = metadata[fields["tokens"]]
    ids = {token: number for number, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in metadata[fields["merges"]]]
    # Llama 3 takes a word that is a token as it is, even where no merges lead to it.
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, ignore_merges=pre == "llama-bpe"))
    tokenizer.pre_tokenizer = pre_tokenizers[pre]
    tokenizer.decoder = decoders.ByteLevel()
    kinds: dict[str, int] = dict(zip(tokens, metadata[fields["token_type"]], strict=True))
    control = [token for token in tokens if kinds[token] == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    user_defined = [token for token in tokens if kinds[token] == _USER_DEFINED]
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in user_defined])
    gguf_names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    special = {
        f"{name}_token": tokens[metadata[f"tokenizer.ggml.{gguf_name}_token_id"]]
        for name, gguf_name in gguf_names.items()
        if f"tokenizer.ggml.{gguf_name}_token_id" in metadata
    }
    if metadata.get("tokenizer.ggml.add_bos_token", False):
        begin = special["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            f"{begin} $A", f"{begin} $A {begin}:1 $B:1", special_tokens=[(begin, ids[begin])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=metadata.get("tokenizer.chat_template"),
        model_max_length=metadata[f"{metadata['general.architecture']}.context_length"],
        clean_up_tokenization_spaces=False,
        **special,
    )


def _pre_tokenizers() -> dict[str, PreTokenizer]:
    """How text is split before byte-level BPE, by llama.cpp's name (`tokenizer.ggml.pre`)."""
    from tokenizers import Regex, pre_tokenizers

    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    # The pattern of Llama 3's tokenizer.json: contractions; letters with one other character before them; up to three
    # digits; punctuation; white space.
    llama3 = Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    return {
        "gpt-2": words,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words]),
        "llama-bpe": pre_tokenizers.Sequence([pre_tokenizers.Split(llama3, "isolated"), plain]),
    }


def write(
    path: Path, params: Mapping[str, Any], config: LanguageConfig, tokenizer: PreTrainedTokenizerFast, name: str
) -> None:
    """Writes a language model that llama.cpp and `read` load; matrices in their dtype, vectors in float32.

    Args:
      path: the file.
      params: its parameters, kernels whole, of float32 or bfloat16.
      config: its sizes.
      tokenizer: byte-level BPE.
      name: what the file calls the model.

    Raises:
      ValueError: an encoder, parameters that do not fit the sizes, or a tokenizer other than byte-level BPE with a
        known pre-tokenizer.
    """
    config = _decoder(config)
    vocabulary = _tokenizer_metadata(tokenizer, config)
    writer = GGUFWriter(path, convert_gguf.architecture(config))
    writer.add_type(GGUFType.MODEL)
    writer.add_name(name)
    adders = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    for key, value in (convert_gguf.metadata_of(config) | vocabulary).items():
        adders[type(value)](key, value)
    for hf_name, view in convert.hf_views(params, config):
        gguf_name = convert_gguf.gguf_name(hf_name, config)
        tensor = convert_gguf.to_gguf_layout(gguf_name, view, config)
        if tensor.ndim > 1 and tensor.dtype.name == "bfloat16":
            kind = GGMLQuantizationType.BF16
            writer.add_tensor(gguf_name, quantize(np.ascontiguousarray(tensor, np.float32), kind), raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name, np.ascontiguousarray(tensor, np.float32))
    if isinstance(config, LlamaConfig) and (factors := convert_gguf.rope_factors(config)) is not None:
        writer.add_tensor(convert_gguf.ROPE_FACTORS, factors)
    _finish(writer)


def write_adapter(path: Path, adapter: lora.Adapter, settings: LoraConfig, config: LanguageConfig) -> None:
    """Writes a LoRA adapter that llama.cpp loads beside its base (`--lora`).

    Each adapted weight W [out, in] has `lora_a` [r, in] and `lora_b` [out, r]. The scale is in `lora_b`: llama.cpp's
    one alpha for all of them could not express the settings' patterns.

    Args:
      path: the file.
      adapter: of projections of the model, in every layer.
      settings: its settings.
      config: sizes of the base.

    Raises:
      ValueError: an encoder.
    """
    config, modules = _decoder(config), convert.projections(config)
    prefix = "model." if isinstance(config, LlamaConfig) else "transformer."
    writer = GGUFWriter(path, convert_gguf.architecture(config))
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    for path_in_tree, part in lora.flat(adapter).items():
        a, b = (np.asarray(part[leaf], np.float32) for leaf in ("a", "b"))
        b = b * np.float32(settings.scale_of(path_in_tree))
        for layer in range(config.layers):
            hf_name = prefix + modules[path_in_tree][0].format(l=layer) + ".weight"
            name = convert_gguf.gguf_name(hf_name, config)
            rows = (
                b[layer].T if isinstance(config, Gpt2Config) else convert_gguf.to_gguf_layout(name, b[layer].T, config)
            )
            writer.add_tensor(name + _LORA_A, np.ascontiguousarray(a[layer].T))
            writer.add_tensor(name + _LORA_B, np.ascontiguousarray(rows))
    _finish(writer)


def read_with_adapter(path: Path, adapter: Path) -> tuple[Readers, LanguageConfig]:
    """As `read`, with the adapter of a file of `write_adapter` (or llama.cpp's) added to the weights as llama.cpp does.

    Raises:
      ValueError: as `read`; or a file that holds no LoRA adapter of this architecture.
    """
    (base, metadata), (factors, about) = _open(path), _open(adapter)
    kind = about.get("general.type"), about.get("general.architecture"), about.get(Keys.Adapter.TYPE)
    if kind != ("adapter", metadata.get("general.architecture"), "lora"):
        raise ValueError(f"{adapter} is no LoRA adapter of {metadata.get('general.architecture')}: {kind}")
    parts = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in factors.tensors}
    alpha = about.get(Keys.Adapter.LORA_ALPHA, 0.0)

    def weight(tensor: Any) -> np.ndarray:
        whole = dequantize(tensor.data, tensor.tensor_type)
        if tensor.name + _LORA_A not in parts:
            return whole
        a, b = parts[tensor.name + _LORA_A], parts[tensor.name + _LORA_B]
        return whole + (b @ a) * np.float32(alpha / len(a) if alpha else 1.0)

    tensors = {tensor.name: lambda tensor=tensor: weight(tensor) for tensor in base.tensors}
    if unused := {name.removesuffix(_LORA_A).removesuffix(_LORA_B) for name in parts} - tensors.keys():
        raise ValueError(f"{adapter} adapts what {path} does not have: {', '.join(sorted(unused))}")
    return convert_gguf.from_gguf(metadata, tensors)


def _decoder(config: LanguageConfig) -> LlamaConfig | Gpt2Config:
    if isinstance(config, BertConfig):
        raise ValueError("GGUF files are written of Llama and GPT-2 decoders, not of a BERT")
    return config


def _finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tokenizer_metadata(tokenizer: PreTrainedTokenizerFast, config: LlamaConfig | Gpt2Config) -> dict[str, Any]:
    """The metadata that `load_tokenizer` reads a tokenizer from; ids that have no token are named and marked unused."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    pre = _pre_tokenizer_name(state) if state["model"]["type"] == "BPE" else None
    if pre is None:
        kinds = ", ".join(map(repr, _pre_tokenizers()))
        raise ValueError(
            f"GGUF files are written with byte-level BPE tokenizers (pre-tokenizers {kinds}), not with this "
            f"{state['model']['type']}; export to hf instead"
        )
    added = {token["content"]: token["special"] for token in state["added_tokens"]}
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    tokens = [by_id.get(number, f"[PAD{number}]") for number in range(config.vocab_size)]

    def kind(number: int) -> int:
        if number not in by_id:
            return _UNUSED
        special = added.get(tokens[number])
        return _NORMAL if special is None else _CONTROL if special else _USER_DEFINED

    values: dict[str, Any] = {
        Keys.Tokenizer.MODEL: "gpt2",
        Keys.Tokenizer.PRE: pre,
        Keys.Tokenizer.LIST: tokens,
        Keys.Tokenizer.TOKEN_TYPE: [kind(number) for number in range(config.vocab_size)],
        Keys.Tokenizer.MERGES: [m if isinstance(m, str) else " ".join(m) for m in state["model"]["merges"]],
        Keys.Tokenizer.ADD_BOS: tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id],
    }
    ids = {
        Keys.Tokenizer.BOS_ID: tokenizer.bos_token_id,
        Keys.Tokenizer.EOS_ID: tokenizer.eos_token_id,
        Keys.Tokenizer.UNK_ID: tokenizer.unk_token_id,
        Keys.Tokenizer.PAD_ID: tokenizer.pad_token_id,
    }
    values |= {key: number for key, number in ids.items() if number is not None}
    if tokenizer.chat_template is not None:
        values[Keys.Tokenizer.CHAT_TEMPLATE] = tokenizer.chat_template
    return values


def _pre_tokenizer_name(state: Mapping[str, Any]) -> str | None:
    """The name in `_pre_tokenizers` of a tokenizer's state; None where it is another one, or where it normalises."""
    from tokenizers import Tokenizer, models

    def splits(pre_tokenizer: Any) -> Any:
        """Without the setting of the offsets, which changes no token."""
        if isinstance(pre_tokenizer, dict):
            return {key: splits(value) for key, value in pre_tokenizer.items() if key != "trim_offsets"}
        return [splits(part) for part in pre_tokenizer] if isinstance(pre_tokenizer, list) else pre_tokenizer

    if state["normalizer"] is not None:
        return None
    for name, known in _pre_tokenizers().items():
        other = Tokenizer(models.BPE())
        other.pre_tokenizer = known
        if splits(json.loads(other.to_str())["pre_tokenizer"]) == splits(state["pre_tokenizer"]):
            return name
    return None
