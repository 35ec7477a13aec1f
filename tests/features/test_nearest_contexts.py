"""Dialogue neighbours by hand: scores, whose own contexts are left out, and the recommender's arrays of them."""

from __future__ import annotations

import numpy as np

from ecr_jax.data.schema import Feedback, Role, Split
from ecr_jax.features.dialogues import Context, Dialogue, TextContext, Utterance
from ecr_jax.features.featurizer import NearestContextsFeature
from ecr_jax.features.nearest_contexts import NearestContexts

ITEMS = np.array([2, 3, 5, 7])
N = 9


def dialogue(number, text, *films):
    """A seeker says the text, and the recommender names a film in each turn that follows."""
    turns = [Utterance(Role.SEEKER, text, text)]
    turns += [Utterance(Role.RECOMMENDER, "", "", (film,), ((film, Feedback.UNSAID),)) for film in films]
    return Dialogue(str(number), Split.TRAIN, tuple(turns))


DIALOGUES = [dialogue(0, "space robots", 2, 3), dialogue(1, "space robots", 5), dialogue(2, "romance", 7)]


def nearest(count=3):
    return NearestContexts.of(DIALOGUES, ITEMS, count=count, power=2.0)


def test_a_dialogue_is_no_neighbour_of_itself():
    known, seen = nearest(), [TextContext((), "space robots")]
    everything = known.scores(seen).toarray()[0]
    np.testing.assert_allclose(everything[[0, 2]], 1, rtol=1e-6)  # the same words in both dialogues
    assert 0 < everything[1] < 1  # after these words and a film
    np.testing.assert_allclose(known.scores(seen, exclude=0).toarray(), [[0, 0, everything[2], 0]], rtol=1e-6)
    np.testing.assert_allclose(known.scores(seen, exclude=1).toarray(), [[*everything[:2], 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(known.scores(seen, exclude=2).toarray()[0], everything, rtol=1e-6)


def test_leaving_a_dialogue_out_makes_room_for_others():
    """The nearest one is taken among the others, so that as many count as without leaving any out."""
    scores = nearest(count=2).scores([TextContext((), "space robots")], exclude=0).toarray()[0]
    np.testing.assert_allclose(scores, [0, 0, 1, 0], rtol=1e-6)


def test_arrays():
    context = Context((Utterance(Role.SEEKER, "space robots", "space robots"),), max_entities=2)
    feature = NearestContextsFeature(nearest(), N, limit=2)
    scores = nearest().scores([TextContext((), "space robots")], exclude=1).toarray()[0]
    for _ in range(2):  # the second time as it was found before
        arrays = feature.arrays(context, exclude=1)
        assert arrays["nearest_items"].tolist() == [2, 3]
        np.testing.assert_allclose(arrays["nearest_weights"], scores[:2] / scores.sum(), rtol=1e-6)
    few = NearestContextsFeature(nearest(), N, limit=1).arrays(context, exclude=1)  # shares are of all, not of the few
    np.testing.assert_allclose(few["nearest_weights"], scores[:1] / scores.sum(), rtol=1e-6)
    empty = feature.arrays(Context((), max_entities=2), exclude=None)
    assert empty["nearest_items"].tolist() == [N, N] and not empty["nearest_weights"].any()
