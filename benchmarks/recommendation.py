"""How fast and how large a training step of the stage `recommendation` is, at the published sizes.

    python -m benchmarks.recommendation [--cases uncached cached accumulated fixed] [--rounds 4] [--json F] [--page F]

The cases: `uncached`, the config `redial_paper` with the text encoder read inside the step, in four micro-batches;
`cached`, with its states given, as the stage has them; `accumulated`, the same with the config's whole batch in
micro-batches; `improved`, the config `redial`, whose language model reads two layers behind a context that was read
before. A step is forward, backward and update, by the project's own step. Weights are random and of the published
shapes. The graph is that of `prepared/redial`; where it is missing, one of the same size is made from a seed. A batch
is of the largest shapes, without padding, and a row has one target.

One case is measured in this process. Of several, each has a process of its own, as the peak of memory is a process's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import Row, matrix_flops, milliseconds, page, report, square_product
from benchmarks.lm import SHAPES, made_up
from ecr_jax import config as configs
from ecr_jax.config import Config
from ecr_jax.data.prepare import PreparedCorpus
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.files import peak_memory_mb
from ecr_jax.knowledge.graph import SELF_LOOP, KnowledgeGraph
from ecr_jax.losses.ranking import feedback_cross_entropy
from ecr_jax.models.heads import facts_of
from ecr_jax.models.layers import candidate_positions
from ecr_jax.models.lm.bert import BertConfig
from ecr_jax.models.lm.convert import LanguageConfig
from ecr_jax.models.recommender import Recommender
from ecr_jax.models.rgcn import graphs_tuple
from ecr_jax.runs.machine import relaunch_keeping_freed_memory
from ecr_jax.stages import recommender
from ecr_jax.stages.recommender import FACTS_PER_ITEM, Parts
from ecr_jax.training import optim, sharding
from ecr_jax.training.step import init_state, make_step, state_shardings

WORDS = """\
One update of the stage `recommendation`: forward, backward, AdamW, in float32; the first four steps are left out, of
the others the best one counts. Weights are random, a batch is of the largest shapes without padding, a row has one
target. `uncached` reads 16 x 200 tokens with the text encoder inside the step, in four micro-batches, so that it holds
a quarter at once; each encodes the graph anew, which counts as work. `cached` has its states given, as the stage has
them; `accumulated` is the published batch of 128 in micro-batches of 16; `improved` is the config `redial`.

The floor is the time that the step's matrix products would take at the matmul peak measured in the same process, in
turns with the steps; the share of the peak is the floor over the time. Products are counted once: what
rematerialisation computes again counts as time, not as work. Memory is the highest resident memory of a process that
does nothing else.

