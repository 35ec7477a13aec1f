"""Spellings of names: the canonical name of a URI, and the variants in which people write a title or a name.

All functions work on single strings. The linker and the aliases of a graph both use `normalise`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from urllib.parse import unquote

_WORD = re.compile(r"[^\W_]+|&")
_YEAR = re.compile(r"\s*\(\s*(\d{4})[^()]*\)\s*$")
_BRACKETS = re.compile(r"\s*\([^()]*\)\s*$")
_ARTICLE = re.compile(r"(?:the|a|an) ")
_ROMAN = {"ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6", "vii": "7", "viii": "8", "ix": "9"}
_ARABIC = {arabic: roman for roman, arabic in _ROMAN.items()}
_JOINERS = re.compile(r"(?<=\w)['’‘`´.\-‐–·](?=\w)")

_GENRES = {
    "action": (), "adventure": (), "animation": ("animated", "animations"),
    "animated": ("animation", "animations"), "anime": (), "biographical": ("biopic", "biopics", "biography"),
    "biography": ("biopic", "biopics", "biographical"), "black comedy": ("dark comedy", "black comedies"),
    "dark comedy": ("dark comedies",), "comedy": ("comedies",), "comedy drama": ("dramedy",),
    "crime": (), "documentary": ("documentaries",), "drama": ("dramas", "dramatic"), "family": (),
    "fantasy": (), "film noir": ("noir",), "history": ("historical",),
    "horror": ("scary",),
    "music": (), "musical": ("musicals",), "mystery": ("mysteries",), "parody": ("parodies", "spoof", "spoofs"),
    "psychological thriller": ("psychological thrillers",), "romance": ("romantic", "love story", "love stories"),
    "romantic comedy": ("romantic comedies", "rom com", "romcom", "rom coms", "romcoms"),
    "sci fi": ("scifi", "science fiction"), "science fiction": ("sci fi", "scifi"), "slapstick": (),
    "slasher": ("slashers",), "sport": ("sports",), "superhero": ("superheroes", "super hero", "super heroes"),
    "spy": (), "supernatural horror": (), "suspense": (), "teen": (), "thriller": ("thrillers",), "war": (),
    "western": ("westerns",), "zombie": ("zombies",),
}  # fmt: skip
_GENRE_URI = re.compile(r"[ _-]*(?:\((?:genre|fiction|film)\)|films?|fiction)$")
# The entity of these genres is the one with the bare name; of the others it is "..._film", where there is one.
_BARE = frozenset(("comedy", "drama", "fantasy", "science fiction", "sci fi", "animation", "crime"))
# These words rarely mean a genre unless "film" or "movie" follows.
_NOT_ALONE = frozenset(("scary", "family", "history", "music", "war", "spy", "teen", "sport", "sports", "crime",
                        "dramatic", "historical", "biography"))  # fmt: skip
_NOUNS = ("movie", "movies", "film", "films", "flick", "flicks")


GENRE_WORDS: frozenset[str] = frozenset(
    form for base, others in _GENRES.items() for form in (base, *others) if form not in _NOT_ALONE
)
"""Words that name a genre, whether or not a graph knows it."""


def fold(token: str) -> str:
    """A word without case and accents: "Amélie" -> "amelie"."""
    if token.isascii():
        return token.lower()
    decomposed = unicodedata.normalize("NFKD", token.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def words(text: str) -> list[tuple[str, int, int]]:
    """The folded words of a text with their spans, without punctuation and spaces."""
    return [
        ("and" if match[0] == "&" else fold(match[0]), match.start(), match.end()) for match in _WORD.finditer(text)
    ]


def normalise(text: str) -> str:
    """The folded words of a text, joined by single spaces."""
    return " ".join(word for word, _, _ in words(text))


@lru_cache(maxsize=1 << 16)
def canonical_name(uri: str) -> str:
    """The canonical name of a URI: its last part with spaces for underscores, without disambiguation in brackets.

    "<http://dbpedia.org/resource/Heat_(1995_film)>" -> "Heat"; "person:Al Pacino" -> "Al Pacino".
    """
    text = uri.strip("<>")
    if "/resource/" in text:
        text = unquote(text.split("/resource/", 1)[1])
    elif "://" in text:
        text = unquote(text.rsplit("/", 1)[1])
    elif re.match(r"[a-z]+:\S", text):
        text = text.split(":", 1)[1]
    text = " ".join(text.replace("_", " ").split())
    return _BRACKETS.sub("", text) or text


def split_year(title: str) -> tuple[str, int]:
    """ "Heat  (1995)" -> ("Heat", 1995); the year is 0 where there is none."""
    match = _YEAR.search(title)
    bare = _YEAR.sub("", title) if match else title
    return " ".join((bare or title).split()), int(match[1]) if match and bare else 0


def _spellings(text: str) -> set[str]:
    """Normalised forms, with words at hyphens, dots and apostrophes split and joined ("spider man", "spiderman")."""
    return {form for form in (normalise(text), normalise(_JOINERS.sub("", text))) if form}


def title_forms(title: str) -> set[str]:
    """Normalised spellings of a film's title: with or without article, Roman or Arabic numerals, without "Part"."""
    forms = _spellings(title)
    # "Godfather, The" is how some tables write it.
    match = re.fullmatch(r"(.+), (The|A|An)", title)
    if match:
        forms |= _spellings(f"{match[2]} {match[1]}")
    for form in tuple(forms):
        tokens = form.split()
        if len(tokens) > 1:
            swapped = [tokens[0], *(_ROMAN.get(t, _ARABIC.get(t, t)) for t in tokens[1:])]
            forms.add(" ".join(swapped))
            for variant in (tokens, swapped):
                for place in range(1, len(variant) - 1):
                    if variant[place] in ("part", "episode", "volume", "vol", "chapter"):
                        forms.add(" ".join(variant[:place] + variant[place + 1 :]))
    for form in tuple(forms):
        bare = _ARTICLE.sub("", form, count=1) if _ARTICLE.match(form) else form
        if len(bare) > 3:
            forms.add(bare)
    return forms


