"""`ecr serve`: opens a run and a database, and serves them until the process is told to stop."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from rich.console import Console

from ecr_jax.llm.client import Client
from ecr_jax.serving.app import create_app
from ecr_jax.serving.callers import Callers, read_keys
from ecr_jax.serving.run_engine import RunEngine
from ecr_jax.serving.settings import Limits
from ecr_jax.serving.store import Store

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def serve(
    run: Path,
    *,
    host: str,
    port: int,
    database: str | None,
    keys: Path | None,
    hosts: Sequence[str],
    limits: Limits,
    client: Client | None,
    console: Console,
) -> None:
    """Serves a run until SIGTERM or Ctrl-C.

    Args:
      run: the run's folder.
      host: address to listen on.
      port: port.
      database: URL; None for the file conversations.db in the run's folder.
      keys: file of API keys; None lets anybody in.
      hosts: names by which browsers may call the server; none: those of loopback where it listens there
        alone, else any.
      limits: bounds of requests.
      client: of a remote model that manages; None for the run's own manager.
      console: where it is said what is served.

    Raises:
      ValueError: the run, the database or the keys cannot be read.
    """
    engine = RunEngine.open(run, client)
    callers = Callers(None if keys is None else read_keys(keys), limits.requests_per_minute)
    store = Store.open(database or f"sqlite:///{(run / 'conversations.db').resolve()}")
    local = is_loopback(host)
    if not local and keys is None:
        console.print(
            f"anybody who reaches {host} may use this server: give --keys to let only some in", style="yellow"
        )
    names = hosts or (_LOOPBACK_NAMES if local else ("*",))
    created = int((run / "config.json").stat().st_mtime)
    app = create_app(engine, store, callers, limits, hosts=names, created=created)
    console.print(f"{engine.name}: http://{host}:{port} (conversations in {store.database.name})")
    serve_app(app, host, port, limits.drain_seconds)


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve_app(app: FastAPI, host: str, port: int, drain_seconds: int) -> None:
    """Serves an application until SIGTERM or Ctrl-C; what is under way then is finished.

    Args:
      app: the application.
      host: address to listen on.
      port: port; 0 for any free one.
      drain_seconds: for requests under way when the server is told to stop.
    """
    uvicorn.run(
        app,
        host=host,
        port=port,
        timeout_graceful_shutdown=drain_seconds,
        access_log=False,  # addresses and paths are personal; /metrics has the counts
        server_header=False,
        log_level="info",
    )
