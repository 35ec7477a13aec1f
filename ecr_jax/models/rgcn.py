"""Relational graph convolution (RGCN) over a `jraph.GraphsTuple` (ECR 3.2).

Edges are grouped by relation and sorted by receiver, so that a relation is one gather, one sorted segment sum over its
(receiver, relation) pairs, one matrix product and one scatter without collisions. Nothing is ever N x R or E x W x W.
"""

from __future__ import annotations

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph
import numpy as np


def graphs_tuple(
    senders: np.ndarray, receivers: np.ndarray, types: np.ndarray, nodes: int, encoded_nodes: np.ndarray | None = None
) -> jraph.GraphsTuple:
    """Puts message edges into the order and form that `RGCN` needs.

    Args:
      senders: int [E] ids of the nodes whose features are passed.
      receivers: int [E] ids of the nodes that they are passed to.
      types: int [E] relation ids from 0.
      nodes: number of nodes, the padding node included.
      encoded_nodes: int [M] ids, in rising order, of the nodes to encode: edges into others are left out. None: all.

    Returns:
      A `GraphsTuple` without node features. Edges are sorted by relation, then receiver, then sender;
      `edges = {"type", "weight"}` with weight `1 / |N_r(i)|`, so that a weighted sum is the mean over a relation's
      neighbours. `globals = {"pairs", "receivers"}` describe the E_r edges of each relation r: `pairs[r]` int32 [E_r]
      is the position in `receivers[r]` int32 [P_r], the relation's distinct receivers in rising order, as rows of the
      output of `RGCN`. Relations without edges have empty arrays. With `encoded_nodes`, `globals` also has "nodes",
      which are these, and "rows" int32 [nodes], the output row of each node, the last row for nodes not encoded.

    Raises:
      ValueError: arrays of different length, an id outside its range, a duplicate edge, `encoded_nodes` not rising.

    >>> graph = graphs_tuple(np.array([0, 1, 2]), np.array([2, 2, 0]), np.array([0, 0, 1]), nodes=3)
    >>> graph.edges["weight"].tolist()  # two senders share node 2's mean
    [0.5, 0.5, 1.0]
    """
    senders, receivers, types = (np.asarray(a) for a in (senders, receivers, types))
    if not senders.shape == receivers.shape == types.shape or senders.ndim != 1:
        raise ValueError(
            f"senders, receivers and types have the shapes {senders.shape}, {receivers.shape}, {types.shape}; "
            "each needs one value an edge"
        )
    for name, ids in (("senders", senders), ("receivers", receivers)):
        if ids.size and not 0 <= ids.min() <= ids.max() < nodes:
            raise ValueError(
                f"{name} hold ids from {ids.min()} to {ids.max()}; a graph of {nodes} nodes has 0 to {nodes - 1}"
            )
    if types.size and types.min() < 0:
        raise ValueError(f"types hold {types.min()}; relations are numbered from 0")
    rows, output = np.arange(nodes, dtype=np.int32), {}
    if encoded_nodes is not None:
        ids = np.asarray(encoded_nodes)
        if not len(ids) or ids[0] < 0 or ids[-1] >= nodes or np.any(np.diff(ids) <= 0):
            raise ValueError(f"encoded_nodes is {ids}; give at least one of the rising ids from 0 to {nodes - 1}")
        rows = np.full(nodes, len(ids) - 1, np.int32)
        rows[ids] = np.arange(len(ids))
        output = {"nodes": ids.astype(np.int32), "rows": rows}
        encoded_edges = np.isin(receivers, ids)
        senders, receivers, types = senders[encoded_edges], receivers[encoded_edges], types[encoded_edges]
    order = np.lexsort((senders, receivers, types))
    senders, receivers, types = (a[order].astype(np.int32) for a in (senders, receivers, types))
    same = np.diff(types) == 0
    same &= np.diff(receivers) == 0
    if np.any(same & (np.diff(senders) == 0)):
        edge = int(np.flatnonzero(same & (np.diff(senders) == 0))[0])
        raise ValueError(
            f"the edge {senders[edge]} -> {receivers[edge]} of relation {types[edge]} appears twice; "
            "remove duplicates first (np.unique over the triples)"
        )
    pair = np.concatenate([[0], np.cumsum(~same)]).astype(np.int32)[: len(types)]  # [E] (relation, receiver) runs
    weight = 1.0 / np.bincount(pair)[pair]  # float64; JAX narrows it to what it computes in
    bounds = np.searchsorted(types, np.arange(int(types.max(initial=-1)) + 2))
    pairs, distinct = [], []
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        pairs.append(pair[start:end] - (pair[start] if end > start else 0))
        distinct.append(np.unique(rows[receivers[start:end]]))
    arrays: dict[str, Any] = dict(  # of numpy, where jraph's annotations expect jax
        edges={"type": types, "weight": weight},
        senders=senders,
        receivers=receivers,
        n_node=np.array([nodes], np.int32),
        n_edge=np.array([len(types)], np.int32),
        globals={"pairs": tuple(pairs), "receivers": tuple(distinct), **output},
    )
    return jraph.GraphsTuple(nodes=None, **arrays)


