"""Instances and their examples by hand: targets, what losses read, replies; no future and no leakage in them."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_jax.data.acts import Act, ActName
from ecr_jax.data.schema import Role, Split
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.features.batch_spec import Field
from ecr_jax.features.batches import Batches, bucket_shapes
from ecr_jax.features.dialogues import Dialogue, Utterance, recommendation_counts, seeker_ratings
from ecr_jax.features.featurizer import ContextFeaturizer, EntityFeature, TokenFeature
from ecr_jax.features.instances import (
    ContextExamples,
    ExtendedExamples,
    Instance,
    RecommenderExamples,
    ReplyExamples,
    TargetExamples,
    conversation_instances,
    evenly_spaced,
    film_sequence_instances,
    fusion_instances,
    recommendation_fields,
    recommendation_instances,
)
from ecr_jax.features.item_odds import ItemOdds
from ecr_jax.features.plans import Plan
from ecr_jax.losses.ranking import INPUTS
from tests.features.sample_dialogues import (
    DIALOGUE,
    DIALOGUES,
    DISLIKE,
    LIKE,
    OTHER,
    TURNS,
    UNSAID,
    N,
    recommender,
    seeker,
)

COUNTS = np.full(N + 1, 2.5)
WEIGHTS = {LIKE: 2.0, DISLIKE: 1.0, UNSAID: 0.5}


def test_recommendation_instances():
    opening = Dialogue("two", Split.TRAIN, (recommender("x", [0], [(0, LIKE)]), seeker("y"), recommender("z", [1])))
    # not the turn that opens a dialogue, not a turn that names no item; a film named twice is one target
    assert recommendation_instances([opening, DIALOGUE]) == [
        Instance(1, 1, ((2, DISLIKE, False),)),
        Instance(1, 3, ((0, LIKE, True), (4, UNSAID, False))),
    ]


def test_fusion_instances():
    actual = fusion_instances([DIALOGUE])
    assert [(instance.turn, [entity for entity, _, _ in instance.targets]) for instance in actual] == [
        (1, [2, 3]), (3, [0, 4]), (4, [2]),
    ]  # fmt: skip
    twice = Dialogue("two", Split.TRAIN, (seeker("x"), seeker("y", [3, 1, 3])))
    assert fusion_instances([twice])[0].targets == ((3, UNSAID, False), (1, UNSAID, False))


def test_turns_of_unknown_role():
    films = [Utterance(Role.UNKNOWN, "", "", (item,), ((item, LIKE),)) for item in (2, 0)]
    dialogue = Dialogue("films", Split.TRAIN, (*films, seeker("x"), recommender("y", [2], [(2, DISLIKE)])))
    recommended = Instance(0, 3, ((2, DISLIKE, True),))
    assert recommendation_instances([dialogue]) == [recommended]
    assert film_sequence_instances([dialogue]) == [Instance(0, 1, ((0, LIKE, False),)), recommended]
    assert [instance.turn for instance in fusion_instances([dialogue])] == [3]
    assert [instance.turn for instance in conversation_instances([dialogue])] == [3]
    assert recommendation_counts([dialogue]) == {2: 1}


def test_conversation_instances():
    opening = Dialogue("two", Split.TRAIN, (recommender("x"), seeker("y"), recommender("z")))
    assert conversation_instances([DIALOGUE, opening]) == [Instance(0, 1), Instance(0, 3), Instance(1, 2)]


def test_evenly_spaced():
    instances = [Instance(0, turn) for turn in range(10)]
    assert [instance.turn for instance in evenly_spaced(instances, 4)] == [0, 3, 6, 9]
    assert evenly_spaced(instances, 99) == instances and evenly_spaced([], 3) == []


def examples(featurizer, exclude_own, instances=None, dialogues=DIALOGUES, counts=COUNTS):
    instances = recommendation_instances(dialogues) if instances is None else instances
    return RecommenderExamples(
        dialogues,
        instances,
        featurizer,
        weights=WEIGHTS,
        item_counts=counts,
        item_odds=ItemOdds.of(map(seeker_ratings, dialogues), len(counts) - 1, 1.0),
        exclude_own=exclude_own,
    )


def test_recommender_examples(featurizer):
    rows = examples(featurizer, exclude_own=False)
    assert len(rows) == 2 and rows.names([0, 1]) == ["one:1", "one:3"]
    example = rows[1]
    assert example["targets"].tolist() == [0, 4] and example["target_weight"].tolist() == [2.0, 0.5]
    assert example["feedback"].tolist() == [1, 0] and rows[0]["feedback"].tolist() == [-1]
    assert example["entities"].tolist() == [1, 2, 3]  # of the turns before only
    assert set(example) == {field.name for field in rows.spec.fields}


def test_loss_inputs_follow_from_the_spec(featurizer):
    """The arrays that losses read are those that the losses name; the stage adds the model's predictions."""
    batch = examples(featurizer, exclude_own=False).spec.toy(2)
    inputs = examples(featurizer, exclude_own=False).spec.loss_inputs(batch)
    assert inputs.keys() | {"logits", "like_logits", "counts", "key"} == INPUTS.keys()
    np.testing.assert_array_equal(inputs["where"], batch["target_mask"])
    np.testing.assert_array_equal(inputs["weights"], batch["target_weight"])


