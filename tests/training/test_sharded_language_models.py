"""Language models trained over eight devices: the same numbers as on one, and no weight or gradient in one piece."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ecr_jax.losses.next_token import next_token_cross_entropy
from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import bert, convert, gpt2, language_model, llama, lora
from ecr_jax.models.lm.sharding_rules import language_model_rules
from ecr_jax.training import sharding
from ecr_jax.training.optim import learning_rate, make_optimizer
from ecr_jax.training.options import OptimConfig
from ecr_jax.training.step import init_state, make_step, state_shardings

# 35 tokens do not divide into anything, 4 heads of keys not into 8: they stay whole where they would have to.
CONFIGS = {
    "llama": llama.LlamaConfig(35, 32, 3, 8, 4, 4, 48),
    "gpt2": gpt2.Gpt2Config(35, 32, 3, 8, 48, positions=16),
    "bert": bert.BertConfig(35, 32, 3, 8, 48, positions=16),
}
LLAMA_7B = llama.LlamaConfig(32001, 4096, 32, 32, 32, 128, 11008, positions=4096)
SMOLLM2_135M = llama.LlamaConfig(49153, 576, 30, 9, 3, 64, 1536, tied=True)
MODEL = {"data": 1, "fsdp": 1, "tensor": 8, "fsdp_tensor": 4}
"""Devices on the mesh axis `model`; the others of the eight are on `data`."""
ROWS, LENGTH, PREFIX = 8, 7, 3


ADAPTER = LoraConfig(patterns=("layers/.*",), rank=4, alpha=8.0)


def new_adapter(base):
    return lora.init(jax.random.key(0), base, ADAPTER)


def loss_of(module):
    """Next-token loss: of a whole model, or of an adapter over a frozen one; decoders read a trained prefix first."""

    def loss(params, frozen, batch, key):
        if "adapter" in params:
            variables = lora.variables(frozen["language_model"], params["adapter"], ADAPTER)
        else:
            variables = {"params": params["language_model"]}
        arguments = {}
        if "prefix" in params:
            rows = (2, module.config.layers, len(batch["tokens"]), *params["prefix"].shape[2:])
            prefix = tuple(jnp.broadcast_to(params["prefix"][:, :, None], rows))
            arguments = {"prefix": prefix, "prefix_mask": batch["prefix_mask"]}
        hidden = module.apply(variables, batch["tokens"], batch["mask"], **arguments).hidden
        total, _ = next_token_cross_entropy(
            hidden=hidden, head=language_model.head(variables["params"]), tokens=batch["tokens"], where=batch["mask"],
            chunk=24,
        )  # fmt: skip
        return total, batch["mask"][:, 1:].sum(), {}

    return loss


def shapes_of(module):
    tokens, mask = jax.ShapeDtypeStruct((1, 4), jnp.int32), jax.ShapeDtypeStruct((1, 4), bool)
    return jax.eval_shape(module.init, jax.random.key(0), tokens, mask)["params"]


def drawn(shapes, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.2, leaf.shape), jnp.float32), shapes)


def make_batch():
    """Rows of every length from 1 to 7, padded on either side; some prefix positions are padding too."""
    rng = np.random.default_rng(1)
    lengths, left = np.arange(ROWS) % LENGTH + 1, np.arange(ROWS) % 2
    places = np.arange(LENGTH)[None] - (left * (LENGTH - lengths))[:, None]
    return {
        "tokens": rng.integers(0, 35, (ROWS, LENGTH)).astype(np.int32),
        "mask": (places >= 0) & (places < lengths[:, None]),
        "prefix_mask": rng.random((ROWS, PREFIX)) < 0.7,
    }


def rules_of(config):
    return (*language_model_rules(config, "language_model|adapter"), *sharding.REPLICATED)


def prepared(module, params, frozen, strategy, *, devices=8, accumulation=1):
    """(step, optimizer, shardings of the state, shardings of the frozen tree) for arrays or their shapes."""
    optim, rules = OptimConfig(learning_rate=0.05, warmup=0.0, eps=1e-3), rules_of(module.config)
    optimizer = make_optimizer(optim, 10, params)
    mesh = sharding.make_mesh(MODEL[strategy] if devices > 1 else 1, jax.devices()[:devices])
    placement = state_shardings(params, optimizer, rules, mesh, strategy)
    frozen_placement = sharding.shardings(frozen, rules, mesh, strategy)
    step = make_step(
        loss_of(module), optimizer, mesh, state_placement=placement, frozen_placement=frozen_placement,
        schedule=learning_rate(optim, 10), accumulation=accumulation,
    )  # fmt: skip
    return step, optimizer, placement, frozen_placement


class Outcome(NamedTuple):
    """What a step gave, and the program of one device."""

    params: dict
    moments: dict
    metrics: dict
    text: str
    kernels: set
    """Shapes [L, in, out] of the kernels that were split."""
    split: set
    """Those, and the parts of adapters that were split, except shapes that a device may hold for another array."""


@functools.cache
def train(family, strategy, adapter=False, *, devices=8, accumulation=1):
    """One step; it clips by the global norm, so that every device has to know all gradients."""
    config = CONFIGS[family]
    module = convert.module_of(config)(config)
    base = drawn(shapes_of(module), 0)
    params, frozen = {"language_model": base}, {}
    if adapter:
        params, frozen = {"adapter": drawn(jax.eval_shape(new_adapter, base), 2)}, {"language_model": base}
    if family != "bert":
        shape = (2, config.layers, config.kv_heads, PREFIX, config.head_dim)
        params["prefix"] = drawn(jax.ShapeDtypeStruct(shape, jnp.float32), 3)
    step, optimizer, placement, frozen_placement = prepared(
        module, params, frozen, strategy, devices=devices, accumulation=accumulation
    )
    state = jax.device_put(init_state(sharding.shard_tree(params, placement["params"]), optimizer), placement)
    arguments = state, jax.device_put(frozen, frozen_placement), make_batch(), jax.random.key(0)
    # To optimise machine code that runs for milliseconds would take most of the time.
    compiled = step.lower(*arguments).compile({"xla_backend_optimization_level": 0})
    leaves, places = (
        {f"{kind}/{name}": leaf for kind, part in tree.items() if kind != "prefix"
         for name, leaf in convert.flatten(part).items()}
        for tree in (params | frozen, placement["params"] | frozen_placement)
    )  # fmt: skip
    held = {places[name].shard_shape(leaf.shape) for name, leaf in leaves.items()}
    held |= {
        shape[:-2] + shape[:-3:-1] for shape in held
    }  # [.., in, out] and, as gradients are computed, [.., out, in]
    stacked = {name: leaf.shape for name, leaf in leaves.items() if leaf.ndim == 3 and leaf.shape not in held}
    kernels = {shape for name, shape in stacked.items() if name.endswith("kernel")}
    state, metrics = compiled(*arguments)
    state, metrics = jax.device_get((state, metrics))
    moments = optax.tree.get(state["opt_state"], "mu")
    return Outcome(state["params"], moments, metrics, compiled.as_text(), kernels, set(stacked.values()))


def computed(text) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(operation, shape) of everything that a device computes or receives."""
    for line in text.splitlines():
        if instruction := re.match(r"\s*(?:ROOT )?%?[\w.-]+ = (.*?) ([a-z][\w-]*?)(-start|-done)?\(", line):
            for shape in re.findall(r"\w+\[([\d,]*)\]", instruction[1]):
                yield instruction[2], tuple(int(size) for size in shape.split(",") if size)


