"""`ecr serve`: opens a run and a database, and serves them until the process is told to stop."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI


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
