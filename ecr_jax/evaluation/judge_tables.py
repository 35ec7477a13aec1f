"""Tables of judgements, by models and by people alike: mean scores, win rates, agreement, each with intervals."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ecr_jax.evaluation.agreement import cohen_kappa, krippendorff_alpha, ranks
from ecr_jax.evaluation.rows import ReportRow
from ecr_jax.evaluation.significance import Mean, holm, interval, number_dialogues, randomisation, resample, swaps
from ecr_jax.evaluation.system_replies import Place, SystemReply
from ecr_jax.files import read_jsonl_rows

MEASURES = (
    "emotional_intensity",
    "emotional_persuasiveness",
    "logic_persuasiveness",
    "informativeness",
    "lifelikeness",
)
"""The paper's five measures (ECR 5.2)."""

STRATA: dict[str, Callable[[SystemReply], bool]] = {
    "all": lambda reply: True,
    "seen": lambda reply: reply.seen is True,
    "unseen": lambda reply: reply.seen is False,
}
"""All replies, and those whose first film has reviews in the train split or has none (ECR 6.4)."""


_OF = ("judged", "replies")
"""Corpus and split of the rows."""


@dataclass(frozen=True)
class Score:
    """A judge's scores of a reply in the order of `MEASURES`; None, whole or one by one, where they are missing."""

    judge: str
    conversation: str
    turn: int
    system: str
    values: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Preference:
    """What a comparison is worth to the system shown first: 1, 0.5 or 0 by measure; None where it is missing."""

    judge: str
    conversation: str
    turn: int
    first: str
    second: str
    values: tuple[float, ...] | None