The peer of the paper's sizes is the published PyTorch code. It was not run here, but measured elsewhere: on two cores
whose matmul peak was 180 GFLOP/s, 37.9 s a step of 16 targets (2.37 s a target), 18 GB, the first four steps left out.
`ratio` is the peer's value over ours. "At the peer's peak" is our time as it would be if our matmul peak were 180
GFLOP/s."""

PEER_SECONDS, PEER_GIGABYTES, PEER_PEAK = 37.9 / 16, 18.0, 180.0
LEFT_OUT = 4
"""Steps before the clock starts; of an accumulated batch one step, which is more passes than that."""

ROBERTA = BertConfig(50_265, 768, 12, 12, 3072, positions=514, token_types=1, position_offset=2)
MINILM_WIDTH = 384


@dataclass(frozen=True)
class Case:
    """A training step of a size.

    Attributes:
      config: the experiment; its `recommendation.train` says rows and micro-batches.
      language_model: its shape; `config.recommender.layers` of it are made.
      token_width: width of the text encoder's states.
      encoder: the text encoder's shape where the step reads the text itself.
      published: whether the published code's figures are of the same sizes.
    """

    config: Config
    language_model: LanguageConfig
    token_width: int
    encoder: BertConfig | None = None
    published: bool = True


def cases() -> dict[str, Case]:
    """The cases by name."""
    paper, fixed = configs.load("redial_paper"), configs.load("redial")
    small, dialogpt = with_batch(paper, 16, 1), SHAPES["dialogpt-small"]
    return {
        "uncached": Case(with_batch(paper, 16, 4), dialogpt, ROBERTA.width, ROBERTA),
        "cached": Case(small, dialogpt, ROBERTA.width),
        "accumulated": Case(paper, dialogpt, ROBERTA.width),
        "improved": Case(fixed, SHAPES["smollm2-135m"], MINILM_WIDTH, published=False),
    }


def with_batch(config: Config, rows: int, accumulation: int) -> Config:
    """A config whose stage `recommendation` has other batches."""
    stage = config.recommendation
    train = dataclasses.replace(stage.train, batch_size=rows, accumulation=accumulation)
    return dataclasses.replace(config, recommendation=dataclasses.replace(stage, train=train))


def full_graph() -> KnowledgeGraph:
    """The graph of the prepared corpus; where there is none, one of its size."""
    prepared = configs.load("redial").prepared_folder
    return PreparedCorpus.open(prepared).graph if (prepared / "manifest.json").is_file() else made_up_graph()


def made_up_graph(entities=31_161, triples=81_332, relations=25, items=6_281, loops=24_032) -> KnowledgeGraph:
    """A graph of a size from a seed: few hubs, relations of very unequal size. By default of the published size."""
    rng, drawn = np.random.default_rng(0), 2 * triples
    tails, types = entities * rng.random(drawn) ** 2.2, (relations - 1) * rng.random(drawn) ** 2
    edges = np.stack([rng.integers(0, entities, drawn), types, tails], axis=1).astype(np.int32)
    edges = np.unique(edges, axis=0)
    names = tuple(f"{number:05}" for number in range(entities))
    return KnowledgeGraph(
        uris=names,
        names=names,
        kinds=np.full(entities, "other"),
        years=np.zeros(entities, np.int32),
        items=np.sort(rng.permutation(entities)[:items]).astype(np.int32),
        relations=(*(f"r{number}" for number in range(relations - 1)), SELF_LOOP),
        triples=edges[np.sort(rng.permutation(len(edges))[:triples])],
        loops=np.arange(loops, dtype=np.int32),
        aliases=(),
    )


def random_parts(case: Case, graph: KnowledgeGraph) -> Parts:
    """The recommender over a graph; weights and what stages count are random."""
    settings = case.config.recommender
    rng = np.random.default_rng(0)
    shape = dataclasses.replace(case.language_model, layers=settings.layers or case.language_model.layers)
    module, params = made_up(shape, jnp.float32)
    sizes = recommender.prompt_sizes(graph, shape, case.token_width)
    model = Recommender(settings.prompt, sizes, settings.heads)
    every = case.config.recommendation.candidates == "entities"
    frozen = {
        "language_model": params,
        "graph": graphs_tuple(*graph.message_edges(), len(graph) + 1, None if every else training_entities(graph)),
        "item_prior": rng.random(len(graph) + 1, np.float32),
        "facts": facts_of(graph.triples, graph.items, len(graph), len(graph.relations), FACTS_PER_ITEM),
    }
    if settings.chosen("entity_text"):
        frozen["entity_text"] = rng.standard_normal((len(graph) + 1, case.token_width), np.float32)
    items = np.asarray(graph.items, np.int32)
    return Parts(model, module, None, frozen, items, settings.chosen("prefix_visibility"))


def training_entities(graph: KnowledgeGraph) -> np.ndarray:
    """What stands for the entities that training dialogues mention: the items, a tenth more, the padding entity."""
    others = np.setdiff1d(np.arange(len(graph)), graph.items)
    chosen = np.random.default_rng(2).permutation(others)[: len(graph.items) // 10]
    return np.union1d(graph.items, [*chosen, len(graph)]).astype(np.int32)


def random_batch(case: Case, graph: KnowledgeGraph, made: Parts) -> dict[str, np.ndarray]:
    """A full batch of the largest shapes, without padding."""
    settings, model = case.config.recommender, made.language_model.config
    rng, rows = np.random.default_rng(1), case.config.recommendation.train.batch_size
    t, s, e = settings.max_tokens, settings.max_states, settings.max_entities

    def ids(most: int, *shape: int) -> np.ndarray:
        return rng.integers(0, most, (rows, *shape)).astype(np.int32)

    def shares(*shape: int) -> np.ndarray:
        return rng.random((rows, *shape), np.float32) / shape[-1]

    def items(*shape: int) -> np.ndarray:
        return made.items[ids(len(made.items), *shape)]

    mentioned = training_entities(graph)[:-1]
    batch = {
        "tokens": ids(model.vocab_size, t),
        "token_mask": np.ones((rows, t), bool),
        "text_mask": np.ones((rows, s), bool),
        "text_ages": 1 + ids(s, s),
        "emotion_totals": rng.random((rows, len(EMOTIONS)), np.float32),
        "entities": mentioned[ids(len(mentioned), e)],
        "entity_mask": np.ones((rows, e), bool),
        "emotions": ids(len(EMOTIONS), e, settings.emotions),
        "emotion_probs": shares(e, settings.emotions),
        "mentions": ids(2, e, 3),
        "neighbours": mentioned[ids(len(mentioned), e, settings.neighbours)],
        "neighbour_weights": shares(e, settings.neighbours),
        "cooccurring_items": items(e, settings.cooccurring_items),
        "cooccurrence_weights": shares(e, settings.cooccurring_items),
        "targets": items(1),
        "target_mask": np.ones((rows, 1), bool),
        "target_weight": np.ones((rows, 1), np.float32),
    }
    if case.encoder is not None:
        batch["text_tokens"] = ids(case.encoder.vocab_size, s)
    else:
        batch["text_states"] = rng.standard_normal((rows, s, case.token_width), np.float32).astype(np.float16)
    if made.prefix_visibility == "last":  # what the stage keeps of the frozen model's reading
        shape = (rows, 2, model.layers, model.kv_heads, t, model.head_dim)
        batch["past"] = rng.standard_normal(shape, np.float32).astype(np.float16)
    return batch


class Training:
    """A case's step with its state, and the arithmetic that it needs."""

    def __init__(self, case: Case, graph: KnowledgeGraph):
        self.case, config = case, case.config.recommendation.train
        made = random_parts(case, graph)
        self.batch, self.key = random_batch(case, graph, made), jax.random.key(0)
        frozen = dict(made.frozen)
        encoder = None
        if case.encoder is not None:
            encoder, frozen["encoder"] = made_up(case.encoder, jnp.float32)
        first = jax.tree.map(lambda array: array[:1], self.batch)
        states = np.zeros((1, case.config.recommender.max_states, case.token_width), np.float16)
        params = recommender.init(
            made, jax.random.key(0), first | {"text_states": states}, made.items, "recommendation"
        )
        mesh = sharding.make_mesh(devices=jax.devices()[:1])
        optimizer = optim.make_optimizer(config.optim, 1000, params)
        placement = state_shardings(params, optimizer, sharding.REPLICATED, mesh)
        frozen_placement = sharding.shardings(frozen, sharding.REPLICATED, mesh)

        def build(made: Parts, encoder: Any):
            return make_step(
                loss_of(case, made, encoder),
                optimizer,
                mesh,
                state_placement=placement,
                frozen_placement=frozen_placement,
                schedule=optim.learning_rate(config.optim, 1000),
                accumulation=config.accumulation,
            )

        self.step = build(made, encoder)
        self.state = sharding.shard_tree(init_state(params, optimizer), placement)
        self.frozen = jax.device_put(frozen, frozen_placement)
        # Counted where nothing is computed again.
        plain = dataclasses.replace(made, language_model=made.language_model.clone(remat="none"))
        self.flops = matrix_flops(build(plain, encoder), self.state, self.frozen, self.batch, self.key)

    def __call__(self) -> dict[str, jax.Array]:
        """One update; the metrics of the step."""
        self.state, metrics = self.step(self.state, self.frozen, self.batch, self.key)  # takes the old state's memory
        return metrics


