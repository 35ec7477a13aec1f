"""Rated film sequences and partial text: which variant is read, roles, films in a text, feedback, ids, bad lines."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.data import redial, redial_extra
from ecr_jax.data.prepare import prepare
from ecr_jax.data.redial import Movie
from ecr_jax.data.schema import CorpusError, Feedback, Role, Split
from ecr_jax.errors import ConfigError
from ecr_jax.features.dialogues import dialogues_of
from ecr_jax.features.instances import film_sequence_instances, recommendation_instances
from tests import tiny
from tests.tiny import uri

MOVIES = {
    "11": Movie("11", "Heat (1995)", "<u/Heat>"),
    "12": Movie("12", "It (2017)", "<u/It>"),
    "13": Movie("13", "The Mask (1994)", "<u/Mask>"),
    "14": Movie("14", "The Mask of Zorro (1998)"),
    "15": Movie("15", "Amélie (2001)", "<u/Amelie>"),
}
SEEKER, RECOMMENDER, UNKNOWN = Role.SEEKER, Role.RECOMMENDER, Role.UNKNOWN


def film(movie, title, liked=1):
    return {"movieId": movie, "title": title, "liked": liked}


HEAT, IT, MASK, ZORRO = film("11", "Heat"), film(12, "It", 0), film("13", "The Mask"), film("14", "The Mask of Zorro")


def items(*films, id="7"):
    return {"conversationId": id, "movies": list(films), "steps": [1], "genres": []}


def texts(id="7", **variants):
    return {"conversationId": id, "variants": variants}


def write(folder, ratings, text=None):
    folder.mkdir(exist_ok=True)
    for name, records in (("items", ratings), ("text", text)):
        if records is not None:
            rows = [record if isinstance(record, str) else json.dumps(record) for record in records]
            (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def read(tmp_path, ratings, text=None, splits=None):
    return redial_extra.read(write(tmp_path / "extra", ratings, text), MOVIES, splits or {})


def turns(tmp_path, films, **variants):
    reading = read(tmp_path, [items(*films)], [texts(**variants)])
    assert reading.bad == []
    (conversation,) = reading.conversations
    return [(turn.role, turn.text, [(m.name, m.feedback) for m in turn.mentions]) for turn in conversation.turns]


LIKE, DISLIKE, UNSAID = Feedback.LIKE, Feedback.DISLIKE, Feedback.UNSAID


def test_films_without_text(tmp_path):
    reading = read(tmp_path, [items(HEAT, IT, film(None, "Somewhere Else"), film(None, ""))])
    assert reading.bad == []
    (conversation,) = reading.conversations
    assert (conversation.id, conversation.split) == ("7", Split.TRAIN)
    assert [(turn.role, turn.text, turn.masked()) for turn in conversation.turns] == [(UNKNOWN, "", "")] * 3
    mentions = [mention for turn in conversation.turns for mention in turn.mentions]
    assert [(m.start, m.end, m.film, m.name, m.entity, m.feedback) for m in mentions] == [
        (0, 0, True, "Heat (1995)", "<u/Heat>", LIKE),
        (0, 0, True, "It (2017)", "<u/It>", DISLIKE),
        (0, 0, True, "Somewhere Else", None, LIKE),
    ]
    assert reading.counts == {
        "dialogues": 1, "films": 4, "films_with_id": 2, "liked": 3, "disliked": 1, "texts": 0, "in_train": 0,
        "empty": 0, "conversations": 1, "with_roles": 0, "whole": 0, "nameless_films": 1, "films_in_text": 0,
        "films_without_text": 3,
    }  # fmt: skip


def test_text_with_roles(tmp_path):
    text = "S:: hi &amp; hello S:: I loved Heat R:: Try The Mask of Zorro or The Mask . S:: ok "
    assert turns(tmp_path, [HEAT, MASK, ZORRO, IT], ctsr=text) == [
        (SEEKER, "hi & hello I loved Heat (1995)", [("Heat (1995)", LIKE)]),
        (RECOMMENDER, "Try The Mask of Zorro (1998) or The Mask (1994) .",
         [("The Mask of Zorro (1998)", LIKE), ("The Mask (1994)", LIKE)]),
        (SEEKER, "ok", []),
        (UNKNOWN, "", [("It (2017)", DISLIKE)]),
    ]  # fmt: skip


def test_text_without_roles_is_cut_behind_every_film(tmp_path):
    text = "hello @11 was fun, @13 and @99 too. Bye"
    assert turns(tmp_path, [HEAT, IT], senti=text) == [
        (UNKNOWN, "hello Heat (1995)", [("Heat (1995)", LIKE)]),
        (UNKNOWN, "was fun, The Mask (1994)", [("The Mask (1994)", UNSAID)]),  # named, but not rated
        (UNKNOWN, "and @99 too. Bye", []),
        (UNKNOWN, "", [("It (2017)", DISLIKE)]),
    ]


def test_a_film_without_an_id_is_found_by_the_id_in_the_text(tmp_path):
    assert turns(tmp_path, [film(None, "It", 0)], chrono="@12 is scary") == [
        (UNKNOWN, "It (2017)", [("It (2017)", DISLIKE)]),
        (UNKNOWN, "is scary", []),
    ]


def test_genres_mark_films_and_are_taken_out(tmp_path):
    text = "S:: It is late. I saw It (horror thriller) and Heat () (comedy) or Alien (horror sci-fi) (really)"
    assert turns(tmp_path, [HEAT, IT], old=text) == [
        (SEEKER, "It is late. I saw It (2017) and Heat (1995) or Alien (really)",
         [("It (2017)", DISLIKE), ("Heat (1995)", LIKE)]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("S:: It is late. It rains. I saw It R:: It was fun", 1),  # only the one inside a sentence
        ("S:: It R:: no", 1),  # the only one
        ("S:: It R:: It", 0),  # either may be the pronoun
        ("S:: i saw it R:: Item", 0),
    ],
)
def test_titles_of_one_word_may_be_words(tmp_path, text, marked):
    found = turns(tmp_path, [IT], ctsr=text)
    assert sum(len(mentions) for role, _, mentions in found if role != UNKNOWN) == marked
    assert sum(len(mentions) for role, _, mentions in found if role == UNKNOWN) == (marked == 0)


def test_broken_encoding_of_titles_is_repaired(tmp_path):
    broken = "Amélie".encode().decode("latin-1")
    assert turns(tmp_path, [film(None, broken)], ctsr="S:: so Amélie R:: yes")[0] == (
        SEEKER, "so Amélie", [("Amélie", LIKE)],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("variants", "chosen"),
    [
        ({"senti": "a b c d", "reco_all": "S:: a"}, "reco_all"),
        ({"senti": "a b c d", "ctsr": "S:: a"}, "ctsr"),  # roles before the whole
        ({"chrono": "a b c d", "senti": "a"}, "senti"),  # the whole before a part
        ({"ctsr": "S:: a b c", "old": "S:: a"}, "old"),  # marked films before titles
        ({"chrono": "a b", "chronoval": "a b c"}, "chronoval"),  # the longest
        ({"chronoval": "a b", "chrono": "a b"}, "chrono"),  # the first of the table
        ({"chronoval": "a", "reco_all": " "}, "chronoval"),  # blank is no text
    ],
)
def test_choice_of_the_variant(tmp_path, variants, chosen):
    counts = read(tmp_path, [items(HEAT)], [texts(**variants)]).counts
    assert [name for name in counts if name.startswith("variant_")] == [f"variant_{chosen}"]
    assert counts["with_roles"] == redial_extra.VARIANTS[chosen].roles
    assert counts["whole"] == redial_extra.VARIANTS[chosen].whole


def test_dialogues_that_are_known_or_empty(tmp_path):
    reading = read(
        tmp_path,
        [items(HEAT, id="1"), items(id="2"), items(id="3"), items(MASK, id=4)],
        [texts("1", ct="so Heat"), texts("3", ct="so what"), texts("5", ct="so on")],
        {"1": Split.TRAIN, "9": Split.VALID},
    )
    assert [c.id for c in reading.conversations] == ["3", "4", "5"]
    expected = {"dialogues": 4, "texts": 3, "in_train": 1, "empty": 1, "conversations": 3, "films_without_text": 1}
    assert {name: reading.counts[name] for name in expected} == expected


def test_no_items_file(tmp_path):
    with pytest.raises(ValueError, match=r"items\.jsonl does not exist; corpus\.extra names a folder"):
        redial_extra.read(tmp_path, MOVIES, {})


ITEMS, TEXT = "items.jsonl", "text.jsonl"


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        (ITEMS, "{", "not JSON"),
        (ITEMS, "[]", "the line is []; expected an object"),
        (ITEMS, {"movies": []}, "conversationId is missing"),
        (ITEMS, items(id=" "), "conversationId is empty"),
        (ITEMS, {"conversationId": "8"}, "movies is missing"),
        (ITEMS, items(film("1", "x", 2), id="8"), r"movies[0].liked is 2; expected 0 (disliked) or 1 (liked)"),
        (ITEMS, items(HEAT, film("1", "x", None), id="8"), "movies[1].liked is None; expected a whole number"),
        (ITEMS, items(film(1.5, "x"), id="8"), "movies[0].movieId is 1.5"),
        (ITEMS, items(film("1", None), id="8"), "movies[0].title is None; expected a text"),
        (ITEMS, items(HEAT), "id '7' was already used in line 1"),
        (ITEMS, items(HEAT, id="30"), "conversation '30' is in the split 'valid'; take it out"),
        (ITEMS, items(HEAT, id="40"), "conversation '40' is in the split 'test'; take it out"),
        (TEXT, texts("40", ct="x"), "conversation '40' is in the split 'test'; take it out"),
        (TEXT, {"conversationId": "8"}, "variants is missing"),
        (TEXT, texts("8", other="x"), "variants has the unknown key 'other'; known are reco_all, "),
        (TEXT, texts("8", ct=3), "variants.ct is 3; expected a text"),
        (TEXT, texts("8", ct=" "), "variants hold no words"),
        (TEXT, texts("8"), "variants hold no words"),
        (TEXT, texts("8", ctsr="Hi S:: there"), "variants.ctsr begins with 'Hi S:: there'; expected 'S::' or 'R::'"),
        (TEXT, texts("8", ctsr="Hi there"), "variants.ctsr begins with 'Hi there'; expected 'S::' or 'R::'"),
    ],
)
def test_bad_lines_are_named(tmp_path, file, line, message):
    lines = {ITEMS: [items(HEAT)], TEXT: [texts("7", ct="so Heat")]}
    lines[file] = [*lines[file], line]
    reading = read(tmp_path, lines[ITEMS], lines[TEXT], {"30": Split.VALID, "40": Split.TEST})
    (bad,) = reading.bad
    assert str(bad).startswith(f"{tmp_path / 'extra' / file}:2: ") and message in bad.reason
    assert [c.id for c in reading.conversations] == ["7"]


# ------------------------------------------------------------------------------------------------------- prepared


def settings(tmp_path, **corpus):
    """The tiny corpus with three more dialogues: films alone, text with roles, text without."""
    made = tiny.write_corpus(tmp_path / "data")
    ronin, thief = film("100", "Ronin"), film("101", "Thief", 0)
    write(
        tmp_path / "data" / "extra",
        [items(ronin, thief, id="x1"), items(ronin, thief, id="x2"), items(ronin, id="x3"), items(ronin, id="train-0")],
        [
            texts("x2", ctsr="S:: I liked Ronin R:: Then see Thief , with Robert De Niro"),
            texts("x3", senti="So @100 ?"),
        ],
    )
    corpus_config = dataclasses.replace(made, extra="extra", **corpus)
    return dataclasses.replace(configs.load("demo"), name="tiny", corpus=corpus_config, prepared=tmp_path / "prepared")


QUIET = Console(quiet=True, file=io.StringIO())


def test_prepare_joins_them_to_the_train_split(tmp_path):
    made = prepare(settings(tmp_path), console=QUIET)
    counts = made.manifest["counts"]
    assert counts["conversations_train"] == 6 + 3 and counts["conversations_valid"] == 2
    expected = {"dialogues": 4, "texts": 2, "films": 6, "in_train": 1, "with_roles": 1, "whole": 1, "films_in_text": 3}
    assert {name: counts[f"extra_{name}"] for name in expected} == expected
    assert {"extra/items.jsonl", "extra/text.jsonl"} <= set(made.manifest["inputs"])
    training = made.split(Split.TRAIN)
    assert [c.id for c in training[6:]] == ["x1", "x2", "x3"]  # read back from the disk, spans [0, 0) included
    assert [(t.text, t.mentions[0].entity) for t in training[6].turns] == [
        ("", uri("Ronin_(film)")), ("", uri("Thief_(film)")),
    ]  # fmt: skip
    assert made.manifest["corpus"]["extra"] == "extra"


def test_only_known_recommenders_recommend(tmp_path):
    made = prepare(settings(tmp_path), console=QUIET)
    ids, graph = made.graph.ids, made.graph
    dialogues = dialogues_of(made.split(Split.TRAIN)[6:], ids, graph.items, {})
    ronin, thief, niro = (ids[uri(name)] for name in ("Ronin_(film)", "Thief_(film)", "Robert_De_Niro"))
    assert [[turn.entities for turn in d.turns] for d in dialogues] == [
        [(ronin,), (thief,)], [(ronin,), (thief, niro)], [(ronin,), ()],
    ]  # fmt: skip
    assert [(i.dialogue, i.turn, i.targets) for i in recommendation_instances(dialogues)] == [
        (1, 1, ((thief, DISLIKE, False),)),
    ]  # fmt: skip
    assert [(i.dialogue, i.turn, i.targets) for i in film_sequence_instances(dialogues)] == [
        (0, 1, ((thief, DISLIKE, False),)), (1, 1, ((thief, DISLIKE, False),)),
    ]  # fmt: skip


def test_leakage_ends_prepare(tmp_path):
    config = settings(tmp_path)
    write(tmp_path / "data" / "extra", [items(HEAT, id="valid-1"), items(HEAT, id="test-0")], [])
    with pytest.raises(CorpusError) as raised:
        prepare(config, console=QUIET)
    assert "items.jsonl:1: conversation 'valid-1' is in the split 'valid'" in str(raised.value)
    assert "items.jsonl:2: conversation 'test-0' is in the split 'test'" in str(raised.value)
    skipping = dataclasses.replace(config, corpus=dataclasses.replace(config.corpus, skip_bad=True))
    counts = prepare(skipping, console=QUIET).manifest["counts"]
    assert counts["rejected"] == 2 and counts["extra_conversations"] == 0


def test_they_never_move_to_the_validation_split(tmp_path):
    made = prepare(settings(tmp_path, valid=None, valid_share=0.99), console=QUIET)
    assert [c.id for c in made.split(Split.TRAIN) if c.id.startswith("x")] == ["x1", "x2", "x3"]
    assert made.manifest["counts"]["extra_in_train"] == 1 and made.manifest["counts"]["rejected"] == 0


def test_missing_folder_is_named(tmp_path):
    config = settings(tmp_path)
    config = dataclasses.replace(config, corpus=dataclasses.replace(config.corpus, extra="gone"))
    with pytest.raises(ValueError, match=r"corpus\.extra: .*gone does not exist"):
        prepare(config, console=QUIET)


def test_which_corpora_they_can_join(tmp_path):
    assert configs.load("redial").corpus.label == "redial"
    assert configs.load("redial:all_data").corpus.label == "redial+extra"
    assert configs.load("redial:all_data").base is None
    with pytest.raises(ConfigError, match="its film ids are ReDial's"):
        dataclasses.replace(configs.load("inspired").corpus, extra="extra")


def test_the_real_folder(real_data):
    movies, _ = redial.read_movies(real_data / "movies.jsonl")
    files = (("train", Split.TRAIN), ("valid", Split.VALID), ("test_open", Split.TEST))
    known = {
        c.id: split for name, split in files for c in redial.read(real_data / f"redial/{name}.jsonl", split, {})[0]
    }
    reading = redial_extra.read(real_data / "redial_extra", movies, known)
    assert reading.bad == []
    expected = {"dialogues": 5209, "texts": 2714, "films": 23951, "films_with_id": 23561, "with_roles": 1421,
                "in_train": 0, "empty": 23}  # fmt: skip
    assert {name: reading.counts[name] for name in expected} == expected
    assert reading.counts["films_in_text"] + reading.counts["films_without_text"] + 1 == 23951
