"""Replies scored by language models behind an address: five measures from 0 to 9, and pairwise preferences.

The measures are the paper's (ECR 5.2), which scores with GPT-4; its prompts are not public, so the words here are our
own, and their hash is in every record. A missing or malformed answer is a missing score, never a zero.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ecr_jax.evaluation import report, system_replies, terminal
from ecr_jax.evaluation.judge_tables import MEASURES, Preference, Score, preference_rows, score_rows
from ecr_jax.evaluation.report import Report
from ecr_jax.evaluation.system_replies import Place, SystemReply
from ecr_jax.files import write_jsonl
from ecr_jax.llm.cache import content_hash
from ecr_jax.llm.client import Client, Request
from ecr_jax.llm.structured import MalformedError, ask, object_schema, require_object
from ecr_jax.runs import machine

HIGHEST = 9
"""Scores are whole numbers from 0 to this."""

QUESTIONS = {
    "emotional_intensity": "How strong is the emotion that the reply conveys?",
    "emotional_persuasiveness": "How well does the reply connect with the seeker's feelings to win them over?",
    "logic_persuasiveness": "How well does the reply argue: sound, coherent reasons that fit what the seeker said?",
    "informativeness": "How much useful information does the reply give?",
    "lifelikeness": "How vivid and engaging is the reply, and how much like a person talking?",
}
"""What is asked of each measure, of people as of models."""

_CRITERIA = "\n".join(f"{name}: {question}" for name, question in QUESTIONS.items())
_TASK = (
    "You assess replies of a film recommender in a conversation with a seeker. Judge each criterion by itself. Neither "
    "length nor politeness is a merit of its own, and you need not like the recommended film.\n\n" + _CRITERIA
)
_SCORE = (
    f"{_TASK}\n\nGive the reply a whole number from 0 (not at all) to {HIGHEST} (could not be more) on each criterion. "
    f"Answer with JSON alone: an object with the fields {', '.join(MEASURES)}."
)
_COMPARE = (
    f"{_TASK}\n\nYou get two replies to the same conversation, A and B; their order means nothing. Say for each "
    'criterion which one does better: "A", "B" or "tie". Answer with JSON alone: an object with the fields '
    f"{', '.join(MEASURES)}."
)
_SCORE_SCHEMA = object_schema({name: {"type": "integer", "enum": list(range(HIGHEST + 1))} for name in MEASURES})
_CHOICES = {"A": 1.0, "tie": 0.5, "B": 0.0}
"""What an answer is worth to the reply that is shown first."""

_COMPARE_SCHEMA = object_schema({name: {"type": "string", "enum": list(_CHOICES)} for name in MEASURES})

PROMPT_HASH = content_hash([_SCORE, _COMPARE, _SCORE_SCHEMA, _COMPARE_SCHEMA])
"""Identifies the prompts in records."""


@dataclass(frozen=True)
class Sample:
    """What is judged.

    Attributes:
      places: place -> system -> reply; all systems reply to each place.
      systems: their names, in order.
    """

    places: dict[Place, dict[str, SystemReply]]
    systems: tuple[str, ...]

    @property
    def replies(self) -> list[SystemReply]:
        """All replies, place by place."""
        return [group[system] for group in self.places.values() for system in self.systems]


def draw_sample(paths: Sequence[Path], systems: Sequence[str], size: int, seed: int) -> Sample:
    """A random sample of places that all systems reply to, the same ones for every system.

    Args:
      paths: files of `system_replies`.
      systems: those to judge; all where none is named.
      size: most places.
      seed: of the sample.

    Raises:
      ValueError: a file is malformed, a system is not there, or the systems have no place in common.
    """
    replies = [reply for path in paths for reply in system_replies.read(path)]
    present = list(system_replies.by_system(replies))
    if unknown := [system for system in systems if system not in present]:
        raise ValueError(f"there is no system {unknown[0]!r}; there are {', '.join(present)}")
    chosen = tuple(systems) or tuple(present)
    distinct = {(reply.place, reply.system) for reply in replies}
    if len(distinct) < len(replies):
        raise ValueError("two of the files have replies of one system to one turn; give each system once")
    places = system_replies.same_places([reply for reply in replies if reply.system in chosen])
    if not places:
        raise ValueError(f"there is no turn that all of {', '.join(chosen)} reply to")
    names = sorted(places)
    taken = np.random.default_rng(seed).permutation(len(names))[:size]
    return Sample({names[i]: places[names[i]] for i in sorted(taken)}, chosen)


def dialogue_text(reply: SystemReply) -> str:
    """The turns before a reply, one a line with their role."""
    return "\n".join(f"{role}: {text}" for role, text in reply.context) or "(the conversation has not begun)"


def score_request(reply: SystemReply) -> Request:
    """The question for a reply's five scores."""
    content = f"The conversation so far:\n{dialogue_text(reply)}\n\nThe reply to assess:\n{reply.reply}"
    messages = [{"role": "system", "content": _SCORE}, {"role": "user", "content": content}]
    return Request(messages, schema=_SCORE_SCHEMA, max_tokens=200)


def pair_request(first: SystemReply, second: SystemReply) -> Request:
    """The question which of two replies to one place does better; `first` is shown as A."""
    content = f"The conversation so far:\n{dialogue_text(first)}\n\nReply A:\n{first.reply}\n\nReply B:\n{second.reply}"
    messages = [{"role": "system", "content": _COMPARE}, {"role": "user", "content": content}]
    return Request(messages, schema=_COMPARE_SCHEMA, max_tokens=200)


