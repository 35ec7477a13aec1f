"""The scripted dialogues: their file, their cast, and the verdicts on hand-made replies."""

from __future__ import annotations

import pytest

from benchmarks.dialogues.cast import Casting, Part
from benchmarks.dialogues.expectations import Line, State, judge, read_scripts
from ecr_jax.data.acts import Act, ActName
from ecr_jax.features.plans import Plan
from ecr_jax.inference.agent import Reply
from ecr_jax.inference.memory import Memory
from ecr_jax.inference.planning import Decision
from ecr_jax.knowledge import graph as graphs
from ecr_jax.knowledge.attributes import spoken_name
from tests.inference.small_films import GRAPH, entity, film


def reply(text, *films, acts=(ActName.RECOMMEND,)):
    plan = Plan(tuple(map(Act, acts)), tuple(map(film, films)), len(films))
    return Reply(text, "", Decision(plan), Memory(), "model")


def verdicts(checks, said, **state):
    parts = {
        "film": Part("Heat (1995)", film("Heat")),
        "hated": Part("horror", entity("Horror", "genre")),
        "actor": Part("Tom Hanks", entity("Tom Hanks")),
        "decade": Part("the eighties", None, (1980, 1989)),
    }
    line = Line("x", tuple(checks.split("; ")))
    return {v.check: v.passed for v in judge(line, said, State(parts, **state), GRAPH)}


BIG = reply("How about Big (1988)?", "Big")


@pytest.mark.parametrize(
    ("check", "said", "passed"),
    [
        ("films 1", BIG, True),
        ("films 2", BIG, False),
        ("films 1", reply("How about that one?", "Big"), False),  # planned and not named
        ("fits {actor}", BIG, True),
        ("fits {actor} {decade}", BIG, True),
        ("fits {decade}", reply("How about Cast Away (2000)?", "Cast Away"), False),
        ("asks", BIG, True),
        ("asks", reply("Fine.", acts=(ActName.CLOSE,)), False),
        ("answer director of {film}", reply("Michael Mann did."), True),
        ("answer director of {film}", reply("Al Pacino did."), False),
        ("answer composer of {film}", reply("I don't know."), True),  # nor does the graph
        ("answer composer of {film}", reply("Hans Zimmer."), False),
        ("yes cast {actor} of {film}", reply("No, it stars Al Pacino."), False),
        ("truth cast {actor} of {film}", reply("No, it stars Al Pacino."), True),
        ("unknown", reply("I don't know."), True),
        ("without {film}", reply("How about Heat (1995)?", "Heat"), False),
        ("explains", reply("Because it stars Tom Hanks."), True),
    ],
)
def test_verdicts(check, said, passed):
    assert verdicts(check, said, latest=(film("Big"),))[check] is passed


def test_what_may_never_come_is_checked_without_being_asked():
    always = "no film that was named before"
    assert verdicts("any", BIG)[always] and not verdicts("any", BIG, named={film("Big")})[always]
    alien = reply("How about Alien (1979)?", "Alien")
    assert verdicts("hates {hated}", alien)["without hated"] is False
    assert verdicts("any", BIG, hated={"hated"})["without hated"] is True
    assert "without hated" not in verdicts("pardons {hated}", alien, hated={"hated"})


def test_a_check_that_does_not_exist():
    with pytest.raises(ValueError, match="no check 'sings'"):
        verdicts("sings", BIG)


def test_the_scripts():
    scripts = read_scripts()
    assert len(scripts) >= 60 and len({script.name for script in scripts}) == len(scripts)
    kinds = {script.name.split(":")[0] for script in scripts}
    assert kinds >= set("facts why refusals seen hated moods several vague nonsense contradictions long".split())
    assert all(script.lines for script in scripts)


def test_a_line_without_checks_is_named(tmp_path):
    path = tmp_path / "scripts.txt"
    path.write_text("name\n> hello\n")
    with pytest.raises(ValueError, match="scripts.txt:2: a line is"):
        read_scripts(path)


def test_casting():
    """Parts have the properties that their names promise."""
    films = [f"imdb:tt{number:02}" for number in range(24)]
    triples = []
    for number, uri in enumerate(films):
        triples += [(uri, "director", f"person:Director {chr(65 + number % 4)}")]
        triples += [(uri, "starring", f"person:Actor {chr(65 + (number // 3 + k) % 4)}{group}")
                    for group in ("x" if number < 12 else "y") for k in range(2)]  # fmt: skip
        triples += [(uri, "genre", f"genre:{('Comedy', 'Drama', 'Horror', 'Thriller', 'Western')[number % 5]}")]
    titles = [(uri, f"Film Number {number} ({1980 + number})") for number, uri in enumerate(films)]
    kinds = {tail: tail.split(":")[0] for _, _, tail in triples}
    graph = graphs.build(triples, films, titles=titles, kinds=kinds)
    parts = Casting(graph).parts(3)
    near = set(graph.neighbours(parts["film"].entity).tolist())
    assert {parts["director"].entity, parts["actor"].entity} <= near
    assert not {parts["stranger"].entity, parts["hated_actor"].entity} & near
    of_film = {spoken_name(graph, e) for e in near}
    assert not {parts[name].text for name in ("genre", "genre2", "hated")} & of_film
    first, last = parts["decade"].years
    assert first <= graph.years[parts["film"].entity] <= last
    assert Casting(graph).parts(3) == parts and "country" not in parts
    with pytest.raises(ValueError, match="well-connected films"):
        Casting(GRAPH)
