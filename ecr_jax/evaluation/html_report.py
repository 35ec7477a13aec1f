"""A report as one HTML page that needs nothing else: tables, learning curves, sample replies, provenance."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jinja2
import matplotlib
from matplotlib.figure import Figure

from ecr_jax.evaluation.tables import cell_lines, other_rows, tables

if TYPE_CHECKING:
    from ecr_jax.evaluation.report import Report


def html_page(report: Report) -> str:
    """The report as one page; everything it shows is inside it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ecr_jax.evaluation", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("html_report.html.jinja").render(
        heading=", ".join(dict.fromkeys(f"{row.corpus} {row.split}" for row in report.rows)) or "no numbers",
        tables=tables(report.rows),
        other_rows=other_rows(report.rows),
        cell_lines=cell_lines,
        curves={stage: curves_svg(rows) for stage, rows in report.curves.items() if rows},
        replies=report.replies,
        confusion=report.confusion,
        provenance={
            key: value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False, default=str)
            for key, value in report.provenance.items()
        },
    )


def curves_svg(rows: Sequence[Mapping[str, Any]]) -> str:
    """Learning curves of a stage as an SVG element: one panel a metric, one line a split.

    Args:
      rows: of metrics.jsonl: `step`, `split`, and metrics; values that are not numbers are skipped.
    """
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in ("step", "split") and isinstance(value, int | float) and not isinstance(value, bool):
                panels.setdefault(name, {}).setdefault(row.get("split", ""), []).append((row["step"], value))
    columns = min(3, max(len(panels), 1))
    lines = -(-len(panels) // columns) or 1
    # Fixed salt and no date: the same numbers give the same page.
    with matplotlib.rc_context({"svg.hashsalt": "ecr", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(3.4 * columns, 2.2 * lines), layout="constrained")
        for position, (name, splits) in enumerate(panels.items(), start=1):
            axes = figure.add_subplot(lines, columns, position)
            for split, points in splits.items():
                axes.plot(*zip(*points, strict=True), label=split, marker="." if len(points) < 30 else None, lw=1)
            axes.set_title(name)
            axes.set_xlabel("step")
            if any(splits):
                axes.legend(frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
