"""One generated dialogue."""

from __future__ import annotations

import numpy as np

from ecr_jax.data.films.ground import Ground, Heard
from ecr_jax.data.films.recommender import GREET, RECOMMEND, Recommender
from ecr_jax.data.films.seeker import Seeker
from ecr_jax.data.films.world import World
from ecr_jax.data.films.writing import Style, draw, pick
from ecr_jax.data.schema import Turn

_ROUNDS = {2: 0.34, 3: 0.42, 4: 0.24}
"""How many recommendations a dialogue has, with their probabilities; it has fewer where the seeker is content."""


def converse(world: World, rng: np.random.Generator) -> tuple[Turn, ...]:
    """Generates a dialogue.

    Args:
      world: the films.
      rng: the source of all choices.

    Returns:
      Alternating turns, the last of which says goodbye.
    """
    seeker = Seeker(world, rng, _seeker_style(rng))
    ground = seeker.ground = Ground(world, rng, seeker.feedback)
    recommender = Recommender(ground, _recommender_style(rng))
    if rng.random() < 2 / 3:
        first = recommender.greet(ask=rng.random() < 0.6)
        asked_how = first.emotions == ("curious",) and first.acts == (GREET,)
        _, heard = seeker.open(greeted=True, asked_how=asked_how)
    else:
        _, heard = seeker.open(greeted=False, asked_how=False)
    rounds = int(draw(rng, {str(number): p for number, p in _ROUNDS.items()}))
    may_ask = _may_ask(seeker, rng)
    while not heard.leaves:
        asked = _next_question(ground, heard, may_ask, rng)
        reply = recommender.reply(heard, asked)
        if asked is not None:
            _, heard = seeker.answer(asked)
        else:
            rounds -= RECOMMEND in reply.acts
            _, heard = seeker.react(last=rounds <= 0 and rng.random() < 0.75)
    recommender.close(heard)
    if rng.random() < 0.55:
        seeker.say_bye(content=heard.accepted is not None)
    return tuple(ground.turns)


def _may_ask(seeker: Seeker, rng: np.random.Generator) -> list[str]:
    """What the recommender will ask for: mostly what the seeker has to say."""
    kinds = {"genre": "genre", "actor": "cast", "director": "director", "era": "year"}
    asks = []
    if seeker.unstated and rng.random() < 0.7:
        kind = kinds[seeker.unstated[0][0]]
        asks.append(draw(rng, {kind: 0.65, "": 0.2, pick(rng, tuple(kinds.values())): 0.15}))
    if rng.random() < 0.2:
        asks.append("film")
    if rng.random() < (0.4 if seeker.aversion else 0.15):
        asks.append("avoid")
    return asks[:2]


def _next_question(ground: Ground, heard: Heard, may_ask: list[str], rng: np.random.Generator) -> str | None:
    """What the recommender asks for now; None where they answer or recommend."""
    if heard.questions or heard.why is not None or heard.films or heard.critique:
        return None
    known = ground.tastes or ground.liked
    if not known and rng.random() < (0.35 if ground.mood else 0.85):
        return draw(rng, {"": 0.45, "genre": 0.4, "film": 0.15})
    return may_ask.pop(0) if may_ask and rng.random() < 0.5 else None


def _seeker_style(rng: np.random.Generator) -> Style:
    lower = bool(rng.random() < 0.16)
    casual = 0.5 if rng.random() < (0.6 if lower else 0.06) else 0.0
    return Style(lower, casual, 0.03 if rng.random() < 0.12 else 0.003)


def _recommender_style(rng: np.random.Generator) -> Style:
    return Style(lower=bool(rng.random() < 0.05), typos=0.02 if rng.random() < 0.04 else 0.0)
