"""`ecr simulate`: simulated seekers talk with a run and with baselines, and the tables of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from ecr_jax.data import jsonl
from ecr_jax.data.schema import Split
from ecr_jax.evaluation import provenance, report, terminal
from ecr_jax.evaluation.protocol import PROTOCOLS
from ecr_jax.evaluation.report import Report
from ecr_jax.evaluation.simulation import dialogue as dialogues
from ecr_jax.evaluation.simulation import llm_seeker
from ecr_jax.evaluation.simulation.dialogue import Simulated
from ecr_jax.evaluation.simulation.goals import Goal, draw_goals
from ecr_jax.evaluation.simulation.hold import Seeker, hold
from ecr_jax.evaluation.simulation.llm_seeker import LlmSeeker
from ecr_jax.evaluation.simulation.measures import simulation_rows
from ecr_jax.evaluation.simulation.seeker import RuleSeeker
from ecr_jax.evaluation.simulation.systems import AgentSystem, PopularitySystem, RankerSystem, System
from ecr_jax.files import remove, write_json, write_jsonl
from ecr_jax.inference.agent import Agent
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.llm.client import Client, Usage

_VERSION = 1
"""Of the seeker by rule; dialogues of another version are held anew."""


def simulate(
    agent: Agent,
    *,
    split: Split,
    count: int,
    rounds: int,
    baselines: Sequence[str],
    seed: int,
    client: Client | None,
    force: bool,
    console: Console,
) -> Report:
    """Holds simulated dialogues and writes `runs/NAME/SPLIT/simulated/SEEKER`.

    For each system it writes `SYSTEM.jsonl`, its dialogues in the schema of corpora, and `SYSTEM.rounds.jsonl`, all
    that is known of them, whenever dialogues end, so that the same command goes on where it was stopped; `report.json`
    and `report.html` last. What is there from other parameters or settings is replaced.

    Args:
      agent: the run.
      split: whose films are looked for.
      count: most dialogues of each system.
      rounds: most rounds until the film is recommended.
      baselines: `popularity`, `ranker`.
      seed: of the goals and the seekers.
      client: the language model that plays the seekers; None for the seeker by rule.
      force: begin anew even if it is complete.
      console: where progress and tables are shown.

    Raises:
      ValueError: enough is known of no film.
      LlmError: as of `Client.answers`; finished dialogues are on disk.
    """
    experiment, graph = agent.experiment, agent.graph
    config, linker = experiment.config, experiment.corpus.linker
    goals = draw_goals(experiment.corpus.split(split), graph, linker, experiment.recommended, count, seed)
    seeker: Seeker = RuleSeeker(graph) if client is None else LlmSeeker(client, graph, linker)
    systems = [_system(name, agent) for name in ("ecr", *baselines)]
    folder = config.folder / split.value / "simulated" / seeker.name
    settings = _settings(agent, split, goals, rounds, seed, client)
    if force or not _is_of(folder, settings):
        remove(folder)
    elif _complete(folder, systems):
        console.print(f"{folder} is complete for these parameters and settings; --force begins anew")
        return report.read(folder / "report.json")
    write_json(folder / "settings.json", settings)

    held: dict[str, list[Simulated]] = {}
    for system in systems:
        held[system.name] = held_dialogues(system, goals, seeker, rounds, folder, split, graph, console)
    rows = simulation_rows(
        held,
        rounds,
        graph,
        linker,
        answering=[system.name for system in systems if system.answers],
        corpus=config.corpus.label,
        split=split.value,
        resamples=config.evaluation.resamples,
        seed=config.seed,
    )
    broken = {name: sum(bool(d.fault) for d in of_system) for name, of_system in held.items()}
    source: dict[str, Any] = provenance.environment() | {"config": config.name, "simulation": settings}
    source |= {"systems": [system.name for system in systems], "broken off": broken}
    if isinstance(seeker, LlmSeeker):
        write_jsonl(folder / "thrown-away.jsonl", seeker.thrown_away)
        source["answers"] = str(Usage.of(seeker.answers, client.address)) if client else ""
        console.print(f"{source['answers']}; {len(seeker.thrown_away)} answers thrown away")
    result = Report(tuple(rows), source)
    report.write(result, folder)
    console.print(dialogues.transcript(held["ecr"][0], graph), highlight=False, markup=False)
    terminal.print_tables(result, console)
    if any(broken.values()):
        console.print(f"dialogues broken off, and left out for all systems: {broken}")
    console.print(f"dialogues and all numbers: {folder}")
    return result


def _system(name: str, agent: Agent) -> System:
    if name == "popularity":
        return PopularitySystem(agent.graph, agent.experiment.recommended)
    return RankerSystem(agent) if name == "ranker" else AgentSystem(agent)


def _settings(
    agent: Agent, split: Split, goals: Sequence[Goal], rounds: int, seed: int, client: Client | None
) -> dict[str, Any]:
    """All that the dialogues follow from, as JSON."""
    config, corpus = agent.experiment.config, agent.experiment.corpus
    seeker = {"rule": _VERSION} if client is None else {**client.address.public, "prompt": llm_seeker.PROMPT_HASH}
    settings = provenance.fingerprint(config, corpus, split, PROTOCOLS["default"])
    settings |= {"seeker": seeker, "dialogues": len(goals), "rounds": rounds, "seed": seed}
    return json.loads(json.dumps(settings))


def _is_of(folder: Path, settings: dict[str, Any]) -> bool:
    path = folder / "settings.json"
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")) == settings


def _complete(folder: Path, systems: Sequence[System]) -> bool:
    path = folder / "report.json"
    return path.is_file() and report.read(path).provenance["systems"] == [system.name for system in systems]


def held_dialogues(
    system: System,
    goals: Sequence[Goal],
    seeker: Seeker,
    rounds: int,
    folder: Path,
    split: Split,
    graph: KnowledgeGraph,
    console: Console,
) -> list[Simulated]:
    """A system's dialogues about all goals, in their order; those that are on disk are not held again.

    Args:
      system, goals, seeker, rounds: see `hold`.
      folder: where they are kept as soon as they end.
      split: whose films are looked for.
      graph: with the films.
      console: where progress is shown.

    Raises:
      ValueError: what is on disk is not of these goals.
    """
    path = folder / f"{system.name}.rounds.jsonl"
    done = {d.goal.id: d for d in dialogues.read(path, goals, graph)} if path.is_file() else {}
    remaining = [goal for goal in goals if goal.id not in done]

    def ordered() -> list[Simulated]:
        return [done[goal.id] for goal in goals if goal.id in done]

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"dialogues with {system.name}", total=len(remaining))

        def finished(ended: list[Simulated]) -> None:
            done.update((dialogue.goal.id, dialogue) for dialogue in ended)
            dialogues.write(path, ordered(), graph)
            jsonl.write(folder / f"{system.name}.jsonl", dialogues.conversations(ordered(), graph, split))
            progress.advance(task, len(ended))

        hold(remaining, seeker, system, rounds, finished)
    return ordered()
