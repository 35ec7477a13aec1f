"""Loss expressions: their syntax, what is refused, the objective they make, and losses of other packages."""

from __future__ import annotations

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.config.sections import RecommendationConfig
from ecr_jax.errors import ConfigError
from ecr_jax.losses.expression import Term, parse
from ecr_jax.losses.objective import GROUP, Objective, check
from ecr_jax.training.options import TrainConfig

INPUTS = {
    "logits": jnp.log(jnp.array([[1.0, 2.0, 5.0], [6.0, 1.0, 1.0], [1.0, 1.0, 2.0]])),
    "targets": jnp.array([[1, 2], [0, 0], [0, 0]]),
    "where": jnp.array([[True, True], [True, False], [False, False]]),
    "weights": jnp.array([[2.0, 0.5], [1.0, 1.0], [1.0, 1.0]]),
    "feedback": jnp.array([[1, 0], [-1, 0], [0, 0]]),
}
OTHERS = '''
"""Losses of another package."""
import jax.numpy as jnp

def squared(*, logits, targets, where, scale=1.0, power=2):
    values = jnp.take_along_axis(logits, targets, axis=1) ** power
    return scale * jnp.sum(jnp.where(where, values, 0), axis=1)

def scalar(*, logits):
    return logits.sum()

def hungry(*, logits, lunch):
    return logits

def grasping(**everything):
    return everything["logits"]

number = 3
'''


@pytest.fixture
def others(tmp_path, monkeypatch):
    """A package of losses, and one of them registered."""
    (tmp_path / "others.py").write_text(OTHERS)
    metadata = tmp_path / "others-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\nsquares = others:squared\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_parse():
    assert parse("bpr") == (Term("bpr"),)
    assert parse(" focal ( gamma = 1.5 ) ") == (Term("focal", {"gamma": 1.5}),)
    text = "normalised_cross_entropy+ 3e-1 *my_package.module:loss_2(a=-1, b=2e+1) + .5*focal()"
    assert parse(text) == (
        Term("normalised_cross_entropy"),
        Term("my_package.module:loss_2", {"a": -1.0, "b": 20.0}, 0.3),
        Term("focal", {}, 0.5),
    )
    assert str(parse(text)[1]) == "my_package.module:loss_2(a=-1, b=20)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' in '' is not a loss"),
        ("bpr +", "'bpr +' in 'bpr +' is not a loss"),
        ("bpr - focal", "'bpr - focal' in"),
        ("bpr + 2 focal", "' 2 focal' in"),
        ("focal(2)", "'2' in 'focal(2)' is not an option: write name=number"),
        ("focal(gamma=high)", "'gamma=high' in"),
        ("focal(gamma=1", "'focal(gamma=1' in"),
        ("bpr + focal)", "' focal)' in"),
        ("bpr + -1*focal", "'-1*focal' in"),
        ("0.5*(bpr + focal)", "'0.5*(bpr + focal)' in"),
        ("bpr + 2", "'2' in"),
        ("a.b:c:d", "'a.b:c:d' in"),
        ("focal(gamma=1, gamma=2)", "'gamma=2' in"),
        ("focal(gamma=True)", "'gamma=True' in"),
        ("focal(**options)", "'**options' in"),
    ],
)
def test_syntax_errors_are_refused_by_the_config(text, message):
    with pytest.raises(ConfigError, match=f"RecommendationConfig.loss = .* is not allowed: .*{re.escape(message)}"):
        RecommendationConfig(train=TrainConfig(steps=1), loss=text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vocal", "there is no loss 'vocal'; there are cross_entropy, feedback_cross_entropy, "),
        ("bpr + vocal", "there is no loss 'vocal'"),
        ("focal(alpha=1)", "'focal' has no option 'alpha'; it has gamma"),
        ("bpr(alpha=1)", "'bpr' has no option 'alpha'; it has none"),
        ("sampled_softmax(samples=2.5)", "samples = 2.5 of the loss 'sampled_softmax' must be a whole number"),
    ],
)
def test_unknown_names_and_options_are_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check(text)


