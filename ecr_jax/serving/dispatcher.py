"""Gathers requests that wait into batches for the engine, which one thread calls.

The queue is bounded. A request whose future is cancelled while it waits leaves the queue at once; one that the engine
works on is finished. A batch that fails is tried again one by one, so that a request fails for its own fault alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ecr_jax.serving.engine import Engine, RecommendQuery, ReplyQuery
from ecr_jax.serving.faults import ApiError, unavailable
from ecr_jax.serving.metrics import Metrics

_LOG = logging.getLogger("ecr_jax.serving")
_SMOOTHING = 0.2
"""Weight of the latest batch in the mean time of a batch."""
_FIRST_GUESS = 1.0
"""Seconds of a batch before one was measured."""

Query = ReplyQuery | RecommendQuery


@dataclass(eq=False)
class _Job:
    query: Query
    future: Future[Any] = field(default_factory=Future)


class Ticket:
    """A place in the queue; left with the `with` block unless it was used."""

    def __init__(self, dispatcher: Dispatcher):
        self._dispatcher, self._used = dispatcher, False

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._used:
            self._used = True
            self._dispatcher._give_back()

    def submit(self, query: Query) -> Future[Any]:
        """Queues a query; the future has an `EngineReply` or a list of films."""
        self._used = True
        return self._dispatcher._submit(query)


class Dispatcher:
    """One engine, one thread, one queue."""

    def __init__(self, engine: Engine, metrics: Metrics, *, waiting: int, batch: int):
        """Starts nothing yet.

        Args:
          engine: what replies.
          metrics: what is counted.
          waiting: most requests in the queue.
          batch: most dialogues of a call.
        """
        self._engine, self._metrics, self._most, self._batch = engine, metrics, waiting, batch
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._reserved = 0
        self._closing = self._ready = False
        self._seconds = _FIRST_GUESS
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Starts the thread, which first warms the engine up."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether the engine is warmed up and the dispatcher takes requests."""
        return self._ready and not self._closing

    @property
    def failed(self) -> bool:
        """Whether the thread ended although nobody closed the dispatcher: the engine could not be loaded."""
        return self._thread.ident is not None and not self._thread.is_alive() and not self._closing

    def close(self) -> None:
        """Takes no more requests, finishes those that wait, and ends the thread; one that still loads is left."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._ready:
            self._thread.join()

    def ticket(self) -> Ticket:
        """A place in the queue.

        Raises:
          ApiError: the engine is not ready (503), or the queue is full (429).
        """
        with self._changed:
            if self._closing:
                raise unavailable("the server is stopping", "stopping", 10)
            if self.failed:
                raise unavailable("the engine could not be loaded; the server's log says why", "engine_failed", 60)
            if not self._ready:
                raise unavailable("the models are being loaded; try again soon", "loading", 5)
            ahead = len(self._waiting) + self._reserved
            if ahead >= self._most:
                wait = self._seconds * ahead / self._batch
                raise ApiError(429, f"{ahead} requests wait already; try again later", "queue_full", wait)
            self._reserved += 1
        return Ticket(self)

    def _give_back(self) -> None:
        with self._changed:
            self._reserved -= 1

    def _submit(self, query: Query) -> Future[Any]:
        job = _Job(query)
        job.future.add_done_callback(lambda future: self._leave(job) if future.cancelled() else None)
        with self._changed:
            self._reserved -= 1
            self._waiting.append(job)
            self._metrics.waiting.set(len(self._waiting))
            self._changed.notify()
        return job.future

    def _leave(self, job: _Job) -> None:
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
            self._metrics.waiting.set(len(self._waiting))
        self._metrics.left.inc()

    def _run(self) -> None:
        try:
            self._engine.warm_up(self._batch)
        except Exception:
            _LOG.exception("the engine could not be loaded")
            return
        self._ready = True
        self._metrics.ready.set(1)
        while jobs := self._next():
            begun = time.monotonic()
            for kind in (RecommendQuery, ReplyQuery):  # the quick ones first
                of_kind = [job for job in jobs if isinstance(job.query, kind)]
                if of_kind:
                    self._metrics.batch.observe(len(of_kind))
                    call: Callable[[Sequence[Any]], list[Any]]
                    call = self._engine.replies if kind is ReplyQuery else self._engine.recommend
                    self._answer(of_kind, call)
            self._seconds += _SMOOTHING * (time.monotonic() - begun - self._seconds)

    def _next(self) -> list[_Job]:
        """The jobs of the next batch; none when the dispatcher is closed and nothing waits."""
        with self._changed:
            while True:
                jobs: list[_Job] = []
                while self._waiting and len(jobs) < self._batch:
                    job = self._waiting.popleft()
                    if job.future.set_running_or_notify_cancel():
                        jobs.append(job)
                self._metrics.waiting.set(len(self._waiting))
                if jobs or self._closing:
                    return jobs
                self._changed.wait()

    def _answer(self, jobs: Sequence[_Job], call: Callable[[Sequence[Any]], list[Any]]) -> None:
        try:
            answers = call([job.query for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                _LOG.exception("the engine failed on a request")
                jobs[0].future.set_exception(error)
                return
            for job in jobs:
                self._answer([job], call)
            return
        for job, answer in zip(jobs, answers, strict=True):
            job.future.set_result(answer)
