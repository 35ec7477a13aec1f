"""Dialogues in ids: utterances with their entities, items and emotions, and the context before a turn.

The chat builds the same `Context` from a running dialogue as training does from a corpus.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ecr_jax.data.schema import Conversation, Feedback, Role, Split
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.features.plans import Plan
from ecr_jax.features.tokenizer import with_role
from ecr_jax.knowledge.cooccurrence import EmotionLabelledMention

Emotions = tuple[tuple[int, float], ...]
"""Emotion ids with their probabilities, most probable first."""

FEEDBACK_SIGNS = {Feedback.LIKE: 1, Feedback.DISLIKE: -1, Feedback.UNSAID: 0}
"""The seeker's feedback as a number that a loss can multiply by."""


@dataclass(frozen=True)
class Correction:
    """What the seeker changes by hand before a turn, on a page and not in words.

    Attributes:
      forgotten: ids of the beliefs that are withdrawn (`inference.memory.Belief`).
      liked, disliked, seen: films that are marked so.
      passed: films that the reply to the turn must not recommend.
    """

    forgotten: frozenset[str] = frozenset()
    liked: tuple[int, ...] = ()
    disliked: tuple[int, ...] = ()
    seen: tuple[int, ...] = ()
    passed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Utterance:
    """A turn in ids.

    Attributes:
      role: who speaks.
      text: its text; empty where only its films are known.
      masked: the text with `<movie>` for each film.
      entities: linked entities in order of mention, films among them.
      films: linked items with the seeker's feedback, in order of mention.
      emotions: the seeker's emotions in this turn (empty for other roles).
      valences: (entity, valence) of what the seeker names in this turn, where it is known; a valence lies between -1
        (disliked) and 1 (liked), see `features.valence.valence_of`.
      plan: what the turn was planned to do, where it is a reply of our own; its entities are those of the plan.
      correction: what the seeker changed by hand before this turn.
    """

    role: Role
    text: str
    masked: str
    entities: tuple[int, ...] = ()
    films: tuple[tuple[int, Feedback], ...] = ()
    emotions: Emotions = ()
    valences: tuple[tuple[int, float], ...] = ()
    plan: Plan | None = None
    correction: Correction | None = None

    @property
    def text_with_role(self) -> str:
        """The turn as the text encoder reads it."""
        return with_role(self.role, self.text)


@dataclass(frozen=True)
class Dialogue:
    """A conversation in ids."""

    id: str
    split: Split
    turns: tuple[Utterance, ...]


def dialogues_of(
    conversations: Iterable[Conversation],
    ids: Mapping[str, int],
    items: Iterable[int],
    emotions: Mapping[tuple[str, int], Emotions],
) -> list[Dialogue]:
    """Turns linked conversations and the emotion labels of their turns into ids.

    Args:
      conversations: linked conversations; mentions without an entity are left out (the manifest counts them).
      ids: URI -> entity id.
      items: entity ids of the recommendable films.
      emotions: (conversation id, turn index) -> emotions of a seeker turn.
    """
    items = frozenset(int(item) for item in items)
    dialogues = []
    for conversation in conversations:
        turns = []
        for index, turn in enumerate(conversation.turns):
            linked = [(ids[m.entity], m) for m in turn.mentions if m.entity in ids]
            turns.append(
                Utterance(
                    turn.role,
                    turn.text,
                    turn.masked(),
                    tuple(entity for entity, _ in linked),
                    tuple((entity, m.feedback) for entity, m in linked if m.feedback is not None and entity in items),
                    emotions.get((conversation.id, index), ()) if turn.role == Role.SEEKER else (),
                )
            )
        dialogues.append(Dialogue(conversation.id, conversation.split, tuple(turns)))
    return dialogues


def with_valences(dialogues: Iterable[Dialogue], valences: Mapping[tuple[str, int, int], float]) -> list[Dialogue]:
    """Dialogues in which the seeker's turns know how what they name is felt about.

    Args:
      dialogues: the dialogues.
      valences: (conversation id, turn, entity) -> valence.
    """

    def known(dialogue: Dialogue, index: int) -> tuple[tuple[int, float], ...]:
        found = {entity: valences.get((dialogue.id, index, entity)) for entity in dialogue.turns[index].entities}
        return tuple((entity, valence) for entity, valence in found.items() if valence is not None)

    return [
        dataclasses.replace(
            dialogue,
            turns=tuple(
                dataclasses.replace(turn, valences=known(dialogue, index)) if turn.role == Role.SEEKER else turn
                for index, turn in enumerate(dialogue.turns)
            ),
        )
        for dialogue in dialogues
    ]


