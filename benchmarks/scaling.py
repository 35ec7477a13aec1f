"""Collectives of each stage's training step over eight devices, beside the least that its mesh needs.

    python -m benchmarks.scaling [--config demo] [--stages STAGE ...] [--strategies STRATEGY ...] [--json F] [--page F]

A step is compiled from shapes alone, for eight CPU devices that need not be there, and its collectives are read from
the compiled program; those in a loop count as often as the loop runs. Nothing is trained. The corpus of the config must
be prepared, because the graph decides shapes.

Bytes are what a device sends in ring algorithms: with n devices and an array of S bytes, 2 (n - 1) / n · S for an
all-reduce, (n - 1) / n · S for an all-gather, a reduce-scatter and an all-to-all, S for a permutation. The least that
a mesh needs: the gradient of every trained array is summed over `data`, and what `fsdp` splits over `data` is gathered
once forwards, and once more backwards where it is a layer's (which is dropped in between). XLA needs less where a
gradient is smaller than what is counted here, and more where it sums what a gradient is computed from. Under `tensor`
the sums of activations over `model` come on top; they are in no minimum here.

The cost model keeps the rows of a device, so that its arithmetic stays the same, and scales the collectives over
`data` to more devices: their bytes by (n - 1) / n, their latency by log2(n). Nothing overlaps in it, so its shares are
lower bounds.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import optax
import tyro
from rich.console import Console
from rich.progress import track

from benchmarks.common import matrix_flops
from ecr_jax import config as configs
from ecr_jax.config import Config
from ecr_jax.files import replacing, write_jsonl
from ecr_jax.runs import machine
from ecr_jax.stages.abstract import STAGES, AbstractStage, abstract_stage
from ecr_jax.training import optim, sharding
from ecr_jax.training.options import ShardingConfig, Strategy
from ecr_jax.training.step import init_state, make_step, state_shardings

DEVICES = 8
LAYOUTS: Mapping[Strategy, ShardingConfig] = {
    "data": ShardingConfig("data"),
    "fsdp": ShardingConfig("fsdp"),
    "tensor": ShardingConfig("tensor", 2),
    "fsdp_tensor": ShardingConfig("fsdp_tensor", 2),
}
LARGER = (64, 256, 1024)
"""Numbers of devices of the cost model."""

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_OPERATION = re.compile(rf" = (?P<type>\(?[^=]*?) (?P<kind>{'|'.join(_KINDS)})(?:-start)?\(")
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) .*\{$")
_CALLS = re.compile(r"\b(?:body|to_apply|calls|true_computation|false_computation)=%?([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_GROUPS = re.compile(r"replica_groups=(?:\{\{([\d,]+)\}|\[\d+,(\d+)\]<=)")
_BITS = {"pred": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64}


@dataclass(frozen=True)
class Collective:
    """A collective of a compiled program.

    Attributes:
      kind: all-reduce, all-gather, reduce-scatter, all-to-all or collective-permute.
      bytes: of the whole array: what is summed, what is gathered, or what is exchanged.
      devices: that take part.
      times: how often a step runs it.
    """

    kind: str
    bytes: int
    devices: int
    times: int

    @property
    def sent(self) -> float:
        """Bytes that a device sends in a step."""
        share = (self.devices - 1) / self.devices
        return self.times * self.bytes * {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)


def collectives(program: str, devices: int = DEVICES) -> list[Collective]:
    """The collectives of a compiled program, from its text (`Compiled.as_text`).

    Args:
      program: HLO.
      devices: of the mesh, for a collective without groups.
    """
    bodies: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in re.sub(r"/\*.*?\*/", "", program).splitlines():
        if match := _COMPUTATION.match(line):
            lines = bodies.setdefault(match["name"], [])
            entry = match["name"] if match["entry"] else entry
        else:
            lines.append(line)

    def walk(name: str, times: int) -> Iterator[Collective]:
        for line in bodies[name]:
            if match := _OPERATION.search(line):
                yield _collective(match, line, times, devices)
                continue
            trips = _TRIPS.search(line) if " while(" in line else None
            for called in _CALLS.findall(line):
                yield from walk(called, times * (int(trips[1]) if trips else 1))

    return list(walk(entry, 1))


def _collective(match: re.Match[str], line: str, times: int, devices: int) -> Collective:
    size = sum(
        _bits(kind) * math.prod(map(int, filter(None, shape.split(","))))
        for kind, shape in _SHAPE.findall(match["type"])
    )
    groups = _GROUPS.search(line)
    if groups:
        devices = int(groups[2]) if groups[2] else len(groups[1].split(","))
    whole = size // 8 * (devices if match["kind"] == "reduce-scatter" else 1)
    return Collective(match["kind"], whole, devices, times)


def _bits(kind: str) -> int:
    return _BITS[kind] if kind in _BITS else int(re.sub(r"\D", "", kind))


def compiled_text(found: AbstractStage, layout: ShardingConfig) -> str:
    """The compiled step of a stage over all devices of the process."""
    mesh = sharding.make_mesh(layout.model)
    optimizer = optim.make_optimizer(found.train.optim, 1, found.params)
    placement = state_shardings(found.params, optimizer, found.rules, mesh, layout.strategy)
    step: Any = make_step(
        found.loss,
        optimizer,
        mesh,
        state_placement=placement,
        frozen_placement=sharding.shardings(found.frozen, found.rules, mesh, layout.strategy),
        schedule=optax.constant_schedule(1.0),
    )
    state = jax.eval_shape(lambda tree: init_state(tree, optimizer), found.params)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return step.lower(state, found.frozen, dict(found.batch), key).compile().as_text()


def least_sent(found: AbstractStage, layout: ShardingConfig) -> float:
    """The bytes that a device sends at least, see the module."""
    mesh = sharding.make_mesh(layout.model)
    ways = mesh.shape["data"]
    share, total = (ways - 1) / ways, 0.0
    for tree, trained in ((found.params, True), (found.frozen, False)):
        placement = sharding.shardings(tree, found.rules, mesh, layout.strategy)
        arrays = (jax.tree.leaves(part) for part in (sharding.leaf_paths(tree), tree, placement))
        for path, leaf, place in zip(*arrays, strict=True):
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                continue
            split = any("data" in (part if isinstance(part, tuple) else (part,)) for part in place.spec)
            held = math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            size = held * (ways if split else 1)
            gathers = (2 if "layers/" in path else 1) if split else 0
            sums = (1 if split else 2) if trained else 0
            total += share * size * (gathers + sums)
    return total


@dataclass(frozen=True)
class Row:
    """A stage under a strategy.

    Attributes:
      sent: kind -> MiB that a device sends in a step.
      count: kind -> collectives of a step.
      least: MiB that it sends at least.
      gflop: of the matrix products of a step, on each device.
      shares: devices -> share of a step that is arithmetic, by the cost model.
    """

    stage: str
    strategy: str
    sent: dict[str, float]
    count: dict[str, int]
    least: float
    gflop: float
    shares: dict[int, float]


@dataclass(frozen=True)
class Assumptions:
    """Of the cost model.

    Attributes:
      flops: FLOP/s that a device reaches in matrix products.
      bandwidth: bytes a second that a device sends to others.
      latency: seconds of a collective between two devices.
    """

    flops: float = 2e14
    bandwidth: float = 5e10
    latency: float = 1e-5


def arithmetic_share(found: Sequence[Collective], flop: float, devices: int, assumed: Assumptions) -> float:
    """The share of a step that is arithmetic when as many times more devices on `data` as `devices` has.

    Args:
      found: the collectives over `DEVICES`.
      flop: of each device.
      devices: of the larger mesh.
      assumed: of the hardware.
    """
    factor = devices // DEVICES
    seconds = 0.0
    for collective in found:
        many = dataclasses.replace(collective, devices=collective.devices * factor)
        seconds += many.sent / assumed.bandwidth + many.times * assumed.latency * math.log2(many.devices)
    arithmetic = flop / assumed.flops
    return arithmetic / (arithmetic + seconds)


def measure(config: Config, stage: str, strategy: Strategy, assumed: Assumptions) -> Row:
    """Compiles a stage's step under a strategy and counts its collectives."""
    found, layout = abstract_stage(config, stage), LAYOUTS[strategy]
    met = [collective for collective in collectives(compiled_text(found, layout)) if collective.devices > 1]
    sent: collections.Counter[str] = collections.Counter()
    count: collections.Counter[str] = collections.Counter()
    for collective in met:
        sent[collective.kind] += collective.sent / 2**20
        count[collective.kind] += collective.times

    def gradient(params: Any, frozen: Any, batch: Any, key: jax.Array) -> Any:
        return jax.grad(lambda params: found.loss(params, frozen, batch, key)[0])(params)

    key = jax.eval_shape(lambda: jax.random.key(0))
    flop = matrix_flops(gradient, found.params, found.frozen, dict(found.batch), key) / DEVICES
    shares = {devices: arithmetic_share(met, flop, devices, assumed) for devices in (DEVICES, *LARGER)}
    return Row(stage, strategy, dict(sent), dict(count), least_sent(found, layout) / 2**20, flop / 1e9, shares)


