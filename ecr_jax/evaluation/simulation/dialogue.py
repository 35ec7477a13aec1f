"""Simulated dialogues: what was said, meant and recommended in each round, and how they are stored.

`write` keeps all of it as JSON lines, with URIs in place of entity ids. `conversations` are the same dialogues in the
schema of all corpora.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import Conversation, Feedback, Mention, Role, Split, Turn, title_mentions
from ecr_jax.evaluation.simulation.goals import Goal
from ecr_jax.features.plans import Plan
from ecr_jax.files import write_jsonl
from ecr_jax.inference.questions import Question
from ecr_jax.inference.wishes import Wish
from ecr_jax.knowledge.graph import KnowledgeGraph


@dataclass(frozen=True)
class SeekerTurn:
    """What a seeker says, and what is meant by it.

    Attributes:
      text: the words.
      acts: what it does.
      wishes: what it says the film should have or not have.
      question: what it asks about a film.
      named: films that it names.
      feedback: film -> whether the seeker likes it.
      emotion: one of the nine, or "".
      accepts: whether the seeker has found the film; the dialogue ends with the reply to it.
    """

    text: str
    acts: tuple[Act, ...] = ()
    wishes: tuple[Wish, ...] = ()
    question: Question | None = None
    named: tuple[int, ...] = ()
    feedback: Mapping[int, bool] = field(default_factory=dict)
    emotion: str = ""
    accepts: bool = False


@dataclass(frozen=True)
class SystemTurn:
    """A system's reply.

    Attributes:
      text: the words.
      films: entity ids that it recommends, all of which it names.
      acts: what it was planned to do, where it was planned.
      plain: whether it is a plain sentence rather than what a language model wrote; None of a system without one.
      plan: its plan, where the system makes one; it is not stored.
    """

    text: str
    films: tuple[int, ...] = ()
    acts: tuple[Act, ...] = ()
    plain: bool | None = None
    plan: Plan | None = None


@dataclass(frozen=True)
class Round:
    """What a seeker says, and the reply to it."""

    seeker: SeekerTurn
    reply: SystemTurn


@dataclass(frozen=True)
class Simulated:
    """A dialogue of a simulated seeker with a system.

    Attributes:
      goal: what the seeker looks for.
      system: who replies.
      rounds: so far.
      fault: why the dialogue was broken off, in words; "" where it was not.
    """

    goal: Goal
    system: str
    rounds: tuple[Round, ...] = ()
    fault: str = ""

    @property
    def found(self) -> int | None:
        """The first round, from 1, in which the film is recommended; None where there is none."""
        films = (self.goal.film in each.reply.films for each in self.rounds)
        return next((number for number, found in enumerate(films, start=1) if found), None)


@dataclass(frozen=True)
class Heard:
    """A dialogue as the system sees it: what was said before, and the seeker's turn that it replies to."""

    rounds: tuple[Round, ...]
    seeker: SeekerTurn

    @property
    def turns(self) -> list[Turn]:
        """Its turns, without marks: the system links and labels them itself."""
        said = [
            turn
            for each in self.rounds
            for turn in (Turn(Role.SEEKER, each.seeker.text), Turn(Role.RECOMMENDER, each.reply.text))
        ]
        return [*said, Turn(Role.SEEKER, self.seeker.text)]

    @property
    def plans(self) -> dict[int, Plan]:
        """The plans of the system's turns, by index."""
        return {2 * n + 1: each.reply.plan for n, each in enumerate(self.rounds) if each.reply.plan is not None}

    @property
    def wishes(self) -> tuple[Wish, ...]:
        """All that the seeker has said of the film."""
        return tuple(dict.fromkeys(w for s in (*(r.seeker for r in self.rounds), self.seeker) for w in s.wishes))

    @property
    def named(self) -> frozenset[int]:
        """The films that anybody has named."""
        seekers = (*(each.seeker for each in self.rounds), self.seeker)
        return frozenset(f for s in seekers for f in s.named) | {f for r in self.rounds for f in r.reply.films}


def shown(text: str, films: Iterable[int], graph: KnowledgeGraph) -> tuple[int, ...]:
    """Those of some films whose title with year a text has."""
    return tuple(film for film in films if graph.title(film) in text)


# -------------------------------------------------------------------------------------------- the schema of corpora


def conversations(dialogues: Iterable[Simulated], graph: KnowledgeGraph, split: Split) -> list[Conversation]:
    """The dialogues as a corpus: emotions, acts, and the recommended films with the seeker's feedback.

    Args:
      dialogues: with at least one round each.
      graph: with the titles.
      split: that they are given.
    """
    return [_conversation(dialogue, graph, split) for dialogue in dialogues if dialogue.rounds]


