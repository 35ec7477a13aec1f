"""The rows of a report: models measured on the same targets, with intervals, paired differences and tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.measures import Measures, measures
from ecr_jax.evaluation.predictions import Prediction, align
from ecr_jax.evaluation.significance import averaged, holm, interval, randomisation, resample, resampled, swaps

MeasureFunction = Callable[[Sequence[Prediction], Catalogue | None, int], Measures]
"""(prediction rows of one run, catalogue, targets a batch of the published AUC) -> what is measured of them."""


@dataclass(frozen=True)
class ReportRow:
    """One number of a report.

    Attributes:
      model: "ecr", or "ecr - popularity" for a paired difference.
      corpus, split, stratum, metric: what was measured.
      value: the number; for several runs of a model their mean.
      low, high: bounds of its 95 % interval; None where it has none.
      n: the number of targets, turns or pairs that it is a mean over.
      p, p_holm: of a difference that was tested; the second is adjusted for all tests of the report.
      seeds: the values of the single runs, where there are several.
    """

    model: str
    corpus: str
    split: str
    stratum: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    p: float | None = None
    p_holm: float | None = None
    seeds: tuple[float, ...] = ()

    @property
    def is_difference(self) -> bool:
        """Whether the number is the difference of two models."""
        return " - " in self.model

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object; the optional fields are there only where they are set."""
        optional = {"p": self.p, "p_holm": self.p_holm, "seeds": list(self.seeds) or None}
        required = {name: value for name, value in dataclasses.asdict(self).items() if name not in optional}
        return required | {name: value for name, value in optional.items() if value is not None}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ReportRow:
        """Reads what `to_json` returned."""
        return cls(**{**row, "seeds": tuple(row.get("seeds", ()))})


def measure_models(
    models: Mapping[str, Sequence[Sequence[Prediction]]],
    corpus: str,
    split: str,
    *,
    pairs: Iterable[tuple[str, str]] = (),
    catalogue: Catalogue | None = None,
    measure: MeasureFunction = measures,
    resamples: int = 1000,
    seed: int = 0,
    auc_batch: int = 32,
    tested: Callable[[str, str], bool] | None = None,
) -> list[ReportRow]:
    """Measures models on the same targets.

    Dialogues are resampled, the same ones for every model, so a difference is paired. Several runs of a model are
    repeated measures of the same targets: each resample takes the mean over the runs, and the interval is that of the
    mean of these runs on other dialogues. `ReportRow.seeds` shows how much the runs differ.

    Args:
      models: name -> prediction rows of one or several runs; the order of the first run is the file order.
      corpus: its name.
      split: its name.
      pairs: (one, other) of the models for each difference one - other to report.
      catalogue: see `measures.measures`.
      measure: what is measured of each run.
      resamples: bootstrap resamples, and permutations of a test.
      seed: of both.
      auc_batch: see `measures.measures`.
      tested: (stratum, metric) -> whether its differences are tested, by a paired randomisation test; None tests none.
        Holm's correction is over all tests of all pairs, so choose what to test before looking at the numbers.

    Raises:
      ValueError: the models do not have the same targets.
    """
    if not any(runs for runs in models.values()):
        return []
    aligned = align({_run_name(model, i, runs): run for model, runs in models.items() for i, run in enumerate(runs)})
    first = next(iter(aligned.values()))
    draws = resample([row.conversation for row in first], resamples, seed).draws
    of_model: dict[str, Measures] = {}
    of_runs: dict[str, list[Measures]] = {}
    for model, runs in models.items():
        of_runs[model] = [measure(aligned[_run_name(model, i, runs)], catalogue, auc_batch) for i in range(len(runs))]
        shared = [key for key in of_runs[model][0] if all(key in run for run in of_runs[model])]
        of_model[model] = {key: averaged([run[key] for run in of_runs[model]]) for key in shared}
    samples = {model: resampled(of_key, draws) for model, of_key in of_model.items()}

    rows = []
    for model, of_key in of_model.items():
        for key, measured in of_key.items():
            seeds = tuple(run[key].value for run in of_runs[model]) if len(of_runs[model]) > 1 else ()
            low, high = interval(samples[model][key]) or (None, None)
            rows.append(ReportRow(model, corpus, split, *key, measured.value, low, high, measured.n, seeds=seeds))
    exchanged = swaps(draws.shape[1], resamples if tested else 0, seed)
    differences = []
    for one, other in pairs:
        for key in (key for key in of_model[one] if key in of_model[other]):
            ours, theirs = of_model[one][key], of_model[other][key]
            low, high = interval(samples[one][key] - samples[other][key]) or (None, None)
            p = randomisation(ours, theirs, exchanged) if tested and tested(*key) else None
            value = ours.value - theirs.value
            differences.append(ReportRow(f"{one} - {other}", corpus, split, *key, value, low, high, ours.n, p))
    adjusted = iter(holm([row.p for row in differences if row.p is not None]).tolist())
    return rows + [row if row.p is None else dataclasses.replace(row, p_holm=next(adjusted)) for row in differences]


def _run_name(model: str, run: int, runs: Sequence[Sequence[Prediction]]) -> str:
    return model if len(runs) == 1 else f"{model} ({run + 1} of {len(runs)})"
