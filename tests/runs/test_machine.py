"""Memory that is kept costs no page faults, a relaunched process is the same command, programs are compiled once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from ecr_jax.runs.machine import allocator_environment, compilation_cache_environment

ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in allocator_environment()}
needs_glibc = pytest.mark.skipif(not allocator_environment(), reason="these variables are glibc's")

ALLOCATE = """
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
for _ in range(8):
    block = libc.malloc(2**26)
    ctypes.memset(block, 1, 2**26)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""
RELAUNCH = "from ecr_jax.runs.machine import relaunch_keeping_freed_memory; relaunch_keeping_freed_memory()\n"


def run(program, *arguments, environment=ENVIRONMENT):
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@needs_glibc
def test_kept_memory_is_not_faulted_in_again():
    # 64 MiB eight times are 131,072 small pages.
    assert int(run(RELAUNCH + ALLOCATE).stdout) < int(run(ALLOCATE).stdout) - 4 * 2**26 // 4096


@needs_glibc
def test_a_relaunched_process_has_the_same_arguments_and_exit_status():
    program = "print('begins', flush=True)\n" + RELAUNCH + "import sys; print(sys.argv[1:]); sys.exit(7)"
    done = run(program, "train", "--steps", "a b")
    assert done.stdout == "begins\nbegins\n['train', '--steps', 'a b']\n" and done.returncode == 7


@needs_glibc
def test_variables_that_the_user_set_are_left_alone():
    program = RELAUNCH + "import os; print(os.environ['MALLOC_ARENA_MAX'], 'MALLOC_MMAP_MAX_' in os.environ)"
    assert run(program, environment=ENVIRONMENT | {"MALLOC_ARENA_MAX": "3"}).stdout == "3 False\n"


@needs_glibc
def test_a_relaunched_process_is_interrupted_like_any_other():
    program = RELAUNCH + (
        "import time\ntry:\n    print('ready', flush=True)\n    time.sleep(60)\nexcept KeyboardInterrupt: print(1)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0] == "1\n" and time.monotonic() - started < 30


@pytest.mark.slow
def test_programs_are_kept_for_the_next_process(tmp_path):
    program = """
import jax
from jax._src import monitoring
hits = []
monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None)
jax.jit(lambda x: x @ x + 1)(jax.numpy.ones((8, 8))).block_until_ready()
print(len(hits))
"""
    kept = compilation_cache_environment(tmp_path / "compiled", processor="AuthenticAMD sse2 avx2 avx512f")
    environment = ENVIRONMENT | kept | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PLATFORMS": "cpu"}
    assert int(run(program, environment=environment).stdout) == 0
    if not compilation_cache_environment(tmp_path):
        pytest.skip("XLA does not read programs back on this processor")
    assert int(run(program, environment=environment).stdout) >= 1


def test_no_programs_are_kept_where_they_cannot_be_read_back(tmp_path):
    assert compilation_cache_environment(tmp_path, processor="GenuineIntel sse2 avx2 avx512f avx512bw") == {}
