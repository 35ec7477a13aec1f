"""Stage `conversation`: a reply with `<movie>` slots (ECR Eq. 1).

Reads recommender turns with their context. Trains the prompt encoder with its conversation prefix, beginning with what
`fusion` learned, the `<movie>` row of the vocabulary and, with `adapted`, a LoRA adapter of the language model.
Loss: next-token cross-entropy over the masked reply. Selects by the lowest validation loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from rich.progress import track

from ecr_jax.data.schema import MOVIE, Role, Split
from ecr_jax.features.batches import Batches, bucket_shapes
from ecr_jax.features.examples import (
    Dialogue,
    Examples,
    ReplyExamples,
    Row,
    Utterance,
    conversation_rows,
    reply_fields,
    spread,
)
from ecr_jax.files import read_jsonl_rows, write_jsonl
from ecr_jax.inference.decoding import Decoding, generate, pad_left
from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import lora
from ecr_jax.models.lm.sharding_rules import language_model_rules
from ecr_jax.models.prompt import Prefix, PromptConfig, PromptEncoder
from ecr_jax.pretrained.language_models import Pretrained
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages.recommender import context_batch, graph_arrays, prompt_config, transfer
from ecr_jax.stages.response import language_model_loss, mean_loss
from ecr_jax.training import sharding
from ecr_jax.training.checkpoint import read_params
from ecr_jax.training.loop import fit

_BUCKET = 32
_CHUNK = 32
_KEPT_EVERY = 20


def prompt_of(experiment: ExperimentContext, model: Pretrained) -> PromptConfig:
    """The prompt encoder of the conversation's language model."""
    encoder, _ = experiment.encoder
    return prompt_config(experiment.config, experiment.prepared.graph, model.config, encoder.config.width)


def prefix(encoder: PromptEncoder, params: dict, frozen: dict, batch: dict, key: jax.Array | None = None) -> Prefix:
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
    return (lora.for_inference if serve else lora.variables)(base, params["adapter"], config)


def examples(experiment: ExperimentContext, words: Any, split: Split, limit: int | None) -> ReplyExamples:
    """The examples of a split, at most `limit` of them, spread evenly."""
    spoken = experiment.dialogues(split)
    rows = conversation_rows(spoken)
    if limit is not None:
        rows = spread(rows, limit)
    config = experiment.config.conversation
    return ReplyExamples(spoken, rows, experiment.featurizer(words), split == Split.TRAIN, max_reply=config.max_reply)


class Responder:
    """The trained stage: what the recommender says, u^r with its `<movie>` slots open."""

    def __init__(self, experiment: ExperimentContext):
        """Raises ValueError where the stage is not trained."""
        path = experiment.config.stage_folder("conversation") / "params.safetensors"
        if not path.is_file():
            raise ValueError(f"{path} is missing; run `ecr train conversation` with this config first")
        self.experiment, settings = experiment, experiment.config.conversation
        model, self.words = experiment.language_model(settings.language_model, settings.layers)
        encoder = PromptEncoder(prompt_of(experiment, model))
        params = jax.tree.map(jnp.asarray, read_params(path))
        frozen = {"language_model": model.params, **graph_arrays(experiment)}
        self.module, self.variables = model.module, language_model(params, frozen, settings.adapter, serve=True)
        self._frozen = {name: jax.device_put(value) for name, value in frozen.items() if name != "language_model"}
        self._prefix = jax.jit(lambda frozen, batch: prefix(encoder, params, frozen, batch))

    def __call__(self, contexts: Sequence[dict]) -> list[str]:
        """The most probable reply to each context (arrays of `ContextFeaturizer.context`); compiles for each number of them."""
        found = self._prefix(self._frozen, context_batch(self.experiment, contexts))
        prompts = [[*context["tokens"].tolist(), *self.words.opening()] for context in contexts]
        tokens, mask = pad_left(prompts, self.experiment.config.recommender.max_tokens + _BUCKET)
        out = generate(
            self.module,
            self.variables,
            tokens,
            mask,
            decoding=decoding(self.experiment.config.conversation.max_reply),
            end=self.words.end,
            prefix=(found.keys, found.values),
            prefix_mask=found.mask,
        )
        return [self.words.decode(row) for row in out.tokens]


