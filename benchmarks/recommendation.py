"""Time and memory of a training step of the stage `recommendation`, at the published sizes.

    python -m benchmarks.recommendation [--cases CASE ...] [--rounds 4] [--json F] [--page F]

The cases: `uncached`, the config `redial_paper` with the text encoder inside the step, in four micro-batches; `cached`,
with the text encoder's states cached, as in the stage; `accumulated`, the same with the config's whole batch in
micro-batches; `improved`, the config `redial`, which uses two layers of the language model and caches their keys and
values of the contexts. A step is forward, backward and update, by the project's own step. Weights are random and of the
published shapes. The graph is that of `prepared/redial`; where that is missing, a random graph of the same size. A
batch has the largest shapes, without padding, and a row has one target.

A single case is measured in this process. Of several cases, each has a process of its own, because peak memory is
measured per process.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import Row, matrix_flops, milliseconds, page, report, square_product
from benchmarks.lm import SHAPES, random_model
from ecr_jax import config as configs
from ecr_jax.config import Config
from ecr_jax.data.prepare import PreparedCorpus
from ecr_jax.features.batch_spec import Batch
from ecr_jax.features.featurizer import ContextLimits, EvidenceLimits, prompt_spec, recommender_spec
from ecr_jax.features.instances import recommendation_fields
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
from ecr_jax.stages.recommender import RecommenderSetup
from ecr_jax.training import optim, sharding
from ecr_jax.training.step import Loss, Tree, init_state, make_step, state_shardings

INTRODUCTION = """\
One update of the stage `recommendation`: forward, backward, AdamW, in float32. The first four steps are left out; the
best of the others counts. Weights are random, a batch has the largest shapes without padding, a row has one target.
`uncached` encodes 16 x 200 tokens with the text encoder inside the step, in four micro-batches, so that a quarter of
them is in memory at once; each micro-batch encodes the graph, which counts as work. `cached` has the states cached, as
in the stage; `accumulated` is the published batch of 128 in micro-batches of 16; `improved` is the config `redial`.

The floor is the time that the step's matrix products would take at the matmul peak measured in the same process, in
turns with the steps; the share of the peak is the floor over the time. Products are counted once: what
rematerialisation computes again counts as time, not as work. Memory is the highest resident memory of a process that
does nothing else.

The peer at the paper's sizes is the published PyTorch code. It was not run here, but measured elsewhere: on two cores
with a matmul peak of 180 GFLOP/s, 37.9 s a step of 16 targets (2.37 s a target), 18 GB, the first four steps left out.
`ratio` is the peer's value over ours. "At the peer's peak" is our time scaled to a matmul peak of 180 GFLOP/s."""

PEER_SECONDS, PEER_GIGABYTES, PEER_PEAK = 37.9 / 16, 18.0, 180.0
LEFT_OUT = 4
"""Steps that are not timed; of an accumulated batch only one, which has more passes than this."""

ROBERTA = BertConfig(50_265, 768, 12, 12, 3072, positions=514, token_types=1, position_offset=2)
MINILM_WIDTH = 384


@dataclass(frozen=True)
class Case:
    """A training step of a size.

    Attributes:
      config: the experiment; its `recommendation.train` has the rows and micro-batches.
      language_model: its shape; the lowest `config.recommender.layers` of its layers are used.
      token_width: width of the text encoder's states.
      encoder: the text encoder's shape, if the step encodes the text itself.
      published: whether the published code was measured at the same sizes.
    """

    config: Config
    language_model: LanguageConfig
    token_width: int
    encoder: BertConfig | None = None
    published: bool = True


def cases() -> dict[str, Case]:
    """The cases by name."""
    paper, improved = configs.load("redial_paper"), configs.load("redial")
    small_batch, dialogpt = with_batch(paper, 16, 1), SHAPES["dialogpt-small"]
    return {
        "uncached": Case(with_batch(paper, 16, 4), dialogpt, ROBERTA.width, ROBERTA),
        "cached": Case(small_batch, dialogpt, ROBERTA.width),
        "accumulated": Case(paper, dialogpt, ROBERTA.width),
        "improved": Case(improved, SHAPES["smollm2-135m"], MINILM_WIDTH, published=False),
    }


def with_batch(config: Config, rows: int, accumulation: int) -> Config:
    """A config whose stage `recommendation` has other batches."""
    stage = config.recommendation
    train = dataclasses.replace(stage.train, batch_size=rows, accumulation=accumulation)
    return dataclasses.replace(config, recommendation=dataclasses.replace(stage, train=train))


