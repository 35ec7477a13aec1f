"""What the benchmarks share: timing, the machine's measured peak, rows, a table and a JSON file."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from ecr_jax.files import write_json


@dataclass(frozen=True)
class Row:
    """One measurement: `peer` is the rival's value of the same metric in the same run, `ratio` peer / ours."""

    case: str
    metric: str
    value: float
    unit: str
    peer: float | None = None
    ratio: float | None = None


def compared(case: str, metric: str, ours: float, peer: float, unit: str = "ms") -> Row:
    """A row of ours beside a peer's; a ratio above 1 says that ours is the smaller."""
    return Row(case, metric, ours, unit, peer, peer / ours)


def milliseconds(functions: Sequence[Callable[[], Any]], rounds: int = 7) -> list[float]:
    """The best time of each function over some rounds, in milliseconds.

    The functions take turns, so that a slow moment of the machine falls on all of them. Each is called once before
    (compilation, first touch of memory) and must return the arrays to wait for.
    """
    for function in functions:
        jax.block_until_ready(function())
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for place, function in enumerate(functions):
            start = time.perf_counter()
            jax.block_until_ready(function())
            best[place] = min(best[place], 1e3 * (time.perf_counter() - start))
    return best


def matmul_peak(size: int = 2048) -> Row:
    """The machine's float32 matrix product, in GFLOP/s: what every other number is to be read against."""
    matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    (best,) = milliseconds([lambda: product(matrix)])
    case = f"matmul {size}x{size} float32 on {jax.devices()[0].device_kind}"
    return Row(case, "peak", 2e-6 * size**3 / best, "GFLOP/s")


def matrix_flops(function: Callable, *arguments: Any) -> float:
    """Floating-point operations of the matrix products of a call, gradients included where it takes them."""

    def walk(jaxpr) -> float:
        total = 0.0
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                left = equation.invars[0].aval.shape
                total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
                continue
            times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    total += times * walk(inner)
        return total

    return walk(jax.make_jaxpr(function)(*arguments).jaxpr)


def report(rows: Iterable[Row], title: str, path: Path | None = None) -> None:
    """Prints rows as a table and, if a path is given, writes them as JSON."""
    rows = list(rows)
    table = Table("case", "metric", "value", "unit", "peer", "ratio", title=title)
    for row in rows:
        peer, ratio = ("" if number is None else f"{number:.4g}" for number in (row.peer, row.ratio))
        table.add_row(row.case, row.metric, f"{row.value:.4g}", row.unit, peer, ratio)
    Console().print(table)
    if path is not None:
        write_json(path, [dataclasses.asdict(row) for row in rows])