def test_losses_read_the_whole_dialogue(featurizer):
    first, second = examples(featurizer, exclude_own=False)
    # films with feedback, whoever named them; the unsaid one is not among them
    assert first["rated_items"].tolist() == second["rated_items"].tolist() == [0, 2]
    assert first["ratings"].tolist() == second["ratings"].tolist() == [1, -1]
    np.testing.assert_allclose(first["reaction"], 0.9 * np.eye(9)[8], rtol=1e-6)  # of the seeker's next turn
    np.testing.assert_array_equal(second["reaction"], np.eye(9, dtype=np.float32)[EMOTIONS.index("neutral")])


def test_own_dialogue_is_left_out_of_the_counts(featurizer):
    whole, left = examples(featurizer, exclude_own=False)[1], examples(featurizer, exclude_own=True)[1]
    assert (whole["neighbours"] != N).any() and (whole["cooccurring_items"] != N).any()
    # 1, 2 and 3 are mentioned in this dialogue only
    assert (left["neighbours"] == N).all() and not left["neighbour_weights"].any()
    assert (left["cooccurring_items"] == N).all() and not left["cooccurrence_weights"].any()
    assert (whole["disliked_items"] != N).any() and (left["disliked_items"] == N).all()
    left_out = {"neighbours", "neighbour_weights", "cooccurring_items", "cooccurrence_weights",
                "liked_items", "liked_weights", "disliked_items", "disliked_weights", "nearest_items",
                "nearest_weights", "own_recommendations", "own_log_shift", "own_odds_shift"}  # fmt: skip
    assert all(np.array_equal(whole[name], left[name]) for name in set(whole) - left_out)
    # 0 is in the other dialogue too, whose counts stay
    first = examples(featurizer, exclude_own=True)[0]
    at = first["entities"].tolist().index(0)
    assert first["neighbours"][at].tolist() == [5, N] and first["neighbour_weights"][at].tolist() == [1, 0]
    assert first["cooccurring_items"][at].tolist() == [5, N, N]


def replies(tokenizer, featurizer, max_reply):
    """Examples of all replies of DIALOGUES, whose plan is to recommend a film."""
    instances = conversation_instances(DIALOGUES)
    plans = [Plan((Act(ActName.RECOMMEND),), (2,), 1)] * len(instances)
    return ReplyExamples(DIALOGUES, instances, featurizer, tokenizer, plans, max_plan=9, max_reply=max_reply)


def test_reply_examples(tokenizer, featurizer):
    rows = replies(tokenizer, featurizer, 9)
    example = rows[0]
    text = tokenizer.tokenizer.decode(example["tokens"]).split()
    assert text == "User: a b <end> plan: recommend | films: <movie> <end> System: <movie> d e <end>".split()
    learned = np.asarray(text)[example["loss_mask"]].tolist()
    assert learned == "<movie> d e <end>".split()  # neither the context nor the role word
    assert set(example) == {field.name for field in rows.spec.fields}


def test_long_reply_is_cut_without_an_end(tokenizer, featurizer):
    rows = replies(tokenizer, featurizer, 4)
    text = tokenizer.tokenizer.decode(rows[0]["tokens"]).split()
    assert text[-4:] == "System: <movie> d e".split()


def test_lengths_are_known_without_building_examples(tokenizer, featurizer, monkeypatch):
    fusion = fusion_instances(DIALOGUES)
    kinds = [replies(tokenizer, featurizer, 4), examples(featurizer, True, fusion), examples(featurizer, False)]
    kinds.append(TargetExamples(DIALOGUES, fusion, featurizer, entities=N, reply=lambda d, turn: d.turns[turn]))
    built = [[rows.spec.lengths(rows[index], "this example") for index in range(len(rows))] for rows in kinds]
    monkeypatch.setattr(ContextFeaturizer, "arrays", None)  # building an example would fail
    for rows, expected in zip(kinds, built, strict=True):
        lengths = rows.lengths()
        assert lengths.keys() == set(rows.spec.axes)
        assert [{axis: int(lengths[axis][index]) for axis in lengths} for index in range(len(rows))] == expected
    bucket_shapes(kinds[1:3], {"T": (6, 12)})