def loss_of(case: Case, made: Parts, encoder: Any):
    """The stage's loss, for a text that is read here if there is an encoder."""
    every = case.config.recommendation.candidates == "entities"
    candidates = jnp.asarray(recommender.all_entities(made) if every else made.items)

    def loss(params, frozen, batch, key):
        if encoder is not None:
            read = encoder.apply({"params": frozen["encoder"]}, batch["text_tokens"], batch["text_mask"])
            batch = batch | {"text_states": read.hidden}
        scores = recommender.scores(made, params, frozen, batch, candidates, "recommendation", key).logits
        targets, known = candidate_positions(batch["targets"], candidates)
        where = batch["target_mask"] & known
        values = feedback_cross_entropy(
            logits=scores, targets=targets, weights=batch["target_weight"], where=where
        )
        return jnp.sum(values), jnp.sum(where), {}

    return loss


def measure(name: str, case: Case, graph: KnowledgeGraph, rounds: int) -> list[Row]:
    """All rows of a case."""
    train = case.config.recommendation.train
    once = Training(case, graph)
    product, product_flops = square_product()
    for _ in range(1, LEFT_OUT if train.accumulation == 1 else 1):
        jax.block_until_ready(once())
    best, *products = milliseconds([once, *[product] * 4], rounds)  # which leaves out one more
    return rows_of(name, case, 1e-3 * best, once.flops, 1e-6 * product_flops / min(products), peak_memory_mb())


