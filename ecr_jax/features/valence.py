"""Mentions with the words around them, as the valence model reads them: token states with their place, and n-grams.

A mention is read in its own turn, with the turn before it. A film of the recommender, which only trains the model, is
read with the seeker's answer after it. What the mention is called is not read, nor what other films of its turn are
called: how a film is felt about must follow from what is said of it, not from which film it is.
"""

from __future__ import annotations

import copy
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from ecr_jax.data.schema import Conversation, Feedback, Mention, Role, Turn
from ecr_jax.emotion.labels import VALENCES
from ecr_jax.features.batch_spec import BatchSpec, Example, Field
from ecr_jax.features.text_states import TextStates
from ecr_jax.features.tokenizer import ROLE_WORDS, with_role

CLASS_OF = {Feedback.LIKE: 0, Feedback.DISLIKE: 1, Feedback.UNSAID: 2}
"""The class that a form's answer stands for: its index in `VALENCES`, whose order is that of the model's logits."""

Valence = tuple[float, float, float]
"""Probabilities that a mention is liked, disliked, and that it is unclear."""


def valence_of(probabilities: Valence, prior: Valence) -> float:
    """One number for how a mention is felt about, from -1 (disliked) to 1 (liked); 0 where the words do not tell.

    It is P(like) - P(dislike) among the two, as if both were equally frequent: nine of ten films that seekers name are
    liked, so that what is said of a film must count, not how often films are liked.

    Args:
      probabilities: of the mention.
      prior: the classes' shares among all mentions.

    >>> valence_of((0.8, 0.1, 0.1), (0.8, 0.1, 0.1)), round(valence_of((0.4, 0.45, 0.15), (0.8, 0.1, 0.1)), 3)
    (0.0, -0.8)
    """
    like, dislike = (max(probabilities[k], 1e-12) / prior[k] for k in range(2))
    return (like - dislike) / (like + dislike)


_DISTANCES = (1, 2, 3, 5, 8, 13)
"""Upper bounds of the distance buckets on each side of the span, in tokens; what is farther is in the last bucket."""

_OTHER_TURN = 2 * (len(_DISTANCES) + 1)
PLACES = _OTHER_TURN + 2
"""Places of a token: a distance bucket left or right of the span, in the turn before, or in the answer."""

BARRIERS = 9
"""How many mentions (0, 1, 2 or more) times how many ends of sentences (0, 1, 2 or more) lie between token and span."""

_PIECES = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[.!?]+|[,;:]")
_NEGATIONS = re.compile(
    r"not|no|never|none|nothing|hardly|without|neither|nor|cannot|cant|dont|didnt|wasnt|isnt|doesnt|wont|wouldnt|.*n't"
)
_NEGATED_WORDS = 4
_NGRAM_WORDS = 40  # words on each side of the mention, and of the other turn, that n-grams are taken from
_SENTENCE_END = re.compile(r"[.!?]")
_TARGET, _FILM = "<target>", "<film>"


