"""`ecr compare`: compares runs, or groups of runs with different seeds, on the same targets, with paired tests."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path

import numpy as np
from rich.console import Console

from ecr_jax.data.schema import Split
from ecr_jax.evaluation import predictions, report, terminal
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.predictions import Prediction
from ecr_jax.evaluation.protocol import PROTOCOLS
from ecr_jax.evaluation.provenance import environment
from ecr_jax.evaluation.rows import measure_models
from ecr_jax.evaluation.tables import in_tables, summary_keys


@dataclass(frozen=True)
class Source:
    """Where a run's predictions are: a JSONL file, and the model in it (None: the first, which is the run's own)."""

    path: Path
    model: str | None = None

    @classmethod
    def parse(cls, text: str, split: Split) -> Source:
        """Reads RUN[:MODEL]; RUN is a run's folder, a folder with `predictions.jsonl`, or such a file.

        Raises:
          ValueError: there are no predictions.
        """
        run, _, model = text.partition(":")
        for path in (Path(run), Path(run, "predictions.jsonl"), Path(run, split.value, "predictions.jsonl")):
            if path.is_file():
                return cls(path, model or None)
        raise ValueError(
            f"{run} has no predictions for the split {split.value!r}: evaluate the run first "
            f"(`ecr evaluate --name {Path(run).name} --split {split.value}`), or give a predictions.jsonl"
        )

    @property
    def name(self) -> str:
        """Its name in tables: the run's folder, and the model where one was named."""
        folder = self.path.parent
        while folder.name in {"published", *Split}:
            folder = folder.parent
        return folder.name + (f":{self.model}" if self.model else "")

    def read(self) -> list[Prediction]:
        """The model's rows.

        Raises:
          ValueError: the file holds no such model.
        """
        models = predictions.read(self.path)
        if not models:
            raise ValueError(f"{self.path} is empty; evaluate the run again")
        if self.model is not None and self.model not in models:
            raise ValueError(f"{self.path} holds no model {self.model!r}; it holds {', '.join(models)}")
        return models[self.model or next(iter(models))]

    def describe(self) -> str:
        """The file, the model where one was named, and the file's digest."""
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]
        return f"{self.path}{f':{self.model}' if self.model else ''} sha256 {digest}"


@dataclass(frozen=True)
class Group:
    """Runs of one model with different seeds, or one run."""

    label: str
    runs: tuple[Source, ...]

    @classmethod
    def parse(cls, text: str, split: Split) -> Group:
        """Reads [LABEL=]RUN[,RUN...]; without a label, the common beginning of the runs' names is the label.

        Raises:
          ValueError: a run is named twice, or has no predictions.
        """
        label, equals, rest = text.partition("=")
        if not equals or Path(text.partition(",")[0].partition(":")[0]).exists():  # a sweep's folders have "=" in names
            label, rest = "", text
        runs = tuple(Source.parse(part, split) for part in rest.split(","))
        if len(set(runs)) < len(runs):
            raise ValueError(f"{text!r} names a run twice; the runs of a group are different seeds")
        return cls(label or cls._default_label([run.name for run in runs]), runs)

    @staticmethod
    def _default_label(names: Sequence[str]) -> str:
        if len(names) == 1:
            return names[0]
        shared = commonprefix(names)
        return f"{shared}* ({len(names)} runs)" if shared else "+".join(names)


