"""Stage `emotion`: nine emotions of a seeker utterance, with probabilities (ECR 4.1.1).

Data: labelled utterances (GoEmotions mapped to the nine, the corpus's own labels, or a language model's: see
`emotion.annotations`). Trains a classifier over the mean state of the text encoder, which is frozen, or with
`emotion.adapter` tuned with it (see `stages.emotion_model`). Loss: soft-max cross-entropy against the uniform
distribution over an utterance's labels. Selects by Recall@2 on validation. Then labels every seeker turn of the corpus
and counts the emotion-related co-occurrence of the training dialogues, which later stages read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from sklearn.metrics import confusion_matrix, f1_score

from ecr_jax.config.registry import StageSpec
from ecr_jax.data.schema import Role, Split
from ecr_jax.emotion.labels import EMOTIONS, select
from ecr_jax.features.batches import Batches
from ecr_jax.features.dialogues import dialogues_of, emotion_labelled_mentions
from ecr_jax.features.tokenizer import with_role
from ecr_jax.files import write_json, write_parquet
from ecr_jax.knowledge.cooccurrence import count_cooccurrence
from ecr_jax.models.sharding_rules import emotion_rules
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages.emotion_model import (
    EmotionModel,
    Labels,
    Predictor,
    classify,
    emotion_model,
    examples,
    frozen_arrays,
    shapes,
)
from ecr_jax.training.loop import fit
from ecr_jax.training.step import Loss


def measure(probabilities: np.ndarray, labels: Sequence[Labels]) -> dict[str, Any]:
    """Recall@2 (ground truth among the two most probable, ECR 4.1.1); accuracy, macro-F1, confusion of the top label.

    An utterance with several labels counts in equal parts as one of each, so that no prediction chooses its truth.

    Args:
      probabilities: [n, 9].
      labels: ground truth of each utterance.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    recall = [len({*order[i, :2]} & {*truth}) / len(truth) for i, truth in enumerate(labels)]
    counts = np.bincount([label for truth in labels for label in truth], minlength=len(EMOTIONS))
    majority = counts.argsort()[::-1]
    truth = np.array([label for of_one in labels for label in of_one])
    share = np.array([1 / len(of_one) for of_one in labels for _ in of_one])
    top = np.repeat(order[:, 0], [len(of_one) for of_one in labels])
    classes, weighted = range(len(EMOTIONS)), {"sample_weight": share}
    return {
        "recall@2": float(np.mean(recall)),
        "macro_f1": float(f1_score(truth, top, labels=classes, average="macro", zero_division=0, **weighted)),
        "accuracy": float(np.sum(share * (truth == top)) / len(labels)),
        "majority_recall@2": float(np.mean([len({*majority[:2]} & {*truth}) / len(truth) for truth in labels])),
        "confusion": confusion_matrix(truth, top, labels=classes, **weighted).round(2).tolist(),
        "utterances": len(labels),
    }


def classifier_loss(model: EmotionModel) -> Loss:
    """Soft-max cross-entropy against the distribution over an utterance's labels."""

    def loss(params, frozen, batch, key):
        values = optax.softmax_cross_entropy(model.logits(params, frozen, batch), batch["target"])
        return jnp.sum(values * batch["example_mask"]), jnp.sum(batch["example_mask"]), {}

    return loss


def train(experiment: ExperimentContext, spec: StageSpec) -> None:
    """Trains the classifier, measures it on validation and test utterances, labels the corpus, counts co-occurrence."""
    config, folder = experiment.config.emotion, experiment.folder(spec)
    utterances = {split: experiment.utterances(split) for split in Split}
    if missing := [split.value for split, of_split in utterances.items() if not of_split]:
        raise ValueError(
            f"no utterances with emotions in {', '.join(missing)}: set corpus.goemotions, or give seeker turns "
            "`emotions`, and prepare again; or annotate these splits with `ecr annotate` and set emotion.annotations"
        )
    labels = {split: [labels for _, labels in utterances[split]] for split in Split}
    texts = {split: [with_role(Role.SEEKER, text) for text, _ in utterances[split]] for split in Split}
    of_split = {split: examples(experiment, texts[split], labels[split], experiment.turn_states) for split in Split}
    model, frozen = emotion_model(experiment), frozen_arrays(experiment)
    predict = Predictor(model, shapes(experiment))

    def evaluate(params, frozen) -> dict[str, float]:
        measured = measure(predict(params, frozen, of_split[Split.VALID]), labels[Split.VALID])
        return {name: measured[name] for name in ("recall@2", "macro_f1", "accuracy")}

    best = fit(
        folder,
        params=model.init(experiment.key(spec), experiment.encoder.width, frozen),
        frozen=frozen,
        loss=classifier_loss(model),
        batches=Batches(of_split[Split.TRAIN], shapes(experiment), config.train.batch_size, seed=config.train.seed),
        evaluate=evaluate,
        select="recall@2",
        mode="max",
        config=config.train,
        rules=emotion_rules(experiment.encoder.model.config),
        record=experiment.record(spec),
    ).params
    measured = {
        split.value: measure(predict(best, frozen, of_split[split]), labels[split])
        for split in (Split.VALID, Split.TEST)
    }
    write_json(folder / "classifier.json", {"labels": list(EMOTIONS)} | measured)
    _label_corpus(experiment, spec)


def _label_corpus(experiment: ExperimentContext, spec: StageSpec) -> None:
    """Writes the emotions of every seeker turn by the trained classifier, and the co-occurrence counts with them."""
    corpus, folder = experiment.corpus, experiment.folder(spec)
    turns = [
        (conversation.id, index, with_role(Role.SEEKER, turn.text))
        for conversation in corpus.conversations
        for index, turn in enumerate(conversation.turns)
        if turn.role == Role.SEEKER
    ]
    probabilities = classify(experiment, [text for _, _, text in turns], experiment.turn_states)
    selected = [tuple(select(row, experiment.config.emotion.beta)) for row in probabilities]
    columns = {
        "conversation": [conversation for conversation, _, _ in turns],
        "turn": [index for _, index, _ in turns],
        "labels": [[label for label, _ in emotions] for emotions in selected],
        "probabilities": [[probability for _, probability in emotions] for emotions in selected],
    }
    types = {"conversation": "string", "turn": "int64", "labels": ["int64"], "probabilities": ["float64"]}
    write_parquet(folder / "emotions.parquet", columns, types)
    by_turn = {(conversation, index): e for (conversation, index, _), e in zip(turns, selected, strict=True)}
    graph, settings = corpus.graph, experiment.config.recommender
    dialogues = dialogues_of(corpus.split(Split.TRAIN), graph.ids, graph.items, by_turn)
    mentions = [emotion_labelled_mentions(dialogue.turns) for dialogue in dialogues]
    count_cooccurrence(
        mentions,
        len(graph),
        emotions_per_mention=settings.emotions_per_entity,
        directional=settings.directional_cooccurrence,
        self_pairs=settings.directional_cooccurrence,
    ).save(folder / "emotion_cooccurrence.npz")
    all_pairs = count_cooccurrence(mentions, len(graph), require_emotion=False)
    all_pairs.restricted_to(graph.items).save(folder / "cooccurrence.npz")
