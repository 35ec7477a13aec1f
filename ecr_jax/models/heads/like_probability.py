"""The like-probability head: will the seeker like this film, if it is recommended next?"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecr_jax.models.layers import Linear, masked_mean, scatter_by_entity


class LikeLogits(NamedTuple):
    """The log odds that candidates are liked, as a sum of parts. Every part alone can rank liked above disliked films.

    Attributes:
      turn: [B, 1] of the context: it tells turns and seekers apart, not films.
      item: [B, I] of the film: how others answered about it.
      entities: [B, I] of the film among what the context names, by how the seeker feels about that.
    """

    turn: jax.Array
    item: jax.Array
    entities: jax.Array

    @property
    def total(self) -> jax.Array:
        """[B, I]."""
        return self.turn + self.item + self.entities


class LikeProbability(nn.Module):
    """Log odds of being liked: turn bias + item odds + valence-weighted entities of the context with the item.

    The turn bias is linear in the mean text states (of all turns, of the last turn), in the emotions, and in how far
    the dialogue has come: films that are named late are liked more often. The item part is a learned multiple of the
    shrunk log odds of the item's answers in training (`features.item_odds`), without the dialogue's own. The entity
    part is a learned multiple of asinh(c x), where x sums over the context's entities what co-occurs with them, each
    weighted by w + v times the seeker's valence, over the square root of the candidate's popularity.

    Its losses (`losses.ranking.feedback_bce`, `losses.ranking.like_pairwise`) train nothing else. At first all parts
    but the item odds are zero.
    """

    @nn.compact
    def __call__(
        self,
        *,
        text_states: jax.Array,
        text_mask: jax.Array,
        text_ages: jax.Array,
        mentions: jax.Array,
        entity_mask: jax.Array,
        item_odds: jax.Array,
        cooccurring: jax.Array,
        weights: jax.Array,
        log_popularity: jax.Array | None = None,
        emotion_totals: jax.Array | None = None,
        valence: jax.Array | None = None,
    ) -> LikeLogits:
        """The parts.

        Args:
          text_states: [B, S, W] states of the text encoder.
          text_mask: bool [B, S].
          text_ages: int [B, S] how many turns ago each was uttered; 1 is the last turn.
          mentions: int [B, E, 3] turns since the last mention, whether by the seeker, how often.
          entity_mask: bool [B, E].
          item_odds: [B, I] or [1, I] the candidates' log odds of being liked, less the mean item's.
          cooccurring: int [B, E, C] the candidates' columns of what co-occurs with each entity, I for no candidate.
          weights: [B, E, C] of these; 0 where padded.
          log_popularity: [I] of the candidates; None counts all alike.
          emotion_totals: [B, 9] how much of each emotion the context expresses; None leaves emotions out.
          valence: [B, E] of each entity, from -1 (disliked) to 1 (liked), 0 where it is not known; None leaves it out.
        """
        dtype, candidates = text_states.dtype, item_odds.shape[-1]
        last = text_mask & (text_ages == 1)
        norm = nn.LayerNorm(use_scale=False, use_bias=False)
        parts = [norm(masked_mean(text_states, where)) for where in (text_mask, last)]
        by_seeker = entity_mask & (mentions[..., 1] > 0)
        named = jnp.stack([by_seeker.sum(axis=1), (entity_mask & ~by_seeker).sum(axis=1)], axis=-1)  # [B, 2]
        parts.append(jnp.log1p(named.astype(dtype)))
        if emotion_totals is not None:
            parts.append(jnp.log1p(emotion_totals.astype(dtype)))
        turn = Linear(1, scale=0.0, name="logit")(jnp.concatenate(parts, axis=-1))  # [B, 1]

        item = self.param("item_scale", nn.initializers.ones, ()) * item_odds
        mention_weights = self.param("entity_weight", nn.initializers.ones, ()) * entity_mask.astype(dtype)
        if valence is not None:
            mention_weights += self.param("valence_weight", nn.initializers.ones, ()) * valence.astype(dtype)
        mass = scatter_by_entity(cooccurring, mention_weights[..., None] * weights.astype(dtype), candidates)
        mass /= jnp.sqrt(jnp.maximum(entity_mask.sum(axis=1, keepdims=True), 1))
        if log_popularity is not None:
            mass *= jnp.exp(-0.5 * log_popularity)
        # 100: what follows an entity in one of a hundred dialogues counts about 1
        unit = jnp.exp(self.param("unit", nn.initializers.constant(jnp.log(100.0)), ()))
        entities = self.param("entity_scale", nn.initializers.zeros, ()) * jnp.arcsinh(unit * mass)
        return LikeLogits(turn, jnp.broadcast_to(item, entities.shape), entities)