def test_the_syntax_is_checked_without_jax():
    code = "import sys; from ecr_jax.losses.expression import parse; parse('2*bpr + a.b:c(d=1)'); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "ecr_jax.losses.expression" in modules and "jax" not in modules and "numpy" not in modules


def test_one_term():
    total, count, parts = Objective("0.5 * feedback_cross_entropy")(**INPUTS)
    np.testing.assert_allclose(total, (2 * np.log(4) + 0.5 * np.log(8 / 5) + np.log(8 / 6)) / 2, rtol=1e-6)
    assert count == 3 and parts == {}
    total, count, _ = Objective("normalised_cross_entropy")(**INPUTS)
    np.testing.assert_allclose(total, 2 * np.log(4) + 0.5 * np.log(8 / 5) + np.log(8 / 6), rtol=1e-6)
    assert count == 3.5  # the weights' sum
    *_, count, _ = Objective("listwise_cross_entropy")(**INPUTS)
    assert count == 2  # turns


def test_a_sum_is_the_sum_of_the_means():
    total, count, parts = Objective("feedback_cross_entropy + 0.3*pairwise_batch(margin=0)")(**INPUTS)
    first = 2 * np.log(4) + 0.5 * np.log(8 / 5) + np.log(8 / 6)
    np.testing.assert_allclose(total / count, first / 3 + 0.3 * np.log(4), rtol=1e-6)  # three targets; one pair
    np.testing.assert_allclose(parts["feedback_cross_entropy"] / count, first / 3, rtol=1e-6)
    np.testing.assert_allclose(parts["pairwise_batch(margin=0)"] / count, np.log(4), rtol=1e-6)
    turned, _, _ = Objective("0.3*pairwise_batch + feedback_cross_entropy")(**INPUTS)
    np.testing.assert_allclose(turned, total, rtol=1e-6)
    alone = INPUTS | {"feedback": jnp.zeros((3, 2), int)}  # no pair at all
    total, count, _ = Objective("feedback_cross_entropy + 0.3*pairwise_batch")(**alone)
    np.testing.assert_allclose(total / count, first / 3, rtol=1e-6)


def test_options_arrive():
    with jax.disable_jit():
        near = Objective("sampled_softmax(samples=4, power=0)")
        value, *_ = near(**INPUTS, counts=jnp.ones(3), key=jax.random.key(0))
    assert np.isfinite(value)
    assert Objective("focal(gamma=0)")(**INPUTS)[0] == Objective("feedback_cross_entropy")(**INPUTS)[0]


def test_losses_of_other_packages(others):
    expected = 3 * (np.log(2) ** 2 + np.log(5) ** 2 + np.log(6) ** 2)
    for name in ("others:squared(scale=3)", "squares(scale=3)"):
        check(name)
        total, count, _ = Objective(name)(**INPUTS)
        np.testing.assert_allclose(total, expected, rtol=1e-6)
        assert count == 3
    total, *_ = Objective("cross_entropy + 0.1*others:squared(power=1)")(**INPUTS)
    plain, *_ = Objective("cross_entropy")(**INPUTS)
    np.testing.assert_allclose(total, plain + 0.1 * np.log(2 * 5 * 6), rtol=1e-6)
    with pytest.raises(ValueError, match="there is no loss 'square'; there are .*, squares, and any function"):
        check("square")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:loss", "No module named 'nowhere'; install its package"),
        ("others:round", "others has no function 'round'"),
        ("others:number", "others has no function 'number'"),
        ("others:hungry", "asks for 'lunch'; there are logits, targets"),
        ("others:grasping", "takes 'everything' without a name"),
        ("others:squared(scales=3)", "has no option 'scales'; it has scale, power"),
        ("squares(power=1.5)", "must be a whole number"),
    ],
)
def test_losses_that_cannot_be_used(others, name, message):
    check(name)  # a config that names it can be read where its package is missing
    with pytest.raises(ValueError, match=message):
        Objective(name)


def test_a_loss_gives_a_value_a_row(others):
    with pytest.raises(ValueError, match=r"'others:scalar' returns the shapes \(\) and \(3,\) for 3 rows"):
        Objective("others:scalar")(**INPUTS)
