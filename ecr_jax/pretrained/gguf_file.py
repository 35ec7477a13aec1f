"""Reading GGUF files, llama.cpp's format: the weights under Hugging Face's names, and the tokenizer in the metadata."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGUFReader, dequantize

from ecr_jax.models.lm import convert_gguf
from ecr_jax.models.lm.convert import LanguageConfig
from ecr_jax.models.lm.convert_gguf import Readers

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer
    from transformers import PreTrainedTokenizerFast

# llama.cpp's codes of a token's kind (`tokenizer.ggml.token_type`).
_CONTROL, _USER_DEFINED = 3, 4


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


def _open(path: Path) -> tuple[GGUFReader, dict[str, Any]]:
    """The reader, and the metadata as plain values."""
    try:
        reader = GGUFReader(path)
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
