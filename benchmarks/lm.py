"""Speed of the language models: prefill, decoding and training, beside the machine's peaks and torch.

    python -m benchmarks.lm [--shapes smollm2-135m dialogpt-small] [--dtype float32] [--rounds 4] [--json F] [--page F]

Weights are random; only sizes matter. Each run measures the machine's matrix product and memory bandwidth, then for
each shape the prefill of a prompt, one update of all parameters, one of a LoRA adapter beside the frozen base (each
with its optimiser), and greedy decoding. Where torch, transformers and peft are installed (extra `parity`) they do the
same work on the same threads, in turns with ours; without them there is no peer.

The matrix products of a case are counted once, as the forward pass times three for training (times two for an adapter):
what rematerialisation computes again counts as time, not as work. A share is their rate over the measured peak, or for
decoding the bytes of the weights and the cache over the measured bandwidth.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from benchmarks.common import Row, matmul_peak, matrix_flops, milliseconds, page, read_bandwidth, report
from ecr_jax.inference.decoding import Decoding, generate
from ecr_jax.losses.next_token import next_token_cross_entropy
from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import convert, language_model, lora
from ecr_jax.models.lm.convert import LanguageConfig
from ecr_jax.models.lm.gpt2 import Gpt2Config
from ecr_jax.models.lm.language_model import Params
from ecr_jax.models.lm.llama import LlamaConfig
from ecr_jax.runs.machine import relaunch_keeping_freed_memory
from ecr_jax.training import optim, sharding
from ecr_jax.training.options import OptimConfig
from ecr_jax.training.step import init_state, make_step, state_shardings

INTRODUCTION = """\
Ours beside transformers and peft on torch, in turns in one process on the same threads; a `ratio` above 1 means that
ours is faster. Weights are random. A share of the matmul peak counts each matrix product once, not again when
rematerialisation repeats it; a share of the memory bandwidth counts the weights and the cache once a token. "Layers
apart" decodes from parameters that `language_model.unstack` separated by layer, "layers scanned" from the stacked ones
of training: on a CPU, slicing a layer's weights out of the stack takes as long as multiplying with them."""

SHAPES = {
    "smollm2-135m": LlamaConfig(49152, 576, 30, 9, 3, 64, 1536, positions=2048, rope_theta=1e5, tied=True),
    "dialogpt-small": Gpt2Config(50257, 768, 12, 12, 3072, positions=1024),
    "llama-2-7b": LlamaConfig(32000, 4096, 32, 32, 32, 128, 11008, positions=4096),
}
ADAPTERS_ONLY = ("llama-2-7b",)
"""Shapes whose parameters are not all trained here: their optimiser would not fit."""

ROWS, LENGTH = 8, 256
PROMPT, NEW = 64, 64
BATCHES = (1, 8)
ADAPTER = LoraConfig(rank=8, alpha=16.0)
OPTIMISER = OptimConfig(learning_rate=1e-4, schedule="constant", warmup=0.0)
PEFT_TARGETS = {LlamaConfig: ["q_proj", "k_proj", "v_proj", "o_proj"], Gpt2Config: ["c_attn", "attn.c_proj"]}
"""The same projections as `hyperparameters.ATTENTION`."""


Peer = Callable[[str, dict], list[Callable]]
"""(kind of work, batch) -> [function that does it with torch], or [] where there is no peer."""


def random_model(config: LanguageConfig, dtype: DTypeLike) -> tuple[nn.Module, Params]:
    """A module and random parameters, initialised on the device."""
    module = convert.module_of(config)(config, dtype=dtype)
    one = jnp.ones((1, 2), jnp.int32)
    build = jax.jit(lambda key: jax.tree.map(lambda x: x.astype(dtype), module.init(key, one, one > 0)["params"]))
    return module, build(jax.random.key(0))


def random_batch(config: LanguageConfig) -> dict[str, np.ndarray]:
    """A full batch without padding."""
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (ROWS, LENGTH)).astype(np.int32)
    return {"tokens": tokens, "mask": np.ones(tokens.shape, bool)}


