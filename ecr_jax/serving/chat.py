"""Replies to chat requests: whole, or as a stream of OpenAI's chunks.

A reply is checked as a whole before it is said, so its words are streamed after the checks. What a stream sends before
them says where the seeker's message is kept: from then on it is on disk.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi.sse import format_sse_event
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from ecr_jax.serving.dispatcher import Dispatcher
from ecr_jax.serving.engine import Engine, EngineReply, ReplyQuery, Said
from ecr_jax.serving.faults import ApiError, bad_request, unavailable
from ecr_jax.serving.metrics import Metrics
from ecr_jax.serving.schemas import (
    ChatChunk,
    ChatCompletion,
    ChatExtension,
    ChatRequest,
    Choice,
    ChunkChoice,
    Delta,
    Explanation,
    Mark,
    Place,
    ReplyExplanation,
    ReplyMessage,
    Usage,
)
from ecr_jax.serving.settings import Limits
from ecr_jax.serving.store import LATEST, BegunTurn, Store, StoredMessage, new_reply_id

_T = TypeVar("_T")
_LOG = logging.getLogger("ecr_jax.serving")
_WORDS = re.compile(r"\S+\s*|\s+")
_PING_SECONDS = 10.0
"""Seconds between comments in a stream that waits, so that proxies do not close it."""
_ROLES = {"user": "seeker", "assistant": "recommender"}


class ClientLeftError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class Finished:
    """A reply, and where it is kept."""

    reply: EngineReply
    place: Place


@dataclass(eq=False)
class Pending:
    """A reply that is being made.

    Attributes:
      place: where the turn is kept; `reply_id` is that of the reply to come.
      task: makes and stores it.
      future: of the dispatcher.
      created: seconds since 1970.
      id: of the completion.
    """

    place: Place
    task: asyncio.Task[Finished]
    future: Future[EngineReply] | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    _waiters: int = 0

    def join(self) -> None:
        """One more client waits."""
        self._waiters += 1

    def leave(self) -> None:
        """One client less waits; with the last one, a reply that is not begun leaves the queue."""
        self._waiters -= 1
        if self._waiters <= 0 and self.future is not None:
            self.future.cancel()


class Replies:
    """Makes, stores and sends replies."""

    def __init__(self, engine: Engine, store: Store, dispatcher: Dispatcher, metrics: Metrics, limits: Limits):
        self._engine, self._store, self._dispatcher = engine, store, dispatcher
        self._metrics, self._limits = metrics, limits
        self._by_message: dict[str, Pending] = {}
        self._tasks: set[asyncio.Task[Finished]] = set()

    async def begin(self, owner: str, body: ChatRequest) -> Pending:
        """Checks a request, stores what the seeker says where a conversation is kept, and queues it.

        Raises:
          ApiError: the request is wrong, or the server cannot take it now; nothing is stored then.
        """
        texts = [(_ROLES[m.role], m.text) for m in body.messages if m.role in _ROLES]
        check_turns(texts, self._limits)
        if body.model != self._engine.name:
            raise ApiError(404, f"there is no model {body.model!r}; it is {self._engine.name!r}", "model_not_found")
        extension = body.ecr or ChatExtension()
        if extension.conversation_id is None:
            if extension.message_id or extension.parent_id or extension.regenerate:
                raise bad_request(
                    "message_id, parent_id and regenerate need the conversation_id of a kept conversation"
                )
            with self._dispatcher.ticket() as ticket:
                *before, last = [Said(role, text) for role, text in texts]
                last = Said(last.role, last.text, forgotten=tuple(extension.forget))
                future = ticket.submit(ReplyQuery((*before, last), extension.items))
            return self._pending(future, None, Place())
        return await self._begin_kept(owner, texts[-1][1], extension)

    async def _begin_kept(self, owner: str, text: str, extension: ChatExtension) -> Pending:
        new = extension.conversation_id == "new"
        if extension.regenerate and (extension.message_id is None or new):
            raise bad_request("regenerate needs the message_id and the conversation_id of a stored message")
        with self._dispatcher.ticket() as ticket:
            turn = await run_in_threadpool(
                self._store.begin_turn,
                owner,
                text,
                None if new else extension.conversation_id,
                extension.parent_id if "parent_id" in extension.model_fields_set else LATEST,
                message_id=extension.message_id,
                forget=extension.forget,
                regenerate=extension.regenerate,
                most_turns=self._limits.turns,
            )
            if not extension.regenerate:
                if turn.replies:
                    return await self._stored(turn, turn.replies[-1])
                if turn.message_id in self._by_message:
                    return self._by_message[turn.message_id]
            future = ticket.submit(ReplyQuery(_dialogue(turn), extension.items))
        place = Place(conversation_id=turn.conversation_id, message_id=turn.message_id, reply_id=new_reply_id())
        pending = self._pending(future, turn, place)
        self._by_message[turn.message_id] = pending
        pending.task.add_done_callback(lambda _: self._forget(turn.message_id, pending))
        return pending

    def _forget(self, message_id: str, pending: Pending) -> None:
        if self._by_message.get(message_id) is pending:
            del self._by_message[message_id]

    def _pending(self, future: Future[EngineReply], turn: BegunTurn | None, place: Place) -> Pending:
        task = asyncio.create_task(self._finish(future, turn, place))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda task: None if task.cancelled() else task.exception())  # seen, if nobody waits
        return Pending(place, task, future)

    async def _stored(self, turn: BegunTurn, reply: StoredMessage) -> Pending:
        place = Place(conversation_id=turn.conversation_id, message_id=turn.message_id, reply_id=reply.id)
        explanation = ReplyExplanation() if reply.explanation is None else ReplyExplanation(**reply.explanation)
        finished = Finished(EngineReply(reply.text, explanation, reply.plan), place)

        async def known() -> Finished:
            return finished

        return Pending(place, asyncio.create_task(known()))

    async def _finish(self, future: Future[EngineReply], turn: BegunTurn | None, place: Place) -> Finished:
        begun = time.monotonic()
        reply = await asyncio.wrap_future(future)
        if turn is not None:
            await run_in_threadpool(
                self._store.add_reply, turn, place.reply_id or "", reply.text, reply.explanation, reply.plan
            )
        self._metrics.reply_seconds.observe(time.monotonic() - begun)
        self._metrics.tokens.inc(reply.tokens)
        self._metrics.writers.labels(reply.explanation.writer).inc()
        return Finished(reply, place)

    async def drain(self) -> None:
        """Waits until what the engine replied to is stored."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # ------------------------------------------------------------------------------------------------------------ send

    async def whole(self, pending: Pending, request: Request) -> ChatCompletion:
        """The reply as one answer.

        Raises:
          ApiError: it took too long (504).
          ClientLeftError: the client closed the connection.
        """
        finished = await result_of(pending, request, self._limits.seconds)
        return ChatCompletion(
            id=pending.id,
            created=pending.created,
            model=self._engine.name,
            choices=[Choice(message=ReplyMessage(content=finished.reply.text))],
            usage=_usage(finished.reply),
            ecr=_explanation(finished),
        )

    async def stream(self, pending: Pending, request: Request, include_usage: bool) -> AsyncIterator[bytes]:
        """The reply as server-sent events."""
        pending.join()
        left = asyncio.create_task(disconnection(request))
        try:
            yield self._chunk(pending, Delta(role="assistant", content=""), ecr=pending.place)
            deadline = time.monotonic() + self._limits.seconds
            while not pending.task.done():
                pause = min(_PING_SECONDS, deadline - time.monotonic())
                if pause <= 0:
                    yield _event(_too_slow(self._limits.seconds).body)
                    return
                await asyncio.wait({pending.task, left}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                if left.done():
                    return
                if not pending.task.done():
                    yield b": waiting\n\n"
            try:
                finished = _outcome(pending.task)
            except ApiError as error:
                yield _event(error.body)
                return
            for word in _WORDS.findall(finished.reply.text):
                yield self._chunk(pending, Delta(content=word))
            yield self._chunk(pending, Delta(), finish=True, ecr=_explanation(finished))
            if include_usage:
                usage = ChatChunk(
                    id=pending.id,
                    created=pending.created,
                    model=self._engine.name,
                    choices=[],
                    usage=_usage(finished.reply),
                )
                yield _event(usage.model_dump())
            yield format_sse_event(data_str="[DONE]")
        finally:
            left.cancel()
            pending.leave()

    def _chunk(
        self, pending: Pending, delta: Delta, *, finish: bool = False, ecr: Explanation | Place | None = None
    ) -> bytes:
        choice = ChunkChoice(delta=delta, finish_reason="stop" if finish else None)
        chunk = ChatChunk(id=pending.id, created=pending.created, model=self._engine.name, choices=[choice], ecr=ecr)
        content = chunk.model_dump()
        content["choices"][0]["delta"] = delta.model_dump(exclude_none=True)
        if ecr is None:
            del content["ecr"]
        return _event(content)


async def result_of(pending: Pending, request: Request, seconds: float) -> Finished:
    """The reply, waited for as long as the client waits, for so many seconds at most.

    Raises:
      ApiError: it took too long (504), or the engine failed (500).
      ClientLeftError: the client closed the connection.
    """
    pending.join()
    try:
        return await _awaited(pending.task, request, seconds)
    finally:
        pending.leave()


async def result_of_query(future: Future[_T], request: Request, seconds: float) -> _T:
    """What the engine answers to a query that is not kept; waited for and raises as `result_of`."""
    try:
        return await _awaited(asyncio.ensure_future(asyncio.wrap_future(future)), request, seconds)
    finally:
        future.cancel()


async def _awaited(task: asyncio.Future[_T], request: Request, seconds: float) -> _T:
    left = asyncio.create_task(disconnection(request))
    try:
        await asyncio.wait({task, left}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return _outcome(task)
        if left.done():
            raise ClientLeftError
        raise _too_slow(seconds)
    finally:
        left.cancel()


async def disconnection(request: Request) -> None:
    """Returns when the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def check_turns(turns: Iterable[tuple[str, str]], limits: Limits) -> None:
    """Checks the turns of a request.

    Raises:
      ApiError: there are none or too many, one is empty or too long, or the last is not the seeker's.
    """
    turns = list(turns)
    if not turns or turns[-1][0] != "seeker":
        raise bad_request("the last message must be the user's (the seeker's)")
    if len(turns) > limits.turns:
        raise bad_request(f"{len(turns)} messages are too many; {limits.turns} are the most", "conversation_too_long")
    for number, (_, text) in enumerate(turns, start=1):
        if not text.strip():
            raise bad_request(f"message {number} is empty")
        if len(text) > limits.characters:
            raise bad_request(
                f"message {number} has {len(text)} characters; {limits.characters} are the most", "message_too_long"
            )


def _outcome(task: asyncio.Future[_T]) -> _T:
    try:
        return task.result()
    except SQLAlchemyError as error:
        _LOG.exception("a reply could not be stored")
        raise storage_failed() from error
    except (Exception, asyncio.CancelledError) as error:  # logged by the dispatcher
        raise ApiError(500, "the engine failed on this request", "engine_error") from error


def storage_failed() -> ApiError:
    """The database cannot be read or written now."""
    return unavailable("conversations cannot be stored or read at the moment; try again later", "storage", 5)


def _too_slow(seconds: float) -> ApiError:
    return ApiError(504, f"there was no reply within {seconds:g} seconds", "timeout")


def _dialogue(turn: BegunTurn) -> tuple[Said, ...]:
    """The turns on the way to a message; what films were marked with counts from the seeker's next message on."""
    turns: list[Said] = []
    marks: tuple[tuple[str, Mark], ...] = ()
    for message in turn.path:
        if message.role == "seeker":
            turns.append(Said(message.role, message.text, None, message.forgotten, marks))
            marks = ()
        else:
            turns.append(Said(message.role, message.text, message.plan))
            marks = (*marks, *message.marks)
    passed = tuple(film["uri"] for reply in turn.replies for film in (reply.explanation or {}).get("films", ()))
    last = turns[-1]
    turns[-1] = Said(last.role, last.text, None, last.forgotten, last.marks, passed)
    return tuple(turns)


def _explanation(finished: Finished) -> Explanation:
    return Explanation(**dict(finished.reply.explanation), **dict(finished.place))


def _usage(reply: EngineReply) -> Usage:
    return Usage(
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.tokens,
        total_tokens=reply.prompt_tokens + reply.tokens,
    )


def _event(content: dict[str, Any]) -> bytes:
    return format_sse_event(data_str=json.dumps(content, ensure_ascii=False, separators=(",", ":")))
