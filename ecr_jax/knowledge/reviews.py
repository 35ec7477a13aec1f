"""Top-rated reviews: what people say of a film with feeling, and what is known of a film when one speaks of it.

A review keeps the entities it speaks of and those graph facts of its film that it voices. `prompt` writes both the same
way for training on reviews and for answering, so what a generator has learned to read is what it is given.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ecr_jax.data.films import FilmReview
from ecr_jax.data.schema import Split
from ecr_jax.files import read_parquet, write_parquet
from ecr_jax.knowledge.graph import REVIEW_RELATIONS, KnowledgeGraph
from ecr_jax.knowledge.naming import canonical_name

Triple = tuple[str, str]
"""A fact of a film: (relation, name of the other entity)."""

MIN_WORDS, MAX_WORDS = 20, 150
_VALID_SHARE = 20
"""One review in so many is kept for validation where a source has no split of its own."""


@dataclass(frozen=True)
class Review:
    """A review of a film.

    Attributes:
      film: URI.
      title: the film's title with year, as people are told it.
      text: the review.
      entities: names of what it speaks of, without the film itself and without those in `triples`.
      triples: facts of the film that it voices.
      split: `train`, or `valid` to select a generator by.
    """

    film: str
    title: str
    text: str
    entities: tuple[str, ...] = ()
    triples: tuple[Triple, ...] = ()
    split: Split = Split.TRAIN


@dataclass(frozen=True)
class Knowledge:
    """What may be said of a film: names of entities that its reviews speak of, most often first, and graph facts."""

    entities: tuple[str, ...]
    triples: tuple[Triple, ...]


class ReviewStore:
    """Reviews by film."""

    def __init__(self, reviews: Iterable[Review]):
        """Keeps the first of reviews that are the same film and text."""
        first: dict[tuple[str, str], Review] = {}
        for review in reviews:
            first.setdefault((review.film, review.text), review)
        self.reviews = tuple(first.values())

    def __len__(self) -> int:
        return len(self.reviews)

    def of_split(self, split: Split) -> list[Review]:
        """The reviews of a split, in order."""
        return [review for review in self.reviews if review.split == split]

    @cached_property
    def _told(self) -> Mapping[str, Counter[str | Triple]]:
        """Film -> how many of its training reviews speak of each entity and voice each fact."""
        counts: dict[str, Counter[str | Triple]] = {}
        for review in self.of_split(Split.TRAIN):
            counts.setdefault(review.film, Counter()).update({*review.entities, *review.triples})
        return counts

    def knowledge(self, film: str, graph: KnowledgeGraph) -> Knowledge:
        """What is known of a film, from training reviews and the graph.

        Args:
          film: URI; an unreviewed film has no entities.
          graph: where its facts are.

        Returns:
          The entities that at least two reviews name (the most named one where none is), equal counts by name; the
          triples of the five relations of reviews, those that reviews voice most first, then one of each relation in
          turn (`facts`), so that the first few tell different things.

        Raises:
          KeyError: the graph has no such film.

        Reference: ECR 4.3.2; reference/ecr.md F.3, F.6.
        """
        told = self._told.get(film, Counter())
        named = {name: number for name, number in told.items() if isinstance(name, str)}
        ranked = sorted(named, key=lambda name: (-named[name], name))
        entities = [name for name in ranked if named[name] > 1] or ranked[:1]
        triples = sorted(facts(film, graph).values(), key=lambda triple: -told[triple])
        return Knowledge(tuple(entities), tuple(triples))

    def save(self, path: Path) -> None:
        """Writes a Parquet file (temporary name, then renamed)."""
        columns = {
            "film": [r.film for r in self.reviews],
            "title": [r.title for r in self.reviews],
            "text": [r.text for r in self.reviews],
            "entities": [list(r.entities) for r in self.reviews],
            "triples": [[{"relation": r, "name": n} for r, n in review.triples] for review in self.reviews],
            "split": [r.split.value for r in self.reviews],
        }
        write_parquet(path, columns, _COLUMN_TYPES)

    @classmethod
    def load(cls, path: Path) -> ReviewStore:
        """Reads what `save` wrote."""
        columns = read_parquet(path)
        return cls(
            Review(
                film,
                title,
                text,
                tuple(entities),
                tuple((triple["relation"], triple["name"]) for triple in triples),
                Split(split),
            )
            for film, title, text, entities, triples, split in zip(
                *(columns[name] for name in _COLUMN_TYPES), strict=True
            )
        )

    @classmethod
    def from_ecr(cls, path: Path, titles: Mapping[str, str]) -> ReviewStore:
        """Reads the reviews that ECR's authors processed, in both of their shapes.

        Args:
          path: JSON lines of `movie`, `review`, `split`, and either `entities` ("A, B" or "None") and `knowledge`
            ("<movie>'s <relation> is <name>, ..." or "None"), or `entity_uris` and `relations` ([name, relation]).
          titles: film title with year -> URI; reviews of other films are left out.

        Returns:
          The reviews, `split` as the file says; a text that is in both splits is kept for validation only.

        Raises:
          ValueError: a line is not of these shapes; names file and line.
        """
        reviews = []
        for number, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), start=1):
            try:
                row = json.loads(line)
                movie = " ".join(row["movie"].split())
                if "entity_uris" in row:
                    entities = [canonical_name(uri) for uri in row["entity_uris"]]
                    triples = [(relation, canonical_name(name)) for name, relation in row["relations"]]
                else:
                    entities = [] if row["entities"] == "None" else row["entities"].split(", ")
                    triples = _parse_knowledge(row["movie"], row["knowledge"])
                text, split = row["review"], Split(row["split"])
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}:{number} is no review of ECR's ({error!r}); mend the line or take it out"
                ) from error
            if movie in titles:
                names, facts_told = dict.fromkeys(entities), dict.fromkeys(triples)
                reviews.append(Review(titles[movie], movie, text, tuple(names), tuple(facts_told), split))
        valid = {review.text for review in reviews if review.split == Split.VALID}
        return cls(review for review in reviews if review.split == Split.VALID or review.text not in valid)

    @classmethod
    def from_films(cls, reviews: Iterable[FilmReview], graph: KnowledgeGraph) -> ReviewStore:
        """Takes linked reviews: the best-rated ones, cleaned, mentions parted into the film's facts and the rest."""
        kept = []
        for review in reviews:
            text = clean(review.text, review.votes) if review.rating == 10 else None
            if text is None:
                continue
            known, entities, triples = facts(review.film, graph), {}, {}
            for mention in review.mentions:
                if mention.entity is None or mention.entity == review.film or mention.name not in text:
                    continue
                if mention.entity in known:
                    triples[known[mention.entity]] = None
                else:
                    entities[canonical_name(mention.entity)] = None
            chosen = zlib.crc32(f"{review.film}\n{text}".encode()) % _VALID_SHARE == 0
            split = Split.VALID if chosen else Split.TRAIN
            kept.append(Review(review.film, review.title, text, tuple(entities), tuple(triples), split))
        return cls(kept)


