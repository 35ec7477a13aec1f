"""Each baseline by hand where possible, and all: padding, other rows, empty contexts, learning a simple rule."""

from __future__ import annotations

import functools

import jax
import numpy as np
import optax
import pytest

from ecr_jax.losses.ranking import cross_entropy
from ecr_jax.models.baselines.autorec import AutoRec
from ecr_jax.models.baselines.ease import Ease, interactions, solve
from ecr_jax.models.baselines.kbrd import Kbrd, SelfAttention
from ecr_jax.models.baselines.kgsf import Kgsf, WordGraph
from ecr_jax.models.baselines.language_model import LanguageModel
from ecr_jax.models.baselines.sasrec import SasRec
from ecr_jax.models.baselines.text_encoder import TextEncoder
from ecr_jax.models.baselines.tg_redial import TgRedial
from ecr_jax.models.rgcn import graphs_tuple

ENTITIES, WORDS, RELATIONS, WIDTH = 12, 6, 2, 8
ITEMS = np.array([0, 2, 3, 5, 8, 9, 10, 11], np.int32)
COUNT = len(ITEMS)
MODELS = {
    "autorec": AutoRec(ENTITIES, COUNT, 16, 0.0),
    "ease": Ease(COUNT, 1e-6),
    "kbrd": Kbrd(ENTITIES, RELATIONS, COUNT, 16, 2, 0.0),
    "kgsf": Kgsf(ENTITIES, RELATIONS, WORDS, COUNT, 16, 2, 0.0, 0.025),
    "language_model": LanguageModel(COUNT, 0.0),
    "sasrec": SasRec(COUNT, 5, 16, 1, 2, 0.0, 32),
    "text_encoder": TextEncoder(COUNT, 0.0),
    "tg_redial": TgRedial(COUNT, 5, 16, 1, 2, 0.0, 32),
}
RANDOM = np.random.default_rng(0)
WORLD = {
    "items": ITEMS,
    "popularity": np.arange(COUNT, dtype=np.float32) / COUNT,
    "graph": graphs_tuple(*np.unique(RANDOM.integers(0, [ENTITIES, ENTITIES, RELATIONS], (30, 3)), axis=0).T, 13),
    "word_graph": {
        "senders": np.array([0, 1, 0, 1, 2, 3, 4, 5], np.int32),
        "receivers": np.array([0, 0, 1, 1, 2, 3, 4, 5], np.int32),
        "weights": np.array([0.5, 0.5, 0.5, 0.5, 1, 1, 1, 1], np.float32),
    },
}
CODES = RANDOM.normal(size=(ENTITIES, WIDTH)).astype(np.float32)
CONTEXTS = [[0, 4, 5], [2], [], [11, 3, 7, 9]]


def padded(rows, length, filler):
    ids, mask = np.full((len(rows), length), filler, np.int32), np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, True
    return ids, mask


def make(contexts, length=5, filler=None):
    """A batch whose films, words, text states and last state follow from the entities mentioned.

    `filler`: what stands in the padding, where the model must not look.
    """
    states = np.full((len(contexts), length, WIDTH), filler or 0, np.float16)
    for i, row in enumerate(contexts):
        states[i, : len(row)] = CODES[list(row)]
    batch = {"text_states": states, "state": np.stack([CODES[list(row)].sum(0) for row in contexts])}
    films = [[int(np.searchsorted(ITEMS, e)) for e in row if e in ITEMS] for row in contexts]
    words = [[e % WORDS for e in row] for row in contexts]
    for name, mask, rows, pad in (
        ("entities", "entity_mask", contexts, ENTITIES),
        ("films", "film_mask", films, COUNT),
        ("words", "word_mask", words, WORDS),
    ):
        batch[name], batch[mask] = padded(rows, length, pad if filler is None else filler)
    return batch | {"text_mask": batch["entity_mask"]}


@functools.cache
def parameters(name):
    """Random parameters, none of them zero."""
    shapes = jax.eval_shape(MODELS[name].init, jax.random.key(0), make(CONTEXTS), WORLD)["params"]
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)


@functools.cache
def program(name, **settings):
    return jax.jit(functools.partial(MODELS[name].apply, **settings))


def logits(name, batch, params=None):
    """Scores of four contexts, or fewer, by one program a model."""
    rows = len(batch["entities"])
    batch = {key: np.resize(value, (4, *value.shape[1:])) for key, value in batch.items()}  # rows repeat
    params = parameters(name) if params is None else params
    return np.asarray(program(name)({"params": params}, batch, WORLD))[:rows]


