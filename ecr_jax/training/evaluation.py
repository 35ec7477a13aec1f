"""Losses and validation metrics that several stages share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecr_jax.losses.next_token import next_token_cross_entropy
from ecr_jax.models.lm.language_model import Params, Prefix, head
from ecr_jax.training.step import Batch, Loss, Tree


def language_model_loss(
    module: nn.Module,
    variables: Params,
    batch: Batch,
    key: jax.Array | None,
    *,
    prefix: Prefix | None = None,
    prefix_mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Next-token cross-entropy of a causal language model over the marked tokens of a batch.

    Args:
      module: the language model.
      variables: {"params": ...} and, where there is an adapter, "lora".
      batch: `tokens` int [B, T], `token_mask` bool [B, T] and `loss_mask` bool [B, T], True for tokens to predict.
      key: of the adapter's dropout; None turns it off.
      prefix: per-layer keys and values [L, B, Hkv, P, Dh], or None.
      prefix_mask: bool [B, P], or None.

    Returns:
      The sum over the marked tokens, their number, and {"accuracy": how many had the highest score}.
    """
    rngs = None if key is None else {"dropout": key}
    output = module.apply(
        variables, batch["tokens"], batch["token_mask"], rngs=rngs, prefix=prefix, prefix_mask=prefix_mask
    )
    marked = batch["loss_mask"] & batch["token_mask"]
    total, hits = next_token_cross_entropy(
        hidden=output.hidden, head=head(variables["params"]), tokens=batch["tokens"], where=marked
    )
    return total, jnp.sum(marked[:, 1:]), {"accuracy": hits}


def mean_loss(loss: Loss, validation_batches: Iterable[Batch]) -> Callable[[Tree, Tree], dict[str, float]]:
    """An `evaluate` function for `loop.fit`: the loss and its metrics over all validation batches.

    Args:
      loss: the training loss, called without a key (no dropout).
      validation_batches: iterated anew at every evaluation.

    Returns:
      (trained parameters, frozen arrays) -> {"loss": ..., and each metric of `loss`}, divided by the total count, so
      that each counted element (such as a token) has the same weight whatever its batch.
    """
    forward = jax.jit(loss)

    def evaluate(params: Tree, frozen: Tree) -> dict[str, float]:
        totals: dict[str, float] = {}
        for batch in validation_batches:
            total, count, metrics = forward(params, frozen, batch, None)
            for name, value in {"loss": total, "count": count, **metrics}.items():
                totals[name] = totals.get(name, 0.0) + float(value)
        count = totals.pop("count")
        return {name: value / count for name, value in totals.items()}

    return evaluate
