"""Preparing a corpus: its files are read, checked, linked and counted, and the result is written to one folder.

The manifest is written last. All later steps use `PreparedCorpus` and none of the original files.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from ecr_jax.config import Config, CorpusConfig
from ecr_jax.data import films, gorecdial, iard, inspired, jsonl, redial, redial_extra, tgredial
from ecr_jax.data.schema import (
    BadLine,
    Conversation,
    CorpusError,
    Feedback,
    Mention,
    Role,
    Split,
    Turn,
    read_conversations,
    write_conversations,
)
from ecr_jax.emotion import goemotions, labels
from ecr_jax.files import (
    peak_memory_mb,
    read_parquet,
    remove_partial,
    replacing,
    sha256,
    write_json,
    write_jsonl,
    write_parquet,
)
from ecr_jax.knowledge import graph as graphs
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.knowledge.reviews import ReviewStore
from ecr_jax.pretrained import hub
from ecr_jax.terminal import Terminal

_READERS = {
    "redial": redial.read,
    "inspired": inspired.read,
    "gorecdial": gorecdial.read,
    "tgredial": tgredial.read,
    "jsonl": jsonl.read,
}
_OPTIONAL_FILES = ("valid", "reviews", "goemotions", "intents")
_DESCRIBED_RELATIONS = ("genre", "director", "starring", "writer")
"""Relations whose entities are named in the description of a film."""


@dataclass(frozen=True)
class PreparedCorpus:
    """A prepared corpus; each part is read when it is first used."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> PreparedCorpus:
        """Opens a prepared folder. Raises ValueError where it is not complete."""
        if not (folder / "manifest.json").is_file():
            raise ValueError(f"{folder} has no prepared corpus; run `ecr prepare` with this config first")
        return cls(folder)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """`inputs` with their checksums, the `corpus` settings, and the `counts`."""
        return json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))

    @cached_property
    def conversations(self) -> list[Conversation]:
        """All linked conversations."""
        return read_conversations(self.folder / "conversations.parquet")

    def split(self, split: Split) -> list[Conversation]:
        """The conversations of one split, in order."""
        return [conversation for conversation in self.conversations if conversation.split == split]

    @cached_property
    def act_conversations(self) -> list[Conversation]:
        """Dialogues of other corpora, for the stage `acts` alone: their turns are labelled, but not linked."""
        path = self.folder / "act_conversations.parquet"
        return read_conversations(path) if path.is_file() else []

    @cached_property
    def graph(self) -> KnowledgeGraph:
        """The knowledge graph."""
        return graphs.load(self.folder)

    @cached_property
    def linker(self) -> EntityLinker:
        """The linker that the corpus was prepared with; with `corpus.link_by_counts` it knows the mention counts."""
        path = self.folder / "mention_counts.parquet"
        return EntityLinker(self.graph, read_parquet(path)["dialogues"] if path.is_file() else None)

    @cached_property
    def descriptions(self) -> list[str]:
        """One text per entity, by id: the description of a film or a genre, empty for others (`describe`)."""
        return read_parquet(self.folder / "descriptions.parquet")["text"]

    @cached_property
    def genres(self) -> np.ndarray:
        """Pairs (film, genre) of entity ids that the corpus's film table adds to the graph, int32 [G, 2].

        Raises:
          ValueError: the corpus was prepared before they were written.
        """
        path = self.folder / "genres.parquet"
        if not path.is_file():
            raise ValueError(f"{path} is missing: an earlier version prepared the corpus; run `ecr prepare --force`")
        table = read_parquet(path)
        return np.stack([np.asarray(table[name], np.int32) for name in ("film", "genre")], axis=1)

    @cached_property
    def reviews(self) -> ReviewStore:
        """Top-rated reviews of films."""
        return ReviewStore.load(self.folder / "reviews.parquet")

    def utterances(self, split: Split) -> list[tuple[str, tuple[int, ...]]]:
        """Utterances with their emotion ids, for training or evaluating the emotion classifier."""
        table = read_parquet(self.folder / "utterances.parquet")
        rows = zip(table["split"], table["text"], table["labels"], strict=True)
        return [(text, tuple(ids)) for part, text, ids in rows if part == split]


