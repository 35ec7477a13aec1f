"""What the benchmarks of experts and of refined recommenders compute, by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import experts, refining
from ecr_jax.inference.experts import Expert, Registry
from ecr_jax.manager.schema import film_schema
from ecr_jax.training.options import PolicyConfig


def test_an_answer_tells_what_it_leaves():
    """Of four equal films two are comedies: the answer halves them; a value that all have tells nothing."""
    equal = np.full(4, 0.25)
    assert experts.told(equal, [("comedy",), ("comedy",), ("war",), ()], 0) == pytest.approx(np.log(2))
    assert experts.told(equal, [("drama",)] * 4, 2) == pytest.approx(0)
    assert experts.told(equal, [("comedy",), ("comedy",), ("war",), ()], 3) == pytest.approx(np.log(4))
    # of two values one answers with either: half the time the comedy alone, half the time one of two war films
    mixed = experts.told(equal, [("comedy", "war"), ("war",), ("drama",), ("drama",)], 0)
    assert mixed == pytest.approx(0.5 * (np.log(4) + np.log(0.5 / (0.25 * 1.5))))


def test_experts_are_chosen_by_their_words():
    """The first word of a goal is compared with descriptions: two of the sub-tasks find their expert."""

    def expert(name, word, sub_task):
        return Expert(name, word, frozenset((sub_task,)), lambda call: None)

    def similarity(goal, descriptions):
        return np.asarray([goal.split()[0] == description for description in descriptions], float)

    registry = Registry(
        [expert("r", "recommend", "recommend"), expert("a", "ask", "elicit"), expert("x", "say", "details")], similarity
    )
    rows = {row.metric: row.value for row in experts.matching(registry, film_schema(["comedy"]))}
    assert rows["recommend: right, of 2 goals"] == 1 == rows["elicit: right, of 6 goals"]
    assert rows["explain: right, of 1 goals"] == 0 and rows["right, mean over sub-tasks"] == pytest.approx(0.5)


ITEMS = np.array([3, 5, 8])


def test_an_item_earns_a_hit_where_the_turn_recommends_it():
    """The policy draws items by their softmax, and the reference is the policy before training."""
    policy = PolicyConfig(advantage="leave_one_out", samples=400)
    rollouts, loss = refining.item_rollouts(
        lambda params, frozen, batch: params["bias"] + batch["logits"], ITEMS, policy
    )
    batch = {
        "logits": jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])),
        "targets": np.array([[5, 8], [3, 99]]),
        "target_mask": np.array([[True, True], [True, False]]),
        "example_mask": np.ones(2, bool),
    }
    params, frozen = {"bias": jnp.zeros(3)}, {"initial": {"bias": jnp.array([0.0, 0.0, 1.0])}}
    completed, seen, _ = rollouts(params, frozen, batch, 0, jax.random.key(0), {})
    hits = np.isin(ITEMS[completed["item"][0]], [5, 8])
    assert hits.mean() == pytest.approx(0.5, abs=0.1)
    assert seen["reward"] == pytest.approx((hits.mean() + (completed["item"][1] == 0).mean()) / 2)
    assert seen["sampler_difference"] == pytest.approx(0, abs=1e-6)
    expected = jax.nn.log_softmax(batch["logits"] + frozen["initial"]["bias"])
    np.testing.assert_allclose(
        completed["reference"][..., 0], np.take_along_axis(expected, completed["item"], axis=1), rtol=1e-5
    )
    gradient = jax.grad(lambda params: loss(params, frozen, completed, None)[0])(params)["bias"]
    assert gradient[1] < 0 < gradient[0]  # of p (r - E r): 5 is recommended more, 3 less


def test_ranks_before_and_after_by_hand():
    rows = refining.measure(np.array([1.0, 20.0]), [np.array([1.0, 5.0]), np.array([2.0, 5.0])], ["a", "b"], "x")
    values = {row.metric.partition(",")[0]: (row.value, row.peer) for row in rows}
    assert values["HIT@1"] == (0.25, 0.5) and values["HIT@10"] == (1.0, 0.5)
    assert values["MRR@10"] == (pytest.approx((0.75 + 0.2) / 2), 0.5)