def _conversation(dialogue: Simulated, graph: KnowledgeGraph, split: Split) -> Conversation:
    feedback = {
        graph.uris[film]: Feedback.LIKE if liked else Feedback.DISLIKE
        for each in dialogue.rounds
        for film, liked in each.seeker.feedback.items()
    }

    def mentions(text: str, films: Iterable[int]) -> tuple[Mention, ...]:
        return title_mentions(text, {graph.uris[film]: graph.title(film) for film in films}, feedback)

    turns = []
    for each in dialogue.rounds:
        said = each.seeker
        emotions = (said.emotion,) if said.emotion else ()
        turns.append(Turn(Role.SEEKER, said.text, mentions(said.text, said.named), emotions, said.acts))
        reply = each.reply
        turns.append(Turn(Role.RECOMMENDER, reply.text, mentions(reply.text, reply.films), (), reply.acts))
    return Conversation(f"{dialogue.system} {dialogue.goal.id}", split, tuple(turns))


# ---------------------------------------------------------------------------------------------------------- storage


def write(path: Path, dialogues: Iterable[Simulated], graph: KnowledgeGraph) -> None:
    """Writes dialogues as JSON lines (temporary name, then renamed)."""
    write_jsonl(path, (_to_json(dialogue, graph) for dialogue in dialogues))


def read(path: Path, goals: Iterable[Goal], graph: KnowledgeGraph) -> list[Simulated]:
    """Reads what `write` wrote of these goals.

    Raises:
      ValueError: a line is not of the form; says the file and the line.
    """
    by_id = {goal.id: goal for goal in goals}
    dialogues = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                goal = by_id[row["goal"]]
                rounds = tuple(Round(_seeker(r["seeker"], graph), _system(r["reply"], graph)) for r in row["rounds"])
                dialogues.append(Simulated(goal, row["system"], rounds, row["fault"]))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}:{number} is no simulated dialogue of these goals ({error!r}); --force begins anew"
                ) from error
    return dialogues


def _to_json(dialogue: Simulated, graph: KnowledgeGraph) -> dict[str, Any]:
    return {
        "goal": dialogue.goal.id,
        "system": dialogue.system,
        "film": graph.uris[dialogue.goal.film],
        "title": graph.title(dialogue.goal.film),
        "found": dialogue.found,
        "fault": dialogue.fault,
        "rounds": [
            {
                "seeker": {
                    "text": each.seeker.text,
                    "acts": [str(act) for act in each.seeker.acts],
                    "wishes": [_wish_to_json(wish, graph) for wish in each.seeker.wishes],
                    "question": _question_to_json(each.seeker.question, graph),
                    "named": [graph.uris[film] for film in each.seeker.named],
                    "feedback": {graph.uris[film]: liked for film, liked in each.seeker.feedback.items()},
                    "emotion": each.seeker.emotion,
                    "accepts": each.seeker.accepts,
                },
                "reply": {
                    "text": each.reply.text,
                    "films": [graph.uris[film] for film in each.reply.films],
                    "acts": [str(act) for act in each.reply.acts],
                    "plain": each.reply.plain,
                },
            }
            for each in dialogue.rounds
        ],
    }


def _wish_to_json(wish: Wish, graph: KnowledgeGraph) -> dict[str, Any]:
    entity = None if wish.entity is None else graph.uris[wish.entity]
    return {"wanted": wish.wanted, "entity": entity, "years": wish.years}


def _question_to_json(question: Question | None, graph: KnowledgeGraph) -> dict[str, Any] | None:
    if question is None or question.film is None:
        return None
    entity = None if question.entity is None else graph.uris[question.entity]
    return {"attribute": question.attribute.value, "film": graph.uris[question.film], "entity": entity}


def _seeker(row: Mapping[str, Any], graph: KnowledgeGraph) -> SeekerTurn:
    asked = row["question"]
    return SeekerTurn(
        row["text"],
        tuple(map(Act.parse, row["acts"])),
        tuple(
            Wish(w["wanted"], _entity(w["entity"], graph), None if w["years"] is None else tuple(w["years"]))
            for w in row["wishes"]
        ),
        None
        if asked is None
        else Question(Attribute(asked["attribute"]), graph.id(asked["film"]), _entity(asked["entity"], graph)),
        tuple(graph.id(film) for film in row["named"]),
        {graph.id(film): liked for film, liked in row["feedback"].items()},
        row["emotion"],
        row["accepts"],
    )


def _system(row: Mapping[str, Any], graph: KnowledgeGraph) -> SystemTurn:
    films = tuple(graph.id(film) for film in row["films"])
    return SystemTurn(row["text"], films, tuple(map(Act.parse, row["acts"])), row["plain"])


def _entity(uri: str | None, graph: KnowledgeGraph) -> int | None:
    return None if uri is None else graph.id(uri)


def transcript(dialogue: Simulated, graph: KnowledgeGraph) -> str:
    """A dialogue to read, under the title of its film."""
    lines = [f"seeker {dialogue.goal.id} wants {graph.title(dialogue.goal.film)}"]
    for each in dialogue.rounds:
        lines += [f"seeker: {each.seeker.text}", f"{dialogue.system}: {each.reply.text}"]
    return "\n".join([*lines, *([dialogue.fault] if dialogue.fault else [])])


def asks(question: Question) -> Act:
    """The act of a question."""
    return Act(ActName.QUESTION, question.attribute)
