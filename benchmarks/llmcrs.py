"""LLMCRS on a corpus: a manager of sub-tasks, warm-started and refined by what it earns, beside what manages nothing.

    python -m benchmarks.llmcrs [--config gorecdial:llmcrs] [--prepared prepared] [--runs runs] [--seeds 0 1 2]
        [--dialogues 100] [--json FILE] [--page FILE]

Trains the stages `manager` and, for each seed, `rlpf` where they are not trained (runs NAME and NAME_rlpf_SEED). Then
every reply of evenly spaced dialogues of a split is managed, greedily, under two protocols:

- `given`: the turn's own sub-task is carried out; the manager chooses its arguments, and only a turn that recommends
  counts in the ranking;
- `end_to_end`: the manager chooses. A turn that recommends a film, and on which the manager does not, is a miss.

Intervals are bootstraps over dialogues, those of differences paired. Rows of `rlpf` are means over the seeds.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro
from rich.console import Console

from benchmarks.tables import insert
from ecr_jax import config as configs
from ecr_jax import files, stages
from ecr_jax.config import Config, registry
from ecr_jax.data.schema import Role, Split
from ecr_jax.evaluation import significance, text_metrics
from ecr_jax.features.instances import evenly_spaced
from ecr_jax.manager.categories import named_categories
from ecr_jax.manager.labels import ManagedTurn
from ecr_jax.manager.schema import ANY, RECOMMEND, Choice
from ecr_jax.metrics import mrr_at, ndcg_at, recall_at
from ecr_jax.models.lm.language_model import Params
from ecr_jax.runs import machine
from ecr_jax.runs.context import ExperimentContext, open_experiment
from ecr_jax.stages import manager, rlpf, tuning
from ecr_jax.stages.manager import Policy
from ecr_jax.stages.outcomes import Outcomes, by_sub_task

DEPTHS = (1, 10, 50)
_READ_AT_ONCE = 16

RANKING = {"hit": recall_at, "mrr": mrr_at, "ndcg": ndcg_at}


@dataclass(frozen=True)
class System:
    """The choices of a system in n turns, int [n] each: where the sub-task is given, which is read of turns with a
    target alone, and where it is not."""

    given: np.ndarray
    end_to_end: np.ndarray


@dataclass(frozen=True)
class Measured:
    """Values of one system by metric: of each turn, or of each target turn. Several runs of a system are averaged."""

    per_turn: Mapping[str, np.ndarray]
    per_target: Mapping[str, np.ndarray]
    of_replies: Mapping[str, float]


def greedy(policy: Policy, params: Params, turns: Sequence[ManagedTurn], allowed: np.ndarray) -> np.ndarray:
    """The most probable tokens' choices, int [n], among the allowed ones, bool [n, N]."""
    outputs = np.zeros(len(turns), int)
    order = np.argsort([len(policy.prompt(turn.before)) for turn in turns], kind="stable")
    for start in range(0, len(turns), _READ_AT_ONCE):
        rows = order[start : start + _READ_AT_ONCE]
        padded = np.concatenate([rows, np.repeat(rows[-1:], _READ_AT_ONCE - len(rows))])
        prompts = policy.prompts([turns[row].before for row in padded], allowed[padded])
        outputs[rows] = np.asarray(policy.sample(params, policy.frozen, prompts, None).outputs)[: len(rows)]
    return outputs


def managed(policy: Policy, params: Params, turns: Sequence[ManagedTurn], found: Outcomes) -> System:
    """What a manager chooses. Where the sub-task is given, it is asked on turns that recommend a film alone."""
    given, targets = np.zeros(len(turns), int), np.flatnonzero(found.has_target)
    recommends = by_sub_task(policy.choices)[RECOMMEND]
    asked = np.broadcast_to(recommends, (len(targets), len(recommends)))
    given[targets] = greedy(policy, params, [turns[row] for row in targets], asked)
    return System(given, greedy(policy, params, turns, np.ones_like(found.right)))


def constant(policy: Policy, categories: Sequence[str | None]) -> System:
    """Always to recommend, with a category for each turn."""
    places = {str(choice): place for place, choice in enumerate(policy.choices)}
    recommend = np.array([places[str(Choice(RECOMMEND, (("category", name or ANY),)))] for name in categories])
    return System(recommend, recommend)