def emotion_labelled_mentions(turns: Sequence[Utterance]) -> list[EmotionLabelledMention]:
    """The entities of `turns` in order of mention, each with the emotions it is mentioned with (ECR 4.2.1).

    An entity the seeker names carries the seeker's emotions of that turn; one the recommender names carries those of
    the seeker's next turn, or none where `turns` ends before it: later turns are not known yet. One in a turn of
    unknown role carries none.
    """
    mentions = []
    for index, turn in enumerate(turns):
        emotions = turn.emotions
        if turn.role == Role.RECOMMENDER:
            emotions = turns[index + 1].emotions if index + 1 < len(turns) else ()
        labels, probabilities = tuple(label for label, _ in emotions), tuple(p for _, p in emotions)
        mentions += [EmotionLabelledMention(entity, labels, probabilities, index) for entity in turn.entities]
    return mentions


@dataclass(frozen=True)
class MentionedEntity:
    """An entity of a context.

    Attributes:
      entity: its id.
      emotions: the latest known emotions it was mentioned with.
      turns_ago: how many turns ago it was last mentioned; 1 is the latest turn.
      by_seeker: whether the seeker mentioned it then.
      mentions: how often it was mentioned.
      valence: the seeker's latest known valence of it, see `Utterance.valences`; 0 where none is known.
    """

    entity: int
    emotions: Emotions
    turns_ago: int
    by_seeker: bool
    mentions: int
    valence: float = 0.0


@dataclass(frozen=True)
class Context:
    """What is known before a turn.

    Attributes:
      turns: the turns before.
      max_entities: only the latest so many distinct entities are used.
      reply: a turn that is read after the others and adds no entities, such as a generated reply; or None.
    """

    turns: tuple[Utterance, ...]
    max_entities: int
    reply: Utterance | None = None

    @property
    def turns_read(self) -> tuple[Utterance, ...]:
        """All turns whose text and emotions are read; not those of which only the films are known."""
        turns = self.turns if self.reply is None else (*self.turns, self.reply)
        return tuple(turn for turn in turns if turn.text or turn.role != Role.UNKNOWN)

    @cached_property
    def mentioned(self) -> tuple[MentionedEntity, ...]:
        """The latest `max_entities` distinct entities, latest last."""
        valences = dict(valence for turn in self.turns for valence in turn.valences)  # the last one of an entity
        latest: dict[int, MentionedEntity] = {}
        for mention in emotion_labelled_mentions(self.turns):
            before = latest.pop(mention.entity, None)
            emotions = tuple(zip(mention.emotions, mention.probabilities, strict=True))
            latest[mention.entity] = MentionedEntity(
                mention.entity,
                emotions or (before.emotions if before else ()),
                len(self.turns) - mention.turn,
                self.turns[mention.turn].role == Role.SEEKER,
                1 + (before.mentions if before else 0),
                valences.get(mention.entity, 0.0),
            )
        return tuple(latest.values())[-self.max_entities :] if self.max_entities else ()

    @property
    def entities(self) -> tuple[int, ...]:
        """The ids of `mentioned`."""
        return tuple(mentioned.entity for mentioned in self.mentioned)

    @property
    def entity_count(self) -> int:
        """The number of `entities`, without looking at their emotions."""
        return min(self.max_entities, len({entity for turn in self.turns for entity in turn.entities}))


class TextContext(NamedTuple):
    """A context as words and entities, in which similar contexts are searched.

    Attributes:
      entities: entity ids in the order they were mentioned.
      text: the turns' texts; empty where it is not known.
    """

    entities: Sequence[int]
    text: str = ""

    @classmethod
    def of(cls, turns: Sequence[Utterance]) -> TextContext:
        """The context that some turns make."""
        entities = tuple(entity for turn in turns for entity in turn.entities)
        return cls(entities, " ".join(turn.text for turn in turns if turn.text))


def recommendation_counts(dialogues: Iterable[Dialogue]) -> Counter[int]:
    """How often recommenders name each item."""
    return Counter(
        item
        for dialogue in dialogues
        for turn in dialogue.turns
        if turn.role == Role.RECOMMENDER
        for item, _ in turn.films
    )


def seeker_ratings(dialogue: Dialogue) -> dict[int, int]:
    """The films that the seeker of a dialogue gives feedback on, like (1) or dislike (-1), whoever named them."""
    return {
        item: FEEDBACK_SIGNS[feedback]
        for turn in dialogue.turns
        for item, feedback in turn.films
        if FEEDBACK_SIGNS[feedback]
    }


def seeker_reaction(dialogue: Dialogue, turn: int) -> np.ndarray:
    """The seeker's emotions right after a turn: float32 [9]; neutral where the seeker says nothing."""
    after = dialogue.turns[turn + 1].emotions if turn + 1 < len(dialogue.turns) else ()
    probabilities = np.zeros(len(EMOTIONS), np.float32)
    for label, probability in after or ((EMOTIONS.index("neutral"), 1.0),):
        probabilities[label] = probability
    return probabilities
