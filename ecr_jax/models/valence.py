"""How a mention is felt about: attention over the token states around it, which knows where they lie."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class ValenceModel(nn.Module):
    """Logits of like, dislike and unclear for a mention.

    Attributes:
      classes: number of classes.
      places: number of places a token may have relative to the mention.
      barriers: number of values of what lies between a token and the mention.
      hidden: width of the projected states.
      heads: attention pools.
      dropout: rate, of the projected and of the pooled states.
    """

    classes: int
    places: int
    barriers: int
    hidden: int
    heads: int
    dropout: float

    @nn.compact
    def __call__(
        self,
        states: jax.Array,
        state_mask: jax.Array,
        place: jax.Array,
        barriers: jax.Array,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Mentions -> logits [B, classes].

        Args:
          states: [B, T, D], token states without the mention's own tokens.
          state_mask: bool [B, T].
          place: int [B, T], where the token lies relative to the mention.
          barriers: int [B, T], what lies between it and the mention.
          train: whether dropout is on.
        """
        x = nn.LayerNorm(name="norm")(states.astype(jnp.float32))
        x = nn.Dense(self.hidden, name="project")(x)
        x = x + nn.Embed(self.places, self.hidden, name="place")(place)
        x = x + nn.Embed(self.barriers, self.hidden, name="barrier")(barriers)
        x = nn.Dropout(self.dropout)(nn.gelu(x), deterministic=not train)
        zeros = nn.initializers.zeros
        scores = nn.Dense(self.heads, name="score")(x)  # [B, T, H]
        scores += nn.Embed(self.places, self.heads, name="place_score", embedding_init=zeros)(place)
        scores += nn.Embed(self.barriers, self.heads, name="barrier_score", embedding_init=zeros)(barriers)
        scores = jnp.where(state_mask[..., None], scores, -1e9)
        # One more score that is always there takes the weight where nothing is said.
        nothing = self.param("nothing", zeros, (self.heads,))
        scores = jnp.concatenate([scores, jnp.broadcast_to(nothing, (len(scores), 1, self.heads))], axis=1)
        weights = jax.nn.softmax(scores, axis=1)[:, :-1]
        pooled = jnp.einsum("bth,btd->bhd", weights, x).reshape(len(x), -1)
        pooled = nn.Dropout(self.dropout)(pooled, deterministic=not train)
        return nn.Dense(self.classes, name="out")(pooled)
