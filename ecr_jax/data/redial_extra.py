"""Reader for what is public of the other ReDial training dialogues: rated films, and for some of them text.

A folder holds `items.jsonl`, a line of which is the films of one dialogue that its seeker rated, in the order they came
up, and may hold `text.jsonl`, the text of some of these dialogues in one or more variants:

    {"conversationId": "17", "movies": [{"movieId": "204292", "title": "Star Wars", "liked": 1}]}
    {"conversationId": "17", "variants": {"ctsr": "S:: I loved Star Wars R:: So did I. S:: What else? "}}

Other keys are ignored. `movieId` may be null, where only the title is known.

**Who speaks.** In variants with role marks ("S::", "R::"), turns have these roles. Nobody knows who says what in the
other variants, or who named a film that is in no text: these turns have `Role.UNKNOWN`. A text without roles is one
turn for each film that it names, up to and including that film, and one for the rest; a film without a text is a turn
with an empty text. The rated films that the text does not name follow it, in their order.

**Which text.** Of the variants of a dialogue: one with roles before one without, because only these say what the
recommender replies and recommends; then a whole dialogue before one that ends early; then one that marks films
("@204292", or genres in brackets behind a title) before one that has titles alone; then the one with the most words.

**Films in a text.** "@id" is a film where the film table knows the id. A title is looked for as it is written in
`items.jsonl`, and only the titles of the films that the dialogue rates; where genres mark films, only in front of them.
In other variants a title of one word is a film where it does not begin a sentence ("I saw It", not "It was fun"), or
where it occurs once. Titles are written out with their year, as in ReDial.
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ecr_jax.data import parsing
from ecr_jax.data.parsing import ParsedFile, join_pieces, plain_text, require_field, require_type, short_repr
from ecr_jax.data.redial import FEEDBACK_CODES, Movie
from ecr_jax.data.schema import Conversation, Feedback, FieldError, Mention, Role, Split, Turn, is_blank, merge_messages


class Variant(NamedTuple):
    """How a variant of `text.jsonl` is written.

    Attributes:
      roles: whether every message begins with "S::" (seeker) or "R::" (recommender).
      whole: whether it holds the whole dialogue; the others end at or before the last rated film.
      films: films are written "@id", as titles with "(genres)" behind them, or as titles alone.
    """

    roles: bool
    whole: bool
    films: Literal["ids", "genres", "titles"]


VARIANTS: Mapping[str, Variant] = {
    "reco_all": Variant(roles=True, whole=True, films="titles"),
    "ctsrg": Variant(roles=True, whole=False, films="genres"),
    "old": Variant(roles=True, whole=False, films="genres"),
    "ctsr": Variant(roles=True, whole=False, films="titles"),
    "next": Variant(roles=True, whole=False, films="titles"),
    "recor": Variant(roles=True, whole=False, films="titles"),
    "senti": Variant(roles=False, whole=True, films="ids"),
    "chrono": Variant(roles=False, whole=False, films="ids"),
    "chronoval": Variant(roles=False, whole=False, films="ids"),
    "small": Variant(roles=False, whole=False, films="ids"),
    "ct": Variant(roles=False, whole=False, films="titles"),
}
"""The variants by name."""

_ROLES = {"S": Role.SEEKER, "R": Role.RECOMMENDER}
_ROLE_MARK = re.compile(r"(?:^|\s)([SR])::(?=\s|$)")
_FILM_ID = re.compile(r"@([0-9]+)")
_GENRE = (
    "action|adventure|animation|children|comedy|crime|documentary|drama|fantasy|film-noir|horror|imax|musical|mystery|"
    "romance|sci-fi|thriller|war|western"
)
_GENRES = rf" ?\((?:(?:{_GENRE})(?: (?:{_GENRE}))*)?\)"


@dataclass(frozen=True)
class RatedFilm:
    """A film that a seeker rated: `movie` is its `movieId`, None where unknown, and `title` as the file gives it."""

    movie: str | None
    title: str
    feedback: Feedback


@dataclass(frozen=True)
class _Ratings:
    """A line of `items.jsonl`."""

    id: str
    films: tuple[RatedFilm, ...]


@dataclass(frozen=True)
class _Text:
    """A line of `text.jsonl`: the name of the chosen variant, and its messages as (role, text as written)."""

    id: str
    variant: str
    messages: tuple[tuple[Role, str], ...]


def read(folder: Path, movies: Mapping[str, Movie], splits: Mapping[str, Split]) -> ParsedFile:
    """Reads a folder as conversations of the train split.

    Args:
      folder: holds `items.jsonl`, and `text.jsonl` where there is text.
      movies: the film table, for names and URIs.
      splits: id -> split of the conversations that the corpus has without these.

    Returns:
      A `ParsedFile`. Its `counts` are, of the files, `dialogues`, `films` (rated), `films_with_id`, `liked`, `disliked`
      and `texts`; `in_train`, dialogues that the train split has already, and `empty`, which have neither a film nor a
      text: both are left out; of the others `conversations`, `with_roles`, `whole`, `variant_NAME`, `films_in_text`
      (rated films that a text names), `films_without_text` and `nameless_films` (without id and title: left out).
      A dialogue of the validation or test split is among `bad`: learning from it would be leakage.

    Raises:
      ValueError: the folder has no `items.jsonl`.
    """
    items, text = folder / "items.jsonl", folder / "text.jsonl"
    if not items.is_file():
        raise ValueError(f"{items} does not exist; corpus.extra names a folder that data/README.md describes")
    ratings, bad = parsing.read_jsonl(items, lambda value, _: _parse_ratings(value, splits))
    texts: list[_Text] = []
    if text.is_file():
        texts, bad_texts = parsing.read_jsonl(text, lambda value, _: _parse_text(value, splits))
        bad += bad_texts
    rated = [film for line in ratings for film in line.films]
    counts = Counter(
        dialogues=len(ratings),
        films=len(rated),
        films_with_id=sum(film.movie is not None for film in rated),
        liked=sum(film.feedback == Feedback.LIKE for film in rated),
        disliked=sum(film.feedback == Feedback.DISLIKE for film in rated),
        texts=len(texts),
        **dict.fromkeys(("in_train", "empty", "conversations", "with_roles", "whole", "nameless_films"), 0),
        **dict.fromkeys(("films_in_text", "films_without_text"), 0),
    )
    films_of, text_of = {line.id: line.films for line in ratings}, {line.id: line for line in texts}
    conversations = []
    for identifier in dict.fromkeys([*films_of, *text_of]):
        films, of_text = films_of.get(identifier, ()), text_of.get(identifier)
        if identifier in splits:
            counts["in_train"] += 1
        elif turns := _turns(films, of_text, movies, counts):
            conversations.append(Conversation(identifier, Split.TRAIN, turns))
            counts["conversations"] += 1
        else:
            counts["empty"] += 1
    return ParsedFile(conversations, bad, dict(counts))


def choose(variants: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """The (name, text) that is used of the variants of a dialogue; the module's documentation says which.

    Of equal ones it is the first in `VARIANTS`.
    """
    order = {name: number for number, name in enumerate(VARIANTS)}

    def rank(named: tuple[str, str]) -> tuple[bool, bool, bool, int, int]:
        name, text = named
        variant = VARIANTS[name]
        return variant.roles, variant.whole, variant.films != "titles", len(text.split()), -order[name]

    return max(variants, key=rank)


def _identifier(record: dict[str, Any], splits: Mapping[str, Split]) -> str:
    identifier = str(require_field(record, "conversationId", (str, int)))
    if is_blank(identifier):
        raise FieldError("conversationId is empty")
    if splits.get(identifier, Split.TRAIN) != Split.TRAIN:
        raise FieldError(
            f"conversation {identifier!r} is in the split {splits[identifier].value!r}; take it out, because training "
            "on it would be leakage"
        )
    return identifier


def _parse_ratings(record: Any, splits: Mapping[str, Split]) -> _Ratings:
    record = require_type(record, dict, "the line")
    identifier = _identifier(record, splits)
    films = []
    for number, film in enumerate(require_field(record, "movies", list)):
        where = f"movies[{number}]"
        film = require_type(film, dict, where)
        movie = None if film.get("movieId") is None else str(require_field(film, "movieId", (str, int), where))
        liked = require_field(film, "liked", int, where)
        if liked not in (0, 1):
            raise FieldError(f"{where}.liked is {liked}; expected 0 (disliked) or 1 (liked)")
        title = _repaired(require_field(film, "title", str, where))
        films.append(RatedFilm(movie, title, FEEDBACK_CODES[liked]))
    return _Ratings(identifier, tuple(films))


def _repaired(title: str) -> str:
    """The title, if its UTF-8 was read as Latin-1 ("AmÃ©lie"); else as it is."""
    try:
        return title.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return title


def _parse_text(record: Any, splits: Mapping[str, Split]) -> _Text:
    record = require_type(record, dict, "the line")
    identifier = _identifier(record, splits)
    variants = require_field(record, "variants", dict)
    for name, text in variants.items():
        if name not in VARIANTS:
            raise FieldError(f"variants has the unknown key {short_repr(name)}; known are {', '.join(VARIANTS)}")
        require_type(text, str, f"variants.{name}")
    if all(map(is_blank, variants.values())):
        raise FieldError("variants hold no words")
    name, text = choose((name, text) for name, text in variants.items() if not is_blank(text))
    return _Text(identifier, name, tuple(_messages(name, text)))


def _messages(name: str, text: str) -> Iterator[tuple[Role, str]]:
    if not VARIANTS[name].roles:
        yield Role.UNKNOWN, text
        return
    before, *marked = _ROLE_MARK.split(text)
    if before.strip() or not marked:
        raise FieldError(f"variants.{name} begins with {short_repr(text[:20])}; expected 'S::' or 'R::'")
    for mark, message in zip(marked[::2], marked[1::2], strict=True):
        yield _ROLES[mark], message


def _turns(
    films: Sequence[RatedFilm], text: _Text | None, movies: Mapping[str, Movie], counts: Counter[str]
) -> tuple[Turn, ...]:
    """The turns of a dialogue; adds to `counts`."""
    named = [film for film in films if _name(film, movies)]
    counts["nameless_films"] += len(films) - len(named)
    turns: tuple[Turn, ...] = ()
    if text is not None:
        variant, named = VARIANTS[text.variant], _with_ids_of_text(named, text, movies)
        counts.update({"with_roles": variant.roles, "whole": variant.whole, f"variant_{text.variant}": 1})
        messages = [
            Turn(role, *join_pieces(pieces))
            for role, message in text.messages
            for pieces in _parts(role, _pieces(html.unescape(message), variant, named, text.messages, movies))
        ]
        turns = merge_messages(messages)
    in_text = {mention.name for turn in turns for mention in turn.mentions}
    rest = [film for film in named if _name(film, movies) not in in_text]
    counts["films_in_text"] += len(named) - len(rest)
    counts["films_without_text"] += len(rest)
    without_text = (Mention(0, 0, _name(film, movies), **_fields(film, movies)) for film in rest)
    return (*turns, *(Turn(Role.UNKNOWN, "", (mention,)) for mention in without_text))


def _with_ids_of_text(films: Sequence[RatedFilm], text: _Text, movies: Mapping[str, Movie]) -> list[RatedFilm]:
    """The films; one without an id has that of a film in the text with its title, if the text names one by "@id"."""
    rated = {film.movie for film in films}
    ids = [movie for _, message in text.messages for movie in _FILM_ID.findall(message)]
    id_of = {
        re.sub(r" \([0-9]{4}\)$", "", movies[movie].name): movie
        for movie in reversed(ids)
        if movie in movies and movie not in rated
    }
    return [
        film if film.movie is not None else dataclasses.replace(film, movie=id_of.get(film.title)) for film in films
    ]


_Piece = str | tuple[str, dict[str, Any]]
"""A part of a text, or a film as `join_pieces` takes it."""


def _parts(role: Role, pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """The pieces of one message, or of a text without roles, cut behind every film."""
    part: list[_Piece] = []
    for piece in pieces:
        part.append(piece)
        if role == Role.UNKNOWN and not isinstance(piece, str):
            yield part
            part = []
    if part:
        yield part


def _pieces(
    text: str,
    variant: Variant,
    films: Sequence[RatedFilm],
    messages: Sequence[tuple[Role, str]],
    movies: Mapping[str, Movie],
) -> Iterator[_Piece]:
    """A message as running text and films. `messages`: all of the dialogue, to see which titles occur once."""
    if variant.films == "ids":
        rated = {film.movie: film for film in films}
        for number, piece in enumerate(_FILM_ID.split(text)):
            if number % 2 == 0:
                yield piece
            elif piece in movies:
                film = rated.get(piece, RatedFilm(piece, "", Feedback.UNSAID))
                yield movies[piece].name, _fields(film, movies)
            else:
                yield f"@{piece}"
        return
    written = {_written(film): film for film in sorted(films, key=lambda film: film.movie is not None)}
    titles = [re.escape(title) for title in sorted(written, key=len, reverse=True) if title]
    end = 0
    if titles:
        behind = _GENRES if variant.films == "genres" else ""
        for match in re.finditer(rf"(?<!\w)({'|'.join(titles)})(?!\w){behind}", text):
            if not behind and not _is_title(text, match, messages):
                continue
            yield _without_genres(text[end : match.start()], variant)
            film = written[match[1]]
            yield _name(film, movies), _fields(film, movies)
            end = match.end()
    yield _without_genres(text[end:], variant)


def _is_title(text: str, match: re.Match[str], messages: Sequence[tuple[Role, str]]) -> bool:
    """Whether the words of a title are meant as one: those of a single word may be any word."""
    title = match[1]
    if " " in title:
        return True
    begins_sentence = re.search(r"(?:^|[.!?])[\s\"']*$", text[: match.start()]) is not None
    occurrences = sum(len(re.findall(rf"(?<!\w){re.escape(title)}(?!\w)", html.unescape(m))) for _, m in messages)
    return occurrences == 1 or not begins_sentence


def _without_genres(text: str, variant: Variant) -> str:
    return re.sub(_GENRES, "", text) if variant.films == "genres" else text


def _written(film: RatedFilm) -> str:
    """The title as texts write it."""
    return html.unescape(film.title).strip()


def _name(film: RatedFilm, movies: Mapping[str, Movie]) -> str:
    """ "Title (Year)" of the film table where it has the film; else the title, which may be empty."""
    return movies[film.movie].name if film.movie in movies else plain_text(film.title)


def _fields(film: RatedFilm, movies: Mapping[str, Movie]) -> dict[str, Any]:
    """The fields of a film's `Mention` except name and span."""
    entity = movies[film.movie].uri if film.movie in movies else None
    return {"film": True, "entity": entity, "feedback": film.feedback}
