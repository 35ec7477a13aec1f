"""What the benchmarks count and compare, against numbers worked out by hand; nothing is timed here."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import recommendation
from benchmarks.common import matrix_flops
from ecr_jax import config as configs
from ecr_jax.models.lm.bert import BertConfig
from ecr_jax.models.lm.gpt2 import Gpt2Config

ENCODER = BertConfig(vocab_size=11, width=8, layers=3, heads=2, hidden=20, positions=16, token_types=1)
ROWS, STATES = 4, 5


def test_products_are_counted_as_often_as_they_run():
    x, w = jnp.zeros((3, 5)), jnp.zeros((5, 5))

    def through(x, w, length):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, None, length)[0].sum()

    assert matrix_flops(lambda x, w: x @ w, x, w) == 2 * 3 * 5 * 5
    assert matrix_flops(jax.jit(lambda x, w: through(x, w, 7)), x, w) == 7 * 2 * 3 * 5 * 5
    # backwards each product becomes two: for x and for w
    assert matrix_flops(jax.grad(lambda w: through(x, w, 7)), w) == 3 * 7 * 2 * 3 * 5 * 5
    # what is computed again counts again
    again = jax.checkpoint(lambda w: jnp.sin(x @ w).sum())
    assert matrix_flops(jax.grad(again), w) == 3 * 2 * 3 * 5 * 5


def test_made_up_graph_has_the_published_size():
    graph = recommendation.made_up_graph()
    assert (len(graph), graph.triples.shape, len(graph.relations), len(graph.items)) == (31_161, (81_332, 3), 25, 6_281)
    assert len(np.unique(graph.triples, axis=0)) == 81_332 and graph.triples[:, 1].max() < 24
    assert len(graph.message_edges()[0]) == pytest.approx(186_685, rel=0.001)


def test_shares_and_ratios_of_a_case():
    """8 targets in 4 s, 600 GFLOP at 200 GFLOP/s: 3 s are the floor, three quarters of the time."""
    config = recommendation.with_batch(configs.load("redial_paper"), 8, 1)
    case = recommendation.Case(config, Gpt2Config(7, 8, 1, 2, 8), 8)
    rows = {row.metric: row for row in recommendation.rows_of("x", case, 4.0, 600e9, 200.0, 2**10)}
    assert rows["time a target"].value == 0.5 and rows["time a target"].ratio == pytest.approx(37.9 / 16 / 0.5)
    assert rows["time a step"].peer == pytest.approx(37.9 / 2)
    assert rows["time a target at the peer's peak"].value == pytest.approx(0.5 * 200 / 180)
    assert rows["floor"].value == 3.0 and rows["share of matmul peak"].value == 0.75
    assert rows["peak memory"].value == pytest.approx(1.073741824)
    alone = recommendation.rows_of("x", dataclasses.replace(case, published=False), 4.0, 600e9, 200.0, 2**10)
    assert all(row.peer is None for row in alone)


@pytest.fixture(scope="module")
def graph():
    return recommendation.made_up_graph(entities=40, triples=60, relations=4, items=12, loops=30)


@pytest.fixture(scope="module")
def case():
    """The published step at a tiny size."""
    config = configs.load("redial_paper")
    sizes = dict(max_tokens=6, max_states=STATES, max_entities=3, neighbours=4)
    settings = dataclasses.replace(config.recommender, **sizes)
    config = recommendation.with_batch(dataclasses.replace(config, recommender=settings), ROWS, 1)
    return recommendation.Case(config, Gpt2Config(13, width=16, layers=2, heads=2, hidden=24), ENCODER.width)


def test_step_trains_and_an_encoder_inside_adds_its_forward_pass(case, graph):
    cached = recommendation.Training(case, graph)
    before = jax.tree.map(np.asarray, cached.state["params"])
    assert np.isfinite(cached()["loss"])  # the published schedule's first rate is 0
    assert np.isfinite(cached()["loss"])
    moved = jax.tree.map(lambda old, new: bool((old != new).any()), before, cached.state["params"])
    assert moved["encoder"]["nodes"] and moved["encoder"]["key_values"]["kernel"]

    inside = recommendation.Training(dataclasses.replace(case, encoder=ENCODER), graph)
    tokens, width, hidden = ROWS * STATES, ENCODER.width, ENCODER.hidden
    layer = 2 * tokens * (4 * width**2 + 2 * width * hidden) + 4 * tokens * STATES * width
    assert inside.flops - cached.flops == ENCODER.layers * layer


def test_micro_batches_count_the_graph_each_time(case, graph):
    """Twice the rows in two micro-batches are two steps of products."""
    twice = dataclasses.replace(case, config=recommendation.with_batch(case.config, 2 * ROWS, 2))
    assert recommendation.Training(twice, graph).flops == 2 * recommendation.Training(case, graph).flops
