"""Stage `emotion`: nine emotions of a seeker utterance, with probabilities (ECR 4.1.1).

Data: labelled utterances (GoEmotions mapped to the nine, the corpus's own labels, or a language model's: see
`emotion.annotations`). Trains a classifier over the mean state of the frozen text encoder. Loss: soft-max cross-entropy
against the uniform distribution over an utterance's labels. Selects by Recall@2 on validation. Then labels every seeker
turn of the corpus and counts the emotion-related co-occurrence of the training dialogues, which later stages read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.metrics import confusion_matrix, f1_score

from ecr_jax.config.registry import StageSpec
from ecr_jax.data.schema import Role, Split
from ecr_jax.emotion.labels import EMOTIONS, select
from ecr_jax.features.batches import Batches, InMemoryExamples
from ecr_jax.features.dialogues import dialogues_of, emotion_labelled_mentions
from ecr_jax.features.instances import classifier_spec
from ecr_jax.features.tokenizer import with_role
from ecr_jax.files import write_json, write_parquet
from ecr_jax.knowledge.cooccurrence import count_cooccurrence
from ecr_jax.models.classifier import Classifier
from ecr_jax.models.sharding_rules import classifier_rules
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.training.evaluation import jit_over_rows
from ecr_jax.training.loop import fit
from ecr_jax.training.step import Loss

Labels = tuple[int, ...]
"""The emotion ids of an utterance."""


def classifier(experiment: ExperimentContext) -> Classifier:
    """The stage's model."""
    return Classifier(experiment.config.emotion.hidden, len(EMOTIONS))


def classify(experiment: ExperimentContext, texts: Sequence[str]) -> np.ndarray:
    """The probabilities that the trained classifier gives to texts with their role words: float32 [n, 9].

    Raises:
      ValueError: the stage is not trained.
    """
    states = experiment.encode_turns(list(texts), cached=False).mean(list(texts))
    logits = classifier(experiment).apply({"params": experiment.params("emotion")}, states)
    return np.asarray(jax.nn.softmax(logits))


def examples(experiment: ExperimentContext, utterances: Sequence[tuple[str, Labels]]) -> InMemoryExamples:
    """One example for each utterance: its mean `state` [D] and the `target` distribution [9]."""
    states = experiment.turn_states.mean([with_role(Role.SEEKER, text) for text, _ in utterances])
    targets = np.zeros((len(utterances), len(EMOTIONS)), np.float32)
    for row, (_, labels) in enumerate(utterances):
        targets[row, list(labels)] = 1 / len(labels)
    rows = [{"state": state, "target": target} for state, target in zip(states, targets, strict=True)]
    return InMemoryExamples(classifier_spec(states.shape[1]), rows)


CLEAR = 0.5
"""The probability from which the label of a text that was not labelled by people is used as its tone."""


def clear_labels(experiment: ExperimentContext, states: np.ndarray) -> list[str]:
    """The emotion of each text, by the trained classifier; "" where none has a probability of `CLEAR`.

    Args:
      experiment: with this stage trained.
      states: mean text-encoder states [n, D] of the texts.

    Raises:
      ValueError: the stage is not trained.
    """
    logits = classifier(experiment).apply({"params": experiment.params("emotion")}, jnp.asarray(states))
    probabilities = np.asarray(jax.nn.softmax(logits))
    best = probabilities.argmax(axis=1)
    return [EMOTIONS[label] if row[label] >= CLEAR else "" for label, row in zip(best, probabilities, strict=True)]


def measure(probabilities: np.ndarray, labels: Sequence[Labels]) -> dict[str, Any]:
    """Recall@2 (ground truth among the two most probable, ECR 4.1.1), macro-F1 and the confusion of the top label.

    Args:
      probabilities: [n, 9].
      labels: ground truth of each utterance. The top label is compared with the most probable label among them.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    recall = [len({*order[i, :2]} & {*truth}) / len(truth) for i, truth in enumerate(labels)]
    first = [max(truth, key=lambda label: probabilities[i, label]) for i, truth in enumerate(labels)]
    counts = np.bincount([label for truth in labels for label in truth], minlength=len(EMOTIONS))
    majority = counts.argsort()[::-1]
    return {
        "recall@2": float(np.mean(recall)),
        "macro_f1": float(f1_score(first, order[:, 0], labels=range(len(EMOTIONS)), average="macro", zero_division=0)),
        "accuracy": float(np.mean(order[:, 0] == first)),
        "majority_recall@2": float(np.mean([len({*majority[:2]} & {*truth}) / len(truth) for truth in labels])),
        "confusion": confusion_matrix(first, order[:, 0], labels=range(len(EMOTIONS))).tolist(),
        "utterances": len(labels),
    }


def classifier_loss(model: Classifier) -> Loss:
    """Soft-max cross-entropy against the distribution over an utterance's labels."""

    def loss(params, frozen, batch, key):
        logits = model.apply({"params": params}, batch["state"])
        values = optax.softmax_cross_entropy(logits, batch["target"])
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
    of_split = {split: examples(experiment, utterances[split]) for split in Split}
    labels = {split: [labels for _, labels in utterances[split]] for split in Split}
    training, model = of_split[Split.TRAIN], classifier(experiment)
    params = model.init(experiment.key(spec), training.spec.zeros(1)["state"])["params"]
    forward = jit_over_rows(lambda params, state: jax.nn.softmax(model.apply({"params": params}, state)))

    def probabilities(params, split: Split) -> np.ndarray:
        return np.asarray(forward(params, np.stack([example["state"] for example in of_split[split]])))

    def evaluate(params, _) -> dict[str, float]:
        measured = measure(probabilities(params, Split.VALID), labels[Split.VALID])
        return {name: measured[name] for name in ("recall@2", "macro_f1", "accuracy")}

    best = fit(
        folder,
        params=params,
        frozen={},
        loss=classifier_loss(model),
        batches=Batches(training, ({},), config.train.batch_size, seed=config.train.seed),
        evaluate=evaluate,
        select="recall@2",
        mode="max",
        config=config.train,
        rules=classifier_rules(),
        record=experiment.record(spec),
    ).params
    measured = {split.value: measure(probabilities(best, split), labels[split]) for split in (Split.VALID, Split.TEST)}
    write_json(folder / "classifier.json", {"labels": list(EMOTIONS)} | measured)
    _label_corpus(experiment, spec, lambda states: np.asarray(forward(best, states)))


def _label_corpus(experiment: ExperimentContext, spec: StageSpec, predict: Callable[[np.ndarray], np.ndarray]) -> None:
    """Writes the emotions of every seeker turn, and the co-occurrence counts that follow from them.

    Args:
      experiment: the experiment.
      spec: of this stage.
      predict: mean states [n, D] -> probabilities [n, 9].
    """
    corpus, folder = experiment.corpus, experiment.folder(spec)
    turns = [
        (conversation.id, index, with_role(Role.SEEKER, turn.text))
        for conversation in corpus.conversations
        for index, turn in enumerate(conversation.turns)
        if turn.role == Role.SEEKER
    ]
    probabilities = predict(experiment.turn_states.mean([text for _, _, text in turns]))
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
