"""From a corpus's own files to one prepared folder: read, linked, checked, counted; the manifest is written last.

Everything after this reads `PreparedCorpus` and nothing of the original files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console
from rich.progress import track

from ecr_jax.config import Config, CorpusConfig
from ecr_jax.data import films, gorecdial, inspired, jsonl, redial
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
from ecr_jax.files import peak_memory_mb, read_parquet, replacing, write_json, write_jsonl, write_parquet
from ecr_jax.knowledge import graph as graphs
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.knowledge.reviews import ReviewStore
from ecr_jax.pretrained import hub

_READERS = {"redial": redial.read, "inspired": inspired.read, "gorecdial": gorecdial.read, "jsonl": jsonl.read}
_FACTS = ("genre", "director", "starring", "writer")


@dataclass(frozen=True)
class PreparedCorpus:
    """A prepared folder; parts are read when first asked for."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> PreparedCorpus:
        """Raises ValueError where the folder is not complete."""
        if not (folder / "manifest.json").is_file():
            raise ValueError(f"{folder} holds no prepared corpus; run `ecr prepare` with this config first")
        return cls(folder)

    @cached_property
    def manifest(self) -> dict:
        """Inputs with their checksums, the corpus settings, and the counts."""
        return json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))

    @cached_property
    def conversations(self) -> list[Conversation]:
        """All linked conversations."""
        return read_conversations(self.folder / "conversations.parquet")

    def split(self, split: Split) -> list[Conversation]:
        """Those of one split, in order."""
        return [conversation for conversation in self.conversations if conversation.split == split]

    @cached_property
    def graph(self) -> KnowledgeGraph:
        """The knowledge graph."""
        return graphs.load(self.folder)

    @cached_property
    def descriptions(self) -> list[str]:
        """One text an entity, by id: what is known of a film or a genre, empty for others."""
        return read_parquet(self.folder / "descriptions.parquet")["text"]

    @cached_property
    def reviews(self) -> ReviewStore:
        """Top-rated reviews of films."""
        return ReviewStore.load(self.folder / "reviews.parquet")

    def utterances(self, split: Split) -> list[tuple[str, tuple[int, ...]]]:
        """Utterances with their emotion ids, to train or measure the emotion classifier."""
        table = read_parquet(self.folder / "utterances.parquet")
        rows = zip(table["split"], table["text"], table["labels"], strict=True)
        return [(text, tuple(ids)) for part, text, ids in rows if part == split]


def prepare(config: Config, *, force: bool = False, console: Console | None = None) -> PreparedCorpus:
    """Makes the prepared folder of a config, or finds it complete for the same inputs.

    Args:
      config: its `corpus` says what is read.
      force: make it again even if it is complete.
      console: where progress is told.

    Raises:
      CorpusError: malformed lines, all of them (unless `corpus.skip_bad`).
      ValueError: a missing or malformed input file, or the folder is a base's and has another corpus.
    """
    console = console or Console()
    folder, corpus = config.prepared_folder, config.corpus
    inputs = _inputs(corpus)
    wanted = {"corpus": config.as_json()["corpus"], "inputs": inputs}
    if (folder / "manifest.json").is_file():
        found = PreparedCorpus.open(folder)
        same = {key: found.manifest[key] for key in wanted} == wanted
        if same and not force:
            console.print(f"{folder} is complete for these inputs; --force prepares it again")
            return found
        if not same and config.base is not None:
            raise ValueError(
                f"{folder} is the corpus of {config.base!r}, prepared from other inputs or settings: prepare "
                f"{config.base!r} again, or give this experiment a corpus of its own (base=None)"
            )
    started = time.monotonic()
    with replacing(folder) as temporary:
        temporary.mkdir()
        counts = _write(temporary, corpus, console)
        seconds = time.monotonic() - started
        write_json(temporary / "cost.json", {"seconds": seconds, "peak_memory_mb": peak_memory_mb()})
        write_json(temporary / "manifest.json", {**wanted, "counts": counts})
    console.print(f"prepared {folder}: {counts['conversations']} conversations, {counts['mentions']} mentions")
    return PreparedCorpus.open(folder)


