"""What a dialogue comes to: wishes, films liked, seen and refused, questions, and what is taken back."""

from __future__ import annotations

import dataclasses

import pytest

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import Role
from ecr_jax.features.dialogues import Correction, Utterance
from ecr_jax.features.plans import Plan
from ecr_jax.inference.memory import TurnReading, as_corrected, beliefs, remember
from ecr_jax.inference.phrases import explicit_acts
from ecr_jax.inference.wishes import polarity, year_spans
from tests.inference.small_films import FILMS, GRAPH, LINKER, Talk, entity, film, names


def wishes(*texts):
    """Wishes after seeker turns, as text: "+Comedy", "-Horror", "+1990-1999"."""
    talk = Talk()
    for text in texts:
        talk.say(text)
    return sorted(
        ("+" if w.wanted else "-") + (f"{w.years[0]}-{w.years[1]}" if w.years else GRAPH.names[w.entity])
        for w in talk.memory.wishes
    )


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["no horror please"], ["-Horror"]),
        (["I love comedies but no horror"], ["+Comedy", "-Horror"]),
        (["nothing with Tom Cruise or Al Pacino"], ["-Al Pacino", "-Tom Cruise"]),
        (["I can't stand horror, romance or dramas"], ["-Drama", "-Horror", "-Romance"]),
        (["a comedy with Tom Hanks"], ["+Comedy", "+Tom Hanks"]),
        (["something from the nineties"], ["+1990-1999"]),
        (["a thriller before 1980"], ["+1880-1979", "+Thriller"]),
        (["a comedy please", "from the 80s"], ["+1980-1989", "+Comedy"]),  # kept over turns
        (["a comedy please", "a thriller instead"], ["+Thriller"]),
        (["something with Tom Hanks", "something with Bill Murray"], ["+Bill Murray"]),
        (
            ["something with Tom Hanks", "It should also be directed by Penny Marshall"],
            ["+Penny Marshall", "+Tom Hanks"],
        ),
        (["a comedy please", "And I'd like it to be a romance as well"], ["+Comedy", "+Romance"]),
        (["a film with Al Pacino", "And Robert De Niro should be in it, too."], ["+Al Pacino", "+Robert De Niro"]),
        (["I want a comedy. Actually, make it a horror movie"], ["+Horror"]),
        (["no horror", "horror is fine after all"], []),  # withdrawn
        (["no horror", "I'd like a horror movie now"], ["+Horror"]),  # the last word counts
        (["from the eighties", "any year is fine"], []),
        (["a comedy with Tom Hanks", "whatever"], []),
        (["no horror", "whatever"], ["-Horror"]),  # an aversion stays
        (["a French film"], ["+France"]),
        (["something in French"], ["+French"]),
        (["I wouldn't mind a western or a comedy"], ["+Comedy"]),
        (["I haven't seen many comedies"], []),
        (["I want something funny"], ["+Comedy"]),
        (["nothing scary please, a really romantic film"], ["+Romance", "-Horror"]),
        (["no scary movies"], ["-Horror"]),
        (["a good comedy that's not from the US"], ["+Comedy", "-USA"]),
        (["a comedy without Tom Hanks"], ["+Comedy", "-Tom Hanks"]),
        (["I want to laugh"], ["+Comedy"]),
        (["movies from 1988 or 1995"], ["+1988-1995"]),
        (["please stop recommending old films"], ["-1880-1986"]),
        (["can you recommend a movie by the director of Heat (1995)?"], ["+Michael Mann"]),
        (["something with the same actor as in Big (1988)"], ["+Tom Hanks"]),
        (["what did Michael Mann direct?"], ["+Michael Mann"]),
        (["from the eighties or nineties"], ["+1980-1999"]),
        (["from the eighties, like something from 1984"], ["+1984-1984"]),  # the later is the closer
        (["not from the eighties, but from 1999"], ["+1999-1999"]),
        (["no i want something really sad"], ["+Drama"]),
        (["It was a bit boring"], []),
        (["I hate crime"], ["-Crime"]),
        (["Anything but Tom Cruise movies. I like comedies."], ["+Comedy", "-Tom Cruise"]),
        (["I watch nothing but horror"], ["+Horror"]),
        (["what else has Tom Hanks done over the years?"], ["+Tom Hanks"]),
    ],
)
def test_wishes(texts, expected):
    assert wishes(*texts) == expected


_FIRST_DIRECTOR = {title.split(" (")[0]: facts.get("director") for title, facts in FILMS.items()}


def test_wishes_that_refer_to_what_was_said():
    talk = Talk()
    talk.say("I loved Heat (1995)")
    (first,) = talk.recommended
    talk.say("another one by the same director")
    (wish,) = talk.memory.wishes
    assert [GRAPH.names[wish.entity]] == _FIRST_DIRECTOR[first]


