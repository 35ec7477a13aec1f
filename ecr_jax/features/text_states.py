"""States of the frozen text encoder, computed once and kept on disk by the hash of what was encoded.

A unit is one piece of text (a turn, or an entity's description). Its token states are rows of one float16 array on
disk; a context's states are the states of its turns, one after the other.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track
from transformers import PreTrainedTokenizerBase

from ecr_jax.features.tokenizer import pad
from ecr_jax.files import replacing
from ecr_jax.pretrained.language_models import Pretrained

_BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class States:
    """Token states of many units.

    Attributes:
      tokens: float16 [sum of lengths, D], memory-mapped.
      offsets: int64 [units + 1]; unit u owns rows offsets[u] to offsets[u + 1].
      index: text -> unit.
      more: states of texts that are not in `index`.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    index: dict[str, int]
    more: States | None = None

    def rows(self, text: str) -> np.ndarray:
        """The states of one text: float16 [its tokens, D]."""
        if text not in self.index and self.more is not None:
            return self.more.rows(text)
        unit = self.index[text]
        return self.tokens[self.offsets[unit] : self.offsets[unit + 1]]

    def of(self, texts: Sequence[str], limit: int) -> np.ndarray:
        """States of the latest units of `texts` that fit whole into `limit` rows, in order. float16 [<= limit, D]."""
        kept, room = [], limit
        for text in reversed(texts):
            rows = self.rows(text)
            if len(rows) > room:
                if not kept:
                    kept.append(rows[len(rows) - room :])
                break
            kept.append(rows)
            room -= len(rows)
        if not kept:
            return np.zeros((0, self.tokens.shape[1]), self.tokens.dtype)
        return np.concatenate(kept[::-1])

    def ages(self, texts: Sequence[str], limit: int) -> np.ndarray:
        """Of which text each row of `of` is, counted from the end: 1 for the last. int32 [<= limit]."""
        lengths = np.asarray([len(self.rows(text)) for text in reversed(texts)], np.int64)
        whole = int(np.searchsorted(np.cumsum(lengths), limit, side="right"))  # texts that fit; of the last, what does
        lengths = np.minimum(lengths[: max(whole, 1)], limit)
        return np.repeat(np.arange(1, len(lengths) + 1, dtype=np.int32), lengths)[::-1]

    def mean(self, texts: Sequence[str]) -> np.ndarray:
        """The mean state of each text. float32 [len(texts), D]."""
        return np.stack([self.rows(text).mean(0, dtype=np.float32) for text in texts])


def encode(
    texts: Sequence[str],
    encoder: Pretrained,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    cache: Path | None,
    max_tokens: int,
    label: str,
) -> States:
    """Encodes each distinct text once; a second call with the same texts reads the disk.

    Args:
      texts: the units, in any order and with repetitions.
      encoder: a bidirectional text encoder (module, params).
      tokenizer: its tokenizer.
      name: the encoder's name; with the texts and `max_tokens` it makes the key of the cache.
      cache: folder that holds one folder a key; None keeps the states in memory only.
      max_tokens: longest unit in tokens, the marks of begin and end included; a longer one is cut at its end.
      label: what the progress bar says.

    Returns:
      `States` over the distinct texts.
    """
    units = sorted(set(texts))
    index = {unit: i for i, unit in enumerate(units)}
    if cache is None:
        return States(*_compute(units, encoder, tokenizer, None, max_tokens, label), index)
    digest = hashlib.sha256(f"{name}\0{max_tokens}\0".encode())
    for unit in units:
        digest.update(unit.encode() + b"\0")
    folder = cache / f"{name.replace('/', '--')}-{digest.hexdigest()[:16]}"
    if not folder.is_dir():
        with replacing(folder) as temporary:
            temporary.mkdir()
            _, offsets = _compute(units, encoder, tokenizer, temporary / "tokens.npy", max_tokens, label)
            np.save(temporary / "offsets.npy", offsets)
    return States(np.load(folder / "tokens.npy", mmap_mode="r"), np.load(folder / "offsets.npy"), index)


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
    for bucket, size, chosen in track(batches, description=label, disable=len(batches) < 8):
        rows = [ids[i] for i in chosen] + [[0]] * (size - len(chosen))
        tokens, mask = pad(rows, bucket)
        hidden = np.asarray(_hidden(encoder.module, encoder.params, tokens, mask))
        for i, row in zip(chosen, hidden, strict=False):
            out[offsets[i] : offsets[i + 1]] = row[: lengths[i]]
    return out, offsets


@functools.partial(jax.jit, static_argnums=0)
def _hidden(module, params, tokens: jax.Array, mask: jax.Array) -> jax.Array:
    return module.apply({"params": params}, tokens, mask).hidden.astype(jnp.float16)
