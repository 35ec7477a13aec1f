"""Every check on hand-made bad replies, and no fault in good ones."""

from __future__ import annotations

import pytest

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.features.plans import Fact, Plan
from ecr_jax.inference.checks import find_faults, fluency_faults, tone_faults
from ecr_jax.inference.plain import plain_reply
from ecr_jax.inference.planning import Answer, Decision
from ecr_jax.inference.questions import Question
from tests.inference.small_films import GRAPH, LINKER, Talk, entity, film

HEAT, COLLATERAL, LAND = film("Heat"), film("Collateral"), film("Unknown Land")


def act(name, attribute=None):
    return Act(ActName(name), attribute)


RECOMMEND = Decision(Plan((act("recommend"),), (COLLATERAL,), 1, (Fact(0, Attribute.DIRECTOR, ("Michael Mann",)),)))
TWO = Decision(Plan((act("recommend"),), (HEAT, COLLATERAL), 2))
SAD = Decision(Plan((act("react"), act("recommend")), (COLLATERAL,), 1), comfort=True)
HAPPY = Decision(Plan((act("recommend"),), (COLLATERAL,), 1, heard="happy", tone="happy"))
ASK = Decision(Plan((act("ask", Attribute.GENRE),)))
EXPLAIN = Decision(Plan((act("explain"),), (COLLATERAL, HEAT), 0, (Fact(0, Attribute.DIRECTOR, ("Michael Mann",)),)))


def answering(attribute, values, yes=None, entity=None, of=HEAT):
    question = Question(Attribute(attribute), of, entity)
    plan = Plan((act("answer"),), (of,), 0, (Fact(0, Attribute(attribute), values),))
    return Decision(plan, (Answer(question, yes, values),))


DIRECTOR = answering("director", ("Michael Mann",))
NO_CRUISE = answering("cast", ("Al Pacino", "Robert De Niro"), False, entity("Tom Cruise"))
UNKNOWN = answering("director", (), of=LAND)


def faults(text, decision, context=(), emotional=False):
    found = find_faults(text, decision, GRAPH, LINKER, context=frozenset(context), emotional=emotional)
    return {fault.kind for fault in found}


@pytest.mark.parametrize(
    ("text", "decision"),
    [
        ("How about Collateral (2004)?", RECOMMEND),
        ("You might like Collateral (2004), directed by Michael Mann.", RECOMMEND),
        ("Collateral (2004) stars Tom Cruise and Jamie Foxx. Michael Mann directed it!", RECOMMEND),
        ("I'd recommend Collateral (2004), a thriller from the USA.", RECOMMEND),
        ("It's a great film of the 2000s: Collateral (2004).", RECOMMEND),
        ("Heat (1995) or Collateral (2004)? Both were directed by Michael Mann.", TWO),
        ("What are you in the mood for, a comedy or a horror film?", ASK),
        ("Do you like the films of Tom Hanks?", ASK),
        ("Heat (1995) was directed by Michael Mann.", DIRECTOR),
        ("That was Michael Mann.", DIRECTOR),
        ("No, it stars Al Pacino and Robert De Niro.", NO_CRUISE),
        ("No, Tom Cruise is not in it, Al Pacino is.", NO_CRUISE),
        ("I don't know who directed Unknown Land (2010).", UNKNOWN),
        ("Don't miss Collateral (2004).", RECOMMEND),
        ("Because it was directed by Michael Mann, like Heat (1995).", EXPLAIN),
        ("You might like Collateral (2004). Michael Mann is the director.", RECOMMEND),
        ("I'm sorry to hear that. Maybe Collateral (2004)?", SAD),
        ("You might like Collateral (2004). It has Tom Cruise, who you mentioned.", RECOMMEND),
        ("You might like Collateral (2004), a mix of crime and thriller.", RECOMMEND),
    ],
)
def test_good_replies_have_no_faults(text, decision):
    assert faults(text, decision, (entity("Tom Hanks"), entity("Tom Cruise"))) == set()


