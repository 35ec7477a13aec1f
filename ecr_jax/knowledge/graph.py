"""The knowledge graph as arrays: entities (films, people, genres, ...) and the triples that connect them.

An entity's id is its index in the sorted list of URIs, so that ids do not depend on the order of the input. There are
readers for the DBpedia export of UniCRS, the Wikidata film table and Turtle files; each returns a `KnowledgeGraph`.
"""

from __future__ import annotations

import re
import sqlite3
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np

from ecr_jax.data.parsing import numbered_lines, parse_json
from ecr_jax.data.schema import FieldError
from ecr_jax.files import read_parquet, replacing, write_parquet
from ecr_jax.knowledge.naming import alias_forms, canonical_name, genre_forms, normalise, split_year, title_forms

SELF_LOOP = "self_loop"
"""The relation of an entity to itself; always the last of `KnowledgeGraph.relations`, never one of the triples."""

REVIEW_RELATIONS = ("starring", "writer", "productionCompany", "director", "musicComposer")
"""Relations whose triples are knowledge about a film for an emotional response (ECR 3.4)."""

_PERSON = (
    "starring", "director", "writer", "producer", "executiveProducer", "musicComposer", "composer", "cinematography",
    "editing", "editor", "narrator", "author", "person",
)  # fmt: skip
_KIND_OF_TAIL = {
    **dict.fromkeys(_PERSON, "person"),
    **dict.fromkeys(("productionCompany", "distributor", "company", "network"), "company"),
    **dict.fromkeys(("subsequentWork", "previousWork"), "work"),
    "genre": "genre",
    "language": "language",
    "country": "country",
    "location": "place",
}
_WORK_HEADS = frozenset(
    ("starring", "director", "cinematography", "editing", "musicComposer", "writer", "distributor", "producer",
     "productionCompany", "narrator", "network", "subsequentWork", "previousWork")
)  # fmt: skip
# Of kinds with equally many votes, the earlier one counts.
_KIND_PRIORITY = ("person", "genre", "language", "country", "company", "work", "place", "other")


class GraphError(ValueError):
    """Graph files that are inconsistent or not of the format; the message names the file, the fault and the remedy."""


class Alias(NamedTuple):
    """A spelling of an entity's name. `year` is the release year of a film (0 where it is unknown)."""

    text: str
    entity: int
    year: int = 0


