"""Settings of an experiment: its sections, the table of stages, presets, and named configs. Imports no jax.

The names below are imported from this package's modules when they are used, so that a package that adds a stage can
import `ecr_jax.config.registry` while the config that its settings become a part of does not exist yet.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecr_jax.config import presets, registry
    from ecr_jax.config.experiments import files, folder, load, names
    from ecr_jax.config.records import from_json, read_run, record, write_run
    from ecr_jax.config.schema import BaselinesConfig, Config, ExtensionsConfig, replace
    from ecr_jax.config.sections import (
        ActsConfig,
        BaselineConfig,
        ConversationConfig,
        CorpusConfig,
        EaseConfig,
        EmbeddingBaselineConfig,
        EmotionConfig,
        EncoderConfig,
        EvaluationConfig,
        FeedbackWeights,
        FusionConfig,
        GraphBaselineConfig,
        HybridConfig,
        KgsfConfig,
        LanguageModelBaselineConfig,
        ManagerConfig,
        NearestContextsConfig,
        RecommendationConfig,
        RecommenderConfig,
        ResponseConfig,
        RlpfConfig,
        SasRecConfig,
        ValenceConfig,
    )
    from ecr_jax.errors import ConfigError
    from ecr_jax.models.hyperparameters import HeadsConfig, LoraConfig, PromptConfig
    from ecr_jax.training.options import OptimConfig, PolicyConfig, ShardingConfig, TrainConfig

__all__ = [
    "ActsConfig",
    "BaselineConfig",
    "BaselinesConfig",
    "Config",
    "ConfigError",
    "ConversationConfig",
    "CorpusConfig",
    "EaseConfig",
    "EmbeddingBaselineConfig",
    "EmotionConfig",
    "EncoderConfig",
    "EvaluationConfig",
    "ExtensionsConfig",
    "FeedbackWeights",
    "FusionConfig",
    "GraphBaselineConfig",
    "HeadsConfig",
    "HybridConfig",
    "KgsfConfig",
    "LanguageModelBaselineConfig",
    "LoraConfig",
    "ManagerConfig",
    "NearestContextsConfig",
    "OptimConfig",
    "PolicyConfig",
    "PromptConfig",
    "RecommendationConfig",
    "RecommenderConfig",
    "ResponseConfig",
    "RlpfConfig",
    "SasRecConfig",
    "ShardingConfig",
    "TrainConfig",
    "ValenceConfig",
    "files",
    "folder",
    "from_json",
    "load",
    "names",
    "presets",
    "read_run",
    "record",
    "registry",
    "replace",
    "write_run",
]

_HOMES = {
    "ecr_jax.config.experiments": ("files", "folder", "load", "names"),
    "ecr_jax.config.records": ("from_json", "read_run", "record", "write_run"),
    "ecr_jax.config.schema": ("BaselinesConfig", "Config", "ExtensionsConfig", "replace"),
    "ecr_jax.errors": ("ConfigError",),
    "ecr_jax.models.hyperparameters": ("HeadsConfig", "LoraConfig", "PromptConfig"),
    "ecr_jax.training.options": ("OptimConfig", "ShardingConfig", "TrainConfig"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("presets", "registry"):
        return importlib.import_module(f"{__name__}.{name}")
    home = next((module for module, names in _HOMES.items() if name in names), "ecr_jax.config.sections")
    return getattr(importlib.import_module(home), name)