@dataclass(frozen=True)
class MentionInContext:
    """A mention and the turns that tell how it is felt about.

    Attributes:
      conversation: id of the conversation.
      turn: index of the mention's turn.
      number: index of the mention in the turn.
      own: the mention's turn.
      before: the turn before it, or None.
      answer: the seeker's turn after a recommender's mention, or None. Never the turn after a seeker's mention: it is
        not known yet when the recommender decides.
    """

    conversation: str
    turn: int
    number: int
    own: Turn
    before: Turn | None = None
    answer: Turn | None = None

    @property
    def mention(self) -> Mention:
        """The mention itself."""
        return self.own.mentions[self.number]

    @property
    def class_index(self) -> int | None:
        """The class of its feedback in `VALENCES`; None where no form asks about it, as about genres and people."""
        return None if self.mention.feedback is None else CLASS_OF[self.mention.feedback]

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns that are read, in order."""
        return tuple(turn for turn in (self.before, self.own, self.answer) if turn is not None)


def mentions_of(conversations: Iterable[Conversation], role: Role = Role.SEEKER) -> Iterator[MentionInContext]:
    """The mentions in the turns of one role, in order: of films, genres, people and whatever else is linked."""
    for conversation in conversations:
        for index, turn in enumerate(conversation.turns):
            if turn.role == role:
                yield from mentions_in_turn(conversation.id, conversation.turns, index)


def mentions_in_turn(conversation: str, turns: Sequence[Turn], index: int) -> list[MentionInContext]:
    """The mentions of turn `index` of a dialogue. Turns without a text, whose films alone are known, are not read."""
    own = turns[index]
    seeker = own.role == Role.SEEKER
    before = turns[index - 1] if index and seeker and turns[index - 1].text else None
    answer = turns[index + 1] if index + 1 < len(turns) and not seeker and turns[index + 1].text else None
    return [MentionInContext(conversation, index, k, own, before, answer) for k in range(len(own.mentions))]


# ------------------------------------------------------------------------------------------------------------ n-grams


def ngrams(example: MentionInContext) -> list[str]:
    """Words and short phrases around a mention, each with its place, distinct and in order of appearance.

    Words after a negation, to the next punctuation mark or film, are written with "!": "didn't care for" is felt like
    "!care". Places: `L`/`R` left and right of the mention with a distance, `c` up to the next film on either side, `a`
    anywhere in the turn, `P` in the turn before. An answer's words are `c` and `a`, for they speak of what was offered;
    the recommender's own words are marked `o`.

    >>> from ecr_jax.data.schema import Mention, Role, Turn
    >>> turn = Turn(Role.SEEKER, "not Heat", (Mention(4, 8, "Heat", True),))
    >>> [feature for feature in ngrams(MentionInContext("d", 0, 0, turn)) if feature[0] in "Lc"]
    ['L:not', 'L0:not', 'c:not', 'L+not']
    """
    words, target = _words(example.own, example.number)
    left, right = words[:target][::-1][:_NGRAM_WORDS], words[target + 1 :][:_NGRAM_WORDS]
    features = [f"films {min(3, words.count(_FILM))}", f"films before {min(3, words[:target].count(_FILM))}"]
    for side, near_first in (("L", left), ("R", right)):
        features += _side_ngrams(side, near_first)
    if example.own.role == Role.RECOMMENDER:
        features = [f"o {feature}" for feature in features]
        if example.answer is not None:
            answer = _words(example.answer, _number_of(example.mention, example.answer))[0][:_NGRAM_WORDS]
            features += [f"{place}:{gram}" for gram in _grams(answer) for place in "ac"]
    if example.before is not None:
        named = _number_of(example.mention, example.before)
        features.append("named before" if named is not None else "new")
        features += [f"P:{gram}" for gram in _grams(_words(example.before, named)[0][-_NGRAM_WORDS:])]
    return list(dict.fromkeys(features))


def _number_of(mention: Mention, turn: Turn) -> int | None:
    """The index of the mention of the same thing in another turn, None where there is none."""
    for number, other in enumerate(turn.mentions):
        if other.name == mention.name or (mention.entity is not None and other.entity == mention.entity):
            return number
    return None


def _grams(words: Sequence[str]) -> list[str]:
    return [*words, *(f"{first} {second}" for first, second in zip(words, words[1:], strict=False))]


def _side_ngrams(side: str, near_first: Sequence[str]) -> Iterator[str]:
    """N-grams of the words on one side of the mention, the nearest first."""
    barrier = 0  # 1 behind the end of the sentence, 2 behind another film
    for place, word in enumerate(near_first):
        distance = int(np.searchsorted((2, 5, 10), place, side="right"))
        if word[0] in ".!?":
            barrier = max(barrier, 1)
        if word == _FILM:
            barrier = 2
        yield f"{side}:{word}"
        yield f"{side}{distance}{'' if barrier == 0 else '.|'[barrier - 1]}:{word}"
        yield f"a:{word}"
        if barrier < 2:
            yield f"c:{word}"
        if place + 1 < len(near_first):
            pair = (word, near_first[place + 1])
            gram = " ".join(pair if side == "R" else pair[::-1])
            yield f"{side}{'n' if place < 4 else 'f'}:{gram}"
            yield f"a:{gram}"
            if barrier < 2:
                yield f"c:{gram}"
    for length in range(1, min(4, len(near_first)) + 1):
        nearest = near_first[:length] if side == "R" else near_first[:length][::-1]
        yield f"{side}+{' '.join(nearest)}"


def _words(turn: Turn, number: int | None) -> tuple[list[str], int]:
    """The words of a turn, with marks for mentions and negated words, and the position of mention `number`.

    Films are `<film>`, the mention itself `<target>`; the words of other genres and people stay.
    """
    words: list[str] = []
    target, end, negated = -1, 0, 0

    def add(text: str) -> None:
        nonlocal negated
        for word in _PIECES.findall(text.lower().replace("’", "'")):
            if word[0] in ".!?,;:" or word == "but":
                negated = 0
            words.append(f"!{word}" if negated > 0 else word)
            negated = _NEGATED_WORDS if _NEGATIONS.fullmatch(word) else negated - 1

    for index, mention in enumerate(turn.mentions):
        add(turn.text[end : mention.start])
        if index == number:
            target = len(words)
            words.append(_TARGET)
        elif mention.film:
            words.append(_FILM)
        else:
            add(turn.text[mention.start : mention.end])
        if index == number or mention.film:
            negated = 0
        end = mention.end
    add(turn.text[end:])
    return words, target


def hashed(features: Iterable[str], buckets: int) -> np.ndarray:
    """Distinct hash values of features in [0, buckets), sorted, the same on every machine. int32 [W]."""
    return np.unique(np.asarray([zlib.crc32(feature.encode()) % buckets for feature in features], np.int32))


# ------------------------------------------------------------------------------------------------- states with places


def token_spans(tokenizer: PreTrainedTokenizerBase, turn: Turn, limit: int) -> np.ndarray:
    """The characters of the turn's text that each token of its states covers: int64 [T, 2].

    Role words and marks of begin and end have empty spans at or before 0.

    Args:
      tokenizer: of the text encoder.
      turn: the turn.
      limit: longest turn in tokens, as the states were computed (`encoder.turn_tokens`).
    """
    text, shift = with_role(turn.role, turn.text), len(ROLE_WORDS[turn.role])
    offsets = tokenizer(text, truncation=True, max_length=limit, return_offsets_mapping=True)["offset_mapping"]
    spans = np.asarray(offsets, np.int64).reshape(-1, 2) - shift
    return np.where(spans[:, 1:] <= 0, 0, spans)


def places(spans: np.ndarray, turn: Turn, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each token of a turn lies relative to a mention.

    Args:
      spans: int [T, 2], of `token_spans`.
      turn: the turn.
      number: index of the mention.

    Returns:
      `place` int32 [T] in [0, PLACES), `barriers` int32 [T] in [0, BARRIERS), and `read` bool [T]: False for tokens of
      this mention and of films, and for what covers no characters.
    """
    mention = turn.mentions[number]
    starts, ends = spans[:, 0], spans[:, 1]
    left, real, index = ends <= mention.start, ends > starts, np.arange(len(spans))
    in_span = (starts < mention.end) & (ends > mention.start)
    # Of the tokens that cover characters: the first one behind those on the left, and the last one of the mention.
    first = int(np.max(index[real & left], initial=-1)) + 1
    last = int(np.max(index[real & in_span], initial=first - 1))
    distance = np.where(left, first - index, index - last)
    place = np.searchsorted(_DISTANCES, np.maximum(distance, 1)) + np.where(left, 0, len(_DISTANCES) + 1)
    others = [other for i, other in enumerate(turn.mentions) if i != number]
    between = _count_between([(other.start, other.end) for other in others], starts, ends, mention)
    stops = [match.span() for match in _SENTENCE_END.finditer(turn.text) if not _inside(match.start(), turn.mentions)]
    sentences = _count_between(stops, starts, ends, mention)
    read = real & ~in_span
    for other in others:
        if other.film:
            read &= ~((starts < other.end) & (ends > other.start))
    return place.astype(np.int32), (3 * np.minimum(between, 2) + np.minimum(sentences, 2)).astype(np.int32), read


