"""How fast a recommendation step and a forward pass of the language model are, against the machine's matrix product.

    python -m benchmarks.step [--config demo] [--rounds 5] [--json FILE]

Needs `ecr prepare` with the config: the graph and the pretrained models are the real ones, the batch is random and of
the config's largest shapes, so no stage has to be trained. Of both programs the matrix products are counted (in the
traced program, loops as often as they run; nothing else counts) and their rate is set beside the peak that a plain
product of two square matrices reached in the same run: `ratio` says how many times faster that was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import Row, matmul_peak, matrix_flops, milliseconds, report
from ecr_jax import config as configs
from ecr_jax import losses
from ecr_jax.config import Config
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.models.recommender import Recommender, facts_of, positions
from ecr_jax.models.rgcn import graphs_tuple
from ecr_jax.stages import recommender
from ecr_jax.stages.ground import Ground
from ecr_jax.stages.recommender import MOST_FACTS, Parts
from ecr_jax.training import optim, sharding
from ecr_jax.training.step import init_state, make_step, state_shardings

TARGETS = 2
"""Films of a row."""


def random_parts(ground: Ground) -> Parts:
    """The recommender over the real graph and language model; what only stages make is random."""
    settings, graph = ground.config.recommender, ground.prepared.graph
    rng = np.random.default_rng(0)
    pretrained, words = ground.language_model(settings.language_model, settings.layers)
    token_width = ground.encoder[0].config.width
    model = Recommender(
        recommender.prompt_config(ground.config, graph, pretrained.config, token_width),
        recommender.head_config(ground.config),
    )
    frozen = {
        "language_model": pretrained.params,
        "graph": graphs_tuple(*graph.message_edges(), len(graph) + 1),
        "item_prior": rng.random(len(graph) + 1, np.float32),
        "facts": facts_of(graph.triples, graph.items, len(graph), len(graph.relations), MOST_FACTS),
    }
    if settings.chosen("entity_text"):
        frozen["entity_text"] = rng.standard_normal((len(graph) + 1, token_width), np.float32)
    items = np.asarray(graph.items, np.int32)
    return Parts(model, pretrained.module, words, frozen, items, settings.chosen("reach"))


def random_batch(config: Config, made: Parts, token_width: int) -> dict[str, np.ndarray]:
    """A full batch of the largest shapes, without padding."""
    settings, model = config.recommender, made.language_model.config
    rng, rows = np.random.default_rng(1), config.recommendation.train.batch_size
    entities = made.model.prompt.entities
    t, s, e = settings.max_tokens, settings.max_states, settings.max_entities

    def ids(most: int, *shape: int) -> np.ndarray:
        return rng.integers(0, most, (rows, *shape)).astype(np.int32)

    def shares(*shape: int) -> np.ndarray:
        return rng.random((rows, *shape), np.float32) / shape[-1]

    batch = {
        "tokens": ids(model.vocab_size, t),
        "token_mask": np.ones((rows, t), bool),
        "text_states": rng.standard_normal((rows, s, token_width), np.float32).astype(np.float16),
        "text_mask": np.ones((rows, s), bool),
        "text_ages": 1 + ids(s, s),
        "mood": rng.random((rows, len(EMOTIONS)), np.float32),
        "entities": ids(entities, e),
        "entity_mask": np.ones((rows, e), bool),
        "emotions": ids(len(EMOTIONS), e, settings.emotions),
        "emotion_probs": shares(e, settings.emotions),
        "mentions": ids(2, e, 3),
        "neighbours": ids(entities, e, settings.neighbours),
        "neighbour_weights": shares(e, settings.neighbours),
        "copies": made.items[ids(len(made.items), e, settings.copies)],
        "copy_weights": shares(e, settings.copies),
        "targets": made.items[ids(len(made.items), TARGETS)],
        "target_mask": np.ones((rows, TARGETS), bool),
        "target_weight": np.ones((rows, TARGETS), np.float32),
    }
    if made.reach == "last":  # what the stage keeps of the frozen model's reading
        shape = (rows, 2, model.layers, model.kv_heads, t, model.head_dim)
        batch["past"] = rng.standard_normal(shape, np.float32).astype(np.float16)
    return batch


def rows_of(case: str, best: float, flops: float, peak: Row) -> list[Row]:
    """A program's time, its matrix products and their rate beside the peak."""
    rate = 1e-6 * flops / best
    return [
        Row(case, "time", best, "ms"),
        Row(case, "matrix products", 1e-9 * flops, "GFLOP"),
        Row(case, "rate", rate, "GFLOP/s", peak.value, peak.value / rate),
    ]