QUICK = [("llama", "fsdp", False), ("llama", "tensor", True)]
CASES = [
    pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow)
    for family in CONFIGS
    for strategy in MODEL
    for adapter in (False, True)
    for case in [(family, strategy, adapter)]
]


@pytest.mark.parametrize(("family", "strategy", "adapter"), CASES)
def test_eight_devices_give_the_step_of_one(family, strategy, adapter):
    """Loss, norm, new parameters, and the first moments: a tenth of the clipped gradient."""
    actual, expected = train(family, strategy, adapter), train(family, "data", adapter, devices=1)
    for name in ("loss", "grad_norm", "count"):
        np.testing.assert_allclose(actual.metrics[name], expected.metrics[name], rtol=1e-5)
    for name in ("params", "moments"):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
                     getattr(actual, name), getattr(expected, name))  # fmt: skip


@pytest.mark.slow
def test_micro_batches_over_devices_give_the_step_of_one():
    actual, expected = train("llama", "fsdp", devices=4, accumulation=2), train("llama", "data", False, devices=1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual.params, expected.params)
    _nothing_split_in_one_piece(actual)


def _nothing_split_in_one_piece(outcome):
    """Nothing a device computes or receives (so no gradient, no moment either) has a split array's whole shape."""
    shapes = {shape for _, shape in computed(outcome.text)}
    assert outcome.kernels
    for layers, inputs, outputs in outcome.split:
        assert not shapes & {(layers, inputs, outputs), (layers, outputs, inputs)}


