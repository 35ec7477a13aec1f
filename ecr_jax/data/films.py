"""The built-in corpus: dialogues and top-rated reviews over the real films of the Wikidata table, from a seed.

A seeker has tastes (genre, director, actor, era) and perhaps an aversion. The recommender knows only those that the
seeker has stated, and samples films by how well they fit these, by the emotions expressed so far and by popularity. The
seeker's feedback (like, dislike, unsaid) depends on all of the tastes, and the expressed emotion on the feedback and on
the film.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from ecr_jax.data import film_phrases as phrases
from ecr_jax.data.schema import Conversation, Feedback, Mention, Role, Split, Turn

_T = TypeVar("_T")

DECADES = {1940: 30, 1950: 50, 1960: 60, 1970: 90, 1980: 170, 1990: 300, 2000: 450, 2010: 300}
"""How many of a decade's best documented films are items."""
MIN_REVIEWS = 15
"""A film with fewer critics' reviews in the table is not well documented."""

_HAPPY = ("Comedy", "Family", "Musical", "Animation")
_CURIOUS = ("Sci-Fi", "Mystery", "Documentary", "Fantasy", "History")
_SURPRISE = ("Thriller", "Horror", "Crime")
_OLD = 1990
_NOT_A_TASTE = ("Drama", "Music")
"""Genres that are too general, or have too few films, to be a taste."""

# The kinds of attributes that a seeker's tastes have, with their probabilities.
_TASTES = {
    ("director",): 0.22,
    ("actor",): 0.18,
    ("genre", "era"): 0.20,
    ("genre", "genre"): 0.10,
    ("genre", "director"): 0.08,
    ("genre", "actor"): 0.10,
    ("actor", "era"): 0.04,
    ("genre",): 0.04,
    ("era",): 0.04,
}
_FIT = {"director": 6.0, "actor": 6.0, "genre": 3.0, "era": 2.5}
_AVERSION, _SIMILAR, _MOOD, _KNOWN = -4.5, 1.6, 1.0, 0.5
_VALENCE = {
    "like": 1.0, "happy": 1.0, "nostalgia": 0.9, "agreement": 0.6, "grateful": 0.6, "surprise": 0.5, "curious": 0.2,
    "neutral": 0.0, "negative": -1.2,
}  # fmt: skip
# P(like, dislike, unsaid | how well a film fits the tastes), then P(emotion | feedback).
_FEEDBACK_GIVEN_FIT = {
    "full": (0.84, 0.01, 0.15),
    "part": (0.79, 0.02, 0.19),
    "none": (0.62, 0.08, 0.30),
    "averse": (0.27, 0.45, 0.28),
}
_EMOTION_GIVEN_FEEDBACK = {
    Feedback.LIKE: {
        "like": 0.30, "happy": 0.13, "grateful": 0.10, "agreement": 0.14, "nostalgia": 0.05, "surprise": 0.08,
        "curious": 0.10, "neutral": 0.05,
    },
    Feedback.DISLIKE: {"negative": 0.86, "neutral": 0.08, "surprise": 0.06},
    Feedback.UNSAID: {"curious": 0.47, "neutral": 0.33, "agreement": 0.06, "grateful": 0.08, "surprise": 0.06},
}  # fmt: skip


_WITH_ARTICLE = ("United ", "Netherlands", "Czech Republic", "Soviet Union", "People's Republic", "Philippines")


@dataclass(frozen=True)
class Film:
    """A row of the film table. Names are as in the table, with white space collapsed; unknown values are 0 or ()."""

    uri: str
    title: str
    year: int
    runtime: int
    genres: tuple[str, ...]
    directors: tuple[str, ...]
    writers: tuple[str, ...]
    cast: tuple[str, ...]
    languages: tuple[str, ...]
    countries: tuple[str, ...]
    companies: tuple[str, ...]
    oscars: int
    reviews: int

    @property
    def name(self) -> str:
        """The title as it is written in texts: "Title (Year)"."""
        return f"{self.title} ({self.year})" if self.year else self.title

    @property
    def era(self) -> int:
        """The first year of its decade."""
        return self.year // 10 * 10


@dataclass(frozen=True)
class FilmReview:
    """A top-rated review: `mentions` are spans of `text` with the entities' URIs; `title` is "Title (Year)"."""

    film: str
    title: str
    text: str
    rating: int
    votes: int
    mentions: tuple[Mention, ...]


@dataclass(frozen=True)
class FilmCorpus:
    """The built-in corpus. `items` are the sorted URIs of the films that can be recommended."""

    conversations: tuple[Conversation, ...]
    reviews: tuple[FilmReview, ...]
    items: tuple[str, ...]


def uri(kind: str, name: str) -> str:
    """The URI of an entity of the film table, e.g. `person:Michael Mann`; of a film: kind `imdb`, name its imdbID."""
    return f"{kind}:{' '.join(name.split())}"


