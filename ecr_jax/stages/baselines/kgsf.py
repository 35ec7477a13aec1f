"""KGSF: a word graph and an entity graph, aligned by mutual information and fused by a gate (Zhou et al. 2020)."""

from __future__ import annotations

from ecr_jax.config import KgsfConfig
from ecr_jax.data.schema import Split
from ecr_jax.features.featurizer import EntityFeature, WordFeature
from ecr_jax.knowledge.word_graph import build_word_graph
from ecr_jax.models.baselines.kgsf import Kgsf
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages.baselines.baseline import Baseline, graph_arrays


def build(experiment: ExperimentContext, settings: KgsfConfig) -> Baseline:
    """KGSF of an experiment; its word graph is counted on the training dialogues."""
    graph, dialogues = experiment.corpus.graph, experiment.dialogues(Split.TRAIN)
    words = build_word_graph(
        [turn.masked for dialogue in dialogues for turn in dialogue.turns],
        min_texts=settings.min_turns,
        min_shared_texts=settings.min_shared_turns,
        neighbours=settings.word_neighbours,
    )
    module = Kgsf(
        entities=len(graph),
        relations=len(graph.relations),
        words=len(words.words),
        items=len(graph.items),
        width=settings.width,
        bases=settings.bases,
        dropout=settings.dropout,
        information=settings.information,
    )
    word_graph = {"senders": words.senders, "receivers": words.receivers, "weights": words.weights}
    return Baseline(
        module,
        graph_arrays(experiment) | {"word_graph": word_graph},
        features=(EntityFeature(len(graph)), WordFeature(words, settings.max_words)),
        longest={"E": experiment.config.recommender.max_entities, "W": settings.max_words},
        pretraining=settings.pretraining,
    )