def oracle(policy: Policy, found: Outcomes) -> System:
    """Always to recommend, with the category that ranks the target best: what categories could bring."""
    recommend = np.flatnonzero(by_sub_task(policy.choices)[RECOMMEND])
    best = recommend[found.rank[:, recommend].argmin(axis=1)]
    return System(best, best)


def measure(system: System, turns: Sequence[ManagedTurn], found: Outcomes, policy: Policy) -> Measured:
    """The metrics of a system."""
    rows, targets = np.arange(len(turns)), found.has_target
    recommends = by_sub_task(policy.choices)[RECOMMEND]
    replies = [found.replies[row][system.end_to_end[row]] for row in rows]
    bleu = text_metrics.bleu_scores(replies, found.references)
    per_turn = {
        "accuracy": found.right[rows, system.end_to_end].astype(float),
        "recommends": recommends[system.end_to_end].astype(float),
        **{f"bleu@{order}": bleu[:, order - 1] for order in text_metrics.ORDERS},
    }
    ranks = {"given": found.rank[rows, system.given], "end_to_end": found.rank[rows, system.end_to_end]}
    per_target = {
        f"{name}@{k} {protocol}": function(rank[targets], k)
        for protocol, rank in ranks.items()
        for name, function in RANKING.items()
        for k in DEPTHS
    }
    truth = [turn.label.choice.sub_task for turn in turns]
    macro = manager.measure(truth, [policy.choices[output].sub_task for output in system.end_to_end])["macro_f1"]
    distinct = {f"distinct@{order}": text_metrics.distinct(replies, order) for order in (1, 2)}
    equal = Counter(replies).most_common(1)[0][1] / len(replies)
    return Measured(per_turn, per_target, {"macro_f1": macro, **distinct, "most frequent reply": equal})


def averaged(runs: Sequence[Measured]) -> Measured:
    """The mean of several runs, turn by turn."""

    def mean(name: str) -> dict:
        parts = [getattr(run, name) for run in runs]
        return {metric: sum(part[metric] for part in parts) / len(parts) for metric in parts[0]}

    return Measured(mean("per_turn"), mean("per_target"), mean("of_replies"))


def rows_of(
    systems: Mapping[str, Measured], turns: Sequence[ManagedTurn], found: Outcomes, resamples: int, against: str
) -> list[dict]:
    """Rows {model, metric, value, low, high, n}; "MODEL - AGAINST" are paired differences."""
    dialogues = np.array([turn.dialogue.id for turn in turns])
    rows = []
    for kind, names in (("per_turn", dialogues), ("per_target", dialogues[found.has_target])):
        draws = significance.resample(names.tolist(), resamples)

        def row(model: str, metric: str, values: np.ndarray, draws=draws) -> dict:
            low, high = significance.interval(draws.means(values[:, None])[:, 0]) or (None, None)
            return {"model": model, "metric": metric, "value": float(values.mean()), "low": low, "high": high,
                    "n": len(values)}  # fmt: skip

        for model, measured in systems.items():
            values = getattr(measured, kind)
            rows += [row(model, metric, value) for metric, value in values.items()]
            if model != against:
                base = getattr(systems[against], kind)
                rows += [row(f"{model} - {against}", metric, values[metric] - base[metric]) for metric in values]
    for model, measured in systems.items():
        rows += [
            {"model": model, "metric": metric, "value": value, "low": None, "high": None, "n": len(turns)}
            for metric, value in measured.of_replies.items()
        ]
    return rows


def of_seed(config: Config, seed: int, **changes) -> Config:
    """The run of one seed of the stage `rlpf`; it links the manager."""
    train = dataclasses.replace(config.rlpf.train, seed=seed)
    suffix = "".join(f"_{name}" for name in changes)
    return dataclasses.replace(
        config,
        name=f"{config.name}_rlpf{suffix}_{seed}",
        rlpf=dataclasses.replace(config.rlpf, train=train, **changes),
    )


