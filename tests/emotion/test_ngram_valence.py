from __future__ import annotations

import numpy as np

from ecr_jax.emotion import ngram_valence

LIKED, DISLIKED, UNCLEAR = np.array([1, 4]), np.array([2, 4]), np.array([3, 4])
NGRAMS = [LIKED, DISLIKED, UNCLEAR] * 6
CLASSES, FOLDS = np.array([0, 1, 2] * 6), np.repeat([0, 1, 2], 6)


def fitted(ngrams=NGRAMS, classes=CLASSES, folds=FOLDS):
    return ngram_valence.fit(ngrams, classes, folds, count=3, buckets=8, inverse_strength=10.0)


def test_what_goes_with_a_class_raises_its_log_odds():
    scores = fitted().scores([LIKED, DISLIKED, UNCLEAR])
    assert scores.shape == (3, 3, 2)
    assert (scores[:, 0, 0] > 0.5).all() and (scores[:, 1, 0] < -0.5).all()
    assert (scores[:, 2, 1] > 0.5).all() and (scores[:, :2, 1] < 0).all()


def test_a_fold_does_not_learn_from_its_own_dialogues():
    other = np.where(FOLDS == 1, (CLASSES + 1) % 3, CLASSES)  # other labels in fold 1
    before, after = fitted(), fitted(classes=other)
    assert np.array_equal(before.weights[1], after.weights[1])
    assert np.array_equal(before.intercepts[1], after.intercepts[1])
    assert not np.allclose(before.weights[0], after.weights[0])


def test_rare_ngrams_count_nothing():
    model = fitted([*NGRAMS, np.array([6])], np.append(CLASSES, 1), np.append(FOLDS, 0))
    assert model.idf[6] == 0 and model.idf[0] == 0 and model.idf[1] > model.idf[4] > 0
    assert np.allclose(model.scores([np.array([6])])[:, 0], model.intercepts)


def test_a_mention_without_words_has_the_intercepts():
    model = fitted()
    scores = model.scores([np.zeros(0, np.int32), LIKED, np.zeros(0, np.int32)])
    assert np.allclose(scores[:, 0], model.intercepts) and np.allclose(scores[:, 2], model.intercepts)
    assert np.allclose(scores[:, 1], model.scores([LIKED])[:, 0])


def test_one_class_alone_gives_even_odds():
    assert not fitted(classes=np.zeros(18, np.int64)).scores([LIKED]).any()
