"""Annotation by a language model: what it is asked, what is taken from its answers, and what is kept apart."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from rich.console import Console

from ecr_jax.cli import main
from ecr_jax.data.prepare import PreparedCorpus, prepare
from ecr_jax.data.schema import Conversation, Mention, Role, Split, Turn
from ecr_jax.emotion.annotation import (
    Annotations,
    label_probabilities,
    prompt,
    read_answer,
    seeker_turns,
)
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.files import read_jsonl_rows, read_parquet
from ecr_jax.llm.client import Answer, Token
from ecr_jax.llm.structured import MalformedError
from ecr_jax.runs.context import open_experiment
from tests import tiny
from tests.llm_server import LlmServer, Reply, asked

HEAT = Mention(8, 12, "Heat (1995)", True, "<heat>")
DIALOGUE = Conversation(
    "d", Split.TRAIN,
    (
        Turn(Role.SEEKER, "I loved Heat and De Niro", (HEAT, Mention(17, 24, "De Niro", False))),
        Turn(Role.RECOMMENDER, "Try Ronin"),
        Turn(Role.SEEKER, "Will do, thanks"),
    ),
)  # fmt: skip


def test_turns_and_what_is_asked_of_them():
    first, second = seeker_turns([DIALOGUE], [Split.TRAIN])
    assert (first.turn, first.before, first.films) == (0, "", ((0, "Heat (1995)", "<heat>"),))
    assert (second.turn, second.before, second.films) == (2, "Try Ronin", ())
    assert seeker_turns([DIALOGUE], [Split.VALID, Split.TEST]) == []
    system, user = prompt(first)
    assert all(f"{number}: {label}:" in system["content"] for number, label in enumerate(EMOTIONS, 1))
    assert user["content"] == "The person says: I loved Heat and De Niro\nFilms of the turn:\n1. Heat (1995)"
    assert prompt(second)[1]["content"].startswith("The other said: Try Ronin\nThe person says: Will do, thanks\n")


def test_a_limit_is_spread_over_each_split():
    turns = tuple(Turn(Role.SEEKER, str(i)) for i in range(10))
    corpus = [Conversation("a", Split.TRAIN, turns), Conversation("b", Split.VALID, turns[:2])]
    chosen = seeker_turns(corpus, list(Split), limit=4)
    assert [(turn.split.value, turn.text) for turn in chosen] == [
        *(("train", text) for text in "0257"), ("valid", "0"), ("valid", "1")
    ]  # fmt: skip


(WITH_FILM, WITHOUT) = seeker_turns([DIALOGUE], [Split.TRAIN])


def test_a_good_answer():
    made = read_answer({"emotions": [1, 3], "films": ["like"]}, Answer("{}"), WITH_FILM)
    assert (made.labels, made.probabilities, made.valences) == ((0, 2), None, ("like",))


@pytest.mark.parametrize(
    "value",
    [
        [1], "like", {"emotions": [1]}, {"emotions": [1], "films": ["like"], "why": ""},
        *({"emotions": numbers, "films": ["like"]} for numbers in
          ([], [0], [10], [1, 2, 3], [2, 2], ["like"], [True], 1, [1.0])),
        *({"emotions": [1], "films": films} for films in ([], ["love"], ["like", "like"], "like", [[]])),
    ],
)  # fmt: skip
def test_answers_of_another_form_are_never_repaired(value):
    with pytest.raises(MalformedError):
        read_answer(value, Answer("{}"), WITH_FILM)


def token(text, **probabilities):
    return Token(text, {alternative: math.log(p) for alternative, p in probabilities.items()})


def test_probabilities_of_one_label_are_those_at_its_place():
    # of 0.8 on numbers, 0.6 are on 2; what is no number from 1 to 9 does not count
    tokens = (
        Token('{"emotions":', {}),
        token(" [2", **{" [2": 0.6, " [1": 0.2, " []": 0.1, " 2": 0.1}),
        Token("]}", {}),
    )
    probabilities = label_probabilities(Answer('{"emotions": [2]}', tokens=tokens))
    assert probabilities == pytest.approx([0.25, 0.75, 0, 0, 0, 0, 0, 0, 0])


def test_probabilities_of_two_labels_are_the_mean_of_both_places():
    tokens = (
        Token('{"emotions": [', {}), token("4", **{"4": 0.9, "3": 0.1}), Token(", ", {}),
        token("1", **{"1": 1.0, "x": 0.5}), Token('], "films": []}', {}),
    )  # fmt: skip
    probabilities = label_probabilities(Answer('{"emotions": [4, 1], "films": []}', tokens=tokens))
    assert probabilities == pytest.approx([0.5, 0, 0.05, 0.45, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    "tokens", [(), (Token('{"emotions": [', {}),), (Token('{"emotions": [', {}), Token("2", {}), Token("]}", {}))]
)
def test_no_probabilities_where_the_server_gives_none(tokens):
    assert label_probabilities(Answer('{"emotions": [2]}', tokens=tokens)) is None


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    config = tiny.tiny_config(tmp_path_factory.mktemp("annotated"))
    prepare(config, console=Console(quiet=True))
    return config


def annotator(body, number):
    """Labels by a word of the turn; what begins with "that" is not answered as asked."""
    text = asked(body).split("The person says: ")[1]
    films = ["like"] * text.count("\n1. ")
    if text.startswith("that"):
        return Reply("I would say curious.")
    answer = json.dumps({"emotions": [1, 3], "films": films})
    half = len('{"emotions": [')
    first = {"1": math.log(0.75), "2": math.log(0.25)}
    return Reply(answer, logprobs=[(answer[:half], {answer[:half]: 0.0}), ("1", first), (", ", {", ": 0.0}),
                                   ("3", {"3": 0.0}), (answer[half + 4 :], {answer[half + 4 :]: 0.0})])  # fmt: skip


def test_a_corpus_is_annotated_from_the_command_line(prepared, capsys):
    pytest.importorskip("openai", reason="the extra `llm` is not installed")
    corpus = PreparedCorpus.open(prepared.prepared_folder)
    with LlmServer(annotator) as server:
        arguments = [
            "annotate",
            str(corpus.folder),
            "--address",
            server.url,
            "--model",
            "org/small",
            "--input-price",
            "1",
        ]
        assert main([*arguments, "--output-price", "2"]) == 0
        assert "annotated 10 of 20 turns" in capsys.readouterr().out
        # seekers say the same in several dialogues: each question is asked once, and never again
        sent = len(server.requests)
        assert sent == len({json.dumps(body["messages"]) for body in server.requests}) < 20
        assert main(arguments) == 0 and len(server.requests) == sent
    folder = prepared.prepared / "annotations" / "tiny" / "org-small"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["turns"], manifest["annotated"], manifest["malformed"], manifest["with_probabilities"]) == (
        20,
        10,
        10,
        10,
    )
    assert manifest["labels"]["like"] == manifest["labels"]["happy"] == 10
    assert manifest["usage"]["input_tokens"] == 10 * sent and manifest["model"]["model"] == "org/small"
    rejected = read_jsonl_rows(folder / "malformed.jsonl")
    assert (
        len(rejected) == 10 and rejected[0]["answer"] == "I would say curious." and "not JSON" in rejected[0]["fault"]
    )
    annotations = Annotations.load(folder)
    made = annotations.by_turn["train-0", 0]
    assert (made.labels, made.valences) == ((0, 2), ("like",))
    assert made.probabilities == pytest.approx([0.375, 0.125, 0.5, *[0] * 6])
    text = (folder / "annotations.parquet").read_bytes() + (folder / "manifest.json").read_bytes()
    assert b"hello i liked" not in text  # ids and labels alone

    # the classifier learns from it where the config says so
    config = dataclasses.replace(prepared, emotion=dataclasses.replace(prepared.emotion, annotations="org-small"))
    experiment = open_experiment(config)
    assert len(experiment.utterances(Split.TRAIN)) == 6 and len(experiment.utterances(Split.VALID)) == 2
    assert {labels for _, labels in experiment.utterances(Split.TRAIN)} == {(0, 2)}
    manifest["inputs"] = {}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="annotates another preparation of the corpus"):
        experiment.utterances(Split.TRAIN)
    with pytest.raises(ValueError, match=r"has no annotations; run `ecr annotate`"):
        experiment.with_config(
            dataclasses.replace(prepared, emotion=dataclasses.replace(prepared.emotion, annotations="other"))
        ).utterances(Split.TRAIN)


def test_an_interrupted_annotation_leaves_the_former_one(prepared, capsys):
    pytest.importorskip("openai", reason="the extra `llm` is not installed")
    folder = prepared.prepared / "annotations" / "tiny" / "again"
    arguments = ["annotate", str(prepared.prepared_folder), "--model", "m", "--label", "again", "--limit", "1"]
    with LlmServer(annotator) as server:
        assert main([*arguments, "--address", server.url]) == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with LlmServer(lambda body, number: Reply(status=500, body="{}")) as server:
        assert main([*arguments, "--address", server.url, "--retries", "0"]) == 1
    assert "the same command goes on from there" in capsys.readouterr().err.replace("\n", " ")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert read_parquet(folder / "annotations.parquet")["split"] == ["train", "valid", "test"]


def test_without_an_address_nothing_is_asked(prepared, capsys):
    assert main(["annotate", str(prepared.prepared_folder), "--model", "m"]) == 1
    assert "no address" in capsys.readouterr().err
