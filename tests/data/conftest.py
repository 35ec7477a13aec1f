"""A film table of a few hundred invented films, in the shape of the Wikidata one, for what needs no real film."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

_GENRES = ("Comedy", "Thriller", "Drama", "Horror", "Western", "Musical")


def _film(i: int) -> tuple:
    genres = ", ".join(dict.fromkeys((_GENRES[i % 6], _GENRES[(i // 6) % 6])))
    cast = ", ".join(f"Player {(i * k) % 23}" for k in (1, 3, 7))
    company = "Studio  Nine" if i % 2 else "Studio Nine, Studio Ten"
    return (
        i, f"tt{i:07d}", f"Made-up Film {i}", 1950 + i % 65, 80.0 + i % 50, genres, f"Maker {i % 17}",
        f"Writer {i % 9}", cast, "French" if i % 3 else "French, Dutch", "France" if i % 5 else "Netherlands", i % 3,
        20 + i, company,
    )  # fmt: skip


@pytest.fixture(scope="session")
def film_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "movies.db"
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE omdb (ID, imdbID, Title, Year, Runtime, Genre, Director, Writer, "
        '"Cast", Language, Country, Oscars)'
    )
    connection.execute("CREATE TABLE tomatoes (ID, Reviews, Production)")
    for *film, reviews, company in map(_film, range(300)):
        connection.execute(f"INSERT INTO omdb VALUES ({', '.join('?' * 12)})", film)
        connection.execute("INSERT INTO tomatoes VALUES (?, ?, ?)", (film[0], reviews, company))
    # The same imdbID once more: the first row counts. A film without a cast is read, but never recommended.
    connection.execute("INSERT INTO omdb (ID, imdbID, Title, Year) VALUES (900, 'tt0000007', 'Another Title', 1999)")
    connection.execute("INSERT INTO omdb (ID, imdbID, Title, Year) VALUES (901, 'tt0000901', 'Bare', NULL)")
    connection.commit()
    connection.close()
    return path
