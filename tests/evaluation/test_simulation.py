"""Simulated seekers: goals without titles, what they say, the measures worked out by hand, storage, and misbehaving
language models."""

from __future__ import annotations

import dataclasses
import io
import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.data import jsonl
from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import Conversation, Feedback, Mention, Role, Split, Turn
from ecr_jax.evaluation.simulation import dialogue as dialogues
from ecr_jax.evaluation.simulation import run
from ecr_jax.evaluation.simulation.dialogue import Heard, Round, SeekerTurn, Simulated, SystemTurn
from ecr_jax.evaluation.simulation.goals import Goal, draw_goals, named_wishes, wishes_of
from ecr_jax.evaluation.simulation.hold import hold
from ecr_jax.evaluation.simulation.leaks import reveals
from ecr_jax.evaluation.simulation.llm_seeker import LlmSeeker
from ecr_jax.evaluation.simulation.measures import answer_is_right, measured, simulation_rows
from ecr_jax.evaluation.simulation.seeker import RuleSeeker, next_turn
from ecr_jax.evaluation.simulation.systems import PopularitySystem
from ecr_jax.features.dialogues import Utterance
from ecr_jax.features.plans import Plan
from ecr_jax.inference.agent import Reply as AgentReply
from ecr_jax.inference.memory import TurnReading, remember
from ecr_jax.inference.plain import plain_reply
from ecr_jax.inference.planning import decide
from ecr_jax.inference.questions import Question
from ecr_jax.inference.relevance import stated_entities
from ecr_jax.inference.wishes import Wish, films_that_fit
from ecr_jax.knowledge import graph as graphs
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.llm.client import Address, Client
from tests.inference.small_films import GRAPH, LINKER, entity, film
from tests.llm_server import LlmServer, Reply

HEAT, COLLATERAL, AMELIE, ALIEN, BIG = map(film, ("Heat", "Collateral", "Amelie", "Alien", "Big"))
HALLOWEEN, CAST_AWAY, GHOSTBUSTERS, UNKNOWN = map(film, ("Halloween", "Cast Away", "Ghostbusters", "Unknown Land"))
THRILLER, MANN, PACINO = (
    Wish(True, entity("Thriller", "genre")),
    Wish(True, entity("Michael Mann")),
    entity("Al Pacino"),
)
NINETIES = Wish(True, years=(1990, 1999))


def goal(target=HEAT, wishes=None, **fields):
    wishes = wishes_of(target, GRAPH, LINKER, random.Random(0)) if wishes is None else wishes
    return Goal("0001", target, wishes, **fields)


def conversation(recommended, seeker=(), feedback=Feedback.LIKE, number=0):
    """The seeker names films, and the recommender recommends others."""

    def turn(role, films):
        text, mentions = "Well:", []
        for each in films:
            title = GRAPH.title(each)
            mentions.append(Mention(len(text) + 1, len(text) + 1 + len(title), title, True, GRAPH.uris[each], feedback))
            text += f" {title}"
        return Turn(role, text, tuple(mentions))

    turns = (turn(Role.SEEKER, seeker), turn(Role.RECOMMENDER, recommended))
    return Conversation(f"c{number}", Split.TEST, turns)


class Told:
    """A system that recommends films in this order, and answers as it is told; it keeps what it heard."""

    answers = True

    def __init__(self, films, answer="I don't know.", name="told"):
        self.films, self.answer, self.name, self.heard = films, answer, name, []

    def replies(self, heard):
        self.heard.append(list(heard))
        return [self._reply(one) for one in heard]

    def _reply(self, heard):
        if heard.seeker.question is not None:
            return SystemTurn(self.answer)
        if heard.seeker.accepts:
            return SystemTurn("Enjoy!")
        left = [each for each in self.films if each not in heard.named]
        return (
            SystemTurn(f"How about {GRAPH.title(left[0])}?", (left[0],), plan=Plan(())) if left else SystemTurn("Hm.")
        )


