"""The graph's readers, its arrays and its files."""

import json
import random
import sqlite3

import numpy as np
import pytest

from ecr_jax.knowledge import graph
from ecr_jax.knowledge.graph import Alias, GraphError

R = "<http://dbpedia.org/resource/{}>"
O = "<http://dbpedia.org/ontology/{}>"  # noqa: E741


def write_export(folder, order=(0, 1, 2, 3, 4), edges=None, items=None):
    """Two films, their director, an actor who is in both, and an entity that nothing touches."""
    names = ["Heat_(1995_film)", "Ronin_(film)", "Michael_Mann", "Robert_De_Niro", "Lonely_Thing"]
    ids = {names[place]: number for number, place in enumerate(order)}
    heat, ronin, mann, niro = (ids[name] for name in names[:4])
    folder.mkdir(parents=True, exist_ok=True)
    if edges is None:
        edges = {heat: [[2, heat], [0, niro], [1, mann]], ronin: [[2, ronin], [0, niro]], niro: [[2, niro]]}
    (folder / "entity2id.json").write_text(json.dumps({R.format(name): ids[name] for name in names}))
    relations = {O.format("starring"): 0, O.format("director"): 1, "self_loop": 2}
    (folder / "relation2id.json").write_text(json.dumps(relations))
    (folder / "dbpedia_subkg.json").write_text(json.dumps({str(head): row for head, row in edges.items()}))
    (folder / "item_ids.json").write_text(json.dumps([heat, ronin] if items is None else items))
    return folder


def same(left, right):
    arrays = ("kinds", "years", "items", "triples", "loops")
    fields = ("uris", "names", "relations", "aliases")
    return all(np.array_equal(getattr(left, a), getattr(right, a)) for a in arrays) and all(
        getattr(left, f) == getattr(right, f) for f in fields
    )


def test_from_unicrs_by_hand(tmp_path):
    g = graph.from_unicrs(write_export(tmp_path))
    # Sorted URIs: Heat, Lonely, Mann, De Niro, Ronin. Relations: director, starring, self_loop.
    assert g.names == ("Heat", "Lonely Thing", "Michael Mann", "Robert De Niro", "Ronin")
    assert g.kinds.tolist() == ["film", "other", "person", "person", "film"]
    assert g.years.tolist() == [1995, 0, 0, 0, 0] and g.title(0) == "Heat (1995)" and g.title(4) == "Ronin"
    assert g.items.tolist() == [0, 4] and g.pad == 5
    assert g.relations == ("director", "starring", "self_loop")
    assert g.triples.tolist() == [[0, 0, 2], [0, 1, 3], [4, 1, 3]]
    assert g.loops.tolist() == [0, 3, 4]
    assert g.id(R.format("Michael_Mann")) == 2
    assert g.degrees.tolist() == [2, 0, 1, 2, 1]
    with pytest.raises(KeyError, match="Nobody"):
        g.id(R.format("Nobody"))


def test_message_edges_by_hand(tmp_path):
    senders, receivers, types = graph.from_unicrs(write_export(tmp_path)).message_edges()
    edges = list(zip(receivers.tolist(), types.tolist(), senders.tolist(), strict=True))
    assert edges == [(0, 0, 2), (0, 1, 3), (0, 2, 0), (2, 0, 0), (3, 1, 0), (3, 1, 4), (3, 2, 3), (4, 1, 3), (4, 2, 4)]
    assert senders.dtype == receivers.dtype == types.dtype == np.int32


def test_neighbours_and_triples(tmp_path):
    g = graph.from_unicrs(write_export(tmp_path))
    assert g.neighbours(3).tolist() == [0, 4]
    assert g.neighbours(0, ["starring", "writer"]).tolist() == [3]
    assert g.triples_of(0, ["director"]).tolist() == [[0, 0, 2]]
    assert g.neighbours(1).tolist() == [] and g.triples_of(1).shape == (0, 3)


def test_ids_do_not_depend_on_the_exports_order(tmp_path):
    orders = [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)]
    graphs = [graph.from_unicrs(write_export(tmp_path / str(n), order)) for n, order in enumerate(orders)]
    assert same(graphs[0], graphs[1]) and same(graphs[0], graphs[2])
    assert graph.read_unicrs_ids(tmp_path / "1")[0] == R.format("Lonely_Thing")


