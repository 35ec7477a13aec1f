"""Stage `conversation`: the recommendation response u^r, a reply with `<movie>` slots (ECR Eq. 1).

Data: recommender turns with their contexts. Trains the prompt encoder with its conversation prefix, initialised from
`fusion`, the `<movie>` row of the vocabulary and, with `adapted`, a LoRA adapter of the language model. Fusion's
projection to keys and values is for the layers of the recommender: `conversation.fusion_layers` says what is taken over
where the conversation has more, and the training prints it. Loss: next-token cross-entropy over the masked reply.
Selects by the lowest validation loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ecr_jax.config.registry import StageSpec
from ecr_jax.data.schema import Split
from ecr_jax.features.batch_spec import Batch, Example
from ecr_jax.features.batches import Batches, bucket_shapes
from ecr_jax.features.dialogues import Dialogue
from ecr_jax.features.instances import (
    ContextExamples,
    Instance,
    ReplyExamples,
    conversation_instances,
    evenly_spaced,
)
from ecr_jax.features.tokenizer import DialogueTokenizer
from ecr_jax.inference.decoding import Decoding
from ecr_jax.inference.responses import Generator, RecommendationModel, RecommendationResponder
from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm import lora
from ecr_jax.models.lm.language_model import Params
from ecr_jax.models.lm.sharding_rules import language_model_rules
from ecr_jax.models.prompt import Prefix, PromptEncoder
from ecr_jax.pretrained.language_models import Pretrained
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages.recommender import context_batch, graph_arrays, prompt_sizes
from ecr_jax.stages.transfer import transfer, with_key_value_layers
from ecr_jax.training import sharding
from ecr_jax.training.evaluation import language_model_loss, mean_loss
from ecr_jax.training.loop import fit

_OPENING_TOKENS = 32
"""Columns of a prompt beside the context, for the tokens that open the reply."""


def prompt_encoder(experiment: ExperimentContext, model: Pretrained) -> PromptEncoder:
    """The prompt encoder for the conversation's language model."""
    return PromptEncoder(experiment.config.recommender.prompt, prompt_sizes(experiment, model.config))


def prefix(
    encoder: PromptEncoder, params: Params, frozen: Params, batch: Batch, key: jax.Array | None = None
) -> Prefix:
    """The conversation prefix of a batch.

    Args:
      encoder: the prompt encoder.
      params: the trained parameters of this stage.
      frozen: `graph` and, where it is used, `entity_text`.
      batch: contexts.
      key: of the dropout; None turns it off.
    """
    return encoder.apply(
        {"params": params["encoder"]},
        frozen["graph"],
        batch,
        "conversation",
        frozen.get("entity_text"),
        rngs=None if key is None else {"dropout": key},
    )


def language_model_variables(
    params: Params, frozen: Params, adapter: LoraConfig, *, for_inference: bool = False
) -> Params:
    """The variables of the language model: the frozen base, the trained rows of the added tokens, and the adapter.

    Args:
      params: the trained parameters of this stage.
      frozen: with `language_model`, the base.
      adapter: the adapter's hyperparameters.
      for_inference: merge the adapter into the base where possible.
    """
    rows = params["movie"]["rows"]
    vocabulary = frozen["language_model"]["embed"]["embedding"].shape[0]
    base = lora.with_rows(frozen["language_model"], jnp.arange(vocabulary - rows.shape[0], vocabulary), rows)
    if "adapter" not in params:
        return {"params": base}
    return (lora.for_inference if for_inference else lora.variables)(base, params["adapter"], adapter)


def examples(
    experiment: ExperimentContext, tokenizer: DialogueTokenizer, split: Split, limit: int | None
) -> ReplyExamples:
    """The examples of a split, at most `limit` of them, evenly spread."""
    dialogues = experiment.dialogues(split)
    instances = conversation_instances(dialogues)
    if limit is not None:
        instances = evenly_spaced(instances, limit)
    return ReplyExamples(
        dialogues,
        instances,
        experiment.featurizer(tokenizer),
        tokenizer,
        max_reply=experiment.config.conversation.max_reply,
        exclude_own=split == Split.TRAIN,
    )


