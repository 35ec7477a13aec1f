"""Writes the script or manifest that runs a command somewhere else: on one host, SLURM, GKE or a TPU VM slice.

    python launch/render.py slurm --set nodes=4 partition=gpu -- .venv/bin/ecr train response --config redial_paper
    python launch/render.py jobset_tpu --set image=IMAGE claim=shared -- ecr train response --config redial_paper

It prints the text, to be read before it is run: `... > job.sh && sbatch job.sh`, `... | kubectl apply -f -`. The
templates, and the variables that each has, are in `launch/templates`; `launch/render.py TARGET` alone lists them.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

TEMPLATES = Path(__file__).with_name("templates")

DEFAULTS = {
    "name": "ecr",
    "nodes": "1",
    "accelerators": "8",
    "cpus": "8",
    "time": "24:00:00",
    "restarts": "20",
    "folder": "/workspace/ecr_jax",
}
"""Values of variables that may be left out: `accelerators` are those of a node, `folder` has `prepared` and `runs`."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_PLAIN = re.compile(r"[\w./:@%+-]+")
_COUNTS = ("nodes", "accelerators", "cpus", "restarts")


def targets() -> dict[str, Path]:
    """{name: template}."""
    return {path.stem: path for path in sorted(TEMPLATES.iterdir())}


def variables(target: str) -> list[str]:
    """The variables of a template, but for the command's."""
    found = Template(targets()[target].read_text(encoding="utf-8")).get_identifiers()
    if "remote" in found:
        found.append("folder")
    return [name for name in found if name not in ("command", "argv", "remote")]


def render(target: str, given: Mapping[str, str], command: Sequence[str]) -> str:
    """The text of a template.

    Args:
      target: name of the template.
      given: values of its variables.
      command: what each process runs.

    Raises:
      ValueError: no such target, no command, a variable that is missing or unknown, or a value that cannot be.
    """
    if target not in targets():
        raise ValueError(f"no target {target!r}; choose one of {', '.join(targets())}")
    needed = variables(target)
    if unknown := given.keys() - set(needed):
        raise ValueError(f"{target} has no variable {', '.join(sorted(unknown))}; it has {', '.join(needed)}")
    values = {name: given.get(name, DEFAULTS.get(name, "")) for name in needed}
    if missing := [name for name, value in values.items() if not value]:
        raise ValueError(f"{target} needs {', '.join(missing)}: --set {' '.join(f'{name}=…' for name in missing)}")
    for name, value in values.items():
        if not _PLAIN.fullmatch(value):
            raise ValueError(f"{name}={value!r}: letters, digits and ./:@%+-_ alone are allowed")
        if name in _COUNTS and not (value.isdecimal() and int(value) > 0):
            raise ValueError(f"{name}={value!r}: must be a whole number of at least 1")
    if "name" in values and not (_NAME.fullmatch(values["name"]) and len(values["name"]) <= 40):
        raise ValueError(f"name={values['name']!r}: lower-case letters, digits and dashes, at most 40, a letter first")
    if not command:
        raise ValueError("no command: give it after --, for example -- .venv/bin/ecr train response")
    line = shlex.join(command)
    values |= {"command": line, "argv": json.dumps(list(command), ensure_ascii=False)}
    values["remote"] = shlex.quote(f"cd {values['folder']} && ECR_PROCESSES=auto {line}")
    return Template(targets()[target].read_text(encoding="utf-8")).substitute(values)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=targets(), help="where the command is to run")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="variables of the template")
    parser.usage = "%(prog)s TARGET [--set NAME=VALUE ...] [-- COMMAND ...]"
    everything = list(sys.argv[1:] if arguments is None else arguments)
    end = everything.index("--") if "--" in everything else len(everything)
    parsed, command = parser.parse_args(everything[:end]), everything[end + 1 :]
    if not command:
        print(f"variables of {parsed.target}:")
        for name in variables(parsed.target):
            print(f"  {name}" + (f"  (default {DEFAULTS[name]})" if name in DEFAULTS else "  (needed)"))
        return 0
    if malformed := [part for part in parsed.set if "=" not in part]:
        parser.error(f"--set {' '.join(malformed)}: give NAME=VALUE")
    try:
        print(render(parsed.target, dict(part.split("=", 1) for part in parsed.set), command), end="")
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
