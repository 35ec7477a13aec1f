"""The fidelity presets, as functions that return complete values (`reference`: ECR 4 and its released code).

- `paper`: what the text of the paper says; where it is silent, what its code does.
- `code`: what the released code does, its missing masks included; for comparison only.
- `improved`: the corrections and additions of this project. The default of every config but `redial_paper`.

Each takes the hidden width D of the language model, from which the published widths follow (D / 2 for the RGCN, D / 16
for an emotion). Change single fields with `dataclasses.replace`.
"""

from __future__ import annotations

from ecr_jax.config.sections import RecommenderConfig
from ecr_jax.models.hyperparameters import HeadsConfig, LoraConfig, PromptConfig


def paper_prompt(width: int) -> PromptConfig:
    """The knowledge prompt of the paper (ECR 3.2, 4.2)."""
    return PromptConfig(
        entity_width=width // 2,
        emotion_width=width // 16,
        masked=True,
        cross_attention_exponent=1.0,
        emotion_table="direct",
        emotion_fusion="linear",
        node_init="glorot",
        normalise=False,
        prefix_scale=1.0,
        dropout=0.0,
    )


def code_prompt(width: int) -> PromptConfig:
    """The knowledge prompt of the released code."""
    return PromptConfig(
        entity_width=width // 2,
        emotion_width=width // 16,
        masked=False,
        cross_attention_exponent=1.0,
        emotion_table="tower",
        emotion_fusion="published",
        node_init="glorot",
        normalise=False,
        prefix_scale=1.0,
        dropout=0.0,
    )


def improved_prompt(width: int) -> PromptConfig:
    """The knowledge prompt with masks, scaled cross-attention, normalisation and a small initial prefix."""
    return PromptConfig(
        entity_width=width // 2,
        emotion_width=width // 16,
        masked=True,
        cross_attention_exponent=0.5,
        emotion_table="tower",
        emotion_fusion="residual",
        node_init="unit",
        normalise=True,
        prefix_scale=0.02,
        dropout=0.1,
    )


def published_heads() -> HeadsConfig:
    """The published score alone: the language model's last state times the entity table. Also UniCRS's."""
    return HeadsConfig(
        query="state",
        cooccurrence="none",
        two_hop=False,
        repetition="none",
        prior=False,
        mixture=False,
        feeling=False,
        like_probability=False,
    )


def summed_heads() -> HeadsConfig:
    """The scoring heads that are summed without a mixture: co-occurrence, popularity, two hops and repetition."""
    return HeadsConfig(cooccurrence="mass", prior=True, mixture=False, feeling=False)


def improved_heads() -> HeadsConfig:
    """The mixture head and those that correct it."""
    return HeadsConfig(
        query="pooled",
        cooccurrence="none",
        two_hop=True,
        repetition="score",
        prior=False,
        mixture=True,
        feeling=True,
        like_probability=True,
    )


def paper(width: int) -> RecommenderConfig:
    """The recommender of the paper for a language model of hidden width `width`."""
    return RecommenderConfig(
        prompt=paper_prompt(width),
        heads=published_heads(),
        prefix_visibility="all",
        entity_text=False,
        directional_cooccurrence=False,
    )


def code(width: int) -> RecommenderConfig:
    """The recommender of the released code for a language model of hidden width `width`."""
    return RecommenderConfig(
        prompt=code_prompt(width),
        heads=published_heads(),
        prefix_visibility="all",
        entity_text=False,
        directional_cooccurrence=True,
    )


def improved(width: int) -> RecommenderConfig:
    """The recommender of this project for a language model of hidden width `width`."""
    return RecommenderConfig(
        prompt=improved_prompt(width),
        heads=improved_heads(),
        prefix_visibility="last",
        entity_text=True,
        directional_cooccurrence=False,
        cooccurrence_power=0.5,
    )


HEAD_SCALARS = (
    r"head/((two_hop|cooccurrence|repetition|prior)/(scale|unit|relations|recency|kind|feeling/.*)"
    r"|correction|(gate|like_probability|mixture)/.*)"
)
"""Regular expression of the few scalars of the scoring heads, and of what is linear in frozen states.

Not those of the aversion head: few mentions are disliked, and their noisy gradients should not move it far.
"""


def fast_head_scalars() -> tuple[tuple[str, float], ...]:
    """Learning-rate groups in which the heads' scalars learn ten times as fast as the prompt encoder."""
    return ((HEAD_SCALARS, 10.0), (".*", 1.0))


def films_adapter() -> LoraConfig:
    """The settings of the shipped adapters "films", which a stage that begins with one must have."""
    return LoraConfig(patterns=(r"layers/.*",), rank=4, alpha=8.0)
