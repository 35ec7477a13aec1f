"""Policy losses, averages and advantages against numbers worked out by hand, and published ones of KL estimators."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.losses import policy
from ecr_jax.losses.policy import AVERAGES, ESTIMATORS, LOSSES, MovingAverage, PolicyObjective

log = np.log
# Two outputs, of two tokens and of one; the last place is behind the second one's end.
ROWS = {
    "log_probs": jnp.log(jnp.array([[0.6, 0.2], [0.5, 0.9]])),
    "behaviour": jnp.log(jnp.array([[0.4, 0.25], [0.8, 0.1]])),
    "reference": jnp.log(jnp.array([[0.3, 0.4], [0.25, 0.2]])),
    "advantage": jnp.array([2.0, -1.0]),
    "where": jnp.array([[True, True], [True, False]]),
}
VALUES = {
    "reinforce": [[-2 * log(0.6), -2 * log(0.2)], [log(0.5), log(0.9)]],
    # ratios 1.5 (clipped to 1.2), 0.8; 0.625 (clipped up to 0.8), 9 (not clipped: the minimum is the larger loss)
    "clipped_ratio": [[-2.4, -1.6], [0.8, 9.0]],
    "kl_k1": [[log(2), log(0.5)], [log(2), log(4.5)]],
    "kl_k3": [[0.5 + log(2) - 1, 2 - log(2) - 1], [0.5 + log(2) - 1, 2 / 9 + log(4.5) - 1]],
}


def objective(text, average, rows=ROWS, **changes):
    return PolicyObjective(text, average)(**rows | changes)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_by_hand(name):
    values = np.asarray(VALUES[name])
    for average, (total, count) in {
        "sequence_sum": (values[0].sum() + values[1, 0], 2),
        "token_mean": (values[0].sum() + values[1, 0], 3),
        "sequence_mean": (values[0].mean() + values[1, 0], 2),
    }.items():
        computed = objective(name, average)
        np.testing.assert_allclose(computed, (total, count), rtol=1e-5)


def test_an_expression_is_a_weighted_sum():
    total, count = objective("clipped_ratio(clip=0.5) + 0.1*kl_k3", "token_mean")
    k3 = VALUES["kl_k3"][0][0] + VALUES["kl_k3"][0][1] + VALUES["kl_k3"][1][0]
    np.testing.assert_allclose(total, -3.0 - 1.6 + 0.625 + 0.1 * k3, rtol=1e-5)
    assert count == 3


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    keys = jax.random.split(jax.random.key(1), 3)
    rows = {part: -jax.random.uniform(key, (4, 3), minval=0.2, maxval=2.0)
            for part, key in zip(("log_probs", "behaviour", "reference"), keys, strict=True)}  # fmt: skip
    rows |= {"advantage": jnp.array([1.0, -2.0, 0.5, 0.0]), "where": jnp.arange(3) < jnp.array([[3], [2], [1], [0]])}

    def mean(log_probs):
        total, count = objective(name, "sequence_sum", rows, log_probs=log_probs)
        return total / count

    away, step = jax.random.normal(jax.random.key(2), (4, 3)), 1e-2
    slope = (mean(rows["log_probs"] + step * away) - mean(rows["log_probs"] - step * away)) / (2 * step)
    np.testing.assert_allclose((jax.grad(mean)(rows["log_probs"]) * away).sum(), slope, rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize("name", ("reinforce", "clipped_ratio"))
def test_the_first_update_of_a_rollout_follows_the_policy_gradient(name):
    """Where the sampling policy is the present one, the ratio is one and its gradient is not zero."""
    log_probs = ROWS["log_probs"]

    def total(log_probs):
        return objective(name, "sequence_sum", log_probs=log_probs, behaviour=ROWS["log_probs"])[0]

    np.testing.assert_allclose(jax.grad(total)(log_probs), [[-2, -2], [1, 0]], rtol=1e-5)


def test_a_clipped_token_has_no_gradient():
    gradient = jax.grad(lambda x: objective("clipped_ratio", "sequence_sum", log_probs=x)[0])(ROWS["log_probs"])
    np.testing.assert_allclose(gradient, [[0, -1.6], [0, 0]], rtol=1e-5)  # 1.5 and 0.625 are beyond the clip


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("average", AVERAGES)
def test_what_lies_behind_an_end_changes_nothing(name, average):
    def run(rows):
        return jax.value_and_grad(lambda x: objective(name, average, rows, log_probs=x)[0])(rows["log_probs"])

    behind = {part: ROWS[part].at[1, 1].set(-jnp.inf) for part in ("log_probs", "behaviour", "reference")}
    (value, gradient), (other, other_gradient) = run(ROWS), run(ROWS | behind)
    assert value == other and np.isfinite(value)
    np.testing.assert_array_equal(gradient, other_gradient)
    assert gradient[1, 1] == 0
    padded = {part: jnp.concatenate([ROWS[part], jnp.zeros_like(ROWS[part][:1])]) for part in ROWS}
    np.testing.assert_allclose(objective(name, average, padded), objective(name, average))


@pytest.mark.parametrize("average", AVERAGES)
def test_micro_batches_add_up_to_the_batch(average):
    text = "clipped_ratio + 0.3*kl_k3"
    parts = [objective(text, average, {name: array[row : row + 1] for name, array in ROWS.items()}) for row in (0, 1)]
    np.testing.assert_allclose(np.sum(parts, axis=0), objective(text, average), rtol=1e-6)


def test_measures_by_hand():
    measured = policy.measures(**ROWS)
    expected = {
        "ratio": (1.5 + 0.8) / 2 + 0.625,
        "clipped": 1 / 2 + 1,
        "log_prob_difference": (log(1.5) - log(0.8)) / 2 - log(0.625),
        "kl_k1": log(2) + log(0.5) + log(2),
        "kl_k3": VALUES["kl_k3"][0][0] + VALUES["kl_k3"][0][1] + VALUES["kl_k3"][1][0],
        "entropy": -log(0.6) - log(0.2) - log(0.5),
    }
    assert measured.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(measured[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(("mean", "k1", "k3"), [(0.1, 20, 1.42), (1.0, 2, 1.7)])
def test_published_deviations_of_the_kl_estimators(mean, k1, k3):
    """KL(N(0, 1) || N(mean, 1)): both are unbiased, and their standard deviations are 20 and 1.42, 2 and 1.7 times it.

    Reference: Schulman 2020, the two tables.
    """
    x, weight = np.polynomial.hermite_e.hermegauss(80)
    weight = weight / weight.sum()
    q, p = -(x**2) / 2, -((x - mean) ** 2) / 2
    truth = mean**2 / 2
    for loss, deviation in ((policy.kl_k1, k1), (policy.kl_k3, k3)):
        values = np.asarray(loss(log_probs=jnp.asarray(q), reference=jnp.asarray(p)), np.float64)
        np.testing.assert_allclose(weight @ values, truth, rtol=2e-3)
        spread = np.sqrt(weight @ (values - truth) ** 2) / truth
        np.testing.assert_allclose(spread, deviation, rtol=0.02)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_baseline", [[1, 0, 0, 3], [2, 2, 2, 2]]),
        ("leave_one_out", [[0, -4 / 3, -4 / 3, 8 / 3], [0, 0, 0, 0]]),
        ("group_centred", [[0, -1, -1, 2], [0, 0, 0, 0]]),
        ("group_normalised", [[0, -1 / 1.5**0.5, -1 / 1.5**0.5, 2 / 1.5**0.5], [0, 0, 0, 0]]),
    ],
)
def test_advantages_by_hand(name, expected):
    rewards = np.array([[1.0, 0, 0, 3], [2, 2, 2, 2]])
    np.testing.assert_allclose(policy.GROUP_ADVANTAGES[name](rewards), expected, atol=1e-12)
    np.testing.assert_array_equal(policy.zero_variance(rewards), [False, True])


def test_leave_one_out_needs_company():
    with pytest.raises(ValueError, match="at least 2"):
        policy.leave_one_out(np.ones((3, 1)))


def test_moving_average_by_hand():
    average = MovingAverage()
    assert average.value == 0
    average = average.updated(np.array([0.2, 0.4]), 0.9)
    np.testing.assert_allclose(average.value, 0.3)  # corrected for the zero that it began with
    average = average.updated(np.zeros(0), 0.9).updated(np.array([1.3]), 0.9)
    np.testing.assert_allclose(average.value, (0.9 * 0.1 * 0.3 + 0.1 * 1.3) / (0.1 + 0.9 * 0.1))


@pytest.mark.parametrize("advantage", ["no_baseline", "leave_one_out"])
def test_the_expected_gradient_is_that_of_the_expected_reward(advantage):
    """Over all pairs of outputs of a policy with three arms, each weighted by its probability."""
    logits, earned = jnp.array([0.3, -0.2, 0.8]), np.array([1.0, 0.2, -0.5])
    log_probs = jax.nn.log_softmax(logits)
    truth = jax.grad(lambda x: jax.nn.softmax(x) @ earned)(logits)

    def loss(logits, arms):
        advantages = policy.GROUP_ADVANTAGES[advantage](earned[list(arms)][None])[0]
        chosen = jax.nn.log_softmax(logits)[jnp.asarray(arms)][:, None]
        total, count = objective("reinforce", "sequence_sum", log_probs=chosen, behaviour=chosen, reference=chosen,
                                 advantage=jnp.asarray(advantages), where=jnp.ones((2, 1), bool))  # fmt: skip
        return total / count

    mean = sum(
        jnp.exp(log_probs[jnp.asarray(arms)].sum()) * jax.grad(loss)(logits, arms)
        for arms in itertools.product(range(3), repeat=2)
    )
    np.testing.assert_allclose(mean, -truth, atol=1e-6)


def test_what_is_refused():
    with pytest.raises(ValueError, match="there is no policy loss 'reinfarce'; there are reinforce, clipped_ratio"):
        PolicyObjective("reinfarce", "token_mean")
    with pytest.raises(ValueError, match="'clipped_ratio' has no option 'epsilon'; it has clip"):
        policy.FAMILY.check("clipped_ratio(epsilon=1)")
    with pytest.raises(ValueError, match="no average 'mean'; there are token_mean, sequence_mean, sequence_sum"):
        PolicyObjective("reinforce", "mean")
    for estimator in ESTIMATORS.values():
        PolicyObjective(estimator.loss, estimator.average)
        assert estimator.advantage in policy.ADVANTAGES