def _inputs(corpus: CorpusConfig) -> dict[str, str]:
    """sha256 of every file that is read, by its path as configured."""
    if corpus.name == "films":
        files = {"wikidata-films": hub.resolve("wikidata-films")}
    else:
        files = {}
        for name in ("train", "valid", "test", "graph", "movies", "reviews", "goemotions"):
            path = corpus.path(name)
            if path is None:
                continue
            if not path.exists():
                raise ValueError(f"corpus.{name}: {path} does not exist; data/README.md says what is expected where")
            found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            files |= {str(Path(getattr(corpus, name)) / p.relative_to(path)): p for p in found}
        if corpus.graph is None:
            files["wikidata-films"] = hub.resolve("wikidata-films")
    return {name: _sha256(path) for name, path in files.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(folder: Path, corpus: CorpusConfig, console: Console) -> dict:
    movies: dict[str, redial.Movie] = {}
    bad: list[BadLine] = []
    counts: Counter[str] = Counter()
    if corpus.name == "films":
        made = films.generate(
            hub.resolve("wikidata-films"), seed=corpus.seed, dialogues=corpus.dialogues, reviews=corpus.film_reviews
        )
        conversations = list(made.conversations)
        graph = graphs.from_wikidata(hub.resolve("wikidata-films"), made.items)
    else:
        if corpus.movies is not None:
            movies, refused = redial.read_movies(corpus.path("movies"))
            bad += refused
        # GoRecDial's film ids are its own, so its films are looked up by title.
        uris = redial.title_uris(movies) if corpus.name == "gorecdial" else redial.movie_uris(movies)
        conversations = []
        for split in Split:
            if corpus.path(split.value) is None:
                continue
            reading = _READERS[corpus.name](corpus.path(split.value), split, uris)
            conversations += reading.conversations
            bad += reading.bad
            counts.update({f"{split}_{name}": number for name, number in reading.counts.items()})
        if corpus.valid is None:
            training = redial.split_train((c for c in conversations if c.split == Split.TRAIN), corpus.valid_share)
            conversations = training + [c for c in conversations if c.split == Split.TEST]
        if bad and not corpus.skip_bad:
            raise CorpusError(bad)
        graph = _graph(corpus)
    repeated = [name for name, number in Counter(c.id for c in conversations).items() if number > 1]
    if repeated:
        raise ValueError(f"conversation ids in more than one split: {', '.join(repeated[:10])}; give each its own")
    write_jsonl(folder / "rejected.jsonl", [dataclasses.asdict(line) for line in bad])

    linker = EntityLinker(graph)
    marked = any(m.film for c in conversations for t in c.turns for m in t.mentions)
    linked = [
        link_conversation(conversation, graph, linker, targets=not marked)
        for conversation in track(conversations, description="link", console=console)
    ]
    write_conversations(folder / "conversations.parquet", linked)
    graph.save(folder)
    texts = describe(graph, movies, corpus.description_facts)
    write_parquet(folder / "descriptions.parquet", {"text": texts}, {"text": "string"})

    if corpus.name == "films":
        reviews = ReviewStore.from_films(made.reviews, graph)
    elif corpus.reviews is not None:
        titles = {graph.title(int(item)): graph.uris[item] for item in graph.items} | redial.title_uris(movies)
        reviews = ReviewStore.from_ecr(corpus.path("reviews"), titles)
    else:
        reviews = ReviewStore(())
    reviews.save(folder / "reviews.parquet")
    _write_utterances(folder / "utterances.parquet", corpus, linked)
    return {
        **_counts(linked),
        **counts,
        "rejected": len(bad),
        "entities": len(graph.uris),
        "items": len(graph.items),
        "triples": len(graph.triples),
        "reviews": len(reviews),
    }


def _graph(corpus: CorpusConfig) -> KnowledgeGraph:
    path = corpus.path("graph")
    if path is None:
        return graphs.from_wikidata(hub.resolve("wikidata-films"))
    if path.is_dir():
        return graphs.from_unicrs(path, corpus.path("movies"))
    return graphs.from_turtle(path)


def link_conversation(
    conversation: Conversation, graph: KnowledgeGraph, linker: EntityLinker, *, targets: bool
) -> Conversation:
    """Links a conversation's text, turn by turn; see `link_turn`."""
    known: list[int] = []
    turns = []
    for turn in conversation.turns:
        found = link_turn(turn, graph, linker, known, targets=targets)
        turns.append(dataclasses.replace(turn, mentions=found))
        known += [graph.ids[mention.entity] for mention in found if mention.entity is not None]
    return dataclasses.replace(conversation, turns=tuple(turns))


def link_turn(
    turn: Turn, graph: KnowledgeGraph, linker: EntityLinker, known: Sequence[int], *, targets: bool
) -> tuple[Mention, ...]:
    """The linked mentions of a turn: those the corpus marks keep their place, others are added around them.

    A film that the corpus marks is a possible target; one that is only found in the text is context, unless the corpus
    marks none (`targets`).

    Args:
      turn: as read.
      graph: where URIs are known.
      linker: for what the corpus does not mark or could not link.
      known: entities mentioned before, which settle ambiguous names.
      targets: whether films found in the text get a feedback (`unsaid`) and so count as recommended.
    """
    kept = []
    for mention in turn.mentions:
        entity = mention.entity if mention.entity in graph.ids else None
        if entity is None and mention.film:
            # A whole title, year and all: a link of a part of it is another film.
            whole = [x.entity for x in linker.link(mention.name, known) if x.end - x.start == len(mention.name)]
            entity = graph.uris[whole[0]] if whole and graph.kinds[whole[0]] == "film" else None
        feedback = (mention.feedback or Feedback.UNSAID) if mention.film else None
        kept.append(dataclasses.replace(mention, entity=entity, feedback=feedback))
    for found in linker.link(turn.text, known):
        if any(found.start < m.end and m.start < found.end for m in turn.mentions):
            continue
        film = bool(graph.kinds[found.entity] == "film")
        feedback = Feedback.UNSAID if film and targets else None
        name = turn.text[found.start : found.end]
        kept.append(Mention(found.start, found.end, name, film, graph.uris[found.entity], feedback))
    return tuple(sorted(kept, key=lambda mention: mention.start))


def describe(graph: KnowledgeGraph, movies: Mapping[str, redial.Movie], facts_of_a_kind: int) -> list[str]:
    """One text an entity for the text encoder: a film's title, facts and plot; a genre's name; else nothing."""
    facts: dict[int, dict[str, list[int]]] = {}
    for head, relation, tail in graph.triples:
        facts.setdefault(int(head), {}).setdefault(graph.relations[relation], []).append(int(tail))
    plots = {movie.dbpedia: movie for movie in movies.values() if movie.dbpedia}
    texts = []
    for entity, (uri, name, kind) in enumerate(zip(graph.uris, graph.names, graph.kinds, strict=True)):
        if kind != "film":
            texts.append(f"{name}, a genre" if kind == "genre" else "")
            continue
        pieces = [graph.title(entity)]
        movie = plots.get(uri)
        if movie is not None and movie.genre:
            pieces.append(" ".join(movie.genre))
        for relation, tails in facts.get(entity, {}).items():
            plain = relation.rstrip(">").rsplit("/", 1)[-1]
            if plain in _FACTS:
                pieces.append(f"{plain} {', '.join(graph.names[tail] for tail in tails[:facts_of_a_kind])}")
        if movie is not None and movie.plot:
            pieces.append(movie.plot)
        texts.append(". ".join(pieces))
    return texts


def _write_utterances(path: Path, corpus: CorpusConfig, conversations: Iterable[Conversation]) -> None:
    if corpus.goemotions is not None:
        rows = [
            {"split": split.value, "text": text, "labels": list(found)}
            for split in Split
            for text, found in goemotions.read(corpus.path("goemotions"), split)
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
