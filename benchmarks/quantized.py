"""Memory, loss and time of a frozen base in 8 and 4 bits: SmolLM2-135M in float32, bfloat16, int8 and nf4.

    python -m benchmarks.quantized [--rounds 3] [--json FILE] [--page FILE]

For each: the bytes of all parameters and of the quantised kernels; the loss (nats a token) on 4,096 tokens of the
built-in corpus's validation dialogues; the time of a forward pass over 8 x 128 tokens; the time of an update of a LoRA
adapter on 4 x 128 tokens (rank 8, attention), and the memory that its program needs beside its arguments. `peer` is
float32's value in the same run, `ratio` is that value over ours. int8 and nf4 have embeddings and norms in float32 and
compute in float32; bfloat16 applies to the parameters and the computation.

The published weights are a Q4_1 GGUF file: they were quantised to 4 bits before, in blocks of 32, and are restored to
float32 here. The cost of nf4 comes on top of that.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import Row, compared, matmul_peak, milliseconds, page, report
from ecr_jax.data import films
from ecr_jax.data.schema import Split
from ecr_jax.features.tokenizer import DialogueTokenizer
from ecr_jax.losses.next_token import next_token_cross_entropy
from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import language_model, lora
from ecr_jax.models.lm.language_model import Params
from ecr_jax.pretrained import hub
from ecr_jax.pretrained.language_models import Pretrained, load, load_tokenizer
from ecr_jax.runs.machine import relaunch_keeping_freed_memory
from ecr_jax.training import optim, sharding
from ecr_jax.training.options import OptimConfig
from ecr_jax.training.step import init_state, make_step, state_shardings

MODEL = "smollm2-135m-instruct"
BASES: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"dtype": jnp.bfloat16},
    "int8": {"quantize": "int8"},
    "nf4": {"quantize": "nf4"},
}
FORWARD_SHAPE, UPDATE_SHAPE = (8, 128), (4, 128)
"""Rows and tokens of a forward pass and of an update."""

TOKENS = 4096
ADAPTER = LoraConfig()
OPTIMISER = OptimConfig(learning_rate=1e-4, schedule="constant", warmup=0.0)
INTRODUCTION = "\n\n".join(__doc__.strip().split("\n\n")[2:])


def validation_tokens(path: Path) -> np.ndarray:
    """Token ids of validation dialogues in a row, int32 [TOKENS / T, T]."""
    tokenizer = DialogueTokenizer.of(load_tokenizer(path))
    corpus = films.generate(hub.resolve("wikidata-films"), dialogues=400, reviews=0)
    dialogues = [[(turn.role, turn.text) for turn in c.turns] for c in corpus.conversations if c.split == Split.VALID]
    ids = [token for turns in dialogues for turn in tokenizer.encode_turns(turns) for token in turn]
    if len(ids) < TOKENS:
        raise ValueError(f"the dialogues have {len(ids)} tokens, {TOKENS} are needed")
    return np.asarray(ids[:TOKENS], np.int32).reshape(-1, FORWARD_SHAPE[1])


def total_loss(module: nn.Module, variables: Params, tokens: jax.Array) -> jax.Array:
    """The summed loss of all tokens except each row's first."""
    mask = jnp.ones(tokens.shape, bool)
    hidden = module.apply(variables, tokens, mask).hidden
    head = language_model.head(variables["params"])
    return next_token_cross_entropy(hidden=hidden, head=head, tokens=tokens, where=mask)[0]


def update_function(model: Pretrained, tokens: np.ndarray) -> tuple[Callable[[], Any], float]:
    """A function that makes one update of an adapter, and the bytes that its program needs beside its arguments."""
    params = {"adapter": lora.init(jax.random.key(0), model.params, ADAPTER)}

    def loss(params, frozen, batch, key):
        variables = lora.variables(frozen, params["adapter"], ADAPTER)
        return total_loss(model.module, variables, batch["tokens"]), jnp.float32(tokens[:, 1:].size), {}

    mesh, optimizer = sharding.make_mesh(devices=jax.devices()[:1]), optim.make_optimizer(OPTIMISER, 1000, params)
    placement = state_shardings(params, optimizer, sharding.REPLICATED, mesh)
    step = make_step(
        loss, optimizer, mesh, state_placement=placement, schedule=optim.learning_rate(OPTIMISER, 1000),
        frozen_placement=sharding.shardings(model.params, sharding.REPLICATED, mesh),
    )  # fmt: skip
    state, batch, key = jax.device_put(init_state(params, optimizer), placement), {"tokens": tokens}, jax.random.key(0)
    program = step.lower(state, model.params, batch, key).compile()

    def update() -> Any:
        nonlocal state  # the step donates the old one
        state, metrics = program(state, model.params, batch, key)
        return metrics

    return update, program.memory_analysis().temp_size_in_bytes


def measure(rounds: int) -> list[Row]:
    """All bases, timed in turns."""
    path = hub.resolve(MODEL)
    tokens = validation_tokens(path)
    models = {name: load(path, **settings) for name, settings in BASES.items()}
    rows: dict[str, dict[str, tuple[float, str]]] = {name: {} for name in BASES}
    forwards, updates = [], []
    for name, model in models.items():
        forward_loss = jax.jit(
            lambda params, tokens, module=model.module: total_loss(module, {"params": params}, tokens)
        )
        batches = tokens.reshape(-1, *FORWARD_SHAPE)
        loss = sum(float(forward_loss(model.params, batch)) for batch in batches) / tokens[:, 1:].size
        kernels = jax.tree.leaves(model.params["layers"])
        update, program_bytes = update_function(model, tokens[: UPDATE_SHAPE[0]])
        rows[name] |= {
            "parameters": (sum(leaf.nbytes for leaf in jax.tree.leaves(model.params)) / 1e6, "MB"),
            "layers": (sum(leaf.nbytes for leaf in kernels) / 1e6, "MB"),
            "loss": (loss, "nats"),
            "perplexity": (math.exp(loss), ""),
            "memory of an adapter's update": (program_bytes / 1e6, "MB"),
        }
        forwards.append(functools.partial(forward_loss, model.params, batches[0]))
        updates.append(update)
    for metric, functions in (("forward", forwards), ("adapter's update", updates)):
        for name, best in zip(models, milliseconds(functions, rounds), strict=True):
            rows[name][metric] = (best, "ms")
    return [
        compared(f"{MODEL}, {name}", metric, value, rows["float32"][metric][0], unit)
        for name, measured in rows.items()
        for metric, (value, unit) in measured.items()
    ]


def main() -> None:
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="also write a Markdown page with the table and its provenance")
    options = parser.parse_args()
    rows = [matmul_peak(), *measure(options.rounds)]
    report(rows, "frozen bases", options.json)
    if options.page is not None:
        command = " ".join(["python -m benchmarks.quantized", *sys.argv[1:]])
        page(rows, "Frozen bases in 8 and 4 bits", INTRODUCTION, command, options.page)


if __name__ == "__main__":
    relaunch_keeping_freed_memory()
    main()
