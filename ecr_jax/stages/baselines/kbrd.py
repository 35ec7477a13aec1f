"""KBRD: an RGCN over the knowledge graph and self-attention over the context's entities (Chen et al. 2019)."""

from __future__ import annotations

from ecr_jax.config import GraphBaselineConfig
from ecr_jax.features.featurizer import EntityFeature
from ecr_jax.models.baselines.kbrd import Kbrd
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages.baselines.baseline import Baseline, graph_arrays


def build(experiment: ExperimentContext, settings: GraphBaselineConfig) -> Baseline:
    """KBRD of an experiment."""
    graph = experiment.corpus.graph
    module = Kbrd(
        entities=len(graph),
        relations=len(graph.relations),
        items=len(graph.items),
        width=settings.width,
        bases=settings.bases,
        dropout=settings.dropout,
    )
    return Baseline(
        module,
        graph_arrays(experiment),
        features=(EntityFeature(len(graph)),),
        longest={"E": experiment.config.recommender.max_entities},
        reads_text=False,
    )
