"""A frozen language model as a recommender: a linear map of its last state (the GPT-2 row of LLMCRS)."""

from __future__ import annotations

import jax
import numpy as np
from rich.progress import track

from ecr_jax.config import LanguageModelBaselineConfig
from ecr_jax.features.batch_spec import Field
from ecr_jax.features.batches import Batches, Examples, bucket_shapes
from ecr_jax.features.featurizer import ContextFeaturizer, TokenFeature
from ecr_jax.features.instances import ContextExamples, ExtendedExamples, TargetExamples
from ecr_jax.models.baselines.language_model import LanguageModel
from ecr_jax.models.layers import last_state
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages.baselines.baseline import Baseline, item_arrays

_ENCODING_BATCH = 64


def build(experiment: ExperimentContext, settings: LanguageModelBaselineConfig) -> Baseline:
    """The language-model baseline of an experiment."""
    return Baseline(
        LanguageModel(len(experiment.corpus.graph.items), settings.dropout),
        item_arrays(experiment),
        extend=lambda examples: with_last_states(experiment, settings, examples),
    )


def with_last_states(
    experiment: ExperimentContext, settings: LanguageModelBaselineConfig, examples: TargetExamples
) -> Examples:
    """The examples with `state` float32 [D], the frozen language model's state of the context's last token."""
    limit = experiment.config.recommender.max_tokens
    model, tokenizer = experiment.language_model(experiment.config.language_model, settings.layers)
    contexts = ContextExamples(
        examples.dialogues, examples.instances, ContextFeaturizer((TokenFeature(tokenizer, limit),), max_entities=0)
    )
    forward = jax.jit(
        lambda params, tokens, mask: last_state(model.module.apply({"params": params}, tokens, mask).hidden, mask)
    )
    states = np.zeros((len(examples), model.config.width), np.float32)
    batches = Batches.in_order(contexts, bucket_shapes([contexts], {"T": (limit // 2, limit)}), _ENCODING_BATCH)
    for batch in track(batches, total=len(batches), description="encode contexts"):
        real = batch["example_mask"]
        states[batch["example"][real]] = np.asarray(forward(model.params, batch["tokens"], batch["token_mask"]))[real]
    meaning = "the frozen language model's state of the context's last token"
    return ExtendedExamples(examples, Field("state", np.float32, (model.config.width,), meaning=meaning), states)
