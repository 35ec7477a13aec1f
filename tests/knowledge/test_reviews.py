"""Reviews: both of ECR's shapes, facts by URI, cleaning, and prompts that are the same in training and generation."""

import json
from types import SimpleNamespace

import pytest

from ecr_jax.data.schema import Mention, Split
from ecr_jax.knowledge import graph as graphs
from ecr_jax.knowledge import reviews
from ecr_jax.knowledge.reviews import Knowledge, Review, ReviewStore

HEAT, TOM = "<http://dbpedia.org/resource/Heat_(1995_film)>", "<http://dbpedia.org/resource/Tom_Noonan>"
AL, MANN = "<http://dbpedia.org/resource/Al_Pacino>", "<http://dbpedia.org/resource/Michael_Mann_(director)>"
CRIME, CITY = "<http://dbpedia.org/resource/Crime_film>", "<http://dbpedia.org/resource/Los_Angeles>"
OTHER = "<http://dbpedia.org/resource/Thief_(film)>"


@pytest.fixture
def graph():
    triples = [
        (HEAT, "starring", AL), (HEAT, "starring", TOM), (HEAT, "director", MANN), (HEAT, "writer", MANN),
        (HEAT, "genre", CRIME), (OTHER, "director", MANN),
    ]  # fmt: skip
    return graphs.build(triples, [HEAT, OTHER], entities=[CITY])


def test_facts(graph):
    assert reviews.film_facts(HEAT, graph) == {
        AL: ("starring", "Al Pacino"),
        TOM: ("starring", "Tom Noonan"),
        MANN: ("writer", "Michael Mann"),
    }
    assert list(reviews.film_facts(HEAT, graph)) == [AL, MANN, TOM]  # one of each relation in turn
    with pytest.raises(KeyError, match="no entity"):
        reviews.film_facts("<nothing>", graph)


def test_knowledge_ranks_by_reviews(graph):
    store = ReviewStore(
        [
            Review(HEAT, "Heat (1995)", "one", ("Los Angeles", "Heist")),
            Review(HEAT, "Heat (1995)", "two", ("Heist", "Los Angeles", "Rain", "Rain")),
            Review(HEAT, "Heat (1995)", "three", ("Heist",), (("starring", "Tom Noonan"),)),
            Review(HEAT, "Heat (1995)", "four", ("Rain",), split=Split.VALID),
            Review(OTHER, "Thief", "one", ("Safe", "Night")),
        ]
    )
    known = store.knowledge(HEAT, graph)
    assert known.entities == ("Heist", "Los Angeles")
    assert [name for _, name in known.triples] == [
        "Tom Noonan",
        "Al Pacino",
        "Michael Mann",
    ]  # the one that reviews state first
    assert store.knowledge(OTHER, graph) == Knowledge(("Night",), (("director", "Michael Mann"),))
    assert ReviewStore(()).knowledge(HEAT, graph).entities == ()


def test_saved_and_loaded(tmp_path):
    one_review = [Review(HEAT, "Heat (1995)", "one", ("Rain",), (("starring", "Al Pacino"),), Split.VALID)]
    for content in (one_review, []):
        ReviewStore(content).save(tmp_path / "reviews.parquet")
        assert list(ReviewStore.load(tmp_path / "reviews.parquet").reviews) == content


def test_both_shapes_of_ecr(tmp_path):
    lines = [
        {
            "movie": "Heat  (1995)", "review": "a", "entities": "Rain, Night", "first_sentence": "", "split": "train",
            "knowledge": "Heat  (1995)'s starring is Al Pacino, Heat  (1995)'s company is Regency, Inc.",
        },
        {"movie": "Heat (1995)", "review": "b", "title": "t", "entity_uris": [CITY, CITY, MANN], "split": "valid",
         "relations": [["Al Pacino", "starring"]]},
        {"movie": "Unknown (1990)", "review": "c", "entities": "None", "knowledge": "None", "split": "train"},
        {"movie": "Heat (1995)", "review": "b", "entities": "None", "knowledge": "None", "split": "train"},
    ]  # fmt: skip
    path = tmp_path / "reviews.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    store = ReviewStore.from_ecr(path, {"Heat (1995)": HEAT})
    first = Review(
        HEAT, "Heat (1995)", "a", ("Rain", "Night"), (("starring", "Al Pacino"), ("company", "Regency, Inc."))
    )
    second = Review(
        HEAT, "Heat (1995)", "b", ("Los Angeles", "Michael Mann"), (("starring", "Al Pacino"),), Split.VALID
    )
    assert list(store.reviews) == [first, second]
    assert store.of_split(Split.TRAIN) == [first]