def read_scores(path: Path) -> list[Score]:
    """Reads the scores.jsonl of `ecr judge`. Raises ValueError where it is none."""
    try:
        return [
            Score(**{**row, "values": None if row["values"] is None else tuple(row["values"])})
            for row in read_jsonl_rows(path)
        ]
    except (TypeError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no scores.jsonl of `ecr judge`: {error}") from error


def score_rows(
    scores: Sequence[Score], replies: Sequence[SystemReply], *, resamples: int = 1000, seed: int = 0
) -> list[ReportRow]:
    """Mean scores, differences of the first system to each other one, missing scores, and the judges' agreement.

    A reply's score is the mean over the judges that gave one. Intervals resample whole dialogues. Differences are
    tested by a paired randomisation test over dialogues, with Holm's correction over all of them.

    Args:
      scores: of any judges; a judge need not have scored everything.
      replies: what was judged.
      resamples, seed: of the bootstrap and the test.
    """
    systems = tuple(dict.fromkeys(reply.system for reply in replies))
    judges = tuple(dict.fromkeys(score.judge for score in scores))
    table = _score_table(scores, judges, replies)  # [J, n, 5]
    index, size = number_dialogues([reply.conversation for reply in replies])
    draws = resample([reply.conversation for reply in replies], resamples, seed).draws
    rows = []
    of_models = {"": np.arange(len(judges))}
    if len(judges) > 1:
        of_models |= {f" by {judge}": np.array([j]) for j, judge in enumerate(judges)}
    for suffix, chosen in of_models.items():
        mean = _mean_over(table[chosen], axis=0)  # [n, 5]
        for system, (stratum, holds) in itertools.product(systems, STRATA.items()):
            at = np.array([i for i, reply in enumerate(replies) if reply.system == system and holds(reply)], int)
            for m, measure in enumerate(MEASURES):
                row = _mean_row(f"{system}{suffix}", stratum, measure, mean[at, m], index[at], size, draws)
                rows += [row] if row else []
    rows += _differences(_mean_over(table, axis=0), replies, systems, resamples, seed)
    for system in systems:
        at = [i for i, reply in enumerate(replies) if reply.system == system]
        missing = np.isnan(table[:, at]).mean(axis=(0, 2))
        row = _mean_row(system, "all", "missing_scores", missing, index[at], size, draws)
        rows += [row] if row else []
    return rows + _agreement(table, judges, replies, systems)


def preference_rows(
    preferences: Sequence[Preference], replies: Sequence[SystemReply], *, resamples: int = 1000, seed: int = 0
) -> list[ReportRow]:
    """How often each system is preferred to each other one, over both orders and all judges, ties as half.

    A comparison counts only where the judge answered it in both orders. `same_in_both_orders` is the share of
    measures on which a judge said the same in both: the lower it is, the more the order decided.
    """
    if not preferences:
        return []
    of = {(reply.place, reply.system): reply for reply in replies}
    found: dict[tuple[str, Place, str, str], tuple[float, ...] | None] = {
        (p.judge, (p.conversation, p.turn), p.first, p.second): p.values for p in preferences
    }
    systems = tuple(dict.fromkeys(reply.system for reply in replies))
    places = tuple(dict.fromkeys(reply.place for reply in replies))
    index, size = number_dialogues([place[0] for place in places])
    draws = resample([place[0] for place in places], resamples, seed).draws
    judges = tuple(dict.fromkeys(p.judge for p in preferences))
    rows = []
    for a, b in itertools.combinations(systems, 2):
        wins = np.full((len(judges), len(places), len(MEASURES)), np.nan)
        same = np.full_like(wins, np.nan)
        for (j, judge), (i, place) in itertools.product(enumerate(judges), enumerate(places)):
            forth, back = found.get((judge, place, a, b)), found.get((judge, place, b, a))
            if forth is not None and back is not None:
                wins[j, i] = (np.array(forth) + 1 - np.array(back)) / 2
                same[j, i] = np.array(forth) == 1 - np.array(back)
        mean, agreed = _mean_over(wins, axis=0), _mean_over(same.mean(axis=2), axis=0)
        for stratum, holds in STRATA.items():
            at = np.array([i for i, place in enumerate(places) if holds(of[place, a])], int)
            for m, measure in enumerate(MEASURES):
                name = f"{a} over {b}"
                row = _mean_row(name, stratum, f"win_rate_{measure}", mean[at, m], index[at], size, draws)
                rows += [row] if row else []
        row = _mean_row(f"{a} over {b}", "all", "same_in_both_orders", agreed, index, size, draws)
        rows += [row] if row else []
    return rows


def _score_table(scores: Iterable[Score], judges: Sequence[str], replies: Sequence[SystemReply]) -> np.ndarray:
    """float [judges, replies, measures], NaN where a score is missing."""
    row_of = {(reply.place, reply.system): i for i, reply in enumerate(replies)}
    table = np.full((len(judges), len(replies), len(MEASURES)), np.nan)
    for score in scores:
        i = row_of.get(((score.conversation, score.turn), score.system))
        if i is not None and score.values is not None:
            table[judges.index(score.judge), i] = [np.nan if value is None else value for value in score.values]
    return table


def _mean_over(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of what is there, NaN where nothing is."""
    there = ~np.isnan(values)
    count = there.sum(axis=axis)
    total = np.where(there, values, 0).sum(axis=axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _mean_row(
    model: str, stratum: str, metric: str, values: np.ndarray, dialogue: np.ndarray, size: int, draws: np.ndarray
) -> ReportRow | None:
    """The mean of values [m] that are there, with its interval; None where none is."""
    there = ~np.isnan(values)
    if not there.any():
        return None
    mean = Mean.of(values[there], dialogue[there], size)
    low, high = interval(mean.resampled(draws)) or (None, None)
    return ReportRow(model, *_OF, stratum, metric, mean.value, low, high, mean.n)


def _differences(
    scores: np.ndarray, replies: Sequence[SystemReply], systems: Sequence[str], resamples: int, seed: int
) -> list[ReportRow]:
    """The first system less each other one, on the replies to the same places that both have scores of."""
    places = tuple(dict.fromkeys(reply.place for reply in replies))
    by_system = {system: np.full((len(places), len(MEASURES)), np.nan) for system in systems}
    for reply, row in zip(replies, scores, strict=True):
        by_system[reply.system][places.index(reply.place)] = row
    index, size = number_dialogues([place[0] for place in places])
    draws, exchanged = resample([place[0] for place in places], resamples, seed).draws, swaps(size, resamples, seed)
    rows = []
    for other in systems[1:]:
        for m, measure in enumerate(MEASURES):
            ours, theirs = by_system[systems[0]][:, m], by_system[other][:, m]
            both = ~np.isnan(ours) & ~np.isnan(theirs)
            if not both.any():
                continue
            one, two = (Mean.of(values[both], index[both], size) for values in (ours, theirs))
            low, high = interval(one.resampled(draws) - two.resampled(draws)) or (None, None)
            p = randomisation(one, two, exchanged)
            name, value = f"{systems[0]} - {other}", one.value - two.value
            rows.append(ReportRow(name, *_OF, "all", measure, value, low, high, one.n, p))
    adjusted = holm([row.p for row in rows if row.p is not None])
    return [replace(row, p_holm=float(value)) for row, value in zip(rows, adjusted, strict=True)]


def _agreement(
    table: np.ndarray, judges: Sequence[str], replies: Sequence[SystemReply], systems: Sequence[str]
) -> list[ReportRow]:
    """For every two judges Cohen's kappa of the systems' ranks within each place, linear weights (ECR 6.2 ranks, too,
    since judges use the scale differently), and for all of them Krippendorff's alpha of the scores, interval level."""
    if len(judges) < 2:
        return []
    at_place: dict[Place, dict[str, int]] = defaultdict(dict)
    for i, reply in enumerate(replies):
        at_place[reply.place][reply.system] = i
    whole = np.array(
        [[group[system] for system in systems] for group in at_place.values() if len(group) == len(systems)]
    )
    rows = []
    for m, measure in enumerate(MEASURES):
        if len(systems) > 1 and len(whole):
            scores = table[:, whole, m]  # [J, places, S]
            for a, b in itertools.combinations(range(len(judges)), 2):
                both = ~np.isnan(scores[[a, b]]).any(axis=(0, 2))
                kappa = cohen_kappa(*(ranks(scores[j][both]).ravel() for j in (a, b)), weights="linear")
                name = f"{judges[a]} with {judges[b]}"
                rows.append(ReportRow(name, *_OF, "all", f"kappa_{measure}", kappa, None, None, int(both.sum())))
        alpha = krippendorff_alpha(table[:, :, m])
        units = int(((~np.isnan(table[:, :, m])).sum(axis=0) > 1).sum())
        rows.append(ReportRow("all judges", *_OF, "all", f"alpha_{measure}", alpha, None, None, units))
    return [row for row in rows if not np.isnan(row.value)]