@pytest.mark.parametrize(
    ("text", "decision", "kind"),
    [
        ("How about Collateral (2004) or Alien (1979)?", RECOMMEND, "film"),  # not planned
        ("How about Collateral (2004)? Tom Cruise is the director.", RECOMMEND, "fact"),
        ("You'd have a good time with Collateral (2004).", SAD, "missing"),
        ("How about Collateral (2004)? Jamie Foxx! Who? Jamie Foxx! And jamie foxx!", RECOMMEND, "loop"),
        ("How about Collateral (2004)? It has Jamie Foxx, who you mentioned.", RECOMMEND, "fact"),  # they did not
        ("Collateral (2004) stars Jamie Foxx. I like Jamie Foxx, and so does Jamie Foxx.", RECOMMEND, "loop"),
        ("How about Collateral (2004)? It's a mix of Tom Cruise and Jamie Foxx.", RECOMMEND, "fact"),
        ("How about Collateral (2004)? It's a mix of thriller and Jamie Foxx.", RECOMMEND, "fact"),
        ("How about Collateral (2004)? I don\u00edt know it.", RECOMMEND, "form"),
        ("Collateral (2004) is good. See Collateral (2004) soon.", RECOMMEND, "film"),  # twice
        ("How about Heat (1995)?", TWO, "missing"),
        ("I like that film a lot.", RECOMMEND, "missing"),
        ("How about Collateral (2004)? It stars Tom Hanks.", RECOMMEND, "fact"),
        ("How about Collateral (2004)? Jamie Foxx directed it.", RECOMMEND, "fact"),
        ("Collateral (2004) stars Michael Mann.", RECOMMEND, "fact"),  # the right person, the wrong relation
        ("Collateral (2004) was written by Michael Mann.", RECOMMEND, "entity"),  # the graph knows no writer of it
        ("How about Collateral (2004), a comedy?", RECOMMEND, "entity"),
        ("How about Collateral (2004), a French film?", RECOMMEND, "entity"),
        ("How about Collateral (2004)? It came out in 1987.", RECOMMEND, "fact"),
        ("How about Collateral (2004), from the 80s?", RECOMMEND, "fact"),
        ("How about Collateral (2004) with Bruno Bozzetto?", RECOMMEND, "entity"),  # nobody that the graph knows
        ("How about Collateral (2004)? It won three Oscars.", RECOMMEND, "fact"),
        ("How about Collateral (2004)? It is the sequel of a great film.", RECOMMEND, "fact"),
        ("What do you like?", RECOMMEND, "missing"),
        ("I see what you mean.", ASK, "missing"),
        ("Who knows?", DIRECTOR, "missing"),
        ("Heat (1995) was directed by Al Pacino.", DIRECTOR, "fact"),
        ("It is a great film.", DIRECTOR, "missing"),
        ("Yes, and it stars Al Pacino and Robert De Niro.", NO_CRUISE, "fact"),
        ("It stars Al Pacino and Robert De Niro.", NO_CRUISE, "missing"),  # neither yes nor no
        ("It was directed by somebody famous.", UNKNOWN, "missing"),
        ("I don't know, but Ridley Scott directed it.", UNKNOWN, "entity"),
        ("Because you will love it.", EXPLAIN, "missing"),
        ("How about Collateral (2004)? It is good and it is good and it is good.", RECOMMEND, "loop"),
        ("How about Collateral (2004)? You will like it. You will like it.", RECOMMEND, "loop"),
        ("How about Collateral (2004)? It was directed by", RECOMMEND, "form"),
        ("How about <movie>?", RECOMMEND, "form"),
        ("How about Collateral (2004?", RECOMMEND, "form"),
        ("System: How about Collateral (2004)?", RECOMMEND, "form"),
        ("How about the the film Collateral (2004)?", RECOMMEND, "form"),
        ("How about Collateral (2004)? It is directed by Michael Mann. Michael Mann is great.", RECOMMEND, "loop"),
        ("I'm sorry you didn't like it. How about Collateral (2004)?", HAPPY, "tone"),  # they did not say so
        ("Sorry, I didn't get that. How about Collateral (2004)?", RECOMMEND, "tone"),  # what it understood
        ("How about Collateral (2004)? I'm not a big fan of it.", RECOMMEND, "tone"),
        ("How about Collateral (2004)? It was a waste of time.", RECOMMEND, "tone"),
        ("I'm sorry. I'm so glad that you can watch Collateral (2004)!", SAD, "tone"),
        ("Collateral (2004), who is a great actor, is for you.", RECOMMEND, "fact"),
        ("You might like Collateral (2004), and here is why.", RECOMMEND, "form"),
        ("You might like Collateral (2004), it's a 1.", RECOMMEND, "fact"),
        ("How about Collateral (2004)? You liked it, so you might like it.", RECOMMEND, "fact"),
        ("You liked Collateral (2004), so I thought of it.", RECOMMEND, "fact"),
        ("You said you like thrillers, so how about Collateral (2004)?", RECOMMEND, "fact"),  # they did not
        ("", RECOMMEND, "form"),
        ("Collateral (2004) " + "is good and fine , " * 30, RECOMMEND, "form"),
    ],
)
def test_bad_replies(text, decision, kind):
    assert kind in faults(text, decision)


