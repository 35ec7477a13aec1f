"""Target `orbax`: parameters as an Orbax checkpoint, for other JAX programs."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ecr_jax.export import generator, ranking
from ecr_jax.export.source import Check, Source
from ecr_jax.files import write_json
from ecr_jax.training.checkpoint import read_tree, write_tree

PARAMS, MODEL = "params", "model.json"


def write(source: Source, folder: Path) -> None:
    """Writes the parameters: of the recommender as `ranking.Ranking.arrays`, of a generator with its adapter merged."""
    if source.stage == "recommendation":
        model = ranking.ranking(source)
        write_tree(folder / PARAMS, unflatten_dict(model.arrays, sep="/"))
        ranking.write_about(source, model, folder)
        return
    merged = generator.generator(source).merged()
    write_tree(folder / PARAMS, merged.params)
    write_json(folder / MODEL, {"family": type(merged.module).__name__} | dataclasses.asdict(merged.config))


def check(source: Source, folder: Path) -> Check:
    """Compares what the restored parameters compute with what the run computes."""
    tree: dict[str, Any] = read_tree(folder / PARAMS)
    reader = f"orbax-checkpoint {version('orbax-checkpoint')}"
    if source.stage == "recommendation":
        model = ranking.ranking(source)
        example, probabilities = ranking.read_example(folder)
        return ranking.compare(
            probabilities, np.asarray(jax.jit(model.__call__)(flatten_dict(tree, sep="/"), example)), reader
        )
    model, texts = generator.generator(source), generator.sample_texts(source)
    tokens, mask = generator.token_batch(model.tokenizer, texts)
    theirs = generator.logits(model.base._replace(params=tree), tokens, mask)
    return generator.compare(source, model, theirs, reader)
