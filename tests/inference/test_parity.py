"""Decoding equal to transformers on torch: greedy, with processors, what sampling keeps; padded on the left."""

from __future__ import annotations

import types

import jax
import numpy as np
import pytest

from ecr_jax.inference.decoding import Decoding, generate, pad_left
from ecr_jax.inference.sampling import restrict, truncate
from ecr_jax.models.lm import convert

pytestmark = pytest.mark.parity

VOCAB, NEW = 40, 12
# Tokens that the random models like, so that replies end early.
ENDS = {"gpt2": 3, "llama": 20}
PROMPTS = [[1, 2, 3, 4, 5, 6], [8, 9, 8, 9], [10], [11, 12, 13]]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def both(request):
    """The same random weights in torch and here."""
    end = ENDS[request.param]
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    if request.param == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=end, eos_token_id=end
        )
        theirs = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.LlamaConfig(
            vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=24, max_position_embeddings=64, bos_token_id=end, eos_token_id=end,
        )  # fmt: skip
        theirs = transformers.LlamaForCausalLM(config)
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for weights in theirs.parameters():
            weights.copy_(torch.from_numpy(rng.normal(0, 0.5, tuple(weights.shape)).astype(np.float32)))
    ours = convert.config_from_hf(theirs.config.to_dict())
    weights = {name: value.numpy() for name, value in theirs.state_dict().items()}
    variables = {"params": convert.from_hf(weights, ours)}
    return types.SimpleNamespace(
        torch=torch, end=end, theirs=theirs.eval(), module=convert.module_of(ours)(ours), variables=variables
    )


def generated(both, **settings):
    """What transformers generates, int [rows, NEW], the end token behind ends; and the sequences' scores, if any."""
    tokens, mask = pad_left(PROMPTS, 6)
    out = both.theirs.generate(
        both.torch.from_numpy(tokens).long(), attention_mask=both.torch.from_numpy(mask).long(), max_new_tokens=NEW,
        pad_token_id=both.end, return_dict_in_generate=True, output_scores=True, **settings,
    )  # fmt: skip
    new = out.sequences[:, 6:].numpy()
    new = np.pad(new, ((0, 0), (0, NEW - new.shape[1])), constant_values=both.end)
    return new, getattr(out, "sequences_scores", None)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (dict(), dict()),
        (dict(no_repeat_ngram_size=2), dict(no_repeat_ngram=2, count_prompt_ngrams=True)),
        (dict(repetition_penalty=1.4, min_new_tokens=5), dict(repetition_penalty=1.4, min_new=5)),
        (dict(repetition_penalty=0.7, no_repeat_ngram_size=3),
         dict(repetition_penalty=0.7, no_repeat_ngram=3, count_prompt_ngrams=True)),
    ],
)  # fmt: skip
def test_greedy(both, theirs, ours):
    expected, _ = generated(both, do_sample=False, **theirs)
    decoding = Decoding(max_new=NEW, **ours)
    actual = generate(both.module, both.variables, *pad_left(PROMPTS, 6), decoding=decoding, end=both.end)
    np.testing.assert_array_equal(actual.tokens, expected)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (dict(temperature=0.7), dict()),
        (dict(top_k=5), dict()),
        (dict(top_p=0.8), dict()),
        (dict(min_p=0.1), dict()),
        (dict(temperature=1.5, top_k=12, top_p=0.9, min_p=0.05), dict()),
        (dict(repetition_penalty=1.5, temperature=0.9, top_p=0.7), dict()),
        (
            dict(no_repeat_ngram_size=2, min_new_tokens=9, top_k=20),
            dict(no_repeat_ngram=2, count_prompt_ngrams=True, min_new=9),
        ),
    ],
)
def test_what_is_sampled_from(both, theirs, ours):
    """The distribution of the next token after random texts of 9 tokens, 4 of them new."""
    torch = both.torch
    rng = np.random.default_rng(2)
    scores = rng.normal(0, 3, (6, VOCAB)).astype(np.float32)
    tokens = rng.integers(8, 14, (6, 9)).astype(np.int32)
    start = np.array([0, 1, 2, 3, 4, 4], np.int32)
    tokens[np.arange(9) < start[:, None]] = 1  # padding, which no text holds
    config = both.theirs.generation_config.__class__(
        do_sample=True, eos_token_id=both.end, pad_token_id=both.end, **{"top_k": None, "max_new_tokens": NEW, **theirs}
    )
    both.theirs._prepare_special_tokens(config, True, device="cpu")
    mask = torch.from_numpy((np.arange(9) >= start[:, None]).astype(np.int64))
    processors = both.theirs._get_logits_processor(
        generation_config=config, input_ids_seq_length=5, device="cpu", model_kwargs={"attention_mask": mask}
    )
    assert len(processors) >= len(theirs)
    expected = processors(torch.from_numpy(tokens).long(), torch.from_numpy(scores.copy())).softmax(-1).numpy()

    shared = {name: theirs[name] for name in ("top_k", "top_p", "min_p", "repetition_penalty") if name in theirs}
    decoding = Decoding(max_new=NEW, temperature=theirs.get("temperature", 1.0), **shared, **ours)
    rules = decoding.rules(np.array([both.end], np.int32), start, 5)
    room = np.concatenate([tokens, np.zeros((6, 3), np.int32)], axis=1)
    count = np.full(6, 4, np.int32)
    restricted = jax.jit(restrict, static_argnums=5)(scores, rules, room, np.int32(9), count, decoding.no_repeat_ngram)
    actual = np.asarray(jax.nn.softmax(jax.jit(truncate)(restricted, rules)))
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    np.testing.assert_array_equal(actual > 0, expected > 0)
