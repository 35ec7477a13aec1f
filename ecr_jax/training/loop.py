"""The training loop that every stage goes through: go on or begin, step, look, evaluate, keep the best, save."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import jax
import rich
import rich.progress
import tensorboardX
from jax.sharding import Mesh

from ecr_jax import files
from ecr_jax.features.batches import Batches
from ecr_jax.training import checkpoint, optim, sharding
from ecr_jax.training.options import TrainConfig
from ecr_jax.training.step import Loss, init_state, make_step, state_shardings

Tree = Any

# Steps handed to the device before the metrics of one are looked at: a wait each step would leave the device idle.
AHEAD = 2


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What a run gives: the best parameters (numpy), the validation metrics that won, and `summary.json`."""

    params: Tree
    metrics: dict[str, float]
    summary: dict[str, Any]


class Interrupted(SystemExit):
    """Ctrl-C or SIGTERM: a checkpoint is saved and the reader told; ends the program with status 130."""


def fit(
    directory: Path,
    *,
    params: Tree,
    frozen: Tree,
    loss: Loss,
    batches: Batches,
    evaluate: Callable[[Tree, Tree], Mapping[str, float]],
    select: str,
    mode: str,
    config: TrainConfig,
    mesh: Mesh | None = None,
    rules: sharding.Rules = sharding.REPLICATED,
    describe: Callable[[Sequence[int]], Sequence[str]] | None = None,
    record: Mapping[str, Any] | None = None,
) -> FitResult:
    """Trains `params` on `batches` and keeps the best by a validation metric; goes on where an earlier call stopped.

    Writes into `directory`: config.json (first), checkpoints/, metrics.jsonl, tensorboard/, params.safetensors (the
    best so far) and summary.json (last: the run is complete when it is there).

    Args:
        directory: of this run of this stage.
        params: the trainable tree, nested dicts of arrays: where a new run begins. Left as it is.
        frozen: the arrays the loss needs and does not train.
        loss: `(params, frozen, batch, key) -> (total, count, metrics)`, scalar sums; the objective is total / count.
        batches: endless (or long enough), of `config.batch_size` rows.
        evaluate: (params, frozen) as they lie on the devices → validation metrics; never sees the test split.
        select: the metric of `evaluate` that decides which parameters are best.
        mode: "max" or "min": which way `select` is better.
        config: see TrainConfig.
        mesh: by default `config.sharding.model` devices on `model`, and as many on `data` as divide the rows of a
            micro-batch.
        rules: the logical axes of all arrays, trainable and frozen, for `config.sharding.strategy` to split.
        describe: example numbers → names people know, for the message about a loss that is not a number.
        record: JSON that config.json should hold too; going on demands the same one.

    Returns:
        The best parameters, their metrics and the summary.

    Raises:
        ValueError: the directory holds a run with another configuration; sizes that do not divide; an unknown metric;
            a strategy that splits nothing here.
        FloatingPointError: a loss or gradient that is not finite, naming the step and the examples.
        Interrupted: Ctrl-C or SIGTERM, after a checkpoint.
    """
    if mode not in ("max", "min"):
        raise ValueError(f"mode={mode!r}: must be 'max' or 'min'")
    directory = Path(directory)
    console = rich.get_console()
    best_file = directory / "params.safetensors"
    steps = config.total_steps(batches.per_epoch)
    _same_config(directory, {"train": dataclasses.asdict(config), "select": select, "mode": mode} | dict(record or {}))
    if (directory / "summary.json").exists():
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
        console.print(f"{directory} is complete ({summary['steps']} steps); nothing to do")
        return FitResult(checkpoint.read_params(best_file), summary["best"]["metrics"], summary)

    if mesh is None:
        mesh = _mesh(config)
    _check_sizes(batches, config, mesh, steps)
    eval_every = config.eval_every or batches.per_epoch
    key = jax.random.key(config.seed)

    # Abstract first, then shardings, then the arrays: a run goes on from its checkpoint, or begins with `params`.
    optimizer = optim.make_optimizer(config.optim, steps, params)
    strategy = config.sharding.strategy
    placement = state_shardings(params, optimizer, rules, mesh, strategy)
    frozen_placement = sharding.shardings(frozen, rules, mesh, strategy)
    if strategy != "data":
        console.print(_spread((params, frozen), (placement["params"], frozen_placement), mesh, strategy))
    step = make_step(
        loss,
        optimizer,
        mesh,
        state_placement=placement,
        frozen_placement=frozen_placement,
        schedule=optim.learning_rate(config.optim, steps),
        accumulation=config.accumulation,
    )
    iterator = iter(batches)
    progress = {"best": None, "stale": 0, "train_seconds": 0.0, "evaluate_seconds": 0.0, "examples": 0}
    with checkpoint.Checkpoints(directory / "checkpoints", config.keep) as checkpoints:
        if checkpoints.latest is None:
            state = init_state(sharding.shard_tree(params, placement["params"]), optimizer)
            state = jax.device_put(state, placement)
            done = 0
        else:
            expected = jax.eval_shape(lambda tree: init_state(tree, optimizer), params)
            state, progress = checkpoints.restore(expected, placement, iterator)
            done = checkpoints.latest
            console.print(f"going on from step {done} of {steps} in {directory}")
        frozen = jax.device_put(frozen, frozen_placement)

        with _Log(directory, done) as log, _Signals() as signals, _bar(console) as bar:
            task = bar.add_task(directory.name, total=steps, completed=done, note="compiling")
            watch = _Watch(log, describe, lambda note: bar.update(task, note=note))
            saved = mark = time.monotonic()

            while done < steps and not _out_of_patience(progress, config):
                batch = next(iterator)
                state, metrics = step(state, frozen, batch, key)
                done += 1
                progress["examples"] += int(batch["example_mask"].sum())
                watch.add(done, batch, metrics)
                bar.update(task, completed=done)

                evaluating = done % eval_every == 0 or done == steps
                late = time.monotonic() - saved >= config.checkpoint_seconds
                counted = config.checkpoint_every is not None and done % config.checkpoint_every == 0
                if not (evaluating or late or counted or signals.asked):
                    continue
                watch.settle()  # nothing that is not finite may reach a checkpoint
                progress["train_seconds"] += time.monotonic() - mark
                mark = time.monotonic()
                if evaluating:
                    bar.update(task, note="evaluating")
                    with jax.set_mesh(mesh):
                        found = {name: float(value) for name, value in evaluate(state["params"], frozen).items()}
                    better = _judge(progress, done, found, select, mode)
                    if better:
                        checkpoint.write_params(best_file, state["params"], {"step": done, "metrics": found})
                    log.write(done, "valid", found)
                    mark_best = "  best" if better else ""
                    console.print(f"step {done}/{steps}  {watch.note}  {select} {found[select]:.4f}{mark_best}")
                    bar.update(task, note=watch.note)
                    progress["evaluate_seconds"] += time.monotonic() - mark
                    mark = time.monotonic()
                checkpoints.save(done, state, iterator, progress)
                saved = time.monotonic()
                if signals.asked and done < steps:
                    console.print(f"stopped at step {done} of {steps}; the same command goes on from there")
                    raise Interrupted(130)

    seconds = progress["train_seconds"] + progress["evaluate_seconds"]
    summary = {
        "steps": done,
        "epochs": done / batches.per_epoch,
        "best": progress["best"],
        "select": select,
        "mode": mode,
        "stopped_early": done < steps,
        "seconds": seconds,
        "train_seconds": progress["train_seconds"],
        "evaluate_seconds": progress["evaluate_seconds"],
        "examples_per_second": progress["examples"] / max(progress["train_seconds"], 1e-9),
        "peak_memory_mb": files.peak_memory_mb(),
        "devices": [device.device_kind for device in mesh.devices.flat],
        "trained_parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    }
    files.write_json(directory / "summary.json", summary)
    return FitResult(checkpoint.read_params(best_file), progress["best"]["metrics"], summary)


def _same_config(directory: Path, config: dict[str, Any]) -> None:
    """Writes config.json, or checks that the one there says the same."""
    path = directory / "config.json"
    config = json.loads(json.dumps(config))
    if not path.exists():
        files.write_json(path, config)
        return
    if changed := differences(json.loads(path.read_text(encoding="utf-8")), config):
        raise ValueError(
            f"{directory} holds a run with another configuration ({'; '.join(changed)}): use another "
            f"directory, the same configuration, or remove the run to begin anew (--force)"
        )


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two records of settings, as "train.seed: 7 → 8"; on how many devices is left out."""
    before, now = _flat(before), _flat(now)
    return [
        f"{name}: {before.get(name)!r} → {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name) and not re.search(r"(^|\.)train\.sharding\.", name)
    ]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} → {"a.b": 1}."""
    if not isinstance(value, dict) or not value:
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}" if name else key).items()}