def prepare(config: Config, *, force: bool = False, console: Console | None = None) -> PreparedCorpus:
    """Prepares the corpus of a config, unless its folder is complete for the same inputs and settings.

    Args:
      config: its section `corpus` names the files.
      force: prepare again even if the folder is complete.
      console: where progress is printed.

    Raises:
      CorpusError: lists all malformed lines (unless `corpus.skip_bad`).
      ValueError: an input file is missing or malformed, or the folder is that of a base experiment with another corpus.
    """
    console = console or Terminal()
    folder, corpus = config.prepared_folder, config.corpus
    inputs = _inputs(corpus)
    prepared_from = {"corpus": config.as_json()["corpus"], "inputs": inputs}
    if (folder / "manifest.json").is_file():
        existing = PreparedCorpus.open(folder)
        same = {key: existing.manifest[key] for key in prepared_from} == prepared_from
        if same and not force:
            console.print(f"{folder} is complete for these inputs; --force prepares it again")
            return existing
        if not same and config.base is not None:
            raise ValueError(
                f"{folder} is the corpus of {config.base!r}, prepared from other inputs or settings: prepare "
                f"{config.base!r} again, or give this experiment a corpus of its own (base=None)"
            )
    started = time.monotonic()
    remove_partial(folder.parent, folder.name)
    with replacing(folder) as temporary:
        temporary.mkdir()
        counts = _write(temporary, corpus, console)
        seconds = time.monotonic() - started
        write_json(temporary / "cost.json", {"seconds": seconds, "peak_memory_mb": peak_memory_mb()})
        write_json(temporary / "manifest.json", {**prepared_from, "counts": counts})
    console.print(f"prepared {folder}: {counts['conversations']} conversations, {counts['mentions']} mentions")
    if counts["rejected"]:
        console.print(f"left out {counts['rejected']} malformed lines: {folder / 'rejected.jsonl'}")
    return PreparedCorpus.open(folder)


def _inputs(corpus: CorpusConfig) -> dict[str, str]:
    """The sha256 of every file that is read, by its path as configured, and the version of generated dialogues."""
    if corpus.name == "films":
        files = {"wikidata-films": hub.resolve("wikidata-films")}
    else:
        files = {}
        for name in ("train", "valid", "test", "graph", "movies", "reviews", "goemotions", "intents", "extra"):
            path = corpus.path(name)
            if path is None:
                continue
            if not path.exists():
                remedy = f"; --corpus.{name} None does without it" if name in _OPTIONAL_FILES else ""
                raise ValueError(
                    f"corpus.{name}: {path} does not exist; data/README.md and docs/data.md describe the files{remedy}"
                )
            parts = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            files |= {str(Path(getattr(corpus, name)) / part.relative_to(path)): part for part in parts}
        if corpus.graph is None or corpus.act_dialogues:
            files["wikidata-films"] = hub.resolve("wikidata-films")
    generated = corpus.name == "films" or corpus.act_dialogues
    version = {"film-dialogues": films.VERSION} if generated else {}
    return {name: sha256(path) for name, path in files.items()} | version


@dataclass(frozen=True)
class _Source:
    """A corpus as read from its files: conversations that are not linked yet, the graph, reviews and the film table."""

    conversations: list[Conversation]
    graph: KnowledgeGraph
    reviews: ReviewStore
    movies: Mapping[str, redial.Movie]
    bad: list[BadLine]
    counts: Mapping[str, int]


def _generate_films(corpus: CorpusConfig) -> _Source:
    table = hub.resolve("wikidata-films")
    generated = films.generate(table, seed=corpus.seed, dialogues=corpus.dialogues, reviews=corpus.film_reviews)
    graph = graphs.from_wikidata(table, generated.items)
    reviews = ReviewStore.from_films(
        generated.reviews,
        graph,
        min_words=corpus.review_min_words,
        max_words=corpus.review_max_words,
        valid_every=corpus.review_valid_every,
    )
    return _Source(list(generated.conversations), graph, reviews, {}, [], {})


