"""States of the frozen text encoder, computed once and cached on disk by the hash of what was encoded.

A unit is one piece of text (a turn, or an entity's description). Its token states are rows of one float16 array on
disk; a context's states are the states of its turns, one after the other.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track
from transformers import PreTrainedTokenizerBase

from ecr_jax.features.tokenizer import last_turns_length, pad
from ecr_jax.files import replacing
from ecr_jax.pretrained import hub
from ecr_jax.pretrained.language_models import Pretrained, check_tokenizer, load, load_tokenizer

_BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class TextStates:
    """Token states of many units.

    Attributes:
      tokens: float16 [sum of lengths, D], memory-mapped.
      offsets: int64 [units + 1]; unit u owns rows offsets[u] to offsets[u + 1].
      index: text -> unit.
      fallback: states of texts that are not in `index`.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    index: dict[str, int]
    fallback: TextStates | None = None

    @property
    def width(self) -> int:
        """D."""
        return self.tokens.shape[1]

    def with_fallback(self, states: TextStates) -> TextStates:
        """These states, and `states` for texts that are not among them."""
        return dataclasses.replace(self, fallback=states)

    def rows(self, text: str) -> np.ndarray:
        """The states of one text: float16 [its tokens, D]."""
        if text not in self.index and self.fallback is not None:
            return self.fallback.rows(text)
        unit = self.index[text]
        return self.tokens[self.offsets[unit] : self.offsets[unit + 1]]

    def length(self, text: str) -> int:
        """The number of states of one text."""
        if text not in self.index and self.fallback is not None:
            return self.fallback.length(text)
        unit = self.index[text]
        return int(self.offsets[unit + 1] - self.offsets[unit])

    def latest(self, texts: Sequence[str], limit: int) -> np.ndarray:
        """States of the latest whole units of `texts` that fit into `limit` rows, in order. float16 [<= limit, D].

        Of a last unit that alone is longer than `limit`, the last `limit` rows are taken.
        """
        length, units = self.latest_length(texts, limit), []
        for text in reversed(texts):
            if length <= 0:
                break
            rows = self.rows(text)
            units.append(rows[-length:])
            length -= len(rows)
        return np.concatenate(units[::-1]) if units else np.zeros((0, self.width), self.tokens.dtype)

    def latest_ages(self, texts: Sequence[str], limit: int) -> np.ndarray:
        """Which text each row of `latest` belongs to, counted from the end: 1 for the last text. int32 [<= limit]."""
        lengths = np.asarray([self.length(text) for text in reversed(texts)], np.int64)
        whole = int(np.searchsorted(np.cumsum(lengths), limit, side="right"))  # number of texts that fit whole
        lengths = np.minimum(lengths[: max(whole, 1)], limit)
        return np.repeat(np.arange(1, len(lengths) + 1, dtype=np.int32), lengths)[::-1]

    def latest_length(self, texts: Sequence[str], limit: int) -> int:
        """The number of rows of `latest`, without building them."""
        return last_turns_length([self.length(text) for text in texts], limit)

    def mean(self, texts: Sequence[str]) -> np.ndarray:
        """The mean state of each text. float32 [len(texts), D]."""
        return np.stack([self.rows(text).mean(0, dtype=np.float32) for text in texts])


class RecentStates:
    """An encoder that keeps the states of the texts it was asked for last, such as the turns of running dialogues."""

    def __init__(self, encode: Callable[[list[str]], TextStates], most: int):
        """Args:
        encode: computes the states of distinct texts.
        most: texts whose states are kept.
        """
        self._encode, self._most = encode, most
        self._kept: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> TextStates:
        """The states of the distinct texts."""
        units = list(dict.fromkeys(texts))
        missing = [unit for unit in units if unit not in self._kept]
        if missing or not units:
            states = self._encode(missing)
            self._kept |= {unit: states.rows(unit).copy() for unit in missing}
            if not units:
                return states
        rows = {unit: self._kept.pop(unit) for unit in units}
        self._kept |= rows  # the latest last
        for unit in list(self._kept)[: -self._most]:
            del self._kept[unit]
        offsets = np.concatenate([[0], np.cumsum([len(of_unit) for of_unit in rows.values()])])
        return TextStates(np.concatenate(list(rows.values())), offsets, {unit: i for i, unit in enumerate(units)})


