"""Conversations as the examples of each stage: what was said, felt and mentioned before a turn, and what the turn does.

`Dialogue` is a conversation in ids. The chat builds the same `Context` from a running dialogue as training does.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ecr_jax.data.schema import Conversation, Feedback, Role, Split
from ecr_jax.emotion.labels import EMOTIONS, PAD
from ecr_jax.features.batches import Field
from ecr_jax.features.text_states import States
from ecr_jax.features.tokenizer import ROLE_WORDS, DialogueTokenizer, last_turns
from ecr_jax.knowledge.cooccurrence import Cooccurrence, EmotionLabelledMention

Emotions = tuple[tuple[int, float], ...]
"""Emotion ids with their probabilities, most probable first."""


@dataclass(frozen=True)
class Utterance:
    """A turn in ids.

    Attributes:
      role: who speaks.
      text: what is said.
      masked: the same with `<movie>` for each film.
      entities: linked entities in the order said, films among them.
      films: linked items with the seeker's answer, in the order said.
      emotions: what the seeker feels in this turn (empty for the recommender).
    """

    role: Role
    text: str
    masked: str
    entities: tuple[int, ...] = ()
    films: tuple[tuple[int, Feedback], ...] = ()
    emotions: Emotions = ()

    @property
    def unit(self) -> str:
        """What the text encoder reads of this turn."""
        return ROLE_WORDS[self.role] + self.text


@dataclass(frozen=True)
class Dialogue:
    """A conversation in ids."""

    id: str
    split: Split
    turns: tuple[Utterance, ...]


def dialogues(
    conversations: Iterable[Conversation],
    ids: Mapping[str, int],
    items: Iterable[int],
    emotions: Mapping[tuple[str, int], Emotions],
) -> list[Dialogue]:
    """Turns linked conversations and their felt emotions into ids.

    Args:
      conversations: linked conversations; mentions without an entity are passed over (the manifest counts them).
      ids: URI -> entity id.
      items: entity ids of the recommendable films.
      emotions: (conversation id, turn index) -> emotions of a seeker turn.
    """
    items = frozenset(int(item) for item in items)
    made = []
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
        made.append(Dialogue(conversation.id, conversation.split, tuple(turns)))
    return made


def emotion_labelled_mentions(turns: Sequence[Utterance]) -> list[EmotionLabelledMention]:
    """The entities of `turns` in the order said, each with the emotion it was met with (ECR 4.2.1).

    An entity the seeker names carries the seeker's emotions of that turn; one the recommender names carries those of
    the seeker's next turn, or none where `turns` ends before it: what is not yet said is not known.
    """
    pairs = []
    for index, turn in enumerate(turns):
        if turn.role == Role.SEEKER:
            emotions = turn.emotions
        else:
            emotions = turns[index + 1].emotions if index + 1 < len(turns) else ()
        labels, probabilities = tuple(label for label, _ in emotions), tuple(p for _, p in emotions)
        pairs += [EmotionLabelledMention(entity, labels, probabilities, index) for entity in turn.entities]
    return pairs


@dataclass(frozen=True)
class Context:
    """What is known before a turn.

    Attributes:
      turns: what was said.
      entities: the distinct entities, latest last.
      emotions: of each entity, the latest known.
      mentions: of each entity, how many turns ago it was last named (1: in the turn before), whether the seeker named
        it then, and how often it was named.
    """

    turns: tuple[Utterance, ...]
    entities: tuple[int, ...]
    emotions: tuple[Emotions, ...]
    mentions: tuple[tuple[int, bool, int], ...]

    @classmethod
    def of(cls, turns: Sequence[Utterance], max_entities: int) -> Context:
        """The context that `turns` make; the latest `max_entities` distinct entities are kept."""
        latest: dict[int, tuple[Emotions, tuple[int, bool, int]]] = {}
        for mention in emotion_labelled_mentions(turns):
            known, (_, _, times) = latest.pop(mention.entity, ((), (0, False, 0)))
            emotions = tuple(zip(mention.emotions, mention.probabilities, strict=True)) or known
            by_seeker = turns[mention.turn].role == Role.SEEKER
            latest[mention.entity] = emotions, (len(turns) - mention.turn, by_seeker, times + 1)
        kept = list(latest.items())[-max_entities:] if max_entities else []
        return cls(tuple(turns), tuple(e for e, _ in kept), *(tuple(v[i] for _, v in kept) for i in range(2)))

    def followed_by(self, turn: Utterance) -> Context:
        """The same entities, and one more turn in the text that is read."""
        return dataclasses.replace(self, turns=(*self.turns, turn))


@dataclass(frozen=True)
class Sizes:
    """Most of each thing a model reads: tokens, text-encoder states, entities; emotions, neighbours, cooccurring_items of each."""

    tokens: int
    states: int
    entities: int
    emotions: int
    neighbours: int
    cooccurring_items: int


def fields(pad_entity: int) -> dict[str, Field]:
    """How the arrays of a context and of its targets are padded; `pad_entity` is the id that stands for no entity."""
    return {
        "tokens": Field(0, ("T",), "token_mask"),
        "text_states": Field(0, ("S", None), "text_mask"),
        "text_ages": Field(0, ("S",)),
        "entities": Field(pad_entity, ("E",), "entity_mask"),
        "emotions": Field(PAD, ("E", None)),
        "emotion_probs": Field(0, ("E", None)),
        "mentions": Field(0, ("E", None)),
        "neighbours": Field(pad_entity, ("E", None)),
        "neighbour_weights": Field(0, ("E", None)),
        "emotion_totals": Field(0, (None,)),
        "cooccurring_items": Field(pad_entity, ("E", None)),
        "cooccurrence_weights": Field(0, ("E", None)),
    }


def target_fields(pad_entity: int) -> dict[str, Field]:
    """The same with the targets of `TargetExamples`."""
    return fields(pad_entity) | {
        "targets": Field(pad_entity, ("M",), "target_mask"),
        "target_weight": Field(0, ("M",)),
        "feedback": Field(0, ("M",)),
        "rated_items": Field(pad_entity, ("F",)),
        "ratings": Field(0, ("F",)),
        "reaction": Field(0, (None,)),
        "own_recommendations": Field(pad_entity, ("P",)),
        "own_log_shift": Field(0, ("P",)),
    }


def reply_fields(pad_entity: int) -> dict[str, Field]:
    """The same with the marks of `ReplyExamples`."""
    return fields(pad_entity) | {"loss_mask": Field(False, ("T",))}


class ContextFeaturizer:
    """Turns a `Context` into the arrays that the prompt encoder and the language model read."""

    def __init__(
        self, words: DialogueTokenizer, states: States, related: Cooccurrence, together: Cooccurrence, sizes: Sizes
    ):
        """`related`: emotion-related co-occurrence; `together`: items said in one dialogue with an entity."""
        self.words, self.states, self.related, self.together, self.sizes = words, states, related, together, sizes

    def context(self, context: Context, tokens: Sequence[Sequence[int]], exclude: int | None = None) -> dict:
        """Arrays of one context.

        Args:
          context: what is known.
          tokens: token ids of each of its turns.
          exclude: index of the training dialogue whose own counts are left out of the neighbours (no leakage).

        Returns:
          tokens int32 [T], text_states float16 [S, Dt], text_ages int32 [S] (how many turns ago each was said, 1 in
          the last), entities int32 [E], emotions int32 [E, F],
          emotion_probs float32 [E, F], mentions int32 [E, 3] (see `Context`), neighbours int32 [E, K],
          neighbour_weights float32 [E, K], cooccurring_items int32 [E, C], cooccurrence_weights float32 [E, C], emotion_totals float32 [9], how
          much of each emotion the seeker's turns were met with, summed up.
        """
        sizes = self.sizes
        emotions = np.full((len(context.entities), sizes.emotions), PAD, np.int32)
        probs = np.zeros(emotions.shape, np.float32)
        for row, known in enumerate(context.emotions):
            for column, (label, probability) in enumerate(known[: sizes.emotions]):
                emotions[row, column], probs[row, column] = label, probability
        emotion_totals = np.zeros(len(EMOTIONS), np.float32)
        for label, probability in (felt for turn in context.turns for felt in turn.emotions):
            emotion_totals[label] += probability
        entities = np.asarray(context.entities, np.int32)
        said = [turn.unit for turn in context.turns]
        neighbours, weights = self.related.neighbours(entities, sizes.neighbours, exclude)
        cooccurring_items, cooccurrence_weights = self.together.neighbours(entities, sizes.cooccurring_items, exclude)
        return {
            "tokens": np.asarray(last_turns(tokens, sizes.tokens), np.int32),
            "text_states": self.states.of(said, sizes.states),
            "text_ages": self.states.ages(said, sizes.states),
            "entities": entities,
            "emotions": emotions,
            "emotion_probs": probs,
            "emotion_totals": emotion_totals,
            "mentions": np.asarray(context.mentions, np.int32).reshape(-1, 3),
            "neighbours": neighbours,
            "neighbour_weights": weights,
            "cooccurring_items": cooccurring_items,
            "cooccurrence_weights": cooccurrence_weights,
        }


@dataclass(frozen=True)
class Row:
    """Where an example comes from and what it asks for.

    Attributes:
      dialogue: index of its dialogue in the list it was made from.
      turn: index of the turn that is to be predicted.
      targets: (entity, feedback, already mentioned in the context) of each target, without doubles.
    """

    dialogue: int
    turn: int
    targets: tuple[tuple[int, Feedback, bool], ...] = ()


def recommended(spoken: Iterable[Dialogue]) -> Counter[int]:
    """How often recommenders name each item."""
    return Counter(
        item
        for dialogue in spoken
        for turn in dialogue.turns
        if turn.role == Role.RECOMMENDER
        for item, _ in turn.films
    )


def recommendation_rows(spoken: Sequence[Dialogue]) -> list[Row]:
    """One row for each recommender turn that names an item after something was said (ECR A.9, one turn one forward)."""
    rows = []
    for index, dialogue in enumerate(spoken):
        before: set[int] = set()
        for turn_index, turn in enumerate(dialogue.turns):
            if turn.role == Role.RECOMMENDER and turn.films and turn_index:
                targets = {item: (item, feedback, item in before) for item, feedback in turn.films}
                rows.append(Row(index, turn_index, tuple(targets.values())))
            before.update(turn.entities)
    return rows


def fusion_rows(spoken: Sequence[Dialogue]) -> list[Row]:
    """One row for each turn of either role that names an entity after something was said (UniCRS pre-training)."""
    rows = []
    for index, dialogue in enumerate(spoken):
        for turn_index, turn in enumerate(dialogue.turns):
            if turn.entities and turn_index:
                targets = tuple((entity, Feedback.UNSAID, False) for entity in dict.fromkeys(turn.entities))
                rows.append(Row(index, turn_index, targets))
    return rows


def conversation_rows(spoken: Sequence[Dialogue]) -> list[Row]:
    """One row for each recommender turn after something was said."""
    return [
        Row(index, turn_index)
        for index, dialogue in enumerate(spoken)
        for turn_index, turn in enumerate(dialogue.turns)
        if turn.role == Role.RECOMMENDER and turn_index
    ]


def spread(rows: Sequence[Row], most: int) -> list[Row]:
    """At most so many of the rows, evenly spread over them."""
    return [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, most).astype(int))] if rows else []


class Examples(Sequence):
    """The examples of rows, made when asked for: a mapping of arrays each, `context` arrays plus the stage's own."""

    def __init__(
        self,
        spoken: Sequence[Dialogue],
        rows: Sequence[Row],
        featurizer: ContextFeaturizer,
        leave_out: bool,
        answer: Callable[[Dialogue, int], Utterance] | None = None,
    ):
        """Reads contexts of dialogues.

        Args:
          spoken: the dialogues.
          rows: which of their turns are to be predicted.
          featurizer: how contexts become arrays.
          leave_out: the dialogues are those the co-occurrence was counted on, in the same order.
          answer: (dialogue, index of the turn to be predicted) -> a turn that is read after the context.
        """
        self.spoken, self.rows, self.featurizer, self.leave_out, self.answer = (
            spoken,
            rows,
            featurizer,
            leave_out,
            answer,
        )
        self.ids = [featurizer.words.turns([(t.role, t.text) for t in dialogue.turns]) for dialogue in spoken]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        return self.context(self.rows[index])

    def name(self, index: int) -> str:
        """What a message calls the example: conversation id and turn."""
        row = self.rows[index]
        return f"{self.spoken[row.dialogue].id}:{row.turn}"

    def context(self, row: Row) -> dict:
        """The context arrays of a row."""
        dialogue, tokens = self.spoken[row.dialogue], self.ids[row.dialogue][: row.turn]
        context = Context.of(dialogue.turns[: row.turn], self.featurizer.sizes.entities)
        if self.answer is not None:
            turn = self.answer(dialogue, row.turn)
            context = context.followed_by(turn)
            tokens = tokens + self.featurizer.words.turns([(turn.role, turn.text)])
        exclude = row.dialogue if self.leave_out else None
        return self.featurizer.context(context, tokens, exclude)


