"""SASRec: causal self-attention over the films of the context, in order (Kang and McAuley 2018)."""

from __future__ import annotations

from ecr_jax.config import SasRecConfig
from ecr_jax.features.featurizer import FilmSequenceFeature
from ecr_jax.models.baselines.sasrec import SasRec
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages.baselines.baseline import Baseline, item_arrays


def build(experiment: ExperimentContext, settings: SasRecConfig) -> Baseline:
    """SASRec of an experiment."""
    items, length = experiment.corpus.graph.items, experiment.config.recommender.max_entities
    return Baseline(
        SasRec(
            items=len(items),
            length=length,
            width=settings.width,
            layers=settings.layers,
            heads=settings.heads,
            dropout=settings.dropout,
            recency_slots=settings.recency_slots,
        ),
        item_arrays(experiment),
        features=(FilmSequenceFeature(items, length),),
        longest={"E": length},
        reads_text=False,
    )
