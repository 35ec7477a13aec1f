"""How fast a training goes, in speed.jsonl and TensorBoard; what it compiles; a trace of chosen steps.

Apart from metrics.jsonl, which is the same to the bit however often a run was stopped: these numbers are the machine's.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorboardX

from ecr_jax import files

TRACED: ContextVar[range] = ContextVar("TRACED", default=range(0))
"""The steps, counted from 1, of which `fit` writes a trace to `profile/`, for TensorBoard's profiler or Perfetto."""

_compiled = 0


def _count(event: str, duration_secs: float, **kwargs: str | int) -> None:
    global _compiled
    _compiled += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_count)


class Watch:
    """The times of a training's steps.

    A row of speed.jsonl has: `step`; `seconds` from the end of the step before to the end of this one; `examples` and
    `tokens` (real ones, where batches have any) a second; `waiting`, the part of these seconds that the loop waited for
    data; `compilations` of this process so far; `memory_mb`, the peak of a device where it tells, else of the process.
    The first step after an evaluation or a checkpoint has no seconds.
    """

    def __init__(self, directory: Path, done: int, programs: int, say: Callable[[str], None], *, writes: bool):
        """Opens the files.

        Args:
          directory: of the stage.
          done: steps that are done; rows of later ones, which an earlier process wrote, are removed.
          programs: how many shapes batches have: as many programs are compiled.
          say: is given a sentence where more are.
          writes: whether this process writes.
        """
        self._directory, self._programs, self._say, self._writes = directory, programs, say, writes
        self._shapes: list[dict[str, Any]] = []
        self._waited, self._tokens = 0.0, {}
        self._waits: dict[int, float] = {}
        self._last: float | None = None
        self._tracing = False
        path = directory / "speed.jsonl"
        if writes:
            if path.exists():
                lines = path.read_text(encoding="utf-8").split("\n")[:-1]
                files.write_jsonl(path, [row for row in map(json.loads, lines) if row["step"] <= done])
            self._file = path.open("a", encoding="utf-8")
            self._board = tensorboardX.SummaryWriter(str(directory / "tensorboard"), purge_step=done + 1)

    def next(self, batches: Iterator[Any]) -> Any:
        """The next batch; the time until it is there counts as waiting."""
        started = time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - started
        return batch

    @contextlib.contextmanager
    def step(self, number: int, batch: Mapping[str, np.ndarray], share: float) -> Iterator[None]:
        """Encloses the call of a step: traces it if it is chosen, and says where it compiles what it should not.

        Args:
          number: of the step, from 1.
          batch: the rows of this process.
          share: of all rows that these are.
        """
        traced = TRACED.get()
        if self._tracing and number not in traced:
            self._stop_trace()
        if number in traced and not self._tracing and self._writes:
            jax.profiler.start_trace(str(self._directory / "profile"))
            self._tracing = True
        before = _compiled
        yield
        self._waits[number], self._waited = self._waited, 0.0
        if "token_mask" in batch:
            self._tokens[number] = int(batch["token_mask"].sum()) / share
        if _compiled > before:
            self._compiled(number, {name: array.shape for name, array in batch.items()})

    def _compiled(self, number: int, shapes: dict[str, Any]) -> None:
        known = [dict(earlier) for earlier in self._shapes]
        self._shapes.append(shapes)
        if len(self._shapes) <= self._programs:
            return
        new = [f"{name} {shape}" for name, shape in shapes.items() if all(shape != old.get(name) for old in known)]
        what = ", ".join(new) or "no array has a new shape, so something else of the program changed"
        self._say(f"step {number} was compiled anew, program {len(self._shapes)} of {self._programs} expected: {what}")

    def finished(self, step: int, examples: int) -> dict[str, float]:
        """Writes the row of a step whose result is there, and returns it."""
        now = time.monotonic()
        row: dict[str, float] = {"step": step}
        waited, tokens = self._waits.pop(step, 0.0), self._tokens.pop(step, None)
        if self._last is not None:
            seconds = max(now - self._last, 1e-9)
            row |= {"seconds": seconds, "examples": examples / seconds, "waiting": min(waited / seconds, 1.0)}
            if tokens is not None:
                row["tokens"] = tokens / seconds
        self._last = now
        row |= {"compilations": _compiled, "memory_mb": _memory_mb()}
        if self._writes:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(f"speed/{name}", value, step)
        return row

    def pause(self) -> None:
        """What follows is no step: the next one has no seconds."""
        self._last = None

    def _stop_trace(self) -> None:
        jax.profiler.stop_trace()
        self._tracing = False
        self._say(f"the trace is in {self._directory / 'profile'}")

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tracing:
            self._stop_trace()
        if self._writes:
            self._file.close()
            self._board.close()


def _memory_mb() -> float:
    used = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return files.peak_memory_mb() if used is None else used / 2**20
