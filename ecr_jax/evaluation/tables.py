"""The tables that people read, selected from a report's rows: in the terminal, in report.html and in Markdown.

report.json holds every number; what is listed here is what the tables show and what `ecr compare` tests by default.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ecr_jax.evaluation.judge_tables import MEASURES, STRATA
from ecr_jax.evaluation.measures import PUBLISHED
from ecr_jax.evaluation.rows import ReportRow
from ecr_jax.models.hyperparameters import LIKE_PARTS

RANKING = ("recall@1", "recall@10", "recall@50", "ndcg@10", "auc_pooled")
"""Metrics of the main tables: all, new and repeated targets."""

REPETITION_STRATA = ("all", "new", "repeated")
TARGET_STRATA = ("head", "tail", "cold", "like", "dislike", "unsaid")
BESIDE_RANKS = (
    "hit@10",
    "recall_true@10",
    "dislike@10",
    "coverage@10",
    "popularity_lift@10",
    "auc_batch",
    "auc_dialogue",
)
PUBLISHED_RANKING = ("auc", "recall_true@1", "recall_true@10", "recall_true@50", "recall@1", "recall@10", "recall@50")

WHOLE_REPLIES = (
    "reply_films",
    "unsupported_entities",
    "contradicted_facts",
    "knowledge_used",
    "perplexity",
    "emotion_alignment",
    "emotion_flatness",
    "reply_f1",
    "sacrebleu",
    "repetition@3",
    "equal_replies",
    "reply_words",
)
"""Metrics of the table of whole replies, see `reply_measures.measure_replies`."""

SIMULATED = (
    "later_success",
    "turns",
    "answers_right",
    "constraints_kept",
    "refused_again",
    "repeated_replies",
    "films_a_reply",
    "plain_replies",
)
"""Metrics of the table of simulated dialogues beside the success by turn, see `simulation.measures`."""

_SUMMARY = {
    "default": tuple(("all", metric) for metric in RANKING),
    "published": tuple(
        ("all", PUBLISHED + metric) for metric in ("recall@1", "recall@10", "recall@50", "recall_true@10", "auc")
    ),
}
"""Protocol -> the (stratum, metric) of its main table."""

_RANKING_PREFIXES = ("recall", "dislike", "mrr", "ndcg", "hit", "auc", "coverage", "popularity_lift", PUBLISHED)

Columns = dict[tuple[str, str], str]
"""(stratum, metric) -> the heading of its column."""


@dataclass(frozen=True)
class ReportTable:
    """A table of models (or of their paired differences) by metrics.

    Attributes:
      title: what it shows.
      differences: whether its rows are differences of two models.
      columns: the headings of its numbers.
      body: (model, one cell a column) of each line; a cell without a number is None.
    """

    title: str
    differences: bool
    columns: tuple[str, ...]
    body: tuple[tuple[str, tuple[ReportRow | None, ...]], ...]


def cell_lines(row: ReportRow | None) -> list[str]:
    """A number, then as far as it has them its interval, adjusted p, and spread over runs; differences are signed."""
    if row is None:
        return ["–"]
    sign = "+" if row.is_difference or row.metric.startswith("popularity_lift") else ""
    interval = [] if row.low is None else [f"[{row.low:{sign}.3f}, {row.high:{sign}.3f}]"]
    p = [] if row.p_holm is None else [f"p {format_p(row.p_holm)}"]
    spread = [f"sd {statistics.stdev(row.seeds):.3f}, {len(row.seeds)} runs"] if row.seeds else []
    return [f"{row.value:{sign}.3f}", *interval, *p, *spread]


def format_p(p: float) -> str:
    """A p value with three decimals, or with one digit where it is smaller."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def _layout(rows: Iterable[ReportRow]) -> dict[str, Columns]:
    """All tables: title -> columns. `rows` give the number of targets in each stratum, and the turns of simulations."""
    rows = list(rows)
    turns = sorted({int(row.metric.partition("@")[2]) for row in rows if row.metric.startswith("success@")})
    counted = ("recall@10", PUBLISHED + "recall@10")
    size = {row.stratum: f", n = {row.n}" for row in rows if row.metric in counted}
    return {
        **{
            f"{stratum} targets{size.get(stratum, '')}": {(stratum, metric): metric for metric in RANKING}
            for stratum in REPETITION_STRATA
        },
        "recall@10 by kind of target": {
            (stratum, "recall@10"): f"{stratum}{size.get(stratum, '')}" for stratum in TARGET_STRATA
        },
        "all targets, beside their ranks": {("all", metric): metric for metric in BESIDE_RANKS},
        "liked above disliked targets": {
            ("all", f"{metric}{suffix}"): f"{metric}{suffix}"
            for metric in ("auc_pooled", "auc_dialogue")
            for suffix in ("", *(f":{part}" for part in LIKE_PARTS))
        },
        f"published protocol{size.get('all', '')}": {
            ("all", PUBLISHED + metric): metric for metric in PUBLISHED_RANKING
        },
        "replies": {("all", metric): metric for metric in WHOLE_REPLIES},
        "simulated dialogues: found by turn": {("all", f"success@{turn}"): f"success@{turn}" for turn in turns},
        "simulated dialogues": {("all", metric): metric.replace("_", "\n") for metric in SIMULATED},
        **{f"judged: {stratum} replies": {(stratum, m): m.replace("_", "\n") for m in MEASURES} for stratum in STRATA},
        "judged: win rates": {("all", f"win_rate_{m}"): m.replace("_", "\n") for m in MEASURES},
    }


