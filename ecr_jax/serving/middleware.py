"""What every request goes through: a bound of its body, the counters, and the headers that protect the page."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecr_jax.serving.faults import ApiError
from ecr_jax.serving.metrics import Metrics

_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class BodyLimit:
    """Refuses bodies that are too large, also those that do not say how large they are, or that take too long."""

    def __init__(self, app: ASGIApp, most: int, seconds: float):
        self._app, self._most, self._seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self._most:
            error = self._too_large()
            await JSONResponse(error.body, error.status, {"Connection": "close"})(scope, receive, send)
            return
        taken, whole = 0, False

        async def counted() -> Message:
            nonlocal taken, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._seconds)
            except TimeoutError as error:
                raise HTTPException(408, f"the body did not arrive within {self._seconds:g} seconds") from error
            taken += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if taken > self._most:
                raise HTTPException(413, self._too_large().message)
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is larger than {self._most} bytes", "too_large")


class Measured:
    """Counts answers by route, and the time until each begins."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "unmatched")
                self._metrics.requests.labels(_method(scope), route, message["status"]).inc()
                self._metrics.seconds.labels(route).observe(time.monotonic() - begun)
            await send(message)

        await self._app(scope, receive, counted)


class Protected:
    """Adds the headers that keep other sites and injected scripts away from the page.

    Browsers keep the files of the page, and ask whether they have changed; they keep nothing else.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                kept = "no-cache" if scope["path"].startswith("/assets/") else "no-store"
                for name, value in _SECURITY.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", kept)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


def _method(scope: Scope) -> str:
    method = scope["method"]
    return method if method in ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT") else "other"
