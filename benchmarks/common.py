"""Shared by the benchmarks: timing, the machine's measured peaks, rows, tables and JSON files."""

from __future__ import annotations

import dataclasses
import math
import os
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

# transformers, which a benchmark imports after this, warns that torch is missing.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


@dataclass(frozen=True)
class Row:
    """One measurement. `peer` is the value of the compared implementation, `ratio` how many times ours is better."""

    case: str
    metric: str
    value: float
    unit: str
    peer: float | None = None
    ratio: float | None = None


def compared(case: str, metric: str, ours: float, peer: float, unit: str = "ms") -> Row:
    """A row of our value beside a peer's; a ratio above 1 means that ours is smaller."""
    return Row(case, metric, ours, unit, peer, peer / ours)


def milliseconds(functions: Sequence[Callable[[], Any]], rounds: int = 7) -> list[float]:
    """The best time of each function over some rounds, in milliseconds.

    The functions take turns, so that a slow moment of the machine affects all of them. Each is called once before
    (compilation, first access of memory) and must return the arrays to wait for.
    """
    for function in functions:
        jax.block_until_ready(function())
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for index, function in enumerate(functions):
            start = time.perf_counter()
            jax.block_until_ready(function())
            best[index] = min(best[index], 1e3 * (time.perf_counter() - start))
    return best


def square_product(size: int = 2048, dtype: Any = jnp.float32) -> tuple[Callable[[], jax.Array], float]:
    """A product of two square matrices, as a function to time, and its floating-point operations."""
    size *= 1 if jax.default_backend() == "cpu" else 4  # large enough to fill an accelerator
    matrix = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(lambda a: a @ a)
    return lambda: product(matrix), 2.0 * size**3


def matmul_peak(size: int = 2048, dtype: Any = jnp.float32) -> Row:
    """The machine's matrix product, in GFLOP/s, as a reference for every other number."""
    product, flops = square_product(size, dtype)
    (best,) = milliseconds([product], 15)
    size = round((flops / 2) ** (1 / 3))
    case = f"matmul {size}x{size} {jnp.dtype(dtype).name} on {jax.devices()[0].device_kind}"
    return Row(case, "peak", 1e-6 * flops / best, "GFLOP/s")


def read_bandwidth(size: int = 2**30) -> Row:
    """Memory bandwidth in GB/s: the better of reading `size` bytes (a sum) and of copying them (read and write)."""
    array = jnp.ones(size // 4, jnp.float32)
    total, copy = jax.jit(jnp.sum), jax.jit(lambda a: a + 1)
    read_time, copy_time = milliseconds([lambda: total(array), lambda: copy(array)], 15)
    case = f"memory, {size / 2**20:.0f} MiB on {jax.devices()[0].device_kind}"
    return Row(case, "bandwidth", 1e-6 * max(size / read_time, 2 * size / copy_time), "GB/s")


def matrix_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Floating-point operations of the matrix products of a call, with those of gradients that it computes."""

    def count(jaxpr: Any) -> float:
        total = 0.0
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                left = equation.invars[0].aval.shape
                total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
                continue
            repeats = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    total += repeats * count(inner)
        return total

    return count(jax.make_jaxpr(function)(*arguments).jaxpr)


def page(rows: Iterable[Row], title: str, introduction: str, command: str, path: Path) -> None:
    """Writes rows as a Markdown page: title, introduction, table, and the command, commit and machine."""
    head = ("case", "metric", "value", "unit", "peer", "ratio")
    body = [head, ("---",) * len(head)]
    for row in rows:
        peer, ratio = ("" if number is None else f"{number:.4g}" for number in (row.peer, row.ratio))
        body.append((row.case, row.metric, f"{row.value:.4g}", row.unit, peer, ratio))
    table = "\n".join(f"| {' | '.join(line)} |" for line in body)
    source = f"`{command}`, commit {machine.commit()}, {machine.hardware()}, jax {jax.__version__}."
    with replacing(path) as temporary:
        temporary.write_text(f"# {title}\n\n{introduction}\n\n{table}\n\n{source}\n", encoding="utf-8")


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
