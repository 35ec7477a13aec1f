"""TG-ReDial's recommender: SASRec over the context's films beside the frozen text encoder (Zhou et al. 2020)."""

from __future__ import annotations

from ecr_jax.config import SasRecConfig
from ecr_jax.features.featurizer import FilmSequenceFeature, TextStateFeature
from ecr_jax.models.baselines.tg_redial import TgRedial
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages.baselines.baseline import Baseline, item_arrays


def build(experiment: ExperimentContext, settings: SasRecConfig) -> Baseline:
    """TG-ReDial's recommender of an experiment."""
    items, length = experiment.corpus.graph.items, experiment.config.recommender.max_entities
    limit = experiment.config.recommender.max_states
    return Baseline(
        TgRedial(
            items=len(items),
            length=length,
            width=settings.width,
            layers=settings.layers,
            heads=settings.heads,
            dropout=settings.dropout,
            recency_slots=settings.recency_slots,
        ),
        item_arrays(experiment),
        features=(FilmSequenceFeature(items, length), TextStateFeature(experiment.turn_states, limit)),
        longest={"E": length, "S": limit},
    )
