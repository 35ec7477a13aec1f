"""`ecr compare`: runs, or groups of runs that differ in their seed, on the same targets; their differences tested."""

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
from ecr_jax.evaluation import predictions, ranking, report
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.predictions import Prediction
from ecr_jax.evaluation.protocol import PROTOCOLS


@dataclass(frozen=True)
class Source:
    """Where a run's predictions are: a JSONL file, and the model in it (None: the first, which the run is of)."""

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
        """What a table calls it: the run's folder, and the model where it was named."""
        folder = self.path.parent
        while folder.name in {"published", *Split}:
            folder = folder.parent
        return folder.name + (f":{self.model}" if self.model else "")

    def read(self) -> list[Prediction]:
        """The model's rows.

        Raises:
          ValueError: the file holds no such model.
        """
        found = predictions.read(self.path)
        if not found:
            raise ValueError(f"{self.path} is empty; evaluate the run again")
        if self.model is not None and self.model not in found:
            raise ValueError(f"{self.path} holds no model {self.model!r}; it holds {', '.join(found)}")
        return found[self.model or next(iter(found))]


@dataclass(frozen=True)
class Group:
    """Runs of one model that differ in their seed, or one run."""

    label: str
    runs: tuple[Source, ...]

    @classmethod
    def parse(cls, text: str, split: Split) -> Group:
        """Reads [LABEL=]RUN[,RUN...]; without a label, one is made of what the runs' names have in common.

        Raises:
          ValueError: a run is named twice, or has no predictions.
        """
        label, named, rest = text.rpartition("=")
        runs = tuple(Source.parse(part, split) for part in (rest if named else text).split(","))
        if len(set(runs)) < len(runs):
            raise ValueError(f"{text!r} names a run twice; the runs of a group are different seeds")
        names = [run.name for run in runs]
        if not label:
            shared = commonprefix(names)
            label = names[0] if len(names) == 1 else f"{shared}* ({len(names)} runs)" if shared else "+".join(names)
        return cls(label, runs)


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

    Differences have intervals by a paired bootstrap and p values by a paired randomisation test, both of whole
    dialogues. Those that the printed tables show are tested, or those named, and adjusted together by Holm.

    Args:
      groups: each [LABEL=]RUN[:MODEL][,RUN[:MODEL]...], see `Group` and `Source`; one is only measured.
      split: of which runs' folders hold the predictions.
      into: folder to write to.
      console: where the tables are printed.
      strata, metrics: what is tested, in any combination; where one is empty, all of its kind.
      every_pair: compare every two groups, not only the first with the others.
      resamples: bootstrap resamples and permutations. p is at least 1 / (1 + resamples), so many tests need many.
      seed: of both.

    Raises:
      ValueError: groups of one name, runs without predictions or with others' targets, a stratum or metric unknown.
    """
    if not groups:
        raise ValueError("nothing to compare: name runs, for example runs/redial runs/redial:co-occurrence")
    parsed = [Group.parse(text, split) for text in groups]
    labels = [group.label for group in parsed]
    twice = next((label for label in labels if labels.count(label) > 1 or " - " in label), None)
    if twice is not None:
        raise ValueError(f"{twice!r} cannot name a group here (twice, or it has ' - '): give names, LABEL=RUN")
    sources = [source for group in parsed for source in group.runs]
    catalogue, missing = _catalogue(sources)
    rows = ranking.table(
        {group.label: [source.read() for source in group.runs] for group in parsed},
        catalogue.corpus if catalogue else "unknown",
        catalogue.split if catalogue else split.value,
        pairs=[pair for pair in itertools.combinations(labels, 2) if every_pair or pair[0] == labels[0]],
        catalogue=catalogue,
        measure=PROTOCOLS[catalogue.protocol if catalogue else "default"].measure,
        resamples=resamples,
        seed=seed,
        tested=_family(strata, metrics),
    )
    for kind, wanted, known in (
        ("stratum", strata, [row.stratum for row in rows]),
        ("metric", metrics, [row.metric for row in rows]),
    ):
        for name in wanted:
            if name not in known:
                choices = ", ".join(dict.fromkeys(known))
                raise ValueError(f"nothing measures the {kind} {name!r} here; choose from {choices}")
    tests = sum(row.p is not None for row in rows)
    told = {
        "groups": {group.label: [_told(source) for source in group.runs] for group in parsed},
        "tests": f"{tests} paired randomisation tests, {resamples} permutations of dialogues, seed {seed}; p by Holm",
        **({"left out": missing} if missing else {}),
        **report.made_by(),
    }
    made = report.Report(tuple(rows), told)
    report.write(made, into)
    report.print_tables(made, console)
    if missing:
        console.print(f"left out: {missing}")
    console.print(f"{told['tests']}\nwritten: {into / 'report.json'}, {into / 'report.html'}")
    return made


def _family(strata: Collection[str], metrics: Collection[str]) -> Callable[[str, str], bool]:
    """Whether the differences of a (stratum, metric) are tested."""
    if not strata and not metrics:
        shown = set(report.shown())
        return lambda stratum, metric: (stratum, metric) in shown
    return lambda stratum, metric: (not strata or stratum in strata) and (not metrics or metric in metrics)


def _catalogue(sources: Sequence[Source]) -> tuple[Catalogue | None, str]:
    """The first run's catalogue, and what is left out where some have none.

    Raises:
      ValueError: another run ranked other candidates. (Training counts may differ: the first run's decide the strata.)
    """
    loaded = {source.path: Catalogue.load(source.path.parent) for source in sources}
    lacking = ", ".join(str(path) for path, catalogue in loaded.items() if catalogue is None)
    if lacking:
        return None, f"head, tail and cold items, coverage and popularity: no catalogue.json beside {lacking}"
    (first, kept), *others = loaded.items()
    for path, catalogue in others:
        for name in ("corpus", "split", "protocol", "items"):
            if not np.array_equal(getattr(kept, name), getattr(catalogue, name)):
                raise ValueError(
                    f"{first} and {path} do not have the same {name}, say their catalogue.json; "
                    "evaluate both on the same prepared corpus and split, by the same protocol"
                )
    return kept, ""


def _told(source: Source) -> str:
    digest = hashlib.sha256(source.path.read_bytes()).hexdigest()[:16]
    return f"{source.path}{f':{source.model}' if source.model else ''} sha256 {digest}"