def test_examples_do_not_know_the_future(featurizer):
    """What comes at or after a turn changes only the ground truth of its example."""
    changed = Dialogue("one", Split.TRAIN, (*TURNS[:3], recommender("h", [7], [(5, LIKE)]), seeker("a", [6])))
    instances = [Instance(0, 3, ((0, LIKE, False),))]
    one, other = (examples(featurizer, True, instances, [dialogue, OTHER])[0] for dialogue in (DIALOGUE, changed))
    # A dialogue's recommendations and answers are taken out of the popularity and of the odds as a whole, so that the
    # model sees none of them. The losses may read later turns.
    truth = {"own_recommendations", "own_log_shift", "rated_items", "ratings", "own_odds_shift", "reaction"}
    assert all(np.array_equal(one[name], other[name]) for name in one if name not in truth)


def test_own_answers_are_taken_out_of_the_odds(featurizer):
    """Odds plus the shift follow from the other dialogue's answers; at test time nothing is shifted."""
    odds = ItemOdds.of(map(seeker_ratings, DIALOGUES), len(COUNTS) - 1, 1.0)
    example = examples(featurizer, True)[1]
    np.testing.assert_array_equal(example["own_odds_shift"], odds.own_shift({0: 1, 2: -1}))
    assert not examples(featurizer, False)[1]["own_odds_shift"].any()


def test_own_recommendations_are_taken_out_of_the_popularity(featurizer):
    """Log popularity plus the shift is the log popularity without the dialogue."""
    counts, without = np.full(len(COUNTS), 0.5), np.full(len(COUNTS), 0.5)
    for item, number in recommendation_counts(DIALOGUES).items():
        counts[item] += number
    for item, number in recommendation_counts(DIALOGUES[1:]).items():
        without[item] += number
    instance = recommendation_instances(DIALOGUES)[0]
    example = examples(featurizer, True, [instance], counts=counts)[0]
    shifted = np.log(counts)
    shifted[example["own_recommendations"]] += example["own_log_shift"]
    assert instance.dialogue == 0 and len(example["own_recommendations"])
    np.testing.assert_allclose(shifted, np.log(without), rtol=1e-6)
    assert len(examples(featurizer, False, [instance], counts=counts)[0]["own_recommendations"]) == 0


# ----------------------------------------------------------------------------------------------------- of baselines


SHORT = (
    Utterance(Role.SEEKER, "a", "a", (4, 2)),
    Utterance(Role.RECOMMENDER, "b", "b", (3,), ((3, LIKE),)),
    Utterance(Role.SEEKER, "c", "c", (2,)),
    Utterance(Role.RECOMMENDER, "d", "d", (1, 5, 1), ((1, LIKE), (5, LIKE), (1, LIKE))),
)


def baseline_examples(tokenizer, turns=SHORT):
    dialogues = [Dialogue("one", Split.TRAIN, turns)]
    featurizer = ContextFeaturizer((EntityFeature(N), TokenFeature(tokenizer, 9)), max_entities=2)
    return TargetExamples(dialogues, recommendation_instances(dialogues), featurizer, entities=N)


def test_targets_of_baselines_are_those_of_the_recommender(tokenizer):
    rows = baseline_examples(tokenizer)
    assert len(rows) == 2 and rows.names([0, 1]) == ["one:1", "one:3"]
    assert [rows[i]["targets"].tolist() for i in range(2)] == [[3], [1, 5]]
    assert rows[1]["targets"].dtype == np.int32 and rows[1]["entities"].tolist() == [3, 2]


def test_baselines_read_only_the_turns_before(tokenizer):
    later = (*SHORT[:3], Utterance(Role.RECOMMENDER, "e", "e", (1,), ((1, LIKE),)))
    one, other = baseline_examples(tokenizer), baseline_examples(tokenizer, later)
    assert tokenizer.tokenizer.decode(one[0]["tokens"]).split() == ["User:", "a", "<end>"]
    for name in ("entities", "tokens"):
        assert [one[i][name].tolist() for i in range(2)] == [other[i][name].tolist() for i in range(2)]


def test_arrays_computed_beforehand(tokenizer):
    rows = baseline_examples(tokenizer)
    extended = ExtendedExamples(rows, Field("state", np.float32, (2,)), np.arange(4, dtype=np.float32).reshape(2, 2))
    assert extended[1]["state"].tolist() == [2, 3] and extended[1]["targets"].tolist() == [1, 5]
    (batch,) = Batches.in_order(extended, ({"E": 2, "T": 9, "M": 2},), 2)
    assert batch["state"].tolist() == [[0, 1], [2, 3]] and "state" in extended.spec


@pytest.mark.parametrize("kind", [TargetExamples, ContextExamples])
def test_names_of_examples(tokenizer, kind):
    featurizer = ContextFeaturizer((TokenFeature(tokenizer, 9),), max_entities=0)
    more = {"entities": N} if kind is TargetExamples else {}
    assert kind(DIALOGUES, conversation_instances(DIALOGUES), featurizer, **more).name(1) == "one:3"


def test_recommendation_fields_state_their_meaning():
    assert all(field.meaning for field in recommendation_fields(N))