def alias_forms(name: str, kind: str) -> set[str]:
    """Normalised spellings of a name that is not a film's; of people also without middle initials and "Jr."."""
    forms = _spellings(name)
    if kind == "language":
        forms |= {form.removesuffix(" language") for form in forms}
    if kind == "person":
        tokens = normalise(name).split()
        if tokens and tokens[-1] in ("jr", "sr"):
            tokens = tokens[:-1]
            forms.add(" ".join(tokens))
        initials = "".join(t for t in tokens[:-1] if len(t) == 1)
        if len(initials) > 1 and tokens[0] == initials[0]:
            forms.add(f"{initials} {tokens[-1]}")
        bare = [t for place, t in enumerate(tokens) if len(t) > 1 or place in (0, len(tokens) - 1)]
        if len(bare) > 1:
            forms.add(" ".join(bare))
        if "de" in tokens[1:-1]:
            forms.add(" ".join(tokens).replace(" de ", " de"))
    return forms


def genre_rank(uri: str) -> int:
    """The rank of an entity among those of one genre: 0 for the one that the genre's name means first.

    DBpedia has "Horror_film", "Horror_fiction" and "Horror_films". The bare entity comes first for general genres
    ("Comedy"), the film genre for all others.
    """
    base, suffix = _genre_base(uri)
    if not suffix:
        return 0 if base in _BARE else 1
    return int(base in _BARE) if suffix == "_film" else 2


def _genre_base(uri: str) -> tuple[str, str]:
    """ "Horror_film" -> ("horror", "_film"); "Science_fiction" -> ("science fiction", "")."""
    tail = uri.removeprefix("genre:") if uri.startswith("genre:") else unquote(uri.strip("<>").rsplit("/", 1)[-1])
    whole = normalise(tail.replace("_", " "))
    match = None if whole in _GENRES else _GENRE_URI.search(tail)
    return (normalise(tail[: match.start()].replace("_", " ")), match[0]) if match else (whole, "")


def genre_name(uri: str) -> str:
    """A genre that is known here, as one says it: "Horror_film" -> "horror", "genre:Sci-Fi" -> "sci-fi"; else ""."""
    return _GENRE_URI.sub("", canonical_name(uri)).lower() if genre_forms(uri) else ""


def genre_forms(uri: str) -> set[str]:
    """Normalised names of a genre, if it is one of those known here; empty for every other URI."""
    base, _ = _genre_base(uri)
    if base not in _GENRES:
        return {base} if base and uri.startswith("genre:") else set()
    named = (base, *_GENRES[base])
    forms = {form for form in named if form not in _NOT_ALONE}
    return forms | {f"{form} {noun}" for form in named for noun in _NOUNS}
