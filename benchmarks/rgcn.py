"""Speed of the graph convolution, forward and with its gradient, at the size of ReDial's DBpedia graph.

    python -m benchmarks.rgcn [--kg DIR] [--width 128] [--bases 8] [--json FILE]

DIR is the UniCRS export of the graph; without it a random graph of the same size is used. The peer, in the same run, is
the loop as it is commonly written: for every relation a gather, a segment sum into all nodes and a matrix product over
all nodes, on the same arrays and parameters.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import Row, compared, matmul_peak, milliseconds, report
from ecr_jax.knowledge.graph import from_unicrs
from ecr_jax.models.lm.language_model import Params
from ecr_jax.models.rgcn import RGCN, graphs_tuple

NODES, RELATIONS, EDGES = 31_162, 25, 186_685


def random_edges(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random edges of the published graph's size: self-loops of most nodes, few hubs, relations of unequal size."""
    rng = np.random.default_rng(seed)
    loops = np.arange(24_032)
    count = (EDGES - len(loops)) * 2 // 3
    hubs = (NODES * rng.random(count) ** 2.2).astype(np.int64)
    relations = ((RELATIONS - 1) * rng.random(count) ** 2).astype(np.int64)
    one_way = np.stack([hubs, rng.integers(0, NODES, count), relations])
    both = np.unique(np.concatenate([one_way, one_way[[1, 0, 2]]], axis=1), axis=1)
    both = both[:, rng.permutation(both.shape[1])[: EDGES - len(loops)]]
    senders, receivers, types = np.concatenate([both, [loops, loops, np.full(len(loops), RELATIONS - 1)]], axis=1)
    return senders, receivers, types


def loop(params: Params, x: jax.Array, edges: Sequence[tuple[jax.Array, jax.Array, jax.Array]]) -> jax.Array:
    """The peer: every relation is computed over all nodes; `edges` are (senders, receivers, weights) by relation."""
    weights = jnp.einsum("rb,bij->rij", params["comp"], params["bases"])
    y = x @ params["root"] + params["bias"]
    for relation, (senders, receivers, weight) in enumerate(edges):
        total = jax.ops.segment_sum(x[senders] * weight[:, None], receivers, x.shape[0], indices_are_sorted=True)
        y = y + total @ weights[relation]
    return y


def measure(edges: tuple[np.ndarray, np.ndarray, np.ndarray], nodes: int, width: int, bases: int) -> list[Row]:
    """Times ours and the loop in turns, and checks that they agree."""
    graph = jax.tree.map(jnp.asarray, graphs_tuple(*edges, nodes))
    relations = len(graph.globals["pairs"])
    layer = RGCN(relations, bases)
    x = jax.random.normal(jax.random.key(0), (nodes, width))
    params = jax.jit(layer.init)(jax.random.key(1), x, graph)["params"]
    bounds = np.cumsum([0, *(len(pair) for pair in graph.globals["pairs"])])
    by_relation = [
        (graph.senders[start:end], graph.receivers[start:end], graph.edges["weight"][start:end])
        for start, end in zip(bounds[:-1], bounds[1:], strict=True)
    ]

    def ours(params, x, graph, _):
        return layer.apply({"params": params}, x, graph)

    def peer(params, x, _, edges):
        return loop(params, x, edges)

    arguments = (params, x, graph, by_relation)
    forward = [jax.jit(f) for f in (ours, peer)]
    gradient = [jax.jit(jax.grad(lambda p, x, *a, f=f: jnp.square(f(p, x, *a)).mean(), (0, 1))) for f in (ours, peer)]
    np.testing.assert_allclose(forward[0](*arguments), forward[1](*arguments), atol=1e-4)
    case = f"RGCN, {nodes} nodes, {len(graph.senders)} edges, {relations} relations, width {width}, {bases} bases"
    rows = []
    for metric, functions in (("forward", forward), ("forward and backward", gradient)):
        times = milliseconds([lambda f=f: f(*arguments) for f in functions])
        rows.append(compared(case, metric, *times))
    return rows


def main() -> None:
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kg", type=Path, help="folder of the UniCRS export")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--bases", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    edges, nodes = random_edges(), NODES
    if options.kg is not None:
        graph = from_unicrs(options.kg)
        edges, nodes = graph.message_edges(), len(graph.uris) + 1
    rows = [matmul_peak(), *measure(edges, nodes, options.width, options.bases)]
    report(rows, "graph convolution", options.json)


if __name__ == "__main__":
    main()
