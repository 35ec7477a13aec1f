"""Stage `emotion`: hears nine emotions in a seeker's words (ECR 4.1.1).

Reads labelled utterances (GoEmotions mapped to the nine, or the corpus's own labels). Trains a classifier over the mean
state of the frozen text encoder. Loss: soft-max cross-entropy against the uniform distribution over an utterance's
labels. Selects by Recall@2 on validation. Then labels every seeker turn of the corpus and counts the emotion-related
co-occurrence of the training dialogues, which the later stages read.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.metrics import confusion_matrix, f1_score

from ecr_jax.data.schema import Role, Split
from ecr_jax.emotion.labels import EMOTIONS, select
from ecr_jax.features.batches import Batches, Field
from ecr_jax.features.examples import dialogues, emotion_labelled_mentions
from ecr_jax.features.tokenizer import ROLE_WORDS
from ecr_jax.files import write_json, write_parquet
from ecr_jax.knowledge.cooccurrence import count_cooccurrence
from ecr_jax.models.classifier import Classifier
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.training.loop import fit

FIELDS = {"state": Field(0, (None,)), "target": Field(0, (None,))}


def unit(text: str) -> str:
    """What the text encoder reads of a seeker's words."""
    return ROLE_WORDS[Role.SEEKER] + text


def classifier(experiment: ExperimentContext) -> Classifier:
    """The stage's model."""
    return Classifier(experiment.config.emotion.hidden, len(EMOTIONS))


def examples(
    experiment: ExperimentContext, utterances: list[tuple[str, tuple[int, ...]]]
) -> list[dict[str, np.ndarray]]:
    """One example an utterance: its pooled `state` [D] and the `target` distribution [9]."""
    pooled = experiment.turn_states.mean([unit(text) for text, _ in utterances])
    targets = np.zeros((len(utterances), len(EMOTIONS)), np.float32)
    for row, (_, labels) in enumerate(utterances):
        targets[row, list(labels)] = 1 / len(labels)
    return [{"state": state, "target": target} for state, target in zip(pooled, targets, strict=True)]


def measure(probabilities: np.ndarray, labels: list[tuple[int, ...]]) -> dict:
    """Recall@2 (gold labels among the two most probable, ECR 4.1.1), macro-F1 and the confusion of the top label.

    Args:
      probabilities: [n, 9].
      labels: gold ids of each utterance. The top label is compared with the gold label that is the most probable one.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    recall = [len({*order[i, :2]} & {*gold}) / len(gold) for i, gold in enumerate(labels)]
    first = [max(gold, key=lambda label: probabilities[i, label]) for i, gold in enumerate(labels)]
    majority = np.bincount([gold for found in labels for gold in found], minlength=len(EMOTIONS)).argsort()[::-1]
    return {
        "recall@2": float(np.mean(recall)),
        "macro_f1": float(f1_score(first, order[:, 0], labels=range(len(EMOTIONS)), average="macro", zero_division=0)),
        "accuracy": float(np.mean(order[:, 0] == first)),
        "majority_recall@2": float(np.mean([len({*majority[:2]} & {*gold}) / len(gold) for gold in labels])),
        "confusion": confusion_matrix(first, order[:, 0], labels=range(len(EMOTIONS))).tolist(),
        "utterances": len(labels),
    }


def train(experiment: ExperimentContext) -> None:
    """Trains the classifier, measures it on validation and test utterances, labels the corpus, counts co-occurrence."""
    config, folder = experiment.config.emotion, experiment.config.stage_folder("emotion")
    utterances = {split: experiment.utterances(split) for split in Split}
    missing = [split.value for split, found in utterances.items() if not found]
    if missing:
        raise ValueError(
            f"no utterances with emotions in {', '.join(missing)}: set corpus.goemotions, or give seeker turns "
            "`emotions`, and prepare again"
        )
    made = {split: examples(experiment, found) for split, found in utterances.items()}
    model = classifier(experiment)
    params = model.init(experiment.key("emotion"), made[Split.TRAIN][0]["state"][None])["params"]
    forward = jax.jit(lambda params, state: jax.nn.softmax(model.apply({"params": params}, state)))

    def loss(params, frozen, batch, key):
        logits = model.apply({"params": params}, batch["state"])
        values = optax.softmax_cross_entropy(logits, batch["target"])
        return jnp.sum(values * batch["example_mask"]), jnp.sum(batch["example_mask"]), {}

    def probabilities(params, split: Split) -> np.ndarray:
        return np.asarray(forward(params, np.stack([example["state"] for example in made[split]])))

    def evaluate(params, _) -> dict[str, float]:
        found = measure(probabilities(params, Split.VALID), [labels for _, labels in utterances[Split.VALID]])
        return {name: found[name] for name in ("recall@2", "macro_f1", "accuracy")}

    result = fit(
        folder,
        params=params,
        frozen={},
        loss=loss,
        batches=Batches(made[Split.TRAIN], FIELDS, ({},), config.train.batch_size, seed=config.train.seed),
        evaluate=evaluate,
        select="recall@2",
        mode="max",
        config=config.train,
        record=experiment.recorded("emotion"),
    )
    write_json(
        folder / "classifier.json",
        {"labels": list(EMOTIONS)}
        | {
            split.value: measure(probabilities(result.params, split), [labels for _, labels in utterances[split]])
            for split in (Split.VALID, Split.TEST)
        },
    )
    _label(experiment, lambda states: np.asarray(forward(result.params, states)))


def _label(experiment: ExperimentContext, forward) -> None:
    """Writes the emotions of every seeker turn, and the co-occurrence that follows from them."""
    prepared, folder = experiment.prepared, experiment.config.stage_folder("emotion")
    places = [
        (conversation.id, index, unit(turn.text))
        for conversation in prepared.conversations
        for index, turn in enumerate(conversation.turns)
        if turn.role == Role.SEEKER
    ]
    probabilities = forward(experiment.turn_states.mean([text for _, _, text in places]))
    chosen = [select(row, experiment.config.emotion.beta) for row in probabilities]
    rows = [
        {
            "conversation": conversation,
            "turn": index,
            "labels": [label for label, _ in found],
            "probabilities": [probability for _, probability in found],
        }
        for (conversation, index, _), found in zip(places, chosen, strict=True)
    ]
    types = {"conversation": "string", "turn": "int64", "labels": ["int64"], "probabilities": ["float64"]}
    write_parquet(folder / "emotions.parquet", {name: [row[name] for row in rows] for name in types}, types)
    emotions = {(row["conversation"], row["turn"]): tuple(f) for row, f in zip(rows, chosen, strict=True)}
    spoken = dialogues(prepared.split(Split.TRAIN), prepared.graph.ids, prepared.graph.items, emotions)
    mentions = [emotion_labelled_mentions(dialogue.turns) for dialogue in spoken]
    settings = experiment.config.recommender
    directional = settings.chosen("directional")
    count_cooccurrence(
        mentions,
        len(prepared.graph),
        emotions_per_mention=settings.emotions,
        directional=directional,
        self_pairs=directional,
    ).save(folder / "emotion_cooccurrence.npz")
    said = count_cooccurrence(mentions, len(prepared.graph), require_emotion=False)
    said.restricted_to(prepared.graph.items).save(folder / "cooccurrence.npz")
