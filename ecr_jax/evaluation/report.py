"""Prediction rows into an honest report: every metric with its interval, models compared on the same targets.

`build` measures, `write` makes report.json (tidy rows) and report.html (one page that needs nothing else), and
`print_tables` shows the ranking tables in a terminal.
"""

from __future__ import annotations

import dataclasses
import io
import json
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jinja2
import matplotlib
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ecr_jax import files
from ecr_jax.evaluation import ranking
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.predictions import Prediction
from ecr_jax.evaluation.ranking import PUBLISHED, Row
from ecr_jax.runs import machine

SHOWN = ("recall@1", "recall@10", "recall@50", "ndcg@10", "auc_pooled")
REPETITION = ("all", "new", "repeated")
KINDS = ("head", "tail", "cold", "like", "dislike", "unsaid")
BESIDE = ("hit@10", "recall_true@10", "dislike@10", "coverage@10", "popularity_lift@10", "auc_batch", "auc_dialogue")
AS_PUBLISHED = ("auc", "recall_true@1", "recall_true@10", "recall_true@50", "recall@1", "recall@10", "recall@50")
"""What the tables that people read show; report.json has all."""


@dataclass(frozen=True)
class Reply:
    """A sample reply to show.

    Attributes:
      context: (role, text) of the turns before.
      items: titles recommended, best first.
      response: u^r with titles filled in.
      emotional: u^e, empty where there is none.
      reference: what the recommender really said.
    """

    context: tuple[tuple[str, str], ...]
    items: tuple[str, ...]
    response: str
    emotional: str
    reference: str