def responder(experiment: ExperimentContext) -> RecommendationResponder:
    """The generator of recommendation responses; it keeps those of corpus turns in the stage's folder."""

    def contexts(
        tokenizer: DialogueTokenizer, dialogues: Sequence[Dialogue], instances: Sequence[Instance]
    ) -> Sequence[Example]:
        return ContextExamples(dialogues, instances, experiment.featurizer(tokenizer))

    return RecommendationResponder(lambda: load_model(experiment), contexts, experiment.folder("conversation"))


def load_model(experiment: ExperimentContext) -> RecommendationModel:
    """The trained stage.

    Raises:
      ValueError: the stage is not trained.
    """
    settings = experiment.config.conversation
    params = jax.tree.map(jnp.asarray, experiment.params("conversation"))
    model, tokenizer = experiment.language_model(experiment.config.language_model, settings.layers)
    encoder = prompt_encoder(experiment, model)
    frozen = graph_arrays(experiment)
    variables = language_model_variables(params, {"language_model": model.params}, settings.adapter, for_inference=True)
    decoding = Decoding(
        max_new=settings.max_reply,
        min_new=min(settings.min_reply, settings.max_reply),
        no_repeat_ngram=settings.no_repeat_ngram,
    )
    max_prompt = experiment.config.recommender.max_tokens + _OPENING_TOKENS
    on_device = jax.device_put(frozen)
    compute_prefix = jax.jit(lambda frozen, batch: prefix(encoder, params, frozen, batch))
    return RecommendationModel(
        Generator(model.module, variables, tokenizer, decoding, max_prompt),
        lambda contexts: compute_prefix(on_device, context_batch(experiment, contexts)),
    )


def train(experiment: ExperimentContext, spec: StageSpec) -> None:
    """Trains the recommendation response."""
    config = experiment.config.conversation
    model, tokenizer = experiment.language_model(experiment.config.language_model, config.layers)
    encoder, size = prompt_encoder(experiment, model), config.train.batch_size
    needed = None if config.train.steps is None else config.train.steps * size
    training = examples(experiment, tokenizer, Split.TRAIN, needed)
    validation = examples(experiment, tokenizer, Split.VALID, config.valid_examples)
    limit = experiment.config.recommender.max_tokens + config.max_reply
    shapes = bucket_shapes([training, validation], {"T": (limit // 2, limit)})
    training_batches = Batches(training, shapes, size, seed=config.train.seed)
    frozen = {"language_model": model.params, **graph_arrays(experiment)}
    module = model.module.clone(adapter_dropout=config.adapter.dropout)

    def loss(params, frozen, batch, key):
        prefix_key, adapter_key = (None, None) if key is None else jax.random.split(key)
        prompt = prefix(encoder, params, frozen, batch, prefix_key)
        variables = language_model_variables(params, frozen, config.adapter)
        return language_model_loss(
            module, variables, batch, adapter_key, prefix=(prompt.keys, prompt.values), prefix_mask=prompt.mask
        )

    key = experiment.key(spec)
    init = jax.jit(encoder.init, static_argnums=3)
    initial = init(key, frozen["graph"], training_batches[0], "conversation", frozen.get("entity_text"))["params"]
    sizes, learned = encoder.sizes, experiment.params("fusion")["encoder"]
    learned = with_key_value_layers(
        learned, initial, 2 * sizes.kv_heads * sizes.head_dim, config.fusion_layers == "shared"
    )
    params = {
        **transfer({"encoder": initial}, {"encoder": learned}, "fusion"),
        "movie": {"rows": model.params["embed"]["embedding"][tokenizer.movie :]},
    }
    if config.adapted:
        params["adapter"] = lora.init(key, model.params, config.adapter)
    fit(
        experiment.folder(spec),
        params=params,
        frozen=frozen,
        loss=loss,
        batches=training_batches,
        evaluate=mean_loss(loss, Batches.in_order(validation, shapes, size)),
        select="loss",
        mode="min",
        config=config.train,
        rules=(*language_model_rules(model.config, "language_model|adapter"), *sharding.REPLICATED),
        describe=training.names,
        record=experiment.record(spec),
    )
