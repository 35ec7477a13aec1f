"""A small corpus from its files to the prepared folder: counts, links, complete folders, bad lines."""

from __future__ import annotations

import dataclasses
import io
import json
import time

import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.config import CorpusConfig, replace
from ecr_jax.data import prepare as module
from ecr_jax.data.prepare import (
    PreparedCorpus,
    describe,
    film_genres,
    link_conversation,
    link_turn,
    mention_counts,
    prepare,
)
from ecr_jax.data.redial import Movie
from ecr_jax.data.schema import Conversation, CorpusError, Feedback, Mention, Role, Split, Turn
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.files import read_jsonl_rows
from ecr_jax.knowledge import graph as graphs
from ecr_jax.knowledge.linking import EntityLinker
from tests import tiny
from tests.tiny import uri


def settings(folder, **corpus):
    corpus_config = tiny.write_corpus(folder / "data")
    return dataclasses.replace(
        configs.load("demo"),
        name="tiny",
        corpus=dataclasses.replace(corpus_config, **corpus),
        prepared=folder / "prepared",
    )


@pytest.fixture
def quiet():
    return Console(quiet=True)


@pytest.fixture
def recorded():
    return Console(record=True, width=200, file=io.StringIO())


def test_prepared_folder(tmp_path, quiet):
    config = settings(tmp_path)
    prepared_corpus = prepare(config, console=quiet)
    assert prepared_corpus.folder == tmp_path / "prepared" / "tiny"
    assert sorted(path.name for path in prepared_corpus.folder.iterdir()) == [
        "aliases.parquet", "conversations.parquet", "cost.json", "descriptions.parquet", "entities.parquet",
        "genres.parquet", "graph.npz", "manifest.json", "rejected.jsonl", "reviews.parquet",
        "utterances.parquet",
    ]  # fmt: skip
    counts = prepared_corpus.manifest["counts"]
    expected = {
        "conversations": 10, "conversations_train": 6, "conversations_valid": 2, "conversations_test": 2,
        "turns": 40, "mentions": 40, "film_mentions": 30, "unlinked_mentions": 0, "unlinked_film_mentions": 0,
        # of each conversation: what was asked for, what was offered first (every other one liked), the last one unsaid
        "feedback_like": 10 + 5, "feedback_dislike": 5, "feedback_unsaid": 10,
        "train_conversations": 6, "rejected": 0, "entities": 9, "items": 6, "triples": 6, "reviews": 6,
    }  # fmt: skip
    assert {name: counts[name] for name in expected} == expected
    assert set(prepared_corpus.manifest["inputs"]) == {
        "train.jsonl", "valid.jsonl", "test.jsonl", "movies.jsonl", "reviews.jsonl", "kg/entity2id.json",
        "kg/relation2id.json", "kg/dbpedia_subkg.json", "kg/item_ids.json",
    }  # fmt: skip
    first = prepared_corpus.split(Split.TRAIN)[0]
    assert first.id == "train-0" and [c.id for c in prepared_corpus.split(Split.VALID)] == ["valid-0", "valid-1"]
    actor = first.turns[2].mentions[0]
    assert (actor.entity, actor.film, actor.feedback) == (uri("Robert_De_Niro"), False, None)
    assert first.turns[2].text[actor.start : actor.end] == "Robert De Niro"
    text, labels = prepared_corpus.utterances(Split.VALID)[0]
    assert text.startswith("hello i liked") and labels == (EMOTIONS.index("like"),)
    assert len(prepared_corpus.utterances(Split.TRAIN)) == 12
    assert (
        len(prepared_corpus.graph) == 9 and len(prepared_corpus.descriptions) == 9 and len(prepared_corpus.reviews) == 6
    )