def read_table(path: Path) -> tuple[Film, ...]:
    """Reads the films of `movies.db` in the order of their row ids; of rows with the same imdbID the first one counts.

    Args:
      path: an SQLite file with the tables `omdb` and `tomatoes`.

    Raises:
      ValueError: it is not such a file.
    """
    query = """SELECT o.imdbID, o.Title, o.Year, o.Runtime, o.Genre, o.Director, o.Writer, o."Cast", o.Language,
        o.Country, t.Production, o.Oscars, t.Reviews FROM omdb o LEFT JOIN tomatoes t ON t.ID = o.ID
        WHERE o.imdbID IS NOT NULL AND o.Title IS NOT NULL ORDER BY o.ID"""
    try:
        connection = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)
        try:
            rows = connection.execute(query).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ValueError(
            f"{path} cannot be read as the film table ({error}); give the movies.db of bokeh-sampledata, an SQLite "
            "file with the tables omdb and tomatoes"
        ) from error
    films: dict[str, Film] = {}
    for imdb, title, year, runtime, *lists, oscars, reviews in rows:
        genres, directors, writers, cast, languages, countries, companies = map(_names, lists)
        films.setdefault(
            imdb,
            Film(
                uri("imdb", imdb), " ".join(title.split()), year or 0, int(runtime or 0), genres, directors, writers,
                cast, languages, countries, companies, oscars or 0, reviews or 0,
            ),
        )  # fmt: skip
    return tuple(films.values())


def _names(joined: str | None) -> tuple[str, ...]:
    names = (" ".join(name.split()) for name in (joined or "").split(", "))
    return tuple(dict.fromkeys(name for name in names if name and not name.startswith("list of ")))


def generate(table: Path, *, seed: int = 0, dialogues: int = 1000, reviews: int = 1800) -> FilmCorpus:
    """Generates the corpus; the same table, seed and numbers give the same corpus.

    Of every ten dialogues, the last is for test and the one before it for validation. Reviews are of films that the
    training dialogues mention, so that they contain nothing of the other splits.

    Args:
      table: `movies.db`.
      seed: any integer from 0.
      dialogues: number of dialogues, at least 10 so that no split is empty.
      reviews: number of reviews.

    Raises:
      ValueError: an argument is out of range, or the table has too few documented films.
    """
    if seed < 0 or dialogues < 10 or reviews < 0:
        raise ValueError(
            f"seed {seed}, dialogues {dialogues}, reviews {reviews}: give a seed of 0 or more, "
            "10 dialogues or more and 0 reviews or more"
        )
    world = _World(read_table(table))
    conversations = tuple(
        Conversation(f"films-{i:05d}", _split(i), _Dialogue(world, np.random.default_rng([seed, 0, i])).turns())
        for i in range(dialogues)
    )
    mentioned = Counter(
        mention.entity
        for conversation in conversations
        if conversation.split == Split.TRAIN
        for turn in conversation.turns
        for mention in turn.mentions
        if mention.film
    )
    rng = np.random.default_rng([seed, 1])
    ranked = sorted(mentioned, key=lambda film: (-mentioned[film], film))
    share = np.array([mentioned[film] for film in ranked], np.float64) ** 0.5
    extra = rng.choice(len(ranked), max(reviews - len(ranked), 0), p=share / share.sum())
    reviewed = [*range(len(ranked)), *sorted(extra.tolist())][:reviews]
    return FilmCorpus(
        conversations,
        tuple(_review(world, world.by_uri[ranked[i]], rng) for i in reviewed),
        tuple(sorted(film.uri for film in world.pool)),
    )


def _split(index: int) -> Split:
    return {8: Split.VALID, 9: Split.TEST}.get(index % 10, Split.TRAIN)


