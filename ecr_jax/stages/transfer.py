"""Parameters that a stage begins with from an earlier one: which are taken, which are new, which are left behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich

from ecr_jax.models.lm.convert import flatten
from ecr_jax.models.lm.language_model import Params


def transfer(new: Params, old: Params, source: str) -> Params:
    """`new` with the arrays of `old` at the same paths; prints in one line what only one of them has.

    Args:
      new: initial parameters of a stage.
      old: what an earlier stage learned.
      source: its name, for messages.

    Raises:
      ValueError: an array has another shape in both; the message lists all of them.
    """
    initial, learned = flatten(new), flatten(old)
    both = initial.keys() & learned.keys()
    shapes = {path: (np.shape(learned[path]), np.shape(initial[path])) for path in sorted(both)}
    different = [f"{path} {then} → {now}" for path, (then, now) in shapes.items() if then != now]
    if different:
        raise ValueError(
            f"what {source!r} learned does not fit, {source} → now: {'; '.join(different)}. Give `fusion.heads` the "
            f"sizes of `recommender.heads`; after a change of the language model, the corpus or the prompt train "
            f"{source!r} again"
        )
    apart = {"new": initial.keys() - both, "left behind": learned.keys() - both}
    parts = [f"{name}: {', '.join(_subtrees(paths, both))}" for name, paths in apart.items() if paths]
    rich.get_console().print(f"begins with {len(both)} arrays of {source}; {'; '.join(parts) or 'all there are'}")
    return _replaced(new, learned)


def _replaced(tree: Mapping[str, Any], leaves: Mapping[str, Any], parent: str = "") -> Params:
    """A tree with the leaves at some paths replaced."""
    return {
        name: _replaced(value, leaves, f"{parent}{name}/")
        if isinstance(value, Mapping)
        else leaves.get(parent + name, value)
        for name, value in tree.items()
    }


def _subtrees(paths: Iterable[str], others: Iterable[str]) -> list[str]:
    """The largest subtrees that hold some paths and none of the others, each as a path of its own."""
    shared = {"/".join(parts[:n]) for parts in (path.split("/") for path in others) for n in range(1, len(parts))}
    found = set()
    for path in paths:
        parts = path.split("/")
        prefixes = ("/".join(parts[:n]) for n in range(1, len(parts) + 1))
        found.add(next(prefix for prefix in prefixes if prefix not in shared))
    return sorted(found)


def with_key_value_layers(learned: Params, initial: Params, layer_width: int, shared: bool) -> Params:
    """A learned prompt encoder whose projection to keys and values has the layers of another language model.

    The projection has columns for each layer, the lowest first. A layer is the same one in both models if both consist
    of the lowest layers of one language model.

    Args:
      learned: parameters of a `PromptEncoder`.
      initial: initial parameters of the encoder that is to begin with them.
      layer_width: columns of one layer: 2 Hkv Dh.
      shared: if the numbers of layers differ, take the lowest layers that both have over; otherwise leave the whole
        projection out, so that it begins anew.

    Returns:
      `learned`, with `key_values` of the shape it has in `initial`, or without it.
    """
    if "key_values" not in learned or _bias_shape(learned) == _bias_shape(initial):
        return learned
    rest = {name: value for name, value in learned.items() if name != "key_values"}
    if not shared:
        return rest

    def lowest(old: jax.Array, fresh: jax.Array) -> jax.Array:
        old, layers = (jnp.asarray(x).reshape(*np.shape(x)[:-1], -1, layer_width) for x in (old, fresh))
        count = min(old.shape[-2], layers.shape[-2])
        return layers.at[..., :count, :].set(old[..., :count, :]).reshape(np.shape(fresh))

    return rest | {"key_values": jax.tree.map(lowest, learned["key_values"], initial["key_values"])}


def _bias_shape(encoder: Params) -> tuple[int, ...]:
    return np.shape(encoder["key_values"]["bias"])
