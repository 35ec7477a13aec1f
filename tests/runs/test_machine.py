"""Freed memory that is kept costs no page faults when it is used again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ecr_jax.runs.machine import keep_freed_memory

PROGRAM = """
import ctypes, resource, sys
from ecr_jax.runs.machine import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
for _ in range(8):
    block = libc.malloc(2**26)
    ctypes.memset(block, 1, 2**26)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(mode):
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted on Linux")
def test_kept_memory_is_not_faulted_in_again():
    # Run in processes of their own: it cannot be undone. 64 MiB eight times are 131,072 small pages.
    if subprocess.run([sys.executable, "-c", "import ctypes; ctypes.CDLL(None).mallopt"], check=False).returncode:
        assert not keep_freed_memory()
        return
    assert faults("keep") < faults("give back") - 4 * 2**26 // 4096
