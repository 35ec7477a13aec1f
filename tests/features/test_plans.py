"""The line of a prompt that tells the plan of a reply."""

from __future__ import annotations

import pytest

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import Conversation, Feedback, Mention, Role, Split, Turn
from ecr_jax.features.plans import Fact, Plan, acts_by_rule, films_named, plan_of_turn, plan_text
from ecr_jax.knowledge import graph as graphs
from tests import tiny

RECOMMEND = (Act(ActName.REACT), Act(ActName.RECOMMEND))


def test_text_of_a_plan():
    assert plan_text(Plan((Act(ActName.ASK, Attribute.GENRE),))) == "plan: ask:genre"
    plan = Plan(RECOMMEND, (7,), 1, (Fact(0, Attribute.DIRECTOR, ("Joel Coen", "Ethan Coen")),), "negative", "grateful")
    assert plan_text(plan) == (
        "plan: react, recommend | films: <movie> | <movie> director: Joel Coen, Ethan Coen | heard: negative | "
        "tone: grateful"
    )
    two = Plan((Act(ActName.ANSWER, Attribute.YEAR),), (7, 9), 1, (Fact(1, Attribute.YEAR),))
    assert plan_text(two) == "plan: answer:year | about: <movie> | films: <movie> | <movie> 2 year: unknown"


def test_plans_that_contradict_themselves():
    for films, recommended, facts in (((7,), 2, ()), ((7, 7), 1, ()), ((7,), 1, (Fact(1, Attribute.YEAR),))):
        with pytest.raises(ValueError, match="films are recommended|named twice|about none of the 1 films"):
            Plan(RECOMMEND, films, recommended, facts)


def test_films_under_discussion_may_be_left_out():
    plan = Plan(RECOMMEND, (7, 9, 4), 1)
    assert films_named(plan, 3) == (7, 9, 4) and films_named(plan, 1) == (4,)
    assert films_named(plan, 2) is None and films_named(plan, 0) is None  # which of the two, and no recommendation
    assert films_named(Plan(RECOMMEND), 0) == () and films_named(Plan(RECOMMEND, (7,), 0), 0) == ()


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graph")
    tiny.write_graph(folder)
    return graphs.from_unicrs(folder)


def turn(role, text, *names, acts=()):
    """A turn whose mentions are the first occurrences of `names`: films of `tiny.FILMS`, or other entities."""
    mentions = []
    for name in names:
        film = name in tiny.FILMS
        title = tiny.FILMS[name] if film else name.replace("_", " ")
        start = text.index(title)
        entity = None if name == "Unknown" else tiny.uri(name)
        mentions.append(Mention(start, start + len(title), title, film, entity, Feedback.UNSAID if film else None))
    return Turn(role, text, tuple(sorted(mentions, key=lambda m: m.start)), acts=tuple(map(Act.parse, acts)))


def seeker(text, *names):
    return turn(Role.SEEKER, text, *names)


def recommender(text, *names, acts=()):
    return turn(Role.RECOMMENDER, text, *names, acts=acts)


def plan_of(graph, *turns, **feelings):
    return plan_of_turn(Conversation("c", Split.TRAIN, turns), len(turns) - 1, graph, **feelings)


LIKED = seeker("I liked Thief (1981) by Michael Mann.", "Thief_(film)", "Michael_Mann")


def test_plan_of_a_recommendation(graph):
    reply = recommender("Michael Mann also made Collateral (2004).", "Michael_Mann", "Collateral_(film)")
    collateral = graph.ids[tiny.uri("Collateral_(film)")]
    facts = (Fact(0, Attribute.DIRECTOR, ("Michael Mann",)),)
    expected = Plan((Act(ActName.RECOMMEND),), (collateral,), 1, facts, "like", "happy")
    assert plan_of(graph, LIKED, reply, heard="like", tone="happy") == expected


def test_plan_with_a_film_under_discussion(graph):
    thief, collateral = (graph.ids[tiny.uri(name)] for name in ("Thief_(film)", "Collateral_(film)"))
    named = recommender("If you liked Thief (1981), see Collateral (2004).", "Thief_(film)", "Collateral_(film)")
    plan = plan_of(graph, LIKED, named)
    assert (plan.films, plan.recommended, plan.facts) == ((thief, collateral), 1, ())
    assert plan.acts == (Act(ActName.RECOMMEND), Act(ActName.EXPLAIN))
    reverse = recommender("See Collateral (2004), it is like Thief (1981).", "Thief_(film)", "Collateral_(film)")
    assert plan_of(graph, LIKED, reverse).films == (collateral, thief)
    assert plan_of(graph, LIKED, reverse).recommended == 2  # from the first new film on


def test_plans_of_answers(graph):
    thief = graph.ids[tiny.uri("Thief_(film)")]
    asked = (LIKED, recommender("Great."), seeker("Who directed it?"))
    answer = recommender("Michael Mann did, in 1981.", "Michael_Mann", acts=["answer:director"])
    plan = plan_of(graph, *asked, answer)
    facts = (Fact(0, Attribute.DIRECTOR, ("Michael Mann",)),)
    assert plan == Plan((Act(ActName.ANSWER, Attribute.DIRECTOR),), (thief,), 0, facts)
    unknown = recommender("I do not know who is in it.", acts=["answer:cast"])
    assert plan_of(graph, *asked, unknown).facts == (Fact(0, Attribute.CAST),)
    ruled = plan_of(graph, *asked, recommender("Michael Mann did.", "Michael_Mann"))
    assert ruled.acts == (Act(ActName.ANSWER),) and ruled.films == (thief,) and ruled.facts == facts
    nothing = plan_of(graph, *asked, recommender("What do you like?"))
    assert nothing.films == () and nothing.acts == (Act(ActName.ASK, Attribute.FILM),)


def test_turns_without_a_plan(graph):
    twice = "See Ronin (1998) or Ronin (1998)."
    mention = [Mention(at, at + 12, "Ronin (1998)", True, tiny.uri("Ronin_(film)"), Feedback.UNSAID) for at in (4, 20)]
    assert plan_of(graph, LIKED, Turn(Role.RECOMMENDER, twice, tuple(mention))) is None
    unlinked = Mention(4, 11, "Unknown", True, None, Feedback.UNSAID)
    assert plan_of(graph, LIKED, Turn(Role.RECOMMENDER, "See Unknown.", (unlinked,))) is None


@pytest.mark.parametrize(
    ("reply", "before", "acts"),
    [
        ("Hello, which genre do you like?", [], ["greet", "ask:genre"]),
        ("Who is your favorite director?", [LIKED], ["ask:director"]),
        ("I am sorry to hear that. What about actors?", [LIKED], ["react", "ask:cast"]),
        ("Because it is similar to that one.", [LIKED], ["explain"]),
        ("It is two hours long.", [LIKED, recommender("Ok."), seeker("Is it long?")], ["answer"]),
        ("You're welcome, enjoy the film!", [LIKED], ["close"]),
        ("Me too.", [LIKED], ["chat"]),
    ],
)
def test_acts_by_rule(reply, before, acts):
    assert [str(act) for act in acts_by_rule(recommender(reply), before, new=False)] == acts
