"""Judging by models behind a real server and by people on sheets: what is asked, what counts, what is missing."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from rich.console import Console

from ecr_jax.cli import main, parse
from ecr_jax.evaluation import human, judging, report, system_replies
from ecr_jax.evaluation.judge_tables import MEASURES, Preference, Score, preference_rows, score_rows
from ecr_jax.evaluation.judging import draw_sample, read_choices, read_scores, zero_shot, zero_shot_prompt
from ecr_jax.evaluation.system_replies import SystemReply
from ecr_jax.files import read_jsonl_rows, write_jsonl
from ecr_jax.llm.structured import MalformedError
from tests.llm_server import LlmServer, Reply, asked


def reply(conversation, system, text="hi", seen=None, turn=1):
    return SystemReply(
        conversation, turn, system, (("seeker", f"hello {conversation}"),), text, ("Heat (1995)",), seen=seen
    )


REPLIES = [reply(f"d{i}", system, f"{system} says {i}", seen=i < 2) for i in range(4) for system in ("ours", "theirs")]


@pytest.fixture
def file(tmp_path):
    system_replies.write(tmp_path / "replies.jsonl", [*REPLIES, reply("other", "ours")])
    return tmp_path / "replies.jsonl"


def quiet():
    return Console(file=io.StringIO(), width=200)


def by_key(rows):
    return {(row.model, row.stratum, row.metric): row for row in rows}


def test_mean_scores_strata_missing_and_differences_by_hand():
    scores = [
        Score("judge", r.conversation, r.turn, r.system,
              None if (r.conversation, r.system) == ("d3", "theirs") else ((6 if r.system == "ours" else 2),) * 5)
        for r in REPLIES
    ]  # fmt: skip
    rows = by_key(score_rows(scores, REPLIES, resamples=50))
    assert rows["ours", "all", "lifelikeness"].value == 6 and rows["ours", "all", "lifelikeness"].n == 4
    # a missing score is left out, not a zero
    assert rows["theirs", "all", "lifelikeness"].value == 2 and rows["theirs", "all", "lifelikeness"].n == 3
    assert rows["theirs", "all", "missing_scores"].value == 0.25 and rows["ours", "all", "missing_scores"].value == 0
    assert (rows["theirs", "seen", "informativeness"].n, rows["theirs", "unseen", "informativeness"].n) == (2, 1)
    difference = rows["ours - theirs", "all", "informativeness"]
    assert (difference.value, difference.low, difference.high, difference.n) == (4, 4, 4, 3)
    assert 0 < difference.p <= difference.p_holm <= 1
    assert not any("kappa" in metric or "alpha" in metric for _, _, metric in rows)  # one judge agrees with nobody


def test_agreement_of_judges():
    def scores(judge, values):
        return [Score(judge, r.conversation, r.turn, r.system, (values[i],) * 5) for i, r in enumerate(REPLIES)]

    # both rank ours before theirs everywhere, though one of them never leaves the upper half of the scale
    rows = by_key(score_rows(scores("a", [5, 0] * 4) + scores("b", [9, 8] * 4), REPLIES, resamples=20))
    assert rows["a with b", "all", "kappa_lifelikeness"].value == 1
    assert rows["all judges", "all", "alpha_lifelikeness"].value < 0.2
    assert rows["ours by a", "all", "lifelikeness"].value == 5 and rows["ours", "all", "lifelikeness"].value == 7
    opposite = by_key(score_rows(scores("a", [5, 0] * 4) + scores("b", [0, 5] * 4), REPLIES, resamples=20))
    assert opposite["a with b", "all", "kappa_lifelikeness"].value == -1


def test_win_rates_need_both_orders():
    def both(conversation, forth, back):
        values = (None if v is None else (v,) * 5 for v in (forth, back))
        return [Preference("j", conversation, 1, *order, v)
                for order, v in zip((("ours", "theirs"), ("theirs", "ours")), values, strict=True)]  # fmt: skip

    preferences = [
        *both("d0", 1.0, 0.0),  # ours in both orders
        *both("d1", 1.0, 1.0),  # whatever is shown first
        *both("d2", 0.5, 0.5),  # a tie in both
        *both("d3", 1.0, None),  # malformed in one order
    ]
    rows = by_key(preference_rows(preferences, REPLIES, resamples=50))
    row = rows["ours over theirs", "all", "win_rate_lifelikeness"]
    assert row.value == pytest.approx((1 + 0.5 + 0.5) / 3) and row.n == 3
    assert rows["ours over theirs", "all", "same_in_both_orders"].value == pytest.approx(2 / 3)
    assert rows["ours over theirs", "seen", "win_rate_lifelikeness"].n == 2
    assert preference_rows([], REPLIES) == []


@pytest.mark.parametrize("score", [-1, 10, 4.5, "7", None, True])
def test_scores_of_another_form_are_missing(score):
    good = dict.fromkeys(MEASURES, 7)
    assert read_scores(good) == (7,) * 5
    for value in (good | {"lifelikeness": score}, {"lifelikeness": 7}, [7] * 5, good | {"total": 35}):
        with pytest.raises(MalformedError):
            read_scores(value)


def test_choices():
    assert read_choices(dict(zip(MEASURES, ["A", "B", "tie", "A", "B"], strict=True))) == (1, 0, 0.5, 1, 0)
    with pytest.raises(MalformedError, match="emotional_intensity is 'C'"):
        read_choices(dict.fromkeys(MEASURES, "C"))


def test_a_sample_is_the_same_places_for_all_systems(file):
    sample = draw_sample([file], (), 3, seed=0)
    assert len(sample.places) == 3 and sample.systems == ("ours", "theirs") and len(sample.replies) == 6
    assert draw_sample([file], (), 3, seed=0).places == sample.places
    assert len(draw_sample([file], ("ours",), 99, seed=0).places) == 5
    for systems, message in ((("mine",), "no system 'mine'"),):
        with pytest.raises(ValueError, match=message):
            draw_sample([file], systems, 3, 0)
    with pytest.raises(ValueError, match="two of the files"):
        draw_sample([file, file], (), 3, 0)


def critic(body, number):
    """Prefers what is shown first, scores by the speaker, and one reply does not get a score."""
    system, question = (message["content"] for message in body["messages"])
    if "Reply A:" in question:
        return Reply(json.dumps(dict.fromkeys(MEASURES, "A")))
    if "theirs says 2" in question:
        return Reply("As a critic I would say 7/9.")
    return Reply(json.dumps(dict.fromkeys(MEASURES, 8 if "ours says" in question else 3)))


def test_judges_behind_a_server(file, capsys):
    pytest.importorskip("openai", reason="the extra `llm` is not installed")
    with LlmServer(critic) as server:
        arguments = ["judge", str(file), "--judges", "one", f"two@{server.url},NO_KEY", "--address", server.url]
        assert main(arguments) == 0
        # a score a reply, and both orders a place, of each judge
        assert len(server.requests) == 2 * (8 + 8)
        assert {body["model"] for body in server.requests} == {"one", "two"}
        assert all(asked(body).count("ours") <= 1 for body in server.requests)  # in the reply alone: judges are blind
        assert main(arguments) == 0 and len(server.requests) == 32
    folder = file.parent / "judged"
    rows = by_key(report.read(folder / "report.json").rows)
    assert rows["ours", "all", "lifelikeness"].value == 8 and rows["theirs", "all", "lifelikeness"].value == 3
    assert rows["theirs", "all", "missing_scores"].value == 0.25
    assert rows["ours over theirs", "all", "win_rate_lifelikeness"].value == 0.5
    assert rows["ours over theirs", "all", "same_in_both_orders"].value == 0  # it always took the first
    assert rows["one with two", "all", "kappa_lifelikeness"].value == 1
    written = json.loads((folder / "report.json").read_text())["provenance"]
    assert written["prompts"] == judging.PROMPT_HASH and len(written["judges"]) == 2
    (malformed,) = read_jsonl_rows(folder / "malformed-one-scores.jsonl")
    assert malformed["about"]["system"] == "theirs" and "not JSON" in malformed["fault"]
    assert sum(row["values"] is None for row in read_jsonl_rows(folder / "scores.jsonl")) == 2
    assert "judged: win rates" in capsys.readouterr().out


def test_without_an_address_nothing_is_judged(file, capsys):
    assert main(["judge", str(file), "--judges", "gpt-4-turbo"]) == 1
    assert "no address" in capsys.readouterr().err and not (file.parent / "judged").exists()


def test_judges_are_parsed():
    judges = ["org/a@2", "b@http://h:1/v1", "c@https://h/v1,KEY"]
    command = parse(["judge", "x", "--judges", *judges, "--address", "http://d/v1"])
    addresses = [command._address(judge) for judge in command.judges]
    assert [(a.model, a.base_url, a.key_variable) for a in addresses] == [
        ("org/a@2", "http://d/v1", "OPENAI_API_KEY"), ("b", "http://h:1/v1", "OPENAI_API_KEY"),
        ("c", "https://h/v1", "KEY"),
    ]  # fmt: skip


class Echo:
    """Writes what it is told, in the place of a model."""

    def write(self, prompts, candidates):
        return [[prompt[0]["content"].rsplit("In this turn, ")[1]] * candidates for prompt in prompts]


def test_zero_shot_recommends_the_same_films():
    (written,) = zero_shot([reply("d", "ours")], Echo(), "zero-shot m")
    assert (written.system, written.reply, written.films) == ("zero-shot m", "recommend Heat (1995).", ("Heat (1995)",))
    context = (("recommender", "hi"), ("seeker", "hello"))
    prompt = zero_shot_prompt(SystemReply("d", 2, "ours", context, "secret"))
    assert [message["role"] for message in prompt] == ["system", "assistant", "user"] and "secret" not in str(prompt)


def rows_of(sheet):
    with sheet.open(newline="") as file:
        return list(csv.DictReader(file))


def fill(path, into, score):
    """A sheet as a rater sends it back: `score` of its reply on every question."""
    rows = rows_of(path)
    with into.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(row | dict.fromkeys(MEASURES, score(row["reply"])) for row in rows)
    return into


def test_sheets_are_blind_shuffled_and_come_back(file, tmp_path, capsys):
    folder = tmp_path / "people"
    assert main(["human", "export", str(file), "--into", str(folder), "--raters", "2", "--sample", "4"]) == 0
    sheets = [rows_of(folder / f"sheet-{number}.csv") for number in (1, 2)]
    assert [len(sheet) for sheet in sheets] == [8, 8]
    codes = [[row["code"] for row in sheet] for sheet in sheets]
    assert codes[0] != codes[1] and set(codes[0]) == set(codes[1])
    assert "system" not in sheets[0][0] and all(row["lifelikeness"] == "" for row in sheets[0])
    page = (folder / "sheet-1.html").read_text()
    assert all(row["reply"] in page for row in sheets[0]) and "http" not in page  # it needs nothing else
    filled = [
        fill(folder / "sheet-1.csv", tmp_path / "ann.csv", lambda text: 9 if text.startswith("ours") else 4),
        fill(folder / "sheet-2.csv", tmp_path / "bob.csv", lambda text: "" if text.endswith("3") else 5),
    ]
    beside = tmp_path / "scores.jsonl"
    values = {"ours": [7] * 5, "theirs": [6] * 5}
    scores = [{"judge": "gpt", "conversation": r.conversation, "turn": 1, "system": r.system} for r in REPLIES]
    write_jsonl(beside, (row | {"values": values[row["system"]]} for row in scores))
    assert main(["human", "import", str(folder), *map(str, filled), "--beside", str(beside)]) == 0
    rows = by_key(report.read(folder / "judged" / "report.json").rows)
    assert (
        rows["ours by ann", "all", "informativeness"].value == 9 and rows["theirs by bob", "all", "lifelikeness"].n == 3
    )
    assert rows["ann with gpt", "all", "kappa_informativeness"].value == 1
    assert math.isclose(rows["ours", "all", "missing_scores"].value, 1 / 12)
    assert main(["human", "export", str(file), "--into", str(folder)]) == 1
    assert "has sheets already" in " ".join(capsys.readouterr().err.split())


def test_what_people_write_is_escaped_and_what_they_send_is_checked(tmp_path):
    system_replies.write(tmp_path / "replies.jsonl", [reply("d", "ours", '<script>alert("x")</script>, "quoted"')])
    sample = draw_sample([tmp_path / "replies.jsonl"], (), 1, 0)
    human.export(sample, tmp_path / "out", raters=1, seed=0, console=quiet())
    assert "<script>alert" not in (tmp_path / "out" / "sheet-1.html").read_text()
    assert rows_of(tmp_path / "out" / "sheet-1.csv")[0]["reply"] == sample.replies[0].reply
    header = ",".join(["code", *MEASURES])
    for text, message in [
        ("code,reply\nR0001,x\n", "has no column 'emotional_intensity'"),
        (f"{header}\nR9,1,1,1,1,1\n", "sheet.csv:2: the code 'R9' is not in key.json"),
        (f"{header}\nR0001,1,1,1,1,1\nR0001,1,1,1,1,1\n", "sheet.csv:3: the code R0001 occurs twice"),
        (
            f"{header}\nR0001,1,1,10,1,1\n",
            "sheet.csv:2: logic_persuasiveness is '10'; a score is a whole number from 0 to 9",
        ),
        (f"{header}\nR0001,1,1,much,1,1\n", "is 'much'"),
    ]:
        (tmp_path / "sheet.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            human.collect(tmp_path / "out", [tmp_path / "sheet.csv"], [], console=quiet())
    with pytest.raises(ValueError, match=r"has no key\.json"):
        human.collect(tmp_path, [], [], console=quiet())
