"""Configs on disk: the one resolved config of a run, and what each stage's folder records of it.

`runs/NAME/config.json` holds the whole resolved config of a run. `runs/NAME/STAGE/config.json` holds the fields that
the stage's outcome follows from (`StageSpec.reads` and its own section): two stages with equal records, after equal
stages, are the same.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ecr_jax import files
from ecr_jax.config.registry import StageSpec
from ecr_jax.config.schema import Config

RANKING_FIELD = "recommender.heads.like_power"
"""A field that changes how items are ranked, but nothing that is learned."""

PLACE = ("name", "base", "prepared", "runs")
"""Fields that say where a run and its corpus are, and change nothing in them."""


def record(config: Config, stage: StageSpec) -> dict[str, Any]:
    """The fields that a stage's outcome follows from, as nested plain values."""
    return _select(config.as_json(), (*stage.reads, stage.section))


def write_run(config: Config, stage: StageSpec) -> None:
    """Writes the run's config: the fields of this stage as in `config`, others as an earlier stage left them."""
    path = config.folder / "config.json"
    values = config.as_json()
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        values = merge(before, merge(record(config, stage), {name: values[name] for name in PLACE}))
    files.write_json(path, values)


def read_run(run: Path, stages: Iterable[StageSpec]) -> Config:
    """The config of a run, wherever its folder is now, with the corpus that its stages were trained on.

    Args:
      run: the folder.
      stages: those whose outcome is used; each must have been trained with this config.

    Raises:
      ValueError: the folder holds no run, a stage is missing, or one was trained with other settings.
    """
    run = run.resolve()
    if not (run / "config.json").is_file():
        raise ValueError(f"{run} holds no run; run `ecr train` with its config first")
    values = json.loads((run / "config.json").read_text(encoding="utf-8"))
    corpus: tuple[str, dict[str, Any]] | None = None
    for stage in stages:
        path = run / stage.folder / "config.json"
        if not path.is_file():
            raise ValueError(f"{run} has no trained stage {stage.name!r}; run `ecr train {stage.name}` with its config")
        recorded = json.loads(path.read_text(encoding="utf-8"))
        paths = [name for name in (*stage.reads, stage.section) if name != "corpus"]
        changed = differences(_select(recorded, paths), _select(values, paths))
        # The corpus is the one that was prepared, whatever the command that trained said of it.
        prepared = {part: recorded[part] for part in ("corpus", "inputs") if part in recorded}
        if corpus is not None and (differing := differences(corpus[1], prepared)):
            changed.append(f"corpus: not that of {corpus[0]!r}: {', '.join(differing)}")
        corpus = corpus or (stage.name, prepared)
        if changed:
            raise ValueError(
                f"{run}: {stage.name!r} was trained with other settings than the stages after it "
                f"({'; '.join(changed)}); train it again"
            )
    if corpus is not None and "corpus" in corpus[1]:
        values["corpus"] = corpus[1]["corpus"]
    home = values["base"] or values["name"]  # of the prepared corpus
    return from_json(values, name=run.name, base=None if home == run.name else home, runs=run.parent)


def _select(values: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """The values at some paths, nested as they were."""
    selected: dict[str, Any] = {}
    for path in paths:
        *parents, last = path.split(".")
        source, target = values, selected
        for name in parents:
            source, target = source[name], target.setdefault(name, {})
        target[last] = source[last]
    return selected


def merge(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`before` with the leaves of `change` put over it."""
    merged = dict(before)
    for name, value in change.items():
        inner = merged.get(name)
        merged[name] = merge(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
    return merged


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How two records of settings differ, as "fusion.train.seed: 7 → 8".

    How many devices are used is left out, and so is `RANKING_FIELD`.
    """
    before, now = _flatten(before), _flatten(now)
    return [
        f"{name}: {before.get(name)!r} → {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
        and name != RANKING_FIELD
        and not re.search(r"(^|\.)train\.sharding\.", name)
    ]


def _flatten(value: Any, path: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} → {"a.b": 1}."""
    if not isinstance(value, Mapping) or not value:
        return {path: value}
    inner = (_flatten(each, f"{path}.{name}" if path else name) for name, each in value.items())
    return {name: leaf for flat in inner for name, leaf in flat.items()}


def from_json(value: Mapping[str, Any], **changes: Any) -> Config:
    """The config that `Config.as_json` wrote.

    Args:
      value: plain values; keys that are not fields are ignored.
      changes: fields to replace.

    Raises:
      ConfigError: a value that cannot be.
      TypeError: a field is missing.
    """
    return dataclasses.replace(_build(Config, value), **changes)


def _build(kind: type, value: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    fields = {f.name: value[f.name] for f in dataclasses.fields(kind) if f.name in value}
    for name, plain in fields.items():
        # Of `X | None`, a mapping is an X.
        section = next(
            (part for part in (hints[name], *typing.get_args(hints[name])) if dataclasses.is_dataclass(part)), None
        )
        if section is not None and isinstance(plain, Mapping):
            fields[name] = _build(typing.cast(type, section), plain)
        elif hints[name] is Path:
            fields[name] = Path(plain)
        elif isinstance(plain, list):
            fields[name] = tuple(tuple(part) if isinstance(part, list) else part for part in plain)
    return kind(**fields)
