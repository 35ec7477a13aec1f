"""Runs a command as several processes on this machine, which train together: on CPUs, or to try what a cluster will do.

    python launch/local.py --processes 2 -- .venv/bin/ecr train emotion

Each process gets an environment that `ecr_jax.training.processes.join` reads. If one fails, the others are ended within
seconds; the same command resumes from the last checkpoint. SIGINT and SIGTERM are passed on: all save, then end.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

GRACE_SECONDS = 20
"""Between SIGTERM and SIGKILL, for the processes that are left when one failed: they wait for it, and cannot save."""


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command: Sequence[str], count: int, devices: int | None = None) -> list[subprocess.Popen[bytes]]:
    """Starts the processes.

    Args:
      command: of each.
      count: how many.
      devices: CPU devices of each; None leaves it to `XLA_FLAGS`.
    """
    shared = {"ECR_PROCESSES": str(count), "ECR_COORDINATOR": f"127.0.0.1:{free_port()}"}
    if devices is not None:
        flags = os.environ.get("XLA_FLAGS", "")
        shared["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}".strip()
    return [
        subprocess.Popen(command, env=os.environ | shared | {"ECR_PROCESS": str(number)}) for number in range(count)
    ]


def wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Waits for all; where one fails, says so and ends the others. Returns the status of the one that failed, or 0."""
    while True:
        codes = [process.poll() for process in processes]
        failed = next((number for number, code in enumerate(codes) if code not in (None, 0)), None)
        if failed is not None:
            break
        if None not in codes:
            return 0
        time.sleep(0.1)
    code = processes[failed].returncode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    stopped = code == 130  # after Ctrl-C or SIGTERM, which the others got too
    if not stopped:
        print(f"process {failed} of {len(processes)} {how}: the others are ended; the same command resumes", flush=True)
        for process in processes:
            process.terminate()
    deadline = time.monotonic() + (3600 if stopped else GRACE_SECONDS)
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return code if code > 0 else 128 - code


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, required=True, help="how many")
    parser.add_argument("--devices", type=int, help="CPU devices of each process")
    parser.add_argument("command", nargs="+", help="after --")
    arguments = parser.parse_args()
    if arguments.processes < 1:
        parser.error("--processes must be at least 1")
    processes = start(arguments.command, arguments.processes, arguments.devices)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: [process.send_signal(got) for process in processes])
    return wait(processes)


if __name__ == "__main__":
    sys.exit(main())
