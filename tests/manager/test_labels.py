"""Labels of replies: from acts, by rule, from a language model; categories only from what was named before."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.data.acts import Act, ActName
from ecr_jax.data.schema import Conversation, Feedback, Mention, Role, Split, Turn
from ecr_jax.features.dialogues import dialogues_of
from ecr_jax.manager.categories import categories, category_table, named_categories, reweighted
from ecr_jax.manager.labels import managed_turns
from ecr_jax.manager.schema import choices, film_schema
from tests.inference.small_films import GRAPH, LINKER, film

SCHEMA = film_schema(["comedy", "horror", "thriller"])


def linked(role, text, *acts):
    """A turn with the entities that the linker finds in it."""
    mentions = tuple(
        Mention(
            link.start,
            link.end,
            text[link.start : link.end],
            GRAPH.kinds[link.entity] == "film",
            GRAPH.uris[link.entity],
            Feedback.LIKE if GRAPH.kinds[link.entity] == "film" else None,
        )
        for link in LINKER.link(text, ())
    )
    return Turn(role, text, mentions, acts=tuple(Act.parse(act) for act in acts))


def labels(*turns, annotated=None):
    conversation = Conversation("c", Split.TRAIN, tuple(turns))
    dialogues = dialogues_of([conversation], GRAPH.ids, GRAPH.items, {})
    found = managed_turns([conversation], dialogues, GRAPH, SCHEMA, annotated)
    return [(turn.turn, str(turn.label.choice), turn.label.source) for turn in found]


def seeker(text):
    return linked(Role.SEEKER, text)


def recommender(text, *acts):
    return linked(Role.RECOMMENDER, text, *acts)


def test_acts_come_before_rules():
    assert labels(seeker("a comedy please"), recommender("What about Big (1988)?", "ask:genre")) == [
        (1, "elicit: genre", "acts")
    ]
    assert labels(seeker("a comedy please"), recommender("What about Big (1988)?")) == [
        (1, "recommend: comedy", "rule")
    ]


def test_the_category_is_the_last_one_named_that_the_film_has():
    said = seeker("I like comedy and also horror")
    assert labels(said, recommender("See Alien (1979).", "recommend")) == [(1, "recommend: horror", "acts")]
    assert labels(said, recommender("See Big (1988).", "recommend")) == [(1, "recommend: comedy", "acts")]
    assert labels(said, recommender("See Heat (1995).", "recommend")) == [(1, "recommend", "acts")]


def test_the_category_of_a_film_is_not_read_where_nobody_named_it():
    assert labels(seeker("anything"), recommender("See Alien (1979).", "recommend")) == [(1, "recommend", "acts")]


def test_rules_tell_answers_explanations_questions_and_chat():
    dialogue = [
        seeker("hello"),
        recommender("Hi, what do you like?"),
        seeker("I like Heat (1995)"),
        recommender("See Collateral (2004)."),
        seeker("Who directed it?"),
        recommender("Michael Mann did."),
        seeker("Tell me more about Collateral (2004)"),
        recommender("It is a good one because you like Heat (1995)."),
        seeker("thanks"),
        recommender("Have a nice day"),
    ]
    assert labels(*dialogue) == [
        (1, "elicit: film", "rule"),
        (3, "recommend", "rule"),
        (5, "details: director", "rule"),
        (7, "explain", "rule"),
        (9, "chat", "rule"),
    ]


def test_a_language_models_labels_come_first():
    annotated = {("c", 1): Act(ActName.CLOSE)}
    assert labels(seeker("hello"), recommender("See Big (1988)."), annotated=annotated) == [(1, "chat", "llm")]


def test_only_replies_to_the_seeker_are_managed():
    assert labels(recommender("Hi!"), seeker("hello"), recommender("What do you like?")) == [
        (2, "elicit: film", "rule")
    ]


def test_categories_are_counted_over_the_films():
    assert categories(GRAPH, 3) == ("comedy", "horror", "thriller")
    table = category_table(GRAPH, ("horror", "romance"))
    items = GRAPH.items.tolist()
    assert {items[i] for i in np.flatnonzero(table[0])} == {film("Alien"), film("Halloween")}
    assert [items[i] for i in np.flatnonzero(table[1])] == [film("Amelie")]
    np.testing.assert_allclose(reweighted(np.array([1.0, 2.0]), np.array([True, False]), 0.5), [1.5, 2.0])


def test_named_genres_in_order_the_latest_last():
    said = [seeker("comedy and horror"), seeker("rather comedy")]
    (dialogue,) = dialogues_of([Conversation("c", Split.TRAIN, tuple(said))], GRAPH.ids, GRAPH.items, {})
    assert named_categories(dialogue.turns, GRAPH) == ("horror", "comedy")


def test_every_label_is_a_choice_of_the_schema():
    turns = [seeker("a western?"), recommender("Do you like plots?", "ask:plot")]
    ((_, text, _),) = labels(*turns)
    assert text in {str(choice) for choice in choices(SCHEMA)}


@pytest.mark.parametrize("name", [ActName.GREET, ActName.REACT, ActName.CLOSE, ActName.CHAT])
def test_what_is_no_sub_task_is_chat(name):
    assert labels(seeker("hello"), recommender("Well.", Act(name).name.value)) == [(1, "chat", "acts")]