def held(system, goals, rounds=8, seeker=None):
    ended = []
    hold(goals, seeker or RuleSeeker(GRAPH), system, rounds, ended.extend)
    return ended


# ------------------------------------------------------------------------------------------------------------- leaks


@pytest.mark.parametrize(
    ("text", "target", "leaks"),
    [
        ("Is it Ghostbusters?", GHOSTBUSTERS, True),
        ("ghostbusters!!", GHOSTBUSTERS, True),
        ("I mean cast-away, with Tom Hanks", CAST_AWAY, True),
        ("Heat (1995)", HEAT, True),
        ("an AMÉLIE kind of film", AMELIE, True),
        ("Something with Tom Hanks", CAST_AWAY, False),
        ("I'm a big fan of comedies", BIG, False),  # an everyday word is not the film
        ("I want to watch Big (1988)", BIG, True),
        ("a film from the UK", ALIEN, False),
    ],
)
def test_what_gives_a_title_away(text, target, leaks):
    assert reveals(text, target, GRAPH, LINKER) == leaks


def test_a_title_before_a_colon_and_an_everyday_expression():
    titles = {"f:1": "Rogue One: A Star Wars Story (2016)", "f:2": "The One (2001)"}
    graph = graphs.build(
        [("f:1", "starring", "p:Diego Luna"), ("f:2", "starring", "p:Jet Li")], titles, titles=list(titles.items())
    )
    linker = EntityLinker(graph)
    assert reveals("it was rogue one, i think", graph.id("f:1"), graph, linker)
    assert not reveals("that is not the one", graph.id("f:2"), graph, linker)


def test_attributes_that_give_the_title_away_are_no_wishes():
    titles = [("f:1", "Australia (2008)"), ("f:2", "Frida (2002)"), ("f:3", "Thief (1981)")]
    triples = [("f:1", "country", "c:Australia"), ("f:1", "genre", "genre:Drama"), ("f:1", "starring", "p:Ann Lee"),
               ("f:2", "starring", "p:Frida Kahlo"), ("f:2", "director", "p:Julie Taymor")]  # fmt: skip
    kinds = {"c:Australia": "country", "genre:Drama": "genre"} | {
        f"p:{name}": "person" for name in ("Ann Lee", "Frida Kahlo", "Julie Taymor")
    }
    graph = graphs.build(triples, ["f:1", "f:2", "f:3"], titles=titles, kinds=kinds)
    linker = EntityLinker(graph)
    for uri, hidden in (("f:1", "c:Australia"), ("f:2", "p:Frida Kahlo")):
        known = {w.entity for w in wishes_of(graph.id(uri), graph, linker, random.Random(0))}
        assert graph.id(hidden) not in known and len(known) > 1


# ------------------------------------------------------------------------------------------------------------- goals


def test_goals_are_recommended_films_of_which_enough_is_known():
    talks = [
        conversation([HEAT, HALLOWEEN], [ALIEN]),
        conversation([HEAT], [BIG], number=1),
        conversation([AMELIE], feedback=Feedback.DISLIKE, number=2),
        conversation([UNKNOWN], number=3),
        conversation([ALIEN], [ALIEN], number=4),  # the seeker named it first
    ]
    goals = draw_goals(talks, GRAPH, LINKER, [HEAT], 10, seed=0)
    assert {g.film for g in goals} == {HEAT, HALLOWEEN} and {g.id for g in goals} == {"0001", "0002"}
    (heat,) = [g for g in goals if g.film == HEAT]
    assert heat.liked == (ALIEN,) and not heat.cold and [g for g in goals if g.film == HALLOWEEN][0].cold
    assert all(films_that_fit(GRAPH, wish, np.asarray([g.film]))[0] for g in goals for wish in g.wishes)
    assert heat.wishes[-1] == Wish(True, years=(1995, 1995)) and len(set(heat.wishes)) == len(heat.wishes)
    assert goals == draw_goals(talks, GRAPH, LINKER, [HEAT], 10, seed=0)
    assert len(draw_goals(talks, GRAPH, LINKER, [], 1, seed=0)) == 1
    with pytest.raises(ValueError, match="of none does the graph know 3"):
        draw_goals([conversation([UNKNOWN])], GRAPH, LINKER, [], 1, seed=0)


