"""LoRA: nothing at the start, the same beside the base and merged into it, one adapter a row, the base untouched."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import lora
from ecr_jax.models.lm.gpt2 import Gpt2Config
from ecr_jax.models.lm.language_model import init_cache, unstack
from ecr_jax.models.lm.linear import Dense
from ecr_jax.models.lm.llama import Llama, LlamaConfig
from ecr_jax.training import sharding
from ecr_jax.training.optim import learning_rate, make_optimizer
from ecr_jax.training.options import OptimConfig
from ecr_jax.training.step import init_state, make_step, state_shardings
from tests import tiny

# Sizes that are all different, so that a shape tells what an array is.
LLAMA = LlamaConfig(vocab_size=40, width=16, layers=2, heads=6, kv_heads=2, head_dim=4, hidden=14, positions=32)
GPT2 = Gpt2Config(vocab_size=40, width=16, layers=2, heads=4, hidden=20, positions=32)
TOKENS = np.random.default_rng(0).integers(0, 40, (4, 6)).astype(np.int32)
MASK = np.arange(6)[None] < np.array([6, 4, 5, 6])[:, None]
MIXED = LoraConfig(
    patterns=("layers/attention/[qo]", "layers/mlp/.*"),
    rank=2,
    alpha=6.0,
    rank_pattern=(("layers/mlp/down", 4), ("layers/mlp/.*", 1)),
    alpha_pattern=((".*/o", 1.0),),
)


@pytest.fixture(scope="module")
def llama():
    return tiny.random_model(LLAMA)


def filled(adapter, seed=0):
    """The adapter with numbers in b too."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32), adapter)


@pytest.fixture(scope="module")
def mixed(llama):
    return filled(lora.init(jax.random.key(0), llama.params, MIXED))


@jax.jit
def run(variables):
    return Llama(LLAMA).apply(variables, TOKENS, MASK).hidden


def test_a_new_adapter_changes_nothing(llama):
    config = LoraConfig(rank=2)
    adapter = lora.init(jax.random.key(1), llama.params, config)
    attention = adapter["layers"]["attention"]
    assert sorted(adapter["layers"]) == ["attention"] and sorted(attention) == sorted("koqv")
    assert attention["k"]["a"].shape == (2, 16, 2)
    assert attention["k"]["b"].shape == (2, 2, 8)
    bound = np.abs(attention["q"]["a"]).max()
    assert 0.2 < bound <= 0.25  # 1 / sqrt(16)
    jax.tree.map(np.testing.assert_array_equal, llama.params, lora.merge(llama.params, adapter, config))
    np.testing.assert_array_equal(run(lora.variables(llama.params, adapter, config)), run({"params": llama.params}))


def test_ranks_and_scales_by_pattern():
    paths = ("layers/attention/q", "layers/attention/o", "layers/mlp/up", "layers/mlp/down")
    assert [MIXED.rank_of(path) for path in paths] == [2, 2, 1, 4]
    assert [MIXED.scale_of(path) for path in paths] == [3.0, 0.5, 6.0, 1.5]
    stabilised = dataclasses.replace(MIXED, rank_stabilised=True)
    assert stabilised.scale_of("layers/mlp/down") == 3.0  # 6 / sqrt(4)
    assert stabilised.scale_of("layers/mlp/up") == 6.0


def test_shapes_of_parameters_are_enough(llama):
    shapes = jax.eval_shape(lambda: llama.params)
    adapter = jax.eval_shape(lambda params: lora.init(jax.random.key(0), params, MIXED), shapes)
    assert adapter["layers"]["mlp"]["down"]["a"].shape == (2, 14, 4)
    assert adapter["layers"]["mlp"]["gate"]["b"].shape == (2, 1, 14)