def _inside(position: int, mentions: Sequence[Mention]) -> bool:
    return any(mention.start <= position < mention.end for mention in mentions)


def _count_between(
    pieces: Sequence[tuple[int, int]], starts: np.ndarray, ends: np.ndarray, mention: Mention
) -> np.ndarray:
    """How many pieces of text lie between each token and the mention. int64 [T]."""
    count = np.zeros(len(starts), np.int64)
    for start, end in pieces:
        count += ((ends <= start) & (end <= mention.start)) | ((starts >= end) & (start >= mention.end))
    return count


def valence_spec(width: int) -> BatchSpec:
    """The arrays of an example of the valence model, for text states of a width D."""
    return BatchSpec(
        "valence",
        (
            Field("states", np.float16, ("T", width), mask="state_mask", meaning="token states that are read"),
            Field("place", np.int32, ("T",), below=PLACES, meaning="distance to the mention, or which turn"),
            Field("barriers", np.int32, ("T",), below=BARRIERS, meaning="mentions and sentences between"),
            Field("target", np.int32, (), below=len(VALENCES), meaning="class in `VALENCES`"),
            Field("fold", np.int32, (), pad=-1, meaning="fold of its conversation, -1 for none"),
        ),
    )


class ValenceExamples(Sequence):
    """Examples of mentions; places are computed at once, states are read when an example is indexed."""

    def __init__(
        self,
        mentions: Sequence[MentionInContext],
        states: TextStates,
        tokenizer: PreTrainedTokenizerBase,
        *,
        limit: int,
        folds: Sequence[int] | None = None,
    ):
        """Prepares the examples.

        Args:
          mentions: the mentions.
          states: text states of all turns that the mentions are read with.
          tokenizer: of the text encoder.
          limit: longest turn in tokens, as the states were computed.
          folds: the fold of each mention's conversation; -1 for all where None.
        """
        self.mentions, self.states = mentions, states
        self.spec = valence_spec(states.width)
        self.folds = [-1] * len(mentions) if folds is None else folds
        spans: dict[tuple[Role, str], np.ndarray] = {}

        def spans_of(turn: Turn) -> np.ndarray:
            key = (turn.role, turn.text)
            if key not in spans:
                spans[key] = token_spans(tokenizer, turn, limit)
            return spans[key]

        self._texts, self._rows, self._places, self._barriers = [], [], [], []
        for mention in mentions:
            rows, place, barriers, texts = [], [], [], []
            for turn in mention.turns:
                of_turn = spans_of(turn)
                if turn is mention.own:
                    its_place, its_barriers, read = places(of_turn, turn, mention.number)
                else:
                    its_place = np.full(len(of_turn), _OTHER_TURN + (turn is mention.answer), np.int32)
                    its_barriers, read = np.zeros(len(of_turn), np.int32), of_turn[:, 1] > of_turn[:, 0]
                texts.append(with_role(turn.role, turn.text))
                rows.append(np.flatnonzero(read))
                place.append(its_place[read])
                barriers.append(its_barriers[read])
            self._texts.append(texts)
            self._rows.append(rows)
            self._places.append(np.concatenate(place))
            self._barriers.append(np.concatenate(barriers))

    def select(self, indices: Iterable[int]) -> ValenceExamples:
        """The examples at some places, in that order; they share their arrays with these."""
        chosen, selected = list(indices), copy.copy(self)
        for name in ("mentions", "folds", "_texts", "_rows", "_places", "_barriers"):
            values = getattr(self, name)
            setattr(selected, name, [values[index] for index in chosen])
        return selected

    def __len__(self) -> int:
        return len(self.mentions)

    def __getitem__(self, index: int) -> Example:
        states = [
            self.states.rows(text)[rows] for text, rows in zip(self._texts[index], self._rows[index], strict=True)
        ]
        target = self.mentions[index].class_index
        return {
            "states": np.concatenate(states),
            "place": self._places[index],
            "barriers": self._barriers[index],
            "target": np.asarray(0 if target is None else target, np.int32),
            "fold": np.asarray(self.folds[index], np.int32),
        }

    def lengths(self) -> dict[str, np.ndarray]:
        """See `Examples.lengths`."""
        return {"T": np.asarray([len(place) for place in self._places], np.int64)}
