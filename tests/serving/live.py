"""A real server on a free port of loopback, in a thread of the test, and clients of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import httpx2
import uvicorn


class Live:
    """A running server. `url` is its address; `client()` is a new person, `stop()` ends it as SIGTERM does."""

    def __init__(self, app, drain_seconds: int = 10):
        config = uvicorn.Config(
            app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=drain_seconds
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def client(self, **options):
        # http alone: to read certificates would take as long as the rest of a test
        return httpx2.Client(base_url=self.url, timeout=30, verify=False, **options)

    def start(self):
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.005)
            assert self._thread.is_alive(), "the server did not start"

    def stop(self):
        self._server.should_exit = True

    def wait(self):
        self._thread.join(30)
        assert not self._thread.is_alive()

    def ready(self):
        with self.client() as client:
            while client.get("/readyz").status_code != 200:
                time.sleep(0.005)


@contextlib.contextmanager
def live(app, ready=True, **options):
    server = Live(app, **options)
    server.start()
    if ready:
        server.ready()
    try:
        yield server
    finally:
        server.stop()
        server.wait()


def ask(client, text, conversation="new", **extension):
    """A chat request that is not streamed; `conversation` None for a stateless one."""
    ecr = {"conversation_id": conversation, **extension}
    return client.post("/v1/chat/completions", json={"model": "fake", "messages": said(text), "ecr": ecr})


def said(text):
    return [{"role": "user", "content": text}]
