"""The frozen text encoder as a recommender: attention pooling of its token states (the BERT row of LLMCRS)."""

from __future__ import annotations

from ecr_jax.config import BaselineConfig
from ecr_jax.features.featurizer import TextStateFeature
from ecr_jax.models.baselines.text_encoder import TextEncoder
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages.baselines.baseline import Baseline, item_arrays


def build(experiment: ExperimentContext, settings: BaselineConfig) -> Baseline:
    """The text-encoder baseline of an experiment."""
    limit = experiment.config.recommender.max_states
    return Baseline(
        TextEncoder(len(experiment.corpus.graph.items), settings.dropout),
        item_arrays(experiment),
        features=(TextStateFeature(experiment.turn_states, limit),),
        longest={"S": limit},
    )
