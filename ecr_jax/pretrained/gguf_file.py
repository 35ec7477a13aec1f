"""A GGUF file, as llama.cpp writes it: its weights under Hugging Face's names, and the tokenizer in its metadata."""

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

# llama.cpp's marks of a token's kind (`tokenizer.ggml.token_type`).
_CONTROL, _USER_DEFINED = 3, 4


def read(path: Path) -> tuple[Readers, LanguageConfig]:
    """The weights, dequantised one by one when they are asked for, and the configuration.

    Raises:
        ValueError: a damaged file, or what `convert_gguf.from_gguf` refuses.
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
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:  # what half a header looks like
        again = "it may be cut off or damaged: fetch or copy it again"
        raise ValueError(f"{path} cannot be read as GGUF ({error}); {again}") from error


def tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in the metadata, its chat template included.

    Raises:
        ValueError: a damaged file, or another tokenizer than byte-level BPE with a split that is known.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors
    from transformers import PreTrainedTokenizerFast

    _, metadata = _open(path)
    kind, split = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "gpt-2")
    splits = _splits()
    if kind != "gpt2" or split not in splits:
        raise ValueError(
            f"{path}: GGUF tokenizer {kind!r} with pre-tokenizer {split!r} is not supported (supported: 'gpt2' with "
            f"{', '.join(map(repr, splits))}); use a folder with tokenizer.json"
        )
    lists = {name: metadata.get(f"tokenizer.ggml.{name}") for name in ("tokens", "token_type", "merges")}
    if absent := [name for name, values in lists.items() if values is None]:
        raise ValueError(f"{path}: no tokenizer.ggml.{', '.join(absent)} in it; use a folder with tokenizer.json")
    tokens = lists["tokens"]
    ids = {token: number for number, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in lists["merges"]]
    # Llama 3 takes a word that is a token as it is, though no merges may lead to it.
    made = Tokenizer(models.BPE(vocab=ids, merges=merges, ignore_merges=split == "llama-bpe"))
    made.pre_tokenizer = splits[split]
    made.decoder = decoders.ByteLevel()
    kinds = dict(zip(tokens, lists["token_type"], strict=True))
    control = [token for token in tokens if kinds[token] == _CONTROL]
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    own = [token for token in tokens if kinds[token] == _USER_DEFINED]
    made.add_tokens([AddedToken(token, normalized=False) for token in own])
    named = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    special = {
        f"{name}_token": tokens[metadata[f"tokenizer.ggml.{theirs}_token_id"]]
        for name, theirs in named.items()
        if f"tokenizer.ggml.{theirs}_token_id" in metadata
    }
    if metadata.get("tokenizer.ggml.add_bos_token", False):
        begin = special["bos_token"]
        made.post_processor = processors.TemplateProcessing(
            f"{begin} $A", f"{begin} $A {begin}:1 $B:1", special_tokens=[(begin, ids[begin])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        chat_template=metadata.get("tokenizer.chat_template"),
        model_max_length=metadata[f"{metadata['general.architecture']}.context_length"],
        clean_up_tokenization_spaces=False,
        **special,
    )


def _splits() -> dict[str, PreTokenizer]:
    """How text is split before bytes are merged, by llama.cpp's name (`tokenizer.ggml.pre`)."""
    from tokenizers import Regex, pre_tokenizers

    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    # Contractions; letters with one sign before them; up to three digits; signs; blanks: the pattern of Llama 3's
    # tokenizer.json.
    llama3 = Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    return {
        "gpt-2": words,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words]),
        "llama-bpe": pre_tokenizers.Sequence([pre_tokenizers.Split(llama3, "isolated"), plain]),
    }