class _World:
    """The items, and the arrays over them ([I] or [I, I]) from which recommendations are sampled."""

    def __init__(self, films: Sequence[Film]):
        documented = [f for f in films if f.genres and f.directors and f.cast and f.year and f.reviews >= MIN_REVIEWS]
        films_by = Counter(name for film in documented for name in film.directors)
        # A director with many films can be a taste; a film without reviews is not well documented.
        documented.sort(key=lambda f: (-np.log(f.reviews) - 0.4 * np.log(max(films_by[d] for d in f.directors)), f.uri))
        remaining, seen, pool = dict(DECADES), set(), []
        for film in documented:
            if remaining.get(film.era, 0) and film.name.lower() not in seen:
                remaining[film.era] -= 1
                seen.add(film.name.lower())
                pool.append(film)
        if len(pool) < 50:
            raise ValueError(f"the film table has {len(pool)} well documented films; at least 50 are needed")
        pool.sort(key=lambda f: (-f.reviews, f.uri))
        self.pool = pool
        self.by_uri = {film.uri: i for i, film in enumerate(pool)}
        titles = Counter(film.title.lower() for film in films)
        self.unique_title = [titles[film.title.lower()] == 1 for film in pool]
        self.log_known = -np.log(np.arange(len(pool)) + 8.0)
        self.years = np.array([film.year for film in pool])
        self.of: dict[str, dict[str | int, np.ndarray]] = {
            "genre": _membership([f.genres for f in pool]),
            "director": _membership([f.directors for f in pool]),
            "actor": _membership([f.cast for f in pool]),
            "era": _membership([(f.era,) for f in pool]),
        }
        smallest = {"genre": 12, "director": 4, "actor": 6, "era": 25}
        self.choices = {
            kind: [
                value
                for value, films in self.of[kind].items()
                if films.sum() >= smallest[kind] and value not in _NOT_A_TASTE
            ]
            for kind in self.of
        }
        if not self.choices["genre"]:
            raise ValueError("no genre of the film table has 12 well documented films, so no taste can be met")
        self.tables = {  # [values, I] of the choices
            kind: np.array([self.of[kind][value] for value in values], np.float64).reshape(-1, len(pool))
            for kind, values in self.choices.items()
        }
        self.known_cast = [self._known_cast(film) for film in pool]
        self.similar = self._similarity()
        self.moods = {
            "nostalgia": (self.years < _OLD).astype(np.float64),
            "happy": self._any_genre(_HAPPY),
            "curious": self._any_genre(_CURIOUS),
            "surprise": self._any_genre(_SURPRISE),
        }

    def _known_cast(self, film: Film) -> list[str]:
        """Actors who are in other items too, those in most items first: the table lists casts alphabetically."""
        played = {name: int(self.of["actor"][name].sum()) for name in film.cast if name not in film.directors}
        return sorted((name for name in played if played[name] > 1), key=lambda name: (-played[name], name))[:8]

    def _any_genre(self, genres: Sequence[str]) -> np.ndarray:
        return np.array([any(g in genres for g in film.genres) for film in self.pool], np.float64)

    def _similarity(self) -> np.ndarray:
        shared = {}
        for kind in ("director", "actor", "genre"):
            # Names in only one film cannot be shared; all genres stay, because `sizes` counts them.
            shareable = [films for films in self.of[kind].values() if kind == "genre" or films.sum() > 1]
            table = np.array(shareable, np.float32).reshape(-1, len(self.pool))  # [names, I]
            shared[kind] = table.T @ table
        sizes = np.diag(shared["genre"])
        alike = shared["genre"] / (sizes[:, None] + sizes[None, :] - shared["genre"])
        near = np.abs(self.years[:, None] - self.years[None, :]) <= 6
        return (
            1.5 * np.minimum(shared["director"], 1) + 0.5 * np.minimum(shared["actor"], 2) + 0.9 * alike + 0.4 * near
        ).astype(np.float64)

    def fits(self, taste: tuple[str, str | int]) -> np.ndarray:
        """bool [I]: the films that have the attribute (kind, value)."""
        return self.of[taste[0]][taste[1]]


def _membership(values: Sequence[Sequence[str | int]]) -> dict[str | int, np.ndarray]:
    table: dict[str | int, np.ndarray] = {}
    for i, names in enumerate(values):
        for name in names:
            table.setdefault(name, np.zeros(len(values), bool))[i] = True
    return table