def facts(film: str, graph: KnowledgeGraph) -> dict[str, Triple]:
    """The film's neighbours under the relations of reviews: URI -> its triple.

    Neighbours are told apart by URI, so that "Tom" is not Tom Hanks. Where two relations join the same two, the one
    that stands first in `REVIEW_RELATIONS` counts. First comes the best-connected neighbour of each relation, then the
    next of each, and so on.

    Raises:
      KeyError: the graph has no such film.
    """
    entity = graph.id(film)
    joined: dict[int, str] = {}
    for relation in REVIEW_RELATIONS:
        for head, _, tail in graph.triples_of(entity, [relation]).tolist():
            if head == entity != tail:
                joined.setdefault(tail, relation)
    turns = []
    for order, relation in enumerate(REVIEW_RELATIONS):
        tails = [tail for tail, name in joined.items() if name == relation]
        tails.sort(key=lambda tail: (-graph.degrees[tail], tail))
        turns += [(place, order, tail) for place, tail in enumerate(tails)]
    return {graph.uris[tail]: (joined[tail], graph.names[tail]) for _, _, tail in sorted(turns)}


def clean(text: str, votes: int, max_words: int = MAX_WORDS) -> str | None:
    """Keeps what reads as a reply of a review, or nothing.

    Args:
      text: a review.
      votes: how many found it helpful.
      max_words: a longer text keeps whole sentences of its beginning and end, half of this from each.

    Returns:
      The text without sentences that speak of reviews or of the rating 10; None if nobody found it helpful, it has
      fewer than 20 words, or more than half of its words are said more than once.

    Reference: reference/ecr.md F.4 (which leaves the punctuation of the sentences it takes out behind).
    """
    words = text.split()
    number = Counter(words)
    if sum(number[word] > 1 for word in words) > len(words) / 2:
        return None
    sentences = [s for s in re.findall(r"[^.?!]+[.?!]*", text) if not re.search(r"review|\b10\b", s, re.IGNORECASE)]
    if votes < 1 or sum(len(s.split()) for s in sentences) < MIN_WORDS:
        return None
    if sum(len(s.split()) for s in sentences) > max_words:
        front = _whole(sentences, max_words // 2)
        back = _whole(sentences[front:][::-1], max_words // 2)
        sentences = sentences[:front] + sentences[len(sentences) - back :]
    return " ".join("".join(sentences).split())


def _whole(sentences: Sequence[str], budget: int) -> int:
    """How many of the first sentences fit into `budget` words, at least one if there is one."""
    total = 0
    for index, sentence in enumerate(sentences):
        total += len(sentence.split())
        if index and total > budget:
            return index
    return len(sentences)


def prompt(title: str, entities: Sequence[str], triples: Sequence[Triple], first_sentence: str, end: str = "\n") -> str:
    """What the response generator reads, in training and in answering alike.

    Args:
      title: the film's title with year.
      entities: names.
      triples: facts of the film.
      first_sentence: the recommendation response u^r with the title filled in.
      end: closes each of the four segments (DialoGPT: its end-of-text token).

    Reference: ECR Eq. 8; reference/ecr.md F.5 (whose order of segments this is).
    """
    told = ", ".join(f"{title}'s {relation} is {name}" for relation, name in triples)
    segments = (
        f"Movie Name: {title}",
        f"Related Entities: {', '.join(entities) or 'None'}",
        f"Related Knowledge from KG: {told or 'None'}",
        f"First Sentence: {first_sentence}",
    )
    return "".join(segment + end for segment in segments)


def _parse_knowledge(movie: str, knowledge: str) -> list[Triple]:
    if knowledge == "None":
        return []
    before, *parts = re.split(rf"(?:^|, ){re.escape(movie)}'s (\w+) is ", knowledge)
    if before or not parts:
        raise ValueError(f"knowledge {knowledge!r} does not begin with {movie!r}'s")
    return [(relation, canonical_name(name)) for relation, name in zip(parts[::2], parts[1::2], strict=True)]


_COLUMN_TYPES = {
    "film": "string",
    "title": "string",
    "text": "string",
    "entities": ["string"],
    "triples": [{"relation": "string", "name": "string"}],
    "split": "string",
}
