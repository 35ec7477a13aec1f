"""The linker on a small graph: titles, years, context, misspellings, exact spans."""

import random
import string

import pytest

from ecr_jax.knowledge import graph
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.knowledge.naming import alias_forms, canonical_name, genre_forms, split_year, title_forms

FILMS = {
    "Heat_(1995_film)": "Heat (1995)",
    "Heat_(2006_film)": "Heat (2006)",
    "The_Godfather": "The Godfather (1972)",
    "The_Godfather_Part_II": "The Godfather Part II (1974)",
    "Up_(2009_film)": "Up (2009)",
    "It_(2017_film)": "It (2017)",
    "Amélie": "Amélie (2001)",
    "Spider-Man_(2002_film)": "Spider-Man (2002)",
    "Toy_Story": "Toy Story (1995)",
    "Toy_Story_2": "Toy Story 2 (1999)",
    "Blade_Runner": "Blade Runner (1982)",
    "Inception": "Inception (2010)",
    "Cold_Lake": "Cold Lake",
}
TRIPLES = [
    ("Heat_(1995_film)", "starring", "Al_Pacino"),
    ("The_Godfather", "starring", "Al_Pacino"),
    ("The_Godfather_Part_II", "starring", "Robert_De_Niro"),
    ("Heat_(2006_film)", "starring", "Somebody_Else"),
    ("Heat_(2006_film)", "director", "Somebody_Else"),
    ("Heat_(2006_film)", "starring", "Leonardo_DiCaprio"),
    ("Inception", "starring", "Leonardo_DiCaprio"),
    ("Inception", "genre", "Science_fiction"),
    ("Inception", "genre", "Horror_film"),
    ("Inception", "genre", "Horror_fiction"),
]


def uri(name):
    return f"<http://dbpedia.org/resource/{name}>"


@pytest.fixture(scope="module")
def films():
    return graph.build(
        [(uri(head), relation, uri(tail)) for head, relation, tail in TRIPLES],
        map(uri, FILMS),
        titles=[(uri(name), title) for name, title in FILMS.items()],
    )


@pytest.fixture(scope="module")
def linker(films):
    return EntityLinker(films)


def linked(films, linker, text, context=()):
    """[(what the span covers, the entity's URI tail)]."""
    links = linker.link(text, [films.id(uri(name)) for name in context])
    assert all(a.end <= b.start for a, b in zip(links, links[1:], strict=False))
    return [(text[link.start : link.end], films.uris[link.entity][29:-1]) for link in links]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I saw Heat (1995) twice", [("Heat (1995)", "Heat_(1995_film)")]),
        ("I saw Heat (2006) twice", [("Heat (2006)", "Heat_(2006_film)")]),
        ("i saw heat ( 1996 )", [("heat ( 1996 )", "Heat_(1995_film)")]),
        ("Heat (1951) is another one", []),
        ("Cold Lake (1951) has no year here", [("Cold Lake (1951)", "Cold_Lake")]),
        ("the godfather and the godfather 2", [("the godfather", "The_Godfather"),
                                               ("the godfather 2", "The_Godfather_Part_II")]),
        ("Godfather, or spiderman", [("Godfather", "The_Godfather"), ("spiderman", "Spider-Man_(2002_film)")]),
        ("Toy Story 2!", [("Toy Story 2", "Toy_Story_2")]),
        ("Robert DeNiro's films", [("Robert DeNiro", "Robert_De_Niro")]),
        ("al pacino", [("al pacino", "Al_Pacino")]),
        ("scary movies, sci-fi", [("scary movies", "Horror_film"), ("sci-fi", "Science_fiction")]),
        ('have you seen "up"?', [("up", "Up_(2009_film)")]),
        ("What's up? I'm up for it.", []),
        ("It was good. It was long.", []),
        ("Have you seen It?", [("It", "It_(2017_film)")]),
        ("We turned the heat on", []),
        ("", []),
        ("?! …", []),
    ],
)  # fmt: skip
def test_known_spellings(films, linker, text, expected):
    assert linked(films, linker, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I liked The Godfahter a lot", [("The Godfahter", "The_Godfather")]),
        ("maybe incetpion (2010)?", [("incetpion (2010)", "Inception")]),
        ("with Leonardo Dicapro in it", [("Leonardo Dicapro", "Leonardo_DiCaprio")]),
        ("Toy Story 3 was the best", [("Toy Story", "Toy_Story")]),
        ("I liked Blade Runner 2049 (2017)", []),
        ("I liked Incense", []),
        ("the godfahter in small letters is not looked for", []),
    ],
)
def test_misspellings(films, linker, text, expected):
    assert linked(films, linker, text) == expected


