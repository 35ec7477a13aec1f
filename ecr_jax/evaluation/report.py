"""A report: every metric with its interval, models compared on the same targets, and where the numbers come from.

`build` measures prediction rows, `write` writes report.json (tidy rows) and report.html (one page that needs nothing
else). `terminal` prints reports.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecr_jax import files
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.html_report import html_page
from ecr_jax.evaluation.measures import measures
from ecr_jax.evaluation.predictions import Prediction
from ecr_jax.evaluation.rows import MeasureFunction, ReportRow, measure_models


@dataclass(frozen=True)
class SampleReply:
    """A reply to show.

    Attributes:
      context: (role, text) of the turns before.
      items: titles recommended, best first.
      response: the recommendation response u^r with titles filled in.
      emotional: the emotional response u^e, empty where there is none.
      reference: the turn of the corpus.
    """

    context: tuple[tuple[str, str], ...]
    items: tuple[str, ...]
    response: str
    emotional: str
    reference: str

    @classmethod
    def from_json(cls, reply: Mapping[str, Any]) -> SampleReply:
        """Reads a reply of report.json."""
        context = tuple((role, text) for role, text in reply["context"])
        return cls(**{**reply, "context": context, "items": tuple(reply["items"])})


@dataclass(frozen=True)
class Report:
    """The content of report.json and report.html.

    Attributes:
      rows: the numbers.
      provenance: where they come from (commit, command, data checksums, hardware, times, ...), shown as they are.
      curves: stage -> rows of its metrics.jsonl ({"step", "split", metric: value, ...}).
      replies: sample replies.
      confusion: emotion -> how often the classifier predicted each emotion for it, in the order of the keys.
    """

    rows: tuple[ReportRow, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    replies: tuple[SampleReply, ...] = ()
    confusion: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def value(self, model: str, metric: str, stratum: str = "all") -> ReportRow | None:
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
    measure: MeasureFunction = measures,
    catalogue: Catalogue | None = None,
    resamples: int = 1000,
    seed: int = 0,
    auc_batch: int = 32,
    extra: Iterable[ReportRow] = (),
    provenance: Mapping[str, Any] | None = None,
    curves: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    replies: Iterable[SampleReply] = (),
    confusion: Mapping[str, Sequence[float]] | None = None,
) -> Report:
    """Measures models on the same targets, and each paired difference `main` - other model.

    A metric that is not defined (no target, a class without targets) has no row.

    Args:
      predictions: model -> its rows, of the same targets in any order; the first model's order is the file order that
        the AUC within batches depends on.
      corpus: its name.
      split: its name.
      main: the model that the others are compared with, if it is among them.
      measure: what is measured of the rows, see `protocol.Protocol`.
      catalogue: needed for the strata by training count, coverage and popularity.
      resamples: bootstrap resamples of dialogues, the same for every model.
      seed: of the resamples.
      auc_batch: targets a batch of the published AUC.
      extra: further rows, e.g. of text metrics.
      provenance, curves, replies, confusion: see `Report`.

    Raises:
      ValueError: the models do not have the same targets.
    """
    rows = measure_models(
        {model: [model_rows] for model, model_rows in predictions.items()},
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
            "rows": [row.to_json() for row in report.rows],
            "provenance": report.provenance,
            "replies": [dataclasses.asdict(reply) for reply in report.replies],
            "confusion": report.confusion,
        },
    )
    with files.replacing(folder / "report.html") as temporary:
        temporary.write_text(html_page(report), encoding="utf-8")


def read(path: Path) -> Report:
    """Reads a report.json; it does not hold the learning curves, which are in the folders of their stages."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Report(
        tuple(ReportRow.from_json(row) for row in content["rows"]),
        content["provenance"],
        replies=tuple(SampleReply.from_json(reply) for reply in content["replies"]),
        confusion=content["confusion"],
    )