def decoding(most: int) -> Decoding:
    """Replies are the most probable ones of a few words at least, and do not go in circles."""
    return Decoding(max_new=most, min_new=min(4, most), no_repeat=3)


def spoken_reply(text: str) -> Utterance:
    """A reply as the recommender reads it: as released, one that has no `<movie>` slot is an empty turn."""
    said = text if MOVIE in text else ""
    return Utterance(Role.RECOMMENDER, said, said)


def replies(
    experiment: ExperimentContext, split: Split, spoken: Sequence[Dialogue], rows: Sequence[Row]
) -> dict[tuple[str, int], Utterance]:
    """What the trained stage says in the place of turns; what it said once is kept in its folder.

    Args:
      experiment: the experiment.
      split: which the dialogues are of.
      spoken: the dialogues.
      rows: whose turns.

    Returns:
      (conversation id, turn) -> the reply.

    Raises:
      ValueError: the stage is not trained.
    """
    path = experiment.config.stage_folder("conversation") / f"replies-{split.value}.jsonl"
    known = {(row["conversation"], row["turn"]): row["text"] for row in read_jsonl_rows(path)} if path.is_file() else {}
    places = {(spoken[row.dialogue].id, row.turn): row for row in rows}
    missing = [row for place, row in places.items() if place not in known]
    if missing:
        responder = Responder(experiment)
        contexts = Examples(spoken, missing, experiment.featurizer(responder.words), leave_out=False)
        parts = range(0, len(missing), _CHUNK)
        for number, start in enumerate(track(parts, description=f"reply, {split.value}"), start=1):
            part = missing[start : start + _CHUNK]
            last = len(missing) - 1  # again and again in the last part: one program for all
            texts = responder([contexts[min(start + i, last)] for i in range(_CHUNK)])
            known |= {(spoken[row.dialogue].id, row.turn): text for row, text in zip(part, texts, strict=False)}
            if number % _KEPT_EVERY == 0 or number == len(parts):
                kept = [{"conversation": name, "turn": turn, "text": text} for (name, turn), text in known.items()]
                write_jsonl(path, kept)
    return {place: spoken_reply(known[place]) for place in places}


def train(experiment: ExperimentContext) -> None:
    """Tunes the recommendation response."""
    config = experiment.config.conversation
    model, words = experiment.language_model(config.language_model, config.layers)
    encoder = PromptEncoder(prompt_of(experiment, model))
    size, padding = config.train.batch_size, reply_fields(len(experiment.prepared.graph))
    needed = None if config.train.steps is None else config.train.steps * size
    training = examples(experiment, words, Split.TRAIN, needed)
    validation = examples(experiment, words, Split.VALID, config.valid_examples)
    limit = experiment.config.recommender.max_tokens + config.max_reply
    shapes = bucket_shapes([*training, *validation], padding, {"T": (limit // 2, limit)})
    over = Batches(training, padding, shapes, size, seed=config.train.seed)
    frozen = {"language_model": model.params, **graph_arrays(experiment)}
    module = model.module.clone(adapter_dropout=config.adapter.dropout)

    def loss(params, frozen, batch, key):
        keys = (None, None) if key is None else jax.random.split(key)
        found = prefix(encoder, params, frozen, batch, keys[0])
        variables = language_model(params, frozen, config.adapter)
        given = {"prefix": (found.keys, found.values), "prefix_mask": found.mask}
        return language_model_loss(module, variables, batch, keys[1], **given)

    key = experiment.key("conversation")
    build = jax.jit(encoder.init, static_argnums=3)
    fresh = build(key, frozen["graph"], over[0], "conversation", frozen.get("entity_text"))["params"]
    params = {
        "encoder": transfer(fresh, experiment.fused["encoder"]),
        "movie": {"rows": model.params["embed"]["embedding"][words.movie :]},
    }
    if config.adapted:
        params["adapter"] = lora.init(key, model.params, config.adapter)
    fit(
        experiment.config.stage_folder("conversation"),
        params=params,
        frozen=frozen,
        loss=loss,
        batches=over,
        evaluate=mean_loss(loss, Batches(validation, padding, shapes, size, epochs=1, shuffle=False)),
        select="loss",
        mode="min",
        config=config.train,
        rules=(*language_model_rules(model.config, "language_model|adapter"), *sharding.REPLICATED),
        describe=lambda ids: [training.name(index) for index in ids],
        record=experiment.recorded("conversation"),
    )