def trained(experiment: ExperimentContext, stage: str) -> ExperimentContext:
    """The experiment, with a stage trained."""
    if not stages.is_complete(experiment, registry.find(stage)):
        stages.train(experiment.config, stage, experiment=experiment)
    return experiment


INTRODUCTION = """A manager chooses the sub-task of a reply and its arguments; experts carry it out (LLMCRS, arXiv
2308.06212). It is a LoRA adapter, warm-started on the sub-tasks of the training turns and then refined by what its
choices earn (RLPF, see [how](../rlpf.md)). All systems share one frozen recommender, `nearest contexts`, whose list a
category re-weights; the films that were recommended before are taken out. A reply is the plain sentence of the plan:
no language model writes it, so BLEU and Distinct tell apart choices and not writers.

`given`: a turn that recommends is known to, and the manager chooses the category. `end_to_end`: the manager chooses
the sub-task too; a turn that recommends a film, and on which it does not, is a miss. "expert alone" recommends in
every reply, without a category; "category named last" is the genre that the seeker named last; the oracle takes the
category that ranks the target best, which is the most that categories can bring. Rows of RLPF are means over the
seeds, and "A - B" are paired differences. In brackets: 95 % intervals, by a bootstrap over dialogues. BLEU is of one
order, not smoothed and not cumulative, of words between spaces; Distinct is a share of all n-grams; `most frequent
reply` is the share of the most frequent one.

The paper's ablations: w/o M and w/o RL are rows of systems. w/o E and w/o SG are RLPF's choices again: without experts
films are ranked by the similarity of their descriptions with the dialogue, and replies state no facts
(`rlpf.recommender=similarity`, `rlpf.reply=bare`); without the structured summary a reply is what the expert found,
in its own words (`rlpf.reply=outcome`). The trained manager's prompt has neither schema nor demonstrations (w/o SI and
DI); the variants `gorecdial:llmcrs_si` and `gorecdial:llmcrs_di` have one of them each, measured by `--config`.

The paper's LLMCRS (LLaMA) prints HIT@1/10/50 of .064/.303/.572 on another split of GoRecDial and other items. Those
rows are no yardstick: in its Tables 4 and 5 no distribution of the targets' ranks has the printed HIT, MRR and NDCG
together. From k = 10 to 50 its Flan-T5 row gains .2692 hits and .0248 of MRR, but a hit at rank 11 or later adds at
most 1/11 to MRR, so .0245."""

WITHOUT = {
    "RLPF, w/o E": {"recommender": "similarity", "reply": "bare"},
    "RLPF, w/o SG": {"reply": "outcome"},
}
"""Ablations of what carries the choices out: changed settings of `rlpf`, by the name of the row."""

COLUMNS = {
    "Ranking of the recommending turns, `given` the sub-task": [f"{m}@{k} given" for m in RANKING for k in DEPTHS],
    "Ranking of the recommending turns, `end_to_end`": [f"{m}@{k} end_to_end" for m in RANKING for k in DEPTHS],
    "Detection of the sub-task": ["accuracy", "macro_f1", "recommends"],
    "Replies, `end_to_end`": [
        "bleu@1",
        "bleu@2",
        "bleu@3",
        "bleu@4",
        "distinct@1",
        "distinct@2",
        "most frequent reply",
    ],
}
"""The tables of the page, and their columns."""


