"""Dumps of film reviews, as people have them (JSON lines, CSV), made into the reviews that a corpus is prepared with.

`read` reads the files, `select` filters and links their reviews as ECR does (F.3, F.4 of its appendix), film by film,
and counts what each step leaves out.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ecr_jax.data.parsing import decode_line, numbered_lines, parse_json, plain_text, rejected_line, short_repr
from ecr_jax.data.schema import BadLine, CorpusError, FieldError, Split
from ecr_jax.errors import require, require_at_least
from ecr_jax.files import sha256, write_json, write_jsonl
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.knowledge.naming import normalise, split_year, title_forms
from ecr_jax.knowledge.reviews import (
    MAX_WORDS,
    MIN_WORDS,
    Review,
    ReviewStore,
    clean_review,
    is_repetitive,
    row_of,
    split_of_film,
    what_is_told,
)

COLUMNS: Mapping[str, str] = {
    "film": "movie",
    "year": "year",
    "text": "review",
    "rating": "rating",
    "votes": "votes",
}
"""What is read of a review, and the name of its column by default."""

_FIRST_PERSON = re.compile(r"\b(?:i|me|my|mine)\b", re.IGNORECASE)
_MOST_CHARACTERS = 1_000_000
"""Of a field of a CSV file."""


@dataclass(frozen=True)
class DumpedReview:
    """A review as it stands in a dump.

    Attributes:
      film: what the dump calls the film: a URI of the graph, an IMDb id, or a title, with its year or without.
      year: of the film, 0 where the dump does not say.
      text: the review.
      rating: None where it has none.
      votes: how many people found it helpful; None where the dump does not say.
    """

    film: str
    year: int
    text: str
    rating: float | None
    votes: int | None


@dataclass(frozen=True)
class ReviewRules:
    """Which reviews are kept, with the values of ECR's released code for DialoGPT.

    For Llama it keeps reviews with at least 5 votes, 120 to 300 words, and 4 words of the first person.

    Attributes:
      min_rating: lowest rating.
      min_votes: fewest people who found it helpful.
      min_words: fewest words of the sentences that do not speak of reviews or of the rating 10.
      max_words: a longer text is cut to whole sentences of its beginning and end.
      min_first_person: fewest words among I, me, my, mine: a review that tells of its writer is one with feeling.
      valid_every: the reviews of one film in this many are for validation.
    """

    min_rating: float = 10
    min_votes: int = 1
    min_words: int = MIN_WORDS
    max_words: int = MAX_WORDS
    min_first_person: int = 0
    valid_every: int = 20

    def __post_init__(self) -> None:
        require_at_least(self, 1, "min_words", "valid_every")
        require_at_least(self, 0, "min_votes", "min_first_person")
        require(self, "max_words", self.max_words >= self.min_words, "give at least min_words")


@dataclass(frozen=True)
class Selection:
    """The reviews that are kept, and what each step left out, in the order of the steps."""

    store: ReviewStore
    left_out: Mapping[str, int]

    @property
    def counts(self) -> dict[str, int]:
        """What each step left out, and the reviews and films of both splits."""
        counts = {f"left out: {step}": number for step, number in self.left_out.items()}
        for split in (Split.TRAIN, Split.VALID):
            reviews = self.store.of_split(split)
            counts[f"{split.value} reviews"] = len(reviews)
            counts[f"{split.value} films"] = len({review.film for review in reviews})
        return counts


# ------------------------------------------------------------------------------------------------------------ reading


def read(path: Path, columns: Mapping[str, str]) -> tuple[list[DumpedReview], list[BadLine]]:
    """Reads a dump.

    Args:
      path: a CSV file with a header where its name ends in .csv, else JSON lines.
      columns: what is read (the keys of `COLUMNS`) -> the name of its column or field; "" where the dump does not have
        it, which only `year`, `rating` and `votes` may be. A column `year` may be missing.

    Returns:
      The reviews, and the malformed lines; a record of several lines has the number of its last.

    Raises:
      ValueError: the header of a CSV file lacks a column.
    """
    reviews, bad = [], []
    for number, line, parse in _records(path, columns):
        try:
            reviews.append(_review(parse(), columns))
        except ValueError as error:
            bad.append(rejected_line(path, number, line, error))
    return reviews, bad


def _records(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[int, bytes, Any]]:
    """(line number, line, function that parses it) of each record."""
    if path.suffix.lower() != ".csv":
        for number, line in numbered_lines(path):
            yield number, line, lambda line=line: parse_json(line)
        return
    yield from _csv_records(path, columns)


def _csv_records(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[int, bytes, Any]]:
    csv.field_size_limit(_MOST_CHARACTERS)
    with path.open("rb") as file:
        decoded = (line.decode("utf-8-sig" if number == 0 else "utf-8", "surrogateescape")
                   for number, line in enumerate(file))  # fmt: skip
        rows = csv.reader(decoded, strict=True)
        try:
            header = [name.strip() for name in next(rows, [])]
        except csv.Error as error:
            raise ValueError(f"{path}:1 is no header of a CSV file: {error}") from error
        needed = [name for what, name in columns.items() if name and what != "year"]
        if missing := [name for name in needed if name not in header]:
            raise ValueError(
                f"{path}:1 has no column {missing[0]!r}, but {', '.join(header) or 'nothing'}; name the columns with "
                "--columns, as in --columns film=title text=content votes="
            )
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield rows.line_num, b"", _raising(FieldError(f"not CSV: {error}"))
                continue
            if row is None:
                return
            if not row:
                continue
            line = ",".join(row).encode("utf-8", "surrogateescape")
            yield rows.line_num, line, lambda row=row, line=line: _named(header, row, line)


def _raising(error: FieldError) -> Any:
    def parse() -> Any:
        raise error

    return parse


def _named(header: Sequence[str], row: Sequence[str], line: bytes) -> dict[str, str]:
    decode_line(line)
    if len(row) != len(header):
        raise FieldError(f"the record has {len(row)} fields, and the header {len(header)}")
    return dict(zip(header, row, strict=True))


def _review(row: Any, columns: Mapping[str, str]) -> DumpedReview:
    """A record as a review. Raises FieldError."""
    if not isinstance(row, Mapping):
        raise FieldError(f"the record is {short_repr(row)}; expected an object")
    values: dict[str, Any] = {}
    for what, name in columns.items():
        if name and name not in row and what != "year":
            raise FieldError(f"the field {name!r} is missing")
        values[what] = row.get(name) if name else None
    for what in ("film", "text"):
        if not isinstance(values[what], str) or not values[what].strip():
            raise FieldError(f"{columns[what]} is {short_repr(values[what])}; expected a text")
    rating, votes, year = (_number(values[what], columns[what]) for what in ("rating", "votes", "year"))
    if votes is not None and (votes < 0 or votes != int(votes)):
        raise FieldError(f"{columns['votes']} is {short_repr(values['votes'])}; expected a whole number of 0 or more")
    counted = None if not columns["votes"] else int(votes or 0)
    return DumpedReview(plain_text(values["film"]), int(year or 0), plain_text(values["text"]), rating, counted)


def _number(value: Any, name: str) -> float | None:
    """A number, also one written as text; None where there is none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
    except (TypeError, ValueError):
        raise FieldError(f"{name} is {short_repr(value)}; expected a number") from None
    if number != number or abs(number) > 1e9:
        raise FieldError(f"{name} is {short_repr(value)}; expected a number")
    return number


