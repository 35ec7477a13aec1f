"""A finished exchange as a reply."""

from __future__ import annotations

import numpy as np

from ecr_jax.data.acts import Act, ActName
from ecr_jax.data.schema import Role
from ecr_jax.features.dialogues import Context, Utterance
from ecr_jax.features.plans import Plan
from ecr_jax.inference.agent import Exchange, reply_of
from ecr_jax.inference.planning import Decision
from ecr_jax.knowledge.reviews import Knowledge


def exchange(neighbours=((), ()), **fields):
    """Where the seeker mentioned two entities and is grateful (label 3) with probability 0.6."""
    turns = (Utterance(Role.SEEKER, "x", "x", (2, 9), (), ((3, 0.6),)), Utterance(Role.RECOMMENDER, "y", "y"))
    arrays = dict(zip(("neighbours", "neighbour_weights"), map(np.asarray, neighbours), strict=True))
    return Exchange(Context(turns, 4), arrays, **fields)


def test_what_explains_a_reply():
    finished = exchange(
        ([[4, 6], [6, 8]], [[0.5, 0.25], [0.5, 0.0]]),
        decision=Decision(Plan((Act(ActName.RECOMMEND),), (5, 3), 1), ranked=((3, 0.3), (5, 0.2))),
        recommendation="see Film 3",
        writer="model",
        knowledge=Knowledge(("Rain",), (("director", "Mann"),)),
        emotional="Good.",
    )
    reply = reply_of(finished, top=10)
    assert reply.text == "see Film 3 Good." and reply.writer == "model"
    assert reply.items == (3,) and reply.ranked == ((3, 0.3), (5, 0.2))
    assert reply.emotions == (("grateful", 0.6),) and reply.entities == (2, 9)
    assert reply.facts == ("director: Mann", "Rain")
    assert reply.related == ((6, 0.75), (4, 0.5)) and reply_of(finished, top=1).related == ((6, 0.75),)
    assert reply_of(exchange(([[4]], [[0.0]])), top=1).facts == ()


def test_the_seed_follows_from_what_was_said():
    assert exchange().seed == exchange().seed
    other = Exchange(Context((Utterance(Role.SEEKER, "z", "z"),), 4), {})
    assert exchange().seed != other.seed and exchange().spoken_of == {2, 9}