def _mesh(config: TrainConfig) -> Mesh:
    """As many devices as the strategy and the rows of a micro-batch can use."""
    model, rows = config.sharding.model, config.batch_size // config.accumulation
    most = len(jax.devices()) // model
    if not most:
        raise ValueError(f"train.sharding.model={model}: there are {len(jax.devices())} devices")
    used = max(n for n in range(1, most + 1) if rows % n == 0)
    return sharding.make_mesh(model, jax.devices()[: used * model])


def _spread(tree: Tree, placement: Tree, mesh: Mesh, strategy: str) -> str:
    """What a strategy comes to, in words."""
    held, whole = sharding.bytes_on_a_device(tree, placement), sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    over = " x ".join(f"{size} {name}" for name, size in mesh.shape.items())
    if held == whole:
        raise ValueError(
            f"train.sharding.strategy={strategy!r} splits nothing over {over} devices: this stage has no "
            f"rules for its parameters, or none of their axes divides; take 'data'"
        )
    return f"{strategy} over {over} devices: each holds {held / 2**20:,.0f} of {whole / 2**20:,.0f} MB of parameters"


def _check_sizes(batches: Batches, config: TrainConfig, mesh: Mesh, steps: int) -> None:
    ways = mesh.shape["data"]
    if batches.batch_size != config.batch_size:
        raise ValueError(f"the batches have {batches.batch_size} rows, train.batch_size={config.batch_size}")
    if config.batch_size % (ways * config.accumulation):
        raise ValueError(
            f"train.batch_size={config.batch_size}: must be a multiple of devices x train.accumulation = "
            f"{ways} x {config.accumulation}, or pass a mesh of fewer devices"
        )
    if len(batches) < steps:
        raise ValueError(f"{len(batches)} batches are too few for {steps} steps: build them with epochs=None")