def test_wishes_that_a_text_names():
    wishes = (THRILLER, MANN, NINETIES, Wish(True, PACINO))

    def named(text):
        return named_wishes(text, wishes, GRAPH, LINKER)

    assert named("A thriller from the nineties by Michael Mann") == (THRILLER, MANN, NINETIES)
    assert named("anything with al pacino in it") == (Wish(True, PACINO),)
    assert named("Something from 1995, or a comedy") == ()


# ------------------------------------------------------------------------------------------------- the seeker by rule


def test_no_seeker_says_its_title_and_what_it_says_follows_from_its_goal():
    goals = [
        Goal(f"{n:04d}", target, wishes_of(target, GRAPH, LINKER, random.Random(n)), (BIG,))
        for n in range(12)
        for target in (HEAT, ALIEN, AMELIE, GHOSTBUSTERS)
    ]
    order = [COLLATERAL, HALLOWEEN, UNKNOWN, BIG, CAST_AWAY]
    first, again = held(Told(order), goals), held(Told(order), goals)
    assert [each.rounds for each in first] == [each.rounds for each in again]
    for each in first:
        assert each.found is None and len(each.rounds) == 8
        for one in each.rounds:
            assert not reveals(one.seeker.text, each.goal.film, GRAPH, LINKER), one.seeker.text
            assert "{" not in one.seeker.text and "None" not in one.seeker.text
            if one.seeker.question is None and one.seeker.wishes:  # what it means is what it says
                positive = [wish for wish in one.seeker.wishes if wish.wanted]
                assert set(positive) <= set(named_wishes(one.seeker.text, each.goal.wishes, GRAPH, LINKER)), one
    said = {one.seeker.text for each in first for one in each.rounds}
    assert len(said) > 100


def test_it_accepts_its_film_and_the_dialogue_ends_with_the_reply():
    system = Told([COLLATERAL, HEAT])
    (dialogue,) = held(system, [goal()])
    assert dialogue.found is not None and dialogue.rounds[-1].seeker.accepts
    assert dialogue.rounds[-1].reply.text == "Enjoy!" and not any(r.seeker.accepts for r in dialogue.rounds[:-1])
    assert dialogue.rounds[-1].seeker.feedback == {HEAT: True}
    # Found in the last round that counts, it is still accepted.
    (late,) = held(Told([COLLATERAL, HEAT]), [goal()], rounds=dialogue.found)
    assert late.found == dialogue.found and late.rounds[-1].seeker.accepts
    (never,) = held(Told([COLLATERAL, HEAT]), [goal()], rounds=1)
    assert never.found is None and len(never.rounds) == 1


def opened(*rounds, wishes=(THRILLER, NINETIES, MANN)):
    """A dialogue that has begun: (what the seeker said, the reply)."""
    return Simulated(goal(HEAT, wishes, liked=(BIG,)), "told", tuple(Round(*each) for each in rounds))


def test_it_refuses_what_does_not_fit_with_the_reason():
    said = SeekerTurn("Hi! I'm in the mood for a thriller.", wishes=(THRILLER,))
    reply = SystemTurn("How about Big (1988)?", (BIG,))
    turns = [next_turn(opened((said, reply), wishes=(THRILLER, MANN, *extra)), GRAPH) for extra in ((), (NINETIES,))]
    for turn in turns:
        if turn.question is None:
            assert (
                turn.wishes == (THRILLER,) and turn.text.lower().count("a thriller") == 2
            )  # what is wrong, and again the wish
            assert turn.feedback == {BIG: False} and turn.acts[0] == Act(ActName.REJECT)
    again = SeekerTurn("No, a thriller.", wishes=(THRILLER,))
    twice = next_turn(opened((said, reply), (again, SystemTurn("How about Amelie (2001)?", (AMELIE,)))), GRAPH)
    assert twice.question is not None or twice.wishes == (THRILLER, NINETIES)  # more of it, as one wish did not help
    # A film that fits all that was said is refused, and the next wish is said.
    fits = SystemTurn("How about Collateral (2004)?", (COLLATERAL,))
    turn = next_turn(opened((said, fits)), GRAPH)
    assert turn.question is not None or NINETIES in turn.wishes


