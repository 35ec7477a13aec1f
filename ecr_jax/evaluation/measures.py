"""The ranking metrics of one model's prediction rows, by stratum, in a form that can be resampled by dialogue.

`measures` is what is measured by default, `published_measures` what the published evaluator measures. `rows` turns
either into the rows of a report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecr_jax import metrics
from ecr_jax.data.schema import Feedback
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.predictions import Prediction
from ecr_jax.evaluation.significance import BatchAuc, Coverage, Mean, Measure, PooledAuc, number_dialogues

CUTS = (1, 10, 50)
"""The k of every metric @k."""

PUBLISHED = "published/"
"""What the names of the published protocol's metrics begin with."""

Measures = dict[tuple[str, str], Measure]
"""(stratum, metric) -> measure, of one model's run."""

_FEEDBACK_CODES = {Feedback.LIKE: metrics.LIKE, Feedback.DISLIKE: metrics.DISLIKE, Feedback.UNSAID: metrics.UNSAID}


@dataclass(frozen=True)
class _TargetArrays:
    """Prediction rows as arrays over targets [n]; `turn` and `dialogue` are numbers from 0."""

    rank: np.ndarray
    score: np.ndarray
    feedback: np.ndarray
    repeated: np.ndarray
    target: np.ndarray
    turn: np.ndarray
    dialogue: np.ndarray
    dialogues: int

    @classmethod
    def of(cls, rows: Sequence[Prediction]) -> _TargetArrays:
        turns: dict[tuple[str, int], int] = {}
        return cls(
            np.array([row.rank for row in rows]),
            np.array([row.score for row in rows]),
            np.array([_FEEDBACK_CODES[row.feedback] for row in rows]),
            np.array([row.repeated for row in rows]),
            np.array([row.target for row in rows]),
            np.array([turns.setdefault((row.conversation, row.turn), len(turns)) for row in rows]),
            *number_dialogues([row.conversation for row in rows]),
        )

    def mean(self, values: np.ndarray, targets: np.ndarray) -> Mean:
        """The mean of values [m], one for each of `targets`, int [m]."""
        return Mean.of(values, self.dialogue[targets], self.dialogues)


def strata(rows: Sequence[Prediction], catalogue: Catalogue | None = None) -> dict[str, np.ndarray]:
    """Which targets each stratum holds, bool [n] each.

    `all`; `new` and `repeated`: not yet or already mentioned in the dialogue; `like`, `dislike`, `unsaid`: the seeker's
    feedback; with a catalogue `head`, `tail` and `cold`: by how often training recommends the item (`Catalogue.head`).
    """
    return _strata(_TargetArrays.of(rows), catalogue)


def _strata(arrays: _TargetArrays, catalogue: Catalogue | None) -> dict[str, np.ndarray]:
    feedback = arrays.feedback
    members = {
        "all": np.ones(len(feedback), bool),
        "new": ~arrays.repeated,
        "repeated": arrays.repeated,
        "like": feedback == metrics.LIKE,
        "dislike": feedback == metrics.DISLIKE,
        "unsaid": feedback == metrics.UNSAID,
    }
    if catalogue is not None:
        count, head = catalogue.count(arrays.target), catalogue.head()
        members |= {"head": count >= head, "tail": (0 < count) & (count < head), "cold": count == 0}
    return members


def measures(rows: Sequence[Prediction], catalogue: Catalogue | None = None, auc_batch: int = 32) -> Measures:
    """What is measured of one run by default; a metric that is not defined is left out.

    For each stratum and cut k in 1, 10, 50:

    - recall@k, mrr@k, ndcg@k over its targets, hit@k over its turns (a turn with several targets is hit if any is among
      the first k); outside of the strata by feedback also recall_true@k over liked and dislike@k over disliked targets;
    - auc_batch (as published), auc_pooled, auc_dialogue: liked against disliked targets by their scores; and for a
      model that predicts the odds of being liked, auc_pooled:PART and auc_dialogue:PART by each part of them alone
      (`Prediction.liking`).

    And of all targets, with a catalogue and where the rows name enough items: coverage@k, the share of the candidates
    that are among the first k of some turn; popularity_lift@k, the mean over targets of how much the mean
    log(1 + training count) of the first k exceeds that of the target. Above zero, the recommended items are more
    popular than those that the recommenders chose.

    Args:
      rows: of one model, in file order (auc_batch depends on it).
      catalogue: of their corpus, or None to leave out what needs it.
      auc_batch: targets a batch of the published AUC.
    """
    arrays = _TargetArrays.of(rows)
    measured: Measures = {}
    members = _strata(arrays, catalogue)
    parts = rows[0].liking if rows else ()
    liking = {part: np.array([row.liking[part] for row in rows]) for part in parts}
    for stratum, in_stratum in members.items():
        by_feedback = stratum in ("like", "dislike", "unsaid")
        targets = np.flatnonzero(in_stratum)
        rank_metrics = {
            "recall": (metrics.recall_at, targets),
            "mrr": (metrics.mrr_at, targets),
            "ndcg": (metrics.ndcg_at, targets),
        }
        if not by_feedback:
            rank_metrics["recall_true"] = metrics.recall_at, np.flatnonzero(in_stratum & members["like"])
            rank_metrics["dislike"] = metrics.recall_at, np.flatnonzero(in_stratum & members["dislike"])
        for name, (metric, counted) in rank_metrics.items():
            for k in CUTS:
                measured[stratum, f"{name}@{k}"] = arrays.mean(metric(arrays.rank[counted], k), counted)
        for k in CUTS:
            measured[stratum, f"hit@{k}"] = _hit_turns(arrays, targets, k)
        if not by_feedback:
            score, feedback, dialogue = arrays.score[targets], arrays.feedback[targets], arrays.dialogue[targets]
            measured[stratum, "auc_batch"] = BatchAuc(score, feedback, dialogue, arrays.dialogues, auc_batch)
            for suffix, values in {"": score, **{f":{part}": of[targets] for part, of in liking.items()}}.items():
                measured[stratum, f"auc_pooled{suffix}"] = PooledAuc(values, feedback, dialogue, arrays.dialogues)
                liked, _, wins = metrics.like_dislike_pairs(values, feedback, dialogue)
                measured[stratum, f"auc_dialogue{suffix}"] = Mean.of(wins, dialogue[liked], arrays.dialogues)
    if catalogue is not None:
        measured |= _coverage_and_popularity(arrays, rows, catalogue)
    return _defined(measured)


