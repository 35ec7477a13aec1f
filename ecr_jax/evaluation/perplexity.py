"""How likely a frozen language model finds replies in their dialogues."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.data.schema import Role
from ecr_jax.features.tokenizer import DialogueTokenizer, last_turns, pad
from ecr_jax.losses.next_token import next_token_cross_entropy
from ecr_jax.models.lm.language_model import head
from ecr_jax.pretrained.language_models import Pretrained

_BATCH = 8
_LENGTH_STEP = 64
"""Lengths are rounded up to multiples of this, so that a few programs are compiled."""


def reply_losses(
    model: Pretrained,
    tokenizer: DialogueTokenizer,
    contexts: Sequence[Sequence[tuple[str, str]]],
    replies: Sequence[str],
    *,
    max_context: int = 192,
    max_reply: int = 160,
) -> tuple[np.ndarray, np.ndarray]:
    """The summed negative log-likelihood of each reply after its context, and its number of tokens.

    exp(sum of the losses / number of tokens) is the perplexity per token. The tokens are the model's own, the end token
    included, so perplexities of different models do not compare.

    Args:
      model: a causal language model, without an adapter.
      tokenizer: its tokenizer.
      contexts: (role, text) of the turns before each reply, [n].
      replies: texts, [n].
      max_context: most tokens of a context, which loses its first turns.
      max_reply: most tokens of a reply; what is behind them is not measured.

    Returns:
      Losses in nats, float64 [n], and numbers of tokens, int [n]; an empty reply has the end token alone.
    """

    @jax.jit
    def losses(params, tokens, mask, predicted):
        hidden = model.module.apply({"params": params}, tokens, mask).hidden  # type: ignore[union-attr]

        def of_row(row):  # one row at a time: the scores of the vocabulary are large
            states, ids, where = row
            return next_token_cross_entropy(
                hidden=states[None], head=head(params), tokens=ids[None], where=where[None]
            )[0]

        return jax.lax.map(of_row, (hidden, tokens, predicted))

    opening = tokenizer.opening()
    rows, starts = [], []
    for context, ids in zip(contexts, tokenizer.encode(replies), strict=True):
        turns = tokenizer.encode_turns([(Role(role), text) for role, text in context])
        prompt = [*last_turns(turns, max_context), *opening]
        rows.append([*prompt, *[*ids, tokenizer.end][:max_reply]])
        starts.append(len(prompt))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # like lengths together
    values = np.zeros(len(rows))
    for begin in range(0, len(order), _BATCH):
        batch = order[begin : begin + _BATCH]
        length = -(-max(len(rows[i]) for i in batch) // _LENGTH_STEP) * _LENGTH_STEP
        filled = [rows[i] for i in batch] + [[tokenizer.end]] * (_BATCH - len(batch))
        tokens, mask = pad(filled, length, tokenizer.end)
        first = np.array([starts[i] for i in batch] + [length] * (_BATCH - len(batch)))
        predicted = mask & (np.arange(length) >= first[:, None])
        values[batch] = np.asarray(losses(model.params, jnp.asarray(tokens), mask, predicted))[: len(batch)]
    return values, np.array([len(row) - start for row, start in zip(rows, starts, strict=True)])
