"""SASRec: causal self-attention over the sequence of films of a dialogue."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ecr_jax.models.layers import last_state, recency


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); attention is causal."""

    heads: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """x [B, S, W], mask bool [B, S] -> [B, S, W]."""
        deterministic = not self.has_rng("dropout")
        visible = nn.combine_masks(nn.make_causal_mask(mask), nn.make_attention_mask(mask, mask))
        attention = nn.MultiHeadDotProductAttention(
            self.heads, dropout_rate=self.dropout, deterministic=deterministic, name="attention"
        )
        x += nn.Dropout(self.dropout)(attention(nn.LayerNorm(name="attention_norm")(x), mask=visible), deterministic)
        hidden = nn.relu(nn.Dense(x.shape[-1], name="up")(nn.LayerNorm(name="norm")(x)))
        hidden = nn.Dense(x.shape[-1], name="down")(nn.Dropout(self.dropout)(hidden, deterministic))
        return x + nn.Dropout(self.dropout)(hidden, deterministic)


class SasRec(nn.Module):
    """last state . embedding of each item; inputs and outputs share the embeddings.

    Positions are counted back from the latest film, so that it always has the same position. A learned start embedding
    precedes the first film, so that a context without films has a state too. As published, every position predicts the
    next film; these losses are sown into "losses". They are cross-entropies over all items, where SASRec draws one
    negative.

    Reads `films` int [B, F], positions among the items in the order mentioned, and `film_mask`. Published: width 50,
    two blocks, one head, dropout 0.2 to 0.5.

    Attributes:
      items: I.
      length: F, the largest number of films of a context.
      recency_slots: number of positions; films further back share the last one.

    Reference: Kang and McAuley 2018, "Self-Attentive Sequential Recommendation", III.
    """

    items: int
    length: int
    width: int
    layers: int
    heads: int
    dropout: float
    recency_slots: int

    def setup(self) -> None:
        small = nn.initializers.normal(self.width**-0.5)
        self.table = self.param("table", small, (self.items + 1, self.width))  # the last row is the start
        self.positions = self.param("positions", small, (self.length + 1, self.width))
        self.drop = nn.Dropout(self.dropout)
        self.blocks = [Block(self.heads, self.dropout) for _ in range(self.layers)]
        self.norm = nn.LayerNorm()

    def states(self, films: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """States [B, 1 + F, W] of the start and of each film, and their mask."""
        films = jnp.pad(films, ((0, 0), (1, 0)), constant_values=self.items)
        mask = jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)
        x = self.table[films] * self.width**0.5 + self.positions[recency(mask, self.recency_slots)]
        x = self.drop(x, deterministic=not self.has_rng("dropout"))
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask

    def __call__(self, batch: Mapping[str, jax.Array], frozen: Mapping[str, jax.Array]) -> jax.Array:
        """Logits [B, I]."""
        films, known = batch["films"], batch["film_mask"]
        states, mask = self.states(films, known)
        items = self.table[: self.items]
        following = optax.softmax_cross_entropy_with_integer_labels(
            states[:, :-1] @ items.T, jnp.where(known, films, 0)
        )  # [B, F]
        self.sow("losses", "next", jnp.where(known, following, 0).sum(axis=1))
        return last_state(states, mask) @ items.T
