"""The like-probability head: will the seeker like what is recommended next?"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecr_jax.models.layers import Linear, masked_mean


class LikeProbability(nn.Module):
    """A logit a context, linear in the mean text states (of all turns, of the last turn) and in the emotions.

    It tells contexts apart, not items, so that it changes no ranking. Its loss (`losses.ranking.feedback_bce`) trains
    nothing else.
    """

    @nn.compact
    def __call__(
        self,
        *,
        text_states: jax.Array,
        text_mask: jax.Array,
        text_ages: jax.Array,
        emotion_totals: jax.Array | None = None,
    ) -> jax.Array:
        """Logits [B].

        Args:
          text_states: [B, S, W] states of the text encoder.
          text_mask: bool [B, S].
          text_ages: int [B, S] how many turns ago each was uttered; 1 is the last turn.
          emotion_totals: [B, 9] how much of each emotion the context expresses; None leaves emotions out.
        """
        last = text_mask & (text_ages == 1)
        norm = nn.LayerNorm(use_scale=False, use_bias=False)
        parts = [norm(masked_mean(text_states, where)) for where in (text_mask, last)]
        if emotion_totals is not None:
            parts.append(jnp.log1p(emotion_totals.astype(text_states.dtype)))
        return Linear(1, scale=0.0, name="logit")(jnp.concatenate(parts, axis=-1))[:, 0]