def rows_of(name: str, case: Case, seconds: float, flops: float, peak: float, mebibytes: float) -> list[Row]:
    """The table's rows: times in s, products in FLOP, the peak in GFLOP/s, memory in MiB."""
    settings, train = case.config.recommender, case.config.recommendation.train
    rows, floor = train.batch_size, 1e-9 * flops / peak
    size = f"{rows} targets" + (f" in {train.accumulation} micro-batches" if train.accumulation > 1 else "")
    lengths = f"{settings.max_tokens} tokens, {settings.max_states} states, {settings.max_entities} entities"
    title = f"{name}: {size}, {lengths}"

    def row(metric: str, value: float, unit: str, peer: float) -> Row:
        return Row(title, metric, value, unit, *((peer, peer / value) if case.published else ()))

    return [
        Row(title, "matmul peak", peak, "GFLOP/s"),
        row("time a step", seconds, "s", PEER_SECONDS * rows),
        row("time a target", seconds / rows, "s", PEER_SECONDS),
        row("time a target at the peer's peak", seconds / rows * peak / PEER_PEAK, "s", PEER_SECONDS),
        Row(title, "matrix products", 1e-9 * flops, "GFLOP"),
        Row(title, "floor", floor, "s"),
        Row(title, "share of matmul peak", floor / seconds, ""),
        row("peak memory", mebibytes * 2**20 / 1e9, "GB", PEER_GIGABYTES),
    ]


def apart(name: str, rounds: int) -> list[Row]:
    """The rows of a case that a process of its own measures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks.recommendation", "--cases", name, "--rounds", str(rounds)]
        subprocess.run([*command, "--json", str(path)], check=True)
        return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))]


def main() -> None:
    """Parses the command line, measures, reports."""
    known = cases()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=known, default=list(known))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="a Markdown page of the table, with where it comes from")
    options = parser.parse_args()
    if len(options.cases) == 1:
        (name,) = options.cases
        rows = measure(name, known[name], full_graph(), options.rounds)
    else:
        rows = [row for name in options.cases for row in apart(name, options.rounds)]
    report(rows, "recommendation", options.json)
    if options.page is not None:
        command = " ".join(["python -m benchmarks.recommendation", *sys.argv[1:]])
        page(rows, "Recommendation: speed and memory of a training step", WORDS, command, options.page)


if __name__ == "__main__":
    relaunch_keeping_freed_memory()
    main()
