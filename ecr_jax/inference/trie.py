"""Choosing one of a closed set of outputs by a language model: decoding inside a trie of token ids.

At each step only the tokens that lead to an allowed output are scored, so an output outside the set is impossible. The
probability of an output is exact: the product over its tokens of the softmax among the tokens that are possible at each
place. A token without an alternative has probability 1, and the probabilities of all allowed outputs sum to 1.

`sample` draws, `log_probs_of` scores given outputs with gradients; both read each prompt once, and the same
distribution. All are pure functions with static shapes: B rows, T tokens of a prompt, N outputs, K tokens of the
longest one, S states of the trie, A most tokens that are possible in one state.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ecr_jax.inference.decoding import repeated_cache
from ecr_jax.models.lm.language_model import Cache, Params, head, init_cache

_IMPOSSIBLE = -1e30
"""The score of a token that no allowed output has at its place; finite, so that no gradient is NaN."""


class Trie(NamedTuple):
    """A closed set of outputs as a trie.

    Attributes:
      tokens: int32 [S, A], the tokens that are possible in each state; -1 where there are fewer.
      following: int32 [S, A], the state after each.
      reaches: bool [S, A, N], the outputs that pass through each.
      states: int32 [N, K], the state before each token of an output.
      branches: int32 [N, K], the place of that token among those of the state.
      lengths: int32 [N], tokens of each output, the end token included.
      outputs: int32 [S], the output that is complete in a state; -1 where none is.
    """

    tokens: ArrayLike
    following: ArrayLike
    reaches: ArrayLike
    states: ArrayLike
    branches: ArrayLike
    lengths: ArrayLike
    outputs: ArrayLike


class Prompts(NamedTuple):
    """What the outputs are chosen after.

    Attributes:
      tokens: int [B, T], each row with at least one real token.
      mask: bool [B, T], False for padding, on either side.
      allowed: bool [B, N], the outputs that each row may have, at least one; a row that allows none has no meaning.
    """

    tokens: ArrayLike
    mask: ArrayLike
    allowed: ArrayLike


class Sampled(NamedTuple):
    """Chosen outputs.

    Attributes:
      outputs: int32 [B].
      log_probs: float32 [B], natural logarithm of the probability of each.
    """

    outputs: jax.Array
    log_probs: jax.Array


class TokenLogProbs(NamedTuple):
    """The log-probabilities of an output's tokens.

    Attributes:
      log_probs: float32 [B, K]; 0 for a token without an alternative, and after the output's end.
      where: bool [B, K], the tokens of the output.
    """

    log_probs: jax.Array
    where: jax.Array


def build(outputs: Sequence[Sequence[int]], end: int) -> Trie:
    """The trie of a set of outputs.

    Args:
      outputs: token ids of each of N outputs, without the end token.
      end: id of the token that ends an output, so that one may begin another.

    Raises:
      ValueError: no outputs, two that are equal, or one with the end token in it.
    """
    if not outputs:
        raise ValueError("a set of outputs needs at least one")
    children: list[dict[int, int]] = [{}]
    complete: dict[int, int] = {}
    walks = []
    for number, output in enumerate(outputs):
        if end in output:
            raise ValueError(f"output {number} holds the end token {end}")
        state, walk = 0, []
        for token in (*map(int, output), end):
            walk.append((state, token))
            if token not in children[state]:
                children[state][token] = len(children)
                children.append({})
            state = children[state][token]
        if state in complete:
            raise ValueError(f"outputs {complete[state]} and {number} are equal: {list(output)}")
        complete[state] = number
        walks.append(walk)
    states, most, longest = len(children), max(map(len, children)), max(map(len, walks))
    tokens, following = np.full((states, most), -1, np.int32), np.zeros((states, most), np.int32)
    for state, branches in enumerate(children):
        for place, (token, after) in enumerate(branches.items()):
            tokens[state, place], following[state, place] = token, after
    reaches = np.zeros((states, most, len(outputs)), bool)
    path_states, path_branches = (np.zeros((len(outputs), longest), np.int32) for _ in range(2))
    for number, walk in enumerate(walks):
        for step, (state, token) in enumerate(walk):
            place = list(children[state]).index(token)
            path_states[number, step], path_branches[number, step] = state, place
            reaches[state, place, number] = True
    return Trie(
        tokens,
        following,
        reaches,
        path_states,
        path_branches,
        np.asarray([len(walk) for walk in walks], np.int32),
        np.asarray([complete.get(state, -1) for state in range(states)], np.int32),
    )


def _branch_log_probs(table: jax.Array, hidden: jax.Array, tokens: jax.Array, possible: jax.Array) -> jax.Array:
    """Log-probabilities [..., A] of the possible tokens, from output embeddings [V, D] and states [..., D]."""
    rows = table[jnp.maximum(tokens, 0)].astype(hidden.dtype)  # [..., A, D]
    scores = jnp.einsum("...d,...ad->...a", hidden, rows, preferred_element_type=jnp.float32)
    return jax.nn.log_softmax(jnp.where(possible, scores, _IMPOSSIBLE))


def _possible(trie: Trie, states: jax.Array, allowed: jax.Array) -> jax.Array:
    """Which tokens of states [B, ...] lead to an allowed output [B, N]: bool [B, ..., A]."""
    reaches = jnp.asarray(trie.reaches)[states]  # [B, ..., A, N]
    return jnp.any(reaches & allowed.reshape(len(allowed), *(1,) * (reaches.ndim - 2), -1), axis=-1)


def _last_real(mask: jax.Array) -> jax.Array:
    """The column of each row's last real token: int32 [B]."""
    return jnp.max(jnp.where(mask, jnp.arange(mask.shape[1]), 0), axis=1)