def test_build_does_not_depend_on_order():
    triples = [(f"film:{n % 7}", "starring", f"person:P{n % 5} Surname{n % 5}") for n in range(30)]
    shuffled = triples[:]
    random.Random(0).shuffle(shuffled)
    assert same(graph.build(triples, ["film:1", "film:2"]), graph.build(shuffled * 2, ["film:2", "film:1"]))


def test_round_trip(tmp_path):
    g = graph.from_unicrs(write_export(tmp_path / "export"))
    g.save(tmp_path / "prepared")
    g.save(tmp_path / "prepared")
    assert same(g, graph.load(tmp_path / "prepared"))
    assert sorted(p.name for p in (tmp_path / "prepared").iterdir()) == [
        "aliases.parquet", "entities.parquet", "graph.npz",
    ]  # fmt: skip
    (tmp_path / "prepared" / "aliases.parquet").unlink()
    with pytest.raises(GraphError, match="aliases.parquet is missing"):
        graph.load(tmp_path / "prepared")


def test_titles_give_names_years_and_aliases(tmp_path):
    movies = tmp_path / "movies.jsonl"
    rows = [
        {"name": "Ronin: The Film (1999)", "dbpedia": R.format("Ronin_(film)"), "link": "title"},
        {"name": "Ronin  (1998)", "dbpedia": R.format("Ronin_(film)"), "link": "published"},
        {"name": "Nowhere (1990)", "dbpedia": None},
        {"name": "Elsewhere (1991)", "dbpedia": R.format("Elsewhere")},
    ]
    movies.write_text("\n".join(map(json.dumps, rows)) + "\n")
    g = graph.from_unicrs(write_export(tmp_path / "kg"), movies)
    assert len(g) == 5 and g.title(4) == "Ronin (1998)"
    assert {Alias("ronin", 4, 1998), Alias("ronin the film", 4, 1999), Alias("heat", 0, 1995)} <= set(g.aliases)
    assert Alias("robert deniro", 3) in g.aliases
    movies.write_text('{"name": "x"}\n')
    with pytest.raises(GraphError, match="movies.jsonl:1"):
        graph.from_unicrs(tmp_path / "kg", movies)
    with pytest.raises(GraphError, match="missing"):
        graph.from_unicrs(tmp_path / "kg", tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "item_ids.json").unlink(), "item_ids.json is missing"),
        (lambda f: (f / "item_ids.json").write_text("[0, 77]"), "item id 77 is out of range 0..4"),
        (lambda f: (f / "item_ids.json").write_text("{}"), "expected a list"),
        (lambda f: (f / "entity2id.json").write_text('{"a": 0, "b": 2}'), "not 0..1"),
        (lambda f: (f / "relation2id.json").write_text('{"a": 0}'), "no relation 'self_loop'"),
        (lambda f: (f / "dbpedia_subkg.json").write_text("{"), "not JSON"),
        (lambda f: (f / "dbpedia_subkg.json").write_text('{"9": []}'), "head id 9"),
        (lambda f: (f / "dbpedia_subkg.json").write_text('{"0": [[8, 1]]}'), "relation id 8"),
        (lambda f: (f / "dbpedia_subkg.json").write_text('{"0": [[1, -1]]}'), "tail id -1"),
        (lambda f: (f / "dbpedia_subkg.json").write_text('{"0": [[1]]}'), r"not \[relation id, tail id\]"),
        (lambda f: (f / "dbpedia_subkg.json").write_text('{"0": [[2, 1]]}'), "leads to another entity"),
    ],
)
def test_bad_exports_say_what_is_wrong(tmp_path, change, message):
    folder = write_export(tmp_path)
    change(folder)
    with pytest.raises(GraphError, match=message):
        graph.from_unicrs(folder)