@pytest.mark.parametrize(("family", "strategy", "adapter"), [case for case in CASES if case.values[1] != "data"])
def test_no_device_holds_a_split_kernel_or_its_gradient_in_one_piece(family, strategy, adapter):
    """Under `fsdp` a layer's kernels are gathered where the layer is computed, and their gradients reduced there.

    XLA for CPUs has no reduce-scatter: here a layer's gradient [in, out] is all-reduced, and each device keeps its
    part of it before the next layer's turn. Under `tensor` no kernel is gathered at all.
    """
    outcome = train(family, strategy, adapter)
    _nothing_split_in_one_piece(outcome)
    operations = set(computed(outcome.text))
    gathered = {shape for operation, shape in operations if operation == "all-gather"}
    reduced = {shape for operation, shape in operations if operation in ("all-reduce", "reduce-scatter")}
    ones = {shape[1:] for shape in outcome.kernels}
    if strategy == "fsdp":
        assert ones <= gathered
        assert adapter or all(one in reduced or one[::-1] in reduced for one in ones)
    if strategy == "tensor":
        assert not ones & gathered
    # Rows stay where they are: no device computes the states of all of them.
    if "fsdp" in strategy:
        assert not {shape for _, shape in operations} & {(ROWS, LENGTH, 32), (ROWS, LENGTH, 48)}


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("strategy", ["fsdp", "tensor", "fsdp_tensor"])
def test_an_adapter_is_split_as_its_kernel(family, strategy):
    config = CONFIGS[family]
    base = shapes_of(convert.module_of(config)(config))
    tree = {"language_model": base, "adapter": jax.eval_shape(new_adapter, base)}
    # Not among REPLICATED: every parameter and every adapter has a rule of its own.
    rules = language_model_rules(config, "language_model|adapter")
    places = sharding.shardings(tree, rules, sharding.make_mesh(MODEL[strategy]), strategy)
    kernels = {
        name.removesuffix("/kernel"): place.spec
        for name, place in convert.flatten(places["language_model"]).items()
        if name.endswith("/kernel")
    }
    adapters = {name: place.spec for name, place in convert.flatten(places["adapter"]).items()}
    assert adapters.keys() == {f"{name}/{part}" for name in kernels for part in "ab"}
    for name, (layers, inputs, outputs) in kernels.items():
        assert layers is None
        assert tuple(adapters[f"{name}/a"]) == (None, inputs, None)
        assert tuple(adapters[f"{name}/b"]) == (None, None, outputs)


