"""Stage `conversation`: a reply with `<movie>` slots (ECR Eq. 1).

Reads recommender turns with their context. Trains the prompt encoder with its conversation prefix, beginning with what
`fusion` learned, the `<movie>` row of the vocabulary and, with `adapted`, a LoRA adapter of the language model.
Loss: next-token cross-entropy over the masked reply. Selects by the lowest validation loss.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ecr_jax.corpus.schema import Split
from ecr_jax.features.batches import Batches, bucket_shapes
from ecr_jax.features.examples import ReplyExamples, conversation_rows, reply_fields, spread
from ecr_jax.models import lora
from ecr_jax.models.lora import LoraConfig
from ecr_jax.models.prompt import Prefix, PromptConfig, PromptEncoder
from ecr_jax.pretrained import Pretrained
from ecr_jax.stages.ground import Ground
from ecr_jax.stages.recommender import graph_arrays, prompt_config, transfer
from ecr_jax.stages.response import language_model_loss, mean_loss, served
from ecr_jax.training import sharding
from ecr_jax.training.loop import fit


def prompt_of(ground: Ground, model: Pretrained) -> PromptConfig:
    """The prompt encoder of the conversation's language model."""
    encoder, _ = ground.encoder
    return prompt_config(ground.config, ground.prepared.graph, model.config, encoder.config.width)


def prefix(
    encoder: PromptEncoder, params: dict, frozen: dict, batch: dict, key: jax.Array | None = None
) -> Prefix:
    """The conversation prompt of a batch. `key` turns dropout on."""
    return encoder.apply(
        {"params": params["encoder"]},
        frozen["graph"],
        batch,
        "conversation",
        frozen.get("entity_text"),
        rngs=None if key is None else {"dropout": key},
    )


def language_model(params: dict, frozen: dict, config: LoraConfig, serve: bool = False) -> dict:
    """The language model's variables: the base with the trained rows of the tokens that were added, and the adapter.

    Args:
        params: what the stage trains.
        frozen: holds the base.
        config: the adapter's settings.
        serve: trained no more; the adapter is merged in where it can be.
    """
    rows = params["movie"]["rows"]
    tokens = frozen["language_model"]["embed"]["embedding"].shape[0]
    base = lora.with_rows(frozen["language_model"], jnp.arange(tokens - rows.shape[0], tokens), rows)
    if "adapter" not in params:
        return {"params": base}
    return (served if serve else lora.variables)(base, params["adapter"], config)


def examples(ground: Ground, words: Any, split: Split, limit: int | None) -> ReplyExamples:
    """The examples of a split, at most `limit` of them, spread evenly."""
    spoken = ground.dialogues(split)
    rows = conversation_rows(spoken)
    if limit is not None:
        rows = spread(rows, limit)
    config = ground.config.conversation
    return ReplyExamples(spoken, rows, ground.reader(words), split == Split.TRAIN, max_reply=config.max_reply)


def train(ground: Ground) -> None:
    """Tunes the recommendation response."""
    config = ground.config.conversation
    model, words = ground.language_model(config.language_model, config.layers)
    encoder = PromptEncoder(prompt_of(ground, model))
    size, padding = config.train.batch_size, reply_fields(len(ground.prepared.graph))
    needed = None if config.train.steps is None else config.train.steps * size
    training = examples(ground, words, Split.TRAIN, needed)
    validation = examples(ground, words, Split.VALID, config.valid_examples)
    limit = ground.config.recommender.max_tokens + config.max_reply
    shapes = bucket_shapes([*training, *validation], padding, {"T": (limit // 2, limit)})
    over = Batches(training, padding, shapes, size, seed=config.train.seed)
    frozen = {"language_model": model.params, **graph_arrays(ground)}
    module = model.module.clone(adapter_dropout=config.adapter.dropout)

    def loss(params, frozen, batch, key):
        keys = (None, None) if key is None else jax.random.split(key)
        found = prefix(encoder, params, frozen, batch, keys[0])
        variables = language_model(params, frozen, config.adapter)
        given = {"prefix": (found.keys, found.values), "prefix_mask": found.mask}
        return language_model_loss(module, variables, batch, keys[1], **given)

    key = ground.key("conversation")
    build = jax.jit(encoder.init, static_argnums=3)
    fresh = build(key, frozen["graph"], over[0], "conversation", frozen.get("entity_text"))["params"]
    params = {
        "encoder": transfer(fresh, ground.fused["encoder"]),
        "movie": {"rows": model.params["embed"]["embedding"][words.movie :]},
    }
    if config.adapted:
        params["adapter"] = lora.init(key, model.params, config.adapter)
    fit(
        ground.config.stage_folder("conversation"),
        params=params,
        frozen=frozen,
        loss=loss,
        batches=over,
        evaluate=mean_loss(loss, Batches(validation, padding, shapes, size, epochs=1, shuffle=False)),
        select="loss",
        mode="min",
        config=config.train,
        rules=(*sharding.language_model_rules(model.config, "language_model|adapter"), *sharding.REPLICATED),
        describe=lambda ids: [training.name(index) for index in ids],
        record=ground.recorded("conversation"),
    )
