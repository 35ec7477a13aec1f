"""Co-occurrence on hand-made dialogues, against brute force, without one's own dialogue, and the golden table."""

import json

import numpy as np
import pytest

from ecr_jax.data.schema import Role
from ecr_jax.features.dialogues import Utterance, emotion_labelled_mentions
from ecr_jax.knowledge.cooccurrence import Cooccurrence, EmotionLabelledMention, count_cooccurrence, count_rated_pairs

A = [
    EmotionLabelledMention(0, (1, 2)),
    EmotionLabelledMention(1, (2,)),
    EmotionLabelledMention(2, (3,)),
    EmotionLabelledMention(0, (3, 2)),
    EmotionLabelledMention(3, ()),
]
B = [EmotionLabelledMention(0, (5,)), EmotionLabelledMention(2, (5,))]


def test_by_hand():
    # pairs of A that share an emotion: 0-1 (2), 0-0 (2), 1-0 (2), 2-0 (3); of B: 0-2
    forward = count_cooccurrence([A, B], 4, directional=True, self_pairs=True)
    assert forward.matrix.toarray().tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    both = count_cooccurrence([A, B], 4)
    assert both.matrix.toarray().tolist() == [[0, 2, 2, 0], [2, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(both.probabilities.toarray()[0], [0, 0.5, 0.5, 0])
    assert count_cooccurrence([A], 4, emotions_per_mention=1).matrix.toarray().tolist() == [
        [0, 0, 1, 0],
        [0, 0, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    plain = count_cooccurrence([A], 4, require_emotion=False, directional=True)
    assert plain.matrix.toarray().tolist() == [[0, 1, 1, 2], [1, 0, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0]]


def test_rated_pairs_by_hand():
    ratings = [{0: 1, 1: 1, 2: -1}, {2: -1, 0: 1}, {3: 1}, {}, {0: 1, 1: -1}]
    liked, disliked = (count_rated_pairs(ratings, 4, rating) for rating in (1, -1))
    # 0 and 1 are liked together once; who dislikes 2 likes 0 twice and 1 once, who dislikes 1 likes 0 once
    assert liked.matrix.toarray().tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0] * 4, [0] * 4]
    assert disliked.matrix.toarray().tolist() == [[0] * 4, [1, 0, 0, 0], [2, 1, 0, 0], [0] * 4]
    ids, weights = disliked.neighbours([2], 2, exclude=0)
    assert ids.tolist() == [[0, 4]] and weights.tolist() == [[1, 0]]
    assert not count_rated_pairs([], 4, 1).matrix.nnz


def test_power_of_the_number_of_pairs():
    table = count_cooccurrence([A, B], 4, require_emotion=False)
    ids, shares = table.neighbours([0, 1], 3)
    for power in (0.5, 0.0):
        same, weights = table.neighbours([0, 1], 3, power=power)
        totals = np.array(table.matrix.sum(axis=1))[:2, None]
        np.testing.assert_array_equal(same, ids)
        np.testing.assert_allclose(weights, shares * totals ** (1 - power), rtol=1e-6)


def test_own_dialogue_is_left_out():
    table = count_cooccurrence([A, B], 4)
    ids, weights = table.neighbours([0, 2, 4], 2)
    assert ids.tolist() == [[1, 2], [0, 4], [4, 4]]
    np.testing.assert_allclose(weights, [[0.5, 0.5], [1, 0], [0, 0]])
    ids, weights = table.neighbours([0, 1, 2], 2, exclude=0)
    assert ids.tolist() == [[2, 4], [4, 4], [0, 4]]
    np.testing.assert_allclose(weights, [[1, 0], [0, 0], [1, 0]])


def random_dialogues(seed, n=25, n_entities=12):
    rng = np.random.default_rng(seed)
    return [
        [
            EmotionLabelledMention(
                int(rng.integers(n_entities)), tuple(rng.permutation(5)[: rng.integers(0, 4)].tolist())
            )
            for _ in range(rng.integers(0, 9))
        ]
        for _ in range(n)
    ]


@pytest.mark.parametrize("directional", [False, True])
@pytest.mark.parametrize("self_pairs", [False, True])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_against_brute_force(directional, self_pairs, k):
    n = 12
    dialogues = random_dialogues(k)
    options = {"emotions_per_mention": 2, "directional": directional, "self_pairs": self_pairs}
    table = count_cooccurrence(dialogues, n, **options)
    expected = np.zeros((n, n), int)
    for dialogue in dialogues:
        for i, a in enumerate(dialogue):
            for b in dialogue[i + 1 :]:
                if set(a.emotions[:2]) & set(b.emotions[:2]) and (self_pairs or a.entity != b.entity):
                    expected[a.entity, b.entity] += 1
                    expected[b.entity, a.entity] += not directional
    np.testing.assert_array_equal(table.matrix.toarray(), expected)
    for d in [None, *range(len(dialogues))]:
        rest = dialogues if d is None else dialogues[:d] + dialogues[d + 1 :]
        left = count_cooccurrence(rest, n, **options).matrix.toarray()
        ids, weights = table.neighbours(np.arange(n), k, exclude=d)
        for x in range(n):
            order = [y for y in sorted(range(n), key=lambda y: (-left[x, y], y)) if left[x, y]][:k]
            assert ids[x].tolist() == order + [n] * (k - len(order))
            np.testing.assert_allclose(weights[x, : len(order)], left[x, order] / max(left[x].sum(), 1), rtol=1e-6)
            assert not weights[x, len(order) :].any()


def test_saved_and_loaded(tmp_path):
    table = count_cooccurrence([A, B, []], 4)
    table.save(tmp_path / "cooccurrence.npz")
    loaded = Cooccurrence.load(tmp_path / "cooccurrence.npz")
    np.testing.assert_array_equal(loaded.matrix.toarray(), table.matrix.toarray())
    np.testing.assert_array_equal(loaded.neighbours([0], 2, exclude=0)[0], table.neighbours([0], 2, exclude=0)[0])


def test_nothing_to_count():
    ids, weights = count_cooccurrence([], 3).neighbours([0, 3], 2)
    assert (ids == 3).all() and not weights.any()


def test_unknown_entity_is_refused():
    with pytest.raises(ValueError, match="dialogue 1 has entity ids from 0 to 9.*0 to 3"):
        count_cooccurrence([A, [EmotionLabelledMention(0, ()), EmotionLabelledMention(9, ())]], 4)


def published_dialogue(raw, ids, order):
    """A published dialogue; films come before other entities within a message, as `code` has them."""
    turns = []
    for message in raw["messages"]:
        role = Role.SEEKER if message["senderWorkerId"] == raw["initiatorWorkerId"] else Role.RECOMMENDER
        entities = tuple(ids[name] for name in message["movie"] + message["entity"] if name in ids)
        probs = [(order.index(name), p) for name, p in message.get("emotion", {}).items()]
        emotions = tuple((label, p) for label, p in probs if p > 0.1)
        if role == Role.SEEKER and not emotions and entities:
            emotions = tuple(probs[:1])
        if turns and turns[-1].role == role:
            last = turns.pop()
            entities, emotions = last.entities + entities, last.emotions + emotions
        turns.append(Utterance(role, "", "", entities, (), emotions))
    return turns


def test_published_table(golden):
    order = ["like", "curious", "happy", "grateful", "negative", "neutral", "nostalgia", "agreement", "surprise"]
    ids = {f"e{i}": i for i in range(9)}
    lines = (golden / "cooccurrence_dialogues.jsonl").read_text().splitlines()
    dialogues = [emotion_labelled_mentions(published_dialogue(json.loads(line), ids, order)) for line in lines]
    table = count_cooccurrence(dialogues, 9, directional=True, self_pairs=True)
    with np.load(golden / "model.npz") as arrays:
        np.testing.assert_allclose(table.probabilities.toarray()[:8], arrays["cooc/matrix"], rtol=1e-6)