def full_graph() -> KnowledgeGraph:
    """The graph of the prepared corpus; where there is none, a random one of its size."""
    prepared = configs.load("redial").prepared_folder
    return PreparedCorpus.open(prepared).graph if (prepared / "manifest.json").is_file() else random_graph()


def random_graph(
    entities: int = 31_161, triples: int = 81_332, relations: int = 25, items: int = 6_281, loops: int = 24_032
) -> KnowledgeGraph:
    """A random graph: few hubs, relations of very unequal size. By default it has the published size."""
    rng, draws = np.random.default_rng(0), 2 * triples
    tails, types = entities * rng.random(draws) ** 2.2, (relations - 1) * rng.random(draws) ** 2
    edges = np.stack([rng.integers(0, entities, draws), types, tails], axis=1).astype(np.int32)
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


def random_setup(case: Case, graph: KnowledgeGraph) -> RecommenderSetup:
    """The recommender over a graph; weights, prior and text features are random."""
    settings = case.config.recommender
    rng = np.random.default_rng(0)
    shape = dataclasses.replace(case.language_model, layers=settings.layers or case.language_model.layers)
    module, params = random_model(shape, jnp.float32)
    sizes = recommender.prompt_sizes_of(graph, shape, case.token_width)
    every_entity = case.config.recommendation.candidates == "entities"
    encoded = None if every_entity else training_entities(graph)
    frozen = {
        "language_model": params,
        "graph": graphs_tuple(*graph.message_edges(), len(graph) + 1, encoded),
        "item_prior": rng.random(len(graph) + 1, np.float32),
        "item_odds": rng.random(len(graph) + 1, np.float32),
        "facts": facts_of(graph.triples, graph.items, len(graph), len(graph.relations), settings.facts_per_item),
    }
    if settings.entity_text:
        frozen["entity_text"] = rng.standard_normal((len(graph) + 1, case.token_width), np.float32)
    return RecommenderSetup(
        Recommender(settings.prompt, sizes, settings.heads),
        module,
        tokenizer=None,  # a random batch has token ids
        frozen=frozen,
        items=np.asarray(graph.items, np.int32),
        prefix_visibility=settings.prefix_visibility,
    )


