"""A cache with a bound, for values that are expensive to compute and shared by several contexts of an experiment."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class BoundedCache(Generic[Value]):
    """Values by key; where their sizes exceed the limit, the least recently used ones are dropped."""

    def __init__(self, limit: float, size: Callable[[Value], float] = lambda value: 1):
        """`limit`: of the sum of sizes; `size`: of a value, by default 1, so that the limit is a number of values."""
        self.limit, self.size = limit, size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._total = 0.0

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def get(self, key: Hashable) -> Value | None:
        """The value of a key, None where it is not in the cache."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def put(self, key: Hashable, value: Value) -> None:
        """Stores a value and drops others while the limit is exceeded; a value above the limit is not stored."""
        if key in self._values:
            self._total -= self.size(self._values.pop(key))
        if self.size(value) > self.limit:
            return
        self._values[key] = value
        self._total += self.size(value)
        while self._total > self.limit:
            _, dropped = self._values.popitem(last=False)
            self._total -= self.size(dropped)

    def get_or_compute(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value of a key, computed and stored where it is not in the cache."""
        if key not in self._values:
            value = compute()
            self.put(key, value)
            return value
        self._values.move_to_end(key)
        return self._values[key]
