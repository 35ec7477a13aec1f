"""Holds the scripted dialogues with a run and counts what its replies do.

    python -m benchmarks.dialogues RUN [--rounds 1] [--json FILE] [--page FILE] [--transcript-to FILE]

The same scripts work on every run: their films, people and genres are chosen from its graph.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks import common
from benchmarks.common import Row
from benchmarks.dialogues.cast import Casting, Part
from benchmarks.dialogues.expectations import Script, State, Verdict, judge, read_scripts
from ecr_jax.data.acts import ActName
from ecr_jax.data.schema import Role
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.files import replacing
from ecr_jax.inference.agent import Agent, Reply
from ecr_jax.inference.chat import Chat
from ecr_jax.inference.checks import find_faults
from ecr_jax.inference.wishes import forms

_INTRODUCTION = (
    "Scripted dialogues (benchmarks/dialogues/scripts.txt) with films, people and genres of the run's own graph. Names"
    " in a reply are supported if they are planned, one step from a planned film in the graph, or named by the seeker."
)


@dataclass(frozen=True)
class Said:
    """One exchange: what the seeker said, the reply, its verdicts, how long it took, and unsupported and all names."""

    script: str
    text: str
    reply: Reply
    verdicts: list[Verdict]
    seconds: float
    unsupported: int
    names: int
    contradicted: int


def hold(script: Script, agent: Agent, parts: dict[str, Part]) -> list[Said]:
    """Holds one dialogue; nothing is said where the graph has no part for one of its placeholders."""
    graph = agent.graph
    words = {name: part.text for name, part in parts.items()}
    if any(name not in words for line in script.lines for name in _placeholders(line.text)):
        return []
    chat, state, said = Chat(agent), State(parts), []
    for line in script.lines:
        text = line.text.format_map(words)
        started = time.perf_counter()
        reply = chat.say(text)
        seconds = time.perf_counter() - started
        state.named |= {p.entity for n, p in parts.items() if p.entity is not None and f"{{{n}}}" in line.text}
        verdicts = judge(line, reply, state, graph)
        unsupported, names = _support(reply, chat, agent)
        faults = find_faults(reply.recommendation, reply.decision, graph, agent.experiment.corpus.linker)
        contradicted = sum(fault.kind == "fact" for fault in faults)
        said.append(Said(script.name, text, reply, verdicts, seconds, unsupported, names, contradicted))
        state.named |= set(reply.plan.films)
        state.latest = reply.items or state.latest
    return said


def _placeholders(text: str) -> list[str]:
    return [part.split("}")[0] for part in text.split("{")[1:]]


def _support(reply: Reply, chat: Chat, agent: Agent) -> tuple[int, int]:
    """How many names of a reply are not supported, and how many there are; each planned film is one that is."""
    graph, linker = agent.graph, agent.experiment.corpus.linker
    films, text = set(reply.plan.films), reply.text
    spoken = linker.link(" ".join(turn.text for turn in chat.turns if turn.role == Role.SEEKER))
    near = films | {entity for film in films for entity in graph.neighbours(film).tolist()}
    near |= {link.entity for link in spoken}
    known = {form for entity in near if graph.kinds[entity] != "film" for form in forms(graph, entity)}
    asks = any(act.name == ActName.ASK for act in reply.plan.acts)
    count = 0
    for film in films:
        for title in (graph.title(film), graph.names[film]):
            count += text.count(title)
            text = text.replace(title, "…")
    links = [link.entity for link in linker.link(text, films)]
    unsupported = [
        entity
        for entity in links
        if entity not in near and not forms(graph, entity) & known and not (asks and graph.kinds[entity] == "genre")
    ]
    return len(unsupported), len(links) + count


def rows_of(said: list[Said], agent: Agent) -> list[Row]:
    """The table."""
    replies = [one.reply for one in said]
    kinds: dict[str, list[bool]] = defaultdict(list)
    for one in said:
        for verdict in one.verdicts:
            kinds[verdict.kind].append(verdict.passed)
    recommending = [reply for reply in replies if reply.items]
    graph = agent.graph
    planned = [all(reply.text.count(graph.title(film)) == 1 for film in reply.items) for reply in recommending]
    equal = sum(count - 1 for count in Counter(reply.text for reply in replies).values())
    felt = agent.emotion_probabilities([reply.text for reply in replies])
    tones = [EMOTIONS.index(reply.plan.tone) for reply in replies]
    aligned = [tone in np.argsort(-row)[:2] for tone, row in zip(tones, felt, strict=True)]
    every = [verdict.passed for one in said for verdict in one.verdicts]

    def share(case: str, values: list[bool]) -> Row:
        return Row(case, f"share of {len(values)}", float(np.mean(values)) if values else 1.0, "")

    names = sum(one.names for one in said)
    return [
        Row("dialogues", "number", len({one.script for one in said}), ""),
        Row("replies", "number", len(said), ""),
        share("all checks", every),
        *(share(kind, values) for kind, values in sorted(kinds.items())),
        Row("films a reply", "mean", float(np.mean([len(reply.items) for reply in replies])), ""),
        Row("films a reply", "most", max(len(reply.items) for reply in replies), ""),
        share("films as planned", planned),
        Row("unsupported entities", f"share of {names}", sum(one.unsupported for one in said) / max(names, 1), ""),
        Row("contradicted facts", "number", sum(one.contradicted for one in said), ""),
        share("plain replies", [reply.writer == "plain" for reply in replies]),
        Row("equal replies", f"share of {len(said)}", equal / len(said), ""),
        share("tone among the two most probable emotions", aligned),
        Row("seconds a reply", "median", float(np.median([one.seconds for one in said])), "s"),
    ]


def transcript(said: list[Said]) -> str:
    """All dialogues to read, failed checks marked."""
    lines, last = [], ""
    for one in said:
        if one.script != last:
            lines.append(f"\n## {one.script}\n")
            last = one.script
        lines += [f"you: {one.text}", f"ecr: {one.reply.text}   [{one.reply.writer}]"]
        lines += [f"     FAILED {verdict.kind}: {verdict.check}" for verdict in one.verdicts if not verdict.passed]
    return "\n".join(lines) + "\n"


def main(
    run: tyro.conf.Positional[Path],
    rounds: int = 1,
    seed: int = 0,
    json: Path | None = None,
    page: Path | None = None,
    transcript_to: Path | None = None,
) -> None:
    """Holds the scripted dialogues with a run.

    Args:
      run: the run's folder.
      rounds: how often, each time with other films.
      seed: of the choice of films.
      json: file for the rows.
      page: file for the page.
      transcript_to: file for the dialogues.
    """
    started = time.perf_counter()
    agent = Agent.open(run)
    agent.warm_up()
    loading = time.perf_counter() - started
    casting, said = Casting(agent.graph), []
    for number in range(rounds):
        for index, script in enumerate(read_scripts()):
            said += hold(script, agent, casting.parts(seed + 1000 * number + index))
    rows = [*rows_of(said, agent), Row("seconds to load and compile", "", loading, "s")]
    common.report(rows, f"dialogues with {run}", json)
    if page is not None:
        command = f"python -m benchmarks.dialogues {run} --rounds {rounds} --seed {seed}"
        common.page(rows, "Scripted dialogues", _INTRODUCTION, command, page)
    text = transcript(said)
    if transcript_to is not None:
        with replacing(transcript_to) as temporary:
            temporary.write_text(text, encoding="utf-8")
    failed = [block for block in text.split("\n") if "FAILED" in block]
    print(f"{len(failed)} failed checks" + "".join(f"\n{line}" for line in failed[:40]))


if __name__ == "__main__":
    tyro.cli(main)