def compare(
    groups: Sequence[str],
    *,
    split: Split,
    into: Path,
    console: Console,
    strata: Collection[str] = (),
    metrics: Collection[str] = (),
    every_pair: bool = False,
    resamples: int = 10_000,
    seed: int = 0,
) -> report.Report:
    """Measures groups of runs, and the first against every other; writes report.json and report.html into a folder.

    Differences have intervals by a paired bootstrap and p values by a paired randomisation test, both over whole
    dialogues. By default the differences that the report's tables show are tested; the p values are adjusted together
    by Holm's method.

    Args:
      groups: each [LABEL=]RUN[:MODEL][,RUN[:MODEL]...], see `Group` and `Source`; a single one is only measured.
      split: whose predictions are read from the runs' folders.
      into: folder to write to.
      console: where the tables are printed.
      strata, metrics: what is tested, in any combination; where one is empty, all of its kind.
      every_pair: compare every two groups, not only the first with the others.
      resamples: bootstrap resamples and permutations. p is at least 1 / (1 + resamples), so many tests need many.
      seed: of both.

    Raises:
      ValueError: groups of one name, runs without predictions or with different targets, an unknown stratum or metric.
    """
    if not groups:
        raise ValueError("nothing to compare: name runs, for example runs/redial runs/redial:co-occurrence")
    parsed = [Group.parse(text, split) for text in groups]
    labels = [group.label for group in parsed]
    unusable = next((label for label in labels if labels.count(label) > 1 or " - " in label), None)
    if unusable is not None:
        raise ValueError(f"{unusable!r} cannot name a group here (twice, or it has ' - '): give names, LABEL=RUN")
    sources = [source for group in parsed for source in group.runs]
    catalogue, left_out = _shared_catalogue(sources)
    rows = measure_models(
        {group.label: [source.read() for source in group.runs] for group in parsed},
        catalogue.corpus if catalogue else "unknown",
        catalogue.split if catalogue else split.value,
        pairs=[pair for pair in itertools.combinations(labels, 2) if every_pair or pair[0] == labels[0]],
        catalogue=catalogue,
        measure=PROTOCOLS[catalogue.protocol if catalogue else "default"].measure,
        resamples=resamples,
        seed=seed,
        tested=_is_tested(strata, metrics),
    )
    _require_known("stratum", strata, {row.stratum: None for row in rows})
    _require_known("metric", metrics, {row.metric: None for row in rows})
    tested = [row for row in rows if row.p is not None]
    source = {
        "groups": {group.label: [source.describe() for source in group.runs] for group in parsed},
        "tests": f"{len(tested)} paired randomisation tests, {resamples} permutations of dialogues, seed {seed}; "
        "p by Holm",
        **({"left out": left_out} if left_out else {}),
        **environment(),
    }
    result = report.Report(tuple(rows), source)
    report.write(result, into)
    terminal.print_tables(result, console)
    if strata or metrics:
        in_summary = summary_keys(rows)
        listed = [row for row in tested if (row.stratum, row.metric) not in in_summary]
        terminal.print_rows(listed, "further tests", console)
    if left_out:
        console.print(f"left out: {left_out}")
    console.print(f"{source['tests']}\nall tables and strata: {into / 'report.html'}")
    return result


def _is_tested(strata: Collection[str], metrics: Collection[str]) -> Callable[[str, str], bool]:
    """Whether the differences of a (stratum, metric) are tested."""
    if not strata and not metrics:
        default = set(in_tables())
        return lambda stratum, metric: (stratum, metric) in default
    return lambda stratum, metric: (not strata or stratum in strata) and (not metrics or metric in metrics)


def _require_known(kind: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"nothing measures the {kind} {name!r} here; choose from {', '.join(known)}")


def _shared_catalogue(sources: Sequence[Source]) -> tuple[Catalogue | None, str]:
    """The first run's catalogue, and what is left out where a run has none.

    Raises:
      ValueError: a run ranked other candidates. (Training counts may differ: those of the first run define the strata.)
    """
    catalogues = {source.path: Catalogue.load(source.path.parent) for source in sources}
    lacking = ", ".join(str(path) for path, catalogue in catalogues.items() if catalogue is None)
    if lacking:
        return None, f"head, tail and cold items, coverage and popularity: no catalogue.json beside {lacking}"
    (first_path, first), *others = catalogues.items()
    for path, catalogue in others:
        for name in ("corpus", "split", "protocol", "items"):
            if not np.array_equal(getattr(first, name), getattr(catalogue, name)):
                raise ValueError(
                    f"{first_path} and {path} do not have the same {name}, according to their catalogue.json; "
                    "evaluate both on the same prepared corpus and split, by the same protocol"
                )
    return first, ""
