"""The repetition gate: a recommendation is a repetition with probability g, else it is new."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecr_jax.models.heads.repetition import mention_kind
from ecr_jax.models.layers import Linear, masked_mean, scatter_by_entity


class RepetitionGate(nn.Module):
    r"""Makes logits the log probabilities of g · p(mentioned) + (1 − g) · p(new).

    p(mentioned) is the softmax over the candidates that the context mentions, p(new) the one over all others. The odds
    of g are those of the last turn times a sum over the mentioned candidates e, so that more of them are more often
    repeated:

    .. math:: \log \frac{g}{1 - g} = b + w \cdot s + \log \sum_e \exp k_e

    with the mean text state s of the last turn and the learned k of a mention's kind: by whom, how long ago, how often.
    Where no candidate is mentioned, or all are, g is 0 or 1.

    Attributes:
      mention_turns, mention_counts: see `mention_kind`.

    Reference: the copy mechanism of See et al. 2017 and RepeatNet (Ren et al. 2019), for films.
    """

    mention_turns: int
    mention_counts: int

    @nn.compact
    def __call__(
        self,
        *,
        logits: jax.Array,
        columns: jax.Array,
        entity_mask: jax.Array,
        mentions: jax.Array,
        text_states: jax.Array,
        text_mask: jax.Array,
        text_ages: jax.Array,
    ) -> jax.Array:
        """Log probabilities [B, I].

        Args:
          logits: [B, I] of the candidates, by which each of the two softmaxes is taken.
          columns: int [B, E] the candidates' columns of the mentioned entities, I for those that are no candidates.
          entity_mask: bool [B, E].
          mentions: int [B, E, 3], see `mention_kind`.
          text_states: [B, S, W] states of the text encoder.
          text_mask: bool [B, S].
          text_ages: int [B, S] how many turns ago each was uttered; 1 is the last turn.
        """
        candidates = logits.shape[-1]
        repeatable = entity_mask & (columns < candidates)  # [B, E]
        mentioned = scatter_by_entity(columns, repeatable.astype(jnp.int32), candidates) > 0  # [B, I]

        last_turn = masked_mean(text_states, text_mask & (text_ages == 1))
        last_turn = nn.LayerNorm(use_scale=False, use_bias=False)(last_turn)
        # a mentioned film is what is recommended next with a probability of about 3 %
        odds = self.param("bias", nn.initializers.constant(-3.5), ())
        odds += Linear(1, use_bias=False, scale=0.0, name="last_turn")(last_turn)[:, 0]
        kinds = self.param("kind", nn.initializers.zeros, (self.mention_turns * 2 * self.mention_counts,))
        odds += _log_sum(kinds[mention_kind(mentions, self.mention_turns, self.mention_counts)], repeatable)

        any_mentioned, any_new = mentioned.any(axis=1), (~mentioned).any(axis=1)
        log_repeat = jnp.where(any_new, jax.nn.log_sigmoid(odds), 0.0)[:, None]
        log_new = jnp.where(any_mentioned, jax.nn.log_sigmoid(-odds), 0.0)[:, None]
        return jnp.where(
            mentioned,
            log_repeat + logits - _log_sum(logits, mentioned)[:, None],
            log_new + logits - _log_sum(logits, ~mentioned)[:, None],
        )


_LOWEST = -1e30
"""A score that never counts; finite, so that the gradient through it is 0 and not NaN."""


def _log_sum(scores: jax.Array, where: jax.Array) -> jax.Array:
    """log Σ exp of the scores [B, X] whose `where` is True: [B], something finite where there is none."""
    return jax.nn.logsumexp(jnp.where(where, scores, _LOWEST), axis=-1)