@pytest.mark.parametrize("name", MODELS)
def test_padding_and_other_rows_change_nothing(name):
    together = logits(name, make(CONTEXTS))
    assert together.shape == (len(CONTEXTS), COUNT) and np.isfinite(together).all()
    np.testing.assert_allclose(logits(name, make(CONTEXTS, filler=3)), together, atol=1e-6)
    for row, context in enumerate(CONTEXTS):
        np.testing.assert_allclose(logits(name, make([context]))[0], together[row], atol=1e-5)
    if name not in ("sasrec", "tg_redial"):  # whose length is a parameter's
        np.testing.assert_allclose(logits(name, make(CONTEXTS, length=4)), together, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_context_matters(name):
    scores = logits(name, make(CONTEXTS))
    assert np.ptp(scores[[0, 1, 3]], axis=0).max() > 1e-3


@pytest.mark.parametrize("name", [name for name in MODELS if name != "ease"])
def test_learns_a_rule(name):
    """Each of four films asks for another one: the loss falls far below that of popularity, which knows no context."""
    module = MODELS[name]
    batch, targets = make([[7, item] for item in ITEMS[:4].tolist()]), np.arange(4)[:, None] + 4

    def loss(params):
        scores, sown = module.apply({"params": params}, batch, WORLD, mutable=["losses"])
        ranking = cross_entropy(logits=scores, targets=targets, where=np.ones((4, 1), bool)).mean()
        return ranking + sum(leaf.mean() for leaf in jax.tree.leaves(sown)), ranking

    optimizer = optax.adam(0.03)

    @jax.jit
    def fit(params):
        def step(carry, _):
            params, state = carry
            (_, ranking), grads = jax.value_and_grad(loss, has_aux=True)(params)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), ranking

        (params, _), curve = jax.lax.scan(step, (params, optimizer.init(params)), None, 200)
        return params, curve

    params, curve = fit(parameters(name))
    popularity = np.log(4)
    assert curve[0] > popularity and curve[-1] < 0.2 * popularity
    np.testing.assert_array_equal(logits(name, batch, params).argmax(1), targets[:, 0])


# EASE


def brute_force(x, strength):
    """Column by column: the ridge regression of a film on all others."""
    weights = np.zeros((x.shape[1], x.shape[1]))
    for j in range(x.shape[1]):
        others = [i for i in range(x.shape[1]) if i != j]
        a = x[:, others]
        weights[others, j] = np.linalg.solve(a.T @ a + strength * np.eye(len(others)), a.T @ x[:, j])
    return weights


def test_ease_is_a_regression_on_the_others():
    x = (np.random.default_rng(5).random((20, 7)) < 0.3).astype(float)
    x[:, 4] = 0  # nobody mentions it
    weights = solve(x.T @ x, 2.5)
    np.testing.assert_allclose(weights, brute_force(x, 2.5), atol=1e-6)
    assert not np.diag(weights).any() and not weights[4].any() and not weights[:, 4].any()


def test_ease_by_hand():
    # two films, together in 2 dialogues, the first alone in 1 more: b_01 = 2 / (3 + 1), b_10 = 2 / (2 + 1)
    weights = solve(np.array([[3.0, 2.0], [2.0, 2.0]]), 1.0)
    np.testing.assert_allclose(weights, [[0, 2 / 4], [2 / 3, 0]], rtol=1e-6)


def test_interactions():
    matrix = interactions([np.array([2, 0, 2]), np.array([], int), np.array([1])], 4)
    np.testing.assert_array_equal(matrix.toarray(), [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    assert interactions([], 3).shape == (0, 3)


def test_ease_adds_up_the_rows_of_the_films():
    weights = parameters("ease")["weights"]
    scores = logits("ease", make([[0, 4, 5], [4]]))
    tie = 1e-6 * WORLD["popularity"]
    np.testing.assert_allclose(scores, [weights[0] + weights[3] + tie, tie], atol=1e-6)  # 4 is no film


# AutoRec


def test_autorec_by_hand():
    model = AutoRec(entities=3, items=2, width=1, dropout=0.0)
    params = {
        "table": np.array([[1.0], [-2.0], [5.0], [99.0]]),
        "bias": np.array([0.5]),
        "out": {"kernel": np.array([[2.0, -1.0]]), "bias": np.array([0.0, 3.0])},
    }
    batch = {"entities": np.array([[0, 1, 3]]), "entity_mask": np.array([[True, True, False]])}
    hidden = 1 / (1 + np.exp(0.5))  # sigmoid(1 - 2 + 0.5)
    np.testing.assert_allclose(model.apply({"params": params}, batch, {}), [[2 * hidden, 3 - hidden]], rtol=1e-6)


def test_autorec_ignores_what_is_not_mentioned():
    batch = make(CONTEXTS)
    grads = jax.jit(jax.grad(lambda p: MODELS["autorec"].apply({"params": p}, batch, WORLD).sum()))(
        parameters("autorec")
    )
    touched = np.flatnonzero(np.asarray(grads["table"]).any(axis=1))
    assert touched.tolist() == sorted({entity for row in CONTEXTS for entity in row})


# KBRD


def test_self_attention_by_hand():
    rows = np.array([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]], [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]])
    mask = np.array([[True, True, False], [False, False, False]])
    params = {"hidden": {"kernel": np.eye(2)}, "score": {"kernel": np.array([[1.0], [3.0]])}}
    pooled = SelfAttention().apply({"params": params}, rows, mask)
    scores = np.exp([np.tanh(1), 3 * np.tanh(2)])
    first, second = scores / scores.sum()
    np.testing.assert_allclose(pooled, [[first, 2 * second], [0, 0]], rtol=1e-5)


