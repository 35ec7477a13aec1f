"""`ecr chat`: a conversation with a trained run in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecr_jax.data.schema import Role, Turn
from ecr_jax.inference.agent import Agent, Reply
from ecr_jax.knowledge.graph import KnowledgeGraph

_HELP = (
    "Write what you like to watch. Commands: /items N: recommend at least N films in each reply; /explain: switch "
    "explanations on or off; /new: start a new conversation; /quit: leave."
)


def talk(run: Path, *, explain: bool, items: int, console: Console) -> None:
    """Talks with the user until they leave (`/quit`, Ctrl-D or Ctrl-C).

    Args:
      run: the run's folder.
      explain: show what explains each reply.
      items: fewest films that a reply recommends; with 0 it recommends films when its own words do.
      console: the terminal.

    Raises:
      ValueError: a stage of the run is not trained.
    """
    with console.status("loading the run"):
        agent = Agent.open(run)
        agent.replies([agent.perceive([Turn(Role.SEEKER, "Hello")])])  # compiles the programs that each reply needs
    console.print(_HELP, style="dim")
    turns: list[Turn] = []
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
                turns = []
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
        turns.append(Turn(Role.SEEKER, line))
        (reply,) = agent.replies([agent.perceive(turns)], items)
        console.print("ecr: ", style="bold green", end="")
        console.print(reply.recommendation, highlight=False, markup=False)
        if reply.emotional:
            console.print(f"     {reply.emotional}", highlight=False, markup=False)
        if explain:
            console.print(explanation(reply, agent.experiment.corpus.graph))
        turns.append(Turn(Role.RECOMMENDER, reply.text))


def explanation(reply: Reply, graph: KnowledgeGraph) -> Table:
    """A table of what explains a reply: emotions, entities, facts and the best items with their probabilities."""
    table = Table(show_header=False, box=None, style="dim")
    rows = {
        "emotions": [f"{name} {probability:.2f}" for name, probability in reply.emotions],
        "linked entities": [graph.title(entity) for entity in reply.entities],
        "related entities": [f"{graph.title(entity)} {weight:.2f}" for entity, weight in reply.related],
        "facts given to the generator": reply.facts,
        "top items": [f"{graph.title(item)} {probability:.3f}" for item, probability in reply.ranked],
    }
    for name, values in rows.items():
        table.add_row(name, Text(", ".join(values) or "none"))
    return table
