"""Noun phrases: genres, eras, and what a seeker has a taste for.

A phrase is a small grammar: `(a|b|)` chooses one of its branches (they nest), and `<slot>` is filled with a film, a
person, a genre and so on.
"""

from __future__ import annotations

from typing import NamedTuple

Bank = tuple[str, ...]


class GenreForms(NamedTuple):
    """How a genre is spoken of; bars mark the words that are its mention.

    Attributes:
      one: one film of it, with an article.
      many: films of it, in the plural.
      kind: the genre itself, as in "a mix of comedy and crime".
    """

    one: Bank
    many: Bank
    kind: str


GENRES: dict[str, GenreForms] = {
    "Action": GenreForms(("an |action| (movie|film)", "an |action| flick"), ("|action| (movies|films)",), "action"),
    "Adventure": GenreForms(("an |adventure| (movie|film)",), ("|adventure| (movies|films)",), "adventure"),
    "Animation": GenreForms(("an |animated| (movie|film)",), ("|animated| (movies|films)",), "animation"),
    "Biography": GenreForms(("a |biopic|",), ("|biopics|",), "biography"),
    "Comedy": GenreForms(("a |comedy|",), ("|comedies|",), "comedy"),
    "Crime": GenreForms(("a |crime| (movie|film)", "a |crime| story"), ("|crime| (movies|films)",), "crime"),
    "Documentary": GenreForms(("a |documentary|",), ("|documentaries|",), "documentary"),
    "Drama": GenreForms(("a |drama|",), ("|dramas|",), "drama"),
    "Family": GenreForms(("a |family| (movie|film)",), ("|family| (movies|films)",), "family film"),
    "Fantasy": GenreForms(("a |fantasy| (movie|film)",), ("|fantasy| (movies|films)",), "fantasy"),
    "History": GenreForms(("a |historical| (movie|film)",), ("|historical| (movies|films)",), "history"),
    "Horror": GenreForms(("a |horror| (movie|film)", "a |horror| flick"), ("|horror| (movies|films)",), "horror"),
    "Music": GenreForms(("a |music| (movie|film)",), ("|music| (movies|films)",), "music"),
    "Musical": GenreForms(("a |musical|",), ("|musicals|",), "musical"),
    "Mystery": GenreForms(("a |mystery|",), ("|mysteries|", "|mystery| (movies|films)"), "mystery"),
    "Romance": GenreForms(
        ("a |romance|", "a |romantic| (movie|film)"), ("|romantic| (movies|films)", "|romances|"), "romance"
    ),
    "Sci-Fi": GenreForms(
        ("a |sci-fi| (movie|film)", "a |science fiction| film"), ("|sci-fi| (movies|films)",), "sci-fi"
    ),
    "Sport": GenreForms(("a |sports| (movie|film)",), ("|sports| (movies|films)",), "sport"),
    "Thriller": GenreForms(("a |thriller|",), ("|thrillers|",), "thriller"),
    "War": GenreForms(("a |war| (movie|film)",), ("|war| (movies|films)",), "war"),
    "Western": GenreForms(("a |western|",), ("|westerns|",), "western"),
}

ERAS: dict[int, tuple[Bank, Bank]] = {
    # (the decade, as an adjective)
    1940: (("the forties", "the 40s", "the 1940s"), ("40s", "1940s", "forties")),
    1950: (("the fifties", "the 50s", "the 1950s"), ("50s", "1950s", "fifties")),
    1960: (("the sixties", "the 60s", "the 1960s"), ("60s", "1960s", "sixties")),
    1970: (("the seventies", "the 70s", "the 1970s"), ("70s", "1970s", "seventies")),
    1980: (("the eighties", "the 80s", "the 1980s"), ("80s", "1980s", "eighties")),
    1990: (("the nineties", "the 90s", "the 1990s"), ("90s", "1990s", "nineties")),
    2000: (("the 2000s", "the two thousands"), ("2000s",)),
    2010: (("the 2010s",), ("2010s",)),
}

TASTES_PLURAL: dict[str, Bank] = {
    # what a seeker loves or looks for, in the plural
    "genre": ("<genres>",),
    "director": ("(movies|films) by <person>", "<person>'s (movies|films)", "<person> (movies|films)"),
    "actor": ("(movies|films) with <person>", "<person> (movies|films)", "(movies|films) starring <person>"),
    "era": ("(movies|films) from <era>", "<decade> (movies|films)"),
    "genre+era": ("<genres> from <era>", "<decade> <genres>"),
    "genre+director": ("<genres> by <person>", "<person>'s <genres>"),
    "genre+actor": ("<genres> with <person>", "<genres> starring <person>", "<genres> with <person> in them"),
    "actor+era": ("<person>'s (movies|films) from <era>", "<decade> (movies|films) with <person>"),
    "genre+genre": ("<genres> and <genres2>", "<genres2> and <genres>"),
}
TASTES_SINGULAR: dict[str, Bank] = {
    # one film that a seeker looks for
    "genre": ("<a_genre>", "a good <one_genre>"),
    "director": ("something by <person>", "a <person> (movie|film)", "anything <person> directed"),
    "actor": ("something with <person>", "anything with <person> in it", "a (movie|film) with <person>"),
    "era": ("something from <era>", "a (movie|film) from <era>", "a good <decade> (movie|film)"),
    "genre+era": ("<a_genre> from <era>", "a <decade> <one_genre>", "a good <one_genre> from <era>"),
    "genre+director": ("<a_genre> by <person>", "<a_genre> that <person> directed"),
    "genre+actor": ("<a_genre> with <person>", "<a_genre> with <person> in it", "a good <one_genre> starring <person>"),
    "actor+era": ("something with <person> from <era>", "a <decade> (movie|film) with <person>"),
    "genre+genre": ("a mix of <genre> and <genre2>", "something between <genre> and <genre2>"),
}