@pytest.mark.parametrize(
    ("asked", "expected", "wishes", "named"),
    [
        ("Which film did you enjoy lately?", "Big (1988)", (), (BIG,)),
        ("Do you have a favourite actor or director?", "Michael Mann", (MANN,), ()),
        ("Would you like something recent or something older?", "the nineties", (NINETIES,), ()),
        ("What kind of film would you like?", "a thriller", (THRILLER,), ()),
        ("What else should I know?", "the nineties", (NINETIES,), ()),
    ],
)
def test_it_answers_questions(asked, expected, wishes, named):
    said = SeekerTurn("Hi! I'm in the mood for a thriller.", wishes=(THRILLER,))
    turn = next_turn(opened((said, SystemTurn(asked))), GRAPH)
    assert expected in turn.text and turn.wishes == wishes and turn.named == named


def test_it_asks_about_films_and_goes_on_after_the_answer():
    goals = [Goal(f"{n:04d}", HEAT, (THRILLER, NINETIES, MANN)) for n in range(40)]
    ended = held(Told([COLLATERAL, AMELIE, HEAT]), goals)
    questions = [one.seeker.question for each in ended for one in each.rounds if one.seeker.question]
    assert {q.attribute for q in questions} == {
        Attribute.DIRECTOR, Attribute.CAST, Attribute.YEAR, Attribute.GENRE, Attribute.COUNTRY,
    }  # fmt: skip
    for each in ended:
        assert each.found is not None and sum(one.seeker.question is not None for one in each.rounds) <= 2
        films = [one.reply.films for one in each.rounds if one.reply.films]
        assert films == [(COLLATERAL,), (AMELIE,), (HEAT,)]
    assert {one.found for one in ended} == {3, 4, 5}


# ----------------------------------------------------------------------------------------------------------- measures


@pytest.mark.parametrize(
    ("text", "question", "right"),
    [
        ("Heat (1995) was directed by Michael Mann.", Question(Attribute.DIRECTOR, HEAT), True),
        ("Ridley Scott directed it, with Michael Mann.", Question(Attribute.DIRECTOR, HEAT), False),
        ("I don't know.", Question(Attribute.DIRECTOR, HEAT), False),
        ("I don't know who directed it.", Question(Attribute.DIRECTOR, UNKNOWN), True),
        ("Michael Mann did.", Question(Attribute.DIRECTOR, UNKNOWN), False),
        ("Heat came out in 1995.", Question(Attribute.YEAR, HEAT), True),
        ("Heat (1995) is a great film.", Question(Attribute.YEAR, HEAT), False),  # its title answers nothing
        ("It came out in 1994 or 1995.", Question(Attribute.YEAR, HEAT), False),
        ("It stars Robert De Niro.", Question(Attribute.CAST, HEAT), True),
        ("Yes, Al Pacino is in it.", Question(Attribute.CAST, HEAT, PACINO), True),
        ("No, it stars Robert De Niro.", Question(Attribute.CAST, HEAT, PACINO), False),
        ("No, it stars Tom Hanks.", Question(Attribute.CAST, BIG, PACINO), True),
        ("It mixes crime and thriller.", Question(Attribute.GENRE, HEAT), True),
        ("It was made in the USA.", Question(Attribute.COUNTRY, HEAT), True),
    ],
)
def test_right_answers(text, question, right):
    assert answer_is_right(text, question, GRAPH, LINKER) == right


