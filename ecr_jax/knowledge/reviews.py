"""Top-rated reviews of films, and the knowledge of a film that the response generator is prompted with (ECR 3.4, 4.3).

A review records the entities it mentions and the facts of the graph about its film that it states. `response_prompt`
writes both in the same way for training on reviews and for generating a response.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ecr_jax.data.films import FilmReview
from ecr_jax.data.parsing import numbered_lines, parse_json
from ecr_jax.data.schema import Split
from ecr_jax.files import read_parquet, write_parquet
from ecr_jax.knowledge.graph import REVIEW_RELATIONS, KnowledgeGraph
from ecr_jax.knowledge.naming import canonical_name

Triple = tuple[str, str]
"""A fact about a film: (relation, name of the other entity)."""

MIN_WORDS, MAX_WORDS = 20, 150
"""Lengths of a cleaned review (`clean_review`) in ECR's released code."""


@dataclass(frozen=True)
class Review:
    """A review of a film.

    Attributes:
      film: URI.
      title: the film's title with year.
      text: the review.
      entities: names of the entities it mentions, without the film itself and without those in `triples`.
      triples: facts about the film that it states.
      split: `train`, or `valid` for selecting the generator.
      emotion: one of the nine that it shows, or "" where it is not labelled.
    """

    film: str
    title: str
    text: str
    entities: tuple[str, ...] = ()
    triples: tuple[Triple, ...] = ()
    split: Split = Split.TRAIN
    emotion: str = ""


@dataclass(frozen=True)
class Knowledge:
    """Knowledge about a film: names of entities that its reviews mention, most frequent first, and graph facts."""

    entities: tuple[str, ...]
    triples: tuple[Triple, ...]


class ReviewStore:
    """Reviews by film."""

    def __init__(self, reviews: Iterable[Review]):
        """Of several reviews with the same film and text, the first one counts."""
        distinct: dict[tuple[str, str], Review] = {}
        for review in reviews:
            distinct.setdefault((review.film, review.text), review)
        self.reviews = tuple(distinct.values())

    def __len__(self) -> int:
        return len(self.reviews)

    def of_split(self, split: Split) -> list[Review]:
        """The reviews of a split, in order."""
        return [review for review in self.reviews if review.split == split]

    @cached_property
    def _counts(self) -> Mapping[str, Counter[str | Triple]]:
        """Film -> how many of its training reviews mention each entity and state each fact."""
        counts: dict[str, Counter[str | Triple]] = {}
        for review in self.of_split(Split.TRAIN):
            counts.setdefault(review.film, Counter()).update({*review.entities, *review.triples})
        return counts

    def knowledge(self, film: str, graph: KnowledgeGraph) -> Knowledge:
        """The knowledge about a film, from training reviews and the graph.

        Args:
          film: URI; a film without reviews has no entities.
          graph: the source of its facts.

        Returns:
          The entities that at least two reviews name (the most frequent one if there is none), ties ordered by name;
          and the triples of the five relations of reviews: first those that most reviews state, then one of each
          relation in turn (`film_facts`), so that the first few are of different kinds.

        Raises:
          KeyError: the graph has no such film.

        Reference: ECR 4.3.2. The released code draws entities and triples at random instead.
        """
        counts = self._counts.get(film, Counter())
        names = {name: number for name, number in counts.items() if isinstance(name, str)}
        ranked = sorted(names, key=lambda name: (-names[name], name))
        entities = [name for name in ranked if names[name] > 1] or ranked[:1]
        triples = sorted(film_facts(film, graph).values(), key=lambda triple: -counts[triple])
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
            "emotion": [r.emotion for r in self.reviews],
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
                emotion,
            )
            for film, title, text, entities, triples, split, emotion in zip(
                *(columns[name] for name in _COLUMN_TYPES), strict=True
            )
        )

    @classmethod
    def from_ecr(cls, path: Path, titles: Mapping[str, str]) -> ReviewStore:
        """Reads the reviews that `ecr reviews` writes, and those that ECR's authors processed, in both of their shapes.

        Args:
          path: JSON lines of `movie`, `review` and `split`; and of `ecr reviews`, as `row_of` makes them; or `entities`
            ("A, B" or "None") and `knowledge` ("<movie>'s <relation> is <name>, ..." or "None"); or `entity_uris` and
            `relations` ([name, relation]).
          titles: film title with year -> URI; reviews of other films are left out.

        Returns:
          The reviews with the file's `split`; a text that is in both splits is for validation only.

        Raises:
          ValueError: a line is not of these shapes; names file and line.
        """
        reviews, uris = [], frozenset(titles.values())
        for number, line in numbered_lines(path):
            try:
                row = parse_json(line)
                movie = " ".join(row["movie"].split())
                film = titles.get(movie)
                if "film" in row:
                    film = row["film"] if row["film"] in uris else None
                    entities = [str(name) for name in row["entities"]]
                    triples = [(str(relation), str(name)) for relation, name in row["triples"]]
                elif "entity_uris" in row:
                    entities = [canonical_name(uri) for uri in row["entity_uris"]]
                    triples = [(relation, canonical_name(name)) for name, relation in row["relations"]]
                else:
                    entities = [] if row["entities"] == "None" else row["entities"].split(", ")
                    triples = _parse_knowledge(row["movie"], row["knowledge"])
                text, split = row["review"], Split(row["split"])
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}:{number} is not a review in ECR's format ({error!r}); correct the line or remove it"
                ) from error
            if film is not None:
                distinct = tuple(dict.fromkeys(entities)), tuple(dict.fromkeys(triples))
                reviews.append(Review(film, movie, text, *distinct, split))
        valid = {review.text for review in reviews if review.split == Split.VALID}
        return cls(review for review in reviews if review.split == Split.VALID or review.text not in valid)

    @classmethod
    def from_films(
        cls,
        reviews: Iterable[FilmReview],
        graph: KnowledgeGraph,
        *,
        min_words: int = MIN_WORDS,
        max_words: int = MAX_WORDS,
        valid_every: int = 20,
    ) -> ReviewStore:
        """Selects and cleans the reviews with the highest rating, and sorts their mentions into facts and entities.

        Args:
          reviews: of the built-in corpus.
          graph: with the films.
          min_words, max_words: see `clean_review`.
          valid_every: the reviews of one film in this many are for validation, decided by its URI, so that the films of
            these reviews are unseen.
        """
        selected = []
        for review in reviews:
            text = clean_review(review.text, review.votes, min_words, max_words) if review.rating == 10 else None
            if text is None:
                continue
            named = [
                (mention.start, mention.entity)
                for mention in review.mentions
                if mention.entity is not None and review.text[mention.start : mention.end] in text
            ]
            told = what_is_told(review.film, review.text, named, graph)
            split = split_of_film(review.film, valid_every)
            selected.append(Review(review.film, review.title, text, *told, split, review.emotion))
        return cls(selected)


