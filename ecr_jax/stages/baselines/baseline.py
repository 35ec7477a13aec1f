"""What a baseline is to the training and the evaluation, and the arrays that several baselines read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import numpy as np

from ecr_jax.features.batches import Examples
from ecr_jax.features.featurizer import ContextFeature
from ecr_jax.features.instances import TargetExamples
from ecr_jax.models.rgcn import graphs_tuple
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.training.options import TrainConfig
from ecr_jax.training.step import Tree

Solution = tuple[dict[str, float], Tree]
"""The settings of a closed-form solution, and its parameters."""


@dataclass(frozen=True)
class Baseline:
    """A baseline without its trained parameters.

    Attributes:
      module: maps (batch, frozen) to scores of the items [B, I]; see `ecr_jax.models.baselines`.
      frozen: the arrays that are not trained, among them `items` int32 [I].
      features: the arrays of a context that the module reads.
      longest: the longest length of each axis of these arrays.
      extend: adds arrays that are computed for all examples beforehand.
      pretraining: how the auxiliary losses alone are trained before the ranking; None: they are not.
      reads_text: whether the module reads the text of a context. One that does not is also trained on the films of
        dialogues of which nobody knows who recommends, see `film_sequence_instances`.
      solutions: the closed-form solutions to select from, where the baseline is not trained by gradients.
    """

    module: nn.Module
    frozen: dict[str, Any]
    features: tuple[ContextFeature, ...] = ()
    longest: Mapping[str, int] = field(default_factory=dict)
    extend: Callable[[TargetExamples], Examples] = lambda examples: examples
    pretraining: TrainConfig | None = None
    reads_text: bool = True
    solutions: Callable[[], Iterator[Solution]] | None = None


def item_arrays(experiment: ExperimentContext) -> dict[str, Any]:
    """The frozen arrays of every baseline: `items` int32 [I], the sorted ids of the items."""
    return {"items": np.asarray(experiment.corpus.graph.items, np.int32)}


def graph_arrays(experiment: ExperimentContext) -> dict[str, Any]:
    """The frozen arrays of a baseline that reads the knowledge graph: `items` and `graph`, see `graphs_tuple`."""
    graph = experiment.corpus.graph
    return item_arrays(experiment) | {"graph": graphs_tuple(*graph.message_edges(), len(graph) + 1)}