def test_prepared_once_for_the_same_inputs(tmp_path, recorded):
    config = settings(tmp_path)
    manifest = prepare(config, console=recorded).folder / "manifest.json"
    before = manifest.stat().st_mtime_ns
    prepare(config, console=recorded)
    assert manifest.stat().st_mtime_ns == before and "is complete for these inputs" in recorded.export_text()
    prepare(config, force=True, console=recorded)
    forced = manifest.stat().st_mtime_ns
    assert forced != before
    path = tmp_path / "data" / "test.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    prepared_corpus = prepare(config, console=recorded)
    assert prepared_corpus.manifest["counts"]["conversations_test"] == 1 and manifest.stat().st_mtime_ns != forced
    other = dataclasses.replace(config, corpus=dataclasses.replace(config.corpus, reviews=None))
    assert prepare(other, console=recorded).manifest["counts"]["reviews"] == 0


def test_generated_dialogues_of_another_version_are_prepared_again(tmp_path, quiet, film_table, monkeypatch):
    monkeypatch.setattr(module.hub, "resolve", {"wikidata-films": film_table}.__getitem__)
    corpus = CorpusConfig("films", dialogues=10, film_reviews=5)
    config = dataclasses.replace(configs.load("demo"), name="tiny", corpus=corpus, prepared=tmp_path / "prepared")
    made = prepare(config, console=quiet)
    assert made.manifest["inputs"]["film-dialogues"] == module.films.VERSION
    before = (made.folder / "manifest.json").stat().st_mtime_ns
    assert (prepare(config, console=quiet).folder / "manifest.json").stat().st_mtime_ns == before
    monkeypatch.setattr(module.films, "VERSION", "0.0.1")
    assert prepare(config, console=quiet).manifest["inputs"]["film-dialogues"] == "0.0.1"


def test_same_inputs_same_content(tmp_path, quiet):
    config = settings(tmp_path)
    one = prepare(config, console=quiet)
    other = prepare(dataclasses.replace(config, name="other"), console=quiet)
    assert one.conversations == other.conversations and one.manifest == other.manifest
    assert one.descriptions == other.descriptions and one.graph.uris == other.graph.uris


def spoil(config):
    """Puts three malformed lines, in two files, among the good ones."""
    train = config.corpus.path("train")
    good = train.read_text()
    train.write_text("{oh no\n" + good + json.dumps({"id": "x", "turns": [], "colour": 1}) + "\n")
    valid = config.corpus.path("valid")
    valid.write_text(valid.read_text() + valid.read_text().splitlines()[0] + "\n")


def test_malformed_lines_end_it_and_leave_nothing(tmp_path, quiet):
    config = settings(tmp_path)
    spoil(config)
    with pytest.raises(CorpusError) as raised:
        prepare(config, console=quiet)
    assert [(line.file.rsplit("/", 1)[-1], line.line) for line in raised.value.bad] == [
        ("train.jsonl", 1), ("train.jsonl", 8), ("valid.jsonl", 3),
    ]  # fmt: skip
    assert all(word in str(raised.value) for word in ("train.jsonl:1: not JSON", "'colour'", "'valid-0' was already"))
    assert list((tmp_path / "prepared").iterdir()) == []
    with pytest.raises(ValueError, match="has no prepared corpus; run `ecr prepare`"):
        PreparedCorpus.open(config.prepared_folder)


def test_malformed_lines_keep_what_was_prepared_before(tmp_path, quiet):
    config = settings(tmp_path)
    before = prepare(config, console=quiet).manifest
    spoil(config)
    with pytest.raises(CorpusError):
        prepare(config, console=quiet)
    assert PreparedCorpus.open(config.prepared_folder).manifest == before


def test_skip_bad(tmp_path, capsys):
    config = settings(tmp_path, skip_bad=True)
    spoil(config)
    prepared_corpus = prepare(config)
    assert "left out 3 malformed lines: " in capsys.readouterr().out
    rejected = read_jsonl_rows(prepared_corpus.folder / "rejected.jsonl")
    assert [row["line"] for row in rejected] == [1, 8, 3] and rejected[0]["text"] == "{oh no"
    assert (
        prepared_corpus.manifest["counts"]["rejected"] == 3
        and prepared_corpus.manifest["counts"]["conversations"] == 10
    )