def _read(
    module: Any, variables: Params, trie: Trie, prompts: Prompts, rngs: dict[str, jax.Array] | None = None
) -> tuple[jax.Array, Cache]:
    """Reads the prompts; returns the state after each [B, D], and a cache with room for the longest output."""
    mask = jnp.asarray(prompts.mask, bool)
    room = mask.shape[1] + np.shape(trie.states)[1]
    cache = init_cache(module.config, mask.shape[0], room, module.dtype, params=variables["params"])
    out = module.apply(variables, jnp.asarray(prompts.tokens), mask, cache=cache, rngs=rngs)
    return out.hidden[jnp.arange(mask.shape[0]), _last_real(mask)], out.cache


@functools.partial(jax.jit, static_argnames=("module", "copies"))
def sample(
    module: nn.Module,
    variables: Params,
    trie: Trie,
    prompts: Prompts,
    key: jax.Array | None = None,
    *,
    copies: int = 1,
) -> Sampled:
    """Draws an output for each row, or takes the most probable token at each place.

    Args:
      module: a causal language model.
      variables: {"params": ...} and, where there is an adapter, "lora".
      trie: the set of outputs.
      prompts: B rows.
      key: one key, or one for each of the B * copies rows; a row's draw follows from its own key alone, and with one
        key from its place. None takes the most probable token.
      copies: outputs drawn for each row, one after another; its prompt is read once.

    Returns:
      `Sampled` of B * copies rows.
    """
    hidden, cache = _read(module, variables, trie, prompts)
    hidden, cache = jnp.repeat(hidden, copies, axis=0), repeated_cache(cache, copies)
    allowed = jnp.repeat(jnp.asarray(prompts.allowed, bool), copies, axis=0)
    tokens, following, complete = (jnp.asarray(part) for part in (trie.tokens, trie.following, trie.outputs))
    table, rows = head(variables["params"]), jnp.arange(len(hidden))
    keys = None if key is None else (key if key.ndim else jax.random.split(key, len(hidden)))

    def choose(hidden, state, total, step):
        log_probs = _branch_log_probs(table, hidden, tokens[state], _possible(trie, state, allowed))
        if keys is None:
            branch = jnp.argmax(log_probs, axis=-1)
        else:
            folded = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
            branch = jax.vmap(jax.random.categorical)(folded, log_probs)
        done = complete[state] >= 0
        total = total + jnp.where(done, 0.0, log_probs[rows, branch])
        return tokens[state, branch], jnp.where(done, state, following[state, branch]), total

    def unfinished(carry):
        return ~jnp.all(complete[carry[2]] >= 0)

    def advance(carry):
        cache, token, state, total, step = carry
        running = (complete[state] < 0)[:, None]
        out = module.apply(variables, jnp.where(running, token[:, None], 0), running, cache=cache)
        token, state, total = choose(out.hidden[:, -1], state, total, step)
        return out.cache, token, state, total, step + 1

    start = jnp.zeros(len(hidden), jnp.int32)
    token, state, total = choose(hidden, start, jnp.zeros(len(hidden), jnp.float32), jnp.int32(0))
    _, _, state, total, _ = jax.lax.while_loop(unfinished, advance, (cache, token, state, total, jnp.int32(1)))
    return Sampled(complete[state], total)


