"""What the stages `conversation` and `response` train of a language model: an adapter, the whole model, or nothing."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import lora
from ecr_jax.models.lm.language_model import Params, unstack
from ecr_jax.pretrained import starting_adapters
from ecr_jax.pretrained.language_models import Pretrained

Tune = Literal["adapter", "model", "nothing"]


def initial(key: jax.Array, model: Pretrained, tune: Tune, adapter: LoraConfig) -> Params:
    """The parameters that training begins with: a new "adapter", the whole "language_model", or none."""
    if tune == "adapter":
        return {"adapter": lora.init(key, model.params, adapter)}
    return {"language_model": model.params} if tune == "model" else {}


def begun_with(params: Params, name: str | None, stage: str, base: str, adapter: LoraConfig) -> Params:
    """The initial parameters with those of a starting adapter in place of new ones.

    Args:
      params: of a stage, from `initial` and what it trains beside.
      name: of the starting adapter; None changes nothing.
      stage: the stage's name.
      base: name of the language model.
      adapter: the adapter's settings.

    Raises:
      ValueError: see `starting_adapters.load`; a part of another shape.
    """
    if name is None:
        return params
    learned = starting_adapters.load(name, stage, base, adapter).params
    begun = {part: value for part, value in learned.items() if part in params}
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (begun, {part: params[part] for part in begun})]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"the adapter {name!r} does not fit the language model of {stage!r}: with all of its layers, and the "
            "adapter's settings as they were, it would"
        )
    return params | jax.tree.map(jnp.asarray, begun)


def variables(params: Params, frozen: Params, adapter: LoraConfig, *, for_inference: bool = False) -> Params:
    """The variables of the language model: its base, the trained rows of added tokens, and the adapter.

    Args:
      params: the trained parameters: "language_model" or "adapter", and "movie" with `rows`, as far as they are there.
      frozen: with "language_model", the base, where it is not trained.
      adapter: the adapter's settings.
      for_inference: merge the adapter into the base where possible, and take the layers apart on a CPU.
    """
    base = params["language_model"] if "language_model" in params else frozen["language_model"]
    if "movie" in params:
        rows = params["movie"]["rows"]
        vocabulary = base["embed"]["embedding"].shape[0]
        base = lora.with_rows(base, jnp.arange(vocabulary - rows.shape[0], vocabulary), rows)
    if not for_inference:
        return lora.variables(base, params["adapter"], adapter) if "adapter" in params else {"params": base}
    whole = lora.for_inference(base, params["adapter"], adapter) if "adapter" in params else {"params": base}
    # One by one, layers cost compile time, and save slicing their weights out of the stack at every step.
    return {name: unstack(tree) for name, tree in whole.items()} if jax.default_backend() == "cpu" else whole
