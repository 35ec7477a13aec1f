"""The local launcher: what its processes are told, and what happens when one of them fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "launch" / "local.py"


def launch(code, *arguments, processes=3):
    command = [
        sys.executable,
        str(LAUNCHER),
        "--processes",
        str(processes),
        *arguments,
        "--",
        sys.executable,
        "-c",
        code,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_each_process_knows_its_number_and_all_the_same_coordinator():
    result = launch(
        "import os, sys; e = os.environ; names = ('ECR_PROCESS', 'ECR_PROCESSES', 'ECR_COORDINATOR', 'XLA_FLAGS')\n"
        "sys.stdout.write(' '.join(e[name] for name in names) + '\\n')",
        "--devices",
        "2",
    )
    lines = sorted(line.split(" ", 3) for line in result.stdout.splitlines())
    assert result.returncode == 0 and [line[:2] for line in lines] == [["0", "3"], ["1", "3"], ["2", "3"]]
    (address,) = {line[2] for line in lines}
    assert address.startswith("127.0.0.1:") and all("device_count=2" in line[3] for line in lines)


@pytest.mark.parametrize(
    ("death", "said", "status"),
    [("sys.exit(3)", "ended with status 3", 3), ("os.kill(os.getpid(), 9)", "was killed by SIGKILL", 137)],
)
def test_where_one_fails_the_others_are_ended_at_once(death, said, status):
    started = time.monotonic()
    result = launch(
        f"import os, sys, time\nif os.environ['ECR_PROCESS'] == '1': {death}\ntime.sleep(100)",
    )
    assert time.monotonic() - started < 30 and result.returncode == status
    assert f"process 1 of 3 {said}: the others are ended; the same command resumes" in result.stdout


def test_signals_are_passed_on_and_waited_for(tmp_path):
    """As `ecr train` ends after SIGTERM: it saves, then exits with 130."""
    code = (
        "import os, signal, sys, time\n"
        "def save(*_): time.sleep(0.5); open(sys.argv[1] + '/' + os.environ['ECR_PROCESS'], 'w'); sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "open(sys.argv[1] + '/ready' + os.environ['ECR_PROCESS'], 'w')\n"
        "time.sleep(100)"
    )
    command = [sys.executable, str(LAUNCHER), "--processes", "2", "--", sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(command, env=os.environ)
    while len(list(tmp_path.glob("ready*"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 130 and (tmp_path / "0").exists() and (tmp_path / "1").exists()
