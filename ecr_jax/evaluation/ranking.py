"""Prediction rows into numbers: every metric in every stratum, with intervals, and models compared on the same targets.

`measures` is what is measured by default, `published_measures` what the published evaluator measures; `table` turns
either into rows for one or several models, each with one or several runs (seeds).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecr_jax import metrics
from ecr_jax.data.schema import Feedback
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.predictions import Prediction, align
from ecr_jax.evaluation.significance import (
    BatchAuc,
    Coverage,
    Mean,
    Measure,
    PooledAuc,
    averaged,
    holm,
    interval,
    number,
    randomisation,
    resample,
    resampled,
    swaps,
)

CUTS = (1, 10, 50)
PUBLISHED = "published/"
"""What the names of the published protocol's metrics begin with."""

Measures = dict[tuple[str, str], Measure]
"""(stratum, metric) -> measure, of one model's run."""

_LIKED = {Feedback.LIKE: metrics.LIKE, Feedback.DISLIKE: metrics.DISLIKE, Feedback.UNSAID: metrics.UNSAID}


@dataclass(frozen=True)
class Row:
    """One number of a report.

    Attributes:
      model: "ecr", or "ecr - popularity" for a paired difference.
      corpus, split, stratum, metric: what was measured.
      value: the number; for several runs of a model their mean.
      low, high: bounds of its 95 % interval; None where it has none.
      n: what it is a mean over.
      p, p_holm: of a difference that was tested; the second is adjusted for all tests that were made with it.
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
        """Whether it says by how much one model differs from another."""
        return " - " in self.model

    def plain(self) -> dict[str, Any]:
        """As JSON holds it: the optional fields only where they say something."""
        optional = {"p": self.p, "p_holm": self.p_holm, "seeds": list(self.seeds) or None}
        said = {name: value for name, value in dataclasses.asdict(self).items() if name not in optional}
        return said | {name: value for name, value in optional.items() if value is not None}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Row:
        """What `plain` gave."""
        return cls(**{**plain, "seeds": tuple(plain.get("seeds", ()))})


@dataclass(frozen=True)
class _Columns:
    """Prediction rows as arrays over targets [n]; `turn` and `dialogue` are numbers from 0."""

    rank: np.ndarray
    score: np.ndarray
    liked: np.ndarray
    repeated: np.ndarray
    target: np.ndarray
    turn: np.ndarray
    dialogue: np.ndarray
    dialogues: int

    @classmethod
    def of(cls, rows: Sequence[Prediction]) -> _Columns:
        turns: dict[tuple[str, int], int] = {}
        return cls(
            np.array([row.rank for row in rows]),
            np.array([row.score for row in rows]),
            np.array([_LIKED[row.feedback] for row in rows]),
            np.array([row.repeated for row in rows]),
            np.array([row.target for row in rows]),
            np.array([turns.setdefault((row.conversation, row.turn), len(turns)) for row in rows]),
            *number([row.conversation for row in rows]),
        )

    def mean(self, values: np.ndarray, chosen: np.ndarray) -> Mean:
        """The mean of values [m] of the targets `chosen`, int [m]."""
        return Mean.of(values, self.dialogue[chosen], self.dialogues)


def strata(rows: Sequence[Prediction], catalogue: Catalogue | None = None) -> dict[str, np.ndarray]:
    """Which targets each stratum holds, bool [n] each.

    `all`; `new` and `repeated`: not yet or already mentioned in the dialogue; `like`, `dislike`, `unsaid`: the seeker's
    answer; with a catalogue `head`, `tail` and `cold`: by how often training recommends the item (`Catalogue.head`).
    """
    return _strata(_Columns.of(rows), catalogue)


def _strata(columns: _Columns, catalogue: Catalogue | None) -> dict[str, np.ndarray]:
    liked = columns.liked
    found = {
        "all": np.ones(len(liked), bool),
        "new": ~columns.repeated,
        "repeated": columns.repeated,
        "like": liked == metrics.LIKE,
        "dislike": liked == metrics.DISLIKE,
        "unsaid": liked == metrics.UNSAID,
    }
    if catalogue is not None:
        count, head = catalogue.count(columns.target), catalogue.head()
        found |= {"head": count >= head, "tail": (0 < count) & (count < head), "cold": count == 0}
    return found


def measures(rows: Sequence[Prediction], catalogue: Catalogue | None = None, auc_batch: int = 32) -> Measures:
    """What is measured of one run by default; a number that is not defined is left out.

    For each stratum and cut k in 1, 10, 50:

    - recall@k, mrr@k, ndcg@k over its targets, hit@k over its turns (a turn with several targets is hit if any is among
      the first k); outside of the strata by feedback also recall_true@k over liked and dislike@k over disliked targets;
    - auc_batch (as published), auc_pooled, auc_dialogue: liked against disliked targets by their scores.

    And of all targets, with a catalogue and where the rows name enough items: coverage@k, the share of the candidates
    that some turn is shown among its first k; popularity_lift@k, the mean over targets of how much the mean
    log(1 + training count) of the first k exceeds that of the target: above zero, what is recommended is more popular
    than what recommenders chose.

    Args:
      rows: of one model, in file order (auc_batch depends on it).
      catalogue: of their corpus, or None to leave out what needs it.
      auc_batch: targets a batch of the published AUC.
    """
    columns = _Columns.of(rows)
    found: Measures = {}
    held = _strata(columns, catalogue)
    for stratum, where in held.items():
        answered = stratum in ("like", "dislike", "unsaid")
        chosen = np.flatnonzero(where)
        over = {
            "recall": (metrics.recall_at, chosen),
            "mrr": (metrics.mrr_at, chosen),
            "ndcg": (metrics.ndcg_at, chosen),
        }
        if not answered:
            over["recall_true"] = metrics.recall_at, np.flatnonzero(where & held["like"])
            over["dislike"] = metrics.recall_at, np.flatnonzero(where & held["dislike"])
        for name, (of, targets) in over.items():
            for k in CUTS:
                found[stratum, f"{name}@{k}"] = columns.mean(of(columns.rank[targets], k), targets)
        for k in CUTS:
            found[stratum, f"hit@{k}"] = _hits(columns, chosen, k)
        if not answered:
            part = columns.score[chosen], columns.liked[chosen], columns.dialogue[chosen]
            found[stratum, "auc_batch"] = BatchAuc(*part, columns.dialogues, auc_batch)
            found[stratum, "auc_pooled"] = PooledAuc(*part, columns.dialogues)
            winner, _, wins = metrics.like_dislike_pairs(*part)
            found[stratum, "auc_dialogue"] = Mean.of(wins, part[2][winner], columns.dialogues)
    if catalogue is not None:
        found |= _beyond(columns, rows, catalogue)
    return _defined(found)


def published_measures(rows: Sequence[Prediction], catalogue: Catalogue | None = None, auc_batch: int = 32) -> Measures:
    """What the published evaluator measures, over all instances.

    recall, mrr, ndcg @k over all instances, recall_true@k over liked ones; `auc` within batches, then the mean over
    batches with both classes; `mse` of the score against 1 for liked and 0 for disliked ones, `mse_neg` over these.

    Args:
      rows: one a mention in file order, of the published protocol.
      catalogue: not needed.
      auc_batch: instances a batch (ECR: 32).

    Reference: ECR 5.2 and its released evaluator.
    """
    columns = _Columns.of(rows)
    every = np.arange(len(rows))
    liked = np.flatnonzero(columns.liked == metrics.LIKE)
    found: dict[str, Measure] = {}
    for k in CUTS:
        for name, of in (("recall", metrics.recall_at), ("mrr", metrics.mrr_at), ("ndcg", metrics.ndcg_at)):
            found[f"{name}@{k}"] = columns.mean(of(columns.rank, k), every)
        found[f"recall_true@{k}"] = columns.mean(metrics.recall_at(columns.rank[liked], k), liked)
    found["auc"] = BatchAuc(columns.score, columns.liked, columns.dialogue, columns.dialogues, auc_batch)
    error = (columns.score - columns.liked) ** 2
    for name, where in (("mse", columns.liked != metrics.UNSAID), ("mse_neg", columns.liked == metrics.DISLIKE)):
        found[name] = columns.mean(error[where], np.flatnonzero(where))
    return _defined({("all", PUBLISHED + name): measure for name, measure in found.items()})


def _defined(found: Measures) -> Measures:
    return {key: measure for key, measure in found.items() if not np.isnan(measure.value)}


def _hits(columns: _Columns, chosen: np.ndarray, k: int) -> Mean:
    """Turns of which some of the targets `chosen` is among the first k."""
    _, first, turn = np.unique(columns.turn[chosen], return_index=True, return_inverse=True)
    hit = np.zeros(len(first))
    np.maximum.at(hit, turn, metrics.recall_at(columns.rank[chosen], k))
    return columns.mean(hit, chosen[first])


def _beyond(columns: _Columns, rows: Sequence[Prediction], catalogue: Catalogue) -> Measures:
    """Coverage and popularity of what is recommended; see `measures`."""
    found: Measures = {}
    named, items = min((len(row.top) for row in rows), default=0), len(catalogue.items)
    best = np.array([row.top[:named] for row in rows], np.int64)  # [n, named]
    popularity, chosen = np.log1p(catalogue.count(best)), np.log1p(catalogue.count(columns.target))
    place = np.searchsorted(catalogue.items, best)
    for k in CUTS:
        if named < min(k, items):
            continue
        shown = np.zeros((columns.dialogues, items), bool)
        shown[columns.dialogue[:, None], place[:, :k]] = True
        found["all", f"coverage@{k}"] = Coverage(shown)
        lift = popularity[:, :k].mean(axis=1) - chosen
        found["all", f"popularity_lift@{k}"] = columns.mean(lift, np.arange(len(rows)))
    return found


def table(
    models: Mapping[str, Sequence[Sequence[Prediction]]],
    corpus: str,
    split: str,
    *,
    pairs: Iterable[tuple[str, str]] = (),
    catalogue: Catalogue | None = None,
    measure: Callable[[Sequence[Prediction], Catalogue | None, int], Measures] = measures,
    resamples: int = 1000,
    seed: int = 0,
    auc_batch: int = 32,
    tested: Callable[[str, str], bool] | None = None,
) -> list[Row]:
    """Measures models on the same targets.

    Dialogues are resampled, the same ones for every model, so a difference is paired. Several runs of a model are
    repeated measures of the same targets: each resample takes the mean over the runs, and the interval says how sure
    the mean of these very runs is for other dialogues; how much runs differ is told by `Row.seeds`.

    Args:
      models: name -> one or several runs' prediction rows; the order of the first run is the file order.
      corpus: its name.
      split: its name.
      pairs: (one, other) of the models whose difference one - other is wanted.
      catalogue: see `measures`.
      measure: what is measured.
      resamples: bootstrap resamples, and permutations of a test.
      seed: of both.
      auc_batch: see `measures`.
      tested: (stratum, metric) -> whether its differences are tested, by a paired randomisation test; None tests none.
        Holm's correction is over all tests of all pairs, so choose what matters, before looking.

    Raises:
      ValueError: the models do not have the same targets.
    """
    if not any(runs for runs in models.values()):
        return []
    flat = align({_run_name(model, i, runs): run for model, runs in models.items() for i, run in enumerate(runs)})
    first = next(iter(flat.values()))
    draws = resample([row.conversation for row in first], resamples, seed).draws
    found: dict[str, Measures] = {}
    of_runs: dict[str, list[Measures]] = {}
    for model, runs in models.items():
        of_runs[model] = [measure(flat[_run_name(model, i, runs)], catalogue, auc_batch) for i in range(len(runs))]
        shared = [key for key in of_runs[model][0] if all(key in run for run in of_runs[model])]
        found[model] = {key: averaged([run[key] for run in of_runs[model]]) for key in shared}
    samples = {model: resampled(keys, draws) for model, keys in found.items()}

    made = []
    for model, keys in found.items():
        for key, one in keys.items():
            seeds = tuple(run[key].value for run in of_runs[model]) if len(of_runs[model]) > 1 else ()
            low, high = interval(samples[model][key]) or (None, None)
            made.append(Row(model, corpus, split, *key, one.value, low, high, one.n, seeds=seeds))
    exchanged = swaps(draws.shape[1], resamples if tested else 0, seed)
    differences = []
    for one, other in pairs:
        for key in (key for key in found[one] if key in found[other]):
            ours, theirs = found[one][key], found[other][key]
            low, high = interval(samples[one][key] - samples[other][key]) or (None, None)
            p = randomisation(ours, theirs, exchanged) if tested and tested(*key) else None
            value = ours.value - theirs.value
            differences.append(Row(f"{one} - {other}", corpus, split, *key, value, low, high, ours.n, p))
    adjusted = iter(holm([row.p for row in differences if row.p is not None]).tolist())
    return made + [row if row.p is None else dataclasses.replace(row, p_holm=next(adjusted)) for row in differences]


def _run_name(model: str, run: int, runs: Sequence) -> str:
    return model if len(runs) == 1 else f"{model} ({run + 1} of {len(runs)})"