def one_dialogue():
    """Thriller wanted: a comedy, the same comedy again, a wrong answer, the film; the last reply equals the first."""
    asked = Question(Attribute.DIRECTOR, BIG)
    return opened(
        (SeekerTurn("A thriller.", wishes=(THRILLER,)), SystemTurn("Big (1988)!", (BIG,), plain=True)),
        (SeekerTurn("No."), SystemTurn("Big (1988), then.", (BIG,), plain=False)),
        (SeekerTurn("Who directed it?", question=asked), SystemTurn("Michael Mann did.", plain=True)),
        (SeekerTurn("By Mann!", wishes=(MANN,)), SystemTurn("Collateral (2004) or Heat (1995).", (COLLATERAL, HEAT))),
        (SeekerTurn("Great.", accepts=True), SystemTurn("Big (1988)!")),
    )


def test_measures_of_one_dialogue():
    found = measured(one_dialogue(), 6, GRAPH, LINKER)
    assert [found[f"success@{t}"] for t in range(1, 7)] == [(0, 1)] * 3 + [(1, 1)] * 3
    assert found["later_success"] == (1, 1) and found["turns"] == (4, 1)
    assert found["constraints_kept"] == (2, 4) and found["refused_again"] == (1, 4)
    assert found["answers_right"] == (0, 1) and found["repeated_replies"] == (1, 5)
    assert found["films_a_reply"] == (4, 5) and found["plain_replies"] == (2, 3)
    at_once = opened((SeekerTurn("Hi", wishes=(MANN,)), SystemTurn("Heat (1995).", (HEAT,))))
    found = measured(at_once, 6, GRAPH, LINKER)
    assert found["success@1"] == (1, 1) and found["later_success"] == (0, 0) and found["turns"] == (1, 1)
    never = opened((SeekerTurn("Hi"), SystemTurn("Hm.")))
    assert measured(never, 6, GRAPH, LINKER)["turns"] == (6, 1)


def test_rows_have_intervals_over_dialogues_and_differences():
    def system(found):
        return [
            dataclasses.replace(
                opened((SeekerTurn("Hi"), SystemTurn("Heat (1995)." if hit else "Hm.", (HEAT,) if hit else ()))),
                goal=Goal(f"{n:04d}", HEAT, (MANN,), cold=n == 0),
            )
            for n, hit in enumerate(found)
        ]

    broken = [dataclasses.replace(system([False])[0], goal=Goal("0009", HEAT, (MANN,)), fault="broken off")]
    rows = simulation_rows(
        {"ecr": system([True, True, True, False]) + broken, "popularity": system([True, False, False, False])},
        3, GRAPH, LINKER, answering=["ecr"], corpus="films", split="test", resamples=200, seed=0,
    )  # fmt: skip
    by_key = {(row.model, row.stratum, row.metric): row for row in rows}
    success = by_key["ecr", "all", "success@1"]
    assert (success.value, success.n) == (0.75, 4) and success.low < 0.75 < success.high
    assert by_key["ecr", "all", "turns"].value == (1 + 1 + 1 + 3) / 4
    assert by_key["ecr", "cold", "success@3"].n == 1
    difference = by_key["ecr - popularity", "all", "success@3"]
    assert difference.value == 0.5 and difference.p is not None and difference.p <= difference.p_holm
    assert ("ecr", "all", "answers_right") not in by_key  # nothing was asked
    assert simulation_rows(
        {"ecr": []}, 3, GRAPH, LINKER, answering=[], corpus="films", split="test"
    ) == []  # fmt: skip