def test_a_layer_by_hand():
    x = jnp.array([[[1.0, 2.0]]])
    params = {"kernel": jnp.array([[1.0, 0.0], [0.0, 1.0]]), "bias": jnp.array([0.5, 0.0])}
    adapter = {"a": jnp.array([[1.0], [1.0]]), "b": jnp.array([[10.0, -1.0]])}
    y = Dense(2).apply({"params": params, "lora": adapter}, x)
    np.testing.assert_allclose(y, [[[31.5, -1.0]]])  # [1.5, 2] + 3 * [10, -1]
    rows = {"a": jnp.stack([adapter["a"], 0 * adapter["a"]]), "b": jnp.stack([adapter["b"]] * 2)}
    y = Dense(2).apply({"params": params, "lora": rows}, jnp.concatenate([x, x]))
    np.testing.assert_allclose(y, [[[31.5, -1.0]], [[1.5, 2.0]]])


def test_dropout_is_on_what_the_adapter_reads():
    x = jnp.ones((1, 1, 4))
    params = {"kernel": jnp.zeros((4, 1)), "bias": jnp.full(1, 7.0)}
    variables = {"params": params, "lora": {"a": jnp.eye(4), "b": jnp.array([[1.0], [10.0], [100.0], [1000.0]])}}
    layer = Dense(1, dropout=0.5)
    assert layer.apply(variables, x).item() == 1118  # no rng, no dropout
    seen = {layer.apply(variables, x, rngs={"dropout": jax.random.key(i)}).item() for i in range(40)}
    # Each input is dropped or doubled; the base reads all of them.
    assert 8 < len(seen) <= 16
    assert all(set(str(int(value) - 7).zfill(4)) <= {"0", "2"} for value in seen)


def test_merging_by_hand():
    params = {"layers": {"up": {"kernel": jnp.zeros((2, 2, 3))}, "norm": {"scale": jnp.ones((2, 2))}}}
    a = jnp.array([[[1.0], [2.0]], [[0.0], [1.0]]])  # [L, in, r]
    b = jnp.array([[[1.0, 0.0, -1.0]], [[3.0, 0.0, 0.0]]])  # [L, r, out]
    merged = lora.merge(params, {"layers": {"up": {"a": a, "b": b}}}, LoraConfig((".*/up",), rank=1, alpha=0.5))
    want = [[[0.5, 0, -0.5], [1, 0, -1]], [[0, 0, 0], [1.5, 0, 0]]]
    np.testing.assert_allclose(merged["layers"]["up"]["kernel"], want)
    np.testing.assert_array_equal(merged["layers"]["norm"]["scale"], 1)


def test_beside_the_base_and_merged_into_it_are_one_function(llama, mixed):
    """Values and the adapter's gradients agree; only rounding differs."""

    def beside(adapter):
        return jnp.sum(jnp.sin(run(lora.variables(llama.params, adapter, MIXED))))

    def merged(adapter):
        return jnp.sum(jnp.sin(run({"params": lora.merge(llama.params, adapter, MIXED)})))

    (value, grads), (expected, others) = (jax.jit(jax.value_and_grad(function))(mixed) for function in (beside, merged))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(others))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5 * largest), grads, others)
    assert all(np.any(leaf[0]) for leaf in jax.tree.leaves(grads))