def in_tables() -> list[tuple[str, str]]:
    """(stratum, metric) of all numbers that the tables show."""
    return [key for columns in _layout(()).values() for key in columns]


def tables(rows: Sequence[ReportRow]) -> list[ReportTable]:
    """All tables that have a number, the differences of each right after it."""
    return [table for title, columns in _layout(rows).items() for table in _select(rows, title, columns)]


def summary_keys(rows: Sequence[ReportRow]) -> tuple[tuple[str, str], ...]:
    """(stratum, metric) of the main table: by the default protocol, or by the published one if the rows are."""
    published = any(row.metric.startswith(PUBLISHED) for row in rows)
    return _SUMMARY["published" if published else "default"]


def summary_tables(rows: Sequence[ReportRow]) -> list[ReportTable]:
    """The main table of all targets, and its paired differences where there are any."""
    keys = summary_keys(rows)
    protocol = "published protocol, " if keys == _SUMMARY["published"] else ""
    sizes = [row.n for row in rows if (row.stratum, row.metric) == keys[1]]
    title = f"{protocol}all targets{f', n = {sizes[0]}' if sizes else ''}"
    return _select(rows, title, {key: key[1].removeprefix(PUBLISHED) for key in keys})


def _select(rows: Sequence[ReportRow], title: str, columns: Columns) -> list[ReportTable]:
    """The table of the models and the table of the differences, as far as a column of them was measured."""
    cells = {(row.model, row.stratum, row.metric): row for row in rows}
    measured = {(row.stratum, row.metric) for row in rows}
    columns = {key: heading for key, heading in columns.items() if key in measured}
    selected = []
    for differences in (False, True):
        models = dict.fromkeys(
            row.model for row in rows if row.is_difference == differences and (row.stratum, row.metric) in columns
        )
        if models:
            body = tuple((model, tuple(cells.get((model, *key)) for key in columns)) for model in models)
            name = f"{title}: paired differences" if differences else title
            selected.append(ReportTable(name, differences, tuple(columns.values()), body))
    return selected


def other_rows(rows: Sequence[ReportRow]) -> list[ReportRow]:
    """Rows that no table shows but a list should: metrics that are no rankings, and differences that were tested."""
    shown = {key for columns in _layout(rows).values() for key in columns}
    return [
        row
        for row in rows
        if (row.stratum, row.metric) not in shown
        and (row.p is not None or not row.metric.startswith(_RANKING_PREFIXES))
    ]