def test_quantised_kernels_are_split_as_whole_ones():
    tree = {"layers": {"mlp": {"down": {
        "codes": jax.ShapeDtypeStruct((32, 5504, 4096), jnp.uint8),  # two inputs a byte
        "scales": jax.ShapeDtypeStruct((32, 172, 4096), jnp.bfloat16),  # one for 64 inputs
    }}}}  # fmt: skip
    places = sharding.shardings(tree, language_model_rules(LLAMA_7B), sharding.make_mesh(4), "fsdp_tensor")["layers"][
        "mlp"
    ]["down"]
    assert places["codes"].shard_shape((32, 5504, 4096)) == (32, 1376, 2048)
    assert places["scales"].shard_shape((32, 172, 4096)) == (32, 43, 2048)
    over = sharding.shardings(tree, language_model_rules(LLAMA_7B), sharding.make_mesh(8), "tensor")
    assert over["layers"]["mlp"]["down"]["scales"].is_fully_replicated  # 172 blocks do not divide into 8


def test_nine_heads_stay_whole_over_eight_devices():
    """SmolLM2 has 9 heads, 3 of keys, and with `<movie>` an odd vocabulary: only whole heads are split."""
    tree = shapes_of(llama.Llama(SMOLLM2_135M))
    rules = language_model_rules(SMOLLM2_135M)
    for model, heads, keys, hidden, columns in ((8, 576, 192, 192, 72), (3, 192, 64, 512, 192)):
        mesh = sharding.make_mesh(model, jax.devices()[:model])
        places = sharding.shardings(tree, rules, mesh, "tensor")
        held = jax.tree.map(lambda leaf, place: place.shard_shape(leaf.shape), tree, places)
        attention, mlp = held["layers"]["attention"], held["layers"]["mlp"]
        assert attention["q"]["kernel"] == (30, 576, heads) and attention["o"]["kernel"] == (30, heads, 576)
        assert attention["k"]["kernel"] == attention["v"]["kernel"] == (30, 576, keys)
        assert mlp["up"]["kernel"] == (30, 576, hidden) and mlp["down"]["kernel"] == (30, hidden, 576)
        assert held["embed"]["embedding"] == (49153, columns)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["fsdp", "tensor", "fsdp_tensor"])
def test_a_7b_with_adapters_trains_on_eight_devices(strategy):
    """Compiled, not run: what a device of eight receives and needs for a step of Llama-2-7B with `<movie>`.

    XLA for CPUs computes products of bfloat16 in float32, and turns a device's whole share of the base into float32 for
    that: most of what is temporary here, and nothing that an accelerator would need.
    """
    module = llama.Llama(LLAMA_7B, dtype=jnp.bfloat16, remat="full")
    base = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), shapes_of(module))
    params, frozen = {"adapter": jax.eval_shape(new_adapter, base)}, {"language_model": base}
    step, optimizer, placement, frozen_placement = prepared(module, params, frozen, strategy)
    tokens, mask = jax.ShapeDtypeStruct((8, 512), jnp.int32), jax.ShapeDtypeStruct((8, 512), bool)
    state = jax.eval_shape(lambda tree: init_state(tree, optimizer), params)
    arguments = state, frozen, {"tokens": tokens, "mask": mask}, jax.eval_shape(lambda: jax.random.key(0))
    compiled = step.lower(*arguments).compile({"xla_backend_optimization_level": 0})

    whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(base))
    assert 13.4e9 < whole < 13.6e9
    held = sharding.bytes_per_device(frozen, frozen_placement)
    assert held <= whole / 8 * 1.001
    trained = sharding.bytes_per_device(state, placement)
    needs = compiled.memory_analysis()
    rows = 8 * 512 * 5 / (8 // MODEL[strategy])
    assert abs(needs.argument_size_in_bytes - held - trained - rows) < 1e5
    assert needs.argument_size_in_bytes + needs.temp_size_in_bytes < whole * 2 / 3
    kernels = {leaf.shape for leaf in jax.tree.leaves(base) if leaf.ndim == 3}
    outcome = Outcome({}, {}, {}, compiled.as_text(), kernels, kernels)
    _nothing_split_in_one_piece(outcome)
