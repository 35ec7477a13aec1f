"""The HTTP API: routes, who may call them, and how errors are told."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Match, Route

from ecr_jax.serving import corpus
from ecr_jax.serving.callers import COOKIE, COOKIE_SECONDS, Caller, Callers
from ecr_jax.serving.chat import ClientLeftError, Replies, check_turns, result_of_query, storage_failed
from ecr_jax.serving.dispatcher import Dispatcher
from ecr_jax.serving.engine import Engine, RecommendQuery, Said
from ecr_jax.serving.faults import ApiError
from ecr_jax.serving.metrics import CONTENT_TYPE, Metrics
from ecr_jax.serving.middleware import BodyLimit, Measured, Protected
from ecr_jax.serving.schemas import (
    ID_PATTERN,
    ChatCompletion,
    ChatRequest,
    ConversationDetail,
    ConversationList,
    ConversationSummary,
    Error,
    FeedbackList,
    FeedbackRequest,
    Model,
    Models,
    Recommendation,
    RecommendRequest,
    Status,
    Text,
    TitleRequest,
)
from ecr_jax.serving.settings import Limits
from ecr_jax.serving.store import Store

_LOG = logging.getLogger("ecr_jax.serving")
_PAGE = Path(__file__).parent / "page"
_NDJSON = "application/x-ndjson"
_BODY_SECONDS = 30.0
_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Error, "description": "The request cannot be answered as it is"},
    "5XX": {"model": Error, "description": "The server cannot answer now"},
}
_STREAM = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
_LINES = {200: {"content": {_NDJSON: {"schema": {"type": "string"}}}, "description": "One conversation a line"}}
_LEFT = 499
"""The status that is counted where the client closed the connection before the answer."""

_bearer = HTTPBearer(auto_error=False, description="An API key, where the server has keys")
ConversationId = Annotated[str, PathParameter(pattern=ID_PATTERN)]


async def _caller(
    request: Request,
    response: Response,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """Who calls; an anonymous browser that is new gets its cookie with the answer."""
    callers: Callers = request.app.state.callers
    address = request.client.host if request.client else ""
    caller = callers.identify(bearer.credentials if bearer else None, request.cookies.get(COOKIE), address)
    if caller.new_cookie is not None:
        response.set_cookie(
            COOKIE, caller.new_cookie, max_age=COOKIE_SECONDS, httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
    return caller


Calling = Annotated[Caller, Depends(_caller)]


def create_app(
    engine: Engine,
    store: Store,
    callers: Callers,
    limits: Limits,
    *,
    hosts: Sequence[str] = ("*",),
    created: int = 0,
) -> FastAPI:
    """The application.

    Args:
      engine: what replies.
      store: where conversations are kept; closed when the application ends.
      callers: who may call.
      limits: bounds of requests.
      hosts: names by which browsers may call the server; "*" for any.
      created: when the run was trained, seconds since 1970.
    """
    metrics = Metrics()
    dispatcher = Dispatcher(engine, metrics, waiting=limits.waiting, batch=limits.batch)
    replies = Replies(engine, store, dispatcher, metrics, limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        dispatcher.start()
        yield
        await run_in_threadpool(dispatcher.close)
        await replies.drain()
        store.database.close()

    app = FastAPI(
        title="ecr_jax",
        description="A conversational recommender of films.",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        responses=_ERRORS,
    )
    app.state.callers = callers
    app.add_middleware(BodyLimit, most=limits.body_bytes, seconds=_BODY_SECONDS)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_middleware(Measured, metrics=metrics)
    app.add_middleware(Protected)
    _add_error_handlers(app)
    if not callers.need_key:
        app.openapi = lambda: _without_security(app)

    # -------------------------------------------------------------------------------------------------------- chat

    @app.post("/v1/chat/completions", response_model=ChatCompletion, responses={**_STREAM})
    async def complete(body: ChatRequest, request: Request, response: Response, caller: Calling) -> Any:
        """Replies to a conversation, as OpenAI's API does; with `stream` as server-sent events."""
        pending = await replies.begin(caller.owner, body)
        if not body.stream:
            return await replies.whole(pending, request)
        include_usage = body.stream_options is not None and body.stream_options.include_usage
        return StreamingResponse(
            replies.stream(pending, request, include_usage),
            headers={**response.headers, "X-Accel-Buffering": "no"},
            media_type="text/event-stream",
        )

    @app.get("/v1/models")
    async def models(caller: Calling) -> Models:
        """The served run."""
        return Models(data=[Model(id=engine.name, created=created)])

    @app.post("/recommend")
    async def recommend(body: RecommendRequest, request: Request, caller: Calling) -> Recommendation:
        """Films for a conversation; nothing is said or kept."""
        turns = [(turn.role, turn.text) for turn in body.conversation]
        check_turns(turns, limits)
        with dispatcher.ticket() as ticket:
            future = ticket.submit(RecommendQuery(tuple(Said(role, text) for role, text in turns), body.k))
        return Recommendation(items=await result_of_query(future, request, limits.seconds))

    # ----------------------------------------------------------------------------------------------- conversations

    @app.post("/feedback")
    def feedback(body: FeedbackRequest, caller: Calling) -> FeedbackList:
        """Keeps what a person thinks of a reply or of a film in it."""
        given = store.set_feedback(caller.owner, body.conversation_id, body.message_id, body.kind, body.item)
        return FeedbackList(feedback=given)

    @app.get("/conversations")
    def conversations(
        caller: Calling,
        query: Annotated[Text, Query(max_length=200)] = "",
        limit: Annotated[int, Query(ge=1, le=200)] = 100,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> list[ConversationSummary]:
        """The caller's conversations, the latest first; with `query`, those that have these words."""
        return store.conversations(caller.owner, query, limit, offset)

    @app.post(
        "/conversations/import",
        openapi_extra={"requestBody": {"content": {_NDJSON: {"schema": {"type": "string"}}}, "required": True}},
    )
    async def import_conversations(request: Request, caller: Calling) -> ConversationList:
        """Keeps conversations of the corpus format, one a line, such as an export."""
        messages = await run_in_threadpool(corpus.parse, await request.body(), limits)
        added = await run_in_threadpool(store.add_conversations, caller.owner, messages)
        return ConversationList(conversations=added)

    @app.get("/conversations/{conversation_id}")
    def conversation(conversation_id: ConversationId, caller: Calling) -> ConversationDetail:
        """A conversation with all its branches."""
        return store.conversation(caller.owner, conversation_id)

    @app.patch("/conversations/{conversation_id}")
    def rename(conversation_id: ConversationId, body: TitleRequest, caller: Calling) -> ConversationSummary:
        """Gives a conversation a new title."""
        return store.rename(caller.owner, conversation_id, body.title)

    @app.delete("/conversations/{conversation_id}", status_code=204)
    def delete_conversation(conversation_id: ConversationId, caller: Calling) -> None:
        """Deletes a conversation."""
        store.delete(caller.owner, conversation_id)

    @app.delete("/me", status_code=204)
    def delete_person(caller: Calling) -> None:
        """Deletes everything that the caller said."""
        store.delete_all(caller.owner)

    @app.get("/conversations/{conversation_id}/export", response_class=Response, responses={**_LINES})
    def export(conversation_id: ConversationId, response: Response, caller: Calling) -> Response:
        """A conversation with its feedback in the corpus format, one line for each branch."""
        text = corpus.lines(store.conversation(caller.owner, conversation_id))
        headers = {**response.headers, "Content-Disposition": f'attachment; filename="{conversation_id}.jsonl"'}
        return Response(text, media_type=_NDJSON, headers=headers)

    # --------------------------------------------------------------------------------------------------- operation

    @app.get("/healthz")
    async def healthz() -> Status:
        """Whether the process lives."""
        return Status(status="ok")

    @app.get("/readyz")
    def readyz() -> Status:
        """Whether the models are loaded and the database answers."""
        with dispatcher.ticket():
            pass
        store.database.check()
        return Status(status="ready")

    @app.get("/metrics", response_class=PlainTextResponse)
    async def numbers() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    if (_PAGE / "index.html").is_file():

        @app.get("/", include_in_schema=False)
        async def page() -> FileResponse:
            return FileResponse(_PAGE / "index.html", headers={"Cache-Control": "no-cache"})

        app.mount("/assets", StaticFiles(directory=_PAGE / "assets"), name="assets")
    return app


def _without_security(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of a server that lets anybody in."""
    document = FastAPI.openapi(app)
    document.get("components", {}).pop("securitySchemes", None)
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return document


def _add_error_handlers(app: FastAPI) -> None:
    def answer(error: ApiError) -> JSONResponse:
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(ApiError)
    async def told(request: Request, error: ApiError) -> Response:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        message = f"{place}: {first['msg']}" if place else str(first["msg"])
        return answer(ApiError(400, message[:500], "invalid_request"))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        told = ApiError(error.status_code, str(error.detail), "http_error")
        headers = {**(error.headers or {})}
        if error.status_code == 405:  # the router names the methods of the first route of the path alone
            routes = [route for route in app.routes if isinstance(route, Route)]
            matching = [route for route in routes if route.matches(request.scope)[0] != Match.NONE]
            headers["Allow"] = ", ".join(sorted({method for route in matching for method in route.methods or ()}))
        return JSONResponse(told.body, told.status, headers)

    @app.exception_handler(SQLAlchemyError)
    async def storage(request: Request, error: SQLAlchemyError) -> Response:
        _LOG.error("the database failed", exc_info=error)
        return answer(storage_failed())

    @app.exception_handler(ClientLeftError)
    async def left(request: Request, error: ClientLeftError) -> Response:
        return Response(status_code=_LEFT)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:  # logged by uvicorn
        return answer(ApiError(500, "the server failed on this request", "server_error"))