def products(jaxpr):
    """Shapes of everything that matrix products give, in a traced program and all its parts."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.outvars[0].aval.shape
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from products(inner)


def test_training_steps_form_no_gradient_of_the_base(llama):
    """The optimiser knows the adapter alone, the base stays to the bit, no product has a kernel's shape."""
    config = LoraConfig(rank=5, dropout=0.1)
    params = {"adapter": lora.init(jax.random.key(0), llama.params, config)}
    module = llama.module.clone(adapter_dropout=config.dropout)

    def loss(params, frozen, batch, key):
        variables = lora.variables(frozen["base"], params["adapter"], config)
        hidden = module.apply(variables, batch["tokens"], batch["mask"], rngs={"dropout": key}).hidden
        return jnp.sum(jnp.square(hidden - 1)), jnp.float32(hidden.size), {}

    mesh, optim = sharding.make_mesh(devices=jax.devices()[:1]), OptimConfig(learning_rate=0.01)
    optimizer = make_optimizer(optim, 10, params)
    placement = state_shardings(params, optimizer, sharding.REPLICATED, mesh)
    frozen = {"base": llama.params}
    step = make_step(
        loss, optimizer, mesh, state_placement=placement, schedule=learning_rate(optim, 10),
        frozen_placement=sharding.shardings(frozen, sharding.REPLICATED, mesh),
    )  # fmt: skip
    before = jax.tree.map(np.array, llama.params)
    state = jax.device_put(init_state(sharding.shard_tree(params, placement["params"]), optimizer), placement)
    numbers = sum(leaf.size for leaf in jax.tree.leaves(params))
    moments = [leaf for leaf in jax.tree.leaves(state["opt_state"]) if leaf.ndim]
    assert sum(leaf.size for leaf in moments) == 2 * numbers
    mu = optax.tree.get(state["opt_state"], "mu")
    assert jax.tree.structure(mu) == jax.tree.structure(params)
    batch, key = {"tokens": TOKENS[:3, :5], "mask": MASK[:3, :5]}, jax.random.key(0)  # 15 tokens, no side of a kernel
    shapes = {tuple(sorted(s)) for s in products(jax.make_jaxpr(step)(state, frozen, batch, key).jaxpr) if len(s) == 2}
    assert {(5, 16), (5, 8)} <= shapes  # gradients of a and of b there are
    assert not {(16, 24), (8, 16), (14, 16)} & shapes
    losses = []
    for _ in range(5):
        state, metrics = step(state, frozen, batch, key)
        losses.append(float(metrics["loss"]))
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    assert all(np.any(part["b"]) for part in lora.flat(state["params"]["adapter"]).values())
    jax.tree.map(np.testing.assert_array_equal, before, llama.params)


def test_unmerging(llama, mixed):
    """To the bit for weights of bfloat16 or float16 that were merged into float32; else to one unit in the last place.

    Merging does not touch the base itself.
    """
    before = jax.tree.map(np.array, llama.params)
    merged = lora.merge(llama.params, mixed, MIXED)
    jax.tree.map(np.testing.assert_array_equal, before, llama.params)
    back = lora.unmerge(merged, mixed, MIXED)
    lost = 0
    for path in lora.flat(mixed):
        _, where, name = path.split("/")
        base, total, actual = (np.asarray(tree["layers"][where][name]["kernel"]) for tree in (before, merged, back))
        assert np.any(base != total)
        unit = np.spacing(np.maximum(np.abs(base), np.abs(total)))
        assert np.all(np.abs(actual.astype(np.float64) - base) <= unit)
        lost += np.sum(actual != base)
    assert lost  # a subtraction alone is not exact
    for half in (jnp.bfloat16, jnp.float16):
        low = jax.tree.map(lambda leaf: leaf.astype(half), llama.params)  # noqa: B023
        up = lora.merge(low, mixed, MIXED, dtype=jnp.float32)
        assert up["layers"]["mlp"]["up"]["kernel"].dtype == jnp.float32
        again = lora.unmerge(up, mixed, MIXED, dtype=half)
        jax.tree.map(np.testing.assert_array_equal, low, again)
        assert again["layers"]["mlp"]["up"]["kernel"].dtype == half


@pytest.fixture(scope="module")
def three(llama, mixed):
    """Adapters of other ranks, other projections, other scales."""
    configs = (MIXED, LoraConfig(rank=3, alpha=1.0), LoraConfig(("layers/mlp/up",), rank=1, alpha=2.0))
    return [
        (mixed if config is MIXED else filled(lora.init(jax.random.key(0), llama.params, config), seed), config)
        for seed, config in enumerate(configs)
    ]


