"""Which sub-task a recommender's turn of a corpus carries out: from its acts, by rule, or from a language model.

A label says what was done. What a manager learns is to foretell it from the dialogue before: arguments are taken only
from what that dialogue had named, never from the film that the turn then recommends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import Conversation, Role, Turn
from ecr_jax.features.dialogues import Dialogue, Utterance
from ecr_jax.features.plans import acts_by_rule, plan_of_turn
from ecr_jax.knowledge.attributes import attribute_values
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.manager.categories import named_categories
from ecr_jax.manager.schema import Choice, Schema, choice_of

Source = Literal["acts", "rule", "llm"]


@dataclass(frozen=True)
class Label:
    """What a recommender's turn does.

    Attributes:
      choice: its sub-task with arguments.
      source: the "acts" that the corpus gives, a "rule" over its words, or an "llm".
    """

    choice: Choice
    source: Source


@dataclass(frozen=True)
class ManagedTurn:
    """A recommender's turn that replies to a seeker, with what was said before it.

    Attributes:
      dialogue: the conversation in ids.
      turn: the index of the recommender's turn; the seeker spoke just before.
      label: what it does.
    """

    dialogue: Dialogue
    turn: int
    label: Label

    @property
    def before(self) -> tuple[Utterance, ...]:
        """The dialogue before the turn."""
        return self.dialogue.turns[: self.turn]


def managed_turns(
    conversations: Sequence[Conversation],
    dialogues: Sequence[Dialogue],
    graph: KnowledgeGraph,
    schema: Schema,
    annotated: Mapping[tuple[str, int], Act] | None = None,
) -> list[ManagedTurn]:
    """The labelled replies of conversations.

    Args:
      conversations: linked.
      dialogues: the same in ids.
      graph: with genres.
      schema: of the sub-tasks.
      annotated: (conversation id, turn) -> a language model's act, which comes before those of the corpus and rules.
    """
    annotated = annotated or {}
    found = []
    for conversation, dialogue in zip(conversations, dialogues, strict=True):
        for index in replies(conversation.turns):
            act = annotated.get((conversation.id, index))
            label = label_of(conversation, dialogue, index, graph, schema, act)
            found.append(ManagedTurn(dialogue, index, label))
    return found


def replies(turns: Sequence[Turn]) -> list[int]:
    """The indices of the recommender's turns with words that follow a seeker's turn with words."""
    return [
        index
        for index, (before, turn) in enumerate(zip(turns, turns[1:], strict=False), start=1)
        if turn.role == Role.RECOMMENDER and before.role == Role.SEEKER and turn.text and before.text
    ]


def label_of(
    conversation: Conversation,
    dialogue: Dialogue,
    index: int,
    graph: KnowledgeGraph,
    schema: Schema,
    annotated: Act | None = None,
) -> Label:
    """The label of a turn: by a language model's act, else by the corpus's acts, else by rule.

    The category of a recommendation is the genre that the seeker named last among those that the first new film has.
    The attribute of an answer is that of its act, or of the first fact that it states about the film.

    Args:
      conversation, dialogue, index: the turn.
      graph: with genres.
      schema: of the sub-tasks.
      annotated: a language model's act of the turn.
    """
    turn, before = conversation.turns[index], conversation.turns[:index]
    source: Source = "rule"
    if annotated is not None:
        acts, source = (annotated,), "llm"
    elif turn.acts:
        acts, source = turn.acts, "acts"
    else:
        acts = acts_by_rule(turn, before, new=names_new_film(turn, before))
    if Act(ActName.ANSWER) in acts:
        plan = plan_of_turn(conversation, index, graph)
        fact = next((fact.attribute for fact in plan.facts), None) if plan is not None else None
        acts = tuple(dataclasses.replace(act, attribute=fact) if act == Act(ActName.ANSWER) else act for act in acts)
    return Label(choice_of(schema, acts, _category(dialogue, index, graph)), source)


def names_new_film(turn: Turn, before: Iterable[Turn]) -> bool:
    """Whether a turn names a film that no turn before named; films without an entity are told apart by their name."""
    known = {mention.entity or mention.name for t in before for mention in t.mentions if mention.film}
    return any(mention.film and (mention.entity or mention.name) not in known for mention in turn.mentions)


def _category(dialogue: Dialogue, index: int, graph: KnowledgeGraph) -> str | None:
    before = dialogue.turns[:index]
    known = {entity for turn in before for entity in turn.entities}
    film = next((film for film, _ in dialogue.turns[index].films if film not in known), None)
    if film is None:
        return None
    has = attribute_values(graph, film, Attribute.GENRE)
    named = named_categories([turn for turn in before if turn.role == Role.SEEKER], graph)
    return next((name for name in reversed(named) if name in has), None)
