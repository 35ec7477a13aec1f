"""Attributes of films, from graphs that name their relations differently."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.data.acts import Attribute
from ecr_jax.knowledge import graph as graphs
from ecr_jax.knowledge.attributes import attribute_entities, attribute_of, attribute_values, with_genres


def dbpedia(name):
    return f"<http://dbpedia.org/resource/{name}>"


FARGO, BLUE, OTHER = (dbpedia(name) for name in ("Fargo_(1996_film)", "Blue_(1993_film)", "Other_(film)"))


@pytest.fixture(scope="module")
def graph():
    triples = [
        (FARGO, "director", "Joel_Coen"),
        (FARGO, "director", "Ethan_Coen"),
        (OTHER, "director", "Ethan_Coen"),
        (FARGO, "writer", "Joel_Coen"),
        (FARGO, "genre", "Crime_film"),
        (FARGO, "genre", "Pop_rock"),  # of a song of that name
        (FARGO, "musicComposer", "Carter_Burwell"),
        (FARGO, "language", "English_language"),
        (BLUE, "country", "Cinema_of_France"),
        (BLUE, "starring", "Juliette_Binoche"),
    ]
    triples = [(head, relation, dbpedia(tail)) for head, relation, tail in triples]
    return graphs.build([*triples, (BLUE, "starring", FARGO)], [FARGO, BLUE, OTHER])


def values(graph, film, attribute):
    return attribute_values(graph, graph.ids[film], Attribute(attribute))


def test_names_as_one_says_them_best_connected_first(graph):
    assert values(graph, FARGO, "director") == ("Ethan Coen", "Joel Coen")
    assert values(graph, FARGO, "year") == ("1996",)
    assert values(graph, FARGO, "composer") == ("Carter Burwell",)
    assert values(graph, FARGO, "language") == ("English",)
    assert values(graph, BLUE, "country") == ("France",)


def test_wrong_links_are_left_out(graph):
    assert values(graph, FARGO, "genre") == ("crime",)
    assert values(graph, BLUE, "cast") == ("Juliette Binoche",)


@pytest.mark.parametrize("attribute", ["director", "year", "genre", "runtime", "plot", "film"])
def test_unknown_is_empty(graph, attribute):
    assert values(graph, OTHER if attribute != "director" else BLUE, attribute) == ()


def test_which_attribute_an_entity_is(graph):
    fargo, joel = graph.ids[FARGO], graph.ids[dbpedia("Joel_Coen")]
    assert attribute_of(graph, fargo, joel) == Attribute.DIRECTOR
    assert attribute_of(graph, graph.ids[BLUE], joel) is None
    assert attribute_entities(graph, fargo, Attribute.WRITER) == (joel,)


def test_the_film_table_names_companies_otherwise():
    graph = graphs.build([("imdb:tt1", "company", "company:A24"), ("imdb:tt1", "genre", "genre:Sci-Fi")], ["imdb:tt1"])
    assert attribute_values(graph, graph.ids["imdb:tt1"], Attribute.COMPANY) == ("A24",)
    assert attribute_values(graph, graph.ids["imdb:tt1"], Attribute.GENRE) == ("sci-fi",)


def test_genres_of_a_film_table(graph):
    """A genre that a film has already stays one; a graph without the relation is left as it is."""
    other, blue, fargo = (graph.ids[uri] for uri in (OTHER, BLUE, FARGO))
    crime = graph.ids[dbpedia("Crime_film")]
    more = with_genres(graph, np.asarray([[other, crime], [fargo, crime]]))
    assert (
        attribute_values(more, other, Attribute.GENRE) == attribute_values(more, fargo, Attribute.GENRE) == ("crime",)
    )
    assert len(more.triples) == len(graph.triples) + 1 and attribute_values(more, blue, Attribute.GENRE) == ()
    bare = graphs.build([("imdb:tt1", "company", "company:A24")], ["imdb:tt1"])
    assert with_genres(bare, np.asarray([[0, 1]])) is bare
