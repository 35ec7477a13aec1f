"""The machine a process runs on: its memory allocator, and what reports say about its code and hardware."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

# Read by glibc when a process starts. One arena: freed memory serves every thread. No block is mapped on its own, and
# the top of the heap is never given back.
_KEEP_FREED_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62)}


def allocator_environment() -> dict[str, str]:
    """Environment variables with which glibc's allocator keeps freed memory for the next request.

    XLA's CPU backend allocates a program's buffers again at every call. glibc returns buffers of this size to the
    system, which hands them out again page by page and zeroed: a tenth to a fifth of a training step. With these
    variables, the resident memory of a process stays at its highest instead.

    Returns:
      The variables; none where the C library is not glibc.
    """
    try:
        library = os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError):  # no such function, or no such name: not glibc
        library = None
    return dict(_KEEP_FREED_MEMORY) if library else {}


def relaunch_keeping_freed_memory() -> None:
    """Replaces this process by itself, started anew with `allocator_environment`.

    For entry points only: everything that the process has done so far is done again. The process id, the open standard
    streams and the way to exit stay. Returns at once where there is nothing to set, or where any of the variables is
    set already (by the user, or by the relaunch before this one).
    """
    environment = allocator_environment()
    if not environment or not sys.executable or any(name in os.environ for name in environment):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | environment)


def compilation_cache_environment(folder: Path, processor: str | None = None) -> dict[str, str]:
    """Environment variables with which JAX keeps compiled programs in a folder, and does not compile them again.

    Read when jax is imported. XLA cannot read back what it compiled for Intel's processors with AVX-512, and reports
    each program as an error (openxla/xla, issue 44565); the cache is left off there.

    Args:
      folder: of the programs; those used least recently are removed when it holds more than 2 GiB.
      processor: its maker and instruction sets; by default as Linux describes it.

    Returns:
      The variables; none where the cache is left off.
    """
    if processor is None:
        described = Path("/proc/cpuinfo")
        processor = described.read_text(encoding="utf-8") if described.is_file() else ""
    if "GenuineIntel" in processor and "avx512f" in processor:
        return {}
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(2 << 30),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",  # a run has many small programs
    }


def commit() -> str:
    """The commit of this checkout, followed by "-dirty" where files differ from it."""
    if not shutil.which("git"):
        return "not a git checkout"
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "not a git checkout"


def hardware() -> str:
    """The processors and the device that JAX computes on."""
    import jax  # not above: `relaunch_keeping_freed_memory` must be cheap to reach

    return f"{os.cpu_count()} x {platform.machine()}, {jax.devices()[0].device_kind}"
