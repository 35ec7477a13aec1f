"""Holding simulated dialogues, many at once: as one ends, the next one begins."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from ecr_jax.evaluation.simulation.dialogue import Heard, Round, SeekerTurn, Simulated
from ecr_jax.evaluation.simulation.goals import Goal
from ecr_jax.evaluation.simulation.systems import AT_ONCE, System


class Seeker(Protocol):
    """Who simulates the seekers."""

    @property
    def name(self) -> str:
        """What records call it."""
        ...

    def turns(self, dialogues: Sequence[Simulated]) -> list[SeekerTurn | str]:
        """What the seeker says next in each dialogue, or why the dialogue is broken off."""
        ...


def hold(
    goals: Iterable[Goal],
    seeker: Seeker,
    system: System,
    rounds: int,
    finished: Callable[[list[Simulated]], None],
) -> None:
    """Holds a dialogue about each goal.

    A dialogue ends when the seeker has accepted its film and got a reply, or after so many rounds without the film.

    Args:
      goals: what the seekers look for.
      seeker: who simulates them.
      system: who replies.
      rounds: most rounds until the film is recommended.
      finished: is given dialogues as soon as they have ended.
    """
    waiting = deque(Simulated(goal, system.name) for goal in goals)
    active: list[Simulated] = []
    while waiting or active:
        while waiting and len(active) < AT_ONCE:
            active.append(waiting.popleft())
        ended, talking = [], []
        for dialogue, said in zip(active, seeker.turns(active), strict=True):
            if isinstance(said, str):
                ended.append(replace(dialogue, fault=said))
            else:
                talking.append((dialogue, said))
        replies = system.replies([Heard(dialogue.rounds, said) for dialogue, said in talking]) if talking else []
        active = []
        for (dialogue, said), reply in zip(talking, replies, strict=True):
            dialogue = replace(dialogue, rounds=(*dialogue.rounds, Round(said, reply)))
            over = said.accepts or (dialogue.found is None and len(dialogue.rounds) >= rounds)
            (ended if over else active).append(dialogue)
        if ended:
            finished(ended)
