"""The graph of words on a few made-up turns, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.knowledge.word_graph import build_word_graph

TURNS = [
    "Something SCARY with ghosts",
    "ghosts are scary, horror",
    "a scary ghosts horror <movie>",
    "horror or romance?",
    "romance and laughs",
    "romance, laughs!",
]


def joined(graph):
    names = [(graph.words[s], graph.words[r]) for s, r in zip(graph.senders, graph.receivers, strict=True)]
    return {(a, b) for a, b in names if a < b}, names


def test_cooccurring_words_by_hand():
    graph = build_word_graph(TURNS, min_texts=2, min_shared_texts=2)
    assert graph.words == ("ghosts", "horror", "laughs", "romance", "scary")  # no "movie", no "something", no "with"
    # scary-ghosts 3 of 6 turns against 1/2 * 1/2: yes. horror-scary, horror-ghosts 2/6 against 1/2 * 1/2: yes.
    # romance-laughs: yes. horror-romance: one turn only.
    pairs, names = joined(graph)
    assert pairs == {("ghosts", "scary"), ("ghosts", "horror"), ("horror", "scary"), ("laughs", "romance")}
    assert {(b, a) for a, b in names} == set(names) and all((word, word) in names for word in graph.words)
    assert np.array_equal(np.lexsort((graph.senders, graph.receivers)), np.arange(len(names)))


def test_weights_are_those_of_a_normalised_adjacency():
    graph = build_word_graph(TURNS, min_texts=2, min_shared_texts=2)
    dense = np.zeros((5, 5))
    dense[graph.receivers, graph.senders] = 1
    degree = dense.sum(axis=1)
    expected = dense / np.sqrt(np.outer(degree, degree))
    np.testing.assert_allclose(graph.weights, expected[graph.receivers, graph.senders], rtol=1e-6)


def test_strongest_neighbours_are_kept():
    # romance-laughs: 2/6 against 1/2 * 1/3, PMI log 2, as scary-ghosts; horror's two are equal, the lower id wins
    pairs, _ = joined(build_word_graph(TURNS, min_texts=2, min_shared_texts=2, neighbours=1))
    assert pairs == {("ghosts", "scary"), ("ghosts", "horror"), ("laughs", "romance")}
    # rarely together compared with how often each occurs: no edge
    independent = ["alien brother"] * 4 + ["alien"] * 4 + ["brother"] * 8
    assert joined(build_word_graph(independent, min_texts=1, min_shared_texts=1))[0] == set()


def test_ids_are_the_latest_distinct_words():
    graph = build_word_graph(TURNS, min_texts=2, min_shared_texts=2)
    ids = graph.ids(["Scary romance <movie> zebra", "laughs", "scary"], 10)
    assert [graph.words[i] for i in ids] == ["romance", "laughs", "scary"] and ids.dtype == np.int32
    assert [graph.words[i] for i in graph.ids(["Scary romance", "laughs"], 2)] == ["romance", "laughs"]
    assert graph.ids([], 3).shape == graph.ids(["zebra"], 3).shape == (0,)


def test_no_words():
    with pytest.raises(ValueError, match="no word is in 5 of the 2 training turns"):
        build_word_graph(["<movie>", "the and of"])