def training_entities(graph: KnowledgeGraph) -> np.ndarray:
    """Entities in the place of those that training dialogues mention: the items, a tenth more, the padding entity."""
    others = np.setdiff1d(np.arange(len(graph)), graph.items)
    chosen = np.random.default_rng(2).permutation(others)[: len(graph.items) // 10]
    return np.union1d(graph.items, [*chosen, len(graph)]).astype(np.int32)


def random_batch(case: Case, graph: KnowledgeGraph, setup: RecommenderSetup) -> Batch:
    """A full batch of the largest shapes, without padding."""
    settings, model = case.config.recommender, setup.language_model.config
    rng, rows = np.random.default_rng(1), case.config.recommendation.train.batch_size
    limits = ContextLimits(
        tokens=settings.max_tokens,
        states=settings.max_states,
        entities=settings.max_entities,
        emotions=settings.emotions_per_entity,
        neighbours=settings.neighbours,
        cooccurring_items=settings.cooccurring_items,
    )
    target_fields = [field for field in recommendation_fields(len(graph)) if field.name in ("targets", "target_weight")]
    evidence = EvidenceLimits(settings.rated_items, settings.nearest_items)
    spec = prompt_spec(len(graph), case.token_width, limits, model.vocab_size)
    spec = recommender_spec(spec, len(graph), evidence).extended("step", *target_fields)
    lengths = {"T": settings.max_tokens, "S": settings.max_states, "E": settings.max_entities, "M": 1}
    batch = spec.toy(rows, lengths)
    mentioned = training_entities(graph)[:-1]
    for name, entities in (
        ("entities", mentioned),
        ("neighbours", mentioned),
        ("cooccurring_items", setup.items),
        ("targets", setup.items),
    ):
        batch[name] = rng.choice(entities, batch[name].shape).astype(np.int32)
    if case.encoder is not None:
        del batch["text_states"]
        batch["text_tokens"] = rng.integers(0, case.encoder.vocab_size, (rows, limits.states)).astype(np.int32)
    if setup.prefix_visibility == "last":  # the frozen language model's keys and values, which the stage caches
        shape = (rows, 2, model.layers, model.kv_heads, limits.tokens, model.head_dim)
        batch["past"] = rng.standard_normal(shape, np.float32).astype(np.float16)
    return batch


class Training:
    """A case's step with its state, and the floating-point operations of its matrix products."""

    def __init__(self, case: Case, graph: KnowledgeGraph):
        self.case, config = case, case.config.recommendation.train
        setup = random_setup(case, graph)
        self.batch, self.key = random_batch(case, graph, setup), jax.random.key(0)
        frozen = dict(setup.frozen)
        encoder = None
        if case.encoder is not None:
            encoder, frozen["encoder"] = random_model(case.encoder, jnp.float32)
        first_row = jax.tree.map(lambda array: array[:1], self.batch)
        states = np.zeros((1, case.config.recommender.max_states, case.token_width), np.float16)
        params = recommender.init(
            setup, jax.random.key(0), first_row | {"text_states": states}, setup.items, "recommendation"
        )
        mesh = sharding.make_mesh(devices=jax.devices()[:1])
        optimizer = optim.make_optimizer(config.optim, 1000, params)
        placement = state_shardings(params, optimizer, sharding.REPLICATED, mesh)
        frozen_placement = sharding.shardings(frozen, sharding.REPLICATED, mesh)

        def build(setup: RecommenderSetup) -> Callable[..., Any]:
            return make_step(
                loss_of(case, setup, encoder),
                optimizer,
                mesh,
                state_placement=placement,
                frozen_placement=frozen_placement,
                schedule=optim.learning_rate(config.optim, 1000),
                accumulation=config.accumulation,
            )

        self.step = build(setup)
        self.state = sharding.shard_tree(init_state(params, optimizer), placement)
        self.frozen = jax.device_put(frozen, frozen_placement)
        # Counted without rematerialisation, which computes products a second time.
        plain = dataclasses.replace(setup, language_model=setup.language_model.clone(remat="none"))
        self.flops = matrix_flops(build(plain), self.state, self.frozen, self.batch, self.key)

    def __call__(self) -> dict[str, jax.Array]:
        """One update; the metrics of the step."""
        self.state, metrics = self.step(self.state, self.frozen, self.batch, self.key)  # donates the old state
        return metrics


def loss_of(case: Case, setup: RecommenderSetup, encoder: nn.Module | None) -> Loss:
    """The stage's loss; with an encoder the text is encoded inside it."""
    every_entity = case.config.recommendation.candidates == "entities"
    candidates = jnp.asarray(setup.all_entities if every_entity else setup.items)

    def loss(params: Tree, frozen: Tree, batch: Batch, key: jax.Array | None):
        if encoder is not None:
            encoded = encoder.apply({"params": frozen["encoder"]}, batch["text_tokens"], batch["text_mask"])
            batch = batch | {"text_states": encoded.hidden}
        logits = recommender.scores(setup, params, frozen, batch, candidates, "recommendation", key).logits
        targets, is_candidate = candidate_positions(batch["targets"], candidates)
        where = batch["target_mask"] & is_candidate
        values = feedback_cross_entropy(logits=logits, targets=targets, weights=batch["target_weight"], where=where)
        return jnp.sum(values), jnp.sum(where), {}

    return loss


def measure(name: str, case: Case, graph: KnowledgeGraph, rounds: int) -> list[Row]:
    """All rows of a case."""
    train = case.config.recommendation.train
    step = Training(case, graph)
    product, product_flops = square_product()
    for _ in range(1, LEFT_OUT if train.accumulation == 1 else 1):
        jax.block_until_ready(step())
    best, *products = milliseconds([step, *[product] * 4], rounds)  # calls each once before
    return rows_of(name, case, 1e-3 * best, step.flops, 1e-6 * product_flops / min(products), peak_memory_mb())


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


def in_own_process(name: str, rounds: int) -> list[Row]:
    """The rows of a case, measured by a process of its own."""
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
    parser.add_argument("--page", type=Path, help="also write a Markdown page with the table and its provenance")
    options = parser.parse_args()
    if len(options.cases) == 1:
        (name,) = options.cases
        rows = measure(name, known[name], full_graph(), options.rounds)
    else:
        rows = [row for name in options.cases for row in in_own_process(name, options.rounds)]
    report(rows, "recommendation", options.json)
    if options.page is not None:
        command = " ".join(["python -m benchmarks.recommendation", *sys.argv[1:]])
        page(rows, "Recommendation: speed and memory of a training step", INTRODUCTION, command, options.page)


if __name__ == "__main__":
    relaunch_keeping_freed_memory()
    main()