def tables(rows: Sequence[Mapping], models: Sequence[str]) -> str:
    """Markdown tables; differences follow the models."""
    cells = {(row["model"], row["metric"]): row for row in rows}
    listed = [*models, *dict.fromkeys(row["model"] for row in rows if row["model"] not in models)]
    parts = []
    for title, metrics in COLUMNS.items():
        lines = [f"| system | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
        for model in listed:
            values = [cells.get((model, metric)) for metric in metrics]
            if any(values):
                lines.append(f"| {model} | {' | '.join(map(_cell, values))} |")
        parts.append(f"## {title}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _cell(row: Mapping | None) -> str:
    if row is None:
        return ""
    interval = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{interval}"


def main(
    config: str = "gorecdial:llmcrs",
    prepared: Path = Path("prepared"),
    runs: Path = Path("runs"),
    seeds: tuple[int, ...] = (0, 1, 2),
    rewards: tuple[str, ...] = (),
    split: Literal["valid", "test"] = "test",
    dialogues: int = 100,
    json: Path | None = None,
    page: Path | None = None,
) -> None:
    """Measures the manager before and after its refinement.

    Args:
      config: an experiment whose corpus `ecr prepare` prepared.
      prepared: the folder of prepared corpora.
      runs: the folder of runs.
      seeds: of the refinement.
      rewards: other rewards, each of which refines the manager once more, with the first seed.
      split: what is measured.
      dialogues: most dialogues of the split, evenly spaced.
      json: file to write the rows to, one JSON object a line.
      page: Markdown page, between whose marks `<!-- llmcrs -->` and `<!-- /llmcrs -->` the tables are put.
    """
    settings = dataclasses.replace(configs.load(config), prepared=prepared, runs=runs)
    experiment = trained(open_experiment(settings), "manager")
    warm = rlpf.warm_started(experiment)
    chosen = {c.id for c in evenly_spaced(experiment.corpus.split(Split(split)), dialogues)}
    turns = [turn for turn in manager.turns_of(experiment, Split(split)) if turn.dialogue.id in chosen]
    found = rlpf.outcomes_of(experiment, warm, turns, Split(split), rlpf.recommender(experiment))

    model, _ = manager.language_model(experiment)
    untouched = tuning.initial(jax.random.key(0), model, "adapter", settings.manager.adapter)
    said = [named_categories([t for t in turn.before if t.role == Role.SEEKER], warm.graph) for turn in turns]
    known = {choice.argument("category") for choice in warm.choices}
    last = [next((name for name in reversed(names) if name in known), None) for names in said]
    systems = {
        "expert alone (w/o M)": constant(warm, [None] * len(turns)),
        "expert, category named last (w/o M)": constant(warm, last),
        "expert, best category (oracle)": oracle(warm, found),
        "warm start (w/o RL)": managed(warm, untouched, turns, found),
    }
    measured = {name: measure(system, turns, found, warm) for name, system in systems.items()}
    variants: dict[str, list[Config]] = {"RLPF": [of_seed(settings, seed) for seed in seeds]}
    for number, reward in enumerate(rewards):
        own = of_seed(settings, seeds[0], reward=reward)
        variants[f"RLPF, {reward}"] = [dataclasses.replace(own, name=f"{own.name}_{number}")]
    for name, each in variants.items():
        chosen_by: list[System] = []
        for one in each:
            own_manager = one.stage_folder("manager")
            if not own_manager.exists():
                files.link(settings.stage_folder("manager"), own_manager)
            adapter = trained(experiment.with_config(one), "rlpf").params("rlpf")
            chosen_by.append(managed(warm, adapter, turns, found))
        measured[name] = averaged([measure(system, turns, found, warm) for system in chosen_by])
        for row, changes in WITHOUT.items() if name == "RLPF" else ():
            other = experiment.with_config(
                dataclasses.replace(settings, rlpf=dataclasses.replace(settings.rlpf, **changes))
            )
            outcome = rlpf.outcomes_of(other, warm, turns, Split(split), rlpf.recommender(other))
            measured[row] = averaged([measure(system, turns, outcome, warm) for system in chosen_by])
    rows = rows_of(measured, turns, found, settings.evaluation.resamples, "warm start (w/o RL)")
    title = (
        f"{settings.corpus.label}, {split}: {len(turns)} replies of {len(chosen)} dialogues; "
        f"{found.has_target.sum()} of them recommend a film"
    )
    text = tables(rows, [*measured])
    Console().print(f"{title}\n\n{text}", markup=False)
    if json is not None:
        files.write_jsonl(json, rows)
    if page is not None:
        command = (
            f"python -m benchmarks.llmcrs --config {config} --seeds {' '.join(map(str, seeds))} --dialogues {dialogues}"
        )
        command += "".join(f' --rewards "{reward}"' for reward in rewards)
        source = f"`{command}`, commit {machine.commit()}, {machine.hardware()}."
        insert(f"{INTRODUCTION}\n\n{title}; seeds {seeds}.\n\n{text}\n\n{source}", page, "llmcrs")


if __name__ == "__main__":
    tyro.cli(main)
