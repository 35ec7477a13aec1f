"""Losses against numbers worked out by hand, and against padding, rounding and devices."""

from __future__ import annotations

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.losses.next_token import next_token_cross_entropy
from ecr_jax.losses.ranking import INPUTS, RANKING, emotion_cross_entropy, pairwise_batch
from ecr_jax.training.sharding import make_mesh

log = np.log
LOGITS = jnp.log(jnp.array([[1.0, 2.0, 5.0], [6.0, 1.0, 1.0]]))  # softmax: 1/8 2/8 5/8, 6/8 1/8 1/8
# Two turns: a liked and an unsaid target; a disliked one and padding.
TURNS = {
    "logits": LOGITS,
    "like_logits": jnp.log(jnp.array([[2.0, 3.0, 1.0], [4.0, 1.0, 1.0]])),
    "targets": jnp.array([[1, 2], [0, 99]]),
    "where": jnp.array([[True, True], [True, False]]),
    "weights": jnp.array([[2.0, 0.5], [1.0, 7.0]]),
    "feedback": jnp.array([[1, 0], [-1, 1]]),
    "rated_items": jnp.array([[0, 2], [1, 2]]),
    "ratings": jnp.array([[-1, 0], [1, -1]]),
    "reaction": jnp.zeros((2, 9)).at[0, 2].set(0.5).at[0, 5].set(0.25).at[1, 4].set(0.8),
    "counts": jnp.array([4.0, 1.0, 16.0]),
    "key": jax.random.key(0),
}
EVEN = (log(8) + log(4) + log(8 / 5)) / 3, (log(8 / 6) + 2 * log(8)) / 3  # mean -log p of the candidates
WEIGHTED = [2 * log(4) + 0.5 * log(8 / 5), log(8 / 6)]
TOGETHER = {"in_batch_softmax", "pairwise_batch"}
"""Losses that take the rows of a batch together."""


def call(name, inputs=None, **changes):
    """(values, counts) of a loss; the counts are None where it has none."""
    loss = RANKING[name]
    inputs = TURNS if inputs is None else inputs
    names = [p.name for p in inspect.signature(loss).parameters.values() if p.default is p.empty]
    options = {k: v for k, v in changes.items() if k not in INPUTS}
    result = loss(**{k: changes.get(k, inputs[k]) for k in names}, **options)
    return result if isinstance(result, tuple) else (result, None)


