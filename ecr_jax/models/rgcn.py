"""Relational graph convolution over a `jraph.GraphsTuple`: what a node's neighbours say, by relation (ECR 3.2).

Edges are grouped by relation and sorted by receiver, so that a relation is one gather, one sorted segment sum over its
(receiver, relation) pairs, one matrix product and one scatter without collisions. Nothing is ever N x R or E x W x W.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph
import numpy as np


def graphs_tuple(
    senders: np.ndarray, receivers: np.ndarray, types: np.ndarray, nodes: int, wanted: np.ndarray | None = None
) -> jraph.GraphsTuple:
    """Puts message edges into the order and form that `RGCN` reads.

    Args:
      senders: int [E] node ids that speak.
      receivers: int [E] node ids that listen.
      types: int [E] relation ids from 0.
      nodes: number of nodes, the padding node included.
      wanted: int [M] rising ids of the nodes that are to be encoded: edges into others are left out. None: all.

    Returns:
      A `GraphsTuple` without node features. Edges are sorted by relation, then receiver, then sender;
      `edges = {"type", "weight"}` with weight 1 / |N_r(i)|, so that a weighted sum is the mean over a relation's
      neighbours. `globals = {"pairs", "receivers"}` describe the E_r edges of each relation r: `pairs[r]` int32 [E_r]
      is the position in `receivers[r]` int32 [P_r], the relation's distinct receivers in rising order, as rows of what
      `RGCN` gives. Relations without edges have empty arrays. With `wanted`, `nodes` holds it, and `rows` int32 [nodes]
      the row of each node, that of the last one for those that are not wanted.

    Raises:
      ValueError: arrays of different length, an id outside its range, an edge given twice, `wanted` not rising.
    """
    senders, receivers, types = (np.asarray(a) for a in (senders, receivers, types))
    if not senders.shape == receivers.shape == types.shape or senders.ndim != 1:
        raise ValueError(
            f"senders, receivers and types have the shapes {senders.shape}, {receivers.shape}, {types.shape}; "
            "give one value an edge in each"
        )
    for name, ids in (("senders", senders), ("receivers", receivers)):
        if ids.size and not 0 <= ids.min() <= ids.max() < nodes:
            raise ValueError(
                f"{name} hold ids from {ids.min()} to {ids.max()}; a graph of {nodes} nodes has 0 to {nodes - 1}"
            )
    if types.size and types.min() < 0:
        raise ValueError(f"types hold {types.min()}; relations are numbered from 0")
    where = {}
    if wanted is not None:
        if not len(wanted) or wanted[0] < 0 or wanted[-1] >= nodes or np.any(np.diff(wanted) <= 0):
            raise ValueError(f"wanted is {wanted}; give at least one of the rising ids from 0 to {nodes - 1}")
        rows = np.full(nodes, len(wanted) - 1, np.int32)
        rows[wanted] = np.arange(len(wanted))
        where = {"nodes": np.asarray(wanted, np.int32), "rows": rows}
        kept = np.isin(receivers, wanted)
        senders, receivers, types = senders[kept], receivers[kept], types[kept]
    order = np.lexsort((senders, receivers, types))
    senders, receivers, types = (a[order].astype(np.int32) for a in (senders, receivers, types))
    same = np.diff(types) == 0
    same &= np.diff(receivers) == 0
    if np.any(same & (np.diff(senders) == 0)):
        edge = int(np.flatnonzero(same & (np.diff(senders) == 0))[0])
        raise ValueError(
            f"the edge {senders[edge]} -> {receivers[edge]} of relation {types[edge]} is given twice; "
            "remove duplicates first (np.unique over the triples)"
        )
    pair = np.concatenate([[0], np.cumsum(~same)]).astype(np.int32)[: len(types)]  # [E] (relation, receiver) runs
    weight = 1.0 / np.bincount(pair)[pair]  # float64; JAX narrows it to what it computes in
    bounds = np.searchsorted(types, np.arange(int(types.max(initial=-1)) + 2))
    pairs, distinct = [], []
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        pairs.append(pair[start:end] - (pair[start] if end > start else 0))
        distinct.append(np.unique(receivers[start:end] if wanted is None else rows[receivers[start:end]]))
    return jraph.GraphsTuple(
        nodes=None,
        edges={"type": types, "weight": weight},
        senders=senders,
        receivers=receivers,
        n_node=np.array([nodes], np.int32),
        n_edge=np.array([len(types)], np.int32),
        globals={"pairs": tuple(pairs), "receivers": tuple(distinct), **where},
    )


def _rows(x: jax.Array, ids: jax.Array) -> jax.Array:
    return x.at[ids].get(mode="promise_in_bounds")  # `graphs_tuple` has checked the ids


def encoded(x: jax.Array, graph: jraph.GraphsTuple) -> jax.Array:
    """The rows of x [N, W] whose nodes the graph encodes: x itself, or [M, W]."""
    return _rows(x, graph.globals["nodes"]) if "nodes" in graph.globals else x


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
        """Args: x [N, W] node features; graph from `graphs_tuple`. Returns [N, W], or [M, W] of the nodes wanted."""
        x = jnp.asarray(x)
        width = x.shape[-1]
        pairs, receivers = graph.globals["pairs"], graph.globals["receivers"]
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
            mean = _rows(x, graph.senders[edges]) * graph.edges["weight"][edges, None].astype(x.dtype)  # [E_r, W]
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