def _out_of_patience(progress: Mapping[str, Any], config: TrainConfig) -> bool:
    return config.patience is not None and progress["stale"] >= config.patience


def _judge(progress: dict[str, Any], step: int, found: dict[str, float], select: str, mode: str) -> bool:
    """Notes in `progress` whether these validation metrics are the best so far, and says so."""
    if select not in found:
        raise ValueError(f"select={select!r}: the evaluation gives {', '.join(sorted(found))}")
    value, best = found[select], progress["best"]
    if math.isnan(value):
        raise FloatingPointError(f"{select} is not a number at step {step}: no parameters can be selected by it")
    better = best is None or (value > best["value"] if mode == "max" else value < best["value"])
    progress["stale"] = 0 if better else progress["stale"] + 1
    if better:
        progress["best"] = {"step": step, "value": value, "metrics": found}
    return better


def _bar(console: rich.console.Console) -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("{task.fields[note]}"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
        console=console,
    )


class _Watch:
    """Looks at the metrics a few steps late, so that the device never waits; finds what is not finite."""

    def __init__(self, log: _Log, describe: Callable | None, show: Callable[[str], None]):
        self.log, self.describe, self.show = log, describe, show
        self.pending: collections.deque[tuple[int, list[int], Tree]] = collections.deque()
        self.times: collections.deque[tuple[float, int]] = collections.deque(maxlen=20)
        self.note = ""

    def add(self, step: int, batch: Mapping[str, Any], metrics: Tree) -> None:
        self.pending.append((step, batch["example"][batch["example_mask"]].tolist(), metrics))
        while len(self.pending) > AHEAD:
            self._look()

    def settle(self) -> None:
        while self.pending:
            self._look()

    def _look(self) -> None:
        step, ids, metrics = self.pending.popleft()
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(metrics[name]):
                examples = list(self.describe(ids)) if self.describe else ids
                raise FloatingPointError(
                    f"{name} is {metrics[name]} at step {step}; the batch's examples: {', '.join(map(str, examples))}. "
                    f"Look at them, lower optim.learning_rate or optim.clip, and start again: the run goes on from its "
                    f"last checkpoint, which is from before this step"
                )
        self.log.write(step, "train", metrics)
        self.times.append((time.monotonic(), len(ids)))
        seconds = self.times[-1][0] - self.times[0][0]
        rate = sum(n for _, n in list(self.times)[1:]) / seconds if seconds > 0 else 0.0
        self.note = f"loss {metrics['loss']:.4f}  {rate:.0f} examples/s"
        self.show(self.note)


class _Log:
    """metrics.jsonl and TensorBoard; what an earlier process wrote past the step it is restored to is removed."""

    def __init__(self, directory: Path, step: int):
        path = directory / "metrics.jsonl"
        if path.exists():
            # A killed process may have left half of its last line.
            whole = path.read_text(encoding="utf-8").split("\n")[:-1]
            files.write_jsonl(path, [row for row in map(json.loads, whole) if row["step"] <= step])
        self.file = path.open("a", encoding="utf-8")
        self.board = tensorboardX.SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        self.file.write(json.dumps({"step": step, "split": split, **metrics}) + "\n")
        self.file.flush()
        for name, value in metrics.items():
            self.board.add_scalar(f"{split}/{name}", value, step)

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()
        self.board.close()


class _Signals:
    """Turns the first Ctrl-C or SIGTERM into a flag; a second one ends the program at once."""

    def __init__(self) -> None:
        self.asked = False
        self.before: dict[int, Any] = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()
        rich.get_console().print("stopping after this step and saving (once more to stop at once)")

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():  # only there may Python set handlers
            self.before = {n: signal.signal(n, self._ask) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
