"""A report in the terminal: tables of at most five short columns, which fit 80 characters with whole model names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from ecr_jax.evaluation.report import Report
from ecr_jax.evaluation.rows import ReportRow
from ecr_jax.evaluation.tables import (
    ReportTable,
    cell_lines,
    format_p,
    other_rows,
    summary_tables,
    tables,
)

_MAX_COLUMNS = 5
_GAP = 3  # between columns
_MIN_NAME = 16

_SHORT = {"recall": "R", "recall_true": "RT", "ndcg": "NDCG", "coverage": "cover.", "popularity_lift": "pop. lift"}
_SHORT_AUC = {"auc": "AUC", "auc_pooled": "AUC", "auc_batch": "AUC\nin batch", "auc_dialogue": "AUC\nin dialogue"}

_INTERVALS = "Second lines: 95 % intervals over dialogues."
_STAR_BY_INTERVAL = "* the 95 % interval of the paired difference excludes 0"
_STAR_BY_P = "p of a paired randomisation test, adjusted by Holm; * p < 0.05"


def print_summary(report: Report, console: Console) -> None:
    """Prints the main table: every model on all targets."""
    for table in summary_tables(report.rows):
        if not table.differences:
            _print_table(table, console)
            _print_note(_INTERVALS, console)


def print_report(report: Report, console: Console) -> None:
    """Prints the main table and, in short, the paired differences of the models in it."""
    print_summary(report, console)
    for table in summary_tables(report.rows):
        if table.differences:
            _print_table(table, console)
            _print_note(_STAR_BY_P if _is_tested(table) else _STAR_BY_INTERVAL, console)


def print_tables(report: Report, console: Console) -> None:
    """Prints all tables of the report, then the numbers that are in none."""
    every = tables(report.rows)
    for table in every:
        _print_table(table, console)
    if every:
        _print_note(_INTERVALS, console)
    tested = {_is_tested(table) for table in every if table.differences}
    if False in tested:
        _print_note(_STAR_BY_INTERVAL if len(tested) == 1 else f"{_STAR_BY_INTERVAL}, in tables without p", console)
    if True in tested:
        _print_note(_STAR_BY_P, console)
    print_rows(other_rows(report.rows), "other numbers", console)


def print_rows(rows: Sequence[ReportRow], title: str, console: Console) -> None:
    """Prints single numbers as a list; nothing where there are none."""
    if not rows:
        return
    table = _new_table(title)
    for heading in ("model", "stratum", "metric"):
        table.add_column(heading, overflow="fold")
    table.add_column("value", justify="right")
    table.add_column("n", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.model, row.stratum, row.metric, "\n".join(cell_lines(row)), str(row.n))
    console.print(table)


def _print_table(table: ReportTable, console: Console) -> None:
    """Prints a table, in several parts where it has many columns."""
    parts = -(-len(table.columns) // _MAX_COLUMNS)
    width = -(-len(table.columns) // parts)
    tested = _is_tested(table)
    for start in range(0, len(table.columns), width):
        headings = [short_name(heading) for heading in table.columns[start : start + width]]
        lines = [[_short_lines(row, tested) for row in cells[start : start + width]] for _, cells in table.body]
        columns = [
            [*heading.split("\n"), *(line for cells in lines for line in cells[column])]
            for column, heading in enumerate(headings)
        ]
        numbers_width = sum(max(map(len, column)) + _GAP for column in columns)
        name_width = max(_MIN_NAME, console.width - numbers_width - _GAP)
        printed = _new_table(table.title if start == 0 else f"{table.title} (continued)")
        printed.add_column("model", overflow="fold")
        for heading in headings:
            printed.add_column(heading, justify="right", no_wrap=True)
        for (model, _), cells in zip(table.body, lines, strict=True):
            printed.add_row(wrap_name(model, name_width), *("\n".join(cell) for cell in cells))
        console.print(printed)


def _new_table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, _GAP - 1, 0, 0))


def wrap_name(name: str, width: int) -> str:
    """A model's name on lines of at most `width` characters, broken after a space or one of `. _ = -`."""
    lines = [""]
    for piece in re.split(r"(?<=[ _=-])|(?<=\.)(?!\d)", name):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _print_note(note: str, console: Console) -> None:
    console.print(note, style="dim", highlight=False, markup=False)


def _is_tested(table: ReportTable) -> bool:
    return any(row is not None and row.p_holm is not None for _, cells in table.body for row in cells)


def short_name(heading: str) -> str:
    """A column's heading in the terminal: R@10 for recall@10, AUC for auc_pooled, and so on."""
    name, at, cut = heading.partition("@")
    if heading in _SHORT_AUC:
        return _SHORT_AUC[heading]
    if ", n = " in heading:
        return heading.replace(", ", "\n")
    return _SHORT.get(name, name) + at + cut


def _short_lines(row: ReportRow | None, tested: bool) -> list[str]:
    """A number as at most two short lines.

    A model's value and its interval, or a difference and its p value. A star marks a difference whose p is below 0.05,
    or in a table without tests one whose interval excludes 0.
    """
    if row is None:
        return ["–"]
    if not row.is_difference:
        sign = "+" if row.metric.startswith("popularity_lift") else ""
        value = _short_number(row.value, sign)
        if row.low is None or row.high is None:
            return [value]
        return [value, f"{_short_number(row.low)}–{_short_number(row.high)}"]
    if tested:
        marked = row.p_holm is not None and row.p_holm < 0.05
    else:
        marked = row.low is not None and row.high is not None and not row.low <= 0 <= row.high
    p = [] if row.p_holm is None else [f"p {format_p(row.p_holm)} "]
    return [_short_number(row.value, "+") + ("*" if marked else " "), *p]


def _short_number(value: float, sign: str = "") -> str:
    """Three decimals without the leading zero: .047, -.013, 1.000."""
    return f"{value:{sign}.3f}".replace("0.", ".", 1) if abs(value) < 0.9995 else f"{value:{sign}.3f}"