def token_log_probs(
    module: Any,
    variables: Params,
    trie: Trie,
    prompts: Prompts,
    outputs: ArrayLike,
    *,
    key: jax.Array | None = None,
    copies: int = 1,
) -> TokenLogProbs:
    """Scores given outputs behind their prompts; differentiable in `variables`.

    Args:
      module, variables, trie, prompts: as of `sample`.
      outputs: int [B * copies], allowed outputs; the log-probability of another one is about -1e30.
      key: of the adapter's dropout; None turns it off.
      copies: outputs of each prompt, one after another; it is read once, and so is its gradient.
    """
    outputs = jnp.asarray(outputs)
    states, branches = jnp.asarray(trie.states)[outputs], jnp.asarray(trie.branches)[outputs]  # [B, K]
    path = jnp.maximum(jnp.asarray(trie.tokens)[states, branches], 0)
    where = jnp.arange(path.shape[1]) < jnp.asarray(trie.lengths)[outputs][:, None]
    of_prompt, of_output = (None, None) if key is None else ({"dropout": each} for each in jax.random.split(key))
    last, cache = _read(module, variables, trie, prompts, of_prompt)
    # What follows the last token is not needed, so the end token of the longest output is not read.
    read = module.apply(
        variables, path[:, :-1], where[:, 1:], cache=repeated_cache(cache, copies), rngs=of_output
    ).hidden
    hidden = jnp.concatenate([jnp.repeat(last, copies, axis=0)[:, None], read], axis=1)  # [B, K, D]
    possible = _possible(trie, states, jnp.repeat(jnp.asarray(prompts.allowed, bool), copies, axis=0))
    log_probs = _branch_log_probs(head(variables["params"]), hidden, jnp.asarray(trie.tokens)[states], possible)
    chosen = jnp.take_along_axis(log_probs, branches[..., None], axis=-1)[..., 0]
    return TokenLogProbs(jnp.where(where, chosen, 0.0), where)


def log_probs_of(
    module: Any,
    variables: Params,
    trie: Trie,
    prompts: Prompts,
    outputs: ArrayLike,
    *,
    key: jax.Array | None = None,
) -> jax.Array:
    """The log-probability of a given output of each row, float32 [B]; arguments as of `token_log_probs`."""
    return token_log_probs(module, variables, trie, prompts, outputs, key=key).log_probs.sum(axis=1)


@functools.partial(jax.jit, static_argnames=("module",))
def all_log_probs(module: nn.Module, variables: Params, trie: Trie, prompts: Prompts) -> jax.Array:
    """The log-probability of every output: float32 [B, N], about -1e30 for those that are not allowed.

    Each prompt is read once; N continuations of it are scored in one pass.
    """
    allowed = jnp.asarray(prompts.allowed, bool)
    rows, count = allowed.shape
    scored = token_log_probs(module, variables, trie, prompts, jnp.tile(jnp.arange(count), rows), copies=count)
    return jnp.where(allowed, scored.log_probs.sum(axis=1).reshape(rows, count), _IMPOSSIBLE)