def published_measures(rows: Sequence[Prediction], catalogue: Catalogue | None = None, auc_batch: int = 32) -> Measures:
    """What the published evaluator measures, over all instances.

    recall, mrr, ndcg @k over all instances, recall_true@k over liked ones; `auc` within batches, then the mean over
    batches with both classes; `mse` of the score against 1 for liked and 0 for disliked ones, `mse_neg` over disliked
    ones.

    Args:
      rows: one a mention in file order, of the published protocol.
      catalogue: not needed.
      auc_batch: instances a batch (ECR: 32).

    Reference: ECR 5.2 and its released evaluator.
    """
    arrays = _TargetArrays.of(rows)
    instances = np.arange(len(rows))
    liked = np.flatnonzero(arrays.feedback == metrics.LIKE)
    measured: dict[str, Measure] = {}
    for k in CUTS:
        for name, metric in (("recall", metrics.recall_at), ("mrr", metrics.mrr_at), ("ndcg", metrics.ndcg_at)):
            measured[f"{name}@{k}"] = arrays.mean(metric(arrays.rank, k), instances)
        measured[f"recall_true@{k}"] = arrays.mean(metrics.recall_at(arrays.rank[liked], k), liked)
    measured["auc"] = BatchAuc(arrays.score, arrays.feedback, arrays.dialogue, arrays.dialogues, auc_batch)
    error = (arrays.score - arrays.feedback) ** 2
    for name, counted in (
        ("mse", arrays.feedback != metrics.UNSAID),
        ("mse_neg", arrays.feedback == metrics.DISLIKE),
    ):
        measured[name] = arrays.mean(error[counted], np.flatnonzero(counted))
    return _defined({("all", PUBLISHED + name): measure for name, measure in measured.items()})


def _defined(measured: Measures) -> Measures:
    return {key: measure for key, measure in measured.items() if not np.isnan(measure.value)}


def _hit_turns(arrays: _TargetArrays, targets: np.ndarray, k: int) -> Mean:
    """The share of the turns of `targets` that have one of them among the first k."""
    _, first, turn = np.unique(arrays.turn[targets], return_index=True, return_inverse=True)
    hit = np.zeros(len(first))
    np.maximum.at(hit, turn, metrics.recall_at(arrays.rank[targets], k))
    return arrays.mean(hit, targets[first])


def _coverage_and_popularity(arrays: _TargetArrays, rows: Sequence[Prediction], catalogue: Catalogue) -> Measures:
    """Coverage and popularity of the recommended items; see `measures`."""
    measured: Measures = {}
    depth, items = min((len(row.top) for row in rows), default=0), len(catalogue.items)
    top = np.array([row.top[:depth] for row in rows], np.int64)  # [n, depth]
    top_popularity = np.log1p(catalogue.count(top))
    target_popularity = np.log1p(catalogue.count(arrays.target))
    columns = np.searchsorted(catalogue.items, top)
    for k in CUTS:
        if depth < min(k, items):
            continue
        recommended = np.zeros((arrays.dialogues, items), bool)
        recommended[arrays.dialogue[:, None], columns[:, :k]] = True
        measured["all", f"coverage@{k}"] = Coverage(recommended)
        lift = top_popularity[:, :k].mean(axis=1) - target_popularity
        measured["all", f"popularity_lift@{k}"] = arrays.mean(lift, np.arange(len(rows)))
    return measured
