"""What a process asks of the machine it runs on, and says of it in reports."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from pathlib import Path

import jax

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # malloc.h


def keep_freed_memory() -> bool:
    """Makes glibc's allocator keep what is freed for whoever asks next.

    XLA's CPU backend allocates a program's buffers anew at every call. glibc gives buffers of this size back to the
    system, which hands them out again page by page and zeroed: a tenth or more of a training step. The process's
    resident memory then stays at its highest.

    Returns:
        Whether it was done; elsewhere than on glibc nothing is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # One arena: freed memory serves all threads. None of it mapped on its own, none of it trimmed.
    return all([mallopt(_ARENA_MAX, 1), mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1)])


def commit() -> str:
    """The commit of this checkout, "-dirty" behind it where files differ from it."""
    if not shutil.which("git"):
        return "not a git checkout"
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    here = Path(__file__).parent
    said = subprocess.run(asked, cwd=here, capture_output=True, text=True, check=False).stdout.strip()
    return said or "not a git checkout"


def hardware() -> str:
    """The processors and the device that JAX computes on."""
    return f"{os.cpu_count()} x {platform.machine()}, {jax.devices()[0].device_kind}"
