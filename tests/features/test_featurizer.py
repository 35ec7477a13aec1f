"""Arrays of contexts by hand, their lengths without building them, and their specs."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.data.schema import Role
from ecr_jax.emotion.labels import PAD
from ecr_jax.features.dialogues import Context, Utterance
from ecr_jax.features.featurizer import (
    ContextFeaturizer,
    EntityFeature,
    FilmSequenceFeature,
    TextStateFeature,
    TokenFeature,
    WordFeature,
    prompt_spec,
    recommender_spec,
)
from ecr_jax.knowledge.word_graph import WordGraph
from tests.features.sample_dialogues import (
    DIALOGUES,
    EVIDENCE_LIMITS,
    ITEMS,
    LIMITS,
    TURNS,
    N,
    make_states,
    make_tokenizer,
    recommender,
)

EMOTION_TOTALS = np.bincount([2, 4, 8], [0.7, 0.2, 0.9], minlength=9)
"""Sums of the seeker's emotions in the first three turns."""


def test_arrays(tokenizer, featurizer):
    arrays = featurizer.arrays(featurizer.context(TURNS[:3]))
    # turns of 4, 5 and 3 tokens, limit 9: the first does not fit
    assert tokenizer.tokenizer.decode(arrays["tokens"]).split() == "System: c d e <end> User: f <end>".split()
    assert arrays["text_states"].shape == (6, 1)  # units of 3, 4 and 2, limit 7
    assert arrays["text_ages"].tolist() == [2, 2, 2, 2, 1, 1]
    np.testing.assert_allclose(arrays["emotion_totals"], EMOTION_TOTALS, rtol=1e-6)
    assert arrays["entities"].tolist() == [1, 2, 3]
    assert arrays["emotions"].tolist() == [[2], [8], [8]]  # the most probable one
    np.testing.assert_allclose(arrays["emotion_probs"], [[0.7], [0.9], [0.9]], rtol=1e-6)
    assert arrays["mentions"].tolist() == [[3, 1, 1], [2, 0, 1], [2, 0, 1]]
    # with the same emotion: 0-1 in `one`, 2-3 in `one`, 0-5 in `two`
    assert arrays["neighbours"].tolist() == [[0, N], [3, N], [2, N]]
    assert arrays["neighbour_weights"].tolist() == [[1, 0], [1, 0], [1, 0]]
    # items in one dialogue with 1: 0 twice, 2 twice, 4 once
    assert arrays["cooccurring_items"][0].tolist() == [0, 2, 4]
    np.testing.assert_allclose(arrays["cooccurrence_weights"][0], [0.4, 0.4, 0.2], rtol=1e-6)


def test_arrays_are_those_of_the_spec(featurizer):
    arrays = featurizer.arrays(featurizer.context(TURNS[:3]))
    assert set(arrays) == {field.name for field in featurizer.spec.fields}
    featurizer.spec.lengths(arrays, "this example")  # raises where shapes or dtypes differ
    prompt = prompt_spec(N, 1, LIMITS, vocabulary=make_tokenizer().vocabulary)
    assert featurizer.spec == recommender_spec(prompt, N, EVIDENCE_LIMITS)


def test_entities_without_emotions_are_padded(featurizer):
    arrays = featurizer.arrays(featurizer.context(TURNS[:2]))
    assert arrays["entities"].tolist() == [1, 2, 3] and arrays["emotions"].tolist() == [[2], [PAD], [PAD]]
    assert arrays["emotion_probs"][1:].tolist() == [[0], [0]]


def test_empty_context(featurizer):
    assert {name: array.shape for name, array in featurizer.arrays(featurizer.context(())).items()} == {
        "tokens": (0,), "text_states": (0, 1), "text_ages": (0,), "emotion_totals": (9,),
        "entities": (0,), "emotions": (0, 1), "emotion_probs": (0, 1), "mentions": (0, 3),
        "neighbours": (0, 2), "neighbour_weights": (0, 2), "cooccurring_items": (0, 3), "cooccurrence_weights": (0, 3),
        "liked_items": (0, 2), "liked_weights": (0, 2), "disliked_items": (0, 2), "disliked_weights": (0, 2),
        "valence": (0,), "nearest_items": (3,), "nearest_weights": (3,),
    }  # fmt: skip


def test_a_reply_is_read_after_the_context(tokenizer, featurizer):
    plain, with_reply = (
        featurizer.arrays(featurizer.context(TURNS[:1], reply)) for reply in (None, recommender("c d e", [7]))
    )
    assert tokenizer.tokenizer.decode(with_reply["tokens"]).split()[-5:] == "System: c d e <end>".split()
    assert len(with_reply["text_states"]) == len(plain["text_states"]) + 4
    for name in ("entities", "emotions", "neighbours"):
        np.testing.assert_array_equal(plain[name], with_reply[name])
    assert plain["mentions"].tolist() == with_reply["mentions"].tolist()  # ages are counted without the reply


WORDS = WordGraph(("bat", "cat", "dog"), np.zeros(0, np.int32), np.zeros(0, np.int32))


@pytest.fixture(scope="module")
def every_feature(tokenizer):
    features = (TokenFeature(tokenizer, 6), TextStateFeature(make_states(), 5), EntityFeature(N))
    return ContextFeaturizer((*features, WordFeature(WORDS, 2)), max_entities=2)


def test_lengths_are_known_without_the_arrays(featurizer, every_feature):
    films = ContextFeaturizer((FilmSequenceFeature(ITEMS, 2),), max_entities=0)
    for kind in (featurizer, every_feature, films):
        for dialogue in DIALOGUES:
            for end in range(len(dialogue.turns) + 1):
                for reply in (None, dialogue.turns[0]):
                    context = kind.context(dialogue.turns[:end], reply)
                    assert kind.lengths(context) == kind.spec.lengths(kind.arrays(context), "this example")


def test_preloading_changes_nothing(tokenizer):
    one, other = (ContextFeaturizer((TokenFeature(tokenizer, 9), WordFeature(WORDS, 2)), 3) for _ in range(2))
    other.preload(TURNS)
    for end in range(len(TURNS) + 1):
        first, second = (kind.arrays(kind.context(TURNS[:end])) for kind in (one, other))
        assert all(np.array_equal(first[name], second[name]) for name in first)


def test_film_sequence():
    feature = FilmSequenceFeature(ITEMS, 3)
    # films of the turns: 0, 2, 0, 4, 2 -> positions among the items, latest last, each once
    assert feature.arrays(Context(TURNS, 0), None)["films"].tolist() == [0, 2, 1]
    assert FilmSequenceFeature(ITEMS, 2).arrays(Context(TURNS, 0), None)["films"].tolist() == [2, 1]


def test_words_are_the_latest_distinct_ones():
    turns = tuple(Utterance(Role.SEEKER, text, text) for text in ("cat bat cat", "<movie> dog", "Cat ; bird"))
    whole = WORDS.ids([turn.masked for turn in turns], 3).tolist()
    assert whole == [0, 2, 1]
    for limit in (1, 2, 3):
        actual = WordFeature(WORDS, limit).arrays(Context(turns, 0), None)["words"].tolist()
        assert actual == WORDS.ids([turn.masked for turn in turns], limit).tolist() == whole[-limit:]