def update_function(
    variables_of: Callable[[Params, Params], Params], module: nn.Module, params: Params, frozen: Params
) -> Callable[[dict], Any]:
    """A function that makes one update of `params` with the project's own step: clipping, AdamW, donated state.

    Args:
      variables_of: (trained parameters, frozen parameters) -> the variables of the language model.
      module: the language model.
      params: the trained parameters.
      frozen: the others.
    """

    def loss(params, frozen, batch, key):
        variables = variables_of(params, frozen)
        hidden = module.apply(variables, batch["tokens"], batch["mask"]).hidden
        rows = language_model.head(variables["params"])
        total, hits = next_token_cross_entropy(hidden=hidden, head=rows, tokens=batch["tokens"], where=batch["mask"])
        return total, jnp.sum(batch["mask"][:, 1:]), {"accuracy": hits}

    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    optimizer = optim.make_optimizer(OPTIMISER, 1000, params)
    placement = state_shardings(params, optimizer, sharding.REPLICATED, mesh)
    step = make_step(
        loss,
        optimizer,
        mesh,
        state_placement=placement,
        frozen_placement=sharding.shardings(frozen, sharding.REPLICATED, mesh),
        schedule=optim.learning_rate(OPTIMISER, 1000),
    )
    state = init_state(params, optimizer)

    def update(batch: dict) -> Any:
        nonlocal state  # the step donates the old one
        state, metrics = step(state, frozen, batch, jax.random.key(0))
        return metrics

    return update


def forward_flops(module: nn.Module, params: Params, batch: dict, last: bool) -> float:
    """Floating-point operations of a forward pass with the logits of every token, or of each row's last token."""

    def forward(params, tokens, mask):
        hidden = module.apply({"params": params}, tokens, mask).hidden
        return language_model.logits(params, hidden[:, -1:] if last else hidden)

    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    return matrix_flops(forward, shapes, batch["tokens"], batch["mask"])


def rows_of(case: str, best: list[float], flops: float, peak: float) -> list[Row]:
    """Rows of the time beside the peer's, and of the share of the peak; `best` has our time and, if any, the peer's."""
    rate, *peer_rates = (1e-6 * flops / milliseconds for milliseconds in best)
    peer, ratio = (best[1], best[1] / best[0]) if peer_rates else (None, None)
    share = peer_rates[0] / peak if peer_rates else None
    return [
        Row(case, "time", best[0], "ms", peer, ratio),
        Row(case, "share of matmul peak", rate / peak, "", share, None if share is None else rate / peer_rates[0]),
    ]


def measure(name: str, dtype: DTypeLike, rounds: int, peak: float, bandwidth: float) -> list[Row]:
    """All rows of one shape."""
    config = SHAPES[name]
    module, params = random_model(config, dtype)
    batch, peer = random_batch(config), torch_peer(config, dtype)
    size = f"{ROWS} x {LENGTH} tokens"
    rows = []

    prefill = jax.jit(
        lambda params, tokens, mask: language_model.logits(
            params, module.apply({"params": params}, tokens, mask).hidden[:, -1]
        )
    )
    best = milliseconds([lambda: prefill(params, batch["tokens"], batch["mask"]), *peer("prefill", batch)], rounds)
    rows += rows_of(f"{name}: prefill, {size}", best, forward_flops(module, params, batch, True), peak)

    for number in BATCHES:
        rows += decoding(name, module, params, number, peer, rounds, bandwidth)

    flops = forward_flops(module, params, batch, False)
    if name not in ADAPTERS_ONLY:
        update_all = update_function(lambda params, _: {"params": params}, module, params, {})
        best = milliseconds([lambda: update_all(batch), *peer("train", batch)], rounds)
        rows += rows_of(f"{name}: training step, {size}", best, 3 * flops, peak)
        _, params = random_model(config, dtype)  # the step donated them

    def with_adapter(adapter: Params, base: Params) -> Params:
        return lora.variables(base, adapter, ADAPTER)

    update_adapter = update_function(with_adapter, module, lora.init(jax.random.key(1), params, ADAPTER), params)
    best = milliseconds([lambda: update_adapter(batch), *peer("lora", batch)], rounds)
    rows += rows_of(f"{name}: LoRA step, {size}", best, 2 * flops, peak)
    return rows