def test_the_seekers_words_may_be_taken_up_where_no_film_is_spoken_of():
    hanks = (entity("Tom Hanks"),)
    react = Decision(Plan((act("react"), act("recommend")), (COLLATERAL,), 1))
    assert faults("I see, Tom Hanks fans are many. How about Collateral (2004)?", react) == {"entity"}
    assert faults("I see, Tom Hanks fans are many. How about Collateral (2004)?", react, hanks) == set()
    assert faults("How about Collateral (2004) with Tom Hanks?", react, hanks) != set()


def test_an_emotional_response_need_not_name_the_film_again():
    assert faults("I was glued to the screen, and Jamie Foxx is great.", RECOMMEND, emotional=True) == set()
    assert faults("Tom Hanks is great.", RECOMMEND, emotional=True) == {"entity"}
    assert faults("It is better than Alien (1979).", RECOMMEND, emotional=True) == {"film"}


@pytest.mark.parametrize("seed", range(20))
def test_plain_replies_pass(seed):
    """The plain sentences are what is said where nothing passes, so they must themselves."""
    talk = Talk()
    for text, emotion in (
        ("Hi!", "neutral"), ("I like Heat (1995) and Tom Hanks, no horror", "like"), ("two more", "curious"),
        ("who directed the first one and who is in it?", "curious"), ("is it a comedy?", "curious"),
        ("what is it about?", "curious"), ("why?", "curious"), ("I've seen it, it was awful", "negative"),
        ("a French thriller", "neutral"), ("three more films", "happy"), ("qwer asdf", "neutral"),
        ("I feel so alone", "negative"), ("it reminds me of my youth", "nostalgia"), ("thank you", "grateful"),
    ):  # fmt: skip
        decision = talk.say(text, emotion)
        said = plain_reply(decision, GRAPH, seed)
        context = frozenset(e for turn in talk.turns for e in turn.entities)
        assert find_faults(said, decision, GRAPH, LINKER, context=context) == (), said


def test_fluency_and_tone():
    assert fluency_faults(4.0, 5.0) == () and fluency_faults(5.5, 5.0)[0].kind == "fluency"
    assert tone_faults("agreement", {"happy": 0.9, "neutral": 0.1})[0].kind == "tone"
    assert tone_faults("agreement", {"happy": 0.4, "neutral": 0.6}) == ()
    assert tone_faults("happy", {"happy": 0.9}) == () and tone_faults("", {"negative": 0.9}) == ()
