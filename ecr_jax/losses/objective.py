"""The training objective of a loss expression: finds the losses that it names, sets their options and sums them.

A name is one of `losses.ranking.RANKING`, an entry point of the group `ecr_jax.losses`, or "package.module:function".
The arguments of a loss without a default are the arrays that it reads, by their names in `losses.ranking.INPUTS`.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from ecr_jax.losses.expression import parse
from ecr_jax.losses.named import Family
from ecr_jax.losses.ranking import INPUTS, RANKING

GROUP = "ecr_jax.losses"
"""Entry points of this group are ranking losses of other packages."""


FAMILY = Family("loss", RANKING, INPUTS, GROUP)
"""Ranking losses by name."""

check = FAMILY.check


class Objective:
    """A loss expression as a function from the arrays of a batch to the sums that `training.step` divides.

    Attributes:
      terms: the summands of the expression.
    """

    def __init__(self, text: str):
        """Finds the losses of an expression.

        Raises:
          ValueError: as `check`, or a loss of another package cannot be imported or reads what no stage provides.
        """
        self.terms = parse(text)
        self._bound = [FAMILY.bound(term) for term in self.terms]

    def __call__(
        self,
        *,
        logits: jax.Array,
        where: jax.Array,
        targets: jax.Array | None = None,
        weights: jax.Array | None = None,
        feedback: jax.Array | None = None,
        rated_items: jax.Array | None = None,
        ratings: jax.Array | None = None,
        like_logits: jax.Array | None = None,
        reaction: jax.Array | None = None,
        counts: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        """Total and count; total / count over the batch is the objective.

        A loss of one term is divided once, over all micro-batches. In a sum every term has its own denominator: its
        mean is taken over each micro-batch, and a micro-batch counts by its targets.

        Args:
          logits, where, targets, weights, feedback, rated_items, ratings, like_logits, reaction, counts, key: see
            `losses.ranking.INPUTS`; None for what the losses do not read.

        Returns:
          Two scalars, and each term of a sum, as metrics of `training.step`.

        Raises:
          ValueError: a loss reads an input that is None, or returns other shapes.

        >>> objective = Objective("2*cross_entropy")
        >>> row = {"logits": jnp.zeros((1, 4)), "targets": jnp.array([[2]]), "where": jnp.array([[True]])}
        >>> total, count, _ = objective(**row)
        >>> round(float(total), 4), int(count)
        (2.7726, 1)
        """
        inputs = {
            "logits": logits,
            "where": where,
            "targets": targets,
            "weights": weights,
            "feedback": feedback,
            "rated_items": rated_items,
            "ratings": ratings,
            "like_logits": like_logits,
            "reaction": reaction,
            "counts": counts,
            "key": key,
        }
        for term, (_, names) in zip(self.terms, self._bound, strict=True):
            for name in names:
                if inputs[name] is None:
                    raise ValueError(
                        f"the loss {term.name!r} reads {name!r} ({INPUTS[name]}), which is missing: take it out of "
                        "the loss, or turn on the part of the recommender that computes it"
                    )
        rows = logits.shape[0]
        targets_per_row = jnp.sum(where, axis=-1)
        sums = []
        for term, (loss, names) in zip(self.terms, self._bound, strict=True):
            result = loss(**{name: inputs[name] for name in names})
            values, counted = result if isinstance(result, tuple) else (result, targets_per_row)
            if jnp.shape(values) != (rows,) or jnp.shape(counted) != (rows,):
                raise ValueError(
                    f"the loss {term.name!r} returns the shapes {jnp.shape(values)} and {jnp.shape(counted)} for "
                    f"{rows} rows: it must return one value a row, [B], or values [B] and counts [B]"
                )
            sums.append((jnp.sum(values), jnp.sum(counted)))
        if len(sums) == 1:
            ((total, count),) = sums
            return self.terms[0].weight * total, count, {}
        number = jnp.sum(targets_per_row)
        means = [total / jnp.where(count > 0, count, 1) * number for total, count in sums]
        parts = {str(term): mean for term, mean in zip(self.terms, means, strict=True)}
        total = functools.reduce(jnp.add, [term.weight * mean for term, mean in zip(self.terms, means, strict=True)])
        return total, number, parts