@pytest.mark.parametrize("name", ["train", "graph", "movies", "reviews"])
def test_missing_input_is_named(tmp_path, quiet, name):
    config = settings(tmp_path, **{name: "gone"})
    with pytest.raises(ValueError, match=rf"corpus\.{name}: .*gone does not exist"):
        prepare(config, console=quiet)


def test_gorecdial_is_linked_by_imdb_id_to_the_wikidata_table(tmp_path, quiet, film_table, monkeypatch):
    monkeypatch.setattr(module.hub, "resolve", {"wikidata-films": film_table}.__getitem__)
    config, data = settings(tmp_path), tmp_path / "data"
    films = ["1,Made-up Film 7,1957,,0000007", "2,Elsewhere,1990,,9999999", "3,Made-up Film 8,1958,A plot.,0000008"]
    (data / "films.csv").write_text("\n".join(["movie_id,ml_title,ml_year,plot,imdb_id", *films]) + "\n")
    titles = {"1": "Made-up Film 7 (1957)", "2": "Elsewhere (1990)"}
    texts = [(0, "Made-up Film 9 (1959) is nice"), (1, "RECOMMEND @1"), (0, "REJECT"), (1, "RECOMMEND @2")]
    dialogue = {
        "conversationId": 1, "initiatorWorkerId": 0, "respondentWorkerId": 1, "movieMentions": titles,
        "initiatorQuestions": {"1": {"liked": 0}},
        "messages": [{"senderWorkerId": who, "text": text} for who, text in texts],
    }  # fmt: skip
    tiny.write_lines(data / "train.jsonl", [dialogue | {"conversationId": number} for number in range(20)] + [dialogue])
    tiny.write_lines(data / "test.jsonl", [dialogue | {"conversationId": 20}])
    corpus = CorpusConfig("gorecdial", data, train="train.jsonl", test="test.jsonl", movies="films.csv")
    prepared_corpus = prepare(dataclasses.replace(config, corpus=corpus), console=quiet)
    graph, counts = prepared_corpus.graph, prepared_corpus.manifest["counts"]
    assert [graph.uris[item] for item in graph.items] == ["imdb:tt0000007", "imdb:tt0000008"]
    assert prepared_corpus.descriptions[graph.id("imdb:tt0000008")].endswith("A plot.")
    assert (counts["train_repeated"], counts["conversations"]) == (1, 21)
    mentions = [m for turn in prepared_corpus.split(Split.TEST)[0].turns for m in turn.mentions]
    assert [(m.entity, m.feedback) for m in mentions if m.film] == [
        ("imdb:tt0000007", Feedback.DISLIKE), (None, Feedback.UNSAID),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graph")
    tiny.write_graph(folder / "kg")
    tiny.write_lines(folder / "movies.jsonl", tiny.movie_rows())
    return graphs.from_unicrs(folder / "kg", folder / "movies.jsonl")


@pytest.fixture(scope="module")
def linker(graph):
    return EntityLinker(graph)


def test_mention_counts_are_of_training_conversations(graph):
    """One for each conversation of the train split that marks the entity, however often; nothing else counts."""

    def conversation(number, split, *entities):
        mentions = tuple(Mention(i, i + 1, "x", True, entity) for i, entity in enumerate(entities))
        return Conversation(str(number), split, (Turn(Role.SEEKER, "x" * len(entities), mentions),))

    zodiac, thief = uri("Zodiac_(film)"), uri("Thief_(film)")
    counts = mention_counts(
        [
            conversation(0, Split.TRAIN, zodiac, zodiac, thief),
            conversation(1, Split.TRAIN, zodiac, None, "<elsewhere>"),
            conversation(2, Split.VALID, thief),
            conversation(3, Split.TEST, thief),
        ],
        graph,
    )
    assert {graph.uris[entity]: count for entity, count in enumerate(counts) if count} == {zodiac: 2, thief: 1}


def test_the_chat_links_as_the_corpus_was_linked(tmp_path, quiet, monkeypatch):
    given = []
    monkeypatch.setattr(
        module, "EntityLinker", lambda graph, counts: given.append(counts) or EntityLinker(graph, counts)
    )
    monkeypatch.setattr(module, "mention_counts", lambda conversations, graph: list(range(len(graph))))
    corpus = prepare(settings(tmp_path), console=quiet)
    assert corpus.linker.link("Thief (1981)") and given == [None, None]
    counted = prepare(replace(settings(tmp_path), "corpus.link_by_counts", True), console=quiet)
    assert counted.linker.link("Thief (1981)") and given[2:] == [list(range(len(counted.graph)))] * 2


TEXT = "Zodiac (2007) beats Thief (1981) and Michael Mann !"


def test_marked_mentions_stay_and_linked_ones_join(graph, linker):
    start = TEXT.index("Thief")
    marked = Mention(start, start + 12, "Thief (1981)", True, uri("Thief_(film)"), Feedback.DISLIKE)
    linked = link_turn(Turn(Role.SEEKER, TEXT, (marked,)), graph, linker, (), films_are_targets=False)
    assert [m.entity for m in linked] == [uri("Zodiac_(film)"), uri("Thief_(film)"), uri("Michael_Mann")]
    assert [m.feedback for m in linked] == [None, Feedback.DISLIKE, None]  # what the corpus does not mark is context
    assert [m.film for m in linked] == [True, True, False] and linked[1] == marked
    assert all(TEXT[m.start : m.end] == m.name for m in linked)


def test_films_in_unmarked_text_are_targets(graph, linker):
    linked = link_turn(Turn(Role.SEEKER, TEXT), graph, linker, (), films_are_targets=True)
    assert [m.feedback for m in linked] == [Feedback.UNSAID, Feedback.UNSAID, None]


def test_unlinked_film_is_found_by_its_whole_title(graph, linker):
    def only(name, **fields):
        turn = Turn(Role.SEEKER, name, (Mention(0, len(name), name, True, **fields),))
        (mention,) = link_turn(turn, graph, linker, (), films_are_targets=False)
        return mention

    assert only("Sleuth (1972)").entity == uri("Sleuth_(film)")
    assert only("Sleuth (1972)", entity="<unknown>").entity == uri("Sleuth_(film)")
    assert only("Sleuth (1972)").feedback == Feedback.UNSAID
    assert only("Sleuth and more").entity is None  # a part of the name is another film
    assert only("Michael Mann").entity is None  # no film
    assert only("Zodiac (2007)", entity=uri("Thief_(film)")).entity == uri("Thief_(film)")  # the corpus knows


def test_describe(graph):
    movie = Movie("100", "Ronin (1998)", uri("Ronin_(film)"), ("crime",), plot="Someone wants something.")
    texts = dict(zip(graph.uris, describe(graph, {"100": movie}, 4), strict=True))
    assert texts[uri("Ronin_(film)")] == "Ronin (1998). crime. starring Robert De Niro. Someone wants something."
    assert texts[uri("Thief_(film)")] == "Thief (1981). director Michael Mann"
    assert texts[uri("Mystery_film")].endswith(", a genre")
    assert texts[uri("Michael_Mann")] == ""


def test_genres_of_the_film_table(graph, tmp_path):
    ids = graph.ids
    films = {
        "100": Movie("100", "Ronin (1998)", uri("Ronin_(film)"), ("mystery", "opera")),  # no entity is called opera
        "101": Movie("101", "Ronin", uri("Ronin_(film)"), ("mystery",)),
        "102": Movie("102", "Thief (1981)", uri("Thief_(film)"), ("mystery",)),
        "103": Movie("103", "Unknown (1999)", uri("Unknown"), ("mystery",)),
    }
    pairs = film_genres(graph, films, EntityLinker(graph))
    genre = ids[uri("Mystery_film")]
    assert pairs.tolist() == sorted([[ids[uri("Ronin_(film)")], genre], [ids[uri("Thief_(film)")], genre]])
    assert film_genres(graph, {}, EntityLinker(graph)).shape == (0, 2)
    with pytest.raises(ValueError, match="ecr prepare --force"):
        _ = PreparedCorpus(tmp_path).genres


def test_a_byte_order_mark_is_accepted_everywhere(tmp_path, quiet):
    """Files as some editors write them give the same corpus."""
    config = settings(tmp_path)
    plain = prepare(config, console=quiet)
    counts, conversations = plain.manifest["counts"], plain.conversations
    for path in (*(tmp_path / "data").glob("*.jsonl"), *(tmp_path / "data" / "kg").glob("*.json")):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    marked = prepare(config, console=quiet)
    assert marked.manifest["counts"] == counts and marked.conversations == conversations
    assert len(marked.reviews) == 6 and marked.descriptions == plain.descriptions


def test_lines_that_are_not_utf8_are_named_and_counted(tmp_path, quiet):
    config = settings(tmp_path)
    with config.corpus.path("valid").open("ab") as file:
        file.write(b'{"id": "x", "turns": [{"role": "seeker", "text": "caf\xe9"}]}\n')
    with pytest.raises(CorpusError, match=r"valid\.jsonl:3: not UTF-8: byte 54 of the line is 0xe9"):
        prepare(config, console=quiet)
    counts = prepare(replace(config, "corpus.skip_bad", True), console=quiet).manifest["counts"]
    assert (counts["rejected"], counts["conversations_valid"]) == (1, 2)


@pytest.mark.parametrize("name", ["reviews.jsonl", "kg/entity2id.json"])
def test_other_files_that_are_not_utf8_are_named(tmp_path, quiet, name):
    config = settings(tmp_path)
    path = tmp_path / "data" / name
    path.write_bytes(path.read_bytes().replace(b"e", b"\xe9", 1))
    with pytest.raises(ValueError, match=rf"{path.name}.*not UTF-8: byte \d+"):
        prepare(config, console=quiet)


def test_a_train_split_without_conversations_is_refused(tmp_path, recorded):
    config = settings(tmp_path)
    config.corpus.path("train").write_text("")
    with pytest.raises(ValueError, match=r"no conversation is in the train split \(of 4\).*corpus.train is 'train"):
        prepare(config, console=recorded)
    assert not config.prepared_folder.exists()


def test_a_test_split_without_conversations_is_said(tmp_path, recorded):
    config = settings(tmp_path)
    config.corpus.path("test").write_text("")
    prepare(config, console=recorded)
    assert "no conversation is in the split test" in recorded.export_text()


def test_linking_looks_at_each_entity_once_however_long_the_dialogue(graph):
    """What was mentioned before is a set: a list of every mention makes a dialogue's time quadratic."""
    seen = []

    class Counting(EntityLinker):
        def link(self, text, context=()):
            seen.append(len(list(context)))
            return super().link(text, context)

    turns = tuple(Turn((Role.SEEKER, Role.RECOMMENDER)[i % 2], "I saw Thief (1981) and Zodiac") for i in range(50))
    linked = link_conversation(Conversation("1", Split.TRAIN, turns), graph, Counting(graph), films_are_targets=False)
    assert seen == [0] + [2] * 49 and all(len(turn.mentions) == 2 for turn in linked.turns)


@pytest.mark.slow
@pytest.mark.parametrize("speakers", [2, 1])
def test_a_dialogue_of_a_hundred_thousand_turns(tmp_path, quiet, speakers):
    """Quadratic work would take many minutes; the bound leaves room for a busy machine."""
    config = settings(tmp_path)
    roles = ("seeker", "recommender")
    turns = [tiny.turn(roles[i % speakers], "I saw Thief (1981) .", ["Thief_(film)"]) for i in range(100_000)]
    with config.corpus.path("train").open("a") as file:
        file.write(json.dumps({"id": "long", "turns": turns}) + "\n")
    started = time.process_time()
    corpus = prepare(config, console=quiet)
    assert time.process_time() - started < 120
    (long,) = (c for c in corpus.conversations if c.id == "long")
    assert sum(len(turn.mentions) for turn in long.turns) == 100_000
