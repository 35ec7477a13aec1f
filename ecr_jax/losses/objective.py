"""The training objective of a loss expression: finds the losses that it names, sets their options and sums them.

A name is one of `losses.ranking.RANKING`, an entry point of the group `ecr_jax.losses`, or "package.module:function".
The arguments of a loss without a default are the arrays that it reads, by their names in `losses.ranking.INPUTS`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from importlib.metadata import EntryPoint, entry_points
from typing import cast

import jax
import jax.numpy as jnp

from ecr_jax.losses.expression import Term, parse
from ecr_jax.losses.ranking import INPUTS, RANKING, RankingLoss

GROUP = "ecr_jax.losses"
"""Entry points of this group are ranking losses of other packages."""


def check(text: str) -> None:
    """Checks a loss expression as far as this is possible without importing other packages.

    Raises:
      ValueError: the syntax is wrong, there is no such loss, or it has no such option; lists what there is.
    """
    for term in parse(text):
        if term.name in RANKING:
            _bind(RANKING[term.name], term)
        elif ":" not in term.name:
            _registered(term.name)


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
        self._bound = [_bind(_find(term.name), term) for term in self.terms]

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


def _bind(loss: RankingLoss, term: Term) -> tuple[RankingLoss, tuple[str, ...]]:
    """The loss with its options set, and the names of the arrays it reads."""
    parameters = inspect.signature(loss).parameters.values()
    inputs = tuple(p.name for p in parameters if p.default is p.empty)
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    if unnamed := [p.name for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]:
        raise ValueError(f"the loss {term.name!r} takes {unnamed[0]!r} without a name: name each input it reads")
    if unknown := [name for name in inputs if name not in INPUTS]:
        raise ValueError(
            f"the loss {term.name!r} asks for {unknown[0]!r}; there are {', '.join(INPUTS)}; an option needs a default"
        )
    for name, value in term.options.items():
        if name not in defaults:
            raise ValueError(f"the loss {term.name!r} has no option {name!r}; it has {', '.join(defaults) or 'none'}")
        if isinstance(defaults[name], int) and value != int(value):
            raise ValueError(f"the option {name} = {value} of the loss {term.name!r} must be a whole number")
    options = {name: int(value) if isinstance(defaults[name], int) else value for name, value in term.options.items()}
    return functools.partial(loss, **options), inputs


def _find(name: str) -> RankingLoss:
    """A loss by name, imported if it belongs to another package."""
    if name in RANKING:
        return RANKING[name]
    if ":" not in name:
        return _registered(name).load()
    module, function = name.split(":")
    try:
        loss = getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        raise ValueError(f"the loss {name!r}: {error}; install its package or name its folder in PYTHONPATH") from error
    if not callable(loss):
        raise ValueError(f"the loss {name!r} does not exist: {module} has no function {function!r}")
    return cast(RankingLoss, loss)


def _registered(name: str) -> EntryPoint:
    """The entry point of another package's loss."""
    others = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in others:
        raise ValueError(
            f"there is no loss {name!r}; there are {', '.join([*RANKING, *sorted(others)])}, "
            "and any function as package.module:function"
        )
    return others[name]
