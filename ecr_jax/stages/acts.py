"""Stage `acts`: what the seeker's last turn does, and what a recommender's reply to it does.

Data: turns that a corpus labels with dialogue acts (`Turn.acts`), and the labelled dialogues that were prepared beside
it (`corpus.intents`, `corpus.act_dialogues`). Trains a classifier over the frozen text encoder's mean states of the
last three turns. Loss: binary cross-entropy of every label, since a turn may do several things. Selects by the macro F1
of both kinds of labels on validation. Writes acts.json: F1 of every label, beside always predicting the most frequent.

In a running dialogue, `labeller(experiment)` gives the probabilities of the last turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.metrics import f1_score

from ecr_jax.config.registry import StageSpec
from ecr_jax.data.acts import Act
from ecr_jax.data.schema import Split
from ecr_jax.features.acts import (
    REPLY_LABELS,
    SEEKER_LABELS,
    ActInstance,
    act_instances,
    acts_spec,
    features,
    is_complete,
    read_texts,
    targets,
)
from ecr_jax.features.batches import Batches, InMemoryExamples
from ecr_jax.features.dialogues import Utterance
from ecr_jax.features.text_states import TextStates
from ecr_jax.files import write_json
from ecr_jax.models.classifier import Classifier
from ecr_jax.models.sharding_rules import classifier_rules
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.training.evaluation import jit_over_rows
from ecr_jax.training.loop import fit
from ecr_jax.training.step import Loss

_LABELS = (*SEEKER_LABELS, *REPLY_LABELS)
_ROWS = 16
"""Dialogues are labelled in multiples of so many."""


@dataclass(frozen=True)
class ActProbabilities:
    """Independent probabilities of acts.

    Attributes:
      seeker: of each of `SEEKER_LABELS`, that the seeker's last turn does it.
      reply: of each of `REPLY_LABELS`, that a recommender's reply does it.
    """

    seeker: Mapping[Act, float]
    reply: Mapping[Act, float]


ActLabeller = Callable[[Sequence[Sequence[Utterance]], TextStates], list[ActProbabilities]]
"""(dialogues in which the seeker spoke last, states of their turns) -> the probabilities of each."""


def classifier(experiment: ExperimentContext) -> Classifier:
    """The stage's model."""
    return Classifier(experiment.config.acts.hidden, len(_LABELS))


def labeller(experiment: ExperimentContext) -> ActLabeller:
    """A function that labels running dialogues.

    Raises:
      ValueError: the stage is not trained.
    """
    model, params = classifier(experiment), jax.tree.map(jnp.asarray, experiment.params("acts"))
    forward = jax.jit(lambda state: jax.nn.sigmoid(model.apply({"params": params}, state)))

    def label(dialogues: Sequence[Sequence[Utterance]], states: TextStates) -> list[ActProbabilities]:
        if not dialogues:
            return []
        read = np.stack([features(turns, states) for turns in dialogues])
        filled = np.pad(
            read, ((0, -len(read) % _ROWS), (0, 0))
        )  # a dialogue that goes on is no new shape to compile for
        rows = np.asarray(forward(filled))[: len(read)].tolist()
        count = len(SEEKER_LABELS)
        return [
            ActProbabilities(
                dict(zip(SEEKER_LABELS, row[:count], strict=True)), dict(zip(REPLY_LABELS, row[count:], strict=True))
            )
            for row in rows
        ]

    return label


def instances(experiment: ExperimentContext, split: Split) -> list[ActInstance]:
    """The labelled turns of a split: of the corpus, and of the dialogues that were prepared beside it."""
    corpus = experiment.corpus
    labelled = (conversation for conversation in corpus.act_conversations if conversation.split == split)
    return act_instances([*corpus.split(split), *labelled])


def examples(experiment: ExperimentContext, split: Split) -> InMemoryExamples:
    """One example for each labelled turn of a split."""
    found = instances(experiment, split)
    states, known = experiment.turn_states, experiment.turn_states.index
    texts = sorted({text for instance in found for text in read_texts(instance.turns)} - known.keys())
    if texts:  # of the dialogues that were prepared beside the corpus
        states = states.with_fallback(experiment.encode_turns(texts, label=f"encode {split.value} acts"))
    rows = [
        {
            "state": features(instance.turns, states),
            "seeker": targets(instance.acts, SEEKER_LABELS),
            "reply": targets(instance.reply, REPLY_LABELS),
            "known": np.asarray([is_complete(instance.acts), bool(instance.reply)], np.float32),
        }
        for instance in found
    ]
    return InMemoryExamples(acts_spec(experiment.encoder.width), rows)