def recommendation(ground: Ground, rounds: int, peak: Row) -> list[Row]:
    """One update of the stage `recommendation`."""
    config = ground.config.recommendation
    made = random_parts(ground)
    batch = random_batch(ground.config, made, ground.encoder[0].config.width)
    items = jnp.asarray(made.items)

    def loss(params, frozen, batch, key):
        scores = recommender.scores(made, params, frozen, batch, items, "recommendation", key).logits
        targets, known = positions(batch["targets"], items)
        where = batch["target_mask"] & known
        values = losses.feedback_cross_entropy(
            logits=scores, targets=targets, weights=batch["target_weight"], where=where
        )
        return jnp.sum(values), jnp.sum(where), {}

    params = recommender.init(made, ground.key("step"), batch, made.items, "recommendation")
    mesh = sharding.make_mesh()
    optimizer = optim.make_optimizer(config.train.optim, 1000, params)
    placement = state_shardings(params, optimizer, sharding.REPLICATED, mesh)
    frozen_placement = sharding.shardings(made.frozen, sharding.REPLICATED, mesh)
    step = make_step(
        loss,
        optimizer,
        mesh,
        state_placement=placement,
        frozen_placement=frozen_placement,
        schedule=optim.learning_rate(config.train.optim, 1000),
        accumulation=config.train.accumulation,
    )
    state = jax.device_put(init_state(params, optimizer), placement)
    frozen = jax.device_put(made.frozen, frozen_placement)
    key = jax.random.key(0)
    flops = matrix_flops(step, state, frozen, batch, key)

    def once():
        nonlocal state  # the step takes the old one's memory
        state, metrics = step(state, frozen, batch, key)
        return state, metrics

    (best,) = milliseconds([once], rounds)
    settings = ground.config.recommender
    case = (
        f"recommendation step, {ground.config.name}: {config.train.batch_size} rows, {settings.max_tokens} tokens, "
        f"{settings.max_entities} entities, {len(made.items)} items, {made.language_model.config.layers} layers"
    )
    return rows_of(case, best, flops, peak)


def forward(ground: Ground, rounds: int, peak: Row) -> list[Row]:
    """One forward pass of the response's whole language model."""
    config = ground.config.response
    model, _ = ground.language_model(config.language_model, None)
    shape = (config.train.batch_size // config.train.accumulation, config.max_prompt + config.max_review)
    tokens = np.random.default_rng(2).integers(0, model.config.vocab_size, shape).astype(np.int32)
    mask = np.ones(shape, bool)
    read = jax.jit(lambda params, tokens, mask: model.module.apply({"params": params}, tokens, mask).hidden)
    flops = matrix_flops(read, model.params, tokens, mask)
    (best,) = milliseconds([lambda: read(model.params, tokens, mask)], rounds)
    case = f"forward of {config.language_model}: {shape[0]} x {shape[1]} tokens, {model.config.layers} layers"
    return [*rows_of(case, best, flops, peak), Row(case, "tokens", 1e3 * tokens.size / best, "1/s")]


def main() -> None:
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="demo", help="a name in configs/, or the path of a config file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ground = Ground(configs.load(options.config))
    peak = matmul_peak()
    rows = [peak, *recommendation(ground, options.rounds, peak), *forward(ground, options.rounds, peak)]
    report(rows, "step", options.json)


if __name__ == "__main__":
    main()
