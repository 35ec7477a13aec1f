"""The common ground of a dialogue: what both speakers know, because it was said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ecr_jax.data.films import writing
from ecr_jax.data.films.table import Film
from ecr_jax.data.films.world import Taste, World
from ecr_jax.data.films.writing import Named, Slot, Style, Writer, genre_slots, several
from ecr_jax.data.schema import Feedback, Role, Turn


@dataclass(frozen=True)
class Question:
    """A question about a film.

    Attributes:
      kind: a key of `phrases.seeker.QUESTIONS` or `IS_IT`, or "about".
      film: the index of the film.
      named: whether the question names it.
      value: the person or genre of a question to be answered with yes or no.
    """

    kind: str
    film: int
    named: bool = False
    value: str = ""


@dataclass
class Heard:
    """What the recommender has to go on from the seeker's last turn.

    Attributes:
      feeling: the emotion that the recommender reacts to.
      about: what it is about: "taste", "own film" (one that the seeker named), "film" (one that they have
        seen), "accept", "reject", "unsure", "mood", "changed", or "" for nothing.
      talk: small talk: "greeting", "how are you", "fine", "off topic", "nonsense", "foreign", or "".
      questions: asked.
      why: the film whose recommendation the seeker wants explained.
      films: how many films the seeker asked for; 0 where they did not say.
      critique: how the next film should differ, a key of `phrases.seeker.CRITIQUES`.
      accepted: a film that the seeker takes.
      leaves: the seeker says goodbye.
      thanks: the seeker says thanks.
    """

    feeling: str = ""
    about: str = ""
    talk: str = ""
    questions: list[Question] = field(default_factory=list)
    why: int | None = None
    films: int = 0
    critique: str = ""
    accepted: int | None = None
    leaves: bool = False
    thanks: bool = False


@dataclass
class Ground:
    """What was said in a dialogue so far.

    Attributes:
      world: the films.
      rng: the source of all choices.
      feedback: the seeker's feedback on a film after the dialogue; neither speaker acts on it here, mentions carry it.
      tastes: what the seeker said they like or want.
      ruled_out: what the seeker said they do not want.
      valence: film -> how the seeker spoke of it, from -1.2 to 1; 0 for one that was only named.
      liked: films that the seeker spoke well of and knows, latest last.
      mood: a key of `phrases.moods.MOODS`, or "".
      years: the first and the last year that the seeker wants.
      stated: attributes of films, by the film's index and the attribute's name, that the recommender told.
      recent: films of the last recommendation, which the seeker has not yet reacted to.
      turns: finished turns.
      used: phrases, so that none is used twice.
    """

    world: World
    rng: np.random.Generator
    feedback: Callable[[int], Feedback]
    tastes: list[Taste] = field(default_factory=list)
    ruled_out: list[Taste] = field(default_factory=list)
    valence: dict[int, float] = field(default_factory=dict)
    liked: list[int] = field(default_factory=list)
    mood: str = ""
    years: tuple[int, int] = (0, 9999)
    stated: set[tuple[int, str]] = field(default_factory=set)
    recent: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def writer(self, style: Style) -> Writer:
        """A writer of the next turn."""
        return Writer(self.rng, style, self.used)

    def finish(self, role: Role, writer: Writer) -> Turn:
        """Adds the turn that was written."""
        self.turns.append(writer.turn(role))
        return self.turns[-1]

    def film(self, film: int) -> Named:
        """A film as a speaker writes it: mostly with its year, and always where the title alone would be unclear."""
        item = self.world.pool[film]
        self.valence.setdefault(film, 0.0)
        short = self.world.unique_title[film] and item.title[-1].isalnum() and self.rng.random() < 0.25
        surface = item.title if short else item.name
        if self.rng.random() < 0.03:
            surface = surface.lower()
        return Named(surface, item.name, item.uri, True, self.feedback(film))

    def taste_slots(self, *tastes: Taste) -> dict[str, Slot]:
        """The slots of tastes: `person`, `era` and `decade`, the genre's and those of a second genre."""
        slots: dict[str, Slot] = {}
        for kind, value in tastes:
            if kind == "genre":
                slots |= genre_slots(self.rng, str(value), "2" if "genre" in slots else "")
            elif kind == "era":
                slots |= writing.era_slots(self.rng, int(value))
            else:
                slots["person"] = writing.person(str(value))
        return slots


def fact_slots(
    world: World, film: int, attribute: str, rng: np.random.Generator, most: int = 3
) -> tuple[str, dict[str, Slot]] | None:
    """What the table knows about an attribute of a film.

    Args:
      world: the films.
      film: its index.
      attribute: "director", "cast", "writer", "year", "genre", "country", "language" or "company".
      rng: chooses among many values.
      most: names at most so many people.

    Returns:
      The bank that fits the number of values (such as "cast1" for a cast of one) and its slots; None where the table
      does not know.
    """
    item: Film = world.pool[film]
    year: dict[str, Slot] = {"year": str(item.year)}
    if attribute == "year":
        return "year", year
    if attribute == "genre":
        genres = list(item.genres)
        if len(genres) > 1 and rng.random() < 0.6:
            one, two = (genres[i] for i in rng.permutation(len(genres))[:2].tolist())
            return "genre2", year | genre_slots(rng, one) | genre_slots(rng, two, "2")
        return "genre", year | genre_slots(rng, genres[int(rng.integers(len(genres)))])
    if attribute == "cast":
        known = world.known_cast[film]
        names = (known if len(known) > 1 else list(item.cast))[: int(rng.integers(2, most + 1))]
        return "cast" if len(names) > 1 else "cast1", several("people", [writing.person(name) for name in names])
    if attribute in ("director", "writer"):
        names = item.directors if attribute == "director" else item.writers
        return (attribute, several("people", [writing.person(name) for name in names[:most]])) if names else None
    if attribute == "country":
        slots: dict[str, Slot] = {}
        for i, name in enumerate(item.countries[:most]):
            slots |= writing.place(f"place{i}", name)
        joined = several("places", [f"<place{i}>" for i in range(len(item.countries[:most]))]) if slots else None
        return None if joined is None else ("country", slots | joined)
    if attribute == "language":
        names = item.languages[:most]
        if not names:
            return None
        bank = "language" if len(names) == 1 else "languages"
        return bank, several("languages", [writing.language(name) for name in names])
    names = item.companies[: min(most, 2)]
    return ("company", several("companies", [writing.company(name) for name in names])) if names else None
