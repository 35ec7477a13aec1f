"""The steps from what the models write and score to a reply."""

from __future__ import annotations

import types

import numpy as np
import pytest

from ecr_jax.data.schema import Role
from ecr_jax.features.dialogues import Context, Utterance
from ecr_jax.inference.agent import Exchange, Reply, choose_items, fill, fill_titles, reply_of
from ecr_jax.knowledge.reviews import Knowledge

GRAPH = types.SimpleNamespace(title=lambda entity: f"Film {entity}")
ITEMS = np.array([2, 3, 5, 7])


def exchange(response="", mentioned=(), probabilities=(0.4, 0.3, 0.2, 0.1), neighbours=((), ()), **fields):
    """Where the seeker mentioned some entities and is grateful (label 3) with probability 0.6."""
    turns = (Utterance(Role.SEEKER, "x", "x", tuple(mentioned), (), ((3, 0.6),)), Utterance(Role.RECOMMENDER, "y", "y"))
    arrays = dict(zip(("neighbours", "neighbour_weights"), map(np.asarray, neighbours), strict=True))
    return Exchange(Context(turns, 4), arrays, response, np.asarray(probabilities), **fields)


@pytest.mark.parametrize(
    ("mentioned", "response", "least", "top", "ranked", "items"),
    [
        ((), "no film", 0, 2, (2, 3), ()),
        ((), "see <movie>", 0, 2, (2, 3), (2,)),
        ((2, 9), "see <movie>", 0, 2, (3, 5), (3,)),  # what was mentioned is not recommended
        ((2,), "see <movie>", 2, 1, (3, 5), (3, 5)),
        ((2, 3, 5), "<movie> or <movie>", 0, 3, (7,), (7,)),  # items run out
    ],
)
def test_choose_items(mentioned, response, least, top, ranked, items):
    chosen = choose_items(exchange(response, mentioned), ITEMS, least, top)
    assert (chosen.ranked, chosen.items) == (ranked, items)


def test_equal_probabilities_keep_the_items_order():
    assert choose_items(exchange(probabilities=[0.25] * 4), ITEMS, 0, 4).ranked == (2, 3, 5, 7)


def test_a_response_is_cut_where_items_run_out():
    filled = fill_titles(exchange("try <movie> or <movie> .", items=(7,)), GRAPH)
    assert filled.recommendation == "try Film 7 or"
    assert fill_titles(exchange("hello", items=(7,)), GRAPH).recommendation == "hello You could also watch Film 7."


def test_what_explains_a_reply():
    neighbours = [[4, 6], [6, 8]], [[0.5, 0.25], [0.5, 0.0]]
    finished = exchange(
        "see <movie>",
        (2, 9),
        neighbours=neighbours,
        ranked=(3, 5),
        items=(3,),
        recommendation="see Film 3",
        knowledge=Knowledge(("Rain",), (("director", "Mann"),)),
        emotional="Good.",
    )
    reply = reply_of(finished, ITEMS, top=10)
    assert reply == Reply("see Film 3", "Good.", (3,), ((3, 0.3), (5, 0.2)), (("grateful", 0.6),), (2, 9),
                          ((6, 0.75), (4, 0.5)), ("director: Mann", "Rain"))  # fmt: skip
    assert reply.text == "see Film 3 Good." and reply_of(finished, ITEMS, top=1).related == ((6, 0.75),)
    assert reply_of(exchange(neighbours=([[4]], [[0.0]])), ITEMS, top=1).facts == ()


@pytest.mark.parametrize(
    ("template", "titles", "text"),
    [
        ("I like <movie> and <movie>.", ["A (1990)", "B"], "I like A (1990) and B."),
        ("I like <movie> .", ["A"], "I like A."),
        ("Try <movie> , it is fun !", ["A"], "Try A, it is fun!"),
        ("No film here.", [], "No film here."),
        ("Try <movie>.", ["A", "B"], "Try A. You could also watch B."),
        ("Try <movie>!", ["A", "B", "C", "D"], "Try A! You could also watch B, C or D."),
        ("<movie>", ["A"], "A"),
        ("  <movie>   \n is good ", ["A"], "A is good"),
        ("", [], ""),
    ],
)
def test_fill(template, titles, text):
    assert fill(template, titles) == text


def test_every_slot_needs_a_title():
    with pytest.raises(ValueError, match="2 slots in 'See <movie> or <movie>.', but 1 titles"):
        fill("See <movie> or <movie>.", ["A"])
