"""How a mention is felt about: attention over token states by their place, and a linear model of n-grams, added up."""

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
      buckets: of the hashed n-grams; 0 leaves them out.
      hidden: width of the projected states; 0 leaves the states out.
      heads: attention pools.
      dropout: rate, of the projected states and of n-grams.
    """

    classes: int
    places: int
    barriers: int
    buckets: int
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
        ngrams: jax.Array,
        ngram_mask: jax.Array,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Mentions -> logits [B, classes].

        Args:
          states: [B, T, D], token states without the mention's own tokens.
          state_mask: bool [B, T].
          place: int [B, T], where the token lies relative to the mention.
          barriers: int [B, T], what lies between it and the mention.
          ngrams: int [B, W], hashed n-grams.
          ngram_mask: bool [B, W].
          train: whether dropout is on.
        """
        logits = self.param("bias", nn.initializers.zeros, (self.classes,))
        if self.hidden:
            x = nn.LayerNorm(name="norm")(states.astype(jnp.float32))
            x = nn.Dense(self.hidden, name="project")(x)
            x = x + nn.Embed(self.places, self.hidden, name="place")(place)
            x = x + nn.Embed(self.barriers, self.hidden, name="barrier")(barriers)
            x = nn.Dropout(self.dropout)(nn.gelu(x), deterministic=not train)
            scores = nn.Dense(self.heads, name="score")(x)  # [B, T, H]
            scores += nn.Embed(self.places, self.heads, name="place_score", embedding_init=nn.initializers.zeros)(place)
            scores += nn.Embed(self.barriers, self.heads, name="barrier_score", embedding_init=nn.initializers.zeros)(
                barriers
            )
            scores = jnp.where(state_mask[..., None], scores, -1e9)
            # A place that is always there takes the weight where nothing is said.
            nothing = self.param("nothing", nn.initializers.zeros, (self.heads,))
            scores = jnp.concatenate([scores, jnp.broadcast_to(nothing, (len(scores), 1, self.heads))], axis=1)
            weights = jax.nn.softmax(scores, axis=1)[:, :-1]
            pooled = jnp.einsum("bth,btd->bhd", weights, x).reshape(len(x), -1)
            pooled = nn.Dropout(self.dropout)(pooled, deterministic=not train)
            logits += nn.Dense(self.classes, name="out")(pooled)
        if self.buckets:
            table = self.param("ngrams", nn.initializers.zeros, (self.buckets, self.classes))
            present = nn.Dropout(self.dropout)(ngram_mask.astype(jnp.float32), deterministic=not train)
            count = jnp.maximum(jnp.sum(ngram_mask, axis=1, keepdims=True), 1)
            logits += jnp.einsum("bwc,bw->bc", table[ngrams], present / jnp.sqrt(count))
        return logits
