"""What a report's numbers come from, whatever was measured: code, command, machine."""

from __future__ import annotations

import platform
import sys

import jax

from ecr_jax import host


def command() -> str:
    """What was typed."""
    return " ".join(["ecr", *sys.argv[1:]])


def machine() -> dict[str, str]:
    """Commit, command, hardware and versions."""
    return {
        "commit": host.commit(),
        "command": command(),
        "hardware": host.hardware(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
