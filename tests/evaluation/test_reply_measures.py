"""Automatic measures of replies by hand, on a small graph."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np
import pytest

from ecr_jax.data.acts import Attribute
from ecr_jax.evaluation import system_replies, text_metrics
from ecr_jax.evaluation.perplexity import reply_losses
from ecr_jax.evaluation.reply_facts import (
    Statement,
    contradicts,
    films_discussed,
    films_named,
    named_entities,
    statements,
    unsupported,
)
from ecr_jax.evaluation.reply_measures import (
    Judged,
    emotion_alignment,
    equal_replies,
    flatness,
    knowledge_used,
    measure_replies,
    repetition,
)
from ecr_jax.evaluation.system_replies import SystemReply
from ecr_jax.features.tokenizer import DialogueTokenizer
from ecr_jax.knowledge import graph as graphs
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.models.lm.language_model import logits
from tests import tiny
from tests.inference import small_films


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graph")
    tiny.write_graph(folder / "kg")
    tiny.write_lines(folder / "movies.jsonl", tiny.movie_rows())
    return graphs.from_unicrs(folder / "kg", folder / "movies.jsonl")


@pytest.fixture(scope="module")
def linker(graph):
    return EntityLinker(graph)


@pytest.fixture(scope="module")
def entity(graph):
    """Name of a page -> entity id."""
    return lambda name: graph.ids[tiny.uri(name)]


def test_repetition_length_and_equality_by_hand():
    assert repetition("a b c a b c") == pytest.approx(1 / 4)  # abc bca cab abc
    assert repetition("a b") == repetition("") == 0
    assert equal_replies(["Hello there!", "hello there", "no"]).tolist() == [1, 1, 0]


def test_knowledge_used_by_hand():
    facts = ("director: Michael Mann", "starring: James Caan", "Rain")
    assert knowledge_used("Michael Mann made it; rainy.", facts) == pytest.approx(1 / 3)
    assert knowledge_used("It is by michael mann, with James Caan, in the rain.", facts) == 1
    assert math.isnan(knowledge_used("anything", ()))


def test_emotions_by_hand():
    one, two = np.zeros((1, 9)), np.zeros((1, 9))
    one[0, [0, 1]], two[0, [1, 2]] = (0.3, 0.7), (0.4, 0.6)
    assert emotion_alignment(one, two)[0] == pytest.approx(0.4)
    assert emotion_alignment(one, one)[0] == 1
    assert flatness(np.array([0, 7, 0, 0, 0, 0, 0, 0, 0])) == 1
    assert flatness(np.ones(9)) == pytest.approx(0)
    assert flatness(np.array([1, 1, 0, 0, 0, 0, 0, 0, 0])) == pytest.approx(1 - math.log(2) / math.log(9))


def test_what_is_named_and_what_supports_it(graph, linker, entity):
    text = "Thief (1981) by Michael Mann. Or Ronin (1998)? It has Robert De Niro!"
    links = named_entities(text, linker)
    assert films_named(links, graph) == (entity("Thief_(film)"), entity("Ronin_(film)"))
    thief, ronin = entity("Thief_(film)"), entity("Ronin_(film)")

    def foreign(films, context=()):
        return {link.entity for link in unsupported(text, links, graph, films, context)}

    assert foreign([thief, ronin]) == set()
    assert foreign([thief]) == {ronin, entity("Robert_De_Niro")}
    assert foreign([thief], [ronin]) == {entity("Robert_De_Niro")}  # the dialogue named the film, not its actor


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("Michael Mann directed it.", []),  # of a film under discussion
        ("Heat (1995) has Tom Cruise.", ["Tom Cruise"]),  # who is in the other one
        ("Tom Cruise is in it.", []),
        ("Tom Hanks is in it.", ["Tom Hanks"]),
        ("It is a romance.", ["Romance"]),
        ("Would you like a romance?", []),  # asks, and states nothing
    ],
)
def test_a_sentence_is_about_the_films_that_it_names(text, foreign):
    turns = [[small_films.film("Big")], [small_films.film("Heat"), small_films.film("Collateral")], []]
    films = films_discussed(turns, small_films.GRAPH)
    assert films == tuple(turns[1])
    links = named_entities(text, small_films.LINKER)
    found = unsupported(text, links, small_films.GRAPH, films, [])
    assert links and [small_films.GRAPH.names[link.entity] for link in found] == foreign


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("Thief (1981) is directed by Michael Mann.", [("Thief_(film)", Attribute.DIRECTOR, "Michael_Mann")]),
        ("How about Thief (1981)? Michael Mann directed it.", [("Thief_(film)", Attribute.DIRECTOR, "Michael_Mann")]),
        ("It was directed by Robert De Niro and Michael Mann!",  # about the planned film
         [("Collateral_(film)", Attribute.DIRECTOR, name) for name in ("Robert_De_Niro", "Michael_Mann")]),
        ("Michael Mann wrote Ronin (1998).", [("Ronin_(film)", Attribute.WRITER, "Michael_Mann")]),
        ("Ronin (1998) came out in 1999.", [("Ronin_(film)", Attribute.YEAR, 1999)]),
        ("It is directed by a master. Starring Robert De Niro.", []),
        ("Thief (1981) is better than Ronin (1998), directed by Michael Mann.", []),  # of which of them?
        ("I would love to see what Michael Mann does next.", []),
        ("", []),
    ],
)  # fmt: skip
def test_statements(graph, linker, entity, text, stated):
    links = named_entities(text, linker)
    expected = [
        Statement(entity(film), a, value if isinstance(value, int) else entity(value)) for film, a, value in stated
    ]
    assert statements(text, links, graph, [entity("Collateral_(film)")]) == expected


def test_contradictions_need_a_graph_that_knows(graph, entity):
    thief, ronin, mann, niro = map(entity, ("Thief_(film)", "Ronin_(film)", "Michael_Mann", "Robert_De_Niro"))
    assert not contradicts(Statement(thief, Attribute.DIRECTOR, mann), graph)
    assert contradicts(Statement(thief, Attribute.DIRECTOR, niro), graph)
    assert not contradicts(Statement(ronin, Attribute.DIRECTOR, mann), graph)  # no director is known
    assert contradicts(Statement(ronin, Attribute.YEAR, 1999), graph)
    assert not contradicts(Statement(ronin, Attribute.YEAR, 1998), graph)


def rows_by_metric(replies, graph, linker, judged, targets):
    rows = measure_replies(replies, graph, linker, judged, targets=targets, corpus="tiny", split="valid", resamples=50)
    return {(row.model, row.metric): row for row in rows}


def test_measures_of_two_systems(graph, linker):
    pytest.importorskip("sacrebleu")
    thief = {"films": ("Thief (1981)",), "film_uris": (tiny.uri("Thief_(film)"),)}
    context = (("seeker", "I liked Ronin (1998)"),)
    replies = [
        SystemReply("a", 1, "ours", context, "See Thief (1981). Michael Mann directed it.", **thief,
                    facts=("director: Michael Mann",), reference="see Thief (1981)"),
        SystemReply("b", 1, "ours", context, "Robert De Niro directed Thief (1981). So see Zodiac (2007).", **thief,
                    facts=("director: Michael Mann",), reference="no"),
        SystemReply("a", 1, "theirs", context, "Hello!"),
        SystemReply("b", 1, "theirs", context, "hello"),
    ]  # fmt: skip
    emotions = np.eye(9)[[0, 1, 5, 5]]
    judged = Judged(emotions, np.array([2.0, 4.0, 1.0, 1.0]), np.array([2, 4, 1, 3]))
    measured = rows_by_metric(replies, graph, linker, judged, {("a", 1): np.eye(9)[0], ("b", 1): np.eye(9)[5]})
    value = {key: row.value for key, row in measured.items()}
    assert value["ours", "reply_films"] == 1.5 and value["ours", "reply_films_planned"] == 0.5
    # of five names, De Niro and Zodiac are neither Thief's nor of the dialogue
    assert value["ours", "unsupported_entities"] == pytest.approx(2 / 5)
    assert value["ours", "contradicted_facts"] == 0.5 and value["ours", "knowledge_used"] == 0.5
    assert value["theirs", "equal_replies"] == 1 and value["ours", "equal_replies"] == 0
    assert value["ours", "perplexity"] == pytest.approx(math.e) and value["theirs", "perplexity"] == pytest.approx(
        math.exp(0.5)
    )
    assert value["ours", "emotion_alignment"] == 0.5 and value["theirs", "emotion_flatness"] == 1
    assert value["ours", "reply_f1_like"] == 1 and value["ours", "reply_f1_neutral"] == 0
    assert value["theirs", "reply_f1_neutral"] == pytest.approx(2 / 3) and value["theirs", "reply_f1"] == pytest.approx(
        1 / 3
    )
    # what has nothing to be measured on has no row
    assert ("theirs", "knowledge_used") not in value and ("theirs", "unsupported_entities") not in value
    assert ("theirs", "sacrebleu") not in value and value["ours", "sacrebleu"] > 0
    row = measured["ours", "reply_films"]
    assert (row.low, row.high, row.n) == (1.0, 2.0, 2)


def test_sacrebleu_is_that_of_the_package():
    sacrebleu = pytest.importorskip("sacrebleu")
    predictions = ["the cat sat on the mat, today .", "Hello there, this is it!", "no", ""]
    references = ["the cat sat on a mat today.", "Hello this is it then!", "yes it is", "so"]
    counts = text_metrics.sacrebleu_counts(predictions, references)
    assert counts[0].tolist() == [7, 4, 2, 1, 9, 8, 7, 6, 9, 8]  # by hand: "." and "," are words
    expected = sacrebleu.corpus_bleu(predictions, [references]).score
    assert text_metrics.sacrebleu_score(counts.sum(axis=0)) == pytest.approx(expected) and expected > 5
    assert text_metrics.sacrebleu_score(text_metrics.sacrebleu_counts(["a b c d"], ["a b c d"])[0]) == pytest.approx(
        100
    )


@pytest.mark.slow
def test_losses_are_those_of_the_reply_alone():
    words = tiny.WORDS
    tokenizer = DialogueTokenizer.of(tiny.tokenizer(words))
    model = tiny.random_model(dataclasses.replace(tiny.llama(tokenizer.vocabulary), positions=128))
    contexts = [
        [("seeker", "hello i liked Ronin")],
        [("seeker", "hello"), ("recommender", "maybe"), ("seeker", "what")],
    ]
    replies = ["you should see Thief tonight .", ""]
    losses, tokens = reply_losses(model, tokenizer, contexts, replies)
    assert tokens.tolist() == [7, 1]
    for context, reply, loss in zip(contexts, replies, losses, strict=True):
        prompt = tokenizer.encode(
            [" ".join(f"{'User:' if r == 'seeker' else 'System:'} {t} {tiny.END}" for r, t in context)]
        )
        ids = prompt[0] + tokenizer.encode(["System:"])[0]
        start, ids = len(ids), [*ids, *tokenizer.encode([reply])[0], tokenizer.end]
        hidden = model.module.apply({"params": model.params}, np.array([ids]), np.ones((1, len(ids)), bool)).hidden
        log = jax.nn.log_softmax(logits(model.params, hidden))[0]
        assert loss == pytest.approx(-sum(float(log[i - 1, ids[i]]) for i in range(start, len(ids))), rel=1e-4)
    alone, _ = reply_losses(model, tokenizer, contexts[1:], replies[1:])
    assert alone[0] == pytest.approx(losses[1], rel=1e-5)


def test_replies_round_trip(tmp_path):
    replies = [
        SystemReply(
            "a",
            1,
            "x",
            (("seeker", "hi"),),
            "ho",
            ("T (1999)",),
            ("<t>",),
            ("director: M",),
            "like",
            "happy",
            True,
            "r",
        ),
        SystemReply("a", 1, "y", (), ""),
        SystemReply("b", 0, "x", (), "z"),
    ]
    system_replies.write(tmp_path / "replies.jsonl", replies)
    assert system_replies.read(tmp_path / "replies.jsonl") == replies
    assert list(system_replies.same_places(replies)) == [("a", 1)]


GOOD = '{"conversation": "a", "turn": 1, "system": "x", "context": [], "reply": "r"}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", "must be a JSON object"),
        ('{"turn": 1}', "the field conversation is missing"),
        (GOOD.replace("1", '"1"'), "the field turn is '1'"),
        (GOOD.replace("1", "true"), "the field turn is True"),
        (GOOD.replace('"x"', '" "'), "the field system is empty"),
        (GOOD.replace("[]", '[{"role": "seeker"}]'), "context must be a list"),
        (GOOD.replace("}", ', "films": [1]}'), "films must be a list of strings"),
        (GOOD.replace("}", ', "seen": "yes"}'), "the field seen is 'yes'"),
        (GOOD, "x replies to a/1 in line 1 too"),
    ],
)
def test_malformed_replies_are_named_with_their_line(tmp_path, line, message):
    path = tmp_path / "replies.jsonl"
    path.write_text(GOOD + line)
    with pytest.raises(ValueError, match=f"replies.jsonl:2: .*{message}"):
        system_replies.read(path)


def test_an_empty_file_of_replies(tmp_path):
    (tmp_path / "replies.jsonl").write_text("")
    with pytest.raises(ValueError, match="has no replies"):
        system_replies.read(tmp_path / "replies.jsonl")
