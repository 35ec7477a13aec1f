"""Sharding rules of a language model: which logical axes its parameters and adapters have, and where each may be split.

`training.sharding` turns these rules into shardings for a mesh and a strategy; nothing here depends on it.
"""

from __future__ import annotations

from ecr_jax.models.lm import bert, gpt2, llama, lora
from ecr_jax.models.lm.convert import LanguageConfig

Axis = str | tuple[str, int] | None
"""A logical axis; or (axis, units): one that is split between whole units only, such as 576 features in 9 heads."""

Rules = tuple[tuple[str, tuple[Axis, ...]], ...]
"""(regular expression of parameter paths, logical axes of the arrays there) pairs; the first match counts."""


def language_model_rules(config: LanguageConfig, under: str = "") -> Rules:
    """The rules of a language model's parameters, whole or quantised, and of its adapters.

    Args:
      config: decides the family, and into how many whole heads attention may be split.
      under: regular expression of where they lie in the tree, such as "language_model|adapter"; "" for the tree itself.
    """
    family = {llama.LlamaConfig: llama, gpt2.Gpt2Config: gpt2, bert.BertConfig: bert}[type(config)]
    units = {"heads": config.heads, "kv_heads": getattr(config, "kv_heads", config.heads)}

    def in_units(axis: str | None) -> Axis:
        return (axis, units[axis]) if axis in units else axis

    parent = f"(?:{under})/" if under else ""
    return tuple(
        (f"^{parent}(?:{pattern})$", tuple(in_units(axis) for axis in axes))
        for pattern, axes in (*family.SHARDING_RULES, *lora.SHARDING_RULES)
    )