# ---------------------------------------------------------------------------------------------------------- selection


def select(
    reviews: Iterable[DumpedReview],
    columns: Mapping[str, str],
    graph: KnowledgeGraph,
    linker: EntityLinker,
    trained: Collection[int],
    rules: ReviewRules,
) -> Selection:
    """Filters reviews, links what they name, and splits them by film.

    A film of which the train split says nothing has no review in either split, and a text counts once, so that an
    unseen film is one that no review in training is about.

    Args:
      reviews: of dumps.
      columns: as of `read`; without a rating or votes, these are not filtered.
      graph: of the corpus.
      linker: of the graph.
      trained: entity ids that the train split mentions.
      rules: which are kept.
    """
    left_out = dict.fromkeys(
        (
            "no film of the graph",
            "a title of several films",
            "film not in the train split",
            f"rating below {rules.min_rating:g}",
            f"fewer than {rules.min_votes} votes",
            "repetitive",
            f"fewer than {rules.min_words} words",
            f"fewer than {rules.min_first_person} words of the first person",
            "a text that came before",
        ),
        0,
    )
    steps = list(left_out)
    films = _Films(graph)
    kept: list[Review] = []
    texts: set[str] = set()
    for review in reviews:
        found = films.find(review.film, review.year)
        text = clean_review(review.text, 1, rules.min_words, rules.max_words)
        faults = (
            not found,
            len(found) > 1,
            bool(found) and found[0] not in trained,
            bool(columns["rating"]) and (review.rating is None or review.rating < rules.min_rating),
            review.votes is not None and review.votes < rules.min_votes,
            is_repetitive(review.text),
            text is None,
            len(_FIRST_PERSON.findall(text or "")) < rules.min_first_person,
            text in texts,
        )
        if any(faults) or text is None:
            left_out[steps[faults.index(True)]] += 1
            continue
        texts.add(text)
        uri = graph.uris[found[0]]
        named = [(link.start, graph.uris[link.entity]) for link in linker.link(text, found)]
        told = what_is_told(uri, text, named, graph)
        kept.append(Review(uri, graph.title(found[0]), text, *told, split_of_film(uri, rules.valid_every)))
    return Selection(ReviewStore(kept), left_out)