def _draw(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    names = list(weights)
    p = np.array([weights[name] for name in names], np.float64)
    return names[int(rng.choice(len(names), p=p / p.sum()))]


def _pick(rng: np.random.Generator, bank: Sequence[_T]) -> _T:
    return bank[int(rng.integers(len(bank)))]


# Text generation: from phrases to text with spans.


@dataclass(frozen=True)
class _Named:
    """An entity as it will be written in a text."""

    surface: str
    name: str
    entity: str
    film: bool = False
    feedback: Feedback | None = None


Slot = str | _Named
_BRANCHES = re.compile(r"\(([^()]*)\)")
_PARTS = re.compile(r"(<\w+>)")


def _choose(rng: np.random.Generator, phrase: str) -> str:
    """Chooses a branch of every `(a|b)`, innermost first, and normalises the spaces."""
    while match := _BRANCHES.search(phrase):
        phrase = phrase[: match.start()] + _pick(rng, match[1].split("|")) + phrase[match.end() :]
    return re.sub(r" ([.,!?])", r"\1", re.sub(r" +", " ", phrase)).strip()


@dataclass
class _Writer:
    """Builds a text and its mentions out of sentences, in one person's style of writing."""

    rng: np.random.Generator
    lower: bool = False
    typos: float = 0.0
    used: set[str] = field(default_factory=set)
    text: str = ""
    mentions: list[Mention] = field(default_factory=list)

    def say(self, bank: Sequence[str], **slots: Slot) -> None:
        """Appends a sentence from one phrase of the bank, preferably one that was not used before."""
        if self.text:
            self.text += " "
        start = len(self.text)
        phrase = _pick(self.rng, [phrase for phrase in bank if phrase not in self.used] or bank)
        self.used.add(phrase)
        self._write(_choose(self.rng, phrase), slots, start)
        if self.lower and self.text.endswith(".") and self.rng.random() < 0.6:
            self.text = self.text[:-1] if len(self.text) > start + 1 else self.text

    def _write(self, phrase: str, slots: Mapping[str, Slot], start: int) -> None:
        for part in _PARTS.split(phrase):
            if not part:
                continue
            value = slots.get(part[1:-1]) if _PARTS.fullmatch(part) else part
            if value is None:
                raise KeyError(f"phrase {phrase!r} needs the slot {part}")
            if isinstance(value, _Named):
                surface = value.surface
                if len(self.text) == start and not self.lower:
                    surface = surface[0].upper() + surface[1:]
                at = len(self.text)
                self.text += surface
                self.mentions.append(Mention(at, len(self.text), value.name, value.film, value.entity, value.feedback))
            elif value is not part:
                self._write(_choose(self.rng, value), slots, start)
            else:
                self._literal(part, start)

    def _literal(self, words: str, start: int) -> None:
        if self.lower:
            words = words.lower()
        elif len(self.text) == start:
            words = words[0].upper() + words[1:]
        if self.typos:
            words = re.sub(r"[A-Za-z]{5,}", lambda match: self._misspelt(match[0]), words)
        self.text += words

    def _misspelt(self, word: str) -> str:
        if self.rng.random() >= self.typos:
            return word
        i = int(self.rng.integers(1, len(word) - 2))
        swapped = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        return _pick(self.rng, (swapped, word[:i] + word[i + 1 :], word[:i] + word[i] + word[i:]))


def _genre_slots(rng: np.random.Generator, genre: str, suffix: str = "") -> dict[str, Slot]:
    """Slots `genre`, `a_genre`, `genres`; the phrase around the mention is a phrase with a slot of its own."""
    one, many = phrases.GENRES.get(genre, ((f"a |{genre.lower()}| film",), (f"|{genre.lower()}| films",)))
    slots: dict[str, Slot] = {f"genre{suffix}": _Named(genre.lower(), genre.lower(), uri("genre", genre))}
    for key, forms in (("a_genre", one), ("genres", many)):
        before, surface, after = _pick(rng, forms).split("|", 2)
        inner = f"_{key}{suffix}"
        slots[inner] = _Named(surface, surface, uri("genre", genre))
        slots[key + suffix] = f"{before}<{inner}>{after}"
    return slots


def _person(name: str) -> _Named:
    return _Named(name, name, uri("person", name))


# Dialogues.


class _Dialogue:
    """The simulation of one dialogue between a seeker and a recommender."""

    def __init__(self, world: _World, rng: np.random.Generator):
        self.world, self.rng = world, rng
        self.tastes = self._draw_tastes()
        self.aversion = self._draw_aversion()
        self.unstated_tastes = list(self.tastes)
        self.stated_tastes: list[tuple[str, str | int]] = []
        self.stated_aversions: list[tuple[str, str | int]] = []
        self.valence: dict[int, float] = {}  # film -> valence of what the seeker said about it
        self.feedback: dict[int, Feedback] = {}
        self.recent: list[int] = []  # recommended in the last recommender turn
        self.last_emotions: list[str] = []  # of the seeker's last turn
        self.finished_turns: list[Turn] = []
        self.used: set[str] = set()  # phrases, so that no phrase is used twice
        manner = rng.random()
        self.manners = {
            Role.SEEKER: (manner < 0.12, 0.04 if rng.random() < 0.15 else 0.004),
            Role.RECOMMENDER: (rng.random() < 0.08, 0.03 if rng.random() < 0.1 else 0.003),
        }

    # The seeker's preferences.

    def _draw_tastes(self) -> list[tuple[str, str | int]]:
        world, rng = self.world, self.rng
        while True:
            kinds = _draw(rng, {"+".join(kinds): p for kinds, p in _TASTES.items()}).split("+")
            tastes: list[tuple[str, str | int]] = []
            fitting = np.ones(len(world.pool), bool)
            for kind in reversed(kinds):  # the narrow attribute first, then a genre that goes with it
                values = world.choices[kind]
                weights = (world.tables[kind] @ fitting) ** 0.5
                weights *= [(kind, value) not in tastes for value in values]
                if not weights.sum():
                    break
                taste = (kind, values[rng.choice(len(values), p=weights / weights.sum())])
                tastes.insert(0, taste)
                fitting &= world.fits(taste)
            if len(tastes) == len(kinds) and fitting.sum() >= 4:
                return tastes

    def _draw_aversion(self) -> tuple[str, str | int] | None:
        """A genre of many of the fitting films, so that a recommender who knows it can avoid them."""
        world = self.world
        fitting = np.logical_and.reduce([world.fits(t) for t in self.tastes])
        shares = {
            genre: float((fitting & films).sum() / fitting.sum())
            for genre, films in world.of["genre"].items()
            if ("genre", genre) not in self.tastes and genre in phrases.GENRES
        }
        fair = {genre: share for genre, share in shares.items() if 0.15 <= share <= 0.6}
        return ("genre", _draw(self.rng, fair)) if fair and self.rng.random() < 0.45 else None

    def _feedback(self, film: int) -> Feedback:
        """The seeker's feedback on a film after the dialogue; sampled once."""
        if film not in self.feedback:
            fit = np.mean([self.world.fits(taste)[film] for taste in self.tastes])
            averse = self.aversion is not None and self.world.fits(self.aversion)[film]
            p = _FEEDBACK_GIVEN_FIT["averse" if averse else "full" if fit == 1 else "part" if fit else "none"]
            self.feedback[film] = tuple(Feedback)[self.rng.choice(3, p=p)]
        return self.feedback[film]

    def _emotion(self, film: int, feedback: Feedback) -> str:
        weights = dict(_EMOTION_GIVEN_FEEDBACK[feedback])
        for emotion, films in self.world.moods.items():
            if emotion in weights and films[film]:
                weights[emotion] *= 8.0 if emotion == "nostalgia" else 2.0
        return _draw(self.rng, weights)

    # The recommender's choice of films.

    def _scores(self) -> np.ndarray:
        """[I] log-weights of the films given the dialogue so far; minus infinity for those already mentioned."""
        world = self.world
        scores = _KNOWN * world.log_known
        if self.rng.random() > 0.04:  # otherwise the recommender ignores what the seeker said
            for taste in self.stated_tastes:
                scores = scores + _FIT[taste[0]] * world.fits(taste)
            for taste in self.stated_aversions:
                scores = scores + _AVERSION * world.fits(taste)
            for film, valence in self.valence.items():
                scores = scores + _SIMILAR * valence * world.similar[film]
            for emotion in self.last_emotions:
                if emotion in world.moods:
                    scores = scores + _MOOD * world.moods[emotion]
        scores = scores.copy()
        scores[list(self.valence)] = -np.inf
        return scores

    def _films(self, count: int) -> list[int]:
        noise = self.rng.gumbel(size=len(self.world.pool))
        return np.argsort(-(self._scores() + noise), kind="stable")[:count].tolist()

    # Phrases.

    def _writer(self, role: Role) -> _Writer:
        lower, typos = self.manners[role]
        return _Writer(self.rng, lower, typos, self.used)

    def _film(self, film: int) -> _Named:
        item = self.world.pool[film]
        surface = item.name
        if self.rng.random() < 0.18 and self.world.unique_title[film]:
            surface = item.title
        if self.rng.random() < 0.04:
            surface = surface.lower()
        return _Named(surface, item.name, item.uri, True, self._feedback(film))

    def _slots(self, tastes: Sequence[tuple[str, str | int]]) -> dict[str, Slot]:
        slots: dict[str, Slot] = {}
        for kind, value in tastes:
            if kind == "genre":
                slots |= _genre_slots(self.rng, str(value), "2" if "genre" in slots else "")
            elif kind == "era":
                slots["era"] = _pick(self.rng, phrases.ERAS[int(value)])
            else:
                slots["person"] = _person(str(value))
        return slots

    def _nouns(self, tastes: Sequence[tuple[str, str | int]], emotion: str) -> dict[str, Slot]:
        """Slots `np`, and `nps` for where only a plural fits."""
        kind = "+".join(kind for kind, _ in tastes)
        slots = self._slots(tastes)
        slots["nps"] = _pick(self.rng, phrases.TASTE_NOUNS[kind])
        # One looks for a comedy, but one loves, misses and hates comedies.
        possible = emotion in ("neutral", "curious", "agreement") or (kind[:5] != "genre" and emotion == "like")
        singular = possible and self.rng.random() < 0.4
        slots["np"] = _pick(self.rng, phrases.TASTE_SINGULARS[kind]) if singular else slots["nps"]
        return slots

    def _finish_turn(self, role: Role, writer: _Writer, emotions: Sequence[str] = ()) -> None:
        self.finished_turns.append(Turn(role, writer.text, tuple(writer.mentions), tuple(dict.fromkeys(emotions))[:2]))
        if role == Role.SEEKER:
            self.last_emotions = list(self.finished_turns[-1].emotions)

    # The seeker's turns.

    def _taste_emotion(self, tastes: Sequence[tuple[str, str | int]], answering: bool) -> str:
        weights = {"like": 0.30, "happy": 0.10, "curious": 0.14, "neutral": 0.26, "nostalgia": 0.06, "surprise": 0.03}
        if answering:
            weights["agreement"] = 0.12
        for kind, value in tastes:
            if kind == "era" and int(value) < _OLD:
                weights["nostalgia"] = 0.9
            for emotion, genres in (("happy", _HAPPY), ("curious", _CURIOUS), ("surprise", _SURPRISE)):
                if value in genres:
                    weights[emotion] *= 2.5
        return _draw(self.rng, weights)

    def _state_tastes(self, writer: _Writer, count: int, answering: bool) -> list[str]:
        """States the next `count` tastes that are not stated yet."""
        tastes, self.unstated_tastes = self.unstated_tastes[:count], self.unstated_tastes[count:]
        self.stated_tastes += tastes
        emotion = self._taste_emotion(tastes, answering)
        writer.say(phrases.TASTES[emotion], **self._nouns(tastes, emotion))
        return [emotion]

    def _state_loved_film(self, writer: _Writer) -> list[str]:
        """Names a loved film that fits the tastes."""
        world = self.world
        scores = 0.5 * world.log_known
        for taste in self.tastes:
            scores = scores + 5.0 * world.fits(taste)
        if self.aversion:
            scores = scores - 4.0 * world.fits(self.aversion)
        scores[list(self.valence)] = -np.inf
        film = int(np.argmax(scores + self.rng.gumbel(size=len(scores))))
        self.feedback[film] = Feedback.LIKE if self.rng.random() < 0.9 else Feedback.UNSAID
        weights = {"like": 0.4, "happy": 0.12, "nostalgia": 0.08, "surprise": 0.08, "neutral": 0.2, "curious": 0.12}
        for emotion, films in world.moods.items():
            weights[emotion] *= (6.0 if emotion == "nostalgia" else 2.0) if films[film] else 1.0
        emotion = _draw(self.rng, weights)
        writer.say(phrases.LOVED_FILMS[emotion], film=self._film(film))
        self.valence[film] = max(_VALENCE[emotion], 0.7)
        return [emotion]

    def _state_aversion(self, writer: _Writer) -> list[str]:
        world = self.world
        if self.aversion and self.aversion not in self.stated_aversions:
            writer.say(phrases.AVERSIONS, **self._nouns([self.aversion], "negative"))
            self.stated_aversions.append(self.aversion)
            return ["negative"]
        if self.rng.random() < 0.35:  # a film that does not fit at all
            scores = world.log_known - 6.0 * np.mean([world.fits(t) for t in self.tastes], axis=0)
            scores[list(self.valence)] = -np.inf
            film = int(np.argmax(scores + self.rng.gumbel(size=len(scores))))
            self.feedback[film] = Feedback.DISLIKE
            writer.say(phrases.HATED_FILMS, film=self._film(film))
            self.valence[film] = _VALENCE["negative"]
            return ["negative"]
        writer.say(phrases.OPEN_MINDED)
        return ["neutral"]

    def _open(self, hello: bool) -> None:
        writer, emotions = self._writer(Role.SEEKER), []
        if hello:
            writer.say(phrases.SEEKER_HELLO)
        both = len(self.unstated_tastes) == 2 and self.rng.random() < 0.45
        emotions += self._state_tastes(writer, 2 if both else 1, answering=False)
        if self.rng.random() < 0.45:
            emotions += self._state_loved_film(writer)
        self._finish_turn(Role.SEEKER, writer, emotions)

    def _react(self, last: bool) -> None:
        """Reacts to the films of the last recommender turn."""
        rng = self.rng
        writer, emotions = self._writer(Role.SEEKER), []
        emotion_of: dict[int, str] = {}
        addressed = self.recent[: 1 if len(self.recent) > 1 and rng.random() < 0.35 else 2]
        for film in addressed:
            emotion = self._emotion(film, self._feedback(film))
            named = len(self.recent) > 1 or rng.random() < 0.25
            bank = phrases.REACTIONS if named else phrases.SHORT_REACTIONS
            writer.say(bank[emotion], **({"film": self._film(film)} if named else {}))
            emotion_of[film] = emotion
            emotions.append(emotion)
        for film in self.recent:
            self.valence[film] = _VALENCE[emotion_of.get(film, emotions[0])] * (1.0 if film in emotion_of else 0.5)
        if len(addressed) == 1 and rng.random() < (0.5 if emotions[0] == "negative" else 0.15):
            self._reason(writer, addressed[0], emotions[0])
        if not last:
            if self.unstated_tastes and rng.random() < 0.4 and emotions[0] not in ("grateful", "agreement"):
                emotions += self._state_tastes(writer, 1, answering=False)
            elif rng.random() < 0.4:
                writer.say(phrases.MORE)
        elif "grateful" not in emotions and len(emotions) < 2 and rng.random() < 0.25:
            writer.say(phrases.SEEKER_END["grateful"])
            emotions.append("grateful")
        self._finish_turn(Role.SEEKER, writer, emotions)

    def _reason(self, writer: _Writer, film: int, emotion: str) -> None:
        """Says what the seeker liked or disliked in the film, which the recommender then knows."""
        if emotion not in ("like", "happy", "negative"):
            return
        against = emotion == "negative"
        item = self.world.pool[film]
        options = [("director", name) for name in item.directors]
        options += [("actor", name) for name in self.world.known_cast[film][:4]]
        options += [("genre", name) for name in item.genres if name in phrases.GENRES]
        ours = [taste for taste in options if taste in self.tastes]
        if against:
            averse = [taste for taste in options if taste == self.aversion]
            options = averse or [taste for taste in options if taste not in self.tastes]
        else:
            options = ours
        if not options:
            return
        kind, value = taste = _pick(self.rng, options)
        writer.say(phrases.REASONS["negative" if against else "like"][kind], **self._slots([taste]))
        if against and taste not in self.stated_aversions:
            self.stated_aversions.append(taste)
        if not against and taste in self.unstated_tastes:
            self.unstated_tastes.remove(taste)
            self.stated_tastes.append(taste)

    # The recommender's turns.

    def _acknowledge(self, writer: _Writer) -> None:
        """Reacts to the seeker's emotion, sometimes mentioning a film again."""
        if not self.last_emotions:
            return
        emotion = self.last_emotions[0]
        if self.rng.random() < 0.75:
            writer.say(phrases.EMPATHY[emotion])
        if self.recent and self.rng.random() < 0.08:
            key = "negative" if emotion == "negative" else "curious" if emotion in ("curious", "neutral") else "like"
            writer.say(phrases.AGAIN[key], film=self._film(_pick(self.rng, self.recent)))

    def _recommend(self, count: int) -> None:
        rng = self.rng
        writer = self._writer(Role.RECOMMENDER)
        self._acknowledge(writer)
        films = self._films(count)
        if count == 1:
            writer.say(phrases.RECOMMEND, film=self._film(films[0]))
            if rng.random() < 0.45:
                self._justify(writer, films[0])
            if rng.random() < 0.45:
                writer.say(phrases.SEEN)
        else:
            joined = ", ".join(f"<f{i}>" for i in range(count - 1)) + f" (and|or) <f{count - 1}>"
            writer.say(phrases.RECOMMEND_MANY, films=joined, **{f"f{i}": self._film(f) for i, f in enumerate(films)})
        self._finish_turn(Role.RECOMMENDER, writer)
        self.recent = films

    def _justify(self, writer: _Writer, film: int) -> None:
        """Justifies a recommendation: what the film has in common with the stated tastes, or a fact about it."""
        world, item = self.world, self.world.pool[film]
        shared = [taste for taste in self.stated_tastes if world.fits(taste)[film]]
        loved = [f for f, valence in self.valence.items() if valence >= 0.6]
        options = [*shared, *shared, ("director", item.directors[0])]
        options += [("actor", name) for name in world.known_cast[film][:2]]
        options += [("genre", name) for name in item.genres[:1] if name in phrases.GENRES]
        if loved and self.rng.random() < 0.10:
            like = max(loved, key=lambda f: (world.similar[f, film], -f))
            writer.say(phrases.WHY["film"], film=self._film(like))
        elif item.oscars and self.rng.random() < 0.2:
            writer.say(phrases.WHY["oscars"])
        else:
            taste = _pick(self.rng, options)
            writer.say(phrases.WHY[taste[0]], **self._slots([taste]))

    def _ask(self, what: str) -> None:
        writer = self._writer(Role.RECOMMENDER)
        self._acknowledge(writer)
        banks = {"second": phrases.ASK_SECOND, "film": phrases.ASK_FAVORITE, "avoid": phrases.ASK_AVOID}
        writer.say(banks[what])
        self._finish_turn(Role.RECOMMENDER, writer)
        writer = self._writer(Role.SEEKER)
        if what == "avoid":
            emotions = self._state_aversion(writer)
        elif what == "second" and self.unstated_tastes:
            emotions = self._state_tastes(writer, 1, answering=True)
        else:
            emotions = self._state_loved_film(writer)
        self._finish_turn(Role.SEEKER, writer, emotions)
        self.recent = []

    def _close(self) -> None:
        rng = self.rng
        writer = self._writer(Role.RECOMMENDER)
        writer.say(phrases.EMPATHY[self.last_emotions[0]])
        if rng.random() < 0.22:
            best = max(self.recent, key=lambda f: (self.valence[f], -f))
            if self.valence[best] >= 0:
                writer.say(phrases.AGAIN["end"], film=self._film(best))
        writer.say(phrases.RECOMMENDER_END)
        self._finish_turn(Role.RECOMMENDER, writer)
        if rng.random() < 0.75:
            writer = self._writer(Role.SEEKER)
            emotion = _draw(rng, {"grateful": 0.45, "happy": 0.15, "agreement": 0.15, "neutral": 0.17, "like": 0.08})
            writer.say(phrases.SEEKER_END[emotion])
            self._finish_turn(Role.SEEKER, writer, [emotion])

    def turns(self) -> tuple[Turn, ...]:
        """Generates the dialogue."""
        rng = self.rng
        if rng.random() < 2 / 3:
            writer = self._writer(Role.RECOMMENDER)
            writer.say(phrases.GREETING)
            writer.say(phrases.ASK_TASTE)
            self._finish_turn(Role.RECOMMENDER, writer)
            self._open(hello=rng.random() < 0.5)
        else:
            self._open(hello=True)
        rounds = int(rng.choice([2, 3, 4], p=[0.42, 0.46, 0.12]))
        ask = {"second": 0.75 if self.unstated_tastes else 0.0, "film": 0.25, "avoid": 0.55 if self.aversion else 0.12}
        asks = [what for what, p in ask.items() if rng.random() < p][: 5 - rounds]
        for i in range(rounds):
            # Questions come early, at most one before each recommendation but the last.
            if asks and (i == rounds - 1 or rng.random() < 0.75):
                self._ask(asks.pop(0))
            self._recommend(int(rng.choice([1, 2, 3], p=[0.66, 0.27, 0.07])))
            self._react(last=i == rounds - 1)
        self._close()
        return tuple(self.finished_turns)


# Reviews.


def _review(world: _World, film: int, rng: np.random.Generator) -> FilmReview:
    """Writes an emotional review with facts about a film, in 40 to 120 words."""
    item = world.pool[film]
    weights = {
        "like": 0.2, "happy": 0.16, "nostalgia": 0.1, "surprise": 0.13, "curious": 0.1, "grateful": 0.11,
        "negative": 0.08, "agreement": 0.08, "neutral": 0.04,
    }  # fmt: skip
    for emotion, films in world.moods.items():
        weights[emotion] *= (4.0 if emotion == "nostalgia" else 2.0) if films[film] else 1.0
    emotion = _draw(rng, weights)
    writer = _Writer(rng)
    writer.say(phrases.REVIEW_OPEN[emotion], film=_Named(item.title, item.name, item.uri, True))
    facts = _facts(world, film, rng)
    # People first, as reviewers do; the order and the choice of the rest are free.
    order = [0, *(1 + rng.permutation(len(facts) - 1)).tolist()]
    wanted, feelings = int(rng.integers(42, 92)), int(rng.integers(1, 3))
    for place, i in enumerate(order):
        if len(writer.text.split()) >= wanted and place >= 3:
            break
        kind, slots = facts[i]
        writer.say(phrases.REVIEW_FACTS[kind], **slots)
        if feelings and rng.random() < 0.4:
            writer.say(phrases.REVIEW_FEELINGS[emotion])
            feelings = 0
    while len(writer.text.split()) < 40:
        writer.say(phrases.REVIEW_FEELINGS[_draw(rng, weights)])
    writer.say(phrases.REVIEW_END)
    votes = 1 + int(rng.geometric(0.04)) + int(item.reviews * rng.random())
    return FilmReview(item.uri, item.name, writer.text, 10, votes, tuple(writer.mentions))


def _facts(world: _World, film: int, rng: np.random.Generator) -> list[tuple[str, dict[str, Slot]]]:
    """Facts about a film as (bank of `REVIEW_FACTS`, slots); directors and actors come first."""
    item = world.pool[film]

    def named(kind: str, name: str) -> _Named:
        return _Named(name, name, uri(kind, name))

    def some(names: Sequence[str], count: int) -> list[str]:
        return [names[i] for i in rng.permutation(len(names))[:count].tolist()]

    facts: list[tuple[str, dict[str, Slot]]] = []
    if len(item.directors) == 1 or rng.random() < 0.4:
        facts.append(("director", {"person": _person(_pick(rng, item.directors))}))
    else:
        one, two = some(item.directors, 2)
        facts.append(("director2", {"person": _person(one), "person2": _person(two)}))
    actors = some(world.known_cast[film] or item.cast, 3)
    if actors:
        facts.append(("actor", {"person": _person(actors[0])}))
    if len(actors) == 3:
        facts.append(("actor2", {"person": _person(actors[1]), "person2": _person(actors[2])}))
    genres = some([g for g in item.genres if g in phrases.GENRES], 2)
    if len(genres) == 2 and rng.random() < 0.5:
        facts.append(("genre2", _genre_slots(rng, genres[0]) | _genre_slots(rng, genres[1], "2")))
    elif genres:
        facts.append(("genre", _genre_slots(rng, genres[0])))
    if rng.random() < 0.6:
        facts.append(("year", {"year": str(item.year)}))
    else:
        facts.append(("era", {"era": phrases.ERAS[item.era][0]}))
    if item.writers:
        facts.append(("writer", {"person": _person(_pick(rng, item.writers))}))
    if len(item.countries) == 1 and (item.countries[0] != "United States" or rng.random() < 0.3):
        name = item.countries[0]
        article = "the " if name.startswith(_WITH_ARTICLE) else ""
        facts.append(("country", {"country": f"{article}<_country>", "_country": named("country", name)}))
    if len(item.languages) == 1 and item.languages[0] != "English":
        facts.append(("language", {"language": named("language", item.languages[0])}))
    if len(item.companies) == 1:
        facts.append(("company", {"company": named("company", item.companies[0])}))
    if item.oscars:
        facts.append(("oscars", {}) if item.oscars == 1 else ("oscars2", {"count": str(item.oscars)}))
    if item.runtime >= 60:
        facts.append(("runtime", {"minutes": str(item.runtime)}))
    return facts