def test_popularity_fulfils_all_that_was_said():
    system = PopularitySystem(GRAPH, [BIG, BIG, BIG, HEAT, COLLATERAL, COLLATERAL])
    said = [SeekerTurn("Hi"), SeekerTurn("A thriller", wishes=(THRILLER,)),
            SeekerTurn("A thriller of the nineties", wishes=(THRILLER, NINETIES)),
            SeekerTurn("Who directed it?", question=Question(Attribute.DIRECTOR, HEAT))]  # fmt: skip
    replies = system.replies([Heard((), each) for each in said])
    assert [reply.films for reply in replies] == [(BIG,), (COLLATERAL,), (HEAT,), ()]
    assert replies[0].text == "You could watch Big (1988)." and "don't know" in replies[3].text
    before = (Round(said[2], replies[2]),)
    assert system.replies([Heard(before, SeekerTurn("Another"))])[0].films == ()


# ------------------------------------------------------------------------------------------------------------ storage


def test_dialogues_are_kept_in_full_and_in_the_schema_of_corpora(tmp_path):
    goals = [Goal(f"{n:04d}", HEAT, (THRILLER, NINETIES, MANN), (BIG,)) for n in range(10)]
    ended = held(Told([COLLATERAL, AMELIE, HEAT]), goals)
    ended[0] = dataclasses.replace(ended[0], fault="broken off: no text")
    path = tmp_path / "told.rounds.jsonl"
    dialogues.write(path, ended, GRAPH)
    plans = [
        dataclasses.replace(
            each,
            rounds=tuple(Round(r.seeker, dataclasses.replace(r.reply, plan=None)) for r in each.rounds),
        )
        for each in ended
    ]
    assert dialogues.read(path, goals, GRAPH) == plans
    corpus = dialogues.conversations(ended, GRAPH, Split.TEST)
    jsonl.write(tmp_path / "told.jsonl", corpus)
    read = jsonl.read(tmp_path / "told.jsonl", Split.TRAIN)
    assert read.conversations == corpus and not read.bad
    turns = corpus[1].turns
    assert corpus[1].id == f"told {ended[1].goal.id}" and turns[0].role == Role.SEEKER and turns[0].emotions
    named = {m.name: m.feedback for t in turns if t.role == Role.RECOMMENDER for m in t.mentions}
    assert named["Heat (1995)"] == Feedback.LIKE and set(named) == {"Collateral (2004)", "Amelie (2001)", "Heat (1995)"}
    path.write_text('{"goal": "0099"}\n')
    with pytest.raises(ValueError, match=r"told\.rounds\.jsonl:1 is no simulated dialogue"):
        dialogues.read(path, goals, GRAPH)


def test_an_interrupted_simulation_goes_on_with_the_dialogues_that_are_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("ecr_jax.evaluation.simulation.hold.AT_ONCE", 2)
    goals = [Goal(f"{n:04d}", HEAT, (THRILLER, NINETIES, MANN)) for n in range(6)]
    console = Console(quiet=True)

    def hold_all(system, folder):
        return run.held_dialogues(system, goals, RuleSeeker(GRAPH), 8, folder, Split.TEST, GRAPH, console)

    whole, broken = Told([COLLATERAL, HEAT]), Told([COLLATERAL, HEAT])
    expected = hold_all(whole, tmp_path / "whole")
    calls = broken.replies

    def replies(heard):
        if len(broken.heard) == 7:
            raise KeyboardInterrupt
        return calls(heard)

    broken.replies = replies
    with pytest.raises(KeyboardInterrupt):
        hold_all(broken, tmp_path / "again")
    kept = jsonl.read(tmp_path / "again" / "told.jsonl", Split.TEST).conversations
    assert 0 < len(kept) < len(goals)
    again = Told([COLLATERAL, HEAT])
    assert [d.goal.id for d in hold_all(again, tmp_path / "again")] == [goal.id for goal in goals]
    for name in ("told.jsonl", "told.rounds.jsonl"):
        assert (tmp_path / "again" / name).read_text() == (tmp_path / "whole" / name).read_text()
    assert sum(map(len, again.heard)) < sum(map(len, whole.heard)) == sum(len(each.rounds) for each in expected)
    assert not list((tmp_path / "again").glob(".*"))


