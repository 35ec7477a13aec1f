"""From candidates to what is said: slots, checks in one batch, the best one."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.data.acts import Act, ActName
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.features.plans import Plan
from ecr_jax.inference.candidates import (
    Candidate,
    Checker,
    Draft,
    FluencyBound,
    as_fluent,
    best,
    filled,
    first_sentences,
)
from ecr_jax.inference.checks import Fault
from ecr_jax.inference.phrases import clean_text
from ecr_jax.inference.planning import Decision
from tests.inference.small_films import GRAPH, LINKER, film


@pytest.mark.parametrize(
    ("template", "titles", "text"),
    [
        ("I like <movie> and <movie>.", ["A (1990)", "B"], "I like A (1990) and B."),
        ("Try <movie> , it is fun !", ["A"], "Try A, it is fun!"),
        ("No film here.", ["A"], "No film here."),  # what is left out is a fault, not added
        ("Try <movie> or <movie>.", ["A"], "Try A or <movie>."),
        ("  <movie>   \n is good ", ["A"], "A is good"),
        ("", [], ""),
        (
            "I'd choose between <movie> and  movie.",
            ["Heat (1995)"],
            "I'd choose between Heat (1995) and <movie> movie.",
        ),
        ("Hello.  How are you?", [], "Hello. How are you?"),
    ],
)
def test_filled(template, titles, text):
    assert filled(template, titles) == text


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One. Two! Three?", "One. Two!"),
        ("By J. Smith. Two.", "By J. Smith. Two."),
        ("One", "One"),
        ("One... Two. Three", "One... Two."),
    ],
)
def test_first_sentences(text, first):
    assert first_sentences(text) == first


def test_models_are_asked_about_sound_texts_alone_and_the_most_fluent_is_best():
    asked = []

    def fluency(texts):
        asked.append(list(texts))
        losses = np.asarray([9.0 if "really" in text else len(text) / 100 for text in texts])
        return losses, np.asarray([len(text.split()) for text in texts])

    def emotions(texts):
        return np.eye(len(EMOTIONS))[[EMOTIONS.index("negative" if "sad" in t else "happy") for t in texts]]

    plan = Plan((Act(ActName.RECOMMEND),), (film("Heat"),), 1, tone="happy")
    texts = ["How about Heat (1995), my friend?", "How about Heat (1995)?", "How about Alien (1979)?",
             "Heat (1995) is sad.", "Really, really, how about Heat (1995)?", "How about Heat (1995)?"]  # fmt: skip
    checker = Checker(GRAPH, LINKER, emotions, fluency, bound=FluencyBound(5.0))
    (candidates,) = checker([Draft(Decision(plan), texts)])
    assert [len(c.faults) > 0 for c in candidates] == [False, False, True, True, True]  # one text of two that are equal
    assert asked == [[c.text for c in candidates if not any(f.kind in ("film", "missing") for f in c.faults)]]
    assert best(candidates).text == "How about Heat (1995)?"
    assert best([c for c in candidates if c.faults]) is None
    assert checker([Draft(Decision(plan), [])]) == [[]] and checker([]) == []


def test_an_emotional_response_to_a_question_is_not_sad_about_the_film():
    plan = Plan((Act(ActName.RECOMMEND),), (film("Heat"),), 1, tone="neutral")
    checker = Checker(GRAPH, LINKER, lambda texts: np.eye(len(EMOTIONS))[[EMOTIONS.index("negative")] * len(texts)])
    for emotional, kinds in ((True, ["tone"]), (False, [])):
        ((candidate,),) = checker([Draft(Decision(plan), ["Heat (1995) is sad."], emotional=emotional)])
        assert [fault.kind for fault in candidate.faults] == kinds


def test_the_fluency_bound_is_met_by_half_of_human_turns_of_any_length():
    tokens = np.array([4, 8, 8, 16, 16, 40])
    losses = 3 + 8 / tokens + np.array([0.1, -0.1, 0.1, -0.1, 0.1, -0.1])
    bound = FluencyBound.of(losses, tokens)
    assert bound.opening == pytest.approx(8, abs=1) and bound.long == pytest.approx(3, abs=0.1)
    assert bound(4) > bound(16) > bound(400) > bound.long
    assert sum(loss <= bound(n) for loss, n in zip(losses, tokens, strict=True)) == 3
    assert FluencyBound.of(np.array([3.0, 2.0, 4.0]), np.array([5, 5, 5]))(5) == 3  # no slope without other lengths
    assert FluencyBound.of(np.array([]), np.array([]))(5) == float("inf")


def test_a_candidate_may_be_as_fluent_as_what_is_said_in_its_place():
    slow, wrong = (Fault("fluency", "slow"),), (Fault("fluency", "slow"), Fault("fact", "wrong"))
    candidates = [Candidate("a", slow, 5.5), Candidate("b", slow, 5.0), Candidate("c", wrong, 1.0)]
    chosen = as_fluent(candidates, 5.2)
    assert chosen is not None and chosen.text == "b" and not chosen.faults
    assert as_fluent(candidates, 4.9) is None
    assert as_fluent(candidates, 6.0, said=["Well, b."]).text == "a"


def test_without_fluency_the_first_sound_one_is_best():
    bad = Candidate("x", (Fault("form", "y"),))
    assert best([bad, Candidate("a"), Candidate("b")]).text == "a"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\x00b\x1b[31m\n c", "a b [31m c"),
        ("\ud800x", "x"),
        ("  ", ""),
        ("😀 Amélie", "😀 Amélie"),
        ("x" * 100_000, "x" * 2000),
    ],
)
def test_clean_text(text, clean):
    assert clean_text(text) == clean


def test_the_best_says_most_facts_and_nothing_again():
    candidates = [
        Candidate("It is fun.", loss=1.0),
        Candidate("Mann directed it.", loss=3.0),
        Candidate("Mann directed Pacino in it.", loss=4.0),
        Candidate("Mann, Pacino and De Niro!", (Fault("form", "-"),), loss=0.5),
    ]
    values = ("Mann", "Pacino", "De Niro")
    assert best(candidates, values=values).text == "Mann directed Pacino in it."
    assert best(candidates, said=["Yes. Mann directed Pacino in it. Enjoy!"], values=values).text == "Mann directed it."
    assert best(candidates, said=["It is fun."]).text == "Mann directed it."
