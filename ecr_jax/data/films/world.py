"""The films that can be recommended, and the arrays from which recommendations are sampled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from ecr_jax.data.films.phrases.moods import MOODS
from ecr_jax.data.films.table import Film

DECADES = {1940: 30, 1950: 50, 1960: 60, 1970: 90, 1980: 170, 1990: 300, 2000: 450, 2010: 300}
"""How many of a decade's best documented films are items."""
MIN_REVIEWS = 15
"""A film with fewer critics' reviews in the table is not well documented."""

_NOT_A_TASTE = ("Drama", "Music")
"""Genres that are too general, or have too few films, to be a taste."""
_SMALLEST = {"genre": 12, "director": 4, "actor": 6, "era": 25}
"""Fewest films of an attribute that can be a taste."""
_MIN_DIRECTORS, _MIN_FAME = 5, 3.5
"""An actor whom a seeker may like has worked with so many directors, which those in one series have not."""
_OLD = 1990
_MOOD_GENRES = {
    "happy": ("Comedy", "Family", "Musical", "Animation"),
    "curious": ("Sci-Fi", "Mystery", "Documentary", "Fantasy", "History"),
    "surprise": ("Thriller", "Horror", "Crime"),
}

Taste = tuple[str, str | int]
"""An attribute of films: its kind ("genre", "director", "actor", "era") and its value."""


class World:
    """The items, and arrays over them ([I] or [I, I]).

    Args:
      films: the film table.

    Raises:
      ValueError: it has too few documented films.
    """

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
        directors: dict[str, set[str]] = {}
        for film in pool:
            for name in film.cast:
                directors.setdefault(name, set()).update(film.directors)
        # The table does not say who has a leading part; stars are named in short lists, and in films that many review.
        self.fame: Counter[str] = Counter()
        for film in pool:
            self.fame.update(dict.fromkeys(film.cast, film.reviews**0.5 / len(film.cast)))
        known = {
            name for name, fame in self.fame.items() if fame >= _MIN_FAME and len(directors[name]) >= _MIN_DIRECTORS
        }
        self.choices = {
            kind: [
                value
                for value, having in self.of[kind].items()
                if having.sum() >= _SMALLEST[kind] and value not in _NOT_A_TASTE and (kind != "actor" or value in known)
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
        self.fits_feeling = {
            "nostalgia": (self.years < _OLD).astype(np.float64),
            **{emotion: self.any_genre(genres) for emotion, genres in _MOOD_GENRES.items()},
        }
        self.fits_mood = {
            name: self.any_genre(mood.genres) if mood.genres else self.fits_feeling["nostalgia"]
            for name, mood in MOODS.items()
        }

    def _known_cast(self, film: Film) -> list[str]:
        """Actors who are in other items too, the best known first: the table lists casts alphabetically."""
        famous = [name for name in film.cast if name not in film.directors and self.of["actor"][name].sum() > 1]
        return sorted(famous, key=lambda name: (-self.fame[name], name))[:8]

    def any_genre(self, genres: Iterable[str]) -> np.ndarray:
        """float64 [I]: 1 for the films that have one of the genres."""
        return np.array([not set(film.genres).isdisjoint(genres) for film in self.pool], np.float64)

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

    def fits(self, taste: Taste) -> np.ndarray:
        """bool [I]: the films that have the attribute (kind, value)."""
        return self.of[taste[0]][taste[1]]


def _membership(values: Sequence[Sequence[str | int]]) -> dict[str | int, np.ndarray]:
    table: dict[str | int, np.ndarray] = {}
    for i, names in enumerate(values):
        for name in names:
            table.setdefault(name, np.zeros(len(values), bool))[i] = True
    return table
