"""TG-ReDial on hand-made dialogues: both forms say the same, malformed ones are refused, and a corpus is prepared."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from ecr_jax.config import CorpusConfig
from ecr_jax.data import tgredial
from ecr_jax.data.acts import Act, ActName
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Feedback, Role, Split
from ecr_jax.knowledge import graph as graphs
from ecr_jax.knowledge.graph import GraphError
from tests import tiny

FILM = "雨夜（2001年虚构导演执导电影）"
SAID = (
    ("Seeker", "下雨天 心情 不好", ["谈论", "雨天"], ()),
    ("Recommender", "聊聊雨天吧？ 要看电影吗", ["谈论", "雨天", "请求推荐", None], ()),
    ("Seeker", "好啊，推荐一部吧", ["反馈，允许推荐", None], ()),
    ("Recommender", "推荐《雨夜》，雨夜里的故事。", ["推荐电影", "雨夜(2001)"], ("雨夜(2001)",)),
    ("Seeker", "谢谢", ["反馈，结束", None], ()),
)


def original(**changes):
    record = {"conv_id": 7, "user_id": "3", "messages": [], "goal_path": {}, "mentionMovies": {}}
    for number, (role, text, goal, films) in enumerate(SAID, start=1):
        record["messages"].append({"local_id": number, "role": role, "content": text})
        record["goal_path"][str(number)] = [role, *goal]
        record["mentionMovies"] |= {str(number): ["1295242", film] for film in films}
    return record | changes


def crslab(**changes):
    """The same, its films and other entities by their names in the graph."""
    messages = [
        {
            "local_id": number, "role": role, "text": text.split(), "word": [], "target": [role, *goal],
            "movie": [FILM] * len(films), "entity": ["雨天"] * ("雨天" in text), "final": ["推荐电影", ["雨天"]],
        }
        for number, (role, text, goal, films) in enumerate(SAID, start=1)
    ]  # fmt: skip
    return {"conv_id": 7, "user_id": "3", "messages": messages} | changes


def read(tmp_path, *records):
    path = tmp_path / "test_data.json"
    path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    return tgredial.read(path, Split.TEST)


def test_both_forms_are_read_alike(tmp_path):
    ((first,), (second,)) = (read(tmp_path, record).conversations for record in (original(), crslab()))
    assert first.id == second.id == "7" and first.split == Split.TEST
    assert [turn.text for turn in first.turns] == [text for _, text, _, _ in SAID]
    assert [turn.text for turn in second.turns] == [text.replace(" ", "") for _, text, _, _ in SAID]
    acts = [(), (Act(ActName.ASK),), (Act(ActName.REQUEST),), (Act(ActName.RECOMMEND),), ()]
    for conversation, name in ((first, "雨夜(2001)"), (second, FILM)):
        assert [turn.role for turn in conversation.turns][:2] == [Role.SEEKER, Role.RECOMMENDER]
        assert [turn.acts for turn in conversation.turns] == acts
        (film,) = conversation.turns[3].mentions
        assert (film.name, film.entity, film.film, film.feedback) == (name, name, True, Feedback.UNSAID)
        assert conversation.turns[3].masked() == "推荐《<movie>》，雨夜里的故事。"
    (topic,) = second.turns[1].mentions
    assert (topic.entity, topic.film, topic.feedback) == ("雨天", False, None)


def test_what_is_listed_and_not_said_is_counted(tmp_path):
    record = crslab()
    record["messages"][0] |= {"movie": ["没有人说的电影"], "entity": ["天", "天", "星期天"]}
    parsed = read(tmp_path, record)
    counts = {name: parsed.counts[name] for name in ("lost_films", "lost_entities", "films", "mentions")}
    assert counts == {"lost_films": 1, "lost_entities": 2, "films": 1, "mentions": 3}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (original(messages=[{"local_id": 1, "role": "Bot", "content": "x"}]), "messages[0].role is 'Bot'"),
        (original(messages=[{"local_id": "1", "role": "Seeker", "content": "x"}]), "messages[0].local_id is '1'"),
        (original(mentionMovies={"4": ["1295242"]}), "mentionMovies[4] is ['1295242']; expected a Douban id and a"),
        (original(goal_path=[]), "goal_path is []; expected an object"),
        (original(messages=[]), "messages hold no words"),
        (crslab(conv_id=None), "conv_id is None"),
        (crslab(messages=[{"role": "Seeker", "text": "not in tokens"}]), "messages[0].text is 'not in tokens'"),
        (crslab(messages=[crslab()["messages"][0] | {"movie": [3]}]), "messages[0].movie[0] is 3; expected a text"),
        ("a dialogue", "the dialogue is 'a dialogue'; expected an object"),
    ],
)
def test_malformed_dialogues_are_refused_with_their_number(tmp_path, record, reason):
    parsed = read(tmp_path, original(conv_id=1), record)
    assert [c.id for c in parsed.conversations] == ["1"]
    (bad,) = parsed.bad
    assert bad.line == 2 and bad.reason.startswith(reason)


def test_a_file_that_is_no_list_is_one_malformed_dialogue(tmp_path):
    path = tmp_path / "train_data.pkl"
    path.write_bytes(b"\x80\x04\x95")
    (bad,) = tgredial.read(path, Split.TRAIN).bad
    assert (bad.line, bad.reason) == (1, "not UTF-8: byte 1 of the line is 0x80")


def write_export(folder, triples):
    folder.mkdir()
    names = {FILM: 1, "晴天（微电影）": 2, "雨天": 3, "虚构导演": 4}
    (folder / "entity2id.json").write_text(json.dumps(names), encoding="utf-8")
    (folder / "movie_ids.json").write_text("[1, 2, 9]", encoding="utf-8")
    lines = "".join("\t".join(triple) + "\n" for triple in triples)
    (folder / "cn-dbpedia.txt").write_text(lines, encoding="utf-8")
    return folder


def test_the_graph_of_crslabs_export(tmp_path):
    graph = graphs.from_crslab(write_export(tmp_path / "kg", [(FILM, "导演", "虚构导演")]))
    assert [graph.title(item) for item in graph.items] == ["晴天", "雨夜 (2001)"]
    assert len(graph) == 4 and graph.kinds[graph.id(FILM)] == "film" and graph.kinds[graph.id("雨天")] == "other"
    ((head, relation, tail),) = graph.triples
    assert (graph.uris[head], graph.relations[relation], graph.uris[tail]) == (FILM, "导演", "虚构导演")


def test_a_graph_with_unknown_names_is_refused(tmp_path):
    with pytest.raises(GraphError, match=r"cn-dbpedia.txt:1: not a head, a relation and a tail"):
        graphs.from_crslab(write_export(tmp_path / "kg", [(FILM, "导演", "别人")]))


def test_both_forms_become_a_corpus(tmp_path):
    """The original's titles are linked by their names and years, CRSLab's by what they are called."""
    data = tmp_path / "data"
    data.mkdir()
    write_export(data / "kg", [(FILM, "导演", "虚构导演")])
    for name, records in {
        "train": [original(conv_id=number) for number in range(20)],
        "test": [crslab(conv_id=20)],
    }.items():
        (data / f"{name}.json").write_text(json.dumps(records), encoding="utf-8")
    corpus = CorpusConfig("tgredial", data, train="train.json", test="test.json", graph="kg", act_dialogues=0)
    config = dataclasses.replace(tiny.tiny_config(tmp_path / "tiny"), name="tgredial", corpus=corpus)
    prepared = prepare(config, console=Console(file=io.StringIO()))
    for split in Split:
        films = [m for c in prepared.split(split) for turn in c.turns for m in turn.mentions if m.film]
        assert films and {film.entity for film in films} == {FILM}
