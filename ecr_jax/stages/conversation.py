"""Stage `conversation`: the recommendation response u^r, a reply with `<movie>` slots (ECR Eq. 1).

Data: recommender turns with their contexts and plans (`features/plans.py`): a reply is learned after the dialogue and
what it is to do. Trains the prompt encoder with its conversation prefix, initialised from `fusion`, and of the language
model what `tune` says: a LoRA adapter with the `<movie>` row of the vocabulary, this row alone, or all of it. Fusion's
projection to keys and values is for the layers of the recommender: `conversation.fusion_layers` says what is taken over
where the conversation has more, and the training prints it. Loss: next-token cross-entropy over the masked reply.
Selects by the lowest validation loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from ecr_jax.config.registry import StageSpec
from ecr_jax.data.schema import Role, Split
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.features.batch_spec import Batch, Example
from ecr_jax.features.batches import Batches, bucket_shapes
from ecr_jax.features.dialogues import Dialogue, dialogues_of
from ecr_jax.features.featurizer import ContextFeaturizer, TokenFeature
from ecr_jax.features.instances import (
    ContextExamples,
    Instance,
    ReplyExamples,
    conversation_instances,
    evenly_spaced,
)
from ecr_jax.features.plans import Plan, plan_of_turn
from ecr_jax.features.tokenizer import DialogueTokenizer, with_role
from ecr_jax.inference.decoding import Decoding
from ecr_jax.inference.responses import RecommendationModel, RecommendationResponder
from ecr_jax.inference.writing import Fluency, Generator, ReplyWriter
from ecr_jax.models.lm.language_model import Params
from ecr_jax.models.prompt import Prefix, PromptEncoder
from ecr_jax.models.sharding_rules import generator_rules
from ecr_jax.pretrained.language_models import Pretrained
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import emotion_model, tuning
from ecr_jax.stages.recommender import context_batch, graph_arrays, prompt_sizes
from ecr_jax.stages.transfer import transfer, with_key_value_layers
from ecr_jax.training.evaluation import language_model_loss, mean_loss
from ecr_jax.training.loop import fit
from ecr_jax.training.step import Loss

MOST_FILMS = 4
"""Films of a reply that is learned: a reply is to name few."""


def language_model(experiment: ExperimentContext, *, on_host: bool = False) -> tuple[Pretrained, DialogueTokenizer]:
    """The stage's language model and its tokenizer; `on_host` as of `pretrained.language_models.load`."""
    settings, name = experiment.config.conversation, experiment.config.language_model
    return experiment.language_model(name, settings.layers, dtype=settings.dtype, on_host=on_host)


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


def featurizer(experiment: ExperimentContext, tokenizer: DialogueTokenizer) -> ContextFeaturizer:
    """What the stage reads of a context: with the knowledge prefix what the recommender reads, without it the text."""
    if experiment.config.conversation.prefix:
        return experiment.featurizer(tokenizer)
    settings = experiment.config.recommender
    return ContextFeaturizer([TokenFeature(tokenizer, settings.max_tokens)], settings.max_entities)


def dialogues_of_split(experiment: ExperimentContext, split: Split) -> list[Dialogue]:
    """The dialogues of a split in ids; without emotions where the stage does not read those of the stage `emotion`."""
    settings, graph = experiment.config.conversation, experiment.corpus.graph
    if settings.prefix or settings.classify_emotions:
        return experiment.dialogues(split)
    return dialogues_of(experiment.corpus.split(split), graph.ids, graph.items, {})


