"""Emotions of seeker turns, and how the seeker feels about each film of a turn, annotated by a language model.

The paper has GPT-3.5 annotate 5,082 utterances with at most two of nine labels each (ECR 4.1.1); its prompt is not
public, and the one here is our own. What is written holds ids and labels, no text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ecr_jax.data.schema import Conversation, Role, Split
from ecr_jax.emotion.labels import EMOTIONS, VALENCES
from ecr_jax.files import read_parquet, replacing, write_json, write_parquet
from ecr_jax.llm.cache import content_hash
from ecr_jax.llm.client import Answer, Client, Messages, Request, Token
from ecr_jax.llm.structured import MalformedError, ask, object_schema, require_object

_MEANINGS = {
    "like": "speaks well of a film, a genre or a person, or says that a suggestion appeals to them",
    "curious": "asks for a film, asks something about one, or wants to know more",
    "happy": "is glad, amused or looking forward to something, or wishes the other a good day",
    "grateful": "thanks the other",
    "negative": "dislikes, rejects, is bored, sad, annoyed, disappointed or afraid",
    "neutral": "greets, states or answers without a feeling; never together with another label",
    "nostalgia": "remembers earlier times, childhood, or a film from back then with fondness",
    "agreement": "shares what the other says, or accepts a suggestion",
    "surprise": "did not expect what they hear or saw",
}
"""What a seeker does whose turn has the label."""

_INSTRUCTION = (
    "You label the feelings of a person who talks with someone about films to watch. You get the line that the other "
    "said before, where there is one, and the person's own turn. Judge the person's turn alone; the line before it "
    "only tells what the turn refers to.\n\n"
    "Choose one label, or two where a second one is just as clear, the more prominent one first. The person\n"
    + "\n".join(f"{number}: {label}: {_MEANINGS[label]}" for number, label in enumerate(EMOTIONS, 1))
    + "\n\nThen say for each listed film of the turn how the person feels about it: like (enjoyed it, wants to watch "
    "it, or wants something of its kind), dislike (did not enjoy it, does not want it), or unclear (the turn does not "
    'say).\n\nAnswer with JSON alone: {"emotions": [numbers of one or two labels], "films": [one of "like", "dislike", '
    '"unclear" for each film, in the order of the list; [] where no film is listed]}'
)
_SCHEMA = object_schema(
    {
        "emotions": {"type": "array", "items": {"type": "integer", "enum": list(range(1, len(EMOTIONS) + 1))}},
        "films": {"type": "array", "items": {"type": "string", "enum": list(VALENCES)}},
    }
)
PROMPT_HASH = content_hash([_INSTRUCTION, _SCHEMA])
"""Identifies the prompt in records."""

_EMOTION_LIST = re.compile(r'"emotions"\s*:\s*\[([^\]]*)\]')
_ALTERNATIVES = 20
"""Log probabilities that are asked for at each token: the most that servers give."""

_COLUMNS = {
    "conversation": "string",
    "split": "string",
    "turn": "int64",
    "labels": ["int64"],
    "probabilities": ["float64"],
    "films": [{"mention": "int64", "entity": "string", "valence": "string"}],
}


@dataclass(frozen=True)
class SeekerTurn:
    """A seeker's turn to annotate.

    Attributes:
      conversation, split, turn: where it is; `turn` counts from 0.
      text: what is said.
      before: the turn before it; empty where there is none.
      films: (index of the mention in the turn, title, URI or None) of each film it names.
    """

    conversation: str
    split: Split
    turn: int
    text: str
    before: str
    films: tuple[tuple[int, str, str | None], ...]


@dataclass(frozen=True)
class Annotation:
    """How a seeker's turn is labelled.

    Attributes:
      labels: one or two emotion ids, the more prominent one first.
      probabilities: of the nine emotions, where the server gives log probabilities.
      valences: of each of the turn's films, a name in `VALENCES`.
    """

    labels: tuple[int, ...]
    probabilities: tuple[float, ...] | None
    valences: tuple[str, ...]

    def distribution(self) -> np.ndarray:
        """The nine probabilities, or the uniform distribution over the labels where the server gave none: [9]."""
        if self.probabilities is not None:
            return np.array(self.probabilities)
        uniform = np.zeros(len(EMOTIONS))
        uniform[list(self.labels)] = 1 / len(self.labels)
        return uniform


def folder_of(corpus: Path, label: str) -> Path:
    """Where `ecr annotate` puts the labels of a prepared corpus: beside it, so that preparing again keeps them."""
    return corpus.parent / "annotations" / corpus.name / label


def seeker_turns(
    conversations: Iterable[Conversation], splits: Sequence[Split], limit: int | None = None
) -> list[SeekerTurn]:
    """The seekers' turns of some splits, in order; `limit` takes so many of each split, evenly spaced."""
    of_split: dict[Split, list[SeekerTurn]] = {split: [] for split in splits}
    for conversation in conversations:
        for number, turn in enumerate(conversation.turns):
            if turn.role != Role.SEEKER or conversation.split not in of_split:
                continue
            before = conversation.turns[number - 1].text if number else ""
            films = tuple((i, m.name, m.entity) for i, m in enumerate(turn.mentions) if m.film)
            of_split[conversation.split].append(
                SeekerTurn(conversation.id, conversation.split, number, turn.text, before, films)
            )
    chosen = []
    for turns in of_split.values():
        count = len(turns) if limit is None else min(limit, len(turns))
        chosen += [turns[i * len(turns) // count] for i in range(count)]
    return chosen


def prompt(turn: SeekerTurn) -> Messages:
    """The messages that ask for a turn's labels."""
    films = "\n".join(f"{number}. {title}" for number, (_, title, _) in enumerate(turn.films, 1)) or "none"
    before = f"The other said: {turn.before}\n" if turn.before else ""
    return [
        {"role": "system", "content": _INSTRUCTION},
        {"role": "user", "content": f"{before}The person says: {turn.text}\nFilms of the turn:\n{films}"},
    ]


def read_answer(value: Any, answer: Answer, turn: SeekerTurn) -> Annotation:
    """The annotation in a JSON answer. Raises MalformedError where it is not as asked for; nothing is guessed."""
    fields = require_object(value, ("emotions", "films"))
    emotions, films = fields["emotions"], fields["films"]
    valid = isinstance(emotions, list) and all(
        type(number) is int and 1 <= number <= len(EMOTIONS) for number in emotions
    )
    if not valid or not 1 <= len(emotions) <= 2 or len(set(emotions)) != len(emotions):
        raise MalformedError(f"emotions is {emotions!r}; asked for: one or two numbers from 1 to {len(EMOTIONS)}")
    if not isinstance(films, list) or len(films) != len(turn.films) or any(film not in VALENCES for film in films):
        raise MalformedError(f"films is {films!r}; asked for: {len(turn.films)} of {', '.join(VALENCES)}")
    return Annotation(tuple(number - 1 for number in emotions), label_probabilities(answer), tuple(films))


def label_probabilities(answer: Answer) -> tuple[float, ...] | None:
    """The nine emotions' probabilities by the log probabilities at the labels' places in the answer.

    At the place of each label that was given, the probabilities of the tokens that are one of the nine numbers are
    taken and normalised; with two labels, the mean of both places. So an answer of which the model is certain has the
    target distribution of the classifier: uniform over its labels.

    Returns:
      Nine probabilities that add up to 1, or None where the server gives no log probabilities for these places.
    """
    found = _EMOTION_LIST.search(answer.text)
    if found is None or "".join(token.text for token in answer.tokens) != answer.text:
        return None
    places = [found.start(1) + digit.start() for digit in re.finditer(r"\d", found[1])]
    rows = []
    start = 0
    for token in answer.tokens:
        end = start + len(token.text)
        rows += [_number_probabilities(token, place - start) for place in places if start <= place < end]
        start = end
    mean = np.mean(rows, axis=0)
    return None if not math.isfinite(mean.sum()) else tuple(mean.tolist())


def _number_probabilities(token: Token, place: int) -> np.ndarray:
    """Probabilities [9] of the numbers that might stand at a place of the token; NaN where there is none."""
    weights = np.zeros(len(EMOTIONS))
    for text, logprob in token.logprobs.items():
        same = text[:place].strip() == token.text[:place].strip()
        number = text[place:].strip(" ,]\n") if same else ""
        if number.isdecimal() and 1 <= int(number) <= len(EMOTIONS):
            weights[int(number) - 1] += math.exp(logprob)
    return weights / weights.sum() if weights.sum() else np.full(len(EMOTIONS), np.nan)


def annotate(
    turns: Sequence[SeekerTurn],
    client: Client,
    folder: Path,
    *,
    corpus: Mapping[str, Any],
    console: Console,
) -> None:
    """Annotates turns and writes `annotations.parquet`, `malformed.jsonl` and, last, `manifest.json`.

    Ctrl-C or a kill at any moment loses nothing that was answered: the same command goes on from there. What is in the
    folder stays until the new annotation is complete.

    Args:
      turns: what to annotate.
      client: the model.
      folder: where the result goes.
      corpus: `inputs` and `corpus` of the prepared corpus, to recognise it by.
      console: where the progress is shown.

    Raises:
      LlmError: as of `Client.answers`.
    """
    requests = [Request(prompt(turn), schema=_SCHEMA, max_tokens=200, top_logprobs=_ALTERNATIVES) for turn in turns]
    with replacing(folder) as temporary:
        temporary.mkdir()
        answered = ask(
            client,
            requests,
            lambda value, answer, number: read_answer(value, answer, turns[number]),
            names=[{"conversation": turn.conversation, "turn": turn.turn} for turn in turns],
            rejected=temporary / "malformed.jsonl",
            label="annotate",
            console=console,
        )
        rows = [(turn, made) for turn, made in zip(turns, answered.values, strict=True) if made is not None]
        columns = {
            "conversation": [turn.conversation for turn, _ in rows],
            "split": [turn.split.value for turn, _ in rows],
            "turn": [turn.turn for turn, _ in rows],
            "labels": [list(made.labels) for _, made in rows],
            "probabilities": [None if made.probabilities is None else list(made.probabilities) for _, made in rows],
            "films": [
                [
                    {"mention": mention, "entity": entity, "valence": valence}
                    for (mention, _, entity), valence in zip(turn.films, made.valences, strict=True)
                ]
                for turn, made in rows
            ],
        }
        write_parquet(temporary / "annotations.parquet", columns, _COLUMNS)
        labels = [label for _, made in rows for label in made.labels]
        manifest = {
            **corpus,
            "model": client.address.public,
            "prompt": PROMPT_HASH,
            "turns": len(turns),
            "annotated": len(rows),
            "malformed": answered.malformed,
            "with_probabilities": sum(made.probabilities is not None for _, made in rows),
            "labels": {name: labels.count(number) for number, name in enumerate(EMOTIONS)},
            "usage": {
                "input_tokens": answered.usage.input_tokens,
                "output_tokens": answered.usage.output_tokens,
                "cost": answered.usage.cost,
            },
        }
        write_json(temporary / "manifest.json", manifest)
    console.print(f"annotated {len(rows)} of {len(turns)} turns: {folder}; {answered.usage}")
    if answered.malformed:
        console.print(f"{answered.malformed} answers are missing or malformed: {folder / 'malformed.jsonl'}")


@dataclass(frozen=True)
class Annotations:
    """An annotated corpus: (conversation id, turn) -> annotation, and the valence of its mentions.

    Attributes:
      by_turn: annotations; those of turns without film have no valences.
      manifest: what it was made of.
    """

    by_turn: Mapping[tuple[str, int], Annotation]
    manifest: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Annotations:
        """Reads what `annotate` wrote. Raises ValueError where it is not complete."""
        if not (folder / "manifest.json").is_file():
            raise ValueError(f"{folder} has no annotations; run `ecr annotate` with this config first")
        table = read_parquet(folder / "annotations.parquet")
        rows = zip(*(table[name] for name in _COLUMNS), strict=True)
        by_turn = {
            (conversation, turn): Annotation(
                tuple(labels),
                None if probabilities is None else tuple(probabilities),
                tuple(film["valence"] for film in films),
            )
            for conversation, _, turn, labels, probabilities, films in rows
        }
        return cls(by_turn, json.loads((folder / "manifest.json").read_text(encoding="utf-8")))

    def utterances(self, conversations: Iterable[Conversation]) -> list[tuple[str, tuple[int, ...]]]:
        """The annotated turns of conversations as utterances with emotion ids, to train the classifier on."""
        return [
            (turn.text, self.by_turn[conversation.id, number].labels)
            for conversation in conversations
            for number, turn in enumerate(conversation.turns)
            if (conversation.id, number) in self.by_turn
        ]
