"""What a report's numbers come from, whatever was measured: code, command, machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import jax


def commit() -> str:
    """The commit of this code, marked where files differ from it."""
    found = ""
    if shutil.which("git"):
        asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        found = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=False).stdout
    return found.strip() or "not a git checkout"


def command() -> str:
    """What was typed."""
    return " ".join(["ecr", *sys.argv[1:]])


def machine() -> dict[str, str]:
    """Commit, command, hardware and versions."""
    return {
        "commit": commit(),
        "command": command(),
        "hardware": f"{os.cpu_count()} x {platform.machine()}, {jax.devices()[0].device_kind}",
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
