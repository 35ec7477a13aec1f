"""`ecr chat`: a conversation in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecr_jax.data.schema import Role, Turn
from ecr_jax.inference.agent import Agent, Reply

_HELP = "Say what you like to watch. /items N: at least so many films; /explain: why; /new: begin anew; /quit."


def talk(run: Path, *, explain: bool, items: int, console: Console) -> None:
    """Talks until the seeker leaves (`/quit`, Ctrl-D or Ctrl-C)."""
    with console.status("loading the run"):
        agent = Agent.open(run)
        agent.replies([agent.hear([Turn(Role.SEEKER, "Hello")])])  # compiles what each reply needs
    console.print(_HELP, style="dim")
    turns: list[Turn] = []
    while True:
        try:
            said = " ".join(console.input("[bold]you: [/]").split())
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        match said.split():
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
        turns.append(Turn(Role.SEEKER, said))
        (reply,) = agent.replies([agent.hear(turns)], items)
        console.print("ecr: ", style="bold green", end="")
        console.print(reply.recommendation, highlight=False, markup=False)
        if reply.emotional:
            console.print(f"     {reply.emotional}", highlight=False, markup=False)
        if explain:
            show(agent, reply, console)
        turns.append(Turn(Role.RECOMMENDER, reply.text))


def show(agent: Agent, reply: Reply, console: Console) -> None:
    """Prints what a reply rests on."""
    graph = agent.experiment.prepared.graph
    table = Table(show_header=False, box=None, style="dim")
    rows = {
        "emotions": [f"{name} {p:.2f}" for name, p in reply.emotions],
        "linked": [graph.title(entity) for entity in reply.entities],
        "related": [f"{graph.title(entity)} {weight:.2f}" for entity, weight in reply.related],
        "told": reply.facts,
        "best items": [f"{graph.title(item)} {p:.3f}" for item, p in reply.ranked],
    }
    for name, values in rows.items():
        table.add_row(name, Text(", ".join(values) or "nothing"))
    console.print(table)