@pytest.mark.parametrize("change", [{"knowledge": "Thief's starring is X"}, {"split": "later"}, {"movie": None}])
def test_bad_review_is_named(tmp_path, change):
    row = {"movie": "Heat", "review": "a", "entities": "None", "knowledge": "None", "split": "train"} | change
    (tmp_path / "r.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match=r"r\.jsonl:1 is not a review"):
        ReviewStore.from_ecr(tmp_path / "r.jsonl", {})


def test_linked_reviews(graph):
    text = (
        "Al Pacino burns through every frame while Los Angeles glows behind him and Tom watches; "
        "afterwards I shook all night."
    )
    spans = {"Al Pacino": AL, "Los Angeles": CITY, "Tom": "<http://dbpedia.org/resource/Tom>"}
    mentions = tuple(
        Mention(text.index(name), text.index(name) + len(name), name, False, uri) for name, uri in spans.items()
    )

    def review(**change):
        fields = {"film": HEAT, "title": "Heat (1995)", "text": text, "rating": 10, "votes": 3, "mentions": mentions,
                  "emotion": "happy"}  # fmt: skip
        return SimpleNamespace(**(fields | change))

    store = ReviewStore.from_films([review(), review(rating=7), review(votes=0, film=OTHER)], graph)
    assert len(store) == 1
    assert store.reviews[0].entities == ("Los Angeles", "Tom")  # a Tom who is not Tom Noonan
    assert store.reviews[0].triples == (("starring", "Al Pacino"),)
    assert store.reviews[0].emotion == "happy"


@pytest.mark.parametrize(
    ("text", "relation"),
    [
        ("Ann Lee directed it.", "director"),
        ("I liked the plays. Ann Lee, who wrote it, is good. It is well directed.", "writer"),
        ("The direction by Ann Lee is clever.", "director"),
        ("Ann Lee is great.", "starring"),
    ],
)
def test_the_relation_that_a_sentence_speaks_of(text, relation):
    relations = ("starring", "writer", "director")
    assert reviews.relation_said(relations, text, text.index("Ann Lee")) == relation
    assert reviews.relation_said(("starring",), text, text.index("Ann Lee")) == "starring"


def test_initials_end_no_sentence():
    text = "I like Samuel L. Jackson! Robert Downey Jr. too. Mrs. Lee wrote it. It is from the US. Yes?"
    assert reviews.sentences_of(text) == [
        "I like Samuel L. Jackson!", "Robert Downey Jr. too.", "Mrs. Lee wrote it.", "It is from the US.", "Yes?",
    ]  # fmt: skip


def test_pieces_hold_the_facts_that_they_state():
    facts = (("director", "Ann Lee"), ("starring", "Bo Ray"))
    whole = Review(
        "f", "Film (2000)", "Ann Lee made it! I cried. Bo Ray is in it. So is Cy Fox? Yes.", ("Cy Fox",), facts
    )
    first, second, third = reviews.pieces(whole, 2)
    assert (first.text, first.triples, first.entities) == ("Ann Lee made it! I cried.", facts[:1], ())
    assert (second.text, second.triples) == ("Bo Ray is in it. So is Cy Fox?", facts[1:])
    assert second.entities == ("Cy Fox",) and third.text == "Yes." and not third.triples


def test_feelings_stand_in_the_prompt_where_they_are_known():
    prompt = reviews.response_prompt("Heat (1995)", [], [], "See it!", "|", heard="negative", tone="happy")
    assert prompt.endswith("|Seeker Feels: negative|Tone: happy|First Sentence: See it!|")
    assert "Feels" not in reviews.response_prompt("Heat (1995)", [], [], "See it!")


def words(n, start=0):
    return " ".join(f"w{i}" for i in range(start, start + n))


def test_clean():
    assert reviews.clean_review(f"{words(20)}. My Review is this! 10 of 10? Fine by me 2010.", 1) == (
        f"{words(20)}. Fine by me 2010."
    )
    assert reviews.clean_review(words(20), 0) is None
    assert reviews.clean_review(words(19), 1) is None
    assert reviews.clean_review(f"{words(20)} {words(11)}", 1) is None
    assert reviews.clean_review(f"{words(30)} w0", 1) == f"{words(30)} w0"
    long = [f"{words(8, 10 * i)}." for i in range(9)]
    assert reviews.clean_review(" ".join(long), 1, max_words=40) == " ".join([*long[:2], *long[-2:]])
    assert reviews.clean_review(f"{words(50)}. {words(50, 50)}.", 1, max_words=40) == f"{words(50)}. {words(50, 50)}."


def test_prompt():
    triples = [("starring", "Al Pacino"), ("director", "Michael Mann")]
    assert reviews.response_prompt("Heat (1995)", ["Heist", "Rain"], triples, "You should see Heat (1995)!") == (
        "Movie Name: Heat (1995)\nRelated Entities: Heist, Rain\nRelated Knowledge from KG: Heat (1995)'s starring is "
        "Al Pacino, Heat (1995)'s director is Michael Mann\nFirst Sentence: You should see Heat (1995)!\n"
    )
    assert "Entities: None<e>Related Knowledge from KG: None<e>" in reviews.response_prompt(
        "Heat", [], [], "So.", end="<e>"
    )


def test_real_reviews(real_data):
    titles = {}
    for line in (real_data / "movies.jsonl").read_text(encoding="utf-8").splitlines():
        movie = json.loads(line)
        if movie["dbpedia"]:
            titles[" ".join(movie["name"].split())] = movie["dbpedia"]
    store = ReviewStore.from_ecr(real_data / "reviews" / "reviews.jsonl", titles)
    assert len(store) > 1500 and len(store.of_split(Split.VALID)) > 150
    named = {relation for review in store.reviews for relation, _ in review.triples}
    assert {"starring", "director", "writer"} <= named
