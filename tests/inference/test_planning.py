"""Plans: what a person would expect as the reply, and that nothing unwanted comes back."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.features.plans import Fact
from ecr_jax.inference.experts import Outcome
from ecr_jax.inference.memory import Memory
from ecr_jax.inference.plain import plain_reply, predicates
from ecr_jax.inference.planning import chosen_by_acts, decide, possible_sub_tasks, rank_films
from ecr_jax.inference.wishes import Wish
from ecr_jax.manager.schema import Choice
from tests.inference.small_films import GRAPH, Talk, entity, film, names


def acts(decision):
    return [str(act) for act in decision.plan.acts]


def test_an_opening_is_greeted_and_asked():
    assert acts(Talk().say("Hi!")) == ["greet", "ask:film"]


def test_a_request_is_recommended_for():
    talk = Talk()
    assert acts(talk.say("I like Heat (1995)")) == ["recommend", "explain"] and len(talk.recommended) == 1
    assert "Heat" not in talk.recommended


@pytest.mark.parametrize(("text", "count"), [("another one", 1), ("two more films please", 2), ("some more movies", 2),
                                             ("two more, but no horror", 2),
                                             ("ten movies please", 3), ("recommend me three films", 3)])  # fmt: skip
def test_as_many_films_as_are_asked_for(text, count):
    talk = Talk()
    talk.say("I like Heat (1995)")
    talk.say(text)
    assert len(talk.recommended) == count


def test_nothing_named_comes_back():
    talk = Talk()
    talk.say("I like Heat (1995) and Alien (1979)")
    seen = {"Heat", "Alien", *talk.recommended}
    for text in ("I've seen it", "not that one", "something else", "another one"):
        talk.say(text)
        assert len(talk.recommended) == 1 and not seen & set(talk.recommended)
        seen |= set(talk.recommended)


def test_unwanted_things_never_come():
    talk = Talk()
    talk.say("no horror and nothing with Tom Hanks please")
    for _ in range(5):
        talk.say("another one")
        assert not {"Alien", "Halloween", "Big", "Cast Away"} & set(talk.recommended)
    talk.say("another one")  # films run out
    assert talk.recommended == [] and acts(talk.decision)[-1].startswith("ask")


def test_wishes_are_fulfilled_and_kept():
    talk = Talk()
    talk.say("a comedy please")
    assert talk.recommended[0] in {"Amelie", "Big", "Ghostbusters"} and talk.decision.unmet == ()
    talk.say("from the eighties")
    assert talk.recommended[0] in {"Big", "Ghostbusters"}
    talk.say("with Sigourney Weaver")
    assert talk.recommended == ["Ghostbusters"] or talk.decision.unmet


def test_what_no_film_fulfils_is_said():
    talk = Talk()
    decision = talk.say("a French horror movie")
    assert len(talk.recommended) == 1 and [wish.entity for wish in decision.unmet]


def ranked(*wishes, probabilities=None):
    items = GRAPH.items
    probabilities = np.full(len(items), 1 / len(items)) if probabilities is None else probabilities
    films, unmet = rank_films(Memory(wishes=wishes), items, probabilities, GRAPH)
    return names(film for film, _ in films), unmet


@pytest.mark.parametrize(
    "text", ["do you have anything by Ridley Scott or Robert Zemeckis?", "a horror film or a romance, please"]
)
def test_one_of_two_alternatives_is_enough(text):
    decision = Talk().say(text)
    assert len(decision.plan.films) == 1 and decision.unmet == ()
    assert Talk().say("a horror film from France please").unmet != ()


def test_firm_wishes_before_probability_and_likings_beside_it():
    comedy = entity("Comedy", "genre")
    probabilities = np.full(len(GRAPH.items), 0.01)
    probabilities[GRAPH.items.tolist().index(film("Heat"))] = 0.9
    assert set(ranked(Wish(True, comedy), probabilities=probabilities)[0][:3]) == {"Amelie", "Big", "Ghostbusters"}
    assert ranked(Wish(True, comedy, firm=False), probabilities=probabilities)[0][0] == "Heat"  # .9 / .01 > e^2.5
    assert set(ranked(Wish(True, comedy, firm=False))[0][:3]) == {"Amelie", "Big", "Ghostbusters"}


def test_of_wishes_that_exclude_each_other_the_later_counts_more():
    horror, hanks = entity("Horror", "genre"), entity("Tom Hanks")
    assert ranked(Wish(True, horror), Wish(True, hanks))[0][0] in {"Big", "Cast Away"}
    assert ranked(Wish(True, hanks), Wish(True, horror))[0][0] in {"Alien", "Halloween"}
    assert ranked(Wish(True, hanks), Wish(True, horror))[1] == (Wish(True, hanks),)


@pytest.mark.parametrize(
    ("text", "attribute", "yes", "values"),
    [
        ("who directed Heat (1995)?", "director", None, ("Michael Mann",)),
        ("is Al Pacino in Heat (1995)?", "cast", True, ("Al Pacino",)),
        ("is Tom Hanks in Heat (1995)?", "cast", False, ("Al Pacino", "Robert De Niro")),
        ("did Michael Mann direct Heat (1995)?", "director", True, ("Michael Mann",)),
        ("is Heat (1995) a comedy?", "genre", False, ("thriller", "crime")),
        ("is Heat (1995) from the nineties?", "year", True, ("1995",)),
        ("is Heat (1995) from the 80s?", "year", False, ("1995",)),
        ("who directed Unknown Land (2010)?", "director", None, ()),
        ("is Tom Hanks in Unknown Land (2010)?", "cast", None, ()),
        ("what's Heat (1995) about?", "plot", None, ()),
    ],
)
def test_answers(text, attribute, yes, values):
    decision = Talk().say(text)
    (answer,) = decision.answers
    assert acts(decision) == [f"answer:{attribute}"] and answer.question.attribute == attribute
    assert (answer.yes, answer.values) == (yes, values)
    assert decision.plan.facts[0] == Fact(0, Attribute(attribute), values) and decision.plan.recommended == 0


@pytest.mark.parametrize("text", ["no more questions please, just give me a film", "surprise me", "You choose."])
def test_who_insists_on_a_film_is_not_asked(text):
    assert acts(Talk().say(text))[0] == "recommend"


@pytest.mark.parametrize("text", ["are you a robot?", "Hi, how are you?", "what can you do", "Who are you?"])
def test_questions_about_the_recommender_lead_back_to_films(text):
    assert acts(Talk().say(text)) == ["chat", "ask:film"]
    assert acts(Talk().say(f"{text} I like Heat (1995)"))[-2:] == ["recommend", "explain"]


def test_a_wish_is_a_request_whatever_the_learned_acts_say():
    talk = Talk({Act(ActName.ASK): 0.9, Act(ActName.RECOMMEND): 0.1})
    assert acts(talk.say("Hello")) == ["greet", "ask:film"]
    assert acts(talk.say("a comedy please"))[0] == "recommend"


def test_what_was_wished_is_not_asked_for():
    talk = Talk({Act(ActName.ASK): 0.9, Act(ActName.RECOMMEND): 0.1})
    assert acts(talk.say("I love comedies")) == ["ask:film"]
    assert acts(talk.say("hm")) == ["ask:cast"]


def test_joy_is_answered_before_anything_else():
    assert acts(Talk().say("I'm so happy, I passed my exam!!", "happy"))[0] == "react"
    assert acts(Talk().say("Hello, what a lovely day!", "happy"))[0] == "greet"


def test_who_else_is_in_it():
    talk = Talk()
    talk.say("something with Sigourney Weaver but not Alien (1979)")
    assert acts(talk.say("great choice! who else is in it?")) == ["answer:cast"]


def test_a_question_about_no_film_is_asked_back():
    decision = Talk().say("who directed it?")
    assert acts(decision) == ["ask:film"] and decision.unclear


def test_why_states_what_is_shared():
    talk = Talk()
    talk.say("I love Heat (1995), another thriller please")
    assert talk.recommended == ["Collateral"]
    decision = talk.say("why that one?")
    assert acts(decision) == ["explain"] and names(decision.plan.films) == ["Collateral", "Heat"]
    assert {fact.values for fact in decision.plan.facts} == {("Michael Mann",)}


def test_thanks_close_and_nonsense_is_asked_about():
    talk = Talk()
    talk.say("I like Heat (1995)")
    assert acts(talk.say("thanks, bye!")) == ["close"]
    assert acts(Talk().say("asdf qwer zxcv"))[0] == "chat"


def test_who_feels_bad_is_comforted_first():
    decision = Talk().say("I feel terrible today", "negative")
    assert acts(decision)[0] == "react" and decision.comfort
    assert decision.plan.heard == "negative" and decision.plan.tone == "agreement"


def test_learned_acts_choose_where_nothing_is_asked_for():
    def reply(**likely):
        talk = Talk({Act(ActName(name)): value for name, value in likely.items()})
        return acts(talk.say("I like Heat (1995)"))

    assert reply(ask=0.9, recommend=0.1) == ["ask:genre"]
    assert reply(ask=0.1, recommend=0.9) == ["recommend", "explain"]
    assert reply(ask=0.1, recommend=0.9, react=0.8) == ["react", "recommend", "explain"]


def test_it_does_not_ask_forever():
    talk = Talk({Act(ActName.ASK): 0.9, Act(ActName.RECOMMEND): 0.1})
    replies = [acts(talk.say(text))[0] for text in ("I like Heat (1995)", "well", "hm well", "and so")]
    assert "recommend" in replies[:3]


def test_at_least_as_many_films_as_are_demanded():
    talk = Talk()
    talk.say("Hi!", at_least=2)
    assert len(talk.recommended) == 2


def test_offered_genres_are_none_that_are_unwanted():
    decision = Talk().say("no comedy please")
    assert "comedy" not in decision.options and len(decision.options) == 3


@pytest.mark.parametrize("seed", range(30))
def test_plain_replies_name_what_is_planned(seed):
    talk = Talk()
    for text in ("Hi!", "I like Heat (1995)", "two more", "who directed the first one?", "why?", "thanks"):
        decision = talk.say(text)
        said = plain_reply(decision, GRAPH, seed)
        plan = decision.plan
        assert all(GRAPH.title(f) in said for f in plan.films[len(plan.films) - plan.recommended :])
        assert all(any(value in said for value in fact.values) for fact in plan.facts if fact.values)
        assert said[-1] in ".!?" and said[0].isupper()


@pytest.mark.parametrize("said", ["Hello", "I like Heat (1995)", "No comedy please", "thanks, bye", "qwer asdf", "no!"])
def test_plain_replies_to_the_same_plan_are_rarely_equal(said):
    talk = Talk()
    talk.say("I like Big (1988)") if said == "no!" else None
    decision = talk.say(said)
    replies = [plain_reply(decision, GRAPH, seed) for seed in range(40)]
    assert len(set(replies)) >= 24 and replies == [plain_reply(decision, GRAPH, seed) for seed in range(40)]


def test_plain_replies_are_not_said_twice_in_a_dialogue():
    decision = Talk().say("thanks, bye")
    said = []
    for _ in range(100):
        said.append(plain_reply(decision, GRAPH, 0, said[-15:]))
    assert all(len(set(said[start : start + 16])) == 16 for start in range(0, 85))
    answer = Talk()
    answer.say("I like Heat (1995)")
    decision = answer.say("is Al Pacino in Heat (1995)?")
    only = plain_reply(decision, GRAPH, 0)
    assert plain_reply(decision, GRAPH, 0, [only]) == only  # there are no other words


def test_who_wrote_and_directed_a_film_is_said_once():
    penn = ("Sean Penn",)
    facts = [Fact(0, Attribute.DIRECTOR, penn), Fact(0, Attribute.WRITER, penn), Fact(0, Attribute.YEAR, ("2007",))]
    assert predicates(facts) == ["was written and directed by Sean Penn", "came out in 2007"]
    facts[1] = Fact(0, Attribute.WRITER, ("Jon Krakauer",))
    assert predicates(facts[:2]) == ["was directed by Sean Penn", "was written by Jon Krakauer"]


# ----------------------------------------------------------------------------------------------------- sub-tasks

PEAKED = np.array([0.9, *[0.1 / (len(GRAPH.items) - 1)] * (len(GRAPH.items) - 1)])


@pytest.mark.parametrize(
    ("said", "possible"),
    [
        (["Hi!"], {"elicit", "recommend"}),
        (["I like Heat (1995)"], {"recommend", "elicit", "chat"}),
        (["recommend me a comedy"], {"recommend"}),
        (["who directed Heat (1995)?"], {"details"}),
        (["who directed it?"], {"elicit"}),  # no film is under discussion
        (["I like Heat (1995)", "why that one?"], {"explain"}),
        (["I like Heat (1995)", "thanks, bye"], {"chat"}),
        (["I like Heat (1995)", "Al Pacino is good"], {"recommend", "elicit", "chat", "explain"}),
        (["xqzt brzk"], {"elicit"}),
    ],
)
def test_what_is_asked_for_in_so_many_words_leaves_one_sub_task(said, possible):
    talk = Talk()
    for text in said:
        talk.say(text)
    assert set(possible_sub_tasks(talk.memory, PEAKED)) == possible


def test_the_learned_acts_choose_between_asking_and_recommending():
    likely = {Act(ActName.ASK): 0.8, Act(ActName.RECOMMEND): 0.3}
    assert chosen_by_acts(("recommend", "elicit"), likely) == "elicit"
    assert chosen_by_acts(("recommend", "elicit"), {}) == "recommend"
    assert chosen_by_acts(("recommend",), likely) == "recommend"
    assert chosen_by_acts(("elicit", "recommend"), {}) == "elicit"


def planned(memory, sub_task, outcome=None):
    return decide(memory, GRAPH.items, PEAKED, {}, GRAPH, choice=Choice(sub_task), outcome=outcome)


def test_the_chosen_sub_task_is_carried_out():
    talk = Talk()
    talk.say("I like Heat (1995)")
    talk.say("Al Pacino is good")
    for sub_task, act in {"recommend": "recommend", "elicit": "ask", "chat": "react", "explain": "explain"}.items():
        assert act in [a.name.value for a in planned(talk.memory, sub_task).plan.acts]
    assert planned(talk.memory, "chat").plan.films == ()


def test_what_an_expert_found_goes_into_the_plan():
    talk = Talk()
    talk.say("I like Heat (1995)")
    memory = talk.memory
    scores = np.full(len(GRAPH.items), -9.0)
    scores[GRAPH.items.tolist().index(film("Halloween"))] = 0
    assert planned(memory, "recommend", Outcome(scores=scores)).plan.films == (film("Halloween"),)
    asked = planned(memory, "elicit", Outcome(attribute=Attribute.GENRE, options=("horror", "comedy")))
    assert [str(act) for act in asked.plan.acts] == ["ask:genre"] and asked.options == ("horror", "comedy")
    told = Outcome(films=(film("Heat"),), facts=(Fact(0, Attribute.CAST, ("Al Pacino",)),))
    explained = planned(memory, "explain", told).plan
    assert explained.films == told.films and explained.facts == told.facts
    answered = planned(memory, "details", told)
    assert [str(act) for act in answered.plan.acts] == ["answer:cast"] and answered.answers[0].values == ("Al Pacino",)
    plain_reply(answered, GRAPH, 0)


@pytest.mark.parametrize("sub_task", ["recommend", "details", "explain", "elicit", "chat"])
def test_without_an_outcome_the_plan_does_without(sub_task):
    talk = Talk()
    talk.say("I like Heat (1995)")
    failed = Outcome("failed", "down", scores=np.zeros(2))
    assert planned(talk.memory, sub_task, failed) == planned(talk.memory, sub_task)
    assert plain_reply(planned(talk.memory, sub_task), GRAPH, 0)