def test_a_system_sees_what_was_said_and_its_own_plans():
    system = Told([COLLATERAL, AMELIE, HEAT])
    held(system, [Goal("0001", HEAT, (THRILLER, NINETIES, MANN))])
    heard = system.heard[-1][0]
    assert [turn.role for turn in heard.turns[:2]] == [Role.SEEKER, Role.RECOMMENDER]
    assert heard.turns[-1].role == Role.SEEKER and set(heard.plans) <= set(range(1, len(heard.turns), 2))
    assert heard.named >= {COLLATERAL, AMELIE, HEAT} and THRILLER in heard.wishes
    assert len(system.heard[0]) == 1


# ---------------------------------------------------------------------------------------------------- the whole command


class PureAgent:
    """The conversation engine without models: fixed probabilities of the films, and plain replies."""

    graph = GRAPH

    def __init__(self, runs):
        config = dataclasses.replace(configs.load("demo"), name="pure", runs=runs)
        talks = [conversation([each], [BIG], number=each) for each in (HEAT, AMELIE, ALIEN, HALLOWEEN, GHOSTBUSTERS)]
        corpus = SimpleNamespace(split=lambda split: talks, linker=LINKER, manifest={"inputs": {}})
        self.experiment = SimpleNamespace(config=config, corpus=corpus, recommended=[HEAT, HEAT, COLLATERAL])
        self.asked = 0

    def perceive(self, turns, plans):
        utterances = []
        for index, turn in enumerate(turns):
            plan = plans.get(index)
            links = LINKER.link(turn.text) if plan is None else ()
            entities = tuple(link.entity for link in links) if plan is None else stated_entities(plan, GRAPH)
            utterances.append(Utterance(turn.role, turn.text, turn.text, entities, plan=plan))
        return utterances

    def replies(self, dialogues):
        self.asked += 1
        return [self._reply(turns) for turns in dialogues]

    def _reply(self, turns):
        readings = [TurnReading(tuple(LINKER.link(t.text)) if t.role == Role.SEEKER else ()) for t in turns]
        memory = remember(turns, readings, GRAPH)
        probabilities = np.linspace(2, 1, len(GRAPH.items)) / (1.5 * len(GRAPH.items))
        decision = decide(memory, GRAPH.items, probabilities, {}, GRAPH)
        return AgentReply(plain_reply(decision, GRAPH, len(turns)), "", decision, memory, "plain")


def test_an_engine_talks_with_seekers_and_is_measured_once(tmp_path):
    agent, console = PureAgent(tmp_path), Console(file=io.StringIO(), width=100)
    settings = {"split": Split.TEST, "count": 5, "rounds": 6, "seed": 0, "client": None, "console": console}

    def simulated(force=False, baselines=("popularity",)):
        return run.simulate(agent, baselines=baselines, force=force, **settings)

    report = simulated()
    assert report.value("ecr", "success@6").n == 5 and report.value("ecr", "refused_again").value == 0
    assert report.value("popularity", "constraints_kept").value == 1 and report.value("ecr", "plain_replies").value == 1
    assert report.value("ecr", "success@6").value >= 0.8 and report.value("ecr", "constraints_kept").value >= 0.8
    assert report.value("popularity", "answers_right") is None and report.value("ecr - popularity", "turns") is not None
    printed = console.file.getvalue()
    assert "seeker 0001 wants" in printed and "simulated dialogues: found by turn" in printed

    folder = tmp_path / "pure" / "test" / "simulated" / "rule"
    for system in ("ecr", "popularity"):
        kept = jsonl.read(folder / f"{system}.jsonl", Split.TRAIN)
        assert len(kept.conversations) == 5 and kept.counts["films"] and not kept.bad
    assert "simulated dialogues" in (folder / "report.html").read_text(encoding="utf-8")
    asked, words = agent.asked, (folder / "ecr.rounds.jsonl").read_text(encoding="utf-8")
    assert simulated().rows == report.rows and agent.asked == asked
    assert "is complete" in " ".join(console.file.getvalue().split())
    simulated(baselines=())  # another table of the same dialogues
    assert agent.asked == asked and [row.model for row in run.report.read(folder / "report.json").rows][-1] == "ecr"
    simulated(force=True)
    assert agent.asked == 2 * asked and (folder / "ecr.rounds.jsonl").read_text(encoding="utf-8") == words


