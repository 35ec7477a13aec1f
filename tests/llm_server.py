"""A real HTTP server with the chat completions of the OpenAI protocol, which misbehaves as a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server sends: a completion of `text`, unless `body` says otherwise.

    `half` sends half of the body and closes the connection; `delay` are seconds before anything is sent.
    """

    text: str | None = "fine"
    status: int = 200
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    finish: str = "stop"
    logprobs: list[tuple[str, dict[str, float]]] | None = None
    half: bool = False
    delay: float = 0.0


Behaviour = Callable[[dict[str, Any], int], Reply]
"""(request body, its number) -> what is sent."""


class LlmServer:
    """A server on a free port; `requests` are the bodies it got, `most_at_once` its largest concurrency."""

    def __init__(self, behaviour: Behaviour):
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.most_at_once = 0
        self._at_once, self._lock = 0, threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.requests.append(body)
                    server.keys.append(self.headers["Authorization"])
                    server.times.append(time.monotonic())
                    server._at_once += 1
                    server.most_at_once = max(server.most_at_once, server._at_once)
                    number = len(server.requests)
                try:
                    self.answer(body, behaviour(body, number))
                finally:
                    with server._lock:
                        server._at_once -= 1

            def answer(self, body: dict[str, Any], reply: Reply) -> None:
                time.sleep(reply.delay)
                content = (completion(body, reply) if reply.body is None else reply.body).encode()
                try:
                    self.send_response(reply.status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(content)))
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content[: len(content) // 2] if reply.half else content)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client gave up waiting, as the test wants
                self.close_connection = reply.half or self.close_connection

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> LlmServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def completion(body: dict[str, Any], reply: Reply) -> str:
    """A chat completion in the protocol's words: 10 input and 4 output tokens."""
    message = {"role": "assistant", "content": reply.text}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": reply.finish, "logprobs": None}
    if reply.logprobs is not None and body.get("logprobs"):
        choice["logprobs"] = {
            "content": [
                {"token": token, "logprob": top[token], "bytes": None,
                 "top_logprobs": [{"token": t, "logprob": p, "bytes": None} for t, p in top.items()]}
                for token, top in reply.logprobs
            ]
        }  # fmt: skip
    return json.dumps(
        {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice],
         "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}}
    )  # fmt: skip


def asked(body: dict[str, Any]) -> str:
    """The last message of a request."""
    return body["messages"][-1]["content"]
