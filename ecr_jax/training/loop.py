"""The training loop of every stage: start or resume, step, log, evaluate, keep the best parameters, checkpoint."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal

import jax
import rich
import rich.console
import rich.progress
import tensorboardX
from jax.sharding import Mesh

from ecr_jax import files
from ecr_jax.config.records import differences
from ecr_jax.errors import ConfigError
from ecr_jax.features.batches import Batches
from ecr_jax.training import checkpoint, optim, processes, sharding
from ecr_jax.training.options import TrainConfig
from ecr_jax.training.sharding import Tree
from ecr_jax.training.step import Batch, Loss, init_state, make_step, state_shardings
from ecr_jax.training.watching import Watch

Act = Callable[[Tree, Tree, Batch, int, jax.Array, Mapping[str, Any]], tuple[Batch, dict[str, float], dict[str, Any]]]
"""(params, frozen, batch, steps done, key, memory) -> the batch with more arrays [batch_size, ...], metrics of the
step, and the memory, a JSON value that a checkpoint holds. What a policy does before it is updated is one, see
`training.rollouts`."""

STEPS_AHEAD = 2
"""Steps given to the device before the metrics of one are read: waiting at every step would leave the device idle."""

SLOW_DATA = 0.02
"""The part of a step that waits for data from which the progress bar says so."""


_ACTING = 2**31 - 1
"""Folded into the key of a training for what acts in it; steps are folded into the key itself, and never get here."""


@dataclasses.dataclass(frozen=True)
class FitResult:
    """The result of a training.

    Attributes:
      params: the best parameters (numpy).
      metrics: their validation metrics.
      summary: the content of `summary.json`.
    """

    params: Tree
    metrics: dict[str, float]
    summary: dict[str, Any]


class Interrupted(SystemExit):
    """Ctrl-C or SIGTERM, after a checkpoint was saved and a message printed; exits with status 130."""


def fit(
    directory: Path,
    *,
    params: Tree,
    frozen: Tree,
    loss: Loss,
    batches: Batches,
    evaluate: Callable[[Tree, Tree], Mapping[str, float]],
    select: str,
    mode: Literal["max", "min"],
    config: TrainConfig,
    mesh: Mesh | None = None,
    rules: sharding.Rules = sharding.REPLICATED,
    describe: Callable[[Sequence[int]], Sequence[str]] | None = None,
    record: Mapping[str, Any] | None = None,
    act: Act | None = None,
) -> FitResult:
    """Trains `params` on `batches` and keeps the best by a validation metric; resumes where an earlier call stopped.

    Writes into `directory`: config.json (first), checkpoints/, metrics.jsonl, speed.jsonl (`watching`), tensorboard/,
    params.safetensors (the best parameters so far) and summary.json (last: the training is complete when it exists).

    Args:
      directory: of this stage in this run.
      params: the trainable parameters at the start, nested dicts of arrays. They are not changed.
      frozen: the arrays that the loss needs and does not train.
      loss: `(params, frozen, batch, key) -> (total, count, metrics)`, scalar sums; the objective is total / count.
      batches: endless (or long enough), of `config.batch_size` rows.
      evaluate: (params, frozen), as they lie on the devices -> validation metrics; never uses the test split.
      select: the metric of `evaluate` that decides which parameters are best.
      mode: "max" or "min": whether a higher or a lower `select` is better.
      config: see TrainConfig.
      mesh: by default `config.sharding.model` devices on `model`, and as many on `data` as divide the rows of a
        micro-batch.
      rules: the logical axes of all arrays, trainable and frozen, for `config.sharding.strategy` to split.
      describe: example numbers -> names a person can look up, for the message about a loss that is not finite.
      record: JSON that config.json should hold too; resuming requires the same one.
      act: what happens with each batch before the step, such as the rollouts of a policy. Its key follows from the seed
        and the step, so that a resumed run acts as it would have. Of several processes each gets the whole batch.

    Raises:
      ConfigError: sizes that do not divide, or a strategy that splits nothing here.
      ValueError: the directory holds a run with another configuration; an unknown metric; too few batches.
      FloatingPointError: a loss or gradient that is not finite; names the step and the examples.
      Interrupted: Ctrl-C or SIGTERM, after a checkpoint. An evaluation is broken off, and made when the run resumes.
    """
    if mode not in ("max", "min"):
        raise ValueError(f"mode={mode!r}: must be 'max' or 'min'")
    directory = Path(directory)
    first = processes.is_first()
    console = rich.get_console() if first else rich.console.Console(quiet=True)
    best_file = directory / "params.safetensors"
    steps = config.total_steps(batches.per_epoch)
    settings = {"train": dataclasses.asdict(config), "select": select, "mode": mode} | dict(record or {})
    _write_or_check_config(directory, settings)
    if first:
        files.remove_partial(directory)
    if (directory / "summary.json").exists():
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
        console.print(f"{directory} is complete ({summary['steps']} steps); nothing to do")
        return FitResult(checkpoint.read_params(best_file), summary["best"]["metrics"], summary)

    if mesh is None:
        mesh = _default_mesh(config)
    _check_sizes(batches, config, mesh, steps)
    eval_every = config.eval_every or batches.per_epoch
    key = jax.random.key(config.seed)

    # First the shardings, from shapes alone, then the arrays: from a checkpoint, or `params` in a new run.
    optimizer = optim.make_optimizer(config.optim, steps, params)
    strategy = config.sharding.strategy
    placement = state_shardings(params, optimizer, rules, mesh, strategy)
    frozen_placement = sharding.shardings(frozen, rules, mesh, strategy)
    if strategy != "data":
        console.print(_memory_split((params, frozen), (placement["params"], frozen_placement), mesh, config))
    step = make_step(
        loss,
        optimizer,
        mesh,
        state_placement=placement,
        frozen_placement=frozen_placement,
        schedule=optim.learning_rate(config.optim, steps),
        accumulation=config.accumulation,
    )
    rows = sharding.split_rows(mesh)
    own_rows = processes.rows(rows, config.batch_size)
    iterator = iter(batches if act else batches.of_rows(own_rows))
    progress = _Progress()
    with checkpoint.Checkpoints(directory / "checkpoints", config.keep) as checkpoints:
        for sentence in checkpoints.damaged:
            console.print(sentence, style="bold red", highlight=False, markup=False)
        if checkpoints.latest is None:
            begin = jax.jit(lambda tree: init_state(tree, optimizer), out_shardings=placement, donate_argnums=0)
            state = begin(sharding.shard_tree(params, placement["params"]))
            done = 0
        else:
            expected = jax.eval_shape(lambda tree: init_state(tree, optimizer), params)
            state, saved_progress = checkpoints.restore(expected, placement, iterator)
            progress = _Progress(**saved_progress)
            done = checkpoints.latest
            console.print(f"resuming from step {done} of {steps} in {directory}")
        frozen = sharding.shard_tree(frozen, frozen_placement, may_alias=True)

        def say(sentence: str) -> None:
            console.print(sentence, style="bold", highlight=False, markup=False)

        with (
            _Log(directory, done, progress.evaluated) as log,
            Watch(directory, done, len(batches.shapes), say, writes=first) as watch,
            _StopSignals() as signals,
            _progress_bar(console) as bar,
        ):
            task = bar.add_task(directory.name, total=steps, completed=done, note="compiling")
            reader = _MetricsReader(log, watch, describe, lambda note: bar.update(task, note=note))
            last_checkpoint = interval_start = time.monotonic()

            def evaluation_due() -> bool:
                return 0 < done != progress.evaluated and (done % eval_every == 0 or done == steps)

            while evaluation_due() or (done < steps and not _out_of_patience(progress, config)):
                if not evaluation_due():  # it is due at once where a stop left it to the next process
                    own, seen = watch.next(iterator), {}
                    if act is not None:
                        acting = jax.random.fold_in(jax.random.fold_in(key, _ACTING), done)
                        with jax.set_mesh(mesh):
                            own, seen, progress.memory = act(
                                state["params"], frozen, own, done, acting, progress.memory
                            )
                        own = {name: array[own_rows] for name, array in own.items()}
                    batch = processes.to_devices(own, rows, config.batch_size)
                    with watch.step(done + 1, own, len(own["example"]) / config.batch_size):
                        state, metrics = step(state, frozen, batch, key)
                    numbers = batches.example_numbers(done)
                    done += 1
                    progress.examples += len(numbers)
                    reader.add(done, numbers, metrics | seen)
                    bar.update(task, completed=done)

                time_due = time.monotonic() - last_checkpoint >= config.checkpoint_seconds
                stop, time_due = processes.agree(done, signals.stop_requested, time_due)
                steps_due = config.checkpoint_every is not None and done % config.checkpoint_every == 0
                if not (evaluation_due() or time_due or steps_due or stop):
                    continue
                reader.read_all()  # nothing that is not finite may reach a checkpoint
                progress.train_seconds += time.monotonic() - interval_start
                interval_start = time.monotonic()
                scores = None
                if evaluation_due() and not stop:
                    bar.update(task, note="evaluating")
                    with jax.set_mesh(mesh), signals.breaking_off():
                        scores = {name: float(value) for name, value in evaluate(state["params"], frozen).items()}
                if scores is not None:
                    is_best = progress.update_best(done, scores, select, mode)
                    best = processes.fetch(state["params"]) if is_best else None
                    if best is not None and first:
                        checkpoint.write_params(best_file, best, {"step": done, "metrics": scores})
                    log.write(done, "valid", scores)
                    best_mark = "  best" if is_best else ""
                    console.print(f"step {done}/{steps}  {reader.note}  {select} {scores[select]:.4f}{best_mark}")
                    bar.update(task, note=reader.note)
                    progress.evaluate_seconds += time.monotonic() - interval_start
                    interval_start = time.monotonic()
                checkpoints.save(done, state, iterator, dataclasses.asdict(progress))
                last_checkpoint = time.monotonic()
                watch.pause()
                stop, _ = processes.agree(done, stop or signals.stop_requested, False)
                if stop and (evaluation_due() or done < steps):
                    console.print(f"stopped at step {done} of {steps}; the same command resumes from there")
                    raise Interrupted(130)

    if progress.best is None:
        raise ValueError(f"no evaluation in {done} steps of {directory}: nothing selects the parameters")
    summary = {
        "steps": done,
        "epochs": done / batches.per_epoch,
        "best": progress.best,
        "select": select,
        "mode": mode,
        "stopped_early": done < steps,
        "seconds": progress.train_seconds + progress.evaluate_seconds,
        "train_seconds": progress.train_seconds,
        "evaluate_seconds": progress.evaluate_seconds,
        "examples_per_second": progress.examples / max(progress.train_seconds, 1e-9),
        "peak_memory_mb": files.peak_memory_mb(),
        "devices": [device.device_kind for device in mesh.devices.flat],
        "trained_parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    }
    if first:
        files.write_json(directory / "summary.json", summary)
    processes.wait_for_all(f"{directory.name} is trained")
    return FitResult(checkpoint.read_params(best_file), progress.best["metrics"], summary)


@dataclasses.dataclass
class _Progress:
    """What a checkpoint saves beside the state.

    Attributes:
      best: {"step", "value", "metrics"} of the best evaluation so far.
      evaluated: the step of the last evaluation.
      stale: evaluations since the best one.
      train_seconds, evaluate_seconds: time spent, over all processes that worked on the run.
      examples: training examples seen, padding rows not counted.
      memory: what `act` remembers.
    """

    best: dict[str, Any] | None = None
    evaluated: int = 0
    stale: int = 0
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    examples: int = 0
    memory: dict[str, Any] = dataclasses.field(default_factory=dict)

    def update_best(self, step: int, metrics: dict[str, float], select: str, mode: str) -> bool:
        """Takes the validation metrics of a step into account; returns whether they are the best so far."""
        if select not in metrics:
            raise ValueError(f"select={select!r}: the evaluation gives {', '.join(sorted(metrics))}")
        value = metrics[select]
        if math.isnan(value):
            raise FloatingPointError(f"{select} is not a number at step {step}: no parameters can be selected by it")
        if self.best is None:
            is_best = True
        else:
            is_best = value > self.best["value"] if mode == "max" else value < self.best["value"]
        self.evaluated = step
        self.stale = 0 if is_best else self.stale + 1
        if is_best:
            self.best = {"step": step, "value": value, "metrics": metrics}
        return is_best


def _write_or_check_config(directory: Path, config: dict[str, Any]) -> None:
    """Writes config.json, or raises ValueError where the existing one differs."""
    path = directory / "config.json"
    config = json.loads(json.dumps(config))
    if not path.exists():
        if processes.is_first():
            files.write_json(path, config)
        return
    if changed := differences(json.loads(path.read_text(encoding="utf-8")), config):
        # The stage's record and that of `fit` both have its `train`.
        changed = [change for change in changed if not any(other.endswith(f".{change}") for other in changed)]
        raise ValueError(
            f"{directory} was trained with other settings ({'; '.join(changed)}): train with the same settings, give "
            "the run another name (--name), or start again (--force)"
        )


def _default_mesh(config: TrainConfig) -> Mesh:
    """As many devices as the strategy and the rows of a micro-batch can use."""
    model, rows = config.sharding.model, config.batch_size // config.accumulation
    available = len(jax.devices())
    if model > available:
        devices = "is 1 device" if available == 1 else f"are {available} devices"
        raise ConfigError(config.sharding, "model", f"there {devices}")
    data = max(ways for ways in range(1, available // model + 1) if rows % ways == 0)
    if processes.are_several() and data * model < available:
        remedy = f"several processes need all {available} devices: make batch_size / accumulation a multiple of "
        raise ConfigError(config, "batch_size", remedy + str(available // model))
    return sharding.make_mesh(model, jax.devices()[: data * model])


def _memory_split(tree: Tree, placement: Tree, mesh: Mesh, config: TrainConfig) -> str:
    """A sentence on how much of the parameters a device holds; raises ConfigError where it holds all of them."""
    held, whole = sharding.bytes_per_device(tree, placement), sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    devices = " x ".join(f"{size} {name}" for name, size in mesh.shape.items())
    if held == whole:
        raise ConfigError(
            config.sharding,
            "strategy",
            f"it splits nothing over {devices} devices: this stage has no rules for its parameters, or none of their "
            f"axes divides; take 'data'",
        )
    strategy = config.sharding.strategy
    return f"{strategy} over {devices} devices: each holds {held / 2**20:,.0f} of {whole / 2**20:,.0f} MB of parameters"


def _check_sizes(batches: Batches, config: TrainConfig, mesh: Mesh, steps: int) -> None:
    ways = mesh.shape["data"]
    if batches.batch_size != config.batch_size:
        raise ConfigError(config, "batch_size", f"the batches have {batches.batch_size} rows")
    if config.batch_size % (ways * config.accumulation):
        raise ConfigError(
            config,
            "batch_size",
            f"must be a multiple of devices x accumulation = {ways} x {config.accumulation}; or pass a mesh of fewer "
            f"devices",
        )
    if len(batches) < steps:
        raise ValueError(f"{len(batches)} batches are too few for {steps} steps: build them with epochs=None")


def _out_of_patience(progress: _Progress, config: TrainConfig) -> bool:
    return config.patience is not None and progress.stale >= config.patience


def _progress_bar(console: rich.console.Console) -> rich.progress.Progress:
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


class _MetricsReader:
    """Reads the metrics of steps a little late, so that the device never waits; stops at values that are not finite."""

    def __init__(
        self,
        log: _Log,
        watch: Watch,
        describe: Callable[[Sequence[int]], Sequence[str]] | None,
        show: Callable[[str], None],
    ):
        """Reads into `log` and `watch`; `describe` names examples for errors, `show` displays a step's line."""
        self.log, self.watch, self.describe, self.show = log, watch, describe, show
        self.pending: collections.deque[tuple[int, list[int], Tree]] = collections.deque()
        self.recent: collections.deque[tuple[float, int]] = collections.deque(maxlen=20)  # (time, examples) of steps
        self.note = ""

    def add(self, step: int, examples: list[int], metrics: Tree) -> None:
        """Queues the metrics of a step, and reads those that are more than `STEPS_AHEAD` steps old."""
        self.pending.append((step, examples, metrics))
        while len(self.pending) > STEPS_AHEAD:
            self._read_next()

    def read_all(self) -> None:
        """Reads all queued metrics."""
        while self.pending:
            self._read_next()

    def _read_next(self) -> None:
        step, ids, device_metrics = self.pending.popleft()
        metrics = {name: float(value) for name, value in jax.device_get(device_metrics).items()}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(metrics[name]):
                examples = self.describe(ids) if self.describe else ids
                raise FloatingPointError(
                    f"{name} is {metrics[name]} at step {step}; the batch's examples: {', '.join(map(str, examples))}. "
                    f"Look at them, lower optim.learning_rate or optim.clip, and start again: training resumes from "
                    f"its last checkpoint, which is from before this step"
                )
        self.log.write(step, "train", metrics)
        self.recent.append((time.monotonic(), len(ids)))
        seconds = self.recent[-1][0] - self.recent[0][0]
        rate = sum(examples for _, examples in list(self.recent)[1:]) / seconds if seconds > 0 else 0.0
        self.note = f"loss {metrics['loss']:.4f}  {rate:.0f} examples/s"
        speed = self.watch.finished(step, len(ids))
        if "tokens" in speed:
            self.note += f"  {speed['tokens']:,.0f} tokens/s"
        if speed.get("waiting", 0.0) >= SLOW_DATA:
            self.note += f"  {speed['waiting']:.0%} waiting for data"
        self.show(self.note)