def load_encoder(name: str) -> tuple[Pretrained, PreTrainedTokenizerBase]:
    """A text encoder and its tokenizer by a name of `pretrained.hub`.

    Raises:
      ValueError: the tokenizer does not fit the model.
    """
    path = hub.resolve(name)
    model, tokenizer = load(path), load_tokenizer(path)
    check_tokenizer(tokenizer, model.config, path)
    return model, tokenizer


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """The frozen text encoder, loaded when it is first needed, and the folder in which its states are cached.

    Attributes:
      name: the encoder's name; with the texts and their longest length it is the key of the cache.
      cache: a folder with one folder for each key.
      load: the name -> the encoder (a bidirectional language model) and its tokenizer.
    """

    name: str
    cache: Path
    load: Callable[[str], tuple[Pretrained, PreTrainedTokenizerBase]] = load_encoder

    @cached_property
    def _loaded(self) -> tuple[Pretrained, PreTrainedTokenizerBase]:
        return self.load(self.name)

    @property
    def model(self) -> Pretrained:
        """The encoder."""
        return self._loaded[0]

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return self._loaded[1]

    @property
    def width(self) -> int:
        """D, the width of the states."""
        return self.model.config.width

    def encode(self, texts: Sequence[str], max_tokens: int, label: str, *, cached: bool = True) -> TextStates:
        """Encodes each distinct text once; a second call with the same texts reads the disk.

        Args:
          texts: the units, in any order and with repetitions.
          max_tokens: longest unit in tokens, begin and end tokens included; a longer one is cut at its end.
          label: the progress bar's text.
          cached: False computes the states in memory and neither reads nor writes the disk.

        Returns:
          The states of the distinct texts.
        """
        units = sorted(set(texts))
        index = {unit: i for i, unit in enumerate(units)}
        if not cached:
            return TextStates(*_compute(units, self.model, self.tokenizer, None, max_tokens, label), index)
        digest = hashlib.sha256(f"{self.name}\0{max_tokens}\0".encode())
        for unit in units:
            digest.update(unit.encode() + b"\0")
        folder = self.cache / f"{self.name.replace('/', '--')}-{digest.hexdigest()[:16]}"
        if not folder.is_dir():
            with replacing(folder) as temporary:
                temporary.mkdir()
                path = temporary / "tokens.npy"
                _, offsets = _compute(units, self.model, self.tokenizer, path, max_tokens, label)
                np.save(temporary / "offsets.npy", offsets)
        return TextStates(np.load(folder / "tokens.npy", mmap_mode="r"), np.load(folder / "offsets.npy"), index)


def _compute(
    units: list[str],
    encoder: Pretrained,
    tokenizer: PreTrainedTokenizerBase,
    path: Path | None,
    max_tokens: int,
    label: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Token states of all units, in a file at `path` or in memory, and their offsets."""
    ids = tokenizer(units, truncation=True, max_length=max_tokens)["input_ids"] if units else []
    lengths = np.asarray([len(row) for row in ids], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    shape = (int(offsets[-1]), encoder.config.width)
    out = np.empty(shape, np.float16) if path is None else np.lib.format.open_memmap(path, "w+", np.float16, shape)
    order = np.argsort(lengths, kind="stable")
    batches = []
    start = 0
    for bucket in _BUCKETS:
        end = int(np.searchsorted(lengths[order], bucket, side="right"))
        size = 1 if path is None else max(1, _TOKENS_PER_BATCH // bucket)
        batches += [(bucket, size, order[i : min(i + size, end)]) for i in range(start, end, size)]
        start = end
    for bucket, size, chosen in track(batches, description=label, disable=path is None or len(batches) < 8):
        rows = [ids[i] for i in chosen] + [[0]] * (size - len(chosen))
        tokens, mask = pad(rows, bucket)
        hidden = np.asarray(_hidden(encoder.module, encoder.params, tokens, mask))
        for i, row in zip(chosen, hidden, strict=False):
            out[offsets[i] : offsets[i + 1]] = row[: lengths[i]]
    return out, offsets


@functools.partial(jax.jit, static_argnums=0)
def _hidden(module, params, tokens: jax.Array, mask: jax.Array) -> jax.Array:
    return module.apply({"params": params}, tokens, mask).hidden.astype(jnp.float16)