def read_scores(value: Any) -> tuple[int, ...]:
    """Five scores in the order of `MEASURES`. Raises MalformedError."""
    fields = require_object(value, MEASURES)
    for name, score in fields.items():
        if type(score) is not int or not 0 <= score <= HIGHEST:
            raise MalformedError(f"{name} is {score!r}; asked for: a whole number from 0 to {HIGHEST}")
    return tuple(fields[name] for name in MEASURES)


def read_choices(value: Any) -> tuple[float, ...]:
    """What five preferences are worth to the reply shown first: 1, 0.5 or 0 each. Raises MalformedError."""
    fields = require_object(value, MEASURES)
    for name, choice in fields.items():
        if choice not in _CHOICES:
            raise MalformedError(f"{name} is {choice!r}; asked for: {', '.join(_CHOICES)}")
    return tuple(_CHOICES[fields[name]] for name in MEASURES)


def judge(
    sample: Sample,
    judges: Sequence[Client],
    into: Path,
    *,
    pairs: bool,
    console: Console,
    resamples: int = 1000,
    seed: int = 0,
) -> Report:
    """Has every judge score every reply and compare every two systems in both orders; writes the tables.

    Writes `scores.jsonl`, `preferences.jsonl`, `malformed-JUDGE-….jsonl`, and `report.json` with `report.html` last.

    Args:
      sample: what is judged.
      judges: the models, of different names.
      into: the folder for the results.
      pairs: whether to compare systems pairwise as well.
      console: where progress and tables are shown.
      resamples, seed: of the bootstrap over dialogues.

    Raises:
      LlmError: as of `Client.answers`; what was answered is on disk.
      ValueError: two judges have one name.
    """
    names = [client.address.file_name for client in judges]
    if len(set(names)) < len(names):
        raise ValueError(f"two judges are called the same: {', '.join(names)}")
    scores: list[Score] = []
    preferences: list[Preference] = []
    records = []
    for name, client in zip(names, judges, strict=True):
        answered = ask(
            client,
            [score_request(reply) for reply in sample.replies],
            lambda value, answer, number: read_scores(value),
            names=[_about(reply) for reply in sample.replies],
            rejected=into / f"malformed-{name}-scores.jsonl",
            label=f"{name} scores",
            console=console,
        )
        scores += [
            Score(name, *reply.place, reply.system, values)
            for reply, values in zip(sample.replies, answered.values, strict=True)
        ]
        record: dict[str, Any] = {
            "judge": client.address.public,
            "scores": str(answered.usage),
            "missing": answered.malformed,
        }
        if pairs:
            ordered = [
                (group[a], group[b])
                for group in sample.places.values()
                for a, b in itertools.permutations(sample.systems, 2)
            ]
            compared = ask(
                client,
                [pair_request(first, second) for first, second in ordered],
                lambda value, answer, number: read_choices(value),
                names=[_about(first) | {"against": second.system} for first, second in ordered],
                rejected=into / f"malformed-{name}-pairs.jsonl",
                label=f"{name} compares",
                console=console,
            )
            preferences += [
                Preference(name, *first.place, first.system, second.system, values)
                for (first, second), values in zip(ordered, compared.values, strict=True)
            ]
            record |= {"pairs": str(compared.usage), "missing pairs": compared.malformed}
        records.append(record)
        console.print(f"{name}: {record['scores']}; {record['missing']} of {len(sample.replies)} scores are missing")
    write_jsonl(into / "scores.jsonl", (dataclasses.asdict(score) for score in scores))
    write_jsonl(into / "preferences.jsonl", (dataclasses.asdict(preference) for preference in preferences))
    rows = score_rows(scores, sample.replies, resamples=resamples, seed=seed)
    rows += preference_rows(preferences, sample.replies, resamples=resamples, seed=seed)
    provenance = {"commit": machine.commit(), "prompts": PROMPT_HASH, "judges": records, "turns": len(sample.places)}
    return finish(Report(tuple(rows), provenance), into, console)


def finish(result: Report, into: Path, console: Console) -> Report:
    """Writes a report of judgements and prints its tables."""
    report.write(result, into)
    terminal.print_tables(result, console)
    console.print(f"all numbers, agreement of the judges and intervals: {into / 'report.html'}")
    return result


def _about(reply: SystemReply) -> dict[str, Any]:
    return {"conversation": reply.conversation, "turn": reply.turn, "system": reply.system}


def zero_shot_prompt(reply: SystemReply) -> list[dict[str, str]]:
    """The chat that has a language model reply in the place of `reply`, with the films that it recommends.

    The model sees the dialogue and is told which films to recommend, as the paper's language model baselines are (ECR
    5.3); a reply without films leaves it free not to recommend.
    """
    task = "recommend " + " and ".join(reply.films) if reply.films else "answer the seeker; name no film of your own"
    instruction = (
        "You are a film recommender who talks with a seeker. Write your next turn, as you would say it: one short "
        f"message and nothing else. In this turn, {task}."
    )
    roles = {"seeker": "user", "recommender": "assistant"}
    turns = [{"role": roles.get(role, "user"), "content": text} for role, text in reply.context]
    return [{"role": "system", "content": instruction}, *turns]


def zero_shot(replies: Iterable[SystemReply], writer: Any, system: str) -> list[SystemReply]:
    """Replies of a language model to the same dialogues, with the same films.

    Args:
      replies: of the system whose films it is told to recommend.
      writer: has `write(prompts, candidates) -> [[text]]`, as `llm.writer.RemoteWriter`.
      system: what to call it.
    """
    given = list(replies)
    written = writer.write([zero_shot_prompt(reply) for reply in given], 1)
    return [
        dataclasses.replace(reply, system=system, reply=text, facts=(), tone="")
        for reply, (text,) in zip(given, written, strict=True)
    ]
