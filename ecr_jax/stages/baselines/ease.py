"""EASE: a linear map from the films of a context to items, solved for each regulariser (Steck 2019)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ecr_jax.config import EaseConfig
from ecr_jax.data.schema import Split
from ecr_jax.features.dialogues import Context, recommendation_counts
from ecr_jax.features.featurizer import EntityFeature, FilmSequenceFeature
from ecr_jax.models.baselines.ease import Ease, interactions, solve
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages.baselines.baseline import Baseline, Solution, item_arrays


def build(experiment: ExperimentContext, settings: EaseConfig) -> Baseline:
    """EASE of an experiment."""
    graph, dialogues = experiment.corpus.graph, experiment.dialogues(Split.TRAIN)
    counts = recommendation_counts(dialogues)
    share = np.asarray([counts[item] for item in graph.items.tolist()]) / max(counts.total(), 1)

    def solutions() -> Iterator[Solution]:
        films = FilmSequenceFeature(graph.items, len(graph.items))
        contexts = [Context(dialogue.turns, 0) for dialogue in dialogues]
        mentioned = interactions([films.arrays(context, None)["films"] for context in contexts], len(graph.items))
        gram = (mentioned.T @ mentioned).toarray()
        for strength in settings.strengths:
            yield {"strength": strength}, {"weights": solve(gram, strength)}

    return Baseline(
        Ease(len(graph.items), settings.tie_break),
        item_arrays(experiment) | {"popularity": share.astype(np.float32)},
        features=(EntityFeature(len(graph)),),
        longest={"E": experiment.config.recommender.max_entities},
        solutions=solutions,
    )