def test_misspellings_score_lower(linker):
    (right,), (wrong,) = linker.link("The Godfather (1972)"), linker.link("The Godfahter (1972)")
    assert right.entity == wrong.entity and right.score == 1.0 and 0.85 <= wrong.score < 1.0


def test_context_settles_what_the_year_leaves_open(films, linker):
    text = "Then watch Heat tonight"
    assert linked(films, linker, text, ["Al_Pacino"]) == [("Heat", "Heat_(1995_film)")]
    assert linked(films, linker, text, ["Inception"]) == [("Heat", "Heat_(2006_film)")]
    # The text itself is context too.
    assert ("Heat", "Heat_(1995_film)") in linked(films, linker, "Al Pacino? Then watch Heat tonight")
    # Without any: the one with most triples, and a score that says that there were two.
    (link,) = linker.link(text)
    assert films.uris[link.entity] == uri("Heat_(2006_film)") and link.score == 0.5
    # The year is stronger than the context.
    assert linked(films, linker, "Heat (2006)", ["Al_Pacino"]) == [("Heat (2006)", "Heat_(2006_film)")]


def test_popularity_goes_before_triples(films):
    popularity = [0.0] * len(films)
    popularity[films.id(uri("Heat_(1995_film)"))] = 3.0
    assert linked(films, EntityLinker(films, popularity), "Then watch Heat") == [("Heat", "Heat_(1995_film)")]
    with pytest.raises(ValueError, match="popularity has 1 values"):
        EntityLinker(films, [1.0])


def test_spans_are_exact_in_unicode_text(films, linker):
    text = "ＡＢＣ 😀 «AMÉLIE (2001)»… l’Amélie… Ame\u0301lie, SPIDER–MAN (2002) ß İstanbul"
    spans = linked(films, linker, text)
    assert ("AMÉLIE (2001)", "Amélie") in spans and ("SPIDER–MAN (2002)", "Spider-Man_(2002_film)") in spans
    for covered, _ in spans:
        assert covered in text


def test_links_never_leave_the_text_nor_overlap(films, linker):
    rng = random.Random(1)
    pieces = [*FILMS.values(), "al pacino", "horror", "(1995)", "“", '"', "😀", "\n", "It", *string.punctuation]
    for _ in range(200):
        text = "".join(rng.choice(pieces) + rng.choice(["", " "]) for _ in range(rng.randrange(12)))
        for link in linker.link(text):
            assert 0 <= link.start < link.end <= len(text) and 0 <= link.entity < len(films) and 0 < link.score <= 1
        linked(films, linker, text)


def test_links_of_texts_side_by_side_are_those_of_each(films, linker):
    texts = ["I saw Heat (1995).", "Then The Godfahter!", "And some sci-fi."]
    apart = [pair for text in texts for pair in linked(films, linker, text)]
    assert linked(films, linker, "\n\n".join(texts)) == apart


def test_a_saved_graph_links_the_same(tmp_path, films, linker):
    films.save(tmp_path)
    text = "Heat (1995), the godfather 2 and Leonardo Dicapro in horror movies"
    assert EntityLinker(graph.load(tmp_path)).link(text) == linker.link(text)


def test_names():
    assert canonical_name("<http://dbpedia.org/resource/Heat_(1995_film)>") == "Heat"
    assert canonical_name("<http://dbpedia.org/resource/Face/Off>") == "Face/Off"
    assert canonical_name("person:Al Pacino") == "Al Pacino"
    assert canonical_name("<http://dbpedia.org/resource/(500)_Days_of_Summer>") == "(500) Days of Summer"
    assert split_year("Heat  (1995)") == ("Heat", 1995) and split_year("1984") == ("1984", 0)
    assert split_year("(1984)") == ("(1984)", 0)
    assert title_forms("The Rocky II") >= {"the rocky ii", "rocky ii", "the rocky 2", "rocky 2"}
    assert title_forms("Schindler's List") >= {"schindler s list", "schindlers list"}
    assert alias_forms("Robert Downey Jr.", "person") >= {"robert downey jr", "robert downey"}
    assert alias_forms("J. J. Abrams", "person") >= {"j j abrams", "jj abrams"}
    assert alias_forms("Samuel L. Jackson", "person") >= {"samuel l jackson", "samuel jackson"}
    assert "rom com" in genre_forms("genre:Romantic comedy") and not genre_forms("person:Drama")
    assert "horror" in genre_forms(uri("Horror_film")) and "war" not in genre_forms("genre:War")
