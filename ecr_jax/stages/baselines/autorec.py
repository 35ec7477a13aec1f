"""AutoRec: an autoencoder over the entities of the context (Sedhain et al. 2015, as ReDial's baseline)."""

from __future__ import annotations

from ecr_jax.config import EmbeddingBaselineConfig
from ecr_jax.features.featurizer import EntityFeature
from ecr_jax.models.baselines.autorec import AutoRec
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages.baselines.baseline import Baseline, item_arrays


def build(experiment: ExperimentContext, settings: EmbeddingBaselineConfig) -> Baseline:
    """AutoRec of an experiment."""
    entities, items = len(experiment.corpus.graph), len(experiment.corpus.graph.items)
    return Baseline(
        AutoRec(entities, items, settings.width, settings.dropout),
        item_arrays(experiment),
        features=(EntityFeature(entities),),
        longest={"E": experiment.config.recommender.max_entities},
        reads_text=False,
    )