def measure(probabilities: np.ndarray, truth: np.ndarray, labels: Sequence[Act]) -> dict[str, Any]:
    """F1 of every label that occurs, their mean, and what always predicting the most frequent label reaches.

    Args:
      probabilities: [n, labels].
      truth: [n, labels] of 0 and 1.
      labels: their names.
    """
    if not len(truth):
        return {"turns": 0}
    occurs = np.flatnonzero(truth.any(axis=0))
    f1 = f1_score(truth, probabilities > 0.5, average=None, zero_division=0)
    always = np.zeros_like(truth)
    always[:, truth.sum(axis=0).argmax()] = 1
    most_frequent = f1_score(truth, always, average=None, zero_division=0)
    return {
        "turns": len(truth),
        "macro_f1": float(np.mean(f1[occurs])),
        "most_frequent_macro_f1": float(np.mean(most_frequent[occurs])),
        "f1": {str(labels[place]): float(f1[place]) for place in occurs},
        "count": {str(labels[place]): int(truth[:, place].sum()) for place in occurs},
    }


def act_loss(model: Classifier) -> Loss:
    """Binary cross-entropy of every label that is known."""
    sizes = jnp.asarray([len(SEEKER_LABELS), len(REPLY_LABELS)])

    def loss(params, frozen, batch, key):
        logits = model.apply({"params": params}, batch["state"])
        truth = jnp.concatenate([batch["seeker"], batch["reply"]], axis=1)
        weight = jnp.repeat(batch["known"], sizes, axis=1, total_repeat_length=len(_LABELS))
        weight = weight * batch["example_mask"][:, None]
        return jnp.sum(optax.sigmoid_binary_cross_entropy(logits, truth) * weight), jnp.sum(weight), {}

    return loss


def train(experiment: ExperimentContext, spec: StageSpec) -> None:
    """Trains the classifier and measures it on validation and test turns.

    Raises:
      ValueError: no turn of the training or of the validation split is labelled with acts.
    """
    config, folder = experiment.config.acts, experiment.folder(spec)
    of_split = {split: examples(experiment, split) for split in Split}
    for split in (Split.TRAIN, Split.VALID):
        if not len(of_split[split]):
            raise ValueError(
                f"no turns of the {split.value} split are labelled with acts: give them `acts`, or set corpus.intents "
                "or corpus.act_dialogues, and prepare again"
            )
    training, model = of_split[Split.TRAIN], classifier(experiment)
    params = model.init(experiment.key(spec), training.spec.zeros(1)["state"])["params"]
    forward = jit_over_rows(lambda params, state: jax.nn.sigmoid(model.apply({"params": params}, state)))

    def measured(params, split: Split) -> dict[str, Any]:
        rows = [of_split[split][index] for index in range(len(of_split[split]))]
        if not rows:
            return {}
        probabilities = np.asarray(forward(params, np.stack([row["state"] for row in rows])))
        known = np.stack([row["known"] for row in rows]) > 0
        count, of_kind = len(SEEKER_LABELS), {}
        for column, (kind, labels, part) in enumerate(
            (("seeker", SEEKER_LABELS, probabilities[:, :count]), ("reply", REPLY_LABELS, probabilities[:, count:]))
        ):
            truth = np.stack([row[kind] for row in rows])
            of_kind[kind] = measure(part[known[:, column]], truth[known[:, column]], labels)
        return of_kind

    def evaluate(params, _) -> dict[str, float]:
        of_kind = measured(params, Split.VALID)
        scores = {f"{kind}_f1": values["macro_f1"] for kind, values in of_kind.items() if values["turns"]}
        return {"f1": float(np.mean(list(scores.values()))), **scores}

    best = fit(
        folder,
        params=params,
        frozen={},
        loss=act_loss(model),
        batches=Batches(training, ({},), config.train.batch_size, seed=config.train.seed),
        evaluate=evaluate,
        select="f1",
        mode="max",
        config=config.train,
        rules=classifier_rules(),
        record=experiment.record(spec),
    ).params
    write_json(folder / "acts.json", {split.value: measured(best, split) for split in (Split.VALID, Split.TEST)})