@pytest.mark.parametrize(
    ("name", "changes", "values", "counts"),
    [
        ("cross_entropy", {}, [log(4) + log(8 / 5), log(8 / 6)], None),
        ("feedback_cross_entropy", {}, WEIGHTED, None),
        ("normalised_cross_entropy", {}, WEIGHTED, [2.5, 1]),
        # half happy and a quarter neutral weigh 1 + 1/8; four fifths negative weigh as much
        ("emotion_cross_entropy", {}, [1.125 * (log(4) + log(8 / 5)), 0.8 * log(8 / 6)], None),
        ("emotion_cross_entropy", {"negative": -1.0}, [1.125 * (log(4) + log(8 / 5)), -0.8 * log(8 / 6)], None),
        ("signed_cross_entropy", {}, [WEIGHTED[0], -log(8 / 6)], None),
        # as unlikely as chance is far enough
        ("signed_cross_entropy", {"targets": jnp.array([[1, 2], [1, 0]])}, [WEIGHTED[0], -log(3)], None),
        ("signed_cross_entropy", {"targets": jnp.array([[1, 2], [1, 0]]), "floor": 0.5}, [WEIGHTED[0], -log(6)], None),
        ("listwise_cross_entropy", {}, [0.8 * log(4) + 0.2 * log(8 / 5), log(8 / 6)], [1, 1]),
        ("listwise_cross_entropy", {"weights": jnp.array([[2.0, 2.0], [0.0, 1.0]])},
         [0.5 * log(4) + 0.5 * log(8 / 5), 0], [1, 0]),
        ("smoothed_cross_entropy", {"smoothing": 0.3},
         [0.7 * WEIGHTED[0] + 0.3 * 2.5 * EVEN[0], 0.7 * WEIGHTED[1] + 0.3 * EVEN[1]], None),
        ("focal", {}, [2 * (3 / 4) ** 2 * log(4) + 0.5 * (3 / 8) ** 2 * log(8 / 5), (1 / 4) ** 2 * log(8 / 6)], None),
        ("focal", {"gamma": 0.0}, WEIGHTED, None),
        # all samples are the last candidate, and it is left out where it is the target
        ("sampled_softmax", {"counts": jnp.array([1e-20, 1e-20, 1.0]), "samples": 7},
         [2 * log(7 / 2), log(7 / 6)], None),
        # e^s / q, with q of 4/21, 1/21, 16/21: 21/4, 42, 105/16 and 126/4, 21, 21/16
        ("in_batch_softmax", {},
         [2 * log(1 + (21 / 4 + 105 / 16) / 42) + 0.5 * log(1 + (21 / 4 + 42) / (105 / 16)),
          log(1 + (21 + 21 / 16) / (126 / 4))], None),
        # propensities 1/2, 1/4, 1; the second is clipped from 4 to 3
        ("inverse_propensity", {"clip": 3.0}, [3 * 2 * log(4) + 0.5 * log(8 / 5), 2 * log(8 / 6)], [4, 2]),
        ("inverse_propensity", {"power": 0.0}, WEIGHTED, [2, 1]),
        # the first turn's targets are no negatives of each other
        ("bpr", {}, [2 * log(1 + 1 / 2) + 0.5 * log(1 + 1 / 5), log(1 + 1 / 6)], None),
        # liked 2 over disliked 1; disliked 6 under liked 1; unsaid counts nowhere
        ("pairwise_dialogue", {}, [log(1 + 1 / 2), log(1 + 6)], [1, 1]),
        ("pairwise_dialogue", {"margin": log(2)}, [log(1 + 2 / 2), log(1 + 2 * 6)], [1, 1]),
        # liked at 1/4 in its context, disliked at 3/4 in its own
        ("pairwise_batch", {}, [log(1 + 3), 0], [1, 0]),
        ("pairwise_batch", {"margin": log(2)}, [log(1 + 2 * 3), 0], [1, 0]),
        # liked at odds of 3, disliked at odds of 4; the unsaid one counts nowhere
        ("feedback_bce", {}, [log(4 / 3), log(5)], [1, 1]),
        # a liked target (odds 3) above the disliked film (2); a liked film (odds 1) above the disliked target (4)
        ("like_pairwise", {}, [log(5 / 3), log(5)], [1, 1]),
        ("like_pairwise", {"margin": log(2)}, [log(7 / 3), log(9)], [1, 1]),
        ("unlikelihood", {"strength": 0.5}, [WEIGHTED[0], 0.5 * log(4)], None),
    ],
)  # fmt: skip
def test_by_hand(name, changes, values, counts):
    computed, number = call(name, **changes)
    np.testing.assert_allclose(computed, values, rtol=2e-6, atol=1e-7)
    assert (number is None) == (counts is None)
    if counts is not None:
        np.testing.assert_allclose(number, counts, rtol=1e-6)


def test_options_are_named_as_the_emotions():
    parameters = inspect.signature(emotion_cross_entropy).parameters.values()
    assert tuple(p.name for p in parameters if p.default is not p.empty) == EMOTIONS


def test_sampled_softmax_approaches_the_whole_one():
    """Many samples from any q give the cross-entropy: the correction is right, and so is leaving out the hits."""
    logits = 2 * jax.random.normal(jax.random.key(1), (2, 50))
    inputs = TURNS | {"logits": logits, "counts": jnp.arange(1.0, 51)}
    whole, _ = call("feedback_cross_entropy", inputs)
    for power in (0.0, 1.0):
        near, _ = call("sampled_softmax", inputs, samples=200_000, power=power)
        np.testing.assert_allclose(near, whole, rtol=0.01)
    other, _ = call("sampled_softmax", inputs, samples=5, key=jax.random.key(2))
    assert not np.allclose(other, call("sampled_softmax", inputs, samples=5)[0])


def test_pairwise_losses_are_what_the_aucs_measure():
    """Steps down the loss raise the AUC of its pairs to one."""
    shape = (6, 2)
    where = jnp.ones(shape, bool)
    inputs = {
        "targets": jax.random.randint(jax.random.key(0), shape, 0, 5), "where": where,
        "feedback": jnp.array([[1, 0], [-1, 1], [1, -1], [0, -1], [1, 1], [-1, 1]]),
    }  # fmt: skip
    logits = jax.random.normal(jax.random.key(4), (6, 5))

    def mean(logits):
        values, counts = pairwise_batch(logits=logits, **inputs)
        return values.sum() / counts.sum()

    def auc(logits):
        score = jnp.take_along_axis(jax.nn.log_softmax(logits), inputs["targets"], axis=1).reshape(-1)
        liked, disliked = (score[inputs["feedback"].reshape(-1) == sign] for sign in (1, -1))
        return float((liked[:, None] > disliked).mean())

    assert auc(logits) < 0.7
    down = jax.jit(lambda x: jax.lax.fori_loop(0, 200, lambda _, x: x - 5 * jax.grad(mean)(x), x))(logits)
    assert auc(down) > 0.95