def test_each_row_has_the_adapter_it_asks_for(llama, three):
    stacked = lora.stack(llama.params, three)
    assert stacked["layers"]["attention"]["q"]["a"].shape == (2, 4, 16, 3)  # [L, adapters and none, in, rank]
    assert stacked["layers"]["mlp"]["down"]["b"].shape == (2, 4, 4, 16)
    rows = [2, -1, 0, 1]
    assert np.isnan(lora.select(stacked, [4])["layers"]["mlp"]["up"]["a"]).all()
    chosen = lora.select(stacked, rows)
    actual = run({"params": llama.params, "lora": chosen})
    alone = [run({"params": lora.merge(llama.params, *one)}) for one in three] + [run({"params": llama.params})]
    for row, adapter in enumerate(rows):
        np.testing.assert_allclose(actual[row], alone[adapter][row], rtol=1e-4, atol=1e-5)
    assert not np.allclose(actual[1], alone[0][1], atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize(("config", "cut"), [(LLAMA, dict), (GPT2, unstack)], ids=["stacked llama", "unstacked gpt2"])
def test_rows_with_adapters_are_decoded(config, cut):
    """With a cache, in two parts, as in one pass."""
    model = tiny.random_model(config)
    kinds = [LoraConfig(rank=rank, alpha=2.0 * rank) for rank in (1, 3)]
    pairs = [(filled(lora.init(jax.random.key(0), model.params, kind), kind.rank), kind) for kind in kinds]
    collection = lora.select(lora.stack(model.params, pairs), jnp.array([1, -1, 0, 1]))
    variables = {"params": cut(model.params), "lora": cut(collection)}
    mask, cache = np.ones_like(MASK), init_cache(config, 4, 6, params=variables["params"])
    read = jax.jit(lambda tokens, mask, cache: model.module.apply(variables, tokens, mask, cache=cache))
    whole = read(TOKENS, mask, None).hidden
    first = read(TOKENS[:, :3], mask[:, :3], cache)
    second = read(TOKENS[:, 3:], mask[:, 3:], first.cache)
    np.testing.assert_allclose(np.concatenate([first.hidden, second.hidden], axis=1), whole, rtol=1e-4, atol=1e-4)


def test_rows_of_single_tokens(llama):
    rows = jnp.ones((2, 16))

    def tuned(rows):
        return lora.with_rows(llama.params, jnp.array([39, 3]), rows)["embed"]["embedding"]

    table = tuned(rows)
    np.testing.assert_array_equal(table[jnp.array([3, 39])], 1)
    unchanged = np.delete(np.arange(40), [3, 39])
    np.testing.assert_array_equal(table[unchanged], llama.params["embed"]["embedding"][unchanged])
    np.testing.assert_array_equal(jax.grad(lambda rows: (tuned(rows)[3] * 2).sum())(rows), [[0] * 16, [2] * 16])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("patterns", (), "name the projections"),
        ("patterns", ("(",), "not a regular expression"),
        ("rank", 0, "at least 1"),
        ("alpha", 0.0, "above 0"),
        ("dropout", 1.0, r"a rate lies in \[0, 1\)"),
        ("rank_pattern", (("q", 0),), "at least 1"),
        ("alpha_pattern", (("q", -1.0),), "above 0"),
        ("alpha_pattern", (("[", 1.0),), "not a regular expression"),
    ],
)
def test_settings_that_cannot_be(field, value, message):
    with pytest.raises(ValueError, match=rf"^LoraConfig\.{field} = .* is not allowed: .*{message}"):
        LoraConfig(**{field: value})


def test_adapters_that_do_not_fit_are_refused(llama, mixed):
    key = jax.random.key(0)
    for config in (LoraConfig(("layers/mlp/gates",)), LoraConfig(rank_pattern=(("layers/mlp/gates", 2),))):
        with pytest.raises(ValueError, match="'layers/mlp/gates' matches no projection; there are layers/attention/k"):
            lora.init(key, llama.params, config)
    nowhere = {"layers": {"nowhere": {"a": jnp.ones((1, 1)), "b": jnp.ones((1, 1))}}}
    for use in (lora.variables, lora.merge, lora.unmerge):
        with pytest.raises(ValueError, match="layers/nowhere is no projection"):
            use(llama.params, nowhere, MIXED)
    with pytest.raises(ValueError, match=r"layers/mlp/up/a is \(2, 16, 1\), not \(2, 16, 2\).*up/b is \(2, 1, 14\)"):
        lora.variables(llama.params, mixed, dataclasses.replace(MIXED, rank_pattern=(("layers/mlp/down", 4),)))
    with pytest.raises(ValueError, match="layers/mlp/up/b is missing"):
        lora.stack(llama.params, [({"layers": {"mlp": {"up": {"a": jnp.ones((2, 16, 1))}}}}, MIXED)])
    with pytest.raises(ValueError, match="at least one"):
        lora.stack(llama.params, [])
