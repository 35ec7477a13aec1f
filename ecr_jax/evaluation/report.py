"""Prediction rows into an honest report: every metric with its interval, models compared on the same targets.

`build` measures, `write` makes report.json (tidy rows) and report.html (one page that needs nothing else), and
`print_tables` shows the ranking tables in a terminal.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ecr_jax import files, metrics
from ecr_jax.corpus.schema import Feedback
from ecr_jax.evaluation.predictions import Prediction
from ecr_jax.evaluation.significance import Resamples, interval, resample

CUTS = (1, 10, 50)
STRATA = ("all", "new", "repeated", "like", "dislike")
SHOWN = ("recall@1", "recall@10", "recall@50", "ndcg@10", "auc_pooled")
"""Columns of the tables that people read; report.json has all."""

_LIKED = {Feedback.LIKE: metrics.LIKE, Feedback.DISLIKE: metrics.DISLIKE, Feedback.UNSAID: metrics.UNSAID}


@dataclass(frozen=True)
class Row:
    """One number. `low` and `high` bound its 95 % interval; None where it has none. `n` is what it is a mean over."""

    model: str
    corpus: str
    split: str
    stratum: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int


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


def build(
    predictions: Mapping[str, Sequence[Prediction]],
    corpus: str,
    split: str,
    *,
    main: str = "ecr",
    resamples: int = 1000,
    seed: int = 0,
    auc_batch: int = 32,
    extra: Iterable[Row] = (),
    provenance: Mapping[str, Any] | None = None,
    curves: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    replies: Iterable[Reply] = (),
    confusion: Mapping[str, Sequence[int]] | None = None,
) -> Report:
    """Measures models on the same targets.

    For each model, stratum (all, new, repeated; like and dislike without what needs both) and cut k in 1, 10, 50:
    recall@k over all targets, recall_true@k over liked and dislike@k over disliked ones, mrr@k, ndcg@k; and the AUCs of
    like against dislike, auc_batch (as published), auc_pooled and auc_dialogue. Then each difference `main` - other
    model, paired. A number that is not defined (no target, a class without targets) has no row.

    Args:
      predictions: model -> its rows, of the same targets in any order; the first model's order is the file order that
        auc_batch depends on.
      corpus: its name.
      split: its name.
      main: the model that the others are compared with, if it is among them.
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
    rows: list[Row] = []
    if predictions:
        aligned = _align(predictions)
        first = next(iter(aligned.values()))
        draws = resample([row.conversation for row in first], resamples, seed)
        measured = {model: measure(of, draws, auc_batch) for model, of in aligned.items()}
        for model, found in measured.items():
            rows += [_row(model, corpus, split, *key, *number) for key, number in found.items()]
        for other, found in measured.items():
            if main not in measured or other == main:
                continue
            for key, (value, samples, n) in measured[main].items():
                if key in found:
                    difference = value - found[key][0], samples - found[key][1], n
                    rows.append(_row(f"{main} - {other}", corpus, split, *key, *difference))
    return Report((*rows, *extra), dict(provenance or {}), dict(curves or {}), tuple(replies), dict(confusion or {}))


def _align(predictions: Mapping[str, Sequence[Prediction]]) -> dict[str, list[Prediction]]:
    """Every model's rows in the first model's order."""
    name, first = next(iter(predictions.items()))
    keys = [row.key for row in first]
    places = sorted(range(len(keys)), key=keys.__getitem__)
    aligned = {}
    for model, rows in predictions.items():
        ordered = sorted(rows, key=lambda row: row.key)
        if [row.key for row in ordered] != [keys[place] for place in places]:
            strange = len({row.key for row in rows} ^ set(keys))
            raise ValueError(
                f"{model!r} ({len(rows)} rows) and {name!r} ({len(first)} rows) do not have the same targets "
                f"({strange} are in one only); evaluate both on the same prepared corpus and split"
            )
        back: list[Prediction] = list(ordered)
        for place, row in zip(places, ordered, strict=True):
            back[place] = row
        aligned[model] = back
    return aligned


Number = tuple[float, np.ndarray, int]
"""A value, its bootstrap samples [R], and what it is a mean over."""


def measure(rows: Sequence[Prediction], draws: Resamples, auc_batch: int) -> dict[tuple[str, str], Number]:
    """(stratum, metric) -> number, of one model; `build` says which there are. `draws` are over these rows."""
    rank = np.array([row.rank for row in rows])
    score = np.array([row.score for row in rows])
    liked = np.array([_LIKED[row.feedback] for row in rows])
    repeated = np.array([row.repeated for row in rows])
    strata = {
        "all": np.ones(len(rows), bool),
        "new": ~repeated,
        "repeated": repeated,
        "like": liked == metrics.LIKE,
        "dislike": liked == metrics.DISLIKE,
    }
    found: dict[tuple[str, str], Number] = {}

    def means(stratum: str, name: str, where: np.ndarray, of) -> None:
        chosen = np.flatnonzero(where)
        if len(chosen):
            values = np.stack([of(rank[chosen], k) for k in CUTS], axis=1)  # [m, 3]
            for k, value, samples in zip(CUTS, values.mean(axis=0), draws.means(values, chosen).T, strict=True):
                found[stratum, f"{name}@{k}"] = float(value), samples, len(chosen)

    for stratum, where in strata.items():
        means(stratum, "recall", where, metrics.recall_at)
        means(stratum, "mrr", where, metrics.mrr_at)
        means(stratum, "ndcg", where, metrics.ndcg_at)
        if stratum in ("like", "dislike"):
            continue
        means(stratum, "recall_true", where & strata["like"], metrics.recall_at)
        means(stratum, "dislike", where & strata["dislike"], metrics.recall_at)
        chosen = np.flatnonzero(where)
        for name, number in _aucs(score[chosen], liked[chosen], chosen, draws, auc_batch).items():
            if not np.isnan(number[0]):
                found[stratum, name] = number
    return found


