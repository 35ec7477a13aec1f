"""A config that notes which of its fields are read."""

from __future__ import annotations

import dataclasses
from typing import Any


def recording(settings: Any, reads: set[str], path: str = "") -> Any:
    """A copy of frozen settings, of the same types, that adds the path of each field that is read to `reads`.

    A section counts as read where one of its fields is, not where it is passed on.
    """
    kind = type(settings)
    names = {field.name for field in dataclasses.fields(settings)}

    def getattribute(self: Any, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name in names and not dataclasses.is_dataclass(value):
            reads.add(f"{path}{name}")
        return value

    members = {"__getattribute__": getattribute, "__module__": kind.__module__}
    if hasattr(settings, "as_json"):  # what a run records of all fields is no use of them
        members["as_json"] = lambda self: settings.as_json()
    copy = object.__new__(type(kind.__name__, (kind,), members))
    for name in names:
        value = getattr(settings, name)
        nested = dataclasses.is_dataclass(value)
        object.__setattr__(copy, name, recording(value, reads, f"{path}{name}.") if nested else value)
    return copy
