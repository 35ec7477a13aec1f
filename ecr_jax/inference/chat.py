"""`ecr chat`: a conversation in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from ecr_jax.corpus.schema import Role, Turn
from ecr_jax.inference.pipeline import Partner, Reply

_HELP = "Say what you like to watch. /items N: recommend at least so many films; /explain: why; /new: begin anew; /quit."


def talk(run: Path, *, explain: bool, items: int, console: Console) -> None:
    """Talks until the seeker leaves (`/quit`, Ctrl-D or Ctrl-C)."""
    with console.status("loading the run"):
        partner = Partner.open(run)
        partner.replies([partner.hear([Turn(Role.SEEKER, "Hello")])])  # compiles what each reply needs
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
            case ["/items", number] if number.isdigit():
                items = int(number)
                continue
            case [command, *_] if command.startswith("/"):
                console.print(_HELP, style="dim")
                continue
        turns.append(Turn(Role.SEEKER, said))
        (reply,) = partner.replies([partner.hear(turns)], items)
        console.print(f"[bold green]ecr:[/] {reply.recommendation}", highlight=False)
        if reply.emotional:
            console.print(f"     {reply.emotional}", highlight=False)
        if explain:
            show(partner, reply, console)
        turns.append(Turn(Role.RECOMMENDER, reply.text))


def show(partner: Partner, reply: Reply, console: Console) -> None:
    """Prints what a reply rests on."""
    graph = partner.ground.prepared.graph
    table = Table(show_header=False, box=None, style="dim")
    table.add_row("emotions", ", ".join(f"{name} {p:.2f}" for name, p in reply.emotions) or "none")
    table.add_row("linked", ", ".join(graph.title(entity) for entity in reply.entities) or "nothing")
    table.add_row("related", ", ".join(f"{graph.title(e)} {w:.2f}" for e, w in reply.related) or "nothing")
    table.add_row("told", ", ".join(reply.facts) or "nothing")
    table.add_row("best items", ", ".join(f"{graph.title(item)} {p:.3f}" for item, p in reply.ranked))
    console.print(table)
