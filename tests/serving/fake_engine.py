"""An engine that replies at once, or as a test tells it to; run as a program, a server with it."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ecr_jax.serving.app import create_app
from ecr_jax.serving.callers import Callers
from ecr_jax.serving.engine import EngineReply
from ecr_jax.serving.schemas import Belief, Film, FilmCard, ReplyExplanation, ScoredFilm
from ecr_jax.serving.server import serve_app
from ecr_jax.serving.settings import Limits
from ecr_jax.serving.store import Store

FILMS = [("<x:heat>", "Heat (1995)", 1995), ("<x:ronin>", "Ronin (1998)", 1998), ("<x:thief>", "Thief (1981)", 1981)]


class FakeEngine:
    """Echoes what the seeker said, and recommends the first film that is not passed over.

    Attributes:
      batches: the queries of each call.
      gate: replies wait until it is set.
      began: set when a call has begun.
    """

    name = "fake"

    def __init__(self, seconds: float = 0.0, warm_up: Callable[[], None] = lambda: None):
        self.seconds, self._warm_up = seconds, warm_up
        self.batches: list = []
        self.gate, self.began = threading.Event(), threading.Event()
        self.gate.set()

    def warm_up(self, batch: int) -> None:
        self._warm_up()

    def replies(self, queries):
        self.batches.append(list(queries))
        self.began.set()
        self.gate.wait()
        time.sleep(self.seconds)
        if any("poison" in query.turns[-1].text for query in queries):
            raise RuntimeError("secret words of a traceback")
        return [reply_to(query) for query in queries]

    def recommend(self, queries):
        self.batches.append(list(queries))
        films = [Film(uri=uri, title=title, year=year, probability=0.5) for uri, title, year in FILMS]
        return [films[: query.k] for query in queries]


def reply_to(query):
    """The fake reply to a query: the number of turns, the last one, and a film."""
    last = query.turns[-1]
    uri, title, year = next(film for film in FILMS if film[0] not in last.passed)
    text = f"{len(query.turns)} turns, you said {last.text!r}. How about {title}?"
    explanation = ReplyExplanation(
        sub_acts=["recommend"],
        writer="fake",
        films=[FilmCard(uri=uri, title=title, year=year, probability=0.5)],
        others=[ScoredFilm(uri=u, title=t, year=y, probability=0.1) for u, t, y in FILMS if u != uri],
        beliefs=[Belief(id=f"liked:{film}", kind="liked", text=film) for film, mark in last.marks if mark == "like"],
    )
    return EngineReply(text, explanation, {"film": uri}, sum(len(turn.text.split()) for turn in query.turns), 9)


def app_with(engine, url, keys=None, hosts=("*",), **limits):
    """The application with a fake engine and a database."""
    requests_per_minute = limits.get("requests_per_minute")
    return create_app(engine, Store.open(url), Callers(keys, requests_per_minute), Limits(**limits), hosts=hosts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    url = options.database if "://" in options.database else f"sqlite:///{Path(options.database).resolve()}"
    app = app_with(FakeEngine(options.seconds), url, batch=options.batch)
    raise SystemExit(serve_app(app, "127.0.0.1", options.port, drain_seconds=10))