def _read_files(corpus: CorpusConfig) -> _Source:
    """Raises CorpusError for malformed lines, unless `corpus.skip_bad`."""
    movies: dict[str, redial.Movie] = {}
    bad: list[BadLine] = []
    counts: Counter[str] = Counter()
    if (path := corpus.path("movies")) is not None:
        movies, bad_movies = (gorecdial if corpus.name == "gorecdial" else redial).read_movies(path)
        bad += bad_movies
    uris = redial.movie_uris(movies)
    conversations: list[Conversation] = []
    for split in Split:
        if (path := corpus.path(split.value)) is None:
            continue
        parsed = _READERS[corpus.name](path, split, uris)
        conversations += parsed.conversations
        bad += parsed.bad
        counts.update({f"{split}_{name}": number for name, number in parsed.counts.items()})
    extra: list[Conversation] = []
    if (folder := corpus.path("extra")) is not None:
        parsed = redial_extra.read(folder, movies, {c.id: c.split for c in conversations})
        extra, bad = parsed.conversations, bad + parsed.bad
        counts.update({f"extra_{name}": number for name, number in parsed.counts.items()})
    if corpus.valid is None:
        training = redial.split_train((c for c in conversations if c.split == Split.TRAIN), corpus.valid_share)
        conversations = training + [c for c in conversations if c.split == Split.TEST]
    if bad and not corpus.skip_bad:
        raise CorpusError(bad)
    graph = _graph(corpus, set(uris.values()))
    reviews = ReviewStore(())
    if (path := corpus.path("reviews")) is not None:
        titles = {graph.title(int(item)): graph.uris[item] for item in graph.items} | redial.title_uris(movies)
        reviews = ReviewStore.from_ecr(path, titles)
    return _Source(conversations + extra, graph, reviews, movies, bad, counts)


def _write(folder: Path, corpus: CorpusConfig, console: Console) -> dict[str, int]:
    """Writes everything but the manifest; returns the manifest's counts."""
    source = _generate_films(corpus) if corpus.name == "films" else _read_files(corpus)
    graph, conversations = source.graph, source.conversations
    repeated = [name for name, number in Counter(c.id for c in conversations).items() if number > 1]
    if repeated:
        raise ValueError(f"conversation ids in more than one split: {', '.join(repeated[:10])}; make them unique")
    if empty := [split.value for split in Split if not any(c.split == split for c in conversations)]:
        if Split.TRAIN in empty:
            raise ValueError(
                f"no conversation is in the train split (of {len(conversations)}): nothing could be learned; "
                f"corpus.train is {corpus.train!r}, and a conversation's own `split` counts where it has one"
            )
        console.print(f"no conversation is in the split {' or '.join(empty)}: it can not be measured there")
    write_jsonl(folder / "rejected.jsonl", [dataclasses.asdict(line) for line in source.bad])

    counts = mention_counts(conversations, graph) if corpus.link_by_counts else None
    linker = EntityLinker(graph, counts)
    films_are_marked = any(m.film for c in conversations for t in c.turns for m in t.mentions)
    linked = [
        link_conversation(conversation, graph, linker, films_are_targets=not films_are_marked)
        for conversation in track(conversations, description="link", console=console)
    ]
    write_conversations(folder / "conversations.parquet", linked)
    graph.save(folder)
    if counts is not None:
        write_parquet(folder / "mention_counts.parquet", {"dialogues": counts}, {"dialogues": "int32"})
    texts = describe(graph, source.movies, corpus.description_facts)
    write_parquet(folder / "descriptions.parquet", {"text": texts}, {"text": "string"})
    genres = film_genres(graph, source.movies, linker)
    columns = {"film": genres[:, 0].tolist(), "genre": genres[:, 1].tolist()}
    write_parquet(folder / "genres.parquet", columns, {"film": "int32", "genre": "int32"})
    source.reviews.save(folder / "reviews.parquet")
    _write_utterances(folder / "utterances.parquet", corpus, linked)
    if labelled := _act_conversations(corpus):
        write_conversations(folder / "act_conversations.parquet", labelled)
    return {
        **_counts(linked),
        **source.counts,
        "rejected": len(source.bad),
        "entities": len(graph.uris),
        "items": len(graph.items),
        "triples": len(graph.triples),
        "reviews": len(source.reviews),
    }


