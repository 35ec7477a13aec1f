"""Makes adapters that other runs begin with, of a trained run: `python -m ecr_jax.runs.starting_adapter RUN FOLDER`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ecr_jax.config import read_run, registry
from ecr_jax.pretrained import starting_adapters
from ecr_jax.pretrained.starting_adapters import StartingAdapter
from ecr_jax.runs.machine import commit
from ecr_jax.training.checkpoint import read_params

STAGES = ("conversation", "response")
"""The stages whose adapters are taken."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the adapters of a run to a folder.

    Raises:
      ValueError: a stage is not trained, tuned no adapter, or the two adapt different language models.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the run, with its stages conversation and response trained")
    parser.add_argument("folder", type=Path, help="where the adapters go; it must not be there")
    places = parser.parse_args(arguments)
    config = read_run(places.run, [registry.find(stage) for stage in STAGES])
    if config.language_model != config.response.language_model:
        raise ValueError(f"the stages adapt {config.language_model!r} and {config.response.language_model!r}")
    stages = {}
    for stage in STAGES:
        settings, params = config.stage_settings(stage), read_params(places.run / stage / "params.safetensors")
        if "adapter" not in params:
            raise ValueError(f"the stage {stage!r} of {places.run} tuned no adapter")
        kept = {name: params[name] for name in ("adapter", "movie") if name in params}
        stages[stage] = StartingAdapter(kept, settings.adapter)
    corpus = config.corpus
    made_with = {
        "command": f"python -m {__spec__.name} {places.run} {places.folder}",
        "commit": commit(),
        "corpus": {name: getattr(corpus, name) for name in ("name", "seed", "dialogues", "film_reviews")},
        "seed": config.seed,
        "steps": {stage: config.stage_settings(stage).train.steps for stage in STAGES},
    }
    starting_adapters.write(places.folder, config.language_model, stages, made_with)


if __name__ == "__main__":
    main()
