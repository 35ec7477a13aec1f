"""Our side of the comparison with transformers: logits, states after each layer, and the gradients of a loss.

The loss of a decoder is the mean cross-entropy of the next token, over pairs of real tokens; that of an encoder the
mean over real tokens of the state's product with cos(0, 1, 2, ...).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.models.lm import convert, language_model
from ecr_jax.models.lm.bert import BertConfig

TOLERANCE = 1e-5
# Each program runs once: optimising it would cost more than it saves.
QUICK = {"xla_backend_optimization_level": 0}


def gap(ours, theirs, scale=None):
    """The largest difference, relative to the largest expected number, or to `scale` where one is given."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / (np.abs(theirs).max() if scale is None else scale)


def pad(rows, side, width, filler=1):
    """Tokens int32 and mask bool [B, width], padded on a side."""
    tokens, mask = np.full((len(rows), width), filler, np.int32), np.zeros((len(rows), width), bool)
    for i, row in enumerate(rows):
        at = slice(width - len(row), None) if side == "left" else slice(len(row))
        tokens[i, at], mask[i, at] = row, True
    return tokens, mask


def positions(mask, start=0):
    """Positions [B, T] counted over real tokens."""
    return (np.maximum(np.cumsum(mask, axis=1) - 1, 0) + start).astype(np.int32)


def decoder(config) -> bool:
    return not isinstance(config, BertConfig)


def sample(gradient):
    """What golden arrays hold of a gradient: its norm, its largest number, and 22 numbers at even distances."""
    flat = np.asarray(gradient, np.float64).ravel()
    some = flat[np.linspace(0, len(flat) - 1, 22).astype(int)]
    return np.array([np.sqrt(np.sum(flat**2)), np.abs(flat).max(), *some], np.float32)


class Ours:
    """A model's functions, each compiled once for a shape of the batch."""

    def __init__(self, model):
        self.model = model
        self._whole = jax.jit(jax.value_and_grad(self._loss, has_aux=True), compiler_options=QUICK)
        self._forward = jax.jit(self._states, static_argnames="layers", compiler_options=QUICK)

    def _states(self, params, batch, layers):
        config = self.model.config
        module = self.model.module.clone(config=dataclasses.replace(config, layers=layers))
        lower = params | {"layers": jax.tree.map(lambda leaf: leaf[:layers], params["layers"])}
        return module.apply({"params": lower}, **batch).hidden

    def _loss(self, params, batch):
        hidden, mask = self._states(params, batch, self.model.config.layers), batch["mask"]
        if not decoder(self.model.config):
            products = hidden @ jnp.cos(jnp.arange(hidden.shape[-1], dtype=jnp.float32))
            return (products * mask).sum() / mask.sum(), (hidden, hidden)
        logits = language_model.logits(params, hidden)
        pairs = mask[:, 1:] & mask[:, :-1]
        log_probabilities = jax.nn.log_softmax(logits[:, :-1])
        losses = -jnp.take_along_axis(log_probabilities, batch["tokens"][:, 1:, None], axis=-1)[..., 0]
        return (losses * pairs).sum() / pairs.sum(), (hidden, logits)

    def scores(self, batch):
        """Logits of a decoder, states of an encoder; only the forward pass is compiled."""
        with jax.default_matmul_precision("highest"):
            hidden = self._forward(self.model.params, batch, self.model.config.layers)
            return language_model.logits(self.model.params, hidden) if decoder(self.model.config) else hidden

    def read(self, batch):
        """loss, logits (states of an encoder) and hidden [B, T, ...], states [L - 1, B, T, D], gradients by name."""
        with jax.default_matmul_precision("highest"):
            (loss, (hidden, logits)), gradients = self._whole(self.model.params, batch)
            states = [self._forward(self.model.params, batch, k) for k in range(1, self.model.config.layers)]
        gradients = convert.to_hf(gradients, self.model.config)
        return {"loss": loss, "logits": logits, "hidden": hidden, "states": np.array(states), "gradients": gradients}


def assert_equal(ours, theirs, mask, tolerance=TOLERANCE):
    """Scores, states of every layer and every gradient are within `tolerance` of the largest number among them."""
    mask = np.asarray(mask)
    # A mean of numbers of about 1 of either sign, which may all but cancel.
    assert abs(ours["loss"] - theirs["loss"]) <= tolerance * max(abs(theirs["loss"]), 1)
    assert gap(np.asarray(ours["logits"])[mask], theirs["logits"][mask]) <= tolerance
    assert gap(np.asarray(ours["hidden"])[mask], theirs["hidden"][mask]) <= tolerance
    for layer, (one, other) in enumerate(zip(ours["states"], theirs["states"], strict=True), start=1):
        assert gap(one[mask], other[mask]) <= tolerance, f"layer {layer}"
    assert set(ours["gradients"]) == set(theirs["gradients"])
    for name, gradient in theirs["gradients"].items():
        assert gap(ours["gradients"][name], gradient, scale(name, theirs["gradients"])) <= tolerance, name


def scale(name, gradients):
    """The largest gradient of a tensor. A key's bias shifts all scores alike: its gradient is zero but for rounding."""
    return np.abs(gradients[name.replace("key.bias", "query.bias")]).max()
