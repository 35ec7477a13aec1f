"""Writing turns: from phrases to text with exact spans, in one person's style."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from ecr_jax.data.acts import Act
from ecr_jax.data.films.phrases.nouns import ERAS, GENRES, GenreForms
from ecr_jax.data.films.table import uri
from ecr_jax.data.schema import Feedback, Mention, Role, Turn

_T = TypeVar("_T")


@dataclass(frozen=True)
class Named:
    """An entity as it will be written in a text."""

    surface: str
    name: str
    entity: str
    film: bool = False
    feedback: Feedback | None = None


Slot = str | Named
"""What fills a slot of a phrase: another phrase, or an entity."""

_NO_SLOTS: Mapping[str, Slot] = {}
_BRANCHES = re.compile(r"\(([^()]*)\)")
_PARTS = re.compile(r"(<\w+>)")
_CASUAL = {
    "I'm": "im", "I've": "ive", "I'd": "id", "I'll": "ill", "don't": "dont", "can't": "cant", "didn't": "didnt",
    "isn't": "isnt", "it's": "its", "that's": "thats", "what's": "whats", "who's": "whos", "you": "u", "your": "ur",
    "please": "pls", "thanks": "thx", "because": "cuz", "want to": "wanna", "something": "smth",
    "okay": "ok", "though": "tho",
}  # fmt: skip
_CASUAL_WORD = re.compile(rf"(?<![\w'])({'|'.join(sorted(_CASUAL, key=len, reverse=True))})(?![\w'])", re.IGNORECASE)
_WITH_ARTICLE = ("United ", "Netherlands", "Czech Republic", "Soviet Union", "People's Republic", "Philippines")


def choose(rng: np.random.Generator, phrase: str) -> str:
    """Chooses a branch of every `(a|b)`, innermost first, and normalises the spaces."""
    while match := _BRANCHES.search(phrase):
        phrase = phrase[: match.start()] + pick(rng, match[1].split("|")) + phrase[match.end() :]
    return re.sub(r" ([.,!?])", r"\1", re.sub(r" +", " ", phrase)).strip()


def pick(rng: np.random.Generator, bank: Sequence[_T]) -> _T:
    """One of the bank, each as probable."""
    return bank[int(rng.integers(len(bank)))]


def draw(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    """One of the names, in proportion to its weight."""
    names = list(weights)
    p = np.array([weights[name] for name in names], np.float64)
    return names[int(rng.choice(len(names), p=p / p.sum()))]


@dataclass(frozen=True)
class Style:
    """How a person writes.

    Attributes:
      lower: in lower case, often without a full stop.
      casual: the probability that a word is written the short way ("im", "pls").
      typos: the probability that a word of five letters or more is misspelt.
    """

    lower: bool = False
    casual: float = 0.0
    typos: float = 0.0


@dataclass
class Writer:
    """Builds a turn out of sentences, with what they mention, do and show.

    Attributes:
      rng: the source of all choices.
      style: how the person writes.
      used: phrases that are not used again where the bank has others.
    """

    rng: np.random.Generator
    style: Style = Style()
    used: set[str] = field(default_factory=set)
    text: str = ""
    mentions: list[Mention] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    emotions: list[str] = field(default_factory=list)

    def say(
        self, bank: Sequence[str], *acts: Act, emotion: str | None = None, slots: Mapping[str, Slot] = _NO_SLOTS
    ) -> None:
        """Appends a sentence from one phrase of the bank, preferably one that was not used before.

        Args:
          bank: phrases.
          *acts: what the sentence does.
          emotion: what it shows.
          slots: what fills the slots of the phrase.

        Raises:
          KeyError: the phrase needs a slot that is not given.
        """
        phrase = pick(self.rng, [phrase for phrase in bank if phrase not in self.used] or bank)
        self.used.add(phrase)
        self.acts += acts
        self.emotions += [emotion] if emotion is not None else []
        if self.text:
            # A sentence that lost its full stop gets it back where another follows.
            self.text += " " if self.text[-1] in ".,!?:;…。" else ". "
        start = len(self.text)
        self._write(choose(self.rng, phrase), slots, start)
        stopped = self.text.endswith(".") and not self.text.endswith("..") and len(self.text) > start + 1
        if self.style.lower and stopped and self.rng.random() < 0.6:
            # The full stop of a name ("Robert Downey Jr.") belongs to its mention.
            self.text = self.text[: max(len(self.text) - 1, max((m.end for m in self.mentions), default=0))]

    def turn(self, role: Role) -> Turn:
        """The turn that was written, with its first two emotions; it is neutral only where it shows nothing else."""
        emotions = tuple(dict.fromkeys(e for e in self.emotions if e != "neutral"))[:2] or ("neutral",)
        return Turn(role, self.text, tuple(self.mentions), emotions, tuple(dict.fromkeys(self.acts)))

    def _write(self, phrase: str, slots: Mapping[str, Slot], start: int) -> None:
        for part in _PARTS.split(phrase):
            if not part:
                continue
            value = slots.get(part[1:-1]) if _PARTS.fullmatch(part) else part
            if value is None:
                raise KeyError(f"phrase {phrase!r} needs the slot {part}")
            if isinstance(value, Named):
                surface = value.surface
                if self.style.lower and self.rng.random() < 0.5:
                    surface = surface.lower()
                elif len(self.text) == start and not self.style.lower:
                    surface = surface[0].upper() + surface[1:]
                at = len(self.text)
                self.text += surface
                self.mentions.append(Mention(at, len(self.text), value.name, value.film, value.entity, value.feedback))
            elif value is not part:
                self._write(choose(self.rng, value), slots, start)
            else:
                self._literal(part, start)

    def _literal(self, words: str, start: int) -> None:
        if words.startswith(".") and self.text.endswith("."):  # "Robert Downey Jr." ends the sentence
            words = words[1:]
        if self.style.casual:
            words = _CASUAL_WORD.sub(self._short, words)
        if self.style.lower:
            words = words.lower()
        elif words and len(self.text) == start:
            words = words[0].upper() + words[1:]
        if self.style.typos:
            words = re.sub(r"[A-Za-z]{5,}", lambda match: self._misspelt(match[0]), words)
        self.text += words

    def _short(self, match: re.Match[str]) -> str:
        if self.rng.random() >= self.style.casual:
            return match[0]
        return next(short for long, short in _CASUAL.items() if long.lower() == match[0].lower())

    def _misspelt(self, word: str) -> str:
        if self.rng.random() >= self.style.typos:
            return word
        i = int(self.rng.integers(1, len(word) - 2))
        swapped = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        return pick(self.rng, (swapped, word[:i] + word[i + 1 :], word[:i] + word[i] + word[i:]))


# Slots.


def person(name: str) -> Named:
    """A person by their name."""
    return Named(name, name, uri("person", name))


def company(name: str) -> Named:
    """A company by its name."""
    return Named(name, name, uri("company", name))


def language(name: str) -> Named:
    """A language by its name."""
    return Named(name, name, uri("language", name))


def place(slot: str, name: str) -> dict[str, Slot]:
    """A slot with a country, with its article where it has one."""
    article = "the " if name.startswith(_WITH_ARTICLE) else ""
    return {slot: f"{article}<_{slot}>", f"_{slot}": Named(name, name, uri("country", name))}


def several(slot: str, values: Sequence[Slot], word: str = "and") -> dict[str, Slot]:
    """A slot with several values, joined as in a sentence: "a, b and c"."""
    names = [f"_{slot}{i}" for i in range(len(values))]
    parts = [f"<{name}>" for name in names]
    joined = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"
    return {slot: joined, **dict(zip(names, values, strict=True))}


def genre_slots(rng: np.random.Generator, genre: str, suffix: str = "") -> dict[str, Slot]:
    """Slots `genre` ("comedy"), `a_genre` ("a comedy"), `one_genre` (without its article) and `genres`.

    The words around the mention are a phrase with a slot of its own.
    """
    plain = genre.lower()
    forms = GENRES.get(genre, GenreForms((f"a |{plain}| film",), (f"|{plain}| films",), plain))
    slots: dict[str, Slot] = {f"genre{suffix}": Named(forms.kind, forms.kind, uri("genre", genre))}
    one = pick(rng, forms.one)
    for key, form in (
        ("a_genre", one), ("one_genre", one.removeprefix("an ").removeprefix("a ")), ("genres", pick(rng, forms.many)),
    ):  # fmt: skip
        before, surface, after = form.split("|", 2)
        inner = f"_{key}{suffix}"
        slots[inner] = Named(surface, surface, uri("genre", genre))
        slots[key + suffix] = f"{before}<{inner}>{after}"
    return slots


def era_slots(rng: np.random.Generator, era: int) -> dict[str, Slot]:
    """Slots `era` ("the eighties") and `decade` ("80s", before a noun)."""
    names, adjectives = ERAS[era]
    return {"era": pick(rng, names), "decade": pick(rng, adjectives)}
