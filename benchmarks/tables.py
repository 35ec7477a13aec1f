"""Puts the tables of a report into a Markdown file, between its marks.

    python -m benchmarks.tables docs/results/redial/report.json README.md --mark redial --only all new

replaces what stands between `<!-- redial -->` and `<!-- /redial -->`; without a file it prints the tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from ecr_jax.evaluation import report as reports
from ecr_jax.evaluation.report import cell
from ecr_jax.files import replacing


def table(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(path: Path, only: tuple[str, ...]) -> str:
    """The tables of a report.json, then what they come from; `only`: those whose titles begin so."""
    made = reports.read(path)
    text = ["95 % intervals over dialogues.", ""]
    for title, columns, body in reports.tables(made.rows):
        if not only or title.startswith(only):
            cells = [[model, *(cell(row) for row in rows)] for model, rows in body]
            text += [f"**{title}**", "", table(["model", *columns], cells), ""]
    rest = reports.others(made.rows)
    if rest and not only:
        cells = [[row.model, row.stratum, row.metric, cell(row), str(row.n)] for row in rest]
        text += [table(["model", "stratum", "metric", "value", "n"], cells), ""]
    told = made.provenance
    if "stages" in told and not only:
        text += [table(["stage", "time, peak memory"], [[stage, cost] for stage, cost in told["stages"].items()]), ""]
    if "tests" in told:
        text += [f"{told['tests']}.", ""]
    source = f"Commit {told['commit']}, `{told['command']}`, {told['hardware']}, jax {told['jax']}."
    return "\n".join([*text, source])


def main(
    report: tyro.conf.Positional[Path],
    into: tyro.conf.Positional[Path | None] = None,
    mark: Annotated[str, tyro.conf.arg(help="name of the marks")] = "results",
    only: Annotated[tuple[str, ...], tyro.conf.arg(help="beginnings of the titles of tables, else all")] = (),
) -> None:
    """Prints a report's tables, or puts them into a Markdown file."""
    if into is None:
        print(tables(report, only))
        return
    text = into.read_text(encoding="utf-8")
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise SystemExit(f"{into} needs {start} and {end}, once each")
    before, rest = text.split(start)
    with replacing(into) as temporary:
        temporary.write_text(f"{before}{start}\n{tables(report, only)}\n{end}{rest.split(end)[1]}", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