def film_table(path):
    omdb = [
        (
            1,
            "tt1",
            "The Quiet  Sea",
            2001,
            "Drama, Sci-Fi",
            "Ann  Bee",
            "Ann Bee",
            "Cy Dee, Eff Gee",
            "French",
            "France",
        ),
        (2, "tt2", "Loud Hill", None, "Drama", "", None, "Cy Dee", "English", "Canada"),
        (3, "tt1", "Again", 2003, "War", "X", "X", "X", "X", "X"),
    ]
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE omdb (ID, imdbID, Title, Year, Genre, Director, Writer, [Cast], Language, Country)"
    )
    connection.execute("CREATE TABLE tomatoes (ID, Production)")
    connection.executemany("INSERT INTO omdb VALUES (?,?,?,?,?,?,?,?,?,?)", omdb)
    connection.executemany("INSERT INTO tomatoes VALUES (?,?)", [(1, "Acme Films"), (3, "X")])
    connection.commit()
    connection.close()
    return path


def test_from_wikidata_by_hand(tmp_path):
    g = graph.from_wikidata(film_table(tmp_path / "m.db"))
    assert g.uris == (
        "company:Acme Films", "country:Canada", "country:France", "genre:Drama", "genre:Sci-Fi", "imdb:tt1", "imdb:tt2",
        "language:English", "language:French", "person:Ann Bee", "person:Cy Dee", "person:Eff Gee",
    )  # fmt: skip
    assert [g.title(item) for item in g.items] == ["The Quiet Sea (2001)", "Loud Hill"]
    assert g.relations[-1] == "self_loop" and set(g.relations) >= {"director", "starring", "company"}
    assert len(g.triples) == 9 + 4 and g.kinds[g.id("person:Ann Bee")] == "person"
    assert g.loops.tolist() == list(range(12))
    named = {(g.uris[h], g.relations[r], g.uris[t]) for h, r, t in g.triples.tolist()}
    assert ("imdb:tt1", "director", "person:Ann Bee") in named and ("imdb:tt1", "writer", "person:Ann Bee") in named
    assert {Alias("quiet sea", 5, 2001), Alias("science fiction movies", 4)} <= set(g.aliases)


def test_from_wikidata_restricted_to_items(tmp_path):
    path = film_table(tmp_path / "m.db")
    assert graph.wikidata_films(path) == {"imdb:tt1", "imdb:tt2"}
    g = graph.from_wikidata(path, ["imdb:tt2"])
    assert "person:Ann Bee" not in g.uris and len(g.triples) == 4 and g.items.tolist() == [g.id("imdb:tt2")]
    with pytest.raises(GraphError, match="no film 'imdb:tt9'"):
        graph.from_wikidata(path, ["imdb:tt9"])
    with pytest.raises(GraphError, match="missing"):
        graph.from_wikidata(tmp_path / "none.db")
    (tmp_path / "bad.db").write_text("no database at all, but long enough to be looked at")
    with pytest.raises(GraphError, match="not the Wikidata film table"):
        graph.from_wikidata(tmp_path / "bad.db")


def test_from_turtle(tmp_path):
    pytest.importorskip("pyoxigraph")
    path = tmp_path / "films.ttl"
    path.write_text(
        "@prefix d: <http://dbpedia.org/resource/> .\n@prefix o: <http://dbpedia.org/ontology/> .\n"
        "@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .\n"
        'd:Heat a o:Film ; o:starring d:Al_Pacino ; o:runtime 170 ; rdfs:label "Heat (film)"@en , "Hitze"@de ;'
        ' o:releaseDate "1995-12-15" .\n'
    )
    g = graph.from_turtle(path)
    assert g.names == ("Al Pacino", "Heat") and g.title(1) == "Heat (1995)"
    assert g.triples.tolist() == [[1, 0, 0]] and g.items.tolist() == [1] and g.kinds.tolist() == ["person", "film"]
    path.write_text("this is no turtle")
    with pytest.raises(GraphError, match="not Turtle"):
        graph.from_turtle(path)


@pytest.mark.slow
def test_the_redial_export_has_the_published_counts(real_data):
    g = graph.from_unicrs(real_data / "kg", real_data / "movies.jsonl")
    senders, receivers, types = g.message_edges()
    assert (len(g), len(g.relations), len(g.items)) == (31161, 25, 6281)
    assert len(senders) == 186685 and (types == 24).sum() == len(g.loops) == 24032
    assert (np.diff(receivers) >= 0).all()
    assert {"film", "person", "genre", "company", "language", "country"} <= set(g.kinds.tolist())
    assert g.kinds[g.id(R.format("Robert_De_Niro"))] == "person"
