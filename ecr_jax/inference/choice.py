"""Constrained choice: exact log-probabilities of a closed set of continuations."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.inference.decoding import packed
from ecr_jax.models.language_model import Prefix, init_cache, logits


class Scores(NamedTuple):
    """Natural log-probabilities float32 [B, C]: of whole continuations, and their means over tokens."""

    total: np.ndarray
    mean: np.ndarray


@functools.partial(jax.jit, static_argnames=("module", "at_once"))
def _totals(module, variables, tokens, start, choices, marks, prefix, prefix_mask, *, at_once) -> jax.Array:
    batch, width = tokens.shape
    length = choices.shape[-1]
    mask = jnp.arange(width) >= start[:, None]
    cache = init_cache(module.config, batch, width + length, module.dtype, params=variables["params"])
    prompt = module.apply(variables, tokens, mask, prefix, prefix_mask, cache)

    def total(choice):  # int [B, K], bool [B, K]
        written, real = choice
        states = prompt.hidden[:, -1:]  # [B, 1, D], what the first token is scored by
        if length > 1:
            out = module.apply(variables, written[:, :-1], real[:, :-1], prefix, prefix_mask, prompt.cache)
            states = jnp.concatenate([states, out.hidden], axis=1)  # [B, K, D]
        scores = logits(variables["params"], states)  # [B, K, V]
        given = jnp.take_along_axis(scores, written[..., None], axis=-1)[..., 0]
        return jnp.sum(jnp.where(real, given - jax.nn.logsumexp(scores, axis=-1), 0), axis=-1)

    shape = (batch, *choices.shape[-2:])
    each = tuple(jnp.broadcast_to(part, shape).swapaxes(0, 1) for part in (choices, marks))  # [C, B, K]
    return jax.lax.map(total, each, batch_size=at_once).T  # [B, C]


def score(
    module: Any,
    variables: dict[str, Any],
    tokens: Any,
    mask: Any,
    choices: Any,
    choices_mask: Any,
    *,
    prefix: Prefix | None = None,
    prefix_mask: jax.Array | None = None,
    at_once: int = 8,
) -> Scores:
    """Log-probabilities of continuations given prompts; every prompt is read once.

    A continuation is scored as it stands: give it its end token where ending counts too.

    Args:
      module: a causal language model.
      variables: {"params": ...} and, where there are adapters, "lora" (shared, or one adapter a row).
      tokens: int [B, T] and
      mask: bool [B, T], prompts, padded on either side.
      choices: int [C, K], the same for all prompts, or [B, C, K]; padded on the right.
      choices_mask: bool, of the same shape.
      prefix: per-layer keys and values [L, B, Hkv, P, Dh] and
      prefix_mask: bool [B, P], or None.
      at_once: continuations read together; memory grows with it.

    Raises:
      ValueError: shapes that do not fit, an empty continuation, or as `decoding.packed`.
    """
    choices, marks = np.asarray(choices, np.int32), np.asarray(choices_mask, bool)
    batch = len(tokens)
    if choices.shape != marks.shape or choices.ndim not in (2, 3) or (choices.ndim == 3 and len(choices) != batch):
        raise ValueError(
            f"choices {choices.shape} and their mask {marks.shape} must both be [choices, tokens] or "
            f"[{batch}, choices, tokens]"
        )
    if not marks.size or not marks[..., 0].all() or (marks[..., 1:] & ~marks[..., :-1]).any():
        raise ValueError("every choice needs a token, and its padding on the right: see choices_mask")
    tokens, start = packed(module, tokens, mask, choices.shape[-1])
    total = np.asarray(_totals(module, variables, tokens, start, choices, marks, prefix, prefix_mask, at_once=at_once))
    return Scores(total, total / marks.sum(axis=-1, dtype=np.float32))


def choose(*args: Any, per_token: bool = False, **given: Any) -> np.ndarray:
    """The best continuation of each prompt, int [B]: by its probability, or by the mean over its tokens.

    Args:
      args, given: as in `score`.
      per_token: compare means, so that length does not count against a continuation.
    """
    scores = score(*args, **given)
    return np.argmax(scores.mean if per_token else scores.total, axis=1)
