"""Puts the tables of a report into a Markdown file, between its marks.

    python -m benchmarks.tables docs/results/redial/report.json README.md --mark redial

replaces what stands between `<!-- redial -->` and `<!-- /redial -->`; without a file it prints the tables.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import tyro

from ecr_jax.evaluation.report import Row, cell
from ecr_jax.files import replacing

METRICS = ("recall@1", "recall@10", "recall@50", "auc_pooled")
STRATA = ("all", "new")


def table(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(path: Path, ranking: bool) -> str:
    """The tables of a report.json; `ranking`: those of the rankings only."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    rows = [Row(**row) for row in kept["rows"]]
    found = {(row.model, row.stratum, row.metric): row for row in rows}
    models = list(dict.fromkeys(row.model for row in rows if row.metric == "recall@10"))
    text = []
    for stratum in STRATA:
        body = [
            [model, *(cell(found.get((model, stratum, metric))) for metric in METRICS)] for model in models
        ]
        n = found[models[0], stratum, "recall@10"].n
        text += [f"{stratum} targets, n = {n}, 95 % intervals over dialogues", "", table(["model", *METRICS], body), ""]
    made = kept["provenance"]
    source = f"Commit {made['commit']}, `{made['command']}`, {made['hardware']}, jax {made['jax']}."
    if ranking:
        return "\n".join([*text, source])
    others = [row for row in rows if row.stratum == "all" and row.model in ("classifier", "majority")]
    text += [table(["emotions", "metric", "value", "n"], [[r.model, r.metric, cell(r), str(r.n)] for r in others]), ""]
    words = [row for row in rows if row.model == "ecr" and row.metric.split("@")[0] in ("bleu", "dist", "item_ratio")]
    text += [table(["u^r", "value", "n"], [[r.metric, cell(r), str(r.n)] for r in words]), ""]
    text += [table(["stage", "time, peak memory"], [[stage, cost] for stage, cost in made["stages"].items()]), ""]
    return "\n".join([*text, source])


def main(
    report: tyro.conf.Positional[Path],
    into: tyro.conf.Positional[Path | None] = None,
    mark: Annotated[str, tyro.conf.arg(help="name of the marks")] = "results",
    ranking: Annotated[bool, tyro.conf.arg(help="the rankings only")] = False,
) -> None:
    """Prints a report's tables, or puts them into a Markdown file."""
    if into is None:
        print(tables(report, ranking))
        return
    text = into.read_text(encoding="utf-8")
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise SystemExit(f"{into} needs {start} and {end}, once each")
    before, rest = text.split(start)
    with replacing(into) as temporary:
        temporary.write_text(f"{before}{start}\n{tables(report, ranking)}\n{end}{rest.split(end)[1]}", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