def globals_of(graph: jraph.GraphsTuple) -> dict[str, Any]:
    """The `globals` of a graph from `graphs_tuple`."""
    return cast(dict[str, Any], graph.globals)


def _rows(x: jax.Array, ids: jax.Array) -> jax.Array:
    return x.at[ids].get(mode="promise_in_bounds")  # `graphs_tuple` has checked the ids


def encoded(x: jax.Array, graph: jraph.GraphsTuple) -> jax.Array:
    """The rows of x [N, W] whose nodes the graph encodes: x itself, or [M, W]."""
    nodes = globals_of(graph).get("nodes")
    return x if nodes is None else _rows(x, nodes)


class RGCN(nn.Module):
    """One layer: Y_i = b + X_i W_root + sum_r mean_{j in N_r(i)} X_j W_r, with W_r = sum_b comp[r, b] V_b.

    Attributes:
      relations: number of relations R.
      bases: number of basis matrices shared by all relations.

    Reference: Schlichtkrull et al. 2018, Eqs. 2-3; ECR 3.2 (no activation, no dropout).
    """

    relations: int
    bases: int = 8

    @nn.compact
    def __call__(self, x: jax.Array, graph: jraph.GraphsTuple) -> jax.Array:
        """Args: x [N, W] node features; graph from `graphs_tuple`. Returns [N, W], or [M, W] for `encoded_nodes`."""
        x = jnp.asarray(x)
        width = x.shape[-1]
        pairs, receivers = globals_of(graph)["pairs"], globals_of(graph)["receivers"]
        senders, edge_weights = cast(jax.Array, graph.senders), cast(dict[str, jax.Array], graph.edges)["weight"]
        if len(pairs) > self.relations:
            raise ValueError(f"the graph has {len(pairs)} relations, the layer {self.relations}; raise `relations`")
        glorot = nn.initializers.glorot_uniform()
        bases = self.param("bases", nn.initializers.glorot_uniform(batch_axis=0), (self.bases, width, width))
        comp = self.param("comp", glorot, (self.relations, self.bases))
        root = self.param("root", glorot, (width, width))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        weights = comp[: len(pairs)] @ bases.reshape(self.bases, -1)  # [R, W * W]: small beside one activation
        # Split, not indexed: the gradients of the parts are then put side by side, not padded and added up.
        weights = jnp.split(weights, len(pairs)) if pairs else []
        y = encoded(x, graph) @ root + bias
        start = 0
        for weight, pair, receiver in zip(weights, pairs, receivers, strict=True):
            edges = slice(start, start := start + pair.shape[0])
            mean = _rows(x, senders[edges]) * edge_weights[edges, None].astype(x.dtype)  # [E_r, W]
            if receiver.shape[0] < pair.shape[0]:  # else every receiver has one neighbour: nothing to add up
                mean = jax.ops.segment_sum(
                    mean, pair, receiver.shape[0], indices_are_sorted=True, mode="promise_in_bounds"
                )  # [P_r, W]
            y = y.at[receiver].add(
                mean @ weight.reshape(width, width),
                indices_are_sorted=True,
                unique_indices=True,
                mode="promise_in_bounds",
            )
        return y