@dataclass(frozen=True)
class Report:
    """What is written and shown.

    Attributes:
      rows: the numbers.
      provenance: what they come from (commit, command, data checksums, hardware, times, ...), shown as given.
      curves: stage -> rows of its metrics.jsonl ({"step", "split", metric: value, ...}).
      replies: samples.
      confusion: label -> how often the emotion classifier took it for each label, in the order of the keys.
    """

    rows: tuple[Row, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    replies: tuple[Reply, ...] = ()
    confusion: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def value(self, model: str, metric: str, stratum: str = "all") -> Row | None:
        """The row of a model, None where it was not measured."""
        for row in self.rows:
            if (row.model, row.metric, row.stratum) == (model, metric, stratum):
                return row
        return None


def made_by() -> dict[str, str]:
    """What makes a report, for its provenance: commit, command, hardware and versions."""
    return {
        "commit": machine.commit(),
        "command": " ".join(["ecr", *sys.argv[1:]]),
        "hardware": machine.hardware(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def build(
    predictions: Mapping[str, Sequence[Prediction]],
    corpus: str,
    split: str,
    *,
    main: str = "ecr",
    measure: Callable[[Sequence[Prediction], Catalogue | None, int], ranking.Measures] = ranking.measures,
    catalogue: Catalogue | None = None,
    resamples: int = 1000,
    seed: int = 0,
    auc_batch: int = 32,
    extra: Iterable[Row] = (),
    provenance: Mapping[str, Any] | None = None,
    curves: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    replies: Iterable[Reply] = (),
    confusion: Mapping[str, Sequence[int]] | None = None,
) -> Report:
    """Measures models on the same targets, and each difference `main` - other model, paired.

    A number that is not defined (no target, a class without targets) has no row.

    Args:
      predictions: model -> its rows, of the same targets in any order; the first model's order is the file order that
        the AUC within batches depends on.
      corpus: its name.
      split: its name.
      main: the model that the others are compared with, if it is among them.
      measure: what is measured of the rows, see `protocol.Protocol`.
      catalogue: what strata by training count, coverage and popularity need.
      resamples: bootstrap resamples of dialogues, the same for every model.
      seed: theirs.
      auc_batch: targets a batch of the published AUC.
      extra: further rows, e.g. of text metrics.
      provenance: see `Report`.
      curves: see `Report`.
      replies: see `Report`.
      confusion: see `Report`.

    Raises:
      ValueError: the models do not have the same targets.
    """
    rows = ranking.table(
        {model: [of] for model, of in predictions.items()},
        corpus,
        split,
        pairs=[(main, other) for other in predictions if main in predictions and other != main],
        catalogue=catalogue,
        measure=measure,
        resamples=resamples,
        seed=seed,
        auc_batch=auc_batch,
    )
    return Report((*rows, *extra), dict(provenance or {}), dict(curves or {}), tuple(replies), dict(confusion or {}))


def write(report: Report, folder: Path) -> None:
    """Writes report.json and report.html into `folder`."""
    files.write_json(
        folder / "report.json",
        {
            "rows": [row.plain() for row in report.rows],
            "provenance": report.provenance,
            "replies": [dataclasses.asdict(reply) for reply in report.replies],
            "confusion": report.confusion,
        },
    )
    with files.replacing(folder / "report.html") as temporary:
        temporary.write_text(html(report), encoding="utf-8")


def read(path: Path) -> Report:
    """A report.json as it was written; the learning curves stay with their stages."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    replies = [
        Reply(tuple(map(tuple, row["context"])), tuple(row["items"]), *(row[name] for name in _SAID))
        for row in kept["replies"]
    ]
    return Report(tuple(Row.of(row) for row in kept["rows"]), kept["provenance"], {}, tuple(replies), kept["confusion"])


_SAID = ("response", "emotional", "reference")


def html(report: Report) -> str:
    """The report as one page; everything it shows is inside it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ecr_jax.evaluation", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html.jinja").render(
        heading=", ".join(dict.fromkeys(f"{row.corpus} {row.split}" for row in report.rows)) or "no numbers",
        tables=tables(report.rows),
        others=others(report.rows),
        parts=parts,
        curves={stage: curves_svg(rows) for stage, rows in report.curves.items() if rows},
        replies=report.replies,
        confusion=report.confusion,
        provenance={
            key: value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False, default=str)
            for key, value in report.provenance.items()
        },
    )


def print_tables(report: Report, console: Console) -> None:
    """Prints the ranking tables, the differences, and the other numbers."""
    for title, columns, body in tables(report.rows):
        table = Table(title=title, title_justify="left")
        table.add_column("model")
        for column in columns:
            table.add_column(column, justify="right")
        for model, cells in body:
            table.add_row(model, *(cell(row, "\n") for row in cells))
        console.print(table)
    rest = others(report.rows)
    if rest:
        table = Table("model", "stratum", "metric", title="other numbers", title_justify="left")
        table.add_column("value", justify="right")
        table.add_column("n", justify="right")
        for row in rest:
            table.add_row(row.model, row.stratum, row.metric, cell(row, " "), str(row.n))
        console.print(table)


_RANKING = ("recall", "dislike", "mrr", "ndcg", "hit", "auc", "coverage", "popularity_lift", PUBLISHED)


def parts(row: Row | None) -> list[str]:
    """A number, its interval, its adjusted p, how much runs differ, as far as it has them; differences are signed."""
    if row is None:
        return ["–"]
    sign = "+" if row.is_difference or row.metric.startswith("popularity_lift") else ""
    bounds = [] if row.low is None else [f"[{row.low:{sign}.3f}, {row.high:{sign}.3f}]"]
    tested = [] if row.p_holm is None else [f"p {_small(row.p_holm)}"]
    spread = [f"sd {statistics.stdev(row.seeds):.3f}, {len(row.seeds)} runs"] if row.seeds else []
    return [f"{row.value:{sign}.3f}", *bounds, *tested, *spread]


def cell(row: Row | None, gap: str = " ") -> str:
    """`parts` of a number with gaps between."""
    return gap.join(parts(row))


def _small(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


Columns = dict[tuple[str, str], str]
"""(stratum, metric) -> the head of its column."""


def _layout(rows: Iterable[Row]) -> dict[str, Columns]:
    """The tables that people read: title -> columns. `rows` say how many targets a stratum has."""
    counted = ("recall@10", PUBLISHED + "recall@10")
    size = {row.stratum: f", n = {row.n}" for row in rows if row.metric in counted}
    return {
        **{f"{kind} targets{size.get(kind, '')}": {(kind, name): name for name in SHOWN} for kind in REPETITION},
        "recall@10 by kind of target": {(kind, "recall@10"): f"{kind}{size.get(kind, '')}" for kind in KINDS},
        "all targets, beside their ranks": {("all", name): name for name in BESIDE},
        f"published protocol{size.get('all', '')}": {("all", PUBLISHED + name): name for name in AS_PUBLISHED},
    }


def shown() -> list[tuple[str, str]]:
    """(stratum, metric) of all numbers that the tables show."""
    return [key for columns in _layout(()).values() for key in columns]


def tables(rows: Sequence[Row]) -> list[tuple[str, list[str], list[tuple[str, list[Row | None]]]]]:
    """Tables to read: title, columns, and (model, cells) for each row; models apart from differences."""
    found = {(row.model, row.stratum, row.metric): row for row in rows}
    made = []
    for title, columns in _layout(rows).items():
        measured = {key: name for key, name in columns.items() if any(known[1:] == key for known in found)}
        for differences in (False, True):
            here = (row for row in rows if row.is_difference == differences and (row.stratum, row.metric) in measured)
            models = dict.fromkeys(row.model for row in here)
            if models:
                body = [(model, [found.get((model, *key)) for key in measured]) for model in models]
                name = f"{title}: paired differences" if differences else title
                made.append((name, list(measured.values()), body))
    return made


def others(rows: Sequence[Row]) -> list[Row]:
    """Rows for a list of their own: what is no ranking, and tests that are in no table."""
    known = set(shown())
    return [
        row
        for row in rows
        if not row.metric.startswith(_RANKING) or (row.p is not None and (row.stratum, row.metric) not in known)
    ]


def curves_svg(rows: Sequence[Mapping[str, Any]]) -> str:
    """Learning curves of a stage as an SVG element: one panel a metric, one line a split.

    Args:
      rows: of metrics.jsonl: `step`, `split`, and metrics; what is not a number is passed over.
    """
    series: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in ("step", "split") and isinstance(value, int | float) and not isinstance(value, bool):
                series.setdefault(name, {}).setdefault(row.get("split", ""), []).append((row["step"], value))
    width = min(3, max(len(series), 1))
    height = -(-len(series) // width) or 1
    # Fixed salt and no date: the same numbers give the same page.
    with matplotlib.rc_context({"svg.hashsalt": "ecr", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(3.4 * width, 2.2 * height), layout="constrained")
        for place, (name, splits) in enumerate(series.items(), start=1):
            axes = figure.add_subplot(height, width, place)
            for split, points in splits.items():
                axes.plot(*zip(*points, strict=True), label=split, marker="." if len(points) < 30 else None, lw=1)
            axes.set_title(name)
            axes.set_xlabel("step")
            if any(splits):
                axes.legend(frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