@pytest.mark.parametrize(
    ("text", "name", "sign"),
    [
        ("I don't like Horror at all", "Horror", -1),
        ("I hated Heat, but Alien was great", "Heat", -1),
        ("I hated Heat, but Alien was great", "Alien", 1),
        ("Heat was boring", "Heat", -1),
        ("I can't get enough of Horror", "Horror", 1),
        ("Heat", "Heat", 0),
    ],
)
def test_polarity(text, name, sign):
    assert polarity(text, text.index(name)) == sign


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("early 90s", (1990, 1994)),
        ("the 2010s", (2010, 2019)),
        ("between 1980 and 1985", (1980, 1985)),
        ("after 2000", (2001, 2100)),
        ("since 2000", (2000, 2100)),
        ("from 1994", (1994, 1994)),
        ("older", (1880, 1994)),  # than Heat
        ("the eighties or the nineties", (1980, 1999)),
        ("from the 80s to the 90s", (1980, 1999)),
        ("from 1990 to 1995", (1990, 1995)),
        ("I was born in 1984, so something from the nineties", (1990, 1999)),
    ],
)
def test_years(text, span):
    assert [years for _, years in year_spans(text, GRAPH, film("Heat"))] == [span]


def test_all_spans_of_years_are_read():
    text = "Is it from the eighties? I think it came out in 1984."
    assert year_spans(text, GRAPH, None) == [(text.index("eight"), (1980, 1989)), (text.index("in 19"), (1984, 1984))]


def test_films_liked_disliked_and_a_changed_mind():
    talk = Talk()
    talk.say("I loved Heat (1995) and Alien (1979), but Big (1988) was boring")
    assert names(talk.memory.liked) == ["Heat", "Alien"] and names(talk.memory.disliked) == ["Big"]
    talk.say("Actually Heat (1995) was terrible")
    assert names(talk.memory.liked) == ["Alien"] and set(names(talk.memory.disliked)) == {"Big", "Heat"}


def test_seen_and_refused_films_are_those_of_the_last_reply():
    talk = Talk()
    talk.say("recommend me a comedy")
    (first,) = talk.recommended
    talk.say("I've seen it, it was great")
    (second,) = talk.recommended
    assert names(talk.memory.seen) == [first] and names(talk.memory.liked) == [first]
    talk.say("not that one")
    assert names(talk.memory.refused) == [second] and second not in names(talk.memory.liked)


@pytest.mark.parametrize(
    "text",
    [
        "do you know Heat (1995)?",
        "Is Heat (1995) any good?",
        "Do you think I'd like Heat (1995)?",
        "What do you think of Heat (1995)?",
    ],
)
def test_a_film_as_a_whole_is_asked_about_and_not_liked_by_that(text):
    talk = Talk()
    talk.say(text)
    assert [(q.attribute, q.film) for q in talk.memory.questions] == [(Attribute.PLOT, film("Heat"))]
    assert talk.memory.liked == () and talk.decision.plan.recommended == 0


@pytest.mark.parametrize(
    ("text", "act"),
    [
        ("Just what I was looking for!", "accept"),
        ("that's exactly what I wanted to see", "accept"),
        ("That is not quite what I was looking for", "reject"),
        ("It isn't what I had in mind.", "reject"),
        ("What I'm looking for is a comedy", "request"),
        ("I don't know what I want to see", "request"),
    ],
)
def test_as_it_was_wished_is_no_wish(text, act):
    assert explicit_acts(text) == {ActName(act)}


def test_one_of_two_films_is_seen():
    talk = Talk()
    talk.say("two comedies please")
    first, second = talk.decision.plan.films
    talk.say("I've seen the second one")
    assert talk.memory.seen == (second,) and first not in talk.memory.refused


def test_have_you_seen_is_no_seen():
    talk = Talk()
    talk.say("recommend me a comedy")
    talk.say("I haven't seen it. Have you seen it?")
    assert talk.memory.seen == ()