def _aucs(
    score: np.ndarray, liked: np.ndarray, chosen: np.ndarray, draws: Resamples, batch_size: int
) -> dict[str, Number]:
    """The three AUCs of the targets `chosen` [m], whose scores and feedback are given [m]."""
    said = np.flatnonzero(liked != metrics.UNSAID)
    both = len(said)
    pooled = draws.statistics(lambda w: metrics.auc_pooled(score[said], liked[said], w[chosen[said]]))
    batch = np.arange(len(score)) // batch_size
    pairs = metrics.like_dislike_pairs(score, liked, batch)
    batched = draws.statistics(lambda w: metrics.auc_batch_of_pairs(*pairs, batch, w[chosen]))
    # A dialogue's pairs come and go with it, so this one is a mean over pairs.
    winner, _, wins = metrics.like_dislike_pairs(score, liked, draws.dialogue[chosen])
    within = draws.means(wins[:, None], chosen[winner])[:, 0]
    return {
        "auc_batch": (metrics.auc_batch(score, liked, batch_size), batched, both),
        "auc_pooled": (metrics.auc_pooled(score, liked), pooled, both),
        "auc_dialogue": (metrics.auc_dialogue(score, liked, draws.dialogue[chosen]), within, len(wins)),
    }


def _row(
    model: str, corpus: str, split: str, stratum: str, metric: str, value: float, samples: np.ndarray, n: int
) -> Row:
    low, high = interval(samples) or (None, None)
    return Row(model, corpus, split, stratum, metric, value, low, high, n)


def write(report: Report, folder: Path) -> None:
    """Writes report.json and report.html into `folder`."""
    files.write_json(
        folder / "report.json",
        {
            "rows": [dataclasses.asdict(row) for row in report.rows],
            "provenance": report.provenance,
            "replies": [dataclasses.asdict(reply) for reply in report.replies],
            "confusion": report.confusion,
        },
    )
    with files.replacing(folder / "report.html") as temporary:
        temporary.write_text(html(report), encoding="utf-8")


def read_rows(path: Path) -> list[Row]:
    """The rows of a report.json."""
    return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]


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
        tables=_tables(report.rows),
        others=[row for row in report.rows if not _is_ranking(row)],
        curves={stage: curves_svg(rows) for stage, rows in report.curves.items() if rows},
        replies=report.replies,
        confusion=report.confusion,
        provenance={
            key: value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False, default=str)
            for key, value in report.provenance.items()
        },
    )


def print_tables(report: Report, console: Console) -> None:
    """Prints the ranking tables of all, new and repeated targets, the differences, and the other numbers."""
    for title, columns, body in _tables(report.rows):
        table = Table(title=title, title_justify="left")
        table.add_column("model")
        for column in columns:
            table.add_column(column, justify="right")
        for model, cells in body:
            table.add_row(model, *(cell(row, "\n") for row in cells))
        console.print(table)
    others = [row for row in report.rows if not _is_ranking(row)]
    if others:
        table = Table("model", "stratum", "metric", title="other numbers", title_justify="left")
        table.add_column("value", justify="right")
        table.add_column("n", justify="right")
        for row in others:
            table.add_row(row.model, row.stratum, row.metric, cell(row, " "), str(row.n))
        console.print(table)


def _is_ranking(row: Row) -> bool:
    return row.metric.startswith(("recall", "dislike", "mrr", "ndcg", "auc"))


def cell(row: Row | None, gap: str = " ") -> str:
    """A number with its interval behind `gap`; differences carry their sign."""
    if row is None:
        return "–"
    sign = "+" if " - " in row.model else ""
    bounds = "" if row.low is None else f"{gap}[{row.low:{sign}.3f}, {row.high:{sign}.3f}]"
    return f"{row.value:{sign}.3f}{bounds}"


def _tables(rows: Sequence[Row]) -> list[tuple[str, list[str], list[tuple[str, list[Row | None]]]]]:
    """Tables to read: title, columns, and (model, cells) for each row; models apart from differences."""
    found = {(row.model, row.stratum, row.metric): row for row in rows if _is_ranking(row)}
    tables = []
    for stratum in STRATA[:3]:
        here = [key for key in found if key[1] == stratum]
        columns = [metric for metric in SHOWN if any(key[2] == metric for key in here)]
        for differences in (False, True):
            models = dict.fromkeys(key[0] for key in here if (" - " in key[0]) == differences)
            if models:
                n = max(found[key].n for key in here)
                title = f"{stratum} targets, n = {n}" + (": paired differences" if differences else "")
                body = [(model, [found.get((model, stratum, column)) for column in columns]) for model in models]
                tables.append((title, columns, body))
    return tables


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
