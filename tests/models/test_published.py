"""The preset `code` is the published code: losses, gradients, optimiser and co-occurrence against its arrays.

The parts are compared where they are tested: the graph (test_rgcn), the prompt (test_prompt), logits and ranking losses
(test_recommender), GPT-2 behind prefixes (test_gpt2), co-occurrence, the evaluator.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ecr_jax.losses.next_token import next_token_cross_entropy
from ecr_jax.losses.ranking import cross_entropy
from ecr_jax.models.lm import convert, language_model
from ecr_jax.models.lm.gpt2 import Gpt2, Gpt2Config
from ecr_jax.models.prompt import PromptEncoder
from ecr_jax.models.recommender import Recommender
from ecr_jax.training.optim import learning_rate, make_optimizer
from ecr_jax.training.options import OptimConfig
from tests.models.configs import heads_config
from tests.models.published import MODES, fill, name, per_example, published_run, stored


def named(tree):
    """The leaves by their published names, laid out as published."""
    leaves = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        theirs, transposed = name("/".join(str(part.key) for part in path))
        leaves[theirs] = np.asarray(leaf).T if transposed else np.asarray(leaf)
    return leaves


def published_conversation(published, mode, dtype):
    """A function from the prompt encoder's parameters to the mode's loss, and the published parameters."""
    fields, token_width = (dict(emotions=False), 48) if mode == "conv48" else ({}, 64)
    model, states = ("kgC", "token_states48") if mode == "conv48" else ("kgA", "token_states")
    encoder = PromptEncoder(published.config(**fields), published.sizes(token_width))
    batch = published.batch(dtype, token_states=states)
    shapes = jax.eval_shape(lambda: encoder.init(jax.random.key(0), published.graph, batch, "conversation"))["params"]
    config = Gpt2Config(vocab_size=300, width=64, layers=2, heads=4, hidden=256, positions=64)
    tensors = {key[5:]: array for key, array in published.arrays.items() if key.startswith("gpt2/")}
    gpt2 = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), convert.from_hf(tensors, config))
    module, tokens, mask = Gpt2(config, dtype=dtype), batch["tokens"], batch["token_mask"]

    def run(params):
        prefix = encoder.apply({"params": params}, published.graph, batch, "conversation")
        hidden = module.apply({"params": gpt2}, tokens, mask, prefix[:2], prefix.mask).hidden
        total, _ = next_token_cross_entropy(hidden=hidden, head=language_model.head(gpt2), tokens=tokens, where=mask)
        return total / mask[:, 1:].sum()

    return run, fill(shapes, published.arrays, f"{model}/", dtype)


def check_norms(published, mode, gradients):
    norms = {key: array for key, array in published.arrays.items() if key.startswith(f"gradnorm/{mode}/")}
    assert {f"gradnorm/{mode}/{theirs}" for theirs in gradients} == norms.keys()
    for theirs, gradient in gradients.items():
        expected = norms[f"gradnorm/{mode}/{theirs}"]
        np.testing.assert_allclose(np.linalg.norm(gradient), expected, rtol=1e-9, err_msg=theirs)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["conv", "conv48"])
def test_conversation(published, mode):
    """Its loss; and gradients where they are stored: the norms of all, and four whole."""
    with jax.enable_x64(True):
        run, params = published_conversation(published, mode, jnp.float64)
        value, gradients = jax.jit(jax.value_and_grad(run) if mode == "conv48" else lambda p: (run(p), {}))(params)
    np.testing.assert_allclose(value, published[f"out/{mode}/f64/conv_loss"], rtol=1e-10)
    np.testing.assert_allclose(value, published[f"out/{mode}/conv_loss"], rtol=1e-6)
    if gradients:
        gradients = named(gradients)
        check_norms(published, mode, gradients)
        whole = [key for key in published.arrays if key.startswith("grad/conv48/")]
        assert len(whole) == 4
        for key in whole:
            expected = published[key]
            ours = stored(key, gradients[key.removeprefix("grad/conv48/")])
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max(), err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("mode", sorted(MODES.keys() - {"rec_copy"}))
def test_ranking(published, mode):
    """Logits, losses of instances and of the batch, in float64; the gradients' norms where they are stored."""

    def loss(params):
        logits = run(params)
        plain = cross_entropy(logits=logits, targets=targets, where=np.ones((4, 1), bool))
        return per_example(published, mode, logits).mean(), (logits, plain)

    targets = published["in/rec_labels"][:, None]
    with jax.enable_x64(True):
        run, params = published_run(published, mode, jnp.float64)
        if mode in ("pre", "rec"):
            (value, (logits, plain)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
            check_norms(published, mode, named(gradients["encoder"]))
        else:
            value, (logits, plain) = jax.jit(loss)(params)
    np.testing.assert_allclose(logits, published[f"out/{mode}/f64/rec_logits"], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(plain, published[f"out/{mode}/f64/ce_per_instance"], rtol=1e-10)
    np.testing.assert_allclose(value, published[f"out/{mode}/f64/rec_loss"], rtol=1e-10)


def test_cooccurrence_head(published):
    """Without a language model the state is zero: the logits are those of its "copy" head."""
    model = Recommender(published.config(), published.sizes(), heads_config("code", cooccurrence="published"))
    args = published.graph, published.batch(), np.arange(50), "recommendation"
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *args))["params"]
    params = {part: fill(tree, published.arrays, "kgA/") for part, tree in shapes.items()}
    logits = jax.jit(lambda p: model.apply({"params": p}, *args).logits)(params)
    # 0.5 is the weight of these logits in the released code
    np.testing.assert_allclose(logits, 0.5 * published["out/rec_copy/copy_logit"], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_optimiser(published):
    """Four updates on one batch: learning rates, losses, parameters."""
    config = OptimConfig(learning_rate=1e-2, warmup=0.2, weight_decay=0.01, clip=None, eps=1e-6, published=True)
    rate = learning_rate(config, 10)
    np.testing.assert_allclose([rate(step) for step in range(4)], published["opt/lrs"], rtol=1e-6)
    compared, seen = set(), []
    with jax.enable_x64(True):  # ours without rounding: what differs is theirs
        run, params = published_run(published, "rec", jnp.float64)
        optimizer = make_optimizer(config, 10, params)
        state = optimizer.init(params)

        @jax.jit
        def step(params, state):
            value, gradients = jax.value_and_grad(lambda p: per_example(published, "rec", run(p)).mean())(params)
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state, value

        for number in range(1, 5):
            params, state, value = step(params, state)
            seen.append(float(value))
            for theirs, ours in named(params["encoder"]).items():
                key = f"opt/after{number}/{theirs}"
                if key in published.arrays:
                    # Adam's first steps are the signs of gradients: where one is near zero, rounding moves it
                    np.testing.assert_allclose(stored(key, ours), published[key], rtol=1e-5, atol=1e-5, err_msg=key)
                    compared.add(key)
    np.testing.assert_allclose(seen, published["opt/losses"], rtol=1e-5)
    # these two have no gradient and so no decay; our recommendation does not hold them at all
    unused = {"opt/after4/emo_fuse_proj3.weight", "opt/after4/copy_proj_2.weight"}
    assert compared == {key for key in published.arrays if key.startswith("opt/after")} - unused
    for key in unused:
        before = published[f"kgA/{key.removeprefix('opt/after4/')}"]
        np.testing.assert_array_equal(published[key], stored(key, before))
