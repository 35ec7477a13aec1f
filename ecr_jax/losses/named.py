"""Functions that an expression names: those of this package, those of others, their inputs and their options.

The arguments of such a function without a default are the arrays that it reads, by the names of its family; those with
a default are its options.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from ecr_jax.losses.expression import Term, parse

Function = Callable[..., Any]


@dataclass(frozen=True)
class Family:
    """The functions of one kind.

    Attributes:
      kind: what messages call one of them.
      functions: those of this package by name.
      inputs: what each input is, by the name of its argument.
      group: entry points of this group are functions of other packages.
    """

    kind: str
    functions: Mapping[str, Function]
    inputs: Mapping[str, str]
    group: str

    def check(self, text: str) -> None:
        """Checks an expression as far as this is possible without importing other packages.

        Raises:
          ValueError: the syntax is wrong, there is no such function, or it has no such option; lists what there is.
        """
        for term in parse(text):
            if term.name in self.functions:
                self._bind(self.functions[term.name], term)
            elif ":" not in term.name:
                self._registered(term.name)

    def bound(self, term: Term) -> tuple[Function, tuple[str, ...]]:
        """The function of a term with its options set, and the names of the inputs that it reads.

        Raises:
          ValueError: as `check`, or a function of another package cannot be imported or reads what is not provided.
        """
        return self._bind(self._find(term.name), term)

    def _bind(self, function: Function, term: Term) -> tuple[Function, tuple[str, ...]]:
        called = f"the {self.kind} {term.name!r}"
        parameters = inspect.signature(function).parameters.values()
        inputs = tuple(p.name for p in parameters if p.default is p.empty)
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        if unnamed := [p.name for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]:
            raise ValueError(f"{called} takes {unnamed[0]!r} without a name: name each input it reads")
        if unknown := [name for name in inputs if name not in self.inputs]:
            there_are = ", ".join(self.inputs)
            raise ValueError(f"{called} asks for {unknown[0]!r}; there are {there_are}; an option needs a default")
        for name, value in term.options.items():
            if name not in defaults:
                raise ValueError(f"{called} has no option {name!r}; it has {', '.join(defaults) or 'none'}")
            if isinstance(defaults[name], int) and value != int(value):
                raise ValueError(f"the option {name} = {value} of {called} must be a whole number")
        options = {
            name: int(value) if isinstance(defaults[name], int) else value for name, value in term.options.items()
        }
        return functools.partial(function, **options), inputs

    def _find(self, name: str) -> Function:
        """A function by name, imported if it belongs to another package."""
        if name in self.functions:
            return self.functions[name]
        if ":" not in name:
            return self._registered(name).load()
        module, attribute = name.split(":")
        try:
            function = getattr(importlib.import_module(module), attribute, None)
        except ModuleNotFoundError as error:
            remedy = "install its package or name its folder in PYTHONPATH"
            raise ValueError(f"the {self.kind} {name!r}: {error}; {remedy}") from error
        if not callable(function):
            raise ValueError(f"the {self.kind} {name!r} does not exist: {module} has no function {attribute!r}")
        return cast(Function, function)

    def _registered(self, name: str) -> EntryPoint:
        """The entry point of another package's function."""
        others = {entry.name: entry for entry in entry_points(group=self.group)}
        if name not in others:
            raise ValueError(
                f"there is no {self.kind} {name!r}; there are {', '.join([*self.functions, *sorted(others)])}, "
                "and any function as package.module:function"
            )
        return others[name]
