"""What `recommendation.loss` says, as an objective to train on: names, options and sums of the losses of `losses.py`.

For example "focal(gamma=1)" or "feedback_cross_entropy + 0.3*pairwise_batch". A name is one of `losses.RANKING`, an
entry point of the group `ecr_jax.losses`, or "package.module:function"; what it asks for by keyword, the stage gives.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import jax
import jax.numpy as jnp

from ecr_jax.losses import INPUTS, RANKING, RankingLoss

GROUP = "ecr_jax.losses"
"""Entry points of this group are ranking losses of other packages."""


@dataclass(frozen=True)
class Term:
    """One summand of a loss: `share` times the mean of the loss called `name` with `options`."""

    name: str
    options: Mapping[str, float] = field(default_factory=dict)
    share: float = 1.0

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value:g}" for name, value in self.options.items())
        return f"{self.name}({given})" if given else self.name


_NUMBER = r"[0-9]+\.?[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+"
_TERM = re.compile(
    rf"\s*(?:(?P<share>{_NUMBER})\s*\*\s*)?(?P<name>[A-Za-z_][\w.]*(?::\w+)?)\s*"
    r"(?:\((?P<options>[^()]*)\)\s*)?(?P<more>\+|$)"
)
_OPTION = re.compile(rf"\s*(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>[-+]?(?:{_NUMBER}))\s*")


def parse(text: str) -> tuple[Term, ...]:
    """Reads what `recommendation.loss` says.

    Args:
      text: names with options in brackets and a factor before, joined by "+".

    Raises:
      ValueError: it cannot be read; says from where on.
    """
    terms, place, more = [], 0, True
    while more:
        found = _TERM.match(text, place)
        if not found:
            raise ValueError(
                f"{text[place:]!r} in {text!r} is no loss: write NAME, NAME(option=number, ...), a factor as in "
                "0.5*NAME, and + between several"
            )
        options = {}
        for part in filter(str.strip, (found["options"] or "").split(",")):
            option = _OPTION.fullmatch(part)
            if not option:
                raise ValueError(f"{part.strip()!r} in {text!r} is no option: write name=number")
            options[option["name"]] = float(option["value"])
        terms.append(Term(found["name"], options, float(found["share"] or 1)))
        place, more = found.end(), found["more"]
    return tuple(terms)


def check(text: str) -> None:
    """Whether a loss can be what `recommendation.loss` says, as far as this is known without importing other packages.

    Raises:
      ValueError: it cannot be read, there is no such loss, or it has no such option; lists what there is.
    """
    for term in parse(text):
        if term.name in RANKING:
            _bind(RANKING[term.name], term)
        elif ":" not in term.name:
            _registered(term.name)


class Objective:
    """What `recommendation.loss` says, as `training.step` wants it; made from its text, `terms` are its summands."""

    def __init__(self, text: str):
        """Finds the losses.

        Raises:
          ValueError: as `check`, or a loss of another package cannot be imported or asks for what no stage gives.
        """
        self.terms = parse(text)
        self._bound = [_bind(_find(term.name), term) for term in self.terms]

    def __call__(self, **given: Any) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        """Total and count, of which total / count over the batch is the objective.

        A loss of one term is divided once, over all micro-batches. In a sum every term has its own denominator: its
        mean is taken over each micro-batch, and a micro-batch counts by its targets.

        Args:
          given: `INPUTS`: `logits`, `where` and those that its losses read.

        Returns:
          Scalars, and the terms of a sum apart, as metrics of `training.step`.

        Raises:
          ValueError: a loss reads what is not given, or returns other shapes.
        """
        for term, (_, inputs) in zip(self.terms, self._bound, strict=True):
            for name in inputs:
                if given.get(name) is None:
                    raise ValueError(
                        f"the loss {term.name!r} reads {name!r} ({INPUTS[name]}), which is not given: take it out of "
                        "the loss, or turn on the part of the recommender that makes it"
                    )
        rows = given["logits"].shape[0]
        targets = jnp.sum(given["where"], axis=-1)
        sums = []
        for term, (loss, inputs) in zip(self.terms, self._bound, strict=True):
            found = loss(**{name: given[name] for name in inputs})
            values, counts = found if isinstance(found, tuple) else (found, targets)
            if jnp.shape(values) != (rows,) or jnp.shape(counts) != (rows,):
                raise ValueError(
                    f"the loss {term.name!r} returns the shapes {jnp.shape(values)} and {jnp.shape(counts)} for {rows} "
                    "rows: it must return one value a row, [B], or values [B] and counts [B]"
                )
            sums.append((jnp.sum(values), jnp.sum(counts)))
        if len(sums) == 1:
            ((total, count),) = sums
            return self.terms[0].share * total, count, {}
        number = jnp.sum(targets)
        means = [total / jnp.where(count > 0, count, 1) * number for total, count in sums]
        parts = {str(term): mean for term, mean in zip(self.terms, means, strict=True)}
        return sum(term.share * mean for term, mean in zip(self.terms, means, strict=True)), number, parts


def _bind(loss: RankingLoss, term: Term) -> tuple[RankingLoss, tuple[str, ...]]:
    """The loss with its options set, and the names of the arrays it reads."""
    parameters = inspect.signature(loss).parameters.values()
    inputs = tuple(p.name for p in parameters if p.default is p.empty)
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    if strange := [p.name for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]:
        raise ValueError(f"the loss {term.name!r} takes {strange[0]!r} by no name of its own: name what it reads")
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
    """A loss by name, imported if it is another package's."""
    if name in RANKING:
        return RANKING[name]
    if ":" not in name:
        return _registered(name).load()
    module, function = name.split(":")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        raise ValueError(f"the loss {name!r}: {error}; install its package or name its folder in PYTHONPATH") from error
    if not callable(found):
        raise ValueError(f"the loss {name!r} is not there: {module} has no function {function!r}")
    return found


def _registered(name: str) -> EntryPoint:
    """The entry point of another package's loss."""
    others = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in others:
        raise ValueError(
            f"there is no loss {name!r}; there are {', '.join([*RANKING, *sorted(others)])}, "
            "and any function as package.module:function"
        )
    return others[name]