def decoding(
    name: str, module: nn.Module, params: Params, number: int, peer: Peer, rounds: int, bandwidth: float
) -> list[Row]:
    """Greedy decoding of `number` rows: tokens a second of the whole batch, without the prefill."""
    config = module.config
    tokens = np.random.default_rng(1).integers(0, config.vocab_size, (number, PROMPT)).astype(np.int32)
    seconds_of: dict[str, float] = {}
    forms = {"layers apart": language_model.unstack(params), "layers scanned": params}
    for form, tree in forms.items():
        # `end` is not in the vocabulary, so that no reply ends early.
        write = functools.partial(
            generate, module, {"params": tree}, tokens, np.ones_like(tokens, bool), end=config.vocab_size
        )
        seconds_of[form] = seconds_a_token(lambda new, write=write: write(decoding=Decoding(max_new=new)), rounds)
    baselines = peer("decode", {"tokens": tokens})
    theirs = number / seconds_a_token(baselines[0], rounds) if baselines else None
    weight_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    if "head" in params:
        weight_bytes -= params["embed"]["embedding"].nbytes  # only a row of it is used
    bytes_per_token = 2 * config.layers * config.kv_heads * config.head_dim * jnp.dtype(module.dtype).itemsize
    cache_bytes = number * bytes_per_token * (PROMPT + NEW)  # whole buffers
    rows = []
    for form, seconds in seconds_of.items():
        case, rate = f"{name}: decode, batch {number}, {form}", number / seconds
        rows += [
            Row(case, "tokens", rate, "1/s", theirs, None if theirs is None else rate / theirs),
            Row(case, "share of memory bandwidth", 1e-9 * (weight_bytes + cache_bytes) / seconds / bandwidth, ""),
        ]
    return rows


def seconds_a_token(write: Callable[[int], Any], rounds: int) -> float:
    """Seconds of one decoding step: the best time of `NEW` tokens minus the best time of one token, per token."""
    best = {}
    for new in (1, NEW):
        write(new)
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            write(new)
            times.append(time.perf_counter() - start)
        best[new] = min(times)
    return (best[NEW] - best[1]) / (NEW - 1)


def torch_peer(config: LanguageConfig, dtype: DTypeLike) -> Peer:
    """The same work by transformers and peft."""
    try:
        import peft
        import torch
        import transformers
    except ImportError:
        return lambda work, batch: []
    if jax.default_backend() != "cpu":  # torch's build here is for CPUs
        return lambda work, batch: []
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    values = convert.config_to_hf(config)
    build = transformers.AutoConfig.for_model(**values)
    model = transformers.AutoModelForCausalLM.from_config(build, dtype=getattr(torch, jnp.dtype(dtype).name))

    def trainer(model, tokens):
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=OPTIMISER.learning_rate, weight_decay=OPTIMISER.weight_decay)

        def update():
            loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, OPTIMISER.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return ()

        return update

    def functions(work: str, batch: dict) -> list[Callable]:
        tokens = torch.tensor(batch["tokens"], dtype=torch.long)
        if work == "prefill":

            @torch.no_grad()
            def prefill():
                model(input_ids=tokens, logits_to_keep=1, use_cache=False)
                return ()

            return [prefill]
        if work == "decode":

            def write(new: int) -> None:
                model.generate(
                    tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=new, min_new_tokens=new,
                    do_sample=False, pad_token_id=0,
                )  # fmt: skip

            return [write]
        if work == "lora":
            settings = peft.LoraConfig(
                r=ADAPTER.rank, lora_alpha=ADAPTER.alpha, target_modules=PEFT_TARGETS[type(config)],
                fan_in_fan_out=isinstance(config, Gpt2Config), task_type="CAUSAL_LM",
            )  # fmt: skip
            return [trainer(peft.get_peft_model(model, settings), tokens)]
        return [trainer(model, tokens)]

    return functions


def main() -> None:
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [name for name in SHAPES if name not in ADAPTERS_ONLY]
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=known)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="also write a Markdown page with the table and its provenance")
    options = parser.parse_args()
    dtype = jnp.dtype(options.dtype)
    peak, bandwidth = matmul_peak(dtype=dtype), read_bandwidth()
    rows = [peak, bandwidth]
    for name in options.shapes:
        rows += measure(name, dtype, options.rounds, peak.value, bandwidth.value)
        jax.clear_caches()
    report(rows, "language models", options.json)
    if options.page is not None:
        command = " ".join(["python -m benchmarks.lm", *sys.argv[1:]])
        page(rows, "Language models: speed", INTRODUCTION, command, options.page)


if __name__ == "__main__":
    relaunch_keeping_freed_memory()
    main()