def table(rows: Sequence[Row]) -> str:
    """The Markdown tables."""
    kinds = [kind for kind in _KINDS if any(kind in row.count for row in rows)]
    head = ["stage", "strategy", *(f"{kind}, MiB (number)" for kind in kinds), "sum, MiB", "least, MiB", "ratio"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [f"{row.sent[kind]:.2f} ({row.count[kind]})" if kind in row.count else "" for kind in kinds]
        total = sum(row.sent.values())
        ratio = f"{total / row.least:.2f}" if row.least else ""
        lines.append([row.stage, row.strategy, *cells, f"{total:.2f}", f"{row.least:.2f}", ratio])
    models = ["stage", "strategy", "GFLOP a device", *(f"{devices} devices" for devices in (DEVICES, *LARGER))]
    costs = [models, ["---"] * len(models)]
    for row in rows:
        costs.append([row.stage, row.strategy, f"{row.gflop:.2f}", *(f"{share:.1%}" for share in row.shares.values())])
    return "\n\n".join("\n".join(f"| {' | '.join(line)} |" for line in part) for part in (lines, costs))


def main(
    config: str = "demo",
    prepared: Path = Path("prepared"),
    stages: tuple[str, ...] = tuple(STAGES),
    strategies: tuple[Strategy, ...] = tuple(LAYOUTS),
    assumed: Assumptions = Assumptions(),
    json: Path | None = None,
    page: Path | None = None,
) -> None:
    """Counts the collectives of stages over eight devices.

    Args:
      config: whose corpus is prepared.
      prepared: the folder of prepared corpora.
      stages: which.
      strategies: which.
      assumed: hardware of the cost model.
      json: where to write the rows, one JSON object a line.
      page: where to write the Markdown page.
    """
    settings = dataclasses.replace(configs.load(config), prepared=prepared)
    pairs = [(stage, strategy) for stage in stages for strategy in strategies]
    rows = [measure(settings, stage, strategy, assumed) for stage, strategy in track(pairs, description="compile")]
    tables = table(rows)
    Console(soft_wrap=True).print(tables, markup=False, highlight=False)
    if json is not None:
        write_jsonl(json, (dataclasses.asdict(row) for row in rows))
    if page is not None:
        introduction = "\n\n".join((__doc__ or "").split("\n\n")[2:]).strip()
        source = (
            f"`python -m benchmarks.scaling --config {config} --stages {' '.join(stages)}`, commit {machine.commit()}, "
            f"{DEVICES} fake CPU devices, "
            f"jax {jax.__version__}. The second table is the share of a step that is arithmetic, with "
            f"{assumed.flops / 1e12:g} TFLOP/s, {assumed.bandwidth / 1e9:g} GB/s and {assumed.latency * 1e6:g} µs."
        )
        with replacing(page) as temporary:
            temporary.write_text(f"# Scaling\n\n{introduction}\n\n{tables}\n\n{source}\n", encoding="utf-8")


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", DEVICES)
    tyro.cli(main, prog="python -m benchmarks.scaling")
