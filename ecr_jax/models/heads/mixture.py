"""The mixture head: a weighted sum of distributions over the items, each counted on the train split."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from ecr_jax.models.heads.feeling import FeelingWeight, dislike
from ecr_jax.models.heads.repetition import mention_kind
from ecr_jax.models.layers import Linear, scatter_by_entity


@struct.dataclass
class SimilarFilms:
    """The items whose descriptions are most similar to that of each entity.

    Attributes:
      entities: int32 [N + 1, K], padded with N.
      weights: float32 [N + 1, K] the similarities, 0 where padded.
    """

    entities: jax.Array
    weights: jax.Array


INITIAL_SHARES = {
    "cooccurrence": 0.40,
    "liked": 0.10,
    "disliked": 0.01,
    "nearest": 0.30,
    "film_text": 0.12,
    "mentioned": 0.05,
    "popular": 0.02,
}
"""The initial weights of the parts, near those that the untrained hybrid has on ReDial's validation split."""


class Mixture(nn.Module):
    r"""The log probabilities of a mixture of distributions, with weights that follow from the context.

    .. math:: \log \sum_k \pi_k(c) \, p_k(i), \qquad \pi(c) = \operatorname{softmax}(b + W s(c))

    The p are: what co-occurs with the context's mentions (`cooccurrence`), what is liked where they are liked
    (`liked`) or disliked (`disliked`), films of similar descriptions (`film_text`), what was recommended after the
    nearest training contexts (`nearest`), the mentions themselves (`mentioned`), and what is popular (`popular`).
    Mentions count by how recent they are and by how the seeker feels about them, each part in its own way; a mention
    that counts less for its feeling leaves its part a smaller sum, so that the other parts say more. s is the mean
    state of the last turn: it decides, above all, whether a mentioned film is recommended again.

    It begins as the untrained baseline `hybrid`.

    Attributes:
      recency_slots: number of recency parameters; mentions further back share the last one.
      mention_turns, mention_counts: see `mention_kind`.

    Reference: mixtures of experts (Jacobs et al. 1991); the gate of RepeatNet (Ren et al. 2019).
    """

    recency_slots: int
    mention_turns: int
    mention_counts: int

    @nn.compact
    def __call__(
        self,
        *,
        associated: Mapping[str, tuple[jax.Array, jax.Array]],
        nearest: tuple[jax.Array, jax.Array],
        log_popularity: jax.Array,
        columns: jax.Array,
        entity_mask: jax.Array,
        recency: jax.Array,
        mentions: jax.Array,
        feelings: jax.Array | None,
        last_turn: jax.Array,
    ) -> jax.Array:
        """Log probabilities [B, I].

        Args:
          associated: by the name of a part, the columns int [B, E, C] of what is associated with each mention and how
            strongly [B, E, C], 0 where padded.
          nearest: columns int [B, Q] and shares [B, Q] of what was recommended after the nearest contexts.
          log_popularity: [B, I] or [I].
          columns: int [B, E] the candidates' columns of the mentioned entities, I for those that are no candidates.
          entity_mask: bool [B, E].
          recency: int [B, E] how many mentions follow each mention.
          mentions: int [B, E, 3], see `mention_kind`.
          feelings: [B, E, 10] about each mention, see `feelings_of`; None leaves them out.
          last_turn: [B, W] the mean text state of the last turn.
        """
        candidates = log_popularity.shape[-1]
        repeatable = entity_mask & (columns < candidates)
        kinds = self.param("kind", nn.initializers.zeros, (self.mention_turns * 2 * self.mention_counts,))

        def mention_weights(name: str, log_weights: jax.Array, where: jax.Array) -> tuple[jax.Array, jax.Array]:
            """The mentions' weights [B, E] by recency, and by feeling as well."""
            log_weights += self.param(f"{name}_recency", nn.initializers.zeros, (self.recency_slots,))[recency]
            weights = jnp.where(where, jnp.exp(log_weights), 0)
            if feelings is None:
                return weights, weights
            if name == "disliked":
                return weights, weights * dislike(feelings)
            return weights, weights * jnp.exp(FeelingWeight(name=f"{name}_feeling")(feelings))

        zero = jnp.zeros(entity_mask.shape, log_popularity.dtype)
        parts = {
            "nearest": scatter_by_entity(*nearest, candidates),
            "popular": jnp.broadcast_to(jax.nn.softmax(log_popularity), (columns.shape[0], candidates)),
        }
        for name, (ids, strengths) in associated.items():
            plain, felt = mention_weights(name, zero, entity_mask)
            total = jnp.sum(plain * strengths.sum(axis=-1), axis=1, keepdims=True)
            mass = scatter_by_entity(ids, felt[..., None] * strengths, candidates)
            parts[name] = mass / jnp.maximum(total, _TINY)
        kind = kinds[mention_kind(mentions, self.mention_turns, self.mention_counts)]
        plain, felt = mention_weights("mentioned", kind - 0.5 * recency, repeatable)
        parts["mentioned"] = scatter_by_entity(columns, felt, candidates) / jnp.maximum(
            plain.sum(axis=1, keepdims=True), _TINY
        )

        names = sorted(parts)
        shares = jnp.asarray([INITIAL_SHARES[name] for name in names])
        gates = self.param("share", lambda _: jnp.log(shares / shares.sum()))
        gates += Linear(len(names), use_bias=False, scale=0.0, name="last_turn")(
            nn.LayerNorm(use_scale=False, use_bias=False)(last_turn)
        )
        mixed = jnp.zeros_like(parts["nearest"])
        for name, share in zip(names, jnp.moveaxis(jax.nn.softmax(gates), 1, 0), strict=True):
            mixed += share[:, None] * parts[name]
        return jnp.log(jnp.maximum(mixed, _TINY))


_TINY = 1e-12
"""Least sum that is divided by and least probability; the popular part is above it."""
