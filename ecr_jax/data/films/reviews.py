"""Generated reviews: in the first person, with one feeling and facts of the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecr_jax.data.films.phrases import reviews as phrases
from ecr_jax.data.films.phrases.nouns import GENRES
from ecr_jax.data.films.world import World
from ecr_jax.data.films.writing import (
    Named,
    Slot,
    Writer,
    company,
    draw,
    era_slots,
    genre_slots,
    language,
    person,
    pick,
    place,
)
from ecr_jax.data.schema import Mention

_FEELINGS = {
    "like": 0.22, "happy": 0.16, "nostalgia": 0.10, "surprise": 0.13, "curious": 0.10, "grateful": 0.10,
    "negative": 0.09, "agreement": 0.07, "neutral": 0.03,
}  # fmt: skip
_SAD = ("Drama", "War", "Romance", "Biography", "History")
_MIN_WORDS = 22


@dataclass(frozen=True)
class FilmReview:
    """A top-rated review.

    Attributes:
      film: URI.
      title: "Title (Year)".
      text: two to six sentences.
      rating: from 1 to 10.
      votes: how many people found it helpful.
      mentions: spans of `text` with the entities' URIs, the film first.
      emotion: the one feeling that it shows; `negative` is sadness, not dislike.
    """

    film: str
    title: str
    text: str
    rating: int
    votes: int
    mentions: tuple[Mention, ...]
    emotion: str


def write_review(world: World, film: int, rng: np.random.Generator) -> FilmReview:
    """Writes a review of a film: an opening, facts that it praises, and how it felt."""
    item = world.pool[film]
    weights = dict(_FEELINGS)
    for emotion, films in world.fits_feeling.items():
        weights[emotion] *= (4.0 if emotion == "nostalgia" else 2.0) if films[film] else 1.0
    weights["negative"] *= 0.1 if "Comedy" in item.genres else 1.5 if set(item.genres) & set(_SAD) else 0.6
    emotion = draw(rng, weights)
    writer = Writer(rng)
    writer.say(phrases.OPENINGS[emotion], slots={"film": Named(item.title if item.title[-1].isalnum() else item.name,
                                                     item.name, item.uri, True)})  # fmt: skip
    facts = _facts(world, film, rng)
    # People first, as reviewers do.
    order = (
        [0, *(1 + rng.permutation(len(facts) - 1)).tolist()]
        if rng.random() < 0.7
        else rng.permutation(len(facts)).tolist()
    )
    for i, (kind, _) in enumerate(facts):
        if kind in ("country", "language") and rng.random() < 0.4:  # what is uncommon is worth a word
            order = [i, *(number for number in order if number != i)]
    wanted = int(rng.choice([1, 2, 3], p=[0.3, 0.45, 0.25]))
    feeling_after = int(rng.integers(0, wanted + 1))
    for number, i in enumerate(order):
        if number == feeling_after:
            writer.say(phrases.FEELINGS[emotion])
        if number >= wanted and len(writer.text.split()) >= _MIN_WORDS:
            break
        kind, slots = facts[i]
        own = phrases.FACTS_WITH.get(emotion, {}).get(kind, ())
        writer.say(own if own and rng.random() < 0.6 else phrases.FACTS[kind], slots=slots)
    if rng.random() < 0.5 or len(writer.text.split()) < _MIN_WORDS:
        writer.say(phrases.ENDINGS[emotion])
    votes = 1 + int(rng.geometric(0.04)) + int(item.reviews * rng.random())
    return FilmReview(item.uri, item.name, writer.text, 10, votes, tuple(writer.mentions), emotion)


def _facts(world: World, film: int, rng: np.random.Generator) -> list[tuple[str, dict[str, Slot]]]:
    """Facts about a film as (bank of `phrases.FACTS`, slots), each true in the table; a director comes first."""
    item = world.pool[film]
    facts: list[tuple[str, dict[str, Slot]]] = []
    if len(item.directors) == 1:
        facts.append(("director", {"person": person(item.directors[0])}))
    else:
        one, two = (item.directors[i] for i in rng.permutation(len(item.directors))[:2].tolist())
        facts.append(("director2", {"person": person(one), "person2": person(two)}))
    cast = world.known_cast[film][:5] or list(item.cast)
    cast = [cast[i] for i in rng.permutation(len(cast)).tolist()]
    if len(cast) > 1 and rng.random() < 0.5:
        facts.append(("actor2", {"person": person(cast[0]), "person2": person(cast[1])}))
    else:
        facts.append(("actor", {"person": person(cast[0])}))
    genres = [item.genres[i] for i in rng.permutation(len(item.genres)).tolist() if item.genres[i] in GENRES]
    if len(genres) > 1 and rng.random() < 0.4:
        facts.append(("genre2", genre_slots(rng, genres[0]) | genre_slots(rng, genres[1], "2")))
    elif genres:
        facts.append(("genre", genre_slots(rng, genres[0])))
    by_year = item.year >= 2000 or rng.random() < 0.6  # nobody speaks of recent decades so
    facts.append(("year", {"year": str(item.year)}) if by_year else ("era", era_slots(rng, item.era)))
    if writers := [name for name in item.writers if name not in item.directors]:
        facts.append(("writer", {"person": person(pick(rng, writers))}))
    if len(item.countries) == 1 and item.countries[0] != "United States":
        facts.append(("country", place("place", item.countries[0])))
    if len(item.languages) == 1 and not item.languages[0].endswith("English"):
        facts.append(("language", {"language": language(item.languages[0])}))
    if len(item.companies) == 1 and rng.random() < 0.5:
        facts.append(("company", {"company": company(item.companies[0])}))
    return facts
