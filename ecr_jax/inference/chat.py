"""`ecr chat`: a conversation with a trained run in the terminal."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecr_jax.data.schema import Role, Turn
from ecr_jax.features.plans import Plan
from ecr_jax.inference.agent import Agent, Reply
from ecr_jax.inference.phrases import MOST_FILMS
from ecr_jax.inference.plain import predicate, wish_words
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.llm.client import Client

_HELP = (
    "Write what you like to watch. Commands: /items N: recommend at least N films in each reply, at most "
    f"{MOST_FILMS}; /explain: switch explanations on or off; /new: start a new conversation; /quit: leave."
)


@dataclass
class Chat:
    """A running conversation: its turns, and the plans of our own.

    Attributes:
      agent: who replies.
      turns: what was said.
      plans: index of a turn of our own -> its plan.
    """

    agent: Agent
    turns: list[Turn] = field(default_factory=list)
    plans: dict[int, Plan] = field(default_factory=dict)

    def say(self, text: str, items: int = 0) -> Reply:
        """The reply to what the seeker says; both become part of the conversation.

        Args:
          text: any text.
          items: fewest films that the reply recommends.
        """
        turns = [*self.turns, Turn(Role.SEEKER, text)]
        (reply,) = self.agent.replies([self.agent.perceive(turns, self.plans)], items)
        self.turns = [*turns, Turn(Role.RECOMMENDER, reply.text)]
        self.plans[len(turns)] = reply.plan
        return reply


def talk(run: Path, *, explain: bool, items: int, console: Console, client: Client | None = None) -> None:
    """Talks with the user until they leave (`/quit`, Ctrl-D or Ctrl-C).

    Args:
      run: the run's folder.
      explain: show what explains each reply.
      items: fewest films that a reply recommends; with 0 it recommends films when its plan does.
      console: the terminal.
      client: of a remote model that chooses what a reply does; None for the run's own manager, if it has one.

    Raises:
      ValueError: a stage of the run is not trained.
    """
    with console.status("loading the run"):
        agent = Agent.open(run, client=client)
        agent.warm_up()
    console.print(_HELP, style="dim")
    chat = Chat(agent)
    while True:
        try:
            line = " ".join(console.input("[bold]you: [/]").split())
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        match line.split():
            case []:
                continue
            case ["/quit"]:
                return
            case ["/new"]:
                chat = Chat(agent)
                continue
            case ["/explain"]:
                explain = not explain
                console.print(f"explanations are {'on' if explain else 'off'}", style="dim")
                continue
            case ["/items", number] if number.isdecimal():
                items = int(number)
                continue
            case [command, *_] if command.startswith("/"):
                console.print(_HELP, style="dim")
                continue
        reply = chat.say(line, items)
        console.print("ecr: ", style="bold green", end="")
        console.print(reply.text, highlight=False, markup=False)
        if explain:
            console.print(explanation(reply, agent.graph))


def explanation(reply: Reply, graph: KnowledgeGraph) -> Table:
    """A table of what explains a reply: what was heard and remembered, the plan, the facts, and what was refused."""
    table = Table(show_header=False, box=None, style="dim")
    plan, memory, managed = reply.plan, reply.memory, reply.management
    answered = None if managed is None else managed.answered

    def titles(films) -> list[str]:
        return [graph.title(film) for film in films]

    rows = {
        "emotions": [f"{name} {probability:.2f}" for name, probability in reply.emotions],
        "acts heard": sorted(act.value for act in memory.acts),
        "questions": [question.attribute.value for question in memory.questions],
        "wishes": [wish_words(wish, graph) for wish in memory.wishes],
        "liked": titles(memory.liked),
        "disliked": titles(memory.disliked),
        "seen": titles(memory.seen),
        "refused": titles(memory.refused),
        "linked entities": titles(reply.entities),
        "related entities": [f"{graph.title(entity)} {weight:.2f}" for entity, weight in reply.related],
        "sub-task": [] if managed is None else [f"{managed.choice} (chosen by: {managed.by})"],
        "possible sub-tasks": () if managed is None else managed.possible,
        "probable choices": [] if managed is None else [f"{c} {p:.2f}" for c, p in managed.alternatives],
        "expert": [] if answered is None else [answered.expert or "nobody"],
        "outcome": [] if answered is None else [answered.outcome.text or answered.outcome.reason],
        "what failed": () if managed is None else managed.failures,
        "plan": [*map(str, plan.acts), *titles(plan.films), f"tone {plan.tone or 'open'}"],
        "planned facts": [f"{graph.names[plan.films[f.film]]} {predicate(f)}" for f in plan.facts if f.values],
        "facts given to the writer of u^e": reply.facts,
        "top items": [f"{graph.title(item)} {probability:.3f}" for item, probability in reply.ranked],
        "said by": [reply.writer],
        "refused candidates": [f"{c.text!r} ({'; '.join(map(str, c.faults))})" for c in reply.candidates if c.faults],
    }
    for name, values in rows.items():
        table.add_row(name, Text(", ".join(values) or "none"))
    return table
