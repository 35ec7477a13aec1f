"""The recommender as one function of arrays, and saved examples: what the targets of `recommendation` share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from ecr_jax.data.schema import Split
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.export.source import Check, Source, difference
from ecr_jax.files import write_json
from ecr_jax.models.heads import Facts, SimilarFilms, ranking_scores
from ecr_jax.models.lm.gpt2 import Gpt2Config
from ecr_jax.models.lm.llama import LlamaConfig, frequencies
from ecr_jax.models.prompt import EntityTable
from ecr_jax.stages import recommendation, recommender
from ecr_jax.stages.recommender import RecommenderSetup

ARRAYS, SETTINGS, ENTITIES, EXAMPLE = (
    "recommender.safetensors",
    "recommender.json",
    "entities.json",
    "example.safetensors",
)
TOLERANCE = 1e-4
_EXAMPLES = 4
_ENTITY_ENCODER = ("nodes", "rgcn", "entity_text", "entity_tower", "entity_out")
"""Parameters that only encode the graph; an export holds their result, the entity table, instead."""

Batch = Mapping[str, Any]


class Ranking(NamedTuple):
    """The recommender of a run, its graph encoded.

    Attributes:
      setup: the model.
      arrays: parameters and tables by name: `encoder/...` (the prompt encoder), `head/...`, `language_model/...`,
        `facts/...`, `table` [N + 1, D] (the encoded entities), `item_prior` [N + 1], `items` int32 [I].
      inputs: (name, dtype) of the arrays of a batch, masks included.
    """

    setup: RecommenderSetup
    arrays: dict[str, np.ndarray]
    inputs: dict[str, np.dtype]

    def __call__(self, arrays: Mapping[str, Any], batch: Batch) -> jax.Array:
        """The probability of each item to be recommended next, float32 [B, I].

        Args:
          arrays: as the attribute.
          batch: contexts, see `features.featurizer.recommender_spec`.
        """
        tree = unflatten_dict(dict(arrays), sep="/")
        sizes, prompt = self.setup.model.sizes, self.setup.model.prompt
        nodes = jnp.zeros((sizes.entities + 1, prompt.entity_width))  # declared by the module, not used
        params = {"encoder": tree["encoder"] | {"nodes": nodes}, "head": tree["head"]}
        frozen = tree | {"facts": Facts(**tree["facts"], relations=self.setup.frozen["facts"].relations)}
        if "similar_films" in tree:
            frozen["similar_films"] = SimilarFilms(**tree["similar_films"])
        table = EntityTable(tree["table"])
        predicted = recommender.scores(
            self.setup, params, frozen, dict(batch), tree["items"], "recommendation", table=table
        )
        return jax.nn.softmax(ranking_scores(predicted, self.setup.model.heads.like_power))


def ranking(source: Source) -> Ranking:
    """The recommender of a run.

    Raises:
      ValueError: the stage `recommendation` is not trained.
    """
    experiment = source.experiment
    setup, params = recommender.build_recommender(experiment), experiment.params("recommendation")
    encode = jax.jit(lambda params, *graph: setup.model.apply({"params": params}, *graph, method="entity_table"))
    table, facts = encode(params, setup.frozen["graph"], setup.frozen.get("entity_text")), setup.frozen["facts"]
    tree = {
        "encoder": {name: value for name, value in params["encoder"].items() if name not in _ENTITY_ENCODER},
        "head": params["head"],
        "language_model": setup.frozen["language_model"],
        "facts": {"entities": facts.entities, "types": facts.types, "weights": facts.weights},
        "table": table.rows,
        "item_prior": setup.frozen["item_prior"],
        "item_odds": setup.frozen["item_odds"],
        "items": setup.items,
    }
    if "similar_films" in setup.frozen:
        similar = setup.frozen["similar_films"]
        tree["similar_films"] = {"entities": similar.entities, "weights": similar.weights}
    arrays = {name: np.asarray(array) for name, array in flatten_dict(tree, sep="/").items()}
    inputs = {}
    for field in experiment.context_spec.fields:
        inputs[field.name] = np.dtype(field.dtype)
        if field.mask is not None:
            inputs[field.mask] = np.dtype(bool)
    return Ranking(setup, arrays, inputs)


def examples(source: Source, model: Ranking) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A batch of a few contexts of the validation split, and the run's own probabilities for it [B, I]."""
    experiment, setup = source.experiment, model.setup
    instances = recommendation.examples(experiment, Split.VALID, limit=_EXAMPLES)
    names = [field.name for field in experiment.context_spec.fields]
    contexts = [{name: instances[index][name] for name in names} for index in range(min(_EXAMPLES, len(instances)))]
    batch = recommender.context_batch(experiment, contexts)
    rank = recommender.scorer(setup, setup.items).with_params(experiment.params("recommendation"))
    ((_, scores),) = rank([batch])
    return {name: batch[name] for name in model.inputs}, softmax(scores, axis=1)


