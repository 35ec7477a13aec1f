"""Markdown tables of results: reads a report.json or a CSV of its rows, prints tables or puts them into a file.

    python -m benchmarks.tables runs/redial/test/report.json --csv docs/results/redial.csv
    python -m benchmarks.tables docs/results/redial.csv docs/results/redial.md --mark redial
    python -m benchmarks.tables docs/results/redial.csv README.md --mark results \\
        --metrics recall@1 recall@10 recall@50 auc_pooled --models ECR "ECR[]" UniCRS KBRD popularity

The first writes the rows that the tables show as CSV, and where they come from into `provenance.json` beside it. The
second replaces the text between `<!-- redial -->` and `<!-- /redial -->` by all tables, the third by one small table.
"""

from __future__ import annotations

import csv as csv_format
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from ecr_jax.evaluation import report as reports
from ecr_jax.evaluation.rows import ReportRow
from ecr_jax.evaluation.tables import cell_lines, in_tables, other_rows
from ecr_jax.evaluation.tables import tables as report_tables
from ecr_jax.files import replacing, write_json

COLUMNS = ("model", "corpus", "split", "stratum", "metric", "value", "low", "high", "n", "p", "p_holm", "seeds")
"""Columns of a CSV; `seeds` are the values of single runs, separated by spaces. Empty cells are not defined."""

PROVENANCE = "provenance.json"
"""Beside CSV files: file name -> commit, command, hardware and versions."""

_SOURCE_FIELDS = ("commit", "command", "hardware", "python", "jax", "tests", "stages")


def read_rows(path: Path) -> list[ReportRow]:
    """The rows of a report.json or of a CSV.

    Raises:
      ValueError: the file has other columns.
    """
    if path.suffix == ".json":
        return list(reports.read(path).rows)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv_format.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path} has the columns {reader.fieldnames}; expected {', '.join(COLUMNS)}")
        return [_parse(cells) for cells in reader]


def _parse(cells: dict[str, str]) -> ReportRow:
    def number(name: str) -> float | None:
        return float(cells[name]) if cells[name] else None

    return ReportRow(
        *(cells[name] for name in COLUMNS[:5]),
        value=float(cells["value"]),
        low=number("low"),
        high=number("high"),
        n=int(cells["n"]),
        p=number("p"),
        p_holm=number("p_holm"),
        seeds=tuple(float(value) for value in cells["seeds"].split()),
    )


