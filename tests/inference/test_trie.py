"""Decoding inside a trie: exact probabilities, by brute force and by the trainer's forward pass; nothing malformed."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.inference import trie
from ecr_jax.inference.decoding import pad_left
from ecr_jax.inference.trie import Prompts, all_log_probs, build, log_probs_of, sample
from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import lora
from ecr_jax.models.lm.language_model import logits, unstack
from tests import tiny

VOCAB, END = 12, 11
MODEL = tiny.random_model(tiny.llama(VOCAB, layers=2), scale=0.6)
VARIABLES = {"params": MODEL.params}
OUTPUTS = [[1], [1, 2], [1, 2, 3], [4, 5, 6, 7], [4, 5, 8], [9, 10]]  # one begins another; 4 5 is forced after 4
TRIE = build(OUTPUTS, END)
TEXTS = [[1, 2, 3, 4, 5], [6, 7], [8]]
EVERY = np.ones((3, len(OUTPUTS)), bool)
SOME = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]], bool)


def prompts(allowed=EVERY, width=6, side="left"):
    tokens, mask = pad_left(TEXTS, width)
    if side == "right":
        tokens, mask = (
            np.stack([np.roll(row, len(text) - width) for row, text in zip(part, TEXTS, strict=True)])
            for part in (tokens, mask)
        )
    return Prompts(tokens, mask, allowed)


LONGEST = 12
forward = jax.jit(lambda tokens, mask: logits(MODEL.params, MODEL.module.apply(VARIABLES, tokens, mask).hidden))
token_log_probs = jax.jit(functools.partial(trie.token_log_probs, MODEL.module))
COPIES = 4000


@functools.cache
def next_scores(text):
    tokens = np.zeros((1, LONGEST), np.int32)
    tokens[0, : len(text)] = text
    return np.asarray(forward(tokens, np.arange(LONGEST)[None] < len(text))[0, len(text) - 1])


def brute_force(text, allowed):
    """The probability of each output: at each place the softmax among the tokens that may still follow."""
    sequences = [tuple((*output, END)) for output in OUTPUTS]
    probabilities = np.zeros(len(OUTPUTS))
    for number, sequence in enumerate(sequences):
        if not allowed[number]:
            continue
        probability = 1.0
        for place, token in enumerate(sequence):
            possible = {
                other[place]
                for index, other in enumerate(sequences)
                if allowed[index] and len(other) > place and other[:place] == sequence[:place]
            }
            scores = next_scores((*text, *sequence[:place]))
            mass = {candidate: np.exp(scores[candidate]) for candidate in possible}
            probability *= mass[token] / sum(mass.values())
        probabilities[number] = probability
    return probabilities


@pytest.mark.parametrize("allowed", (EVERY, SOME), ids=("all", "some"))
@pytest.mark.parametrize("side", ("left", "right"))
def test_probabilities_are_those_of_brute_force_and_sum_to_one(allowed, side):
    expected = np.stack([brute_force(tuple(text), row) for text, row in zip(TEXTS, allowed, strict=True)])
    found = np.exp(np.asarray(all_log_probs(MODEL.module, VARIABLES, TRIE, prompts(allowed, side=side))))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("allowed", (EVERY, SOME), ids=("all", "some"))
@pytest.mark.parametrize("side", ("left", "right"))
def test_the_trainer_scores_every_output_as_the_decoder_does(allowed, side):
    given = prompts(allowed, side=side)
    decoded = np.asarray(all_log_probs(MODEL.module, VARIABLES, TRIE, given))
    repeated = Prompts(*(np.repeat(part, len(OUTPUTS), axis=0) for part in given))
    scored = token_log_probs(VARIABLES, TRIE, repeated, np.tile(np.arange(len(OUTPUTS)), 3))
    total = np.asarray(scored.log_probs).sum(axis=1).reshape(3, -1)
    np.testing.assert_allclose(total[allowed], decoded[allowed], atol=1e-5)
    assert (total[~allowed] < -1e29).all() and (decoded[~allowed] < -1e29).all()


@pytest.mark.slow
def test_layers_apart_give_the_same():
    apart = {"params": unstack(MODEL.params)}
    whole = all_log_probs(MODEL.module, VARIABLES, TRIE, prompts())
    np.testing.assert_allclose(all_log_probs(MODEL.module, apart, TRIE, prompts()), whole, atol=1e-5)


def test_draws_are_as_frequent_as_their_probabilities_and_none_is_malformed():
    drawn = sample(MODEL.module, VARIABLES, TRIE, prompts(SOME), jax.random.key(0), copies=COPIES)
    outputs = np.asarray(drawn.outputs).reshape(3, -1)
    log_probs = np.asarray(all_log_probs(MODEL.module, VARIABLES, TRIE, prompts(SOME)))
    expected = np.exp(log_probs)
    np.testing.assert_allclose(drawn.log_probs, np.take_along_axis(log_probs, outputs, axis=1).ravel(), atol=1e-5)
    assert all(allowed[row].all() for allowed, row in zip(SOME, outputs, strict=True))
    frequencies = np.stack([np.bincount(row, minlength=len(OUTPUTS)) for row in outputs]) / COPIES
    assert (np.abs(frequencies - expected) <= 4.5 * np.sqrt(expected * (1 - expected) / COPIES) + 1e-9).all()


def test_draws_compile_once_and_follow_the_key():
    args = (MODEL.module, VARIABLES, TRIE)
    one, again, other = (sample(*args, prompts(), jax.random.key(k), copies=COPIES).outputs for k in (1, 1, 2))
    assert (one == again).all() and (one != other).any()
    before = sample._cache_size()
    sample(*args, prompts(side="right"), jax.random.key(3), copies=COPIES)
    assert sample._cache_size() == before


def test_without_a_key_the_most_probable_token_is_taken_at_each_place():
    chosen = sample(MODEL.module, VARIABLES, TRIE, prompts())
    for text, output in zip(TEXTS, np.asarray(chosen.outputs), strict=True):
        walked, possible = [], [(*output, END) for output in OUTPUTS]
        while len(possible) > 1:
            scores = next_scores((*text, *walked))
            walked.append(max({sequence[len(walked)] for sequence in possible}, key=lambda token: scores[token]))
            possible = [sequence for sequence in possible if sequence[: len(walked)] == tuple(walked)]
        assert possible == [(*OUTPUTS[output], END)]


def test_a_row_depends_on_its_own_prompt_and_key_alone():
    keys, order = jax.random.split(jax.random.key(5), 3), np.array([2, 0, 1])
    given = prompts()
    together = sample(MODEL.module, VARIABLES, TRIE, given, keys)
    moved = sample(MODEL.module, VARIABLES, TRIE, Prompts(*(part[order] for part in given)), keys[order])
    assert (together.outputs[order] == moved.outputs).all()
    np.testing.assert_allclose(together.log_probs[order], moved.log_probs, atol=1e-6)


def test_only_tokens_of_the_output_count_and_forced_ones_are_certain():
    repeated = Prompts(*(np.repeat(part, len(OUTPUTS), axis=0) for part in prompts()))
    scored = token_log_probs(VARIABLES, TRIE, repeated, np.tile(np.arange(len(OUTPUTS)), 3))
    where, values = np.asarray(scored.where), np.asarray(scored.log_probs)
    assert where.sum(axis=1).tolist() == [2, 3, 4, 5, 4, 3] * 3  # the end token counts
    assert (values[~where] == 0).all()
    np.testing.assert_allclose(values[3, [1, 3, 4]], 0, atol=1e-6)  # 5 after 4, 7 after 6, the end after 7
    assert values[3, 0] < 0 and values[3, 2] < 0 and values[0, 1] < 0  # ending after 1 is a choice


@pytest.mark.slow
def test_gradients_are_those_of_the_closed_softmax():
    """The gradients of the probabilities of all outputs sum to zero, and one step raises the chosen one."""
    settings = LoraConfig(rank=2)
    adapter = lora.init(jax.random.key(0), MODEL.params, settings)
    given = Prompts(*(part[:1] for part in prompts()))
    repeated = Prompts(*(np.repeat(part, len(OUTPUTS), axis=0) for part in given))

    @jax.jit
    def weighted(adapter, weights):
        variables = lora.variables(MODEL.params, adapter, settings)
        return jnp.exp(log_probs_of(MODEL.module, variables, TRIE, repeated, np.arange(len(OUTPUTS)))) @ weights

    gradient, fifth = jax.jit(jax.grad(weighted)), np.eye(len(OUTPUTS))[4]
    total = gradient(adapter, np.ones(len(OUTPUTS)))
    assert max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(total)) < 1e-5
    stepped = jax.tree.map(lambda leaf, grad: leaf + grad, adapter, gradient(adapter, fifth))
    assert weighted(stepped, fifth) > weighted(adapter, fifth)


@pytest.mark.parametrize(
    ("outputs", "message"),
    (([], "at least one"), ([[1], [1]], "outputs 0 and 1 are equal"), ([[1, END]], "end token")),
)
def test_impossible_sets_are_refused(outputs, message):
    with pytest.raises(ValueError, match=message):
        build(outputs, END)
