"""The command `ecr shardings`: what each device of a mesh would hold of a stage."""

from __future__ import annotations

import re

from rich.console import Console
from rich.table import Column, Table

from ecr_jax.config import Config
from ecr_jax.stages.abstract import abstract_stage
from ecr_jax.training.memory import StepMemory, step_memory
from ecr_jax.training.options import ShardingConfig, Strategy

_UNITS = {"": 0, "KiB": 1, "MiB": 2, "GiB": 3, "TiB": 4}


def parse_memory(text: str) -> int:
    """A number of bytes.

    Raises:
      ValueError: something else than a number with a unit.

    >>> parse_memory("80GiB") == 80 * 2**30, parse_memory("1.5 MiB")
    (True, 1572864)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]iB|)", text)
    if match is None:
        raise ValueError(f"memory {text!r}: give a number and KiB, MiB, GiB or TiB, for example 80GiB")
    return int(float(match[1]) * 1024 ** _UNITS[match[2]])


def show(
    config: Config,
    stage: str,
    *,
    devices: int,
    strategy: Strategy | None,
    model: int | None,
    memory: str | None,
    console: Console,
) -> StepMemory:
    """Prints where each array of a stage lies, and what one device holds.

    Args:
      config: the experiment.
      stage: one of ECR's stages.
      devices: of the mesh; they need not be there.
      strategy, model: of the mesh; None takes what the config says.
      memory: of a device, such as "80GiB"; None for any.
      console: is printed to.

    Raises:
      ValueError: a device holds more than `memory`; sizes that cannot be.
    """
    limit = None if memory is None else parse_memory(memory)
    settings: ShardingConfig = getattr(config, stage).train.sharding
    chosen = settings.strategy if strategy is None else strategy
    split = "tensor" in chosen
    layout = ShardingConfig(chosen, (max(settings.model, 2) if split else 1) if model is None else model)
    found = abstract_stage(config, stage)
    needs = step_memory(found.params, found.frozen, found.loss, found.batch, found.rules, found.train, devices, layout)
    ways, rows = devices // layout.model, found.train.batch_size // found.train.accumulation
    table = Table(
        Column("array", overflow="fold"),
        Column("shape", no_wrap=True),
        Column("dtype", no_wrap=True),
        Column("split", no_wrap=True),
        Column("MiB a device", justify="right", no_wrap=True),
        title=f"{stage}: {chosen} over {ways} data x {layout.model} model devices",
    )
    for array in needs.arrays:
        parts = [part if isinstance(part, str) else "+".join(part) if part else "" for part in array.spec]
        table.add_row(
            array.path if array.trained else f"{array.path} (frozen)",
            "x".join(map(str, array.shape)) or "scalar",
            str(array.dtype),
            ",".join(part or "-" for part in parts) if any(parts) else "whole",
            f"{array.bytes / 2**20:,.3f}",
        )
    console.print(table)
    sums = Table("one device holds", Column("GiB", justify="right"), "")
    for name, size, meaning in (
        ("trained parameters", needs.parameters, ""),
        ("frozen arrays", needs.frozen, ""),
        ("gradients", needs.gradients, "with their sum over micro-batches" if found.train.accumulation > 1 else ""),
        ("optimiser", needs.optimizer, "two moments a parameter"),
        ("activations", needs.activations, "estimate: what is kept from the forward to the backward pass"),
        ("a layer, gathered", needs.gathered, "under fsdp, while it is computed"),
        ("batch", needs.batch, ""),
        ("total", needs.total, "not counted: what lives for one operation only, and the compiler's own"),
    ):
        sums.add_row(name, f"{size / 2**30:,.3f}", meaning)
    console.print(sums)
    if rows % ways:
        console.print(
            f"{rows} rows of a micro-batch do not divide over {ways} devices on `data`: one that has the most is "
            f"shown; to train, make --{stage}.train.batch-size / accumulation a multiple of {ways}"
        )
    if limit is not None and needs.total > limit:
        raise ValueError(
            f"{stage} needs {needs.total / 2**30:,.2f} GiB a device, and there are {limit / 2**30:,.2f}: take more "
            f"devices or another --strategy, smaller micro-batches (accumulation), or of a language model `remat`, "
            f"bfloat16 or `quantize`"
        )
    return needs
