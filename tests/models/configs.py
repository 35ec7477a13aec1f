"""Small recommenders of each preset, which the tests of the models share."""

from __future__ import annotations

import dataclasses
from typing import Any

from ecr_jax.config import presets
from ecr_jax.models.hyperparameters import HeadsConfig, PromptConfig
from ecr_jax.models.prompt import PromptSizes

SIZES = PromptSizes(entities=11, relations=3, width=16, layers=3, kv_heads=2, head_dim=4, token_width=6)

PROMPTS = {
    "improved": presets.improved_prompt,
    "summed": presets.improved_prompt,
    "paper": presets.paper_prompt,
    "code": presets.code_prompt,
}
HEADS = {"improved": presets.improved_heads, "summed": presets.summed_heads, "code": presets.published_heads}


def prompt_config(preset: str = "improved", **fields: Any) -> PromptConfig:
    """A small prompt of a preset; `fields` win."""
    small = dict(emotion_width=4, bases=2, recommendation_prefix=2, conversation_prefix=3)
    return dataclasses.replace(PROMPTS[preset](SIZES.width), **{**small, **fields})


def heads_config(preset: str = "improved", **fields: Any) -> HeadsConfig:
    """The heads of a preset; `fields` win."""
    return dataclasses.replace(HEADS[preset](), **fields)
