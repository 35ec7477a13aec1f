"""A frozen language model as a recommender: a linear map of its state of the context's last token."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax


class LanguageModel(nn.Module):
    """Linear map of the normalised last state of a frozen language model to the items.

    Reads `state` [B, D], which is computed once, as nothing before it is trained.

    Reference: the GPT-2 row of LLMCRS (Feng et al. 2023), Table 3, there with GPT-2 fine-tuned.
    """

    items: int
    dropout: float

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], frozen: Mapping[str, jax.Array]) -> jax.Array:
        """Logits [B, I]."""
        state = nn.LayerNorm(name="norm")(batch["state"])
        state = nn.Dropout(self.dropout)(state, deterministic=not self.has_rng("dropout"))
        return nn.Dense(self.items, name="out")(state)
