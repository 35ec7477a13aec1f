"""`ecr simulate` with a run of random parameters: all systems, the files, and what happens the second time."""

from __future__ import annotations

import json

import pytest

from ecr_jax.cli import main
from ecr_jax.data import jsonl
from ecr_jax.data.schema import Split
from tests import random_run
from tests.llm_server import LlmServer, Reply

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    plain = {"candidates": 0}  # plans in bytes are longer than the room that a writer has
    return random_run.write(tmp_path_factory.mktemp("run"), conversation=plain, response=plain).folder


def test_a_run_and_baselines_talk_with_seekers(folder, capsys):
    command = ["simulate", str(folder), "--dialogues", "3", "--turns", "3", "--baselines", "popularity", "ranker"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "seeker 0001 wants" in printed and "simulated dialogues" in printed
    into = folder / "test" / "simulated" / "rule"
    rows = json.loads((into / "report.json").read_text())["rows"]
    values = {(row["model"], row["metric"]): row["value"] for row in rows if row["stratum"] == "all"}
    assert values["ecr", "refused_again"] == values["popularity", "refused_again"] == 0
    assert values["popularity", "constraints_kept"] == 1 and ("popularity", "answers_right") not in values
    assert {"ecr", "popularity", "ranker", "ecr - popularity", "ecr - ranker"} == {row["model"] for row in rows}
    for system in ("ecr", "popularity", "ranker"):
        corpus = jsonl.read(into / f"{system}.jsonl", Split.TRAIN)
        assert corpus.counts["films"] and not corpus.bad and corpus.conversations[0].split == Split.TEST

    before = (into / "ecr.rounds.jsonl").read_text()
    assert main(command) == 0 and "is complete" in capsys.readouterr().out
    assert main([*command, "--force"]) == 0
    assert (into / "ecr.rounds.jsonl").read_text() == before  # the same seeds give the same words
    assert main([*command, "--seed", "1"]) == 0
    assert (into / "ecr.rounds.jsonl").read_text() != before


def test_a_language_model_plays_the_seekers(folder, capsys):
    answer = json.dumps({"message": "A mystery, please.", "asks": "nothing", "feeling": "curious"})
    with LlmServer(lambda body, number: Reply(answer)) as server:
        command = ["simulate", str(folder), "--dialogues", "1", "--turns", "2", "--model", "m", "--address", server.url]
        assert main(command) == 0
    assert "requests sent" in capsys.readouterr().out
    assert (folder / "test" / "simulated" / "m" / "report.json").is_file()
    assert main(command[:-2]) == 1 and "--address" in capsys.readouterr().err
    assert main(["simulate", str(folder), "--address", "http://localhost:1/v1"]) == 1
    assert "--model" in capsys.readouterr().err