def row_of(review: Review) -> dict[str, Any]:
    """A review without its emotion as a line that `ReviewStore.from_ecr` reads."""
    return {
        "movie": review.title,
        "film": review.film,
        "review": review.text,
        "entities": review.entities,
        "triples": review.triples,
        "split": review.split.value,
    }


def split_of_film(film: str, valid_every: int) -> Split:
    """The split of a film's reviews, decided by its URI: all of them are for validation, or none.

    Args:
      film: URI.
      valid_every: one film in this many is for validation.
    """
    return Split.VALID if zlib.crc32(film.encode()) % valid_every == 0 else Split.TRAIN


def what_is_told(
    film: str, text: str, named: Iterable[tuple[int, str]], graph: KnowledgeGraph
) -> tuple[tuple[str, ...], tuple[Triple, ...]]:
    """What a review tells about its film: the other entities that it names, and the facts of the graph.

    Args:
      film: URI.
      text: the review.
      named: (place in the text, URI) of what it names.
      graph: with the film.

    Returns:
      Names of entities, and facts, each once, in the order of the text.
    """
    relations = film_relations(film, graph)
    entities: dict[str, None] = {}
    triples: dict[Triple, None] = {}
    for start, uri in named:
        if uri in relations:
            triples[relation_said(relations[uri], text, start), graph.names[graph.id(uri)]] = None
        elif uri != film:
            entities[canonical_name(uri)] = None
    return tuple(entities), tuple(triples)


def film_relations(film: str, graph: KnowledgeGraph) -> dict[str, tuple[str, ...]]:
    """The film's neighbours under `REVIEW_RELATIONS`: URI -> the relations that connect it, in that order.

    Neighbours are distinguished by URI, so that "Tom" is not Tom Hanks.

    Raises:
      KeyError: the graph has no such film.
    """
    entity = graph.id(film)
    found: dict[str, tuple[str, ...]] = {}
    for relation in REVIEW_RELATIONS:
        for head, _, tail in graph.triples_of(entity, [relation]).tolist():
            uri = graph.uris[tail]
            if head == entity != tail and relation not in found.get(uri, ()):
                found[uri] = (*found.get(uri, ()), relation)
    return found


def relation_said(relations: Sequence[str], text: str, start: int) -> str:
    """Which of several relations of one person to a film a review speaks of.

    Args:
      relations: at least one.
      text: the review.
      start: where it names the person.

    Returns:
      The first that a word of the sentence stands for ("directed"), or the first of all.
    """
    at = 0
    sentence = ""
    for sentence in sentences_of(text):
        at = text.index(sentence, at) + len(sentence)
        if at > start:
            break
    return next((r for r in relations if r in _CUES and re.search(_CUES[r], sentence, re.IGNORECASE)), relations[0])


_CUES = {
    "starring": r"\b(star|play|act(or|ress|ing)\b|cast\b|perform|role\b)",
    "writer": r"\b(wr[io]t|script|screenplay|dialogue|story)",
    "director": r"\bdirect",
    "musicComposer": r"\b(music|score|compos|soundtrack)",
}
"""Words of a sentence that stand for a relation of a person to a film."""