SIGNS = {Feedback.LIKE: 1, Feedback.DISLIKE: -1, Feedback.UNSAID: 0}
"""The seeker's answer as a number that a loss can multiply by."""


def ratings(dialogue: Dialogue) -> dict[int, int]:
    """The films that the seeker of a dialogue said like (1) or dislike (-1) of, whoever named them."""
    return {item: SIGNS[feedback] for turn in dialogue.turns for item, feedback in turn.films if SIGNS[feedback]}


def reaction(dialogue: Dialogue, turn: int) -> np.ndarray:
    """What the seeker feels right after a turn: float32 [9]; neutral where nothing is said."""
    after = dialogue.turns[turn + 1].emotions if turn + 1 < len(dialogue.turns) else ()
    found = np.zeros(len(EMOTIONS), np.float32)
    for label, probability in after or ((EMOTIONS.index("neutral"), 1.0),):
        found[label] = probability
    return found


class TargetExamples(Examples):
    """Examples whose answer is entities: `targets` int32 [M] and `target_weight` float32 [M] (Eq. 7).

    For the losses: `feedback` int32 [M], the sign of each target's answer; `rated_items` and `ratings` int32 [F], as the
    function `ratings`; `reaction` float32 [9]. They are of the whole dialogue: no model reads them.

    `own_recommendations` int32 [P] and `own_log_shift` float32 [P] take a training dialogue's own recommendations out of the items'
    log popularity: with them, what is to be predicted would stand in the input, as it never does at test time.
    """

    def __init__(self, *args, weights: Mapping[Feedback, float], counts: np.ndarray):
        """`counts` [N + 1]: how often each item is recommended in the train split, smoothed."""
        super().__init__(*args)
        self.weights, self.counts = weights, counts

    def _own(self, dialogue: Dialogue) -> tuple[np.ndarray, np.ndarray]:
        own = recommended([dialogue]) if self.leave_out else Counter()
        items = np.asarray(sorted(own), np.int32)
        taken = np.asarray([own[item] for item in items.tolist()])
        return items, np.log(1 - taken / self.counts[items]).astype(np.float32)

    def __getitem__(self, index: int) -> dict:
        row = self.rows[index]
        dialogue = self.spoken[row.dialogue]
        own_recommendations, own_log_shift = self._own(dialogue)
        given = ratings(dialogue)
        return self.context(row) | {
            "own_recommendations": own_recommendations,
            "own_log_shift": own_log_shift,
            "targets": np.asarray([entity for entity, _, _ in row.targets], np.int32),
            "target_weight": np.asarray([self.weights[feedback] for _, feedback, _ in row.targets], np.float32),
            "feedback": np.asarray([SIGNS[feedback] for _, feedback, _ in row.targets], np.int32),
            "rated_items": np.asarray([*given], np.int32),
            "ratings": np.asarray([*given.values()], np.int32),
            "reaction": reaction(dialogue, row.turn),
        }


class ReplyExamples(Examples):
    """Examples whose answer is the recommender's words: `tokens` end with the masked reply; `loss_mask` marks it."""

    def __init__(self, *args, max_reply: int):
        super().__init__(*args)
        self.opening = len(self.featurizer.words.opening())
        said = [self.spoken[row.dialogue].turns[row.turn] for row in self.rows]
        # A reply that is cut has no end token: nothing is taught to stop in the middle.
        self.replies = [
            ids[:max_reply] for ids in self.featurizer.words.turns([(turn.role, turn.masked) for turn in said])
        ]

    def __getitem__(self, index: int) -> dict:
        arrays = self.context(self.rows[index])
        reply = self.replies[index]
        before = len(arrays["tokens"])
        marks = np.zeros(before + len(reply), bool)
        marks[before + self.opening :] = True
        return arrays | {"tokens": np.concatenate([arrays["tokens"], np.asarray(reply, np.int32)]), "loss_mask": marks}