def write_rows(rows: Sequence[ReportRow], path: Path) -> None:
    """Writes rows as CSV, numbers in full precision."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv_format.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            cells = [getattr(row, name) for name in COLUMNS[:-1]]
            writer.writerow([*cells, " ".join(map(repr, row.seeds))])


def read_provenance(path: Path) -> dict[str, Any]:
    """Where the rows of a report.json or of a CSV come from; empty if that is not recorded."""
    if path.suffix == ".json":
        return dict(reports.read(path).provenance)
    beside = path.parent / PROVENANCE
    return json.loads(beside.read_text(encoding="utf-8")).get(path.name, {}) if beside.is_file() else {}


def export(report: Path, path: Path, strata: Sequence[str] = (), metrics: Sequence[str] = ()) -> None:
    """Writes rows of a report as CSV, and their provenance beside it.

    Args:
      report: a report.json.
      path: the CSV to write.
      strata, metrics: which rows; where both are empty, the rows that the tables show.
    """
    rows, shown = read_rows(report), set(in_tables())
    listed = {id(row) for row in other_rows(rows)}

    def is_exported(row: ReportRow) -> bool:
        if strata or metrics:
            return (not strata or row.stratum in strata) and (not metrics or row.metric in metrics)
        return (row.stratum, row.metric) in shown or id(row) in listed

    write_rows([row for row in rows if is_exported(row)], path)
    beside = path.parent / PROVENANCE
    recorded = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    source = read_provenance(report)
    recorded[path.name] = {name: source[name] for name in _SOURCE_FIELDS if name in source}
    write_json(beside, recorded)


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def small_table(
    path: Path, metrics: Sequence[str], models: Sequence[str], stratum: str = "all", intervals: bool = True
) -> str:
    """One table of models by metrics.

    Args:
      path: a report.json or CSV.
      metrics: its columns.
      models: its rows, in this order; where empty, all models (not their differences).
      stratum: of the targets.
      intervals: whether numbers have their 95 % intervals.

    Raises:
      ValueError: a model or a metric that the file does not hold.
    """
    rows = [row for row in read_rows(path) if row.stratum == stratum]
    cells = {(row.model, row.metric): row for row in rows}
    models = models or list(dict.fromkeys(row.model for row in rows if not row.is_difference))
    for name, known in (("model", {row.model for row in rows}), ("metric", {row.metric for row in rows})):
        for choice in models if name == "model" else metrics:
            if choice not in known:
                raise ValueError(f"{path} has no {name} {choice!r}; choose from {', '.join(sorted(known))}")
    body = []
    for model in models:
        lines = [cell_lines(cells.get((model, metric))) for metric in metrics]
        body.append([model, *(" ".join(line[:2] if intervals else line[:1]) for line in lines)])
    sizes = sorted({row.n for row in cells.values() if row.metric == metrics[0]}, reverse=True)
    source = read_provenance(path)
    note = f"n = {sizes[0]} targets ({stratum})" + (", 95 % intervals over dialogues" if intervals else "")
    return f"{markdown(['model', *metrics], body)}\n\n{note}; commit {source.get('commit', 'unknown')}."


def all_tables(path: Path, only: tuple[str, ...]) -> str:
    """All tables of a file, then where its numbers come from; `only`: those whose titles begin with one of these."""
    rows, source = read_rows(path), read_provenance(path)
    text = ["95 % intervals over dialogues.", ""]
    for table in report_tables(rows):
        if not only or table.title.startswith(only):
            cells = [[model, *(" ".join(cell_lines(row)) for row in cells)] for model, cells in table.body]
            text += [f"**{table.title}**", "", markdown(["model", *table.columns], cells), ""]
    others = other_rows(rows)
    if others and not only:
        cells = [[row.model, row.stratum, row.metric, " ".join(cell_lines(row)), str(row.n)] for row in others]
        text += [markdown(["model", "stratum", "metric", "value", "n"], cells), ""]
    if "stages" in source and not only:
        text += [markdown(["stage", "time, peak memory"], [[*cost] for cost in source["stages"].items()]), ""]
    if "tests" in source:
        text += [f"{source['tests']}.", ""]
    if source:
        environment = f"{source['hardware']}, jax {source['jax']}"
        text += [f"Commit {source['commit']}, `{source['command']}`, {environment}.", ""]
    return "\n".join(text[:-1])


def insert(text: str, path: Path, mark: str) -> None:
    """Replaces what stands between the marks of a Markdown file.

    Raises:
      ValueError: the file does not have each mark once.
    """
    content = path.read_text(encoding="utf-8")
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    if content.count(start) != 1 or content.count(end) != 1:
        raise ValueError(f"{path} needs {start} and {end}, once each")
    before, rest = content.split(start)
    with replacing(path) as temporary:
        temporary.write_text(f"{before}{start}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def main(
    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="a report.json, or a CSV of its rows")],
    into: Annotated[
        tyro.conf.Positional[Path | None],
        tyro.conf.arg(help="a Markdown file with marks; by default tables are printed"),
    ] = None,
    mark: Annotated[str, tyro.conf.arg(help="name of the marks in the Markdown file")] = "results",
    only: Annotated[tuple[str, ...], tyro.conf.arg(help="beginnings of the titles of tables; default: all")] = (),
    metrics: Annotated[
        tuple[str, ...], tyro.conf.arg(help="columns of one small table in place of all tables; rows for --csv")
    ] = (),
    models: Annotated[tuple[str, ...], tyro.conf.arg(help="rows of the small table, in order; default: all")] = (),
    strata: Annotated[
        tuple[str, ...], tyro.conf.arg(help="targets of the small table, one stratum; rows for --csv")
    ] = (),
    intervals: Annotated[bool, tyro.conf.arg(help="95 % intervals in the small table")] = True,
    csv: Annotated[Path | None, tyro.conf.arg(help="write rows as CSV here, and print nothing")] = None,
) -> None:
    """Prints the tables of a report.json or CSV, puts them into a Markdown file, or writes their rows as CSV."""
    if csv is not None:
        export(file, csv, strata, metrics)
        return
    if metrics:
        (stratum,) = strata or ("all",)
        text = small_table(file, metrics, models, stratum, intervals)
    else:
        text = all_tables(file, only)
    if into is None:
        print(text)
    else:
        insert(text, into, mark)


if __name__ == "__main__":
    tyro.cli(main, prog="python -m benchmarks.tables")
