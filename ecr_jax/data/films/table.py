"""The film table from Wikidata, as the built-in corpus reads it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Film:
    """A row of the film table. Names are as in the table, with white space collapsed; unknown values are 0 or ()."""

    uri: str
    title: str
    year: int
    genres: tuple[str, ...]
    directors: tuple[str, ...]
    writers: tuple[str, ...]
    cast: tuple[str, ...]
    languages: tuple[str, ...]
    countries: tuple[str, ...]
    companies: tuple[str, ...]
    reviews: int

    @property
    def name(self) -> str:
        """The title as it is written in texts: "Title (Year)"."""
        return f"{self.title} ({self.year})" if self.year else self.title

    @property
    def era(self) -> int:
        """The first year of its decade."""
        return self.year // 10 * 10


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
    query = """SELECT o.imdbID, o.Title, o.Year, o.Genre, o.Director, o.Writer, o."Cast", o.Language, o.Country,
        t.Production, t.Reviews FROM omdb o LEFT JOIN tomatoes t ON t.ID = o.ID
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
    for imdb, title, year, *lists, reviews in rows:
        genres, directors, writers, cast, languages, countries, companies = map(_names, lists)
        films.setdefault(
            imdb,
            Film(
                uri("imdb", imdb), " ".join(title.split()), year or 0, genres, directors, writers, cast, languages,
                countries, companies, reviews or 0,
            ),
        )  # fmt: skip
    return tuple(films.values())


def _names(joined: str | None) -> tuple[str, ...]:
    names = (" ".join(name.split()) for name in (joined or "").split(", "))
    # "Robert Downey, Jr." would be two names.
    return tuple(dict.fromkeys(n for n in names if n and n not in ("Jr.", "Sr.") and not n.startswith("list of ")))
