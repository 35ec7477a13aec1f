"""What to ask next: expected information by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import Conversation, Mention, Role, Split, Turn
from ecr_jax.manager.eliciting import answer_rates, gains, information
from tests.inference.small_films import GRAPH, film


def test_information_by_hand():
    uniform = np.full(4, 0.25)
    halves, answers = information(uniform, [("a",), ("a",), ("b",), ("b",)])
    assert halves == pytest.approx(math.log(2)) and answers == {"a": 0.5, "b": 0.5}
    assert information(uniform, [("a",)] * 4)[0] == pytest.approx(0)
    assert information(uniform, [("a",), ("b",), ("c",), ("d",)])[0] == pytest.approx(math.log(4))
    # No value is an answer too, but none that could be offered.
    assert information(uniform, [("a",), ("a",), (), ()]) == (pytest.approx(math.log(2)), {"a": 0.5})


def test_films_of_several_values_answer_with_one_of_them():
    # Film 0 answers a or b alike, film 1 answers a: q(a) = .75, H(p | a) = H(1/3, 2/3), H(p | b) = 0.
    nats, answers = information(np.array([0.5, 0.5]), [("a", "b"), ("a",)])
    third = -(math.log(1 / 3) / 3 + 2 * math.log(2 / 3) / 3)
    assert answers == {"a": 0.75, "b": 0.25} and nats == pytest.approx(math.log(2) - 0.75 * third)


def test_an_impossible_film_tells_nothing():
    assert information(np.array([1.0, 0.0]), [("a",), ("b",)])[0] == pytest.approx(0)


def test_the_best_question_comes_first_and_offers_the_probable_values():
    items = GRAPH.items
    probabilities = np.zeros(len(items))
    for title, share in {"Big": 0.3, "Ghostbusters": 0.3, "Halloween": 0.2, "Alien": 0.2}.items():
        probabilities[items.tolist().index(film(title))] = share
    always = dict.fromkeys((Attribute.GENRE, Attribute.YEAR), 1.0)
    genre, year = sorted(gains(GRAPH, items, probabilities, always, always), key=lambda gain: gain.attribute.value)
    # Comedy against horror, and Alien is also sci-fi: I = sum of joint log(joint / (p q)).
    joint = [(0.3, 0.3, 0.6), (0.3, 0.3, 0.6), (0.2, 0.2, 0.3), (0.1, 0.2, 0.3), (0.1, 0.2, 0.1)]
    assert genre.nats == pytest.approx(sum(j * math.log(j / (p * q)) for j, p, q in joint))
    assert genre.options == ("comedy", "horror", "sci-fi")
    assert year.options == ("1980s", "1970s") and year.nats == pytest.approx(
        -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    )
    (first, second) = gains(GRAPH, items, probabilities, always, always)
    assert first.nats >= second.nats and first == genre
    rarely = {Attribute.GENRE: 0.1, Attribute.YEAR: 1.0}
    assert gains(GRAPH, items, probabilities, always, rarely)[0].attribute == Attribute.YEAR


def test_answers_are_counted():
    def asked(attribute, text, *mentions):
        return (
            Turn(Role.RECOMMENDER, "What do you like?", acts=(Act(ActName.ASK, attribute),)),
            Turn(Role.SEEKER, text, mentions),
        )

    comedy = Mention(0, 6, "comedy", False, "genre:Comedy")
    turns = (
        *asked(Attribute.GENRE, "comedy", comedy),
        *asked(Attribute.GENRE, "no idea"),
        *asked(Attribute.CAST, "comedy", comedy),
        *asked(Attribute.YEAR, "from the 80s"),
    )
    rates = answer_rates([Conversation("c", Split.TRAIN, turns)], GRAPH)
    assert rates == {
        Attribute.GENRE: 2 / 4, Attribute.CAST: 1 / 3, Attribute.DIRECTOR: 1 / 2, Attribute.YEAR: 2 / 3,
    }  # fmt: skip
