"""Losses and validation metrics that several stages share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ecr_jax.losses.next_token import next_token_cross_entropy
from ecr_jax.metrics import mrr_at, ranks, recall_at
from ecr_jax.models.lm.language_model import Output, Params, Prefix, head, split_rows
from ecr_jax.training import processes, sharding
from ecr_jax.training.step import Batch, Loss, Tree


def jit_whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` of a function whose result every process gets whole, where `fit` calls it over a mesh."""

    @functools.cache
    def compiled(mesh: Mesh) -> Callable[..., Any]:
        return jax.jit(function, out_shardings=sharding.replicated(mesh) if mesh.axis_names else None)

    return lambda *arguments: compiled(jax.sharding.get_mesh())(*arguments)


def jit_over_rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jit_whole` of a function whose last argument is rows: an array [B, ...], or a tree of them.

    Where `fit` calls it, each device computes the rows that it has of a mesh, with the parameters that it holds.
    """
    return jit_whole(lambda *arguments: function(*arguments[:-1], jax.tree.map(split_rows, arguments[-1])))


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
    output = cast(
        Output,
        module.apply(
            variables, batch["tokens"], batch["token_mask"], rngs=rngs, prefix=prefix, prefix_mask=prefix_mask
        ),
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
      validation_batches: iterated from the start at every evaluation.

    Returns:
      (trained parameters, frozen arrays) -> {"loss": ..., and each metric of `loss`}, divided by the total count, so
      that each counted element (such as a token) has the same weight whatever its batch.
    """
    forward = jit_over_rows(lambda params, frozen, batch: loss(params, frozen, batch, None))

    def evaluate(params: Tree, frozen: Tree) -> dict[str, float]:
        totals: dict[str, float] = {}
        for batch in validation_batches:
            total, count, metrics = forward(params, frozen, batch)
            for name, value in {"loss": total, "count": count, **metrics}.items():
                totals[name] = totals.get(name, 0.0) + float(value)
        count = totals.pop("count")
        return {name: value / count for name, value in totals.items()}

    return evaluate


Ranker = Callable[[Iterable[Batch]], Iterator[tuple[Batch, np.ndarray]]]
"""Batches -> each batch with the scores of the candidates, float32 [B, I]."""


class Scorer:
    """Scores candidates for batches, with the same compiled programs for all parameters."""

    def __init__(
        self,
        score: Callable[[Tree, Tree, Any, Batch], jax.Array],
        frozen: Tree,
        encode: Callable[[Tree, Tree], Any] | None = None,
    ):
        """Prepares the programs.

        Args:
          score: (parameters, frozen arrays, encoded, batch) -> scores [B, I].
          frozen: the arrays that are not trained.
          encode: (parameters, frozen arrays) -> what does not depend on batches, computed once for all of them; None
            where there is nothing.
        """
        self.frozen = frozen
        self._placed: dict[str, Any] = {}
        self._score = jit_over_rows(score)
        self._encode = None if encode is None else jit_whole(encode)

    def with_params(self, params: Tree, placed: Mapping[str, Any] | None = None) -> Ranker:
        """The ranker of some parameters; encodes once.

        Args:
          params: the parameters, as they lie on the devices.
          placed: those of the frozen arrays that are on the devices already, split as they may be: they are not put
            there a second time.
        """
        placed = placed or {}
        for name in self.frozen.keys() - placed.keys() - self._placed.keys():
            self._placed[name] = processes.put_whole(self.frozen[name])
        frozen = {name: placed[name] if name in placed else self._placed[name] for name in self.frozen}
        encoded = None if self._encode is None else self._encode(params, frozen)

        def rank(batches: Iterable[Batch]) -> Iterator[tuple[Batch, np.ndarray]]:
            for batch in batches:
                yield batch, np.asarray(self._score(params, frozen, encoded, batch))

        return rank


def ranking_metrics(rank: Ranker, validation_batches: Iterable[Batch], candidates: np.ndarray) -> dict[str, float]:
    """Metrics of the ranks of all targets.

    Args:
      rank: scores the candidates.
      validation_batches: with `targets` and `target_mask`.
      candidates: int [I], sorted entity ids of the scores.

    Returns:
      recall@1, recall@10, recall@50, mrr@10 and mrr@50.
    """
    target_ranks = []
    for batch, scores in rank(validation_batches):
        rows, slots = np.nonzero(batch["target_mask"])
        columns = np.searchsorted(candidates, batch["targets"][rows, slots])
        target_ranks.append(ranks(scores[rows], columns))
    rank_of_target = np.concatenate(target_ranks)
    recalls = {f"recall@{k}": float(recall_at(rank_of_target, k).mean()) for k in (1, 10, 50)}
    return recalls | {f"mrr@{k}": float(mrr_at(rank_of_target, k).mean()) for k in (10, 50)}