@pytest.mark.parametrize(
    ("text", "attribute", "title", "entity_name"),
    [
        ("Who directed it?", "director", "Heat", None),
        ("who's in it", "cast", "Heat", None),
        ("Who directed Alien (1979)?", "director", "Alien", None),
        ("Is Tom Cruise in it?", "cast", "Heat", "Tom Cruise"),
        ("Did Tom Cruise direct it?", "director", "Heat", "Tom Cruise"),
        ("Is it a comedy?", "genre", "Heat", "Comedy"),
        ("is it a French film?", "country", "Heat", "France"),
        ("Is it in French?", "language", "Heat", "French"),
        ("what year did it come out?", "year", "Heat", None),
        ("what genre is it", "genre", "Heat", None),
        ("which country is it from?", "country", "Heat", None),
        ("what's it about?", "plot", "Heat", None),
        ("how long is it?", "runtime", "Heat", None),
    ],
)
def test_questions(text, attribute, title, entity_name):
    talk = Talk()
    talk.say("I like Heat (1995)")
    talk.turns, talk.readings = talk.turns[:1], talk.readings[:1]  # the film under discussion is Heat
    talk.say(text)
    (question,) = talk.memory.questions
    assert (question.attribute, GRAPH.names[question.film]) == (attribute, title)
    assert (None if question.entity is None else GRAPH.names[question.entity]) == entity_name
    assert talk.memory.wishes == ()  # a question is no wish


@pytest.mark.parametrize(
    "text",
    [
        "Do you know any movies directed by Ridley Scott?",
        "what kind of movies do you like?",
        "Can you recommend something with Tom Hanks?",
        "what should I watch?",
    ],
)
def test_requests_are_no_questions_about_a_film(text):
    talk = Talk()
    talk.say("I like Heat (1995)")
    talk.say(text)
    assert talk.memory.questions == ()


def test_the_second_one():
    talk = Talk()
    talk.say("recommend me two comedies")
    second = talk.recommended[1]
    talk.say("who directed the second one?")
    assert GRAPH.names[talk.memory.questions[0].film] == second


def test_a_question_is_asked_again_of_the_second_one():
    talk = Talk()
    talk.say("I like Heat (1995), two films please")
    first, second = talk.decision.plan.films
    talk.say("who directed the first one?")
    assert [q.film for q in talk.memory.questions] == [first]
    talk.say("and the second?")
    assert [(q.attribute, q.film) for q in talk.memory.questions] == [(Attribute.DIRECTOR, second)]


def test_a_question_is_asked_again_in_the_same_turn():
    talk = Talk()
    talk.say("What year did Ghostbusters (1984) come out? And Big (1988)?")
    assert [q.film for q in talk.memory.questions] == [film("Ghostbusters"), film("Big")]


def test_whether_a_film_is_by_the_same_director_is_no_wish():
    talk = Talk()
    talk.say("Who directed Heat (1995)?")
    talk.say("Is Collateral (2004) by the same director?")
    assert talk.memory.wishes == ()


def test_a_question_is_asked_again_of_another_film():
    talk = Talk()
    talk.say("Who directed Heat (1995)?")
    talk.say("and Alien (1979)?")
    (question,) = talk.memory.questions
    assert (question.attribute, question.film) == ("director", film("Alien"))
    talk.say("what about the year?")
    (question,) = talk.memory.questions
    assert (question.attribute, question.film) == ("year", film("Alien"))


def test_what_prose_names_is_not_said():
    """Of a reply of our own only the plan counts, whatever its text names."""
    plan = Plan((Act(ActName.RECOMMEND),), (film("Alien"),), 1)
    turns = [Utterance(Role.RECOMMENDER, "Alien (1979), or Heat (1995)?", "", (film("Alien"),), plan=plan)]
    memory = remember(turns, [TurnReading(tuple(LINKER.link(turns[0].text)))], GRAPH)
    assert names(memory.named) == ["Alien"] and memory.discussed == film("Alien")


def test_turns_of_a_human_recommender_recommend_what_they_name():
    turns = [Utterance(Role.RECOMMENDER, "How about Alien (1979)?", "", (film("Alien"), entity("Ridley Scott")))]
    memory = remember(turns, [TurnReading()], GRAPH)
    assert names(memory.recommended) == ["Alien"] and memory.person == entity("Ridley Scott")


@pytest.mark.parametrize("text", ["", "asdf qwer zxcv", "Bonjour, je voudrais regarder quelque chose", "😀😀", "1234"])
def test_what_is_not_understood(text):
    talk = Talk()
    talk.say(text)
    assert not talk.memory.intelligible


def test_trouble_that_is_not_about_films():
    talk = Talk()
    talk.say("I feel terrible today", "negative")
    assert talk.memory.troubled
    talk.say("Heat (1995) was terrible", "negative")
    assert not talk.memory.troubled
    talk.say("I hate crime", "negative")
    assert not talk.memory.troubled


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("I feel terrible today, my dog died.", True),
        ("I'm so sad. Maybe a comedy?", True),
        ("It was a rough week", True),
        ("I'm down for a comedy", False),
        ("I love sad films", False),
        ("I felt awful after Heat (1995), it made me sad", False),
    ],
)
def test_who_says_that_they_feel_bad_is_heard_whatever_the_classifier_finds(text, bad):
    talk = Talk()
    talk.say(text, "like")
    assert talk.memory.troubled is bad and talk.memory.heard == ("negative" if bad else "like")