class _Films:
    """Finds the items of a graph by what a dump calls them."""

    def __init__(self, graph: KnowledgeGraph):
        self._graph = graph
        self._items = frozenset(graph.items.tolist())
        self._named: dict[str, dict[int, None]] = {}
        for alias in graph.aliases:
            if alias.entity in self._items:
                self._named.setdefault(alias.text, {})[alias.entity] = None

    def find(self, name: str, year: int) -> tuple[int, ...]:
        """The item of a URI, an IMDb id or a title; several where the title does not tell them apart.

        The year, in the name or apart, must be that of the film or one beside it, as sources differ.
        """
        for uri in (name, f"imdb:{name}"):
            if self._graph.ids.get(uri) in self._items:
                return (self._graph.ids[uri],)
        title, own_year = split_year(name)
        year = own_year or year
        for form in (normalise(title), *sorted(title_forms(title))):
            named = list(self._named.get(form, ()))
            for years in ((year,), (year - 1, year + 1)):
                films = [film for film in named if not year or self._graph.years[film] in years]
                exactly = [film for film in films if normalise(self._graph.names[film]) == form]
                if films:
                    return tuple(exactly or films)
        return ()


# ------------------------------------------------------------------------------------------------------------ command


def import_dumps(
    dumps: Sequence[Path],
    into: Path,
    columns: Mapping[str, str],
    graph: KnowledgeGraph,
    linker: EntityLinker,
    trained: Collection[int],
    rules: ReviewRules,
    *,
    skip_bad: bool,
    console: Console,
) -> Selection:
    """Writes `into/reviews.jsonl`, for `corpus.reviews`, `rejected.jsonl`, and `manifest.json` last.

    Args:
      dumps: files, see `read`.
      into: the folder.
      columns, graph, linker, trained, rules: see `select`.
      skip_bad: leave malformed lines out; they are written to `rejected.jsonl`.
      console: where the counts are printed.

    Raises:
      CorpusError: lists all malformed lines (unless `skip_bad`).
      ValueError: a CSV file lacks a column, or no review is left.
      OSError: a file cannot be read.
    """
    reviews, bad = [], []
    for path in dumps:
        read_here, bad_here = read(path, columns)
        reviews += read_here
        bad += bad_here
    if bad and not skip_bad:
        raise CorpusError(bad)
    selection = select(track(reviews, "link", console=console, transient=True), columns, graph, linker, trained, rules)
    counts = {"malformed lines": len(bad), "reviews": len(reviews), **selection.counts}
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    for name, number in counts.items():
        table.add_row(name, str(number))
    console.print(table)
    if not len(selection.store):
        raise ValueError("no review is left; the table says why")
    write_jsonl(into / "rejected.jsonl", [dataclasses.asdict(line) for line in bad])
    write_jsonl(into / "reviews.jsonl", map(row_of, selection.store.reviews))
    source = {"inputs": {str(path): sha256(path) for path in dumps}, "columns": dict(columns)}
    write_json(into / "manifest.json", {**source, "rules": dataclasses.asdict(rules), "counts": counts})
    console.print(f"{len(selection.store)} reviews: {into / 'reviews.jsonl'}; name it in corpus.reviews")
    return selection
