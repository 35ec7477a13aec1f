"""What is counted, in Prometheus's form; labels are few and never hold anything of a person."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "ecr_requests", "HTTP requests", ["method", "route", "status"], registry=registry
        )  # a route is a pattern, not a path
        self.seconds = Histogram(
            "ecr_request_seconds", "Time until an answer begins", ["route"], buckets=_SECONDS, registry=registry
        )
        self.reply_seconds = Histogram(
            "ecr_reply_seconds", "Time from a request to its whole reply", buckets=_SECONDS, registry=registry
        )
        self.batch = Histogram(
            "ecr_batch_dialogues", "Dialogues of an engine's call", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self.waiting = Gauge("ecr_waiting", "Requests in the queue", registry=registry)
        self.ready = Gauge("ecr_ready", "Whether the engine is warmed up", registry=registry)
        self.left = Counter("ecr_left", "Requests whose client left before the engine began", registry=registry)
        self.tokens = Counter("ecr_reply_tokens", "Tokens of replies", registry=registry)
        self.writers = Counter("ecr_replies", "Replies by who wrote them", ["writer"], registry=registry)

    def text(self) -> bytes:
        """All numbers, as `/metrics` shows them."""
        return generate_latest(self.registry)