def random_turns(seed=0, rows=8, candidates=7):
    """Turns with up to four targets, the last slot masked; films of the dialogue, the last masked."""
    keys = iter(jax.random.split(jax.random.key(seed), 8))
    where = jnp.arange(4) < jnp.array([3, 2, 1])[jnp.arange(rows) % 3, None]
    return {
        "logits": jax.random.normal(next(keys), (rows, candidates)),
        "targets": jax.random.randint(next(keys), (rows, 4), 0, candidates),
        "where": where,
        "weights": jax.random.uniform(next(keys), (rows, 4), minval=0.5, maxval=2.0),
        "feedback": jnp.where(where, jnp.array([1, -1, 0, 1]), 0) * jnp.where(jnp.arange(rows) % 2, -1, 1)[:, None],
        "rated_items": jax.random.randint(next(keys), (rows, 3), 0, candidates),
        "ratings": jnp.tile(jnp.array([1, -1, 0]), (rows, 1)),
        "reaction": jax.nn.softmax(jax.random.normal(next(keys), (rows, 9))),
        "counts": jnp.arange(1.0, candidates + 1),
        "key": next(keys),
    }


@functools.cache
def measured(name):
    """A program for ((value, count), gradient) of a batch: total, what it is divided by, and by the logits."""

    def total(logits, inputs):
        values, counts = call(name, inputs | {"logits": logits, "like_logits": logits})
        return values.sum(), inputs["where"].sum() if counts is None else counts.sum()

    return jax.jit(lambda inputs: jax.value_and_grad(total, has_aux=True)(inputs["logits"], inputs))


@pytest.mark.parametrize("name", RANKING)
def test_gradients(name):
    """Against finite differences in a random direction."""
    inputs, step = random_turns(1), 1e-2
    away = jax.random.normal(jax.random.key(9), inputs["logits"].shape)
    ahead, behind = (measured(name)(inputs | {"logits": inputs["logits"] + s * away})[0][0] for s in (step, -step))
    slope = (measured(name)(inputs)[1] * away).sum()
    np.testing.assert_allclose((ahead - behind) / (2 * step), slope, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("name", RANKING)
def test_padding_changes_neither_value_nor_gradient(name):
    """Padded slots and padded rows, whatever they hold."""
    inputs = random_turns()
    where = inputs["where"].at[5].set(False)
    inputs |= {"where": where, "ratings": inputs["ratings"].at[5].set(0)}
    (value, count), gradient = measured(name)(inputs)
    other = inputs | {
        "logits": inputs["logits"].at[5].set(9.0),
        "targets": jnp.where(where, inputs["targets"], 10**6),
        "weights": jnp.where(where, inputs["weights"], 99.0),
        "feedback": jnp.where(where, inputs["feedback"], -1),
        "reaction": inputs["reaction"].at[5].set(7.0),
    }
    (again, count_again), gradient_again = measured(name)(other)
    assert (value, count) == (again, count_again) and count > 0
    np.testing.assert_array_equal(gradient, gradient_again)
    assert gradient.any() and not gradient[5].any()
    (value, count), gradient = measured(name)(inputs | {"where": np.zeros_like(where)})
    assert value == count == 0 and not gradient.any()


@pytest.mark.parametrize("name", RANKING)
def test_extreme_logits_stay_finite(name):
    """A candidate that has all the probability, wanted or not."""
    inputs = random_turns(2)
    wanted = np.zeros_like(inputs["logits"])
    wanted[np.arange(len(wanted)), inputs["targets"][:, 0]] = 1e4
    for logits in (wanted, -wanted, 1e4 * inputs["logits"], 0 * wanted):
        (value, _), gradient = measured(name)(inputs | {"logits": logits})
        assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize("name", RANKING)
def test_half_precision_is_summed_in_single(name):
    inputs = random_turns(2)
    (value, _), gradient = jax.eval_shape(measured(name), inputs | {"logits": inputs["logits"].astype(jnp.bfloat16)})
    assert value.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16


@pytest.mark.parametrize("name", [name for name in RANKING if name not in TOGETHER])
def test_micro_batches_add_up(name):
    inputs = random_turns(3)
    halves = [inputs["where"] & (np.arange(8) % 2 == part)[:, None] for part in (0, 1)]
    parts = [measured(name)(inputs | {"where": half})[0] for half in halves]
    np.testing.assert_allclose(np.sum(parts, axis=0), measured(name)(inputs)[0], rtol=1e-6)


@pytest.mark.parametrize("name", ["bpr", "sampled_softmax", *sorted(TOGETHER)])
def test_eight_devices_give_the_result_of_one(name):
    inputs = random_turns(3)
    rows = NamedSharding(make_mesh(), P("data"))
    shared = {key: array if key in ("counts", "key") else jax.device_put(array, rows) for key, array in inputs.items()}
    for one, eight in zip(*(jax.tree.leaves(measured(name)(x)) for x in (inputs, shared)), strict=True):
        np.testing.assert_allclose(eight, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("signed_cross_entropy", "floor", 0.0),
        ("smoothed_cross_entropy", "smoothing", 1.0),
        ("focal", "gamma", -1.0),
        ("sampled_softmax", "samples", 0),
        ("inverse_propensity", "clip", 0.5),
    ],
)
def test_options_that_cannot_be(name, option, value):
    with pytest.raises(ValueError, match=f"the option {option} = {value} of the loss is not allowed"):
        call(name, **{option: value})