def planned_instances(experiment: ExperimentContext, split: Split) -> list[tuple[Instance, Plan]]:
    """The recommender's turns of a split, except a dialogue's first, with the plans that they carry out.

    What the seeker feels and the tone of a turn are as the corpus labels them. Where it has no labels of such turns,
    they are what the stage `emotion` finds (`conversation.classify_emotions`). Left out are turns without a plan
    (`plans.plan_of_turn`), and those with more than `MOST_FILMS` films, which are lists.
    """
    corpus, dialogues = experiment.corpus, dialogues_of_split(experiment, split)
    conversations, instances = corpus.split(split), conversation_instances(dialogues)
    turns = [conversations[instance.dialogue].turns[instance.turn] for instance in instances]
    tones = [turn.emotions[0] if turn.emotions else "" for turn in turns]
    labelled = any(turn.emotions for c in corpus.conversations for turn in c.turns if turn.role == Role.RECOMMENDER)
    if turns and experiment.config.conversation.classify_emotions and not labelled:
        texts = [with_role(turn.role, turn.text) for turn in turns]
        tones = emotion_model.clear_labels(experiment, texts, experiment.turn_states)
    planned = []
    for instance, tone in zip(instances, tones, strict=True):
        said = conversations[instance.dialogue].turns[instance.turn - 1]
        found = dialogues[instance.dialogue].turns[instance.turn - 1].emotions
        heard = next(iter(said.emotions), EMOTIONS[found[0][0]] if found else "") if said.role == Role.SEEKER else ""
        plan = plan_of_turn(conversations[instance.dialogue], instance.turn, corpus.graph, heard, tone)
        if plan is not None and len(plan.films) <= MOST_FILMS:
            planned.append((instance, plan))
    return planned


def examples(
    experiment: ExperimentContext, tokenizer: DialogueTokenizer, split: Split, limit: int | None
) -> ReplyExamples:
    """The examples of a split, at most `limit` of them, evenly spread."""
    settings = experiment.config.conversation
    planned = planned_instances(experiment, split)
    if limit is not None:
        planned = evenly_spaced(planned, limit)
    return ReplyExamples(
        dialogues_of_split(experiment, split),
        [instance for instance, _ in planned],
        featurizer(experiment, tokenizer),
        tokenizer,
        [plan for _, plan in planned],
        max_plan=settings.max_plan,
        max_reply=settings.max_reply,
        exclude_own=split == Split.TRAIN and settings.prefix,
    )


def responder(experiment: ExperimentContext) -> RecommendationResponder:
    """The generator of recommendation responses; it keeps those of corpus turns in the stage's folder."""

    def contexts(
        tokenizer: DialogueTokenizer, dialogues: Sequence[Dialogue], instances: Sequence[Instance]
    ) -> Sequence[Example]:
        return ContextExamples(dialogues, instances, featurizer(experiment, tokenizer))

    return RecommendationResponder(
        lambda: RecommendationModel(writer(experiment)), contexts, experiment.folder("conversation")
    )


def writer(experiment: ExperimentContext) -> ReplyWriter:
    """The writer of recommendation responses, with the trained parameters.

    Raises:
      ValueError: the stage is not trained.
    """
    settings = experiment.config.conversation
    params = jax.tree.map(jnp.asarray, experiment.params("conversation"))
    model, tokenizer = language_model(experiment)
    variables = tuning.variables(params, {"language_model": model.params}, settings.adapter, for_inference=True)
    decoding = Decoding(
        max_new=settings.max_reply,
        min_new=min(settings.min_reply, settings.max_reply),
        temperature=settings.sampling.temperature,
        min_p=settings.sampling.min_p,
        no_repeat_ngram=settings.no_repeat_ngram,
    )
    columns = experiment.config.recommender.max_tokens + settings.max_plan + len(tokenizer.opening())
    generator = Generator(model.module, variables, tokenizer, decoding, columns, experiment.config.seed)
    if not settings.prefix:
        return ReplyWriter(generator, None, settings.max_plan)
    encoder, frozen = prompt_encoder(experiment, model), jax.device_put(graph_arrays(experiment))
    compute_prefix = jax.jit(lambda frozen, batch: prefix(encoder, params, frozen, batch))
    return ReplyWriter(
        generator,
        lambda contexts: compute_prefix(frozen, context_batch(experiment, contexts, prompt_only=True)),
        settings.max_plan,
    )


