"""Settings of an experiment: its sections, the table of stages, presets, and named configs. Imports no jax."""

from ecr_jax.config import presets
from ecr_jax.config.experiments import files, folder, load, names
from ecr_jax.config.records import from_json, read_run, record
from ecr_jax.config.schema import BaselinesConfig, Config, ExtensionsConfig, replace
from ecr_jax.config.sections import (
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
    KgsfConfig,
    LanguageModelBaselineConfig,
    RecommendationConfig,
    RecommenderConfig,
    ResponseConfig,
    SasRecConfig,
)
from ecr_jax.errors import ConfigError
from ecr_jax.models.hyperparameters import HeadsConfig, LoraConfig, PromptConfig
from ecr_jax.training.options import OptimConfig, ShardingConfig, TrainConfig

__all__ = [
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
    "KgsfConfig",
    "LanguageModelBaselineConfig",
    "LoraConfig",
    "OptimConfig",
    "PromptConfig",
    "RecommendationConfig",
    "RecommenderConfig",
    "ResponseConfig",
    "SasRecConfig",
    "ShardingConfig",
    "TrainConfig",
    "files",
    "folder",
    "from_json",
    "load",
    "names",
    "presets",
    "read_run",
    "record",
    "replace",
]
