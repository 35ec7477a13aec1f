"""Where a report's numbers come from: code, machine, data, parameters, and how often a split was read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from ecr_jax.config import Config, registry
from ecr_jax.config.registry import StageSpec
from ecr_jax.data.prepare import PreparedCorpus
from ecr_jax.data.schema import Split
from ecr_jax.evaluation.protocol import Protocol
from ecr_jax.files import read_jsonl_rows, write_jsonl
from ecr_jax.runs import machine

Fingerprint = dict[str, Any]
"""Everything that the numbers of a report follow from, as JSON values."""


def environment() -> dict[str, str]:
    """Commit, command, hardware and versions of this process."""
    return {
        "commit": machine.commit(),
        "command": " ".join(["ecr", *sys.argv[1:]]),
        "hardware": machine.hardware(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def run_provenance(config: Config, corpus: PreparedCorpus) -> dict[str, Any]:
    """The environment, the corpus, and the seconds and peak memory of each stage."""
    folders = {"prepare": corpus.folder} | {spec.name: config.stage_folder(spec) for spec in registry.stages()}
    costs = {
        name: json.loads((folder / "cost.json").read_text(encoding="utf-8"))
        for name, folder in folders.items()
        if (folder / "cost.json").is_file()
    }
    return environment() | {
        "config": config.name,
        "data": {name: digest[:16] for name, digest in corpus.manifest["inputs"].items()},
        "counts": corpus.manifest["counts"],
        "stages": {
            name: f"{cost['seconds']:.0f} s, {cost['peak_memory_mb'] / 1024:.1f} GiB" for name, cost in costs.items()
        },
    }


def complete_stages(config: Config) -> list[StageSpec]:
    """The stages and baselines of the run that are trained to their end."""
    return [
        spec
        for spec in (*registry.stages(), *registry.baselines())
        if all((config.stage_folder(spec) / name).is_file() for name in spec.writes)
    ]


def fingerprint(config: Config, corpus: PreparedCorpus, split: Split, protocol: Protocol) -> Fingerprint:
    """What the numbers follow from, with digests of all trained parameters.

    A report with the same fingerprint has the same numbers.
    """
    parameters = {}
    for spec in complete_stages(config):
        name = "params.safetensors" if "params.safetensors" in spec.writes else spec.writes[0]
        with (config.stage_folder(spec) / name).open("rb") as file:
            parameters[spec.folder] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return {
        "split": split.value,
        "protocol": protocol.name,
        "evaluation": dataclasses.asdict(config.evaluation),
        "seed": config.seed,
        "like_power": config.recommender.heads.like_power,
        "inputs": corpus.manifest["inputs"],
        "parameters": parameters,
    }


def log_read(folder: Path, split: Split, fingerprint: Fingerprint, stage: str = "recommendation") -> str:
    """Adds a line to `reads.jsonl`: models were ranked on this split once more.

    Args:
      folder: the run's folder of the split.
      split: which.
      fingerprint: what was measured.
      stage: folder of the stage whose parameters ranked it.

    Returns:
      A sentence that says how often the run has read the split by now, and with how many sets of parameters.
    """
    path = folder / "reads.jsonl"
    reads = read_jsonl_rows(path) if path.is_file() else []
    process = environment()
    reads.append(
        {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "protocol": fingerprint["protocol"],
            "parameters": fingerprint["parameters"][stage],
            "commit": process["commit"],
            "command": process["command"],
        }
    )
    write_jsonl(path, reads)
    sets = len({read["parameters"] for read in reads})
    times = "once" if len(reads) == 1 else f"{len(reads)} times"
    return f"{split.value} was read {times} by this run, with {sets} set{'s' if sets > 1 else ''} of parameters"
