"""What an operator may set of the server, with bounds for what a client may ask of it."""

from __future__ import annotations

from dataclasses import dataclass

from ecr_jax.errors import require, require_at_least


@dataclass(frozen=True)
class Limits:
    """Bounds of requests, each with a clear answer where it is exceeded.

    Attributes:
      body_bytes: of a request's body (413).
      turns: of a conversation (400).
      characters: of one message (400).
      waiting: requests that wait for the engine (429 with Retry-After).
      batch: dialogues that the engine replies to at once.
      seconds: from the request to the whole reply (504).
      requests_per_minute: of a caller without a key; None sets no limit (429 with Retry-After).
      drain_seconds: for replies under way when the server is told to stop.
    """

    body_bytes: int = 1 << 20
    turns: int = 200
    characters: int = 4000
    waiting: int = 64
    batch: int = 8
    seconds: float = 60.0
    requests_per_minute: int | None = None
    drain_seconds: int = 30

    def __post_init__(self) -> None:
        require_at_least(self, 1, "body_bytes", "turns", "characters", "waiting", "batch")
        require_at_least(self, 0, "drain_seconds")
        require(self, "seconds", self.seconds > 0, "give seconds above 0")
        limit = self.requests_per_minute
        require(self, "requests_per_minute", limit is None or limit > 0, "give a number above 0")