def _act_conversations(corpus: CorpusConfig) -> list[Conversation]:
    """Dialogues of other corpora whose turns are labelled with acts.

    Raises:
      CorpusError: `corpus.intents` has malformed lines.
    """
    if corpus.name == "films":  # its own turns are labelled
        return []
    labelled: list[Conversation] = []
    if corpus.act_dialogues:
        table = hub.resolve("wikidata-films")
        labelled += films.generate(table, seed=corpus.seed, dialogues=corpus.act_dialogues, reviews=0).conversations
    if (path := corpus.path("intents")) is not None:
        parsed = iard.read(path, {})
        if parsed.bad and not corpus.skip_bad:
            raise CorpusError(parsed.bad)
        labelled += parsed.conversations
    return labelled


def _graph(corpus: CorpusConfig, films: Set[str]) -> KnowledgeGraph:
    """The graph of a corpus whose film table names these URIs; the Wikidata film table is cut down to GoRecDial's."""
    path = corpus.path("graph")
    if path is None:
        table = hub.resolve("wikidata-films")
        items = sorted(films & graphs.wikidata_films(table)) if corpus.name == "gorecdial" else None
        return graphs.from_wikidata(table, items)
    if corpus.name == "tgredial":
        return graphs.from_crslab(path)
    if path.is_dir():
        return graphs.from_unicrs(path, corpus.path("movies"))
    return graphs.from_turtle(path)


def mention_counts(conversations: Iterable[Conversation], graph: KnowledgeGraph) -> list[int]:
    """How many conversations of the train split mention each entity, as the corpus marks it: [N].

    The linker resolves by them what neither the year nor the context resolves. Marks without an entity do not count: it
    is the linker that finds theirs.
    """
    marked = Counter(
        entity
        for conversation in conversations
        if conversation.split == Split.TRAIN
        for entity in {mention.entity for turn in conversation.turns for mention in turn.mentions}
    )
    return [marked[uri] for uri in graph.uris]


def link_conversation(
    conversation: Conversation, graph: KnowledgeGraph, linker: EntityLinker, *, films_are_targets: bool
) -> Conversation:
    """Links a conversation's mentions turn by turn; see `link_turn`."""
    known: set[int] = set()
    turns = []
    for turn in conversation.turns:
        mentions = link_turn(turn, graph, linker, known, films_are_targets=films_are_targets)
        turns.append(dataclasses.replace(turn, mentions=mentions))
        known.update(graph.ids[mention.entity] for mention in mentions if mention.entity is not None)
    return dataclasses.replace(conversation, turns=tuple(turns))


def link_turn(
    turn: Turn, graph: KnowledgeGraph, linker: EntityLinker, known: Collection[int], *, films_are_targets: bool
) -> tuple[Mention, ...]:
    """The linked mentions of a turn: those that the corpus marks, and those that the linker finds between them.

    A film that the corpus marks can be a target. A film that only the linker finds is context, unless the corpus marks
    no films at all (`films_are_targets`).

    Args:
      turn: as read from the corpus.
      graph: the graph whose URIs count as linked.
      linker: finds the mentions that the corpus does not mark or link.
      known: entities mentioned before, which help to resolve ambiguous names.
      films_are_targets: give films that the linker finds a feedback (`unsaid`), so that they count as recommended.
    """
    mentions, marked = [], bytearray(len(turn.text))
    for mention in turn.mentions:
        marked[mention.start : mention.end] = b"\1" * (mention.end - mention.start)
        entity = mention.entity if mention.entity in graph.ids else None
        if entity is None and mention.film:
            # The link must cover the whole title with its year: a part of it would be another film.
            whole = [x.entity for x in linker.link(mention.name, known) if x.end - x.start == len(mention.name)]
            entity = graph.uris[whole[0]] if whole and graph.kinds[whole[0]] == "film" else None
        feedback = (mention.feedback or Feedback.UNSAID) if mention.film else None
        mentions.append(dataclasses.replace(mention, entity=entity, feedback=feedback))
    for link in linker.link(turn.text, known):
        if any(marked[link.start : link.end]):
            continue
        film = bool(graph.kinds[link.entity] == "film")
        feedback = Feedback.UNSAID if film and films_are_targets else None
        name = turn.text[link.start : link.end]
        mentions.append(Mention(link.start, link.end, name, film, graph.uris[link.entity], feedback))
    return tuple(sorted(mentions, key=lambda mention: mention.start))


