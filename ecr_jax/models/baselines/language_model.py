"""A language model as a recommender: its state of the last token of the context, scored against the items."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax


class LanguageModel(nn.Module):
    """Linear map of the norm of a frozen language model's last state to the items.

    Reads `state` [B, D], computed once, as nothing before it is trained.

    Reference: the GPT-2 row of LLMCRS (Feng et al. 2023), Table 3, there with GPT-2 tuned.
    """

    items: int
    dropout: float

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], frozen: Mapping[str, jax.Array]) -> jax.Array:
        state = nn.LayerNorm(name="norm")(batch["state"])
        state = nn.Dropout(self.dropout)(state, deterministic=not self.has_rng("dropout"))
        return nn.Dense(self.items, name="out")(state)
