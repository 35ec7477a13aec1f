"""The training and evaluation instances of each stage: which turns are predicted, and their examples as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from ecr_jax.data.schema import SPEAKERS, Feedback, Role
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.features.batch_spec import BatchSpec, Example, Field
from ecr_jax.features.batches import Examples
from ecr_jax.features.dialogues import (
    FEEDBACK_SIGNS,
    Context,
    Dialogue,
    Utterance,
    recommendation_counts,
    seeker_ratings,
    seeker_reaction,
)
from ecr_jax.features.featurizer import ContextFeaturizer
from ecr_jax.features.item_odds import ItemOdds
from ecr_jax.features.plans import Plan, plan_text, reply_prompt
from ecr_jax.features.tokenizer import DialogueTokenizer

ReplyOf = Callable[[Dialogue, int], Utterance]
"""(dialogue, index of the turn to be predicted) -> a turn that is read after the context."""


@dataclass(frozen=True)
class Instance:
    """A turn that is to be predicted.

    Attributes:
      dialogue: index of its dialogue in the list it was taken from.
      turn: index of the turn.
      targets: (entity, feedback, already mentioned in the context) of each target.
    """

    dialogue: int
    turn: int
    targets: tuple[tuple[int, Feedback, bool], ...] = ()


Item = TypeVar("Item")

InstancesOf = Callable[[Sequence[Dialogue]], list[Instance]]
"""Dialogues -> the turns to be predicted."""


def recommendation_instances(
    dialogues: Sequence[Dialogue], roles: Container[Role] = (Role.RECOMMENDER,)
) -> list[Instance]:
    """One instance for each recommender turn, except a dialogue's first, that names an item.

    ECR's released code has one instance for each mention, see `evaluation.protocol.mention_instances`.

    All items of the turn are targets of the one instance, an item named twice only once.

    Args:
      dialogues: the dialogues.
      roles: turns of these roles name targets. Nobody recommends in a turn of unknown role.
    """
    instances = []
    for index, dialogue in enumerate(dialogues):
        before: set[int] = set()
        for turn_index, turn in enumerate(dialogue.turns):
            if turn.role in roles and turn.films and turn_index:
                targets = {item: (item, feedback, item in before) for item, feedback in turn.films}
                instances.append(Instance(index, turn_index, tuple(targets.values())))
            before.update(turn.entities)
    return instances


def film_sequence_instances(dialogues: Sequence[Dialogue]) -> list[Instance]:
    """Those of `recommendation_instances`, and one for each turn of unknown role that names an item, but the first.

    For models of film sequences, which read no text: each film of a dialogue without roles is predicted from the ones
    before it.
    """
    return recommendation_instances(dialogues, (Role.RECOMMENDER, Role.UNKNOWN))


def fusion_instances(dialogues: Sequence[Dialogue]) -> list[Instance]:
    """One instance for each turn of either role that names an entity, except a dialogue's first turn.

    A turn of unknown role has none.

    Reference: UniCRS's pre-training.
    """
    instances = []
    for index, dialogue in enumerate(dialogues):
        for turn_index, turn in enumerate(dialogue.turns):
            if turn.entities and turn_index and turn.role in SPEAKERS:
                targets = tuple((entity, Feedback.UNSAID, False) for entity in dict.fromkeys(turn.entities))
                instances.append(Instance(index, turn_index, targets))
    return instances


def conversation_instances(dialogues: Sequence[Dialogue]) -> list[Instance]:
    """One instance for each recommender turn except a dialogue's first."""
    return [
        Instance(index, turn_index)
        for index, dialogue in enumerate(dialogues)
        for turn_index, turn in enumerate(dialogue.turns)
        if turn.role == Role.RECOMMENDER and turn_index
    ]


