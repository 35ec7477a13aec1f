"""A run in seconds: the stages after `emotion` have random parameters in place of trained ones, none of them zero."""

from __future__ import annotations

import dataclasses
import zlib

import jax
import numpy as np
from rich.console import Console

from ecr_jax.config import records, registry
from ecr_jax.data.prepare import prepare
from ecr_jax.features.acts import acts_spec
from ecr_jax.files import write_json
from ecr_jax.models.lm import lora
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages import acts, conversation, recommender, response, train
from ecr_jax.training.checkpoint import write_params
from tests import gguf_files, tiny


def write(folder, language_model=None, **changes):
    """The config of a run of the tiny corpus, whose stages are all there.

    Args:
      folder: an empty folder.
      language_model: sizes of a decoder with a byte-level tokenizer; by default a Llama of two layers.
      changes: sections of the config, of `recommender`, `conversation` and `response` as their own changed fields.
    """
    sizes = tiny.llama(280, layers=2) if language_model is None else language_model
    path = str(gguf_files.write(folder / "model.gguf", sizes, tiny.random_model(sizes).params))
    config = tiny.tiny_config(folder)
    config = dataclasses.replace(
        config,
        language_model=path,
        recommender=dataclasses.replace(config.recommender, **changes.pop("recommender", {})),
        conversation=dataclasses.replace(config.conversation, **changes.pop("conversation", {})),
        response=dataclasses.replace(config.response, language_model=path, **changes.pop("response", {})),
        **changes,
    )
    prepare(config, console=Console(quiet=True))
    experiment = open_experiment(config)
    train(config, "emotion", experiment=experiment)
    for stage, shapes in parameter_shapes(experiment).items():
        spec = registry.find(stage)
        rng = np.random.default_rng(zlib.crc32(stage.encode()))
        params = jax.tree.map(lambda leaf, rng=rng: rng.normal(0, 0.3, leaf.shape).astype(leaf.dtype), shapes)
        write_params(config.stage_folder(spec) / "params.safetensors", params)
        write_json(config.stage_folder(spec) / "config.json", experiment.record(spec))
        best = {"step": 1, "value": 0.5, "metrics": {"loss": 0.5}}
        write_json(
            config.stage_folder(spec) / "summary.json", {"best": best, "select": "loss", "mode": "min", "steps": 1}
        )
        records.write_run(config, spec)
    return config


def parameter_shapes(experiment):
    """{stage: tree of shapes} of the stages after `emotion`; nothing is compiled."""
    key, settings = jax.random.key(0), experiment.config
    setup = recommender.build_recommender(experiment)
    batch = experiment.context_spec.zeros(1)
    model, tokenizer = experiment.language_model(settings.language_model, settings.conversation.layers)
    encoder, graph = conversation.prompt_encoder(experiment, model), recommender.graph_arrays(experiment)
    written, _ = response.language_model(experiment)

    def shapes_of(task):
        return jax.eval_shape(lambda key: recommender.init(setup, key, batch, setup.items, task), key)

    def adapter_of(base, config):
        return jax.eval_shape(lambda key: lora.init(key, base.params, config), key)

    states = acts_spec(experiment.encoder.width).zeros(1)["state"]
    return {
        "acts": jax.eval_shape(lambda key: acts.classifier(experiment).init(key, states), key)["params"],
        "fusion": shapes_of("fusion"),
        "conversation": {
            "encoder": jax.eval_shape(
                lambda key: encoder.init(key, graph["graph"], batch, "conversation", graph.get("entity_text")), key
            )["params"],
            "movie": {"rows": jax.eval_shape(lambda rows: rows[tokenizer.movie :], model.params["embed"]["embedding"])},
            "adapter": adapter_of(model, settings.conversation.adapter),
        },
        "recommendation": shapes_of("recommendation"),
        "response": {"adapter": adapter_of(written, settings.response.adapter)},
    }