@dataclass(frozen=True, eq=False)
class KnowledgeGraph:
    """Entities, relations and triples.

    Attributes:
      uris: [N] URIs in sorted order; an entity's id is its index.
      names: [N] readable names, without disambiguation.
      kinds: [N] "film", "person", "genre", "language", "country", "company", "work", "place" or "other".
      years: int32 [N] release year, 0 where it is unknown.
      items: int32 [I] sorted ids of the films that can be recommended.
      relations: [R] short names; the last is `SELF_LOOP`.
      triples: int32 [E, 3] sorted (head, relation, tail), without self-loops of `SELF_LOOP`.
      loops: int32 [S] sorted ids of the entities that have a `SELF_LOOP` edge.
      aliases: spellings of the entities' names, sorted.
    """

    uris: tuple[str, ...]
    names: tuple[str, ...]
    kinds: np.ndarray
    years: np.ndarray
    items: np.ndarray
    relations: tuple[str, ...]
    triples: np.ndarray
    loops: np.ndarray
    aliases: tuple[Alias, ...]

    def __len__(self) -> int:
        return len(self.uris)

    @property
    def pad(self) -> int:
        """The pad id, which stands for no entity: one past the last id."""
        return len(self.uris)

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """URI -> id."""
        return {uri: i for i, uri in enumerate(self.uris)}

    def id(self, uri: str) -> int:
        """The id of a URI. Raises KeyError, naming the URI, where the graph does not have it."""
        if uri not in self.ids:
            raise KeyError(f"no entity {uri!r} in this graph of {len(self)} entities")
        return self.ids[uri]

    def title(self, entity: int) -> str:
        """The name, followed by the year where it is known, e.g. "Heat (1995)"."""
        year = int(self.years[entity])
        return f"{self.names[entity]} ({year})" if year else self.names[entity]

    @cached_property
    def degrees(self) -> np.ndarray:
        """How many triples each entity is in, int64 [N]."""
        ends = np.concatenate([self.triples[:, 0], self.triples[:, 2]])
        return np.bincount(ends, minlength=len(self))

    @cached_property
    def _rows_by_entity(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of `triples` grouped by their entities: offsets [N + 1] and rows [2 E]."""
        ends = np.concatenate([self.triples[:, 0], self.triples[:, 2]])
        order = np.argsort(ends, kind="stable")
        return np.concatenate([[0], np.cumsum(self.degrees)]), order % max(len(self.triples), 1)

    def triples_of(self, entity: int, relations: Iterable[str] | None = None) -> np.ndarray:
        """The triples that an entity is head or tail of.

        Args:
          entity: its id.
          relations: short names to select; all where None. Names that this graph does not have are ignored, because
            graphs differ in their relations.

        Returns:
          int32 [K, 3] rows of `triples`, in their order.
        """
        offsets, rows = self._rows_by_entity
        triples = self.triples[np.unique(rows[offsets[entity] : offsets[entity + 1]])]
        if relations is None:
            return triples
        selected = [i for i, name in enumerate(self.relations) if name in set(relations)]
        return triples[np.isin(triples[:, 1], selected)]

    def neighbours(self, entity: int, relations: Iterable[str] | None = None) -> np.ndarray:
        """Sorted ids one hop away (in either direction), int32 [K], without the entity itself."""
        ends = np.unique(self.triples_of(entity, relations)[:, [0, 2]])
        return ends[ends != entity]

    def message_edges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Edges for message passing: every triple in both directions with one relation id, and the self-loops.

        Returns:
          senders, receivers, types: int32 [M] each, without duplicates, sorted by receiver, then type, then sender.

        Reference: UniCRS `dataset_dbpedia.py` (its counts on the ReDial export are reproduced exactly).
        """
        head, relation, tail = self.triples.T
        loop = np.full_like(self.loops, len(self.relations) - 1)
        edges = np.concatenate(
            [
                np.stack([tail, relation, head], axis=1),
                np.stack([head, relation, tail], axis=1),
                np.stack([self.loops, loop, self.loops], axis=1),
            ]
        )
        receivers, types, senders = np.unique(edges, axis=0).astype(np.int32).T
        return senders.copy(), receivers.copy(), types.copy()

    def save(self, folder: Path) -> None:
        """Writes graph.npz, entities.parquet and aliases.parquet into `folder`."""
        folder = Path(folder)
        with replacing(folder / "graph.npz") as temporary:
            np.savez_compressed(
                temporary, items=self.items, triples=self.triples, loops=self.loops, relations=np.array(self.relations)
            )
        write_parquet(
            folder / "entities.parquet",
            {
                "id": range(len(self)),
                "uri": self.uris,
                "name": self.names,
                "kind": self.kinds.tolist(),
                "year": self.years.tolist(),
            },
            {"id": "uint32", "uri": "string", "name": "string", "kind": "string", "year": "int32"},
        )
        write_parquet(
            folder / "aliases.parquet",
            {
                "alias": [alias.text for alias in self.aliases],
                "entity": [alias.entity for alias in self.aliases],
                "year": [alias.year for alias in self.aliases],
            },
            {"alias": "string", "entity": "int32", "year": "int32"},
        )


def load(folder: Path) -> KnowledgeGraph:
    """Reads what `KnowledgeGraph.save` wrote.

    Raises:
      GraphError: a file is missing.
    """
    folder = Path(folder)
    for name in ("graph.npz", "entities.parquet", "aliases.parquet"):
        if not (folder / name).is_file():
            raise GraphError(f"{folder / name} is missing; prepare the corpus again to write the graph")
    entities, aliases = (read_parquet(folder / f"{name}.parquet") for name in ("entities", "aliases"))
    if entities["id"] != list(range(len(entities["id"]))):
        raise GraphError(f"{folder / 'entities.parquet'}: the ids are not 0, 1, ... in order; prepare the corpus again")
    with np.load(folder / "graph.npz") as arrays:
        return KnowledgeGraph(
            uris=tuple(entities["uri"]),
            names=tuple(entities["name"]),
            kinds=np.array(entities["kind"], dtype=str),
            years=np.array(entities["year"], np.int32),
            items=arrays["items"],
            relations=tuple(arrays["relations"].tolist()),
            triples=arrays["triples"],
            loops=arrays["loops"],
            aliases=tuple(map(Alias, aliases["alias"], aliases["entity"], aliases["year"])),
        )


def build(
    triples: Iterable[tuple[str, str, str]],
    items: Iterable[str],
    entities: Iterable[str] = (),
    loops: Iterable[str] | None = None,
    relations: Iterable[str] = (),
    films: Iterable[str] = (),
    titles: Iterable[tuple[str, str]] = (),
    kinds: Mapping[str, str] | None = None,
) -> KnowledgeGraph:
    """Builds a graph from named triples; the result does not depend on the order of any argument but `titles`.

    Args:
      triples: (head URI, relation's short name, tail URI); duplicates count once.
      items: URIs that can be recommended.
      entities: URIs of further entities, which are in no triple.
      loops: URIs with a self-loop edge; where None, every entity that is in a triple.
      relations: further relations, which have no triple.
      films: URIs of films that are not items.
      titles: (URI, title, e.g. "Heat (1995)") as a corpus writes them; the first title of a URI becomes its name.
      kinds: URI -> kind where it is known; the others are inferred from the relations.

    Returns:
      The graph.
    """
    triples, items = set(triples), set(items)
    connected = {end for head, _, tail in triples for end in (head, tail)}
    loops = connected if loops is None else set(loops)
    uris = sorted(connected | items | loops | set(entities) | set(films) | set(kinds or ()))
    ids = {uri: i for i, uri in enumerate(uris)}
    relation_names = sorted({relation for _, relation, _ in triples}.union(relations) - {SELF_LOOP})
    relation_ids = {relation: i for i, relation in enumerate(relation_names)}

    genre_like = {uri for uri in uris if genre_forms(uri)}
    film_like = {uri for uri in uris if _FILM.search(uri)}
    kind_of = {
        **_kinds_by_relation(triples),
        **dict.fromkeys(genre_like - items, "genre"),
        **dict.fromkeys(film_like | items | set(films), "film"),
        **(kinds or {}),
    }
    known: dict[str, list[tuple[str, int]]] = {}
    for uri, title in titles:
        if uri in ids:
            known.setdefault(uri, []).append(split_year(title))
    names, years, aliases = [], [], set()
    for entity, uri in enumerate(uris):
        own, year = canonical_name(uri), _year_of(uri)
        spellings = [*known.get(uri, ()), (own, year)]
        names.append(spellings[0][0])
        years.append(next((year for _, year in spellings if year), 0))
        if kind_of.get(uri) in ("film", "work"):
            aliases |= {
                Alias(form, entity, year or years[-1]) for text, year in spellings for form in title_forms(text)
            }
        else:
            forms = genre_forms(uri) or alias_forms(own, kind_of.get(uri, "other"))
            aliases |= {Alias(form, entity) for form in forms}
    aliases |= _surnames(ids, names, kind_of, triples, {alias.text for alias in aliases})
    return KnowledgeGraph(
        uris=tuple(uris),
        names=tuple(names),
        kinds=np.array([kind_of.get(uri, "other") for uri in uris], dtype=str),
        years=np.array(years, np.int32),
        items=np.array(sorted(ids[uri] for uri in items), np.int32),
        relations=(*relation_names, SELF_LOOP),
        triples=np.array(
            sorted((ids[head], relation_ids[relation], ids[tail]) for head, relation, tail in triples), np.int32
        ).reshape(-1, 3),
        loops=np.array(sorted(ids[uri] for uri in loops), np.int32),
        aliases=tuple(sorted(aliases)),
    )


_FAMOUS = 20
"""A person in at least this many triples is known by the surname alone."""


def _surnames(
    ids: Mapping[str, int],
    names: Sequence[str],
    kinds: Mapping[str, str],
    triples: Iterable[tuple[str, str, str]],
    taken: set[str],
) -> set[Alias]:
    """Surnames of famous people ("Tarantino") that no other well-known person has and that are not another name."""
    degrees = Counter(end for head, _, tail in triples for end in (head, tail))
    bearers: dict[str, list[str]] = {}
    for uri in ids:
        parts = normalise(names[ids[uri]]).split()
        if kinds.get(uri) == "person" and len(parts) > 1 and degrees[uri] * 4 >= _FAMOUS:
            bearers.setdefault(parts[-1], []).append(uri)
    return {
        Alias(surname, ids[people[0]])
        for surname, people in bearers.items()
        if len(people) == 1 and degrees[people[0]] >= _FAMOUS and len(surname) >= 6 and surname not in taken
    }


_FILM = re.compile(r"film\)>?$")
_URI_YEAR = re.compile(r"\((\d{4})[_ ][^()]*\)>?$")


def _year_of(uri: str) -> int:
    match = _URI_YEAR.search(uri)
    return int(match[1]) if match else 0


def _kinds_by_relation(triples: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """URI -> the kind that most of its triples indicate; ties are resolved by `_KIND_PRIORITY`."""
    votes: dict[str, Counter[str]] = {}
    for head, relation, tail in triples:
        if relation in _KIND_OF_TAIL:
            votes.setdefault(tail, Counter())[_KIND_OF_TAIL[relation]] += 1
        if relation in _WORK_HEADS:
            votes.setdefault(head, Counter())["work"] += 1
    return {
        uri: min(count, key=lambda kind: (-count[kind], _KIND_PRIORITY.index(kind))) for uri, count in votes.items()
    }


def read_unicrs_ids(folder: Path) -> dict[int, str]:
    """The export's own ids: id -> URI, for reading other files that were written with them.

    Args:
      folder: holds entity2id.json.

    Raises:
      GraphError: the file is missing or its ids are not 0..N-1.
    """
    path = Path(folder) / "entity2id.json"
    return {number: uri for uri, number in _numbering(path).items()}


def from_unicrs(folder: Path, movies: Path | None = None) -> KnowledgeGraph:
    """Reads UniCRS's DBpedia export: entity2id.json, relation2id.json, dbpedia_subkg.json and item_ids.json.

    Args:
      folder: where the four files are.
      movies: JSON lines with `name` ("Heat (1995)") and `dbpedia` (URI or null), for titles and years.

    Returns:
      The graph with new ids, by sorted URI (the export's ids change from run to run; `read_unicrs_ids` reads them).

    Raises:
      GraphError: a file is missing, not JSON, or contains an id that the others do not have.

    Reference: UniCRS's `extract_subkg.py`, which writes this export.
    """
    folder = Path(folder)
    uris = read_unicrs_ids(folder)
    relations = {number: _tail(name) for name, number in _numbering(folder / "relation2id.json").items()}
    if SELF_LOOP not in relations.values():
        raise GraphError(f"{folder / 'relation2id.json'}: no relation {SELF_LOOP!r}; is this a UniCRS export?")
    path = folder / "dbpedia_subkg.json"

    def name_of(number: object, table: Mapping[int, str], what: str, file: Path) -> str:
        if not isinstance(number, int) or number not in table:
            raise GraphError(f"{file}: {what} id {number!r} is out of range 0..{len(table) - 1}; mixed exports?")
        return table[number]

    triples, loops = set(), set()
    for key, edges in _json(path, dict).items():
        head = name_of(int(key) if key.isdecimal() else key, uris, "head", path)
        for edge in edges:
            if not isinstance(edge, list) or len(edge) != 2:
                raise GraphError(f"{path}: head {key}: {edge!r} is not [relation id, tail id]")
            relation, tail = name_of(edge[0], relations, "relation", path), name_of(edge[1], uris, "tail", path)
            if relation == SELF_LOOP and head == tail:
                loops.add(head)
            elif relation == SELF_LOOP:
                raise GraphError(f"{path}: head {key}: {SELF_LOOP} leads to another entity, {edge[1]}")
            else:
                triples.add((head, relation, tail))
    path = folder / "item_ids.json"
    items = [name_of(number, uris, "item", path) for number in _json(path, list)]
    titles = _read_titles(movies) if movies is not None else []
    return build(
        triples,
        items,
        entities=uris.values(),
        loops=loops,
        relations=relations.values(),
        films={uri for uri, _ in titles} & set(uris.values()),
        titles=titles,
    )


def from_crslab(folder: Path) -> KnowledgeGraph:
    """Reads CRSLab's export of CN-DBpedia: entity2id.json, movie_ids.json and cn-dbpedia.txt.

    A URI is an entity's name. What stands in brackets behind a film's name is taken off its title; four digits of it
    are the year.

    Args:
      folder: where the three files are. A line of cn-dbpedia.txt has head, relation and tail, tabs between them. Some
        films share a name, so movie_ids.json has ids that no name has, which are left out.

    Raises:
      GraphError: a file is missing or not of the format, or a triple has a name that entity2id.json does not have.

    Reference: CRSLab's `tgredial.py`, which reads this export.
    """
    folder = Path(folder)
    names: Mapping[str, int] = _json(folder / "entity2id.json", dict)
    of_number = {number: name for name, number in names.items()}
    films = [of_number[number] for number in _json(folder / "movie_ids.json", list) if number in of_number]
    path, triples = folder / "cn-dbpedia.txt", set()
    if not path.is_file():
        raise GraphError(f"{path} is missing; CRSLab's export has entity2id.json, movie_ids.json and cn-dbpedia.txt")
    for number, line in numbered_lines(path):
        parts = line.decode("utf-8", errors="replace").split("\t")
        if len(parts) != 3 or not {parts[0], parts[2]} <= names.keys():
            raise GraphError(f"{path}:{number}: not a head, a relation and a tail of entity2id.json: {parts}")
        triples.add(tuple(parts))
    return build(triples, films, entities=names, titles=[(name, _chinese_title(name)) for name in films])


_FULL_WIDTH = re.compile(r"\s*[(（]([^()（）]*)[)）]\s*$")


def _chinese_title(name: str) -> str:
    """A film's name with its year alone in brackets."""
    match = _FULL_WIDTH.search(name)
    bare, year = (name[: match.start()], re.search(r"\d{4}", match[1])) if match else (name, None)
    return f"{bare} ({year[0]})" if bare and year else bare or name


def _tail(uri: str) -> str:
    return unquote(uri.strip("<>").rsplit("/", 1)[-1].rsplit("#", 1)[-1])


def _json(path: Path, kind: type) -> Any:
    if not path.is_file():
        raise GraphError(f"{path} is missing; is this the folder of an export of the graph?")
    try:
        value = parse_json(path.read_bytes().removeprefix(BOM_UTF8))
    except FieldError as error:
        raise GraphError(f"{path}: {error}") from error
    if not isinstance(value, kind):
        raise GraphError(f"{path}: a JSON {type(value).__name__}; expected a {kind.__name__}")
    return value


def _numbering(path: Path) -> dict[str, int]:
    """name -> id; the ids are checked to be exactly 0..N-1."""
    table = _json(path, dict)
    if not all(type(number) is int for number in table.values()) or sorted(table.values()) != list(range(len(table))):
        raise GraphError(f"{path}: the ids of its {len(table)} names are not 0..{len(table) - 1}, each once")
    return table


def _read_titles(path: Path) -> list[tuple[str, str]]:
    """(URI, title) of every film that has a URI; published links before those that were only matched by title."""
    if not Path(path).is_file():
        raise GraphError(f"{path} is missing; pass movies=None to read the graph without titles and years")
    rows = []
    for number, line in numbered_lines(path):
        try:
            row = parse_json(line)
            name, uri = row["name"], row["dbpedia"]
        except (FieldError, KeyError, TypeError) as error:
            raise GraphError(f"{path}:{number}: not an object with `name` and `dbpedia`: {error!r}") from error
        if uri:
            rows.append((row.get("link", "published") != "published", uri, name))
    return [(uri, name) for _, uri, name in sorted(rows)]


_COLUMNS = {"Director": "director", "Writer": "writer", "Cast": "starring", "Genre": "genre", "Language": "language",
            "Country": "country", "Production": "company"}  # fmt: skip
_SCHEME = {"director": "person", "writer": "person", "starring": "person", "genre": "genre", "language": "language",
           "country": "country", "company": "company"}  # fmt: skip


def wikidata_films(db: Path) -> set[str]:
    """The URIs of the films in the Wikidata film table, see `from_wikidata`.

    Raises:
      GraphError: the file is missing or not such a table.
    """
    return {f"imdb:{imdb}" for (imdb,) in _query(db, "SELECT imdbID FROM omdb")}


def _query(db: Path, query: str) -> list[tuple]:
    """The rows of a query on the Wikidata film table."""
    db = Path(db)
    if not db.is_file():
        raise GraphError(f"{db} is missing; `ecr_jax.pretrained.hub.resolve('wikidata-films')` fetches the film table")
    connection = sqlite3.connect(f"{db.resolve().as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    except sqlite3.DatabaseError as error:
        raise GraphError(f"{db}: not the Wikidata film table ({error})") from error
    finally:
        connection.close()


def from_wikidata(db: Path, items: Sequence[str] | None = None) -> KnowledgeGraph:
    """Reads the Wikidata film table (SQLite tables `omdb` and `tomatoes`, joined by ID).

    URIs are "imdb:tt0113277" for films, and "person:...", "genre:...", "language:...", "country:...", "company:..."
    followed by the name. Of two rows with the same imdbID, the one with the lower ID counts.

    Args:
      db: the SQLite file.
      items: URIs of the films to read, with their neighbouring entities; all films where None.

    Returns:
      The graph.

    Raises:
      GraphError: the file is missing or not such a table, or an item is not in it.
    """
    rows = _query(
        db,
        f"""SELECT imdbID, Title, Year, {", ".join(f'"{c}"' for c in _COLUMNS)}
                          FROM omdb LEFT JOIN tomatoes USING (ID) ORDER BY ID""",
    )
    films: dict[str, tuple[str, list[tuple[str, str, str]]]] = {}
    for imdb, title, year, *cells in rows:
        film = f"imdb:{imdb}"
        if film in films:
            continue
        title = _collapse(title)
        films[film] = (
            f"{title} ({year})" if year else title,
            [
                (film, relation, f"{_SCHEME[relation]}:{name}")
                for relation, cell in zip(_COLUMNS.values(), cells, strict=True)
                for name in map(_collapse, (cell or "").split(","))
                if name
            ],
        )
    selected = list(films) if items is None else list(items)
    unknown = sorted(set(selected) - set(films))
    if unknown:
        raise GraphError(f"{db}: no film {unknown[0]!r} ({len(unknown)} of {len(selected)} items are not in the table)")
    triples = [triple for film in selected for triple in films[film][1]]
    return build(
        triples,
        selected,
        loops={end for head, _, tail in triples for end in (head, tail)} | set(selected),
        relations=_COLUMNS.values(),
        titles=[(film, films[film][0]) for film in selected],
        kinds={tail: tail.split(":", 1)[0] for _, _, tail in triples},
    )


def _collapse(text: str) -> str:
    return " ".join(text.split())


def from_turtle(path: Path, items: Sequence[str] | None = None) -> KnowledgeGraph:
    """Reads DBpedia-style Turtle or N-Triples: entities connected by the relations of an ontology.

    It reads triples of two IRIs whose relation's IRI contains "/ontology/". An `rdf:type` of ".../ontology/Film" makes
    an entity an item, `rdfs:label` in English (or without a language) is its name, and ".../releaseDate" or
    ".../releaseYear" its year.

    Args:
      path: a .ttl or .nt file.
      items: URIs "<...>" of the items; where None, whatever the file types as a Film.

    Returns:
      The graph; URIs have angle brackets, as in the UniCRS export.

    Raises:
      GraphError: the file is missing or not Turtle.
      ImportError: pyoxigraph is not installed.
    """
    try:
        import pyoxigraph
    except ImportError as error:
        raise ImportError("reading Turtle needs the package pyoxigraph: pip install pyoxigraph") from error
    path = Path(path)
    if not path.is_file():
        raise GraphError(f"{path} is missing")
    triples, typed, labels, years = set(), set(), {}, {}
    try:
        for quad in pyoxigraph.parse(path=str(path), format=pyoxigraph.RdfFormat.TURTLE):
            head, relation = str(quad.subject), quad.predicate.value
            if isinstance(quad.object, pyoxigraph.Literal):
                if relation.endswith("#label") and quad.object.language in (None, "en"):
                    labels.setdefault(head, quad.object.value)
                elif _tail(relation) in ("releaseDate", "releaseYear"):
                    years.setdefault(head, quad.object.value[:4])
            elif relation.endswith("#type"):
                if quad.object.value.endswith("/ontology/Film"):
                    typed.add(head)
            elif isinstance(quad.object, pyoxigraph.NamedNode) and "/ontology/" in relation:
                triples.add((head, _tail(relation), str(quad.object)))
    except SyntaxError as error:
        raise GraphError(f"{path}: not Turtle: {error}") from error
    titles = [
        (uri, f"{name} ({years[uri]})" if uri in years else name)
        for uri in sorted(labels.keys() | years.keys())
        if (name := canonical_name(labels.get(uri, uri)))
    ]
    return build(triples, typed if items is None else items, films=typed, titles=titles)
