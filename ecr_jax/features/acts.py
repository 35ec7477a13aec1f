"""What the act classifier reads of a dialogue, and what it learns: acts of the seeker's last turn and of the reply.

Labels come from corpora (`Turn.acts`). A question is one label for each attribute that it may ask about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ecr_jax.data.acts import RECOMMENDER_ACTS, SEEKER_ACTS, Act, ActName, Attribute
from ecr_jax.data.schema import MOVIE, Conversation, Role
from ecr_jax.features.batch_spec import BatchSpec, Field
from ecr_jax.features.dialogues import Utterance
from ecr_jax.features.text_states import TextStates

_ASKABLE = tuple(attribute for attribute in Attribute if attribute != Attribute.FILM)

SEEKER_LABELS: tuple[Act, ...] = tuple(
    act
    for name in SEEKER_ACTS
    for act in ([Act(name, attribute) for attribute in _ASKABLE] if name == ActName.QUESTION else [Act(name)])
)
"""What a seeker's turn may do; it may do several things."""
REPLY_LABELS: tuple[Act, ...] = tuple(map(Act, RECOMMENDER_ACTS))
"""What the reply may do, without attributes."""

_MOST_FILMS, _MOST_TURNS, _MOST_WORDS = 4, 16, 32
_COUNTS = 7


@dataclass(frozen=True)
class ActInstance:
    """A seeker's turn with what was said before it.

    Attributes:
      turns: the dialogue up to and including this turn.
      acts: what it does; empty where it is not labelled.
      reply: what the recommender's next turn does; empty where there is none or it is not labelled.
    """

    turns: tuple[Utterance, ...]
    acts: tuple[Act, ...]
    reply: tuple[Act, ...]


def act_instances(conversations: Iterable[Conversation]) -> list[ActInstance]:
    """One instance for each seeker turn that is labelled or whose reply is."""
    instances = []
    for conversation in conversations:
        said = tuple(Utterance(turn.role, turn.text, turn.masked()) for turn in conversation.turns)
        following = (*conversation.turns[1:], None)
        for index, (turn, reply) in enumerate(zip(conversation.turns, following, strict=True)):
            acts = () if reply is None or reply.role != Role.RECOMMENDER else reply.acts
            if turn.role == Role.SEEKER and turn.text and (turn.acts or acts):
                instances.append(ActInstance(said[: index + 1], turn.acts, acts))
    return instances


def read_texts(turns: Sequence[Utterance]) -> list[str]:
    """The texts whose states `features` reads: of the last turn and of the two before it, where they have one."""
    return [turn.text_with_role for turn in turns[-3:] if turn.text]


def features(turns: Sequence[Utterance], states: TextStates) -> np.ndarray:
    """What the classifier reads of a dialogue in which the seeker spoke last: float32 [3 D + 7].

    The mean states of the last three turns, latest first, zero where there is none; then counts in [0, 1]: turns, films
    in the last turn, in the turn before and in all, words and question marks of the last turn, a question mark before.

    Args:
      turns: the dialogue so far.
      states: text encoder states, with `read_texts(turns)` among them.
    """
    pooled = np.zeros((3, states.width), np.float32)
    for row, turn in enumerate(reversed(turns[-3:])):
        if turn.text:
            pooled[row] = states.mean([turn.text_with_role])[0]
    films = [turn.masked.count(MOVIE) for turn in turns]
    before = turns[-2].text if len(turns) > 1 else ""
    counts = [
        min(len(turns) / _MOST_TURNS, 1),
        min(films[-1] / _MOST_FILMS, 1),
        min(films[-2] / _MOST_FILMS, 1) if len(films) > 1 else 0,
        min(sum(films) / _MOST_FILMS / 2, 1),
        min(len(turns[-1].text.split()) / _MOST_WORDS, 1),
        float("?" in turns[-1].text),
        float("?" in before),
    ]
    return np.concatenate([pooled.ravel(), np.asarray(counts, np.float32)])


def targets(acts: Iterable[Act], labels: Sequence[Act]) -> np.ndarray:
    """Which of the labels a turn has: float32 [labels] of 0 and 1.

    An act that is no label itself counts as the label of its name; a question without an attribute has no label.
    """
    row = np.zeros(len(labels), np.float32)
    places = {label: place for place, label in enumerate(labels)}
    for act in acts:
        place = places.get(act, places.get(Act(act.name)))
        if place is not None:
            row[place] = 1
    return row


def is_complete(acts: Sequence[Act]) -> bool:
    """Whether a turn is labelled, and every question of it with what it asks about (IARD does not say)."""
    return bool(acts) and Act(ActName.QUESTION) not in acts


def acts_spec(width: int) -> BatchSpec:
    """Examples of the stage `acts`; `width`: of the text encoder."""
    return BatchSpec(
        "acts",
        (
            Field("state", np.float32, (3 * width + _COUNTS,), meaning="the last three turns, see features.acts"),
            Field("seeker", np.float32, (len(SEEKER_LABELS),), meaning="1 for each act of the last turn"),
            Field("reply", np.float32, (len(REPLY_LABELS),), meaning="1 for each act of the reply"),
            Field("known", np.float32, (2,), meaning="whether the acts of the turn, and of the reply, are labelled"),
        ),
    )
