"""RGCN against a naive loop, by hand, and against the published code."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ecr_jax.models.rgcn import RGCN, graphs_tuple


def naive(params, x, senders, receivers, types):
    """One edge at a time, one node at a time."""
    y = x @ params["root"] + params["bias"]
    for node in range(len(x)):
        for relation in range(len(params["comp"])):
            neighbours = [x[s] for s, r, t in zip(senders, receivers, types, strict=True) if (r, t) == (node, relation)]
            if neighbours:
                weight = np.tensordot(params["comp"][relation], params["bases"], axes=1)
                y[node] = y[node] + np.mean(neighbours, axis=0) @ weight
    return y


def random_graph(seed, nodes=13, relations=4, edges=60):
    rng = np.random.default_rng(seed)
    triples = rng.integers(0, [nodes, nodes, relations], (edges, 3))
    return np.unique(triples, axis=0).T


def test_by_hand():
    # 0 and 1 send to 2 by relation 0; 2 sends to 0 by relation 1; W_0 = 2, W_1 = 3, root = 10, bias = 1.
    graph = graphs_tuple([0, 1, 2], [2, 2, 0], [0, 0, 1], 3)
    params = {"bases": [[[1.0]]], "comp": [[2.0], [3.0]], "root": [[10.0]], "bias": [1.0]}
    params = jax.tree.map(jnp.asarray, params, is_leaf=lambda leaf: isinstance(leaf, list))
    y = RGCN(relations=2, bases=1).apply({"params": params}, jnp.array([[1.0], [3.0], [5.0]]), graph)
    np.testing.assert_allclose(y, [[10 + 15 + 1], [30 + 1], [50 + 4 + 1]])


@pytest.mark.parametrize("seed", range(2))
def test_equals_naive_loop(seed):
    senders, receivers, types = random_graph(seed)
    layer = RGCN(relations=5, bases=2)  # relation 4 has no edge
    graph = graphs_tuple(senders, receivers, types, 13)
    x = jax.random.normal(jax.random.key(seed), (13, 6))
    params = jax.jit(layer.init)(jax.random.key(1), x, graph)["params"]
    params = jax.tree.map(lambda p: p + 0.1, params)
    expected = naive(jax.tree.map(np.asarray, params), np.asarray(x), senders, receivers, types)
    np.testing.assert_allclose(jax.jit(layer.apply)({"params": params}, x, graph), expected, atol=1e-5)


def test_gradients():
    senders, receivers, types = random_graph(3)
    layer, graph = RGCN(relations=4, bases=2), graphs_tuple(senders, receivers, types, 13)
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(0), (13, 3), jnp.float64)
        params = jax.jit(layer.init)(jax.random.key(1), x, graph)["params"]
        params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
        apply = jax.jit(lambda p, x: layer.apply({"params": p}, x, graph))
        check_grads(apply, (params, x), order=1, modes=["rev"])


def test_order_of_edges_changes_nothing():
    senders, receivers, types = random_graph(4)
    shuffled = np.random.default_rng(0).permutation(len(types))
    first, second = (
        graphs_tuple(senders, receivers, types, 13),
        graphs_tuple(senders[shuffled], receivers[shuffled], types[shuffled], 13),
    )
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_weights_are_means():
    senders, receivers, types = random_graph(5)
    graph = graphs_tuple(senders, receivers, types, 13)
    total = np.zeros((13, 4))
    np.add.at(total, (graph.receivers, graph.edges["type"]), graph.edges["weight"])
    np.testing.assert_allclose(total[total > 0], 1, rtol=1e-6)


def test_only_some_nodes_are_encoded():
    edges, nodes = random_graph(6), np.array([2, 3, 9, 12])
    x = jax.random.normal(jax.random.key(0), (13, 5))
    layer = RGCN(relations=4, bases=2)
    whole, some = graphs_tuple(*edges, 13), graphs_tuple(*edges, 13, nodes)
    params = jax.jit(layer.init)(jax.random.key(1), x, whole)["params"]
    apply = jax.jit(lambda graph: layer.apply({"params": params}, x, graph))
    np.testing.assert_allclose(apply(some), apply(whole)[nodes], atol=1e-6)
    assert some.n_edge < whole.n_edge
    np.testing.assert_array_equal(some.globals["rows"], [3, 3, 0, 1, 3, 3, 3, 3, 3, 2, 3, 3, 3])


@pytest.mark.parametrize("nodes", [[], [2, 1], [1, 1], [0, 3], [-1, 0]])
def test_bad_encoded_nodes(nodes):
    with pytest.raises(ValueError, match="rising ids from 0 to 2"):
        graphs_tuple([0], [1], [0], 3, np.array(nodes, int))


def test_graph_without_edges():
    none = np.zeros(0, np.int32)
    graph = graphs_tuple(none, none, none, 2)
    layer = RGCN(relations=3, bases=1)
    params = layer.init(jax.random.key(0), jnp.ones((2, 2)), graph)["params"]
    y = layer.apply({"params": params}, jnp.ones((2, 2)), graph)
    np.testing.assert_allclose(y, jnp.ones((2, 2)) @ params["root"], rtol=1e-6)


@pytest.mark.parametrize(
    ("senders", "receivers", "types", "message"),
    [
        ([0, 1], [1], [0, 0], "one value an edge"),
        ([0, 3], [1, 1], [0, 0], "0 to 2"),
        ([0, 1], [1, -1], [0, 0], "0 to 2"),
        ([0, 1], [1, 1], [0, -1], "numbered from 0"),
        ([0, 0], [1, 1], [2, 2], "appears twice"),
    ],
)
def test_bad_graphs(senders, receivers, types, message):
    with pytest.raises(ValueError, match=message):
        graphs_tuple(senders, receivers, types, 3)


def test_too_many_relations():
    graph = graphs_tuple([0], [1], [3], 2)
    with pytest.raises(ValueError, match="4 relations, the layer 3"):
        RGCN(relations=3, bases=1).init(jax.random.key(0), jnp.ones((2, 2)), graph)


@pytest.mark.parametrize("model", ["kgA", "kgC"])
def test_published(golden, model):
    arrays = np.load(golden / "model.npz")
    graph = graphs_tuple(*(arrays[f"graph/edge_{name}"] for name in ("src", "dst", "type")), 50)
    names = {"bases": "weight", "comp": "comp", "root": "root", "bias": "bias"}
    params = {ours: arrays[f"{model}/kg_encoder.{theirs}"] for ours, theirs in names.items()}
    y = RGCN(relations=6).apply({"params": params}, jnp.asarray(arrays[f"{model}/node_embeds"]), graph)
    expected = arrays["out/rgcn" if model == "kgA" else "out/kgC/rgcn"]
    np.testing.assert_allclose(y, expected, atol=1e-5, rtol=1e-5)
