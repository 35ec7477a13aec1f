"""GPT-2: equal to transformers, and with a prefix to the published code's modified GPT-2."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.models.lm import convert, gpt2, language_model
from tests.models.published import stored

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def published(golden):
    """The reference arrays, its GPT-2's module, and the forward pass with its parameters."""
    arrays = np.load(golden / "model.npz")
    config = gpt2.Gpt2Config(300, 64, 2, 4, 256, positions=64)
    weights = {name.removeprefix("gpt2/"): arrays[name] for name in arrays.files if name.startswith("gpt2/")}
    model = gpt2.Gpt2(config)
    params = convert.from_hf(weights, config)
    return arrays, model, jax.jit(lambda *args, **more: model.apply({"params": params}, *args, **more))


def tied(arrays):
    """What `logits` needs of the reference's parameters."""
    return {"embed": {"embedding": arrays["gpt2/transformer.wte.weight"]}}


def test_tiny_model_equals_transformers():
    arrays = np.load(GOLDEN / "tiny_gpt2.npz")
    config = convert.config_from_hf(json.loads(str(arrays["config"])))
    weights = {key.removeprefix("weights/"): arrays[key] for key in arrays.files if key.startswith("weights/")}
    params, mask = convert.from_hf(weights, config), arrays["mask"]
    hidden = jax.jit(gpt2.Gpt2(config).apply)({"params": params}, arrays["tokens"], mask).hidden
    np.testing.assert_allclose(np.asarray(hidden)[mask], arrays["hidden"][mask], atol=2e-5)
    np.testing.assert_allclose(
        np.asarray(language_model.logits(params, hidden))[mask], arrays["logits"][mask], atol=1e-4
    )


@pytest.mark.parametrize("mode", ["pre", "rec", "rec_noglobal", "rec_noemo", "conv", "conv48"])
def test_prefixed_states_equal_the_published_code(published, mode):
    arrays, model, forward = published
    prompt = arrays[f"out/{mode}/prompt_embeds"]  # [L, 2, B, H, P, Dh]
    tokens, mask = arrays["in/context_input_ids"], arrays["in/context_attention_mask"] > 0
    positions = np.broadcast_to(np.arange(12), (4, 12))
    hidden = forward(tokens, mask, (prompt[:, 0], prompt[:, 1]), positions=positions).hidden
    key = f"out/{mode}/hidden_last"
    np.testing.assert_allclose(stored(key, hidden), arrays[key], atol=1e-5)
    counted = forward(tokens, mask, (prompt[:, 0], prompt[:, 1])).hidden
    np.testing.assert_allclose(np.asarray(counted)[mask], np.asarray(hidden)[mask], atol=1e-6)
    if (key := f"out/{mode}/lm_logits") in arrays.files:
        np.testing.assert_allclose(stored(key, language_model.logits(tied(arrays), hidden)), arrays[key], atol=2e-5)


@pytest.mark.parametrize("mode", ["rec", "conv"])
def test_cached_keys_and_values_equal_the_published_code(published, mode):
    arrays, model, forward = published
    prompt = arrays[f"out/{mode}/prompt_embeds"]
    tokens, mask = arrays["in/context_input_ids"], arrays["in/context_attention_mask"] > 0
    cache = language_model.init_cache(model.config, 4, 12)
    positions = np.broadcast_to(np.arange(12), (4, 12))
    inputs = (prompt[:, 0], prompt[:, 1])
    cache = forward(tokens, mask, inputs, cache=cache, positions=positions).cache
    for layer in range(2):
        for part, name, ours in ((0, "key", cache.keys), (1, "value", cache.values)):
            key = f"out/{mode}/past_{name}/{layer}"  # the prefix lies before the tokens
            whole = np.concatenate([prompt[layer, part], ours[layer]], axis=2)
            np.testing.assert_allclose(stored(key, whole), arrays[key], atol=1e-5)


def test_without_a_prompt_equals_the_published_code(published):
    arrays, model, forward = published
    tokens, mask = arrays["in/context_input_ids"], arrays["in/context_attention_mask"] > 0
    positions = np.broadcast_to(np.arange(12), (4, 12))
    hidden = forward(tokens, mask, positions=positions).hidden
    last = language_model.logits(tied(arrays), hidden[np.arange(4), mask.sum(axis=1) - 1])
    np.testing.assert_allclose(last, arrays["out/lm_noprompt/lm_logits_last"], atol=2e-5)
    logits = np.asarray(language_model.logits(tied(arrays), hidden))
    losses = -jax.nn.log_softmax(logits[:, :-1])[np.arange(4)[:, None], np.arange(11), tokens[:, 1:]]
    loss = np.sum(losses * mask[:, 1:]) / np.sum(mask[:, 1:])
    assert loss == pytest.approx(float(arrays["out/lm_noprompt/conv_loss"]), abs=1e-5)


@pytest.mark.parametrize("prompted", [False, True])
def test_greedy_decoding_over_left_padding_equals_the_published_code(published, prompted):
    arrays, model, forward = published
    prompt = arrays["out/conv/prompt_embeds"]
    prefix = (prompt[:, 0], prompt[:, 1]) if prompted else None
    cache = language_model.init_cache(model.config, 4, 32)
    output = forward(arrays["gen/input_ids"], arrays["gen/attention_mask"] > 0, prefix, cache=cache)
    new = []
    for _ in range(20):
        new.append(jnp.argmax(language_model.logits(tied(arrays), output.hidden[:, -1]), axis=-1))
        output = forward(new[-1][:, None], jnp.ones((4, 1), bool), prefix, cache=output.cache)
    name = "conv_prompt" if prompted else "noprompt"
    np.testing.assert_array_equal(np.stack(new, axis=1), arrays[f"gen/{name}/ngram0"])


def test_more_tokens_than_positions_are_refused():
    config = gpt2.Gpt2Config(9, 8, 1, 2, 8, positions=4)
    tokens = jnp.zeros((1, 5), jnp.int32)
    with pytest.raises(ValueError, match="5 tokens, but this model has 4 positions"):
        jax.eval_shape(gpt2.Gpt2(config).init, jax.random.key(0), tokens, tokens == 0)
    with pytest.raises(ValueError, match="width=8 must be a multiple of heads=3"):
        gpt2.Gpt2Config(9, 8, 1, 3, 8)
