"""Errors of settings and how they are worded; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Iterable


class ConfigError(ValueError):
    """A setting with an impossible value; the message names the field, the value and the remedy."""

    def __init__(self, settings: object, name: str, remedy: str):
        super().__init__(f"{type(settings).__name__}.{name} = {getattr(settings, name)!r} is not allowed: {remedy}")


def require(settings: object, name: str, holds: bool, remedy: str) -> None:
    """Raises ConfigError for a field of `settings` unless `holds`."""
    if not holds:
        raise ConfigError(settings, name, remedy)


def require_at_least(settings: object, least: float, *names: str) -> None:
    """Raises ConfigError for each named field that is a number below `least`; None passes."""
    for name in names:
        value = getattr(settings, name)
        require(settings, name, value is None or value >= least, f"give a number of at least {least:g}")


def require_rate(settings: object, *names: str) -> None:
    """Raises ConfigError for each named field that is not in [0, 1), as dropout rates are."""
    for name in names:
        require(settings, name, 0 <= getattr(settings, name) < 1, "a rate lies in [0, 1)")


def require_choice(settings: object, name: str, choices: Iterable[object]) -> None:
    """Raises ConfigError for a field that is none of the choices."""
    choices = tuple(choices)
    require(settings, name, getattr(settings, name) in choices, f"choose one of {', '.join(map(str, choices))}")


def require_patterns(settings: object, name: str, patterns: Iterable[str]) -> None:
    """Raises ConfigError for a field that holds a string which is not a regular expression."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(settings, name, f"{pattern!r} is not a regular expression ({error})") from error