class _Log:
    """metrics.jsonl and TensorBoard; rows that an earlier process wrote after the restored state are removed."""

    def __init__(self, directory: Path, step: int, evaluated: int):
        """Opens the files; `step` and `evaluated` are the last step and the last evaluation whose rows stay."""
        self.writes = processes.is_first()
        if not self.writes:
            return
        path = directory / "metrics.jsonl"
        if path.exists():
            # A killed process may have written only half of its last line.
            complete_lines = path.read_text(encoding="utf-8").split("\n")[:-1]
            last = {"train": step, "valid": evaluated}
            rows = [row for row in map(json.loads, complete_lines) if row["step"] <= last[row["split"]]]
            files.write_jsonl(path, rows)
        self.file = path.open("a", encoding="utf-8")
        self.board = tensorboardX.SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Appends the metrics of a step."""
        if not self.writes:
            return
        self.file.write(json.dumps({"step": step, "split": split, **metrics}) + "\n")
        self.file.flush()
        for name, value in metrics.items():
            self.board.add_scalar(f"{split}/{name}", value, step)

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.writes:
            self.file.close()
            self.board.close()


class _BrokenOff(BaseException):
    """Raised by a signal in what `_StopSignals.breaking_off` encloses; no handler of errors may take it for one."""


class _StopSignals:
    """Turns the first Ctrl-C or SIGTERM into a flag; a second one ends the program at once."""

    def __init__(self) -> None:
        self.stop_requested = False
        self._may_break_off = False
        self.previous_handlers: dict[int, Any] = {}

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop_requested = True
        self._restore()
        rich.get_console().print("stopping after this step and saving (press again to stop at once)")
        if self._may_break_off and not processes.are_several():
            raise _BrokenOff

    @contextlib.contextmanager
    def breaking_off(self) -> Iterator[None]:
        """A signal ends the block at once: an evaluation may take longer than the time until the machine is gone.

        Not where there are several processes: the others would wait for this one.
        """
        self._may_break_off = True
        try:
            yield
        except _BrokenOff:
            pass
        finally:
            self._may_break_off = False

    def _restore(self) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)
        self.previous_handlers = {}

    def __enter__(self) -> _StopSignals:
        if threading.current_thread() is threading.main_thread():  # only there may Python set handlers
            self.previous_handlers = {
                number: signal.signal(number, self._request_stop) for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