def test_the_words_of_a_title_do_nothing():
    link = LINKER.link("Heat (1995)")[0]
    text = "I like Thanks, Bye (1995)."
    turn = Utterance(Role.SEEKER, text, text, (link.entity,))
    reading = TurnReading((dataclasses.replace(link, start=7, end=25),))
    assert remember([turn], [reading], GRAPH).acts == frozenset()


# -------------------------------------------------------------------------------------------------------- corrections


def belief_ids(memory):
    return {belief.id: belief for belief in beliefs(memory, GRAPH)}


def after(texts, correction):
    """The memory after seeker turns, the last of which comes with a correction."""
    talk = Talk()
    for text in texts:
        talk.say(text)
    place = max(index for index, turn in enumerate(talk.turns) if turn.role == Role.SEEKER)
    turns = list(talk.turns[: place + 1])
    turns[place] = dataclasses.replace(turns[place], correction=correction)
    return remember(turns, talk.readings[: place + 1], GRAPH), turns


def test_beliefs_have_the_same_ids_in_every_memory():
    talk = Talk()
    talk.say("I loved Heat, but I hated Alien. A comedy from the nineties, no horror")
    first = belief_ids(talk.memory)
    heat = GRAPH.uris[film("Heat")]
    assert {f"liked:{heat}", f"disliked:{GRAPH.uris[film('Alien')]}"} <= set(first)
    assert {"constraint:with:genre:Comedy", "constraint:without:genre:Horror", "constraint:with:1990-1999"} <= set(
        first
    )
    assert first[f"liked:{heat}"].entity == film("Heat") and first[f"liked:{heat}"].wish is None
    talk.say("Big (1988) is great too")
    assert set(first) < set(belief_ids(talk.memory))


def test_what_is_withdrawn_is_gone_until_it_is_said_again():
    texts = ["I loved Heat. A comedy, no horror", "go on"]
    known = set(belief_ids(after(texts, Correction())[0]))
    assert "constraint:without:genre:Horror" in known and len(known) == 3
    for gone in known:
        memory, _ = after(texts, Correction(forgotten=frozenset([gone])))
        assert set(belief_ids(memory)) == known - {gone}
    memory, _ = after([texts[0], "no horror"], Correction(forgotten=frozenset(["constraint:without:genre:Horror"])))
    assert "constraint:without:genre:Horror" in belief_ids(memory)
    memory, _ = after(texts, Correction(forgotten=frozenset(["liked:nothing", "nonsense"])))
    assert set(belief_ids(memory)) == known


def test_a_film_may_come_again_after_seen_or_refused_is_withdrawn():
    heat = film("Heat")
    seen, _ = after(["I have seen Heat", "go on"], Correction())
    assert heat in seen.seen and heat in seen.named
    withdrawn, _ = after(["I have seen Heat", "go on"], Correction(forgotten=frozenset([f"seen:{GRAPH.uris[heat]}"])))
    assert heat not in (*withdrawn.seen, *withdrawn.named, *withdrawn.recommended)
    liked, _ = after(["I loved Heat", "go on"], Correction(forgotten=frozenset([f"liked:{GRAPH.uris[heat]}"])))
    assert heat not in liked.liked and heat in liked.named  # known, so not recommended


def test_films_marked_by_hand_count_as_said():
    big, alien, heat = film("Big"), film("Alien"), film("Heat")
    correction = Correction(liked=(big,), disliked=(heat,), seen=(big,), passed=(alien,))
    memory, turns = after(["I loved Heat", "go on"], correction)
    assert (memory.liked, memory.disliked, memory.seen) == ((big,), (heat,), (big,))
    assert {big, alien, heat} <= set(memory.named)
    *before, last = as_corrected(turns, GRAPH)
    assert last.entities == (big, heat) and last.valences == ((big, 1.0), (heat, -1.0))
    assert before == turns[:-1]


def test_the_recommender_does_not_read_what_is_withdrawn():
    heat, horror = film("Heat"), entity("Horror", "genre")
    texts = ["I loved Heat. A comedy, no horror", "Heat (1995) again"]
    _, turns = after(texts, Correction())
    assert as_corrected(turns, GRAPH) == tuple(turns) and {heat, horror} <= set(turns[0].entities)
    forgotten = frozenset([f"liked:{GRAPH.uris[heat]}", "constraint:without:genre:Horror"])
    first, *_, last = as_corrected(after(texts, Correction(forgotten=forgotten))[1], GRAPH)
    assert not {heat, horror} & set(first.entities) and entity("Comedy", "genre") in first.entities
    assert heat in last.entities and first.text == texts[0]