def test_kbrd_without_entities_is_its_bias():
    np.testing.assert_allclose(logits("kbrd", make([[]]))[0], parameters("kbrd")["bias"], rtol=1e-6)


def test_kbrd_sees_a_neighbour_in_the_graph():
    """A change of an entity that only the graph joins to the one mentioned changes the scores."""
    graph = graphs_tuple([1, 0], [0, 1], [0, 0], ENTITIES + 1)
    params = parameters("kbrd")
    nodes = np.array(params["graph"]["nodes"])
    nodes[1] += 1.0
    moved = params | {"graph": params["graph"] | {"nodes": nodes}}
    world, batch = WORLD | {"graph": graph}, make([[0], [7]])
    one, other = (np.asarray(program("kbrd")({"params": p}, batch, world)) for p in (params, moved))
    assert np.abs(one[0] - other[0]).max() > 1e-3
    unmoved = ITEMS > 1  # 0 and 1 are the ends of the one edge
    np.testing.assert_allclose(one[1][unmoved], other[1][unmoved], atol=1e-6)


# KGSF


def test_word_graph_by_hand():
    params = {"nodes": np.array([[1.0], [2.0], [4.0], [7.0]]), "map": {"kernel": np.array([[3.0]])},
              "bias": np.array([0.5])}  # fmt: skip
    graph = {"senders": np.array([0, 1, 0, 1, 2]), "receivers": np.array([0, 0, 1, 1, 2]),
             "weights": np.array([0.5, 0.5, 0.5, 0.5, 1.0])}  # fmt: skip
    table = WordGraph(words=3, width=1, dropout=0.0).apply({"params": params}, graph)
    np.testing.assert_allclose(table[:, 0], [5.0, 5.0, 12.5, 0.5])


def test_kgsf_information_by_hand():
    """With all parameters zero but the entities' biases, the words score each entity 0.25."""
    zeros = jax.tree.map(np.zeros_like, parameters("kgsf"))
    params = zeros | {"entity_bias": np.full(ENTITIES, 0.25, np.float32)}
    _, sown = program("kgsf", mutable="losses")({"params": params}, make([[0, 4, 5], []]), WORLD)
    squared_errors = 3 * 0.75**2 + 9 * 0.25**2  # of the mentioned entities, whose score should be 1, and of the others
    np.testing.assert_allclose(sown["losses"]["information"][0], [0.025 * squared_errors / 3, 0], rtol=1e-6)


def test_kgsf_gate_joins_both_sides():
    """Without a gate's weights the user is the mean of the two sides, so each changes the scores."""
    base = logits("kgsf", make([[0, 4]]))
    for name, value in (("entities", [[1, 4]]), ("words", [[2, 4]])):
        batch = make([[0, 4]])
        batch[name][:, :2] = value
        assert np.abs(logits("kgsf", batch) - base).max() > 1e-3


# SASRec


def states(films, length=5):
    """States [B, 1 + length, 16] of the start and of each film."""
    ids, mask = padded(films, length, COUNT)
    return np.asarray(program("sasrec", method=SasRec.states)({"params": parameters("sasrec")}, ids, mask)[0])


def test_sasrec_is_causal():
    """Of two sequences of one length, the states before the first difference are the same."""
    one, other = (states([films])[0] for films in ([1, 5, 2, 7], [1, 5, 3, 6]))
    np.testing.assert_allclose(one[:3], other[:3], atol=1e-6)
    assert (np.abs(one[3:5] - other[3:5]).max(axis=1) > 1e-3).all()


def test_sasrec_knows_the_order():
    one, other = (logits("sasrec", make([row])) for row in ([0, 2, 5], [2, 0, 5]))
    assert np.abs(one - other).max() > 1e-3


def test_sasrec_learns_every_next_film():
    films = [[1, 5, 2]]
    ids, mask = padded(films, 5, COUNT)
    batch = {"films": ids, "film_mask": mask}
    _, sown = program("sasrec", mutable="losses")({"params": parameters("sasrec")}, batch, WORLD)
    scores = states(films)[0, :3] @ parameters("sasrec")["table"][:COUNT].T
    expected = -np.asarray(jax.nn.log_softmax(scores))[np.arange(3), films[0]].sum()
    np.testing.assert_allclose(sown["losses"]["next"][0], [expected], rtol=1e-5)
