"""The page of replies: what it marks and shows, and the paired differences, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.replies import alignment_differences, measured_table, shown_reply
from ecr_jax.evaluation.reply_measures import Judged
from ecr_jax.evaluation.system_replies import SystemReply


def reply(system, conversation="a", text="You could watch Heat (1995), by Michael Mann.", **fields):
    return SystemReply(conversation, 1, system, (("seeker", "hi"),), text, **fields)


def test_differences_of_alignment_are_paired_by_place():
    replies = [reply(system, place) for place in "ab" for system in ("ecr", "rival", "human")]
    shown = np.eye(9)[[0, 1, 0, 2, 2, 2]]  # ecr: right, right; rival: wrong, right
    targets = {r.place: row for r, row in zip(replies, shown, strict=True) if r.system == "human"}
    (row,) = alignment_differences(replies, Judged(shown, np.zeros(6), np.zeros(6)), targets, "tiny", "test")
    assert (row.model, row.value, row.n) == ("ecr - rival", pytest.approx(0.5), 2)


def test_films_facts_and_feelings_are_marked():
    one = reply("ecr", films=("Heat (1995)",), facts=("director: Michael Mann", "Heat"), heard="happy", tone="like")
    shown = shown_reply(3, one)
    assert shown.startswith("3. heard: happy; planned tone: like")
    assert "> seeker: hi" in shown and "> **ecr:** You could watch **Heat (1995)**, by *Michael Mann*." in shown


def test_rows_of_other_benchmarks_keep_what_they_have(tmp_path):
    path = tmp_path / "dialogues.json"
    path.write_text(json.dumps([{"case": "replies", "value": 0.123456, "unit": "", "peer": None}]))
    assert measured_table(path) == "**dialogues**\n\n| case | value |\n| --- | --- |\n| replies | 0.1235 |"
