"""Cross-fitting in benchmarks/liking: what a dialogue's own answers can reach, and its parts by hand."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from scipy import sparse

from benchmarks import liking
from benchmarks.liking import Answers
from ecr_jax.data.schema import Feedback, Role, Split
from ecr_jax.features.dialogues import Dialogue, Utterance

LIKE, DISLIKE = Feedback.LIKE, Feedback.DISLIKE
FOLDS = 3


def turn(role, text, *films):
    """A turn that names films, each (item, feedback)."""
    return Utterance(role, text, text, tuple(item for item, _ in films), tuple(films))


def dialogue(number, first, second):
    """The seeker names film 5; film 0 is recommended, and a turn later film 1."""
    return Dialogue(
        str(number),
        Split.TRAIN,
        (
            turn(Role.SEEKER, f"i want a {'funny' if number % 2 else 'sad'} film", (5, LIKE)),
            turn(Role.RECOMMENDER, "try this", (0, first)),
            turn(Role.SEEKER, "no thanks" if number % 3 else "yes please"),
            turn(Role.RECOMMENDER, "or that", (1, second)),
        ),
    )


def dialogues(swapped=()):
    """Those whose fold is in `swapped` answer the other way round."""
    made = []
    for number in range(24):
        answers = (DISLIKE, LIKE) if number % 4 else (LIKE, LIKE)
        if liking.fold_of(str(number), FOLDS) in swapped:
            answers = (LIKE, DISLIKE)
        made.append(dialogue(number, *answers))
    return made


@functools.cache
def scores(swapped=frozenset()):
    answers = Answers.of(dialogues(swapped), FOLDS, 8)
    return answers, liking.cross_fit(answers, {}, FOLDS, shrinkage=1.0)[True, 1.0]


def test_folds_are_disjoint_by_dialogue_and_no_answer_reaches_its_own_score():
    answers, before = scores()
    assert len(answers.targets) == 48 and set(answers.fold.tolist()) == set(range(FOLDS))
    changed = liking.fold_of("7", FOLDS)
    after = scores(frozenset({changed}))[1]
    own = answers.fold[answers.dialogue] == changed
    assert own.any() and not own.all()
    for part in liking.LIKE_PARTS:
        np.testing.assert_allclose(after[part][own], before[part][own], atol=1e-6)
    assert np.abs(after["total"] - before["total"])[~own].max() > 0.1
    parts = before["turn"] + before["item"] + before["entities"]
    np.testing.assert_allclose(parts, before["total"], atol=1e-9)


def test_item_odds_leave_out_the_own_dialogue():
    """Two training dialogues dislike film 0: each sees the other's dislike, the third dialogue sees both."""
    answers = Answers.of(
        [dialogue(n, *a) for n, a in enumerate([(DISLIKE, LIKE), (DISLIKE, LIKE), (LIKE, LIKE)])], 9, 8
    )
    training = np.array([True, True, False])
    odds = liking.item_odds(answers, training, 1.0)
    p = (4 + 1) / (4 + 2 + 2)  # four likes of film 5 and film 1, two dislikes, and one of each

    def expected(likes, dislikes):
        return np.log((likes + p) / (dislikes + 1 - p)) - np.log(p / (1 - p))

    np.testing.assert_allclose(odds[0], expected(0, 1), rtol=1e-6)  # its own dislike left out
    np.testing.assert_allclose(odds[1], expected(1, 0), rtol=1e-6)  # film 1: its own like left out
    np.testing.assert_allclose(odds[4], expected(0, 2), rtol=1e-6)  # the third dialogue is not counted


def test_entity_mass_by_hand():
    """All dialogues name films 0, 1 and 5; the first target is film 0 after film 5, and two dialogues are counted."""
    answers = Answers.of([dialogue(n, DISLIKE, LIKE) for n in range(3)], 9, 8)
    valences = {("2", 0, 5): -0.5}
    mass = liking.entity_mass(answers, np.array([True, True, False]), valences)
    share = 2 / 4  # of the pairs of film 5 with another entity
    first = share / np.sqrt(1 * 2)  # one entity in the context; two dialogues name film 0
    np.testing.assert_allclose(mass[4], np.arcsinh(100 * first * np.array([1, -0.5])), rtol=1e-6)
    own = 1 / 2  # a training dialogue sees the other one alone
    np.testing.assert_allclose(mass[0], np.arcsinh(100 * own / np.sqrt(1 * 1) * np.array([1, 0])), rtol=1e-6)


def test_fit_minimises_both_losses():
    """The gradient at the solution is zero, worked out by hand for one feature and one pair."""
    features = sparse.csr_array(np.array([[1.0], [-0.5], [2.0]]))
    liked, pairs = np.array([True, False, True]), (np.array([0]), np.array([1]))
    (weight,) = liking.fit(features, liked, pairs, pair_weight=0.5, l2=0.1)
    x, y = np.array([1.0, -0.5, 2.0]), np.array([1, -1, 1])

    def total(w):
        bias = np.linspace(-20, 20, 4001)[:, None]
        cross_entropy = np.logaddexp(0, -y * (w * x + bias)).mean(axis=1).min()
        return cross_entropy + 0.5 * np.logaddexp(0, -1.5 * w) + 0.05 * w**2

    assert total(weight) <= min(total(weight - 0.05), total(weight + 0.05))
    with_more = liking.fit(features, liked, pairs, pair_weight=5.0, l2=0.1)
    assert with_more[0] > weight


def test_valence_is_known_after_the_turn_that_tells_it():
    """A seeker's mention at once, a recommender's with the seeker's answer."""
    answers = Answers.of([dialogue(0, DISLIKE, LIKE)], 2, 8)
    valences = {("0", 0, 5): 0.5, ("0", 2, 0): -0.75}
    rows = liking.feeling(answers, valences)
    np.testing.assert_allclose(rows[0, :8], [0.5, 0.5, 0.5, 0, 0, 0, 0, 1])  # nothing is answered yet
    np.testing.assert_allclose(rows[1, :8], [0.5, 0.5, 0.5, 0, -0.75, -0.75, -0.75, 0])


def test_differences_are_paired():
    answers, found = scores()
    rows = liking.predictions(answers, "a", found["total"])
    shifted = [dataclasses.replace(row, model="b", score=row.score + 3) for row in rows]
    measured = liking.measure_models(
        {"a": [rows], "b": [shifted]}, "c", "s", pairs=[("a", "b")], measure=liking.auc_measures, resamples=20
    )
    difference = [row for row in measured if row.is_difference]
    assert {row.metric for row in difference} == {"auc_pooled", "auc_dialogue"}
    assert all((row.value, row.low, row.high) == (0, 0, 0) for row in difference)
    assert {row.n for row in difference} == {48, len(answers.pairs(np.ones(48, bool))[0])}