# ---------------------------------------------------------------------------------------------------- language models


def answered(message, asks="nothing", feeling="neutral"):
    return Reply(json.dumps({"message": message, "asks": asks, "feeling": feeling}))


def played(behaviour, tmp_path, system, goals, rounds=4):
    with LlmServer(behaviour) as server:
        seeker = LlmSeeker(Client(Address(server.url, "m", retries=0), tmp_path / "answers"), GRAPH, LINKER)
        return held(system, goals, rounds, seeker), server.requests, seeker


def test_a_language_model_is_told_attributes_and_never_the_title(tmp_path):
    goals = [Goal(f"{n:04d}", each, wishes_of(each, GRAPH, LINKER, random.Random(0)), (BIG,))
             for n, each in enumerate((GHOSTBUSTERS, AMELIE))]  # fmt: skip
    ended, requests, _ = played(
        lambda body, number: answered("I want a comedy."), tmp_path, Told([COLLATERAL, HALLOWEEN, CAST_AWAY]), goals
    )
    assert len(requests) == 2 * 4 and not any(each.fault for each in ended)
    for request in requests:
        told = "\n".join(message["content"] for message in request["messages"])
        hidden = GHOSTBUSTERS if "Bill Murray" in told else AMELIE
        assert not reveals(told, hidden, GRAPH, LINKER) and "Big (1988)" in told
    notes = [request["messages"][-1]["content"] for request in requests]
    assert "Begin" in notes[0] and any("does not have: " in note and "comedy" in note for note in notes)
    assert all(Wish(True, entity("Comedy", "genre")) in each.rounds[0].seeker.wishes for each in ended)


def test_what_a_language_model_asks_and_when_it_has_found_the_film(tmp_path):
    def behaviour(body, number):
        note = body["messages"][-1]["content"]
        if "Accept it" in note:
            return answered("Thank you!", feeling="grateful")
        return answered("Who made it?", "director", "curious")

    ended, _, _ = played(behaviour, tmp_path, Told([COLLATERAL, HEAT], "Michael Mann."), [goal()])
    (dialogue,) = ended
    assert dialogue.rounds[0].seeker.question is None  # no film was recommended yet
    assert dialogue.rounds[1].seeker.question == Question(Attribute.DIRECTOR, COLLATERAL)
    assert measured(dialogue, 4, GRAPH, LINKER)["answers_right"] == (3, 3)


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (Reply("A comedy, please."), "not JSON"),
        (answered("Is it Ghostbusters?"), "names the film"),
        (answered(""), "asked for: a text"),
        (answered("Hi", "height"), "asks is 'height'"),
        (answered("Hi", feeling="odd"), "feeling is 'odd'"),
        (Reply(None), "no text"),
    ],
)
def test_bad_answers_are_thrown_away_and_asked_for_again(tmp_path, bad, fault):
    target = [goal(GHOSTBUSTERS)]
    (dialogue,), requests, seeker = played(
        lambda body, number: bad if number < 3 else answered("A comedy, please."),
        tmp_path,
        Told([HALLOWEEN]),
        target,
        1,
    )
    assert dialogue.rounds[0].seeker.text == "A comedy, please." and not dialogue.fault
    assert len({request["seed"] for request in requests}) == 3
    assert [fault in each["fault"] for each in seeker.thrown_away] == [True, True]
    (dialogue,), _, _ = played(lambda body, number: bad, tmp_path / "again", Told([HALLOWEEN]), target)
    assert fault in dialogue.fault and not dialogue.rounds
    assert dialogues.conversations([dialogue], GRAPH, Split.TEST) == []
