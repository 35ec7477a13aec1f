"""The files of a server in a box: the compose file and the unit name what there is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ecr_jax.cli import Serve, parse

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "launch" / "serve"


def test_the_compose_file_is_whole_and_its_command_is_one_of_ours():
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    server, database = compose["services"]["ecr"], compose["services"]["database"]
    assert (ROOT / server["build"]["dockerfile"]).is_file()
    assert all(port.startswith("127.0.0.1:") for port in server["ports"]) and "ports" not in database
    assert set(server["depends_on"]) == {"database"}
    variables = set(re.findall(r"\$\{(\w+)", (FOLDER / "compose.yaml").read_text())) - {"HF_HOME"}
    given = {line.partition("=")[0] for line in (FOLDER / "example.env").read_text().splitlines()}
    assert variables == given
    entry = re.search(r"^ENTRYPOINT (.*)$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert entry is not None
    _, *options = yaml.safe_load(entry[1])
    command = parse([*options, *server["command"]])
    assert isinstance(command, Serve) and command.host == "0.0.0.0"
    assert command.database == "postgresql://ecr@database/ecr"  # the later one counts


def test_the_dockerfile_copies_what_there_is_and_the_build_needs():
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().split()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert all((ROOT / name).exists() for name in kept)
    assert {"pyproject.toml", "requirements.lock", "README.md", "LICENSE", "ecr_jax", "configs"} <= set(kept)


def test_systemd_takes_the_unit(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt install systemd)")
    unit = (FOLDER / "ecr-serve.service").read_text()
    command = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    _, *options = command.removeprefix("ExecStart=").split()
    assert isinstance(parse(options), Serve)
    copy = tmp_path / "ecr-serve.service"
    copy.write_text(unit.replace("/opt/ecr/bin/ecr", shutil.which("true") or ""))
    done = subprocess.run([program, "verify", str(copy)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