def evenly_spaced(instances: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` of the instances, evenly spaced."""
    if not instances:
        return []
    return [instances[i] for i in np.unique(np.linspace(0, len(instances) - 1, limit).astype(int))]


class ContextExamples(Sequence):
    """The examples of instances, built when they are indexed: the arrays of each context."""

    kind = "context"

    def __init__(
        self,
        dialogues: Sequence[Dialogue],
        instances: Sequence[Instance],
        featurizer: ContextFeaturizer,
        *,
        exclude_own: bool = False,
        reply: ReplyOf | None = None,
    ):
        """Prepares the examples.

        Args:
          dialogues: the dialogues.
          instances: the turns to be predicted.
          featurizer: turns contexts into arrays.
          exclude_own: the dialogues are those the co-occurrence was counted on, in the same order: each is shown the
            counts of the others only.
          reply: a turn that is read after each context; None: none.
        """
        self.dialogues, self.instances, self.featurizer = dialogues, instances, featurizer
        self.exclude_own, self.reply = exclude_own, reply
        featurizer.preload(turn for dialogue in dialogues for turn in dialogue.turns)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The arrays besides those of the context."""
        return ()

    @property
    def spec(self) -> BatchSpec:
        """See `batches.Examples`."""
        return self._spec

    @cached_property
    def _spec(self) -> BatchSpec:
        return self.featurizer.spec.extended(self.kind, *self.fields)

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, index: int) -> Example:
        instance = self.instances[index]
        exclude = instance.dialogue if self.exclude_own else None
        return self.featurizer.arrays(self.context(instance), exclude) | self.own_arrays(index)

    def context(self, instance: Instance) -> Context:
        """The context of an instance."""
        dialogue = self.dialogues[instance.dialogue]
        reply = None if self.reply is None else self.reply(dialogue, instance.turn)
        return self.featurizer.context(dialogue.turns[: instance.turn], reply)

    def own_arrays(self, index: int) -> dict[str, np.ndarray]:
        """The arrays of `fields` of one example."""
        return {}

    def own_lengths(self, index: int) -> dict[str, int]:
        """The lengths that `own_arrays` adds, on axes that the context does not have."""
        return {}

    def lengths(self) -> dict[str, np.ndarray]:
        """See `batches.Examples`."""
        return self._lengths

    @cached_property
    def _lengths(self) -> dict[str, np.ndarray]:
        lengths = {axis: np.zeros(len(self), np.int64) for axis in self.spec.axes}
        for index, instance in enumerate(self.instances):
            need = self.featurizer.lengths(self.context(instance)) | self.own_lengths(index)
            for axis, length in need.items():
                lengths[axis][index] = length
        return lengths

    def name(self, index: int) -> str:
        """The example's name in messages: conversation id and turn."""
        instance = self.instances[index]
        return f"{self.dialogues[instance.dialogue].id}:{instance.turn}"

    def names(self, indices: Sequence[int]) -> list[str]:
        """The names of several examples."""
        return [self.name(index) for index in indices]


def target_fields(entities: int) -> tuple[Field, ...]:
    """The array of `TargetExamples`; `entities`: N, which is also the padding."""
    meaning = "ids of the entities to be predicted"
    return (Field("targets", np.int32, ("M",), entities, "target_mask", meaning, entities, "targets"),)


def recommendation_fields(entities: int) -> tuple[Field, ...]:
    """The arrays of `RecommenderExamples`: targets, what losses read about them, and the popularity correction."""
    sign = "1 like, -1 dislike, 0 unsaid"
    return (
        *target_fields(entities),
        Field("target_weight", np.float32, ("M",), 0, meaning="weight of each target in the loss",
              loss_input="weights"),
        Field("feedback", np.int32, ("M",), 0, meaning=f"the seeker's feedback on each target: {sign}",
              loss_input="feedback"),
        Field("rated_items", np.int32, ("F",), entities, meaning="items the seeker gives feedback on",
              below=entities, loss_input="rated_items"),
        Field("ratings", np.int32, ("F",), 0, meaning="that feedback: 1 like, -1 dislike", loss_input="ratings"),
        Field("own_odds_shift", np.float32, ("F",), 0,
              meaning="in training, difference of their log odds of being liked without this dialogue"),
        Field("reaction", np.float32, (len(EMOTIONS),), 0, meaning="the seeker's emotions after the turn",
              loss_input="reaction"),
        Field("own_recommendations", np.int32, ("P",), entities,
              meaning="items that the dialogue itself recommends in training", below=entities),
        Field("own_log_shift", np.float32, ("P",), 0,
              meaning="difference of their log popularity without this dialogue"),
    )  # fmt: skip


class TargetExamples(ContextExamples):
    """Examples whose ground truth is entities."""

    kind = "targets"

    def __init__(
        self,
        dialogues: Sequence[Dialogue],
        instances: Sequence[Instance],
        featurizer: ContextFeaturizer,
        *,
        entities: int,
        exclude_own: bool = False,
        reply: ReplyOf | None = None,
    ):
        """`entities`: N, the number of entities; the others as of `ContextExamples`."""
        super().__init__(dialogues, instances, featurizer, exclude_own=exclude_own, reply=reply)
        self.entities = entities

    @property
    def fields(self) -> tuple[Field, ...]:
        """See `target_fields`."""
        return target_fields(self.entities)

    def own_arrays(self, index: int) -> dict[str, np.ndarray]:
        """See `fields`."""
        return {"targets": np.asarray([entity for entity, _, _ in self.instances[index].targets], np.int32)}

    def own_lengths(self, index: int) -> dict[str, int]:
        """See `ContextExamples`."""
        return {"M": len(self.instances[index].targets)}


class RecommenderExamples(TargetExamples):
    """Examples of the recommender: targets with what the losses read about them (Eq. 7).

    `rated_items`, `ratings` and `reaction` are of the whole dialogue: only losses read them.

    `own_recommendations` and `own_log_shift` take a training dialogue's own recommendations out of the items' log
    popularity, and `own_odds_shift` takes its own answers about `rated_items` out of the items' odds: otherwise the
    ground truth would be part of the input, as it never is at test time.
    """

    kind = "recommendation"

    def __init__(
        self,
        dialogues: Sequence[Dialogue],
        instances: Sequence[Instance],
        featurizer: ContextFeaturizer,
        *,
        weights: Mapping[Feedback, float],
        item_counts: np.ndarray,
        item_odds: ItemOdds,
        exclude_own: bool = False,
        reply: ReplyOf | None = None,
    ):
        """Prepares the examples.

        Args:
          dialogues, instances, featurizer, exclude_own, reply: as of `ContextExamples`.
          weights: of a target in the loss, by the seeker's feedback.
          item_counts: [N + 1] how often each item is recommended in the train split, smoothed.
          item_odds: of the train split's answers.
        """
        super().__init__(
            dialogues, instances, featurizer, entities=len(item_counts) - 1, exclude_own=exclude_own, reply=reply
        )
        self.weights, self.item_counts, self.item_odds = weights, item_counts, item_odds

    @property
    def fields(self) -> tuple[Field, ...]:
        """See `recommendation_fields`."""
        return recommendation_fields(self.entities)

    def own_arrays(self, index: int) -> dict[str, np.ndarray]:
        """See `fields`."""
        instance = self.instances[index]
        dialogue = self.dialogues[instance.dialogue]
        ratings = seeker_ratings(dialogue)
        own = self._own_recommendations(dialogue)
        items = np.asarray(sorted(own), np.int32)
        counts = np.asarray([own[item] for item in items.tolist()])
        return super().own_arrays(index) | {
            "target_weight": np.asarray([self.weights[feedback] for _, feedback, _ in instance.targets], np.float32),
            "feedback": np.asarray([FEEDBACK_SIGNS[feedback] for _, feedback, _ in instance.targets], np.int32),
            "rated_items": np.asarray([*ratings], np.int32),
            "ratings": np.asarray([*ratings.values()], np.int32),
            "own_odds_shift": (
                self.item_odds.own_shift(ratings) if self.exclude_own else np.zeros(len(ratings), np.float32)
            ),
            "reaction": seeker_reaction(dialogue, instance.turn),
            "own_recommendations": items,
            "own_log_shift": np.log(1 - counts / self.item_counts[items]).astype(np.float32),
        }

    def _own_recommendations(self, dialogue: Dialogue) -> Counter[int]:
        return recommendation_counts([dialogue]) if self.exclude_own else Counter()

    def own_lengths(self, index: int) -> dict[str, int]:
        """See `ContextExamples`."""
        dialogue = self.dialogues[self.instances[index].dialogue]
        own = {"F": len(seeker_ratings(dialogue)), "P": len(self._own_recommendations(dialogue))}
        return super().own_lengths(index) | own


class ReplyExamples(ContextExamples):
    """Examples whose ground truth is the recommender's masked reply after its plan.

    `tokens` are the prompt (`plans.reply_prompt`) and the reply, which `loss_mask` marks.
    """

    kind = "reply"

    def __init__(
        self,
        dialogues: Sequence[Dialogue],
        instances: Sequence[Instance],
        featurizer: ContextFeaturizer,
        tokenizer: DialogueTokenizer,
        plans: Sequence[Plan],
        *,
        max_plan: int,
        max_reply: int,
        exclude_own: bool = False,
    ):
        """Prepares the examples.

        Args:
          dialogues, instances, featurizer, exclude_own: as of `ContextExamples`.
          tokenizer: that of the featurizer.
          plans: of the reply of each instance.
          max_plan: most tokens of a plan.
          max_reply: longest reply in tokens.

        Raises:
          ValueError: a plan is too long without its facts.
        """
        super().__init__(dialogues, instances, featurizer, exclude_own=exclude_own)
        opening = len(tokenizer.opening())
        self.prompts: list[list[int]] = []
        for plan in plans:
            prompt = reply_prompt(tokenizer, (), plan, max_plan)
            if prompt is None:
                raise ValueError(f"the plan {plan_text(plan)!r} has more than max_plan={max_plan} tokens; allow more")
            self.prompts.append(prompt)
        replies = [dialogues[instance.dialogue].turns[instance.turn] for instance in instances]
        # A reply that is cut has no end token, so that the model does not learn to stop in the middle.
        self.replies = [
            ids[opening:max_reply] for ids in tokenizer.encode_turns([(turn.role, turn.masked) for turn in replies])
        ]

    @property
    def fields(self) -> tuple[Field, ...]:
        """`loss_mask`: the tokens that the loss is computed over."""
        return (LOSS_MASK,)

    def __getitem__(self, index: int) -> Example:
        example = super().__getitem__(index)
        prompt = [*example["tokens"], *self.prompts[index]]
        tokens = np.asarray([*prompt, *self.replies[index]], np.int32)
        return {**example, "tokens": tokens, "loss_mask": np.arange(len(tokens)) >= len(prompt)}

    @cached_property
    def _lengths(self) -> dict[str, np.ndarray]:
        lengths = super()._lengths
        added = [len(prompt) + len(reply) for prompt, reply in zip(self.prompts, self.replies, strict=True)]
        return lengths | {"T": lengths["T"] + np.asarray(added, np.int64)}


class ExtendedExamples(Sequence):
    """Examples with one more array each, which is computed beforehand."""

    def __init__(self, examples: Examples, field: Field, arrays: Sequence[np.ndarray]):
        """`arrays`: one for each example; they lengthen no axis."""
        self.examples, self.field, self.arrays = examples, field, arrays
        self.spec = examples.spec.extended(examples.spec.name, field)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return {**self.examples[index], self.field.name: self.arrays[index]}

    def lengths(self) -> dict[str, np.ndarray]:
        """See `batches.Examples`."""
        return self.examples.lengths()


LOSS_MASK = Field("loss_mask", bool, ("T",), False, meaning="tokens that the loss is computed over")

REVIEW = BatchSpec(
    "review",
    (Field("tokens", np.int32, ("T",), 0, "token_mask", "token ids of the prompt and the review"), LOSS_MASK),
)
"""Examples of the stage `response`."""


_EMOTION_TARGET = Field("target", np.float32, (len(EMOTIONS),), meaning="uniform distribution over its labels")


def classifier_spec(width: int) -> BatchSpec:
    """Examples of the stage `emotion`; `width`: of the text encoder."""
    state = Field("state", np.float32, (width,), meaning="mean text-encoder state of an utterance")
    return BatchSpec("emotion", (state, _EMOTION_TARGET))


def tuned_classifier_spec() -> BatchSpec:
    """Examples of the stage `emotion` where the text encoder is tuned with the classifier."""
    tokens = Field("tokens", np.int32, ("T",), 0, "token_mask", "token ids of an utterance")
    return BatchSpec("emotion", (tokens, _EMOTION_TARGET))
