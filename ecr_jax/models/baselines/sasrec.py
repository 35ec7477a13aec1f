"""SASRec: the films of a dialogue as a sequence, read by causal self-attention."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ecr_jax.models.layers import last_state, recency


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); a position sees itself and what is before it."""

    heads: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        still = not self.has_rng("dropout")
        visible = nn.combine_masks(nn.make_causal_mask(mask), nn.make_attention_mask(mask, mask))
        attention = nn.MultiHeadDotProductAttention(
            self.heads, dropout_rate=self.dropout, deterministic=still, name="attention"
        )
        x += nn.Dropout(self.dropout)(attention(nn.LayerNorm(name="attention_norm")(x), mask=visible), still)
        hidden = nn.relu(nn.Dense(x.shape[-1], name="up")(nn.LayerNorm(name="norm")(x)))
        hidden = nn.Dense(x.shape[-1], name="down")(nn.Dropout(self.dropout)(hidden, still))
        return x + nn.Dropout(self.dropout)(hidden, still)


class SasRec(nn.Module):
    """last state . item for each item, the items' embeddings being those that were read.

    Positions are counted from the latest film back, so the last one always has the same. A learned start stands before
    the first film, so that a context without films has a state too. As published every position learns to name the film
    after it; those losses go into "losses". All are cross-entropies over all items, where SASRec draws one negative.

    Reads `films` int [B, F], positions among the items in the order mentioned, and `film_mask`. Published: width 50,
    two blocks, one head, dropout 0.2 to 0.5.

    Attributes:
      items: I.
      length: F, most films of a context.
      recency_slots: how many films back their order is told apart.

    Reference: Kang and McAuley 2018, "Self-Attentive Sequential Recommendation", III.
    """

    items: int
    length: int
    width: int
    layers: int
    heads: int
    dropout: float
    recency_slots: int = 32

    def setup(self) -> None:
        small = nn.initializers.normal(self.width**-0.5)
        self.table = self.param("table", small, (self.items + 1, self.width))  # the last row is the start
        self.places = self.param("places", small, (self.length + 1, self.width))
        self.drop = nn.Dropout(self.dropout)
        self.blocks = [Block(self.heads, self.dropout) for _ in range(self.layers)]
        self.norm = nn.LayerNorm()

    def states(self, films: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """States [B, 1 + F, W] of the start and of each film, and their mask."""
        films = jnp.pad(films, ((0, 0), (1, 0)), constant_values=self.items)
        mask = jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)
        x = self.table[films] * self.width**0.5 + self.places[recency(mask, self.recency_slots)]
        x = self.drop(x, deterministic=not self.has_rng("dropout"))
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask

    def __call__(self, batch: Mapping[str, jax.Array], frozen: Mapping[str, jax.Array]) -> jax.Array:
        films, known = batch["films"], batch["film_mask"]
        states, mask = self.states(films, known)
        items = self.table[: self.items]
        following = optax.softmax_cross_entropy_with_integer_labels(
            states[:, :-1] @ items.T, jnp.where(known, films, 0)
        )  # [B, F]
        self.sow("losses", "next", jnp.where(known, following, 0).sum(axis=1))
        return last_state(states, mask) @ items.T