def fluency(experiment: ExperimentContext) -> Fluency:
    """How probable texts are under the conversation's language model as it was before training."""
    model, tokenizer = language_model(experiment)
    return Fluency(model.module, model.params, tokenizer)


def reply_loss(
    experiment: ExperimentContext, model: Pretrained, change: Callable[[Prefix], Prefix] = lambda prefix: prefix
) -> Loss:
    """The stage's loss: next-token cross-entropy over the replies of a batch.

    Args:
      experiment: with the stage's settings.
      model: its language model.
      change: of the knowledge prefix, to measure what it is worth.
    """
    config = experiment.config.conversation
    module = model.module.clone(adapter_dropout=config.adapter.dropout)
    encoder = prompt_encoder(experiment, model) if config.prefix else None

    def loss(params, frozen, batch, key):
        prefix_key, adapter_key = (None, None) if key is None else jax.random.split(key)
        prompt = None if encoder is None else change(prefix(encoder, params, frozen, batch, prefix_key))
        return language_model_loss(
            module,
            tuning.variables(params, frozen, config.adapter),
            batch,
            adapter_key,
            prefix=None if prompt is None else (prompt.keys, prompt.values),
            prefix_mask=None if prompt is None else prompt.mask,
        )

    return loss


def train(experiment: ExperimentContext, spec: StageSpec) -> None:
    """Trains the recommendation response."""
    config, base = experiment.config.conversation, experiment.config.language_model
    model, tokenizer = language_model(experiment, on_host=True)
    size, key = config.train.batch_size, experiment.key(spec)
    needed = None if config.train.steps is None else config.train.steps * size
    training = examples(experiment, tokenizer, Split.TRAIN, needed)
    validation = examples(experiment, tokenizer, Split.VALID, config.valid_examples)
    longest = experiment.config.recommender.max_tokens + config.max_plan + config.max_reply
    shapes = bucket_shapes([training, validation], {"T": (longest // 2, 3 * longest // 4, longest)})
    batches = Batches(training, shapes, size, seed=config.train.seed)
    params = tuning.initial(key, model, config.tune, config.adapter)
    if config.tune != "model":
        params["movie"] = {"rows": model.params["embed"]["embedding"][tokenizer.movie :].astype(jnp.float32)}
    params = tuning.begun_with(params, config.begin_with, spec.name, base, config.adapter)
    frozen: Params = {} if config.tune == "model" else {"language_model": model.params}
    if config.prefix:
        frozen |= graph_arrays(experiment)
        params["encoder"] = _initial_encoder(experiment, prompt_encoder(experiment, model), key, frozen, batches[0])
    loss = reply_loss(experiment, model)
    fit(
        experiment.folder(spec),
        params=params,
        frozen=frozen,
        loss=loss,
        batches=batches,
        evaluate=mean_loss(loss, Batches.in_order(validation, shapes, size)),
        select="loss",
        mode="min",
        config=config.train,
        rules=generator_rules(model.config),
        describe=training.names,
        record=experiment.record(spec),
    )


def _initial_encoder(
    experiment: ExperimentContext, encoder: PromptEncoder, key: jax.Array, frozen: Params, batch: Batch
) -> Params:
    """The prompt encoder as fusion learned it, as far as it fits."""
    init = jax.jit(encoder.init, static_argnums=3)
    initial = init(key, frozen["graph"], batch, "conversation", frozen.get("entity_text"))["params"]
    sizes, learned = encoder.sizes, experiment.params("fusion")["encoder"]
    shared = experiment.config.conversation.fusion_layers == "shared"
    learned = with_key_value_layers(learned, initial, 2 * sizes.kv_heads * sizes.head_dim, shared)
    return transfer({"encoder": initial}, {"encoder": learned}, "fusion")["encoder"]