def write_arrays(source: Source, model: Ranking, folder: Path) -> None:
    """Writes the arrays, and what `write_about` does."""
    save_file({name: np.asarray(array, order="C") for name, array in model.arrays.items()}, folder / ARRAYS)
    write_about(source, model, folder)


def write_about(source: Source, model: Ranking, folder: Path) -> None:
    """Writes the settings with the meaning of the inputs, the entities, and examples with their probabilities."""
    experiment = source.experiment
    write_json(folder / SETTINGS, _settings(source, model))
    graph = experiment.corpus.graph
    write_json(
        folder / ENTITIES,
        [
            {"uri": uri, "title": graph.title(entity), "kind": str(kind)}
            for entity, (uri, kind) in enumerate(zip(graph.uris, graph.kinds, strict=True))
        ],
    )
    batch, probabilities = examples(source, model)
    save_file(
        {name: np.asarray(array, order="C") for name, array in batch.items()}
        | {"probabilities": probabilities.astype(np.float32)},
        folder / EXAMPLE,
    )


def _settings(source: Source, model: Ranking) -> dict[str, Any]:
    """The content of `recommender.json`."""
    experiment, setup = source.experiment, model.setup
    config, limits = setup.language_model.config, experiment.config.recommender
    family = {LlamaConfig: "llama", Gpt2Config: "gpt2"}[type(config)]
    sizes = {name: getattr(config, name) for name in ("layers", "heads", "kv_heads", "head_dim", "eps")}
    if isinstance(config, LlamaConfig):
        sizes["frequencies"] = frequencies(config).tolist()
    return {
        "prompt": dataclasses.asdict(setup.model.prompt),
        "heads": dataclasses.asdict(setup.model.heads),
        "language_model": {"name": Path(experiment.config.language_model).name, "family": family, **sizes},
        "prefix_visibility": setup.prefix_visibility,
        "lengths": {"T": limits.max_tokens, "S": limits.max_states, "E": limits.max_entities},
        "emotions": list(EMOTIONS),
        "relations": list(experiment.corpus.graph.relations),
        "text_encoder": Path(experiment.config.encoder.name).name,
        "inputs": [
            {
                "name": field.name,
                "dtype": np.dtype(field.dtype).name,
                "axes": ["B", *field.axes],
                "padding": field.pad,
                "mask": field.mask,
                "meaning": field.meaning,
            }
            for field in experiment.context_spec.fields
        ],
    }


def read_example(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The saved batch and the run's probabilities [B, I]."""
    example = load_file(folder / EXAMPLE)
    return example, example.pop("probabilities")


def compare(ours: np.ndarray, theirs: np.ndarray, reader: str) -> Check:
    """Compares a reader's probabilities of the saved examples with those of the run, for every item."""
    return Check(reader, "probabilities of all items", len(ours), difference(ours, theirs), TOLERANCE)
