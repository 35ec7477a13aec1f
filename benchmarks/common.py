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

from ecr_jax.files import replacing, write_json
from ecr_jax.runs import machine


@dataclass(frozen=True)
class Row:
    """One measurement: `peer` is the baseline's value of the same metric in the same run, `ratio` peer / ours."""

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


def square_product(size: int = 2048, dtype: Any = jnp.float32) -> tuple[Callable[[], jax.Array], float]:
    """A product of two square matrices, as a function to be timed, and its floating-point operations."""
    size *= 1 if jax.default_backend() == "cpu" else 4  # large enough to fill an accelerator
    matrix = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(lambda a: a @ a)
    return lambda: product(matrix), 2.0 * size**3


def matmul_peak(size: int = 2048, dtype: Any = jnp.float32) -> Row:
    """The machine's matrix product, in GFLOP/s: what every other number is to be read against."""
    product, flops = square_product(size, dtype)
    (best,) = milliseconds([product], 15)
    size = round((flops / 2) ** (1 / 3))
    case = f"matmul {size}x{size} {jnp.dtype(dtype).name} on {jax.devices()[0].device_kind}"
    return Row(case, "peak", 1e-6 * flops / best, "GFLOP/s")


def read_bandwidth(size: int = 2**30) -> Row:
    """How fast memory is: the better of reading `size` bytes (a sum) and copying them (in and out), in GB/s."""
    array = jnp.ones(size // 4, jnp.float32)
    total, copy = jax.jit(jnp.sum), jax.jit(lambda a: a + 1)
    read, copied = milliseconds([lambda: total(array), lambda: copy(array)], 15)
    case = f"memory, {size / 2**20:.0f} MiB on {jax.devices()[0].device_kind}"
    return Row(case, "bandwidth", 1e-6 * max(size / read, 2 * size / copied), "GB/s")


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


def page(rows: Iterable[Row], title: str, words: str, command: str, path: Path) -> None:
    """Writes rows as a Markdown page: a title, some words, the table, and what made it."""
    head = ("case", "metric", "value", "unit", "peer", "ratio")
    body = [head, ("---",) * len(head)]
    for row in rows:
        peer, ratio = ("" if number is None else f"{number:.4g}" for number in (row.peer, row.ratio))
        body.append((row.case, row.metric, f"{row.value:.4g}", row.unit, peer, ratio))
    table = "\n".join(f"| {' | '.join(line)} |" for line in body)
    source = f"`{command}`, commit {machine.commit()}, {machine.hardware()}, jax {jax.__version__}."
    with replacing(path) as temporary:
        temporary.write_text(f"# {title}\n\n{words}\n\n{table}\n\n{source}\n", encoding="utf-8")


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