def film_genres(graph: KnowledgeGraph, movies: Mapping[str, redial.Movie], linker: EntityLinker) -> np.ndarray:
    """The genres that the corpus's film table gives to films, and the graph knows.

    DBpedia hardly says of which genre a film is, though it has the genres, which turns name.

    Args:
      graph: the entities.
      movies: the corpus's film table; may be empty.
      linker: finds the entity that a genre's name means in a turn.

    Returns:
      Distinct pairs (film, genre) of entity ids, int32 [G, 2], sorted.
    """
    names = {genre for movie in movies.values() for genre in movie.genre}
    links = {name: [link.entity for link in linker.link(f"{name} movies")] for name in names}
    entities = {name: next((e for e in found if graph.kinds[e] == "genre"), None) for name, found in links.items()}
    pairs = {
        (graph.ids[movie.uri], entity)
        for movie in movies.values()
        if movie.uri in graph.ids
        for entity in (entities[genre] for genre in movie.genre)
        if entity is not None
    }
    return np.asarray(sorted(pairs), np.int32).reshape(-1, 2)


def describe(graph: KnowledgeGraph, movies: Mapping[str, redial.Movie], facts_per_relation: int) -> list[str]:
    """Describes the entities of a graph for the text encoder.

    Args:
      graph: the entities and their facts.
      movies: the corpus's film table, for genres and plots; may be empty.
      facts_per_relation: most names of each relation (genres, directors, actors, writers).

    Returns:
      One text per entity, by id: a film's title, facts and plot; a genre's name; empty for others.
    """
    facts: dict[int, dict[str, list[int]]] = {}
    for head, relation, tail in graph.triples:
        facts.setdefault(int(head), {}).setdefault(graph.relations[relation], []).append(int(tail))
    movie_of = {movie.uri: movie for movie in movies.values() if movie.uri}
    texts = []
    for entity, (uri, name, kind) in enumerate(zip(graph.uris, graph.names, graph.kinds, strict=True)):
        if kind != "film":
            texts.append(f"{name}, a genre" if kind == "genre" else "")
            continue
        pieces = [graph.title(entity)]
        movie = movie_of.get(uri)
        if movie is not None and movie.genre:
            pieces.append(" ".join(movie.genre))
        for relation, tails in facts.get(entity, {}).items():
            name = relation.rstrip(">").rsplit("/", 1)[-1]
            if name in _DESCRIBED_RELATIONS:
                pieces.append(f"{name} {', '.join(graph.names[tail] for tail in tails[:facts_per_relation])}")
        if movie is not None and movie.plot:
            pieces.append(movie.plot)
        texts.append(". ".join(pieces))
    return texts


def _write_utterances(path: Path, corpus: CorpusConfig, conversations: Iterable[Conversation]) -> None:
    if (folder := corpus.path("goemotions")) is not None:
        rows = [
            {"split": split.value, "text": text, "labels": list(ids)}
            for split in Split
            for text, ids in goemotions.read(folder, split)
        ]
    else:
        rows = [
            {"split": c.split.value, "text": t.text, "labels": list(labels.from_names(t.emotions))}
            for c in conversations
            for t in c.turns
            if t.role == Role.SEEKER and t.emotions
        ]
    types = {"split": "string", "text": "string", "labels": ["int32"]}
    write_parquet(path, {name: [row[name] for row in rows] for name in types}, types)


def _counts(conversations: Sequence[Conversation]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for conversation in conversations:
        counts["conversations"] += 1
        counts[f"conversations_{conversation.split}"] += 1
        counts["turns"] += len(conversation.turns)
        for turn in conversation.turns:
            for mention in turn.mentions:
                counts["mentions"] += 1
                counts["film_mentions"] += mention.film
                counts["unlinked_mentions"] += mention.entity is None
                counts["unlinked_film_mentions"] += mention.film and mention.entity is None
                if mention.feedback is not None:
                    counts[f"feedback_{mention.feedback}"] += 1
    return dict(counts)
