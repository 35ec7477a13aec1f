"""Dumps of reviews: both formats, the filters, splits by film, counts of every step, and malformed lines."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from ecr_jax.cli import main
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import CorpusError, Split
from ecr_jax.errors import ConfigError
from ecr_jax.files import read_jsonl_rows
from ecr_jax.knowledge import graph as graphs
from ecr_jax.knowledge import review_dumps
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.knowledge.review_dumps import COLUMNS, DumpedReview, ReviewRules
from ecr_jax.knowledge.reviews import ReviewStore, split_of_film
from tests import tiny
from tests.inference.small_films import GRAPH, LINKER, film

HEAT, BIG, ALIEN = map(film, ("Heat", "Big", "Alien"))
FILLER = "and the whole evening went by like one slow breath while rain fell outside our old kitchen window"  # 18 words
TEXT = f"Al Pacino was never better in anything, {FILLER}."


def dumped(film="Heat (1995)", text=TEXT, rating=10.0, votes=3, year=0):
    return DumpedReview(film, year, text, rating, votes)


def selected(*reviews, trained=(HEAT, BIG), columns=COLUMNS, **rules):
    return review_dumps.select(reviews, columns, GRAPH, LINKER, trained, ReviewRules(**rules))


def left_out(selection):
    return {step: number for step, number in selection.left_out.items() if number}


def test_a_review_that_is_kept_is_cleaned_and_linked():
    text = f"My first review here! {TEXT} I saw Tom Hanks in the row behind us, who loves Michael Mann."
    (review,) = selected(dumped(text=text)).store.reviews
    assert review.text == f"{TEXT} I saw Tom Hanks in the row behind us, who loves Michael Mann."
    assert review.triples == (("starring", "Al Pacino"), ("writer", "Michael Mann"))
    assert review.entities == ("Tom Hanks",) and review.title == "Heat (1995)" and review.film == GRAPH.uris[HEAT]


@pytest.mark.parametrize(
    ("review", "step"),
    [
        (dumped("No Such Film (1990)"), "no film of the graph"),
        (dumped("Haet (1995)"), "no film of the graph"),  # a misspelt title is another film's as likely
        (dumped("Alien (1979)"), "film not in the train split"),
        (dumped(rating=9.5), "rating below 10"),
        (dumped(rating=None), "rating below 10"),
        (dumped(votes=0), "fewer than 1 votes"),
        (dumped(text="so good " * 30), "repetitive"),
        (dumped(text="Al Pacino was never better in anything."), "fewer than 20 words"),
        (dumped(text=f"{FILLER}. A 10 from me in this long review of mine, truly."), "fewer than 20 words"),
    ],
)
def test_what_each_step_leaves_out(review, step):
    assert left_out(selected(review)) == {step: 1}


def test_rules_can_be_changed():
    assert len(selected(dumped(rating=7), min_rating=7).store) == 1
    assert left_out(selected(dumped(votes=4), min_votes=5)) == {"fewer than 5 votes": 1}
    assert left_out(selected(dumped(), min_first_person=1)) == {"fewer than 1 words of the first person": 1}
    mine = dumped(text=f"{TEXT} It took me back to my own Mine.")
    assert len(selected(mine, min_first_person=3).store) == 1
    columns = {**COLUMNS, "rating": "", "votes": ""}
    assert len(selected(dumped(rating=None, votes=None), columns=columns).store) == 1
    with pytest.raises(ConfigError, match="max_words"):
        ReviewRules(min_words=30, max_words=20)


def test_films_are_found_by_title_year_id_and_uri():
    other = TEXT.replace("Al Pacino", "Robert De Niro")
    found = selected(
        dumped("Heat", text=TEXT),
        dumped("Heat", text=other, year=1995),
        dumped(GRAPH.uris[BIG], text=f"Such fun, {FILLER}."),
        dumped(GRAPH.uris[BIG].removeprefix("imdb:"), text=f"What fun, {FILLER}."),
        dumped("big (1989)", text=f"My fun, {FILLER}."),  # sources differ by a year
    )
    assert [review.film for review in found.store.reviews] == [GRAPH.uris[f] for f in (HEAT, HEAT, BIG, BIG, BIG)]
    assert left_out(selected(dumped("Heat (1986)"))) == {"no film of the graph": 1}


def test_a_title_of_several_films_needs_its_year():
    titles = {"f:1": "Solaris (1972)", "f:2": "Solaris (2002)", "f:3": "The Lobster (2015)"}
    graph = graphs.build([("f:1", "director", "p:A B")], titles, titles=list(titles.items()))
    dumps = [dumped("Solaris"), dumped("Solaris", year=2002), dumped("Lobster, The", text=f"Odd, {FILLER}. So odd.")]
    found = review_dumps.select(dumps, COLUMNS, graph, EntityLinker(graph), graph.items.tolist(), ReviewRules())
    assert left_out(found) == {"a title of several films": 1}
    assert [review.title for review in found.store.reviews] == ["Solaris (2002)", "The Lobster (2015)"]


def test_a_text_counts_once_and_a_film_is_in_one_split():
    texts = [f"Number {word} of them all, {FILLER}." for word in ("one", "two", "three")]
    reviews = [dumped(name, text) for name in ("Heat (1995)", "Big (1988)") for text in texts]
    kept = selected(*reviews, valid_every=1)
    assert left_out(kept) == {"a text that came before": 3}
    assert {r.split for r in kept.store.reviews} == {Split.VALID} and len(kept.store) == 3
    every = selected(*(dumped(n, f"{n[0]} {t}") for n in ("Heat (1995)", "Big (1988)") for t in texts), valid_every=2)
    for review in every.store.reviews:
        assert review.split == split_of_film(review.film, 2)
    assert sum(every.counts[f"{split} reviews"] for split in ("train", "valid")) == 6
    assert sum(every.counts[f"{split} films"] for split in ("train", "valid")) == 2


# ------------------------------------------------------------------------------------------------------------ reading


def test_both_formats_are_read_alike(tmp_path):
    rows = [
        {"movie": "Heat (1995)", "review": 'He said "no".\nTwice, &amp; left.', "rating": 10, "votes": 3},
        {"movie": "Big", "review": "Fun, fun", "rating": 9.5, "votes": 0, "year": 1988},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8-sig")
    (tmp_path / "a.CSV").write_text(
        'movie,review,rating,votes,year\r\nHeat (1995),"He said ""no"".\nTwice, &amp; left.",10,3,\r\n'
        'Big,"Fun, fun",9.5,0,1988\r\n',
        encoding="utf-8-sig",
    )
    expected = [
        DumpedReview("Heat (1995)", 0, 'He said "no". Twice, & left.', 10.0, 3),
        DumpedReview("Big", 1988, "Fun, fun", 9.5, 0),
    ]
    assert review_dumps.read(tmp_path / "a.jsonl", COLUMNS) == (expected, [])
    assert review_dumps.read(tmp_path / "a.CSV", COLUMNS) == (expected, [])


def test_other_columns_and_missing_ones(tmp_path):
    (tmp_path / "a.csv").write_text("title,content\nHeat,Fine\n")
    columns = {"film": "title", "text": "content", "year": "", "rating": "", "votes": ""}
    assert review_dumps.read(tmp_path / "a.csv", columns)[0] == [DumpedReview("Heat", 0, "Fine", None, None)]
    with pytest.raises(ValueError, match=r"a\.csv:1 has no column 'movie', but title, content; .*--columns"):
        review_dumps.read(tmp_path / "a.csv", COLUMNS)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[1]", "expected an object"),
        (b'{"movie": "Heat", "rating": 1, "votes": 1}', "'review' is missing"),
        (b'{"movie": " ", "review": "a", "rating": 1, "votes": 1}', "movie is ' '; expected a text"),
        (b'{"movie": "Heat", "review": "a", "rating": "ten", "votes": 1}', "rating is 'ten'; expected a number"),
        (b'{"movie": "Heat", "review": "a", "rating": NaN, "votes": 1}', "rating is nan"),
        (b'{"movie": "Heat", "review": "a", "rating": 1, "votes": 1.5}', "votes is 1.5; expected a whole number"),
        (b'{"movie": "Heat", "review": "a", "rating": 1, "votes": true}', "votes is True"),
    ],
)
def test_malformed_lines_are_named(tmp_path, line, reason):
    good = json.dumps({"movie": "Heat", "review": "a", "rating": "10", "votes": None}).encode()
    (tmp_path / "a.jsonl").write_bytes(good + b"\n" + line + b"\n")
    reviews, (bad,) = review_dumps.read(tmp_path / "a.jsonl", COLUMNS)
    assert reviews == [DumpedReview("Heat", 0, "a", 10.0, 0)]
    assert bad.line == 2 and reason in bad.reason and bad.file.endswith("a.jsonl")


def test_malformed_records_of_a_csv_file_are_named(tmp_path):
    (tmp_path / "a.csv").write_bytes(
        b'movie,review,rating,votes\nHeat,"a\nb",10,1\nHeat,a,10\nBig,\xff,10,1\nBig,c,10,1\n'
    )
    reviews, bad = review_dumps.read(tmp_path / "a.csv", COLUMNS)
    assert [review.text for review in reviews] == ["a b", "c"]
    assert [(line.line, line.reason.split(":")[0]) for line in bad] == [
        (4, "the record has 3 fields, and the header 4"), (5, "not UTF-8"),
    ]  # fmt: skip
    (tmp_path / "b.csv").write_text('movie,review,rating,votes\nHeat,"a"b,10,1\nBig,c,10,1\n')
    reviews, (line,) = review_dumps.read(tmp_path / "b.csv", COLUMNS)
    assert line.line == 2 and "not CSV" in line.reason and [review.text for review in reviews] == ["c"]


# ------------------------------------------------------------------------------------------------------------ command


def test_a_dump_becomes_the_reviews_of_a_corpus(tmp_path, capsys):
    """From the command to what `ecr prepare` reads of it."""
    config = tiny.tiny_config(tmp_path)
    prepare(config, console=Console(quiet=True))
    dump = tmp_path / "dump.jsonl"
    rows = [
        {"movie": title, "review": f"With Robert De Niro, number {place}, {FILLER}.", "rating": 10, "votes": 1}
        for place, title in enumerate(tiny.FILMS.values())
    ]
    dump.write_text("\n".join([*map(json.dumps, rows), "{"]))
    command = ["reviews", str(dump), "--corpus", str(tmp_path / "prepared" / "tiny"), "--into", str(tmp_path / "out")]
    assert main(command) == 1 and not (tmp_path / "out").exists()
    assert "dump.jsonl:7:notJSON" in "".join(capsys.readouterr().err.split())  # long paths are broken over lines
    assert main([*command, "--skip-bad", "--valid-every", "2"]) == 0
    printed = capsys.readouterr().out
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    assert counts["malformed lines"] == 1 and counts["reviews"] == 6 and "malformed lines" in printed
    assert [line["line"] for line in read_jsonl_rows(tmp_path / "out" / "rejected.jsonl")] == [7]
    kept = ReviewStore.from_ecr(tmp_path / "out" / "reviews.jsonl", {t: tiny.uri(n) for n, t in tiny.FILMS.items()})
    assert len(kept) == counts["train reviews"] + counts["valid reviews"] == 6
    starring = {review.title: review.triples for review in kept.reviews}
    assert starring["Ronin (1998)"] == (("starring", "Robert De Niro"),) and starring["Thief (1981)"] == ()
    assert all(review.entities == ("Robert De Niro",) for review in kept.reviews if not review.triples)
    assert (
        len(ReviewStore.from_ecr(tmp_path / "out" / "reviews.jsonl", {"Ronin (1998)": tiny.uri("Ronin_(film)")})) == 1
    )


def test_nothing_is_written_where_nothing_is_left(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"movie": "Heat", "review": "a", "rating": 1, "votes": 1}))
    shared = (COLUMNS, GRAPH, LINKER, [HEAT], ReviewRules())
    console = Console(file=io.StringIO())
    with pytest.raises(ValueError, match="no review is left"):
        review_dumps.import_dumps(
            [tmp_path / "a.jsonl"], tmp_path / "out", *shared, skip_bad=False, console=console
        )  # fmt: skip
    assert not (tmp_path / "out").exists() and "rating below 10" in console.file.getvalue()
    (tmp_path / "a.jsonl").write_text("{")
    with pytest.raises(CorpusError, match=r"a\.jsonl:1: not JSON"):
        review_dumps.import_dumps([tmp_path / "a.jsonl"], tmp_path / "out", *shared, skip_bad=False, console=console)