def scored(hidden, head, tokens, where):
    """The plain way: all scores at once."""
    shares = jax.nn.log_softmax(hidden[:, :-1] @ head.T)
    chosen = jnp.take_along_axis(shares, tokens[:, 1:, None], axis=-1)[..., 0]
    hits = (shares.argmax(-1) == tokens[:, 1:]) & (where[:, 1:] != 0)
    return -jnp.sum(where[:, 1:] * chosen), hits.sum()


def test_language_model_is_shifted():
    hidden = jnp.log(jnp.array([[[1.0, 3.0], [1.0, 1.0], [5.0, 1.0]]]))
    inputs = dict(hidden=hidden, head=jnp.eye(2), tokens=jnp.array([[0, 1, 0]]))
    everything, hits = next_token_cross_entropy(**inputs, where=jnp.ones((1, 3), bool))
    np.testing.assert_allclose(everything, np.log(4 / 3) + np.log(2), rtol=1e-6)
    assert hits == 2
    completion, hits = next_token_cross_entropy(**inputs, where=jnp.array([[False, False, True]]))
    np.testing.assert_allclose(completion, np.log(2), rtol=1e-6)
    assert hits == 1


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 4, 6, 1024])
def test_chunks_of_the_vocabulary_loss_change_nothing(chunk):
    keys = jax.random.split(jax.random.key(0), 4)
    hidden, head = jax.random.normal(keys[0], (2, 6, 3)), jax.random.normal(keys[1], (11, 3))
    tokens = jax.random.randint(keys[2], (2, 6), 0, 11)
    where = jax.random.uniform(keys[3], (2, 6)) * jnp.array([[1, 1, 1, 1, 0, 0], [1, 1, 0, 1, 1, 1]])

    def ours(hidden, head):
        return next_token_cross_entropy(hidden=hidden, head=head, tokens=tokens, where=where, chunk=chunk)

    (value, hits), (to_hidden, to_head) = jax.value_and_grad(ours, (0, 1), has_aux=True)(hidden, head)
    plain, plain_hits = scored(hidden, head, tokens, where)
    want = jax.grad(lambda *arrays: 3.0 * scored(*arrays, tokens, where)[0], (0, 1))(hidden, head)
    np.testing.assert_allclose(value, plain, rtol=1e-6)
    assert hits == plain_hits
    np.testing.assert_allclose(3 * to_hidden, want[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(3 * to_head, want[1], rtol=1e-5, atol=1e-6)
    scaled = jax.grad(lambda hidden: 3.0 * ours(hidden, head)[0])(hidden)  # a frozen head, another factor
    np.testing.assert_allclose(scaled, want[0], rtol=1e-5, atol=1e-6)


def test_the_vocabulary_loss_never_holds_all_scores():
    def total(hidden, head):
        tokens = jnp.zeros((4, 65), jnp.int32)
        return next_token_cross_entropy(hidden=hidden, head=head, tokens=tokens, where=tokens == 0, chunk=64)[0]

    shapes = jax.ShapeDtypeStruct((4, 65, 8), jnp.float32), jax.ShapeDtypeStruct((5000, 8), jnp.float32)
    needed = jax.jit(jax.grad(total)).lower(*shapes).compile().memory_analysis().temp_size_in_bytes
    assert needed < 4 * 64 * 5000 * 4  # of 256 tokens at once: four chunks


def test_padding_tokens_change_neither_value_nor_gradient():
    keys = jax.random.split(jax.random.key(0), 3)
    hidden, head = jax.random.normal(keys[0], (2, 4, 3)), jax.random.normal(keys[1], (5, 3))
    where = jnp.array([[True, True, True, False], [True, True, False, False]])
    tokens = jax.random.randint(keys[2], (2, 4), 0, 5)

    def total(hidden, tokens):
        return next_token_cross_entropy(hidden=hidden, head=head, tokens=tokens, where=where)[0]

    value, gradient = jax.value_and_grad(total)(hidden, tokens)
    again, gradient_again = jax.value_and_grad(total)(hidden, jnp.where(where, tokens, 10**6))
    np.testing.assert_array_equal(value, again)
    np.testing.assert_array_equal(gradient, gradient_again)
    check_grads(lambda x: total(x, tokens), (hidden,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)