def film_facts(film: str, graph: KnowledgeGraph) -> dict[str, Triple]:
    """The film's neighbours under `REVIEW_RELATIONS`: URI -> its triple.

    Where several relations connect the same two entities, the one that is first in `REVIEW_RELATIONS` counts. The order
    is: the neighbour of each relation with the highest degree, then the second of each relation, and so on.

    Raises:
      KeyError: the graph has no such film.
    """
    relation_of = {uri: relations[0] for uri, relations in film_relations(film, graph).items()}
    ranked = []
    for order, relation in enumerate(REVIEW_RELATIONS):
        tails = [graph.ids[uri] for uri, name in relation_of.items() if name == relation]
        tails.sort(key=lambda tail: (-graph.degrees[tail], tail))
        ranked += [(rank, order, tail) for rank, tail in enumerate(tails)]
    return {graph.uris[tail]: (relation_of[graph.uris[tail]], graph.names[tail]) for _, _, tail in sorted(ranked)}


def clean_review(text: str, votes: int, min_words: int = MIN_WORDS, max_words: int = MAX_WORDS) -> str | None:
    """Selects the part of a review that can serve as a reply.

    Args:
      text: a review.
      votes: how many people found it helpful.
      min_words: fewest words of the sentences that remain.
      max_words: of a longer text, whole sentences of its beginning and its end remain, half of this length from each.

    Returns:
      The text without sentences that speak of reviews or of the rating 10; None if nobody found it helpful, if it has
      fewer than `min_words`, or if more than half of its words are repeated.

    Reference: `process_empthetic.py` of ECR's released code, which leaves the punctuation of the removed sentences in
    the text.
    """
    if is_repetitive(text) or votes < 1:
        return None
    sentences = [s for s in re.findall(r"[^.?!]+[.?!]*", text) if not re.search(r"review|\b10\b", s, re.IGNORECASE)]
    if sum(len(s.split()) for s in sentences) < min_words:
        return None
    if sum(len(s.split()) for s in sentences) > max_words:
        front = _sentences_within(sentences, max_words // 2)
        back = _sentences_within(sentences[front:][::-1], max_words // 2)
        sentences = sentences[:front] + sentences[len(sentences) - back :]
    return " ".join("".join(sentences).split())


def is_repetitive(text: str) -> bool:
    """Whether more than half of the words of a text occur more than once."""
    number = Counter(text.split())
    return 2 * sum(count for count in number.values() if count > 1) > number.total()


def _sentences_within(sentences: Sequence[str], budget: int) -> int:
    """How many of the first sentences fit into `budget` words; at least one if there is one."""
    total = 0
    for index, sentence in enumerate(sentences):
        total += len(sentence.split())
        if index and total > budget:
            return index
    return len(sentences)


def sentences_of(text: str) -> list[str]:
    """The sentences of a text; the points of initials and of short titles end none ("Samuel L. Jackson")."""
    return re.split(r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\b(?:Jr|Sr|Dr|Mr|Ms|St)\.)(?<!\bMrs\.)\s+", text)


def pieces(review: Review, sentences: int) -> list[Review]:
    """A review in pieces of so many sentences, the last one perhaps shorter; each with the names that its text holds.

    A response is a sentence or two, and is to state the facts in its prompt and no others.
    """
    parts = sentences_of(review.text)
    texts = [" ".join(parts[start : start + sentences]) for start in range(0, len(parts), sentences)]
    return [
        dataclasses.replace(
            review,
            text=text,
            entities=tuple(name for name in review.entities if name.lower() in text.lower()),
            triples=tuple(triple for triple in review.triples if triple[1].lower() in text.lower()),
        )
        for text in texts
    ]


def response_prompt(
    title: str,
    entities: Sequence[str],
    triples: Sequence[Triple],
    first_sentence: str,
    end: str = "\n",
    *,
    heard: str = "",
    tone: str = "",
) -> str:
    """The prompt of the response generator, in training and in generation alike.

    Args:
      title: the film's title with year.
      entities: names.
      triples: facts about the film.
      first_sentence: the recommendation response u^r with the title filled in.
      end: closes each of the segments (DialoGPT: its end-of-text token).
      heard: what the seeker feels; "" leaves the segment out.
      tone: what the response is to show; "" leaves the segment out.

    Reference: ECR Eq. 8; the order of the segments is that of its released code. The feelings are ours: the paper's
    generator always writes like a review with the highest rating, whatever the seeker feels.
    """
    knowledge = ", ".join(f"{title}'s {relation} is {name}" for relation, name in triples)
    segments = (
        f"Movie Name: {title}",
        f"Related Entities: {', '.join(entities) or 'None'}",
        f"Related Knowledge from KG: {knowledge or 'None'}",
        *((f"Seeker Feels: {heard}",) if heard else ()),
        *((f"Tone: {tone}",) if tone else ()),
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
    "emotion": "string",
}
