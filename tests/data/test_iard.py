from __future__ import annotations

import json

import pytest

from ecr_jax.data import iard
from ecr_jax.data.acts import RECOMMENDER_ACTS, SEEKER_ACTS, ActName
from ecr_jax.data.schema import Feedback, Role, Split


def utterance(role, text, *labels):
    return {"role": role, "utterance_text": text, "sub-intent/action": list(labels), "worker_id": 1}


def dialogue(*utterances, **changes):
    info = {f"{u['role'][0].upper()}{i}": u for i, u in enumerate(utterances, start=1)}
    return {"conversation_id": "474", "redial_part": "absent-train", "dialogue_info": info, **changes}


def read(tmp_path, *records):
    path = tmp_path / "iard.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return iard.read(path, {"7": "<u/Heat>"})


def acts(turn):
    return [str(act) for act in turn.acts]


def test_a_dialogue_is_read_with_its_acts(tmp_path):
    reading = read(
        tmp_path,
        dialogue(
            utterance("seeker", "Hi! I want a thriller", "OTH", "IQU"),
            utterance("recommender", "@7 <Heat  (1995)>  or @8 <Why Him%3F (2016)>  <Why Him%3F (2016)> ?", "REC-S"),
            utterance("seeker", "Seen both.", "SEE"),
            utterance("seeker", "I don&#39;t like guns, anything newer?", "CRI-F", "CRI-A"),
            utterance("recommender", "I see.", "RESP", "REQ", "CLQ"),
            utterance("seeker", "Who directed @7 <Heat (1995)> ?", "INQ", "NRE"),
            utterance("recommender", "Michael Mann. It's intense. Have a good one!", "R-ANS", "EXP-I", "EXP-P", "OTH"),
            utterance("seeker", "Thank you, bye", "ACC", "OTH"),
            utterance("recommender", "ok haha", "OTH"),
        ),
    )
    assert reading.bad == []
    (conversation,) = reading.conversations
    assert (conversation.id, conversation.split) == ("474", Split.TRAIN)
    assert [(turn.role, acts(turn)) for turn in conversation.turns] == [
        (Role.SEEKER, ["greet", "request"]),
        (Role.RECOMMENDER, ["recommend"]),
        (Role.SEEKER, ["seen", "reject", "prefer", "request"]),
        (Role.RECOMMENDER, ["react", "ask"]),
        (Role.SEEKER, ["question", "chat"]),
        (Role.RECOMMENDER, ["answer", "explain", "close"]),
        (Role.SEEKER, ["accept", "thank"]),
        (Role.RECOMMENDER, ["chat"]),
    ]
    films = conversation.turns[1]
    assert films.text == "Heat (1995) or Why Him? (2016) ?"
    assert [films.text[m.start : m.end] for m in films.mentions] == ["Heat (1995)", "Why Him? (2016)"]
    assert [m.entity for m in films.mentions] == ["<u/Heat>", None]
    assert {m.feedback for m in films.mentions} == {Feedback.UNSAID}
    assert conversation.turns[2].text == "Seen both. I don't like guns, anything newer?"
    assert reading.counts["act_prefer"] == 1 and reading.counts["films"] == 3


def test_every_label_becomes_an_act_of_its_role():
    for role, known in ((Role.SEEKER, SEEKER_ACTS), (Role.RECOMMENDER, RECOMMENDER_ACTS)):
        found = {act for mapped in iard._ACTS[role].values() for act in mapped}
        found |= {act for text in ("hi", "thanks, bye", "ok") for act in iard._other(role, text)}
        assert found == set(known) - {ActName.WHY}  # IARD has no label for it


@pytest.mark.parametrize("part,split", [("train", Split.TRAIN), ("valid", Split.VALID), ("test_open", Split.TEST)])
def test_the_split_is_that_of_redial(part, split, tmp_path):
    record = dialogue(utterance("seeker", "hi", "OTH"), redial_part=part)
    assert [c.split for c in read(tmp_path, record).conversations] == [split]


@pytest.mark.parametrize(
    "record,message",
    [
        (dialogue(utterance("seeker", "hi", "REC-S")), "dialogue_info.S1.sub-intent/action has 'REC-S'; labels of a"),
        (dialogue(utterance("seeker", "hi", ["OTH"])), "sub-intent/action has"),
        (dialogue(utterance("bot", "hi", "OTH")), "role is 'bot'; expected seeker or recommender"),
        (dialogue(utterance("seeker", " ", "OTH")), "dialogue_info holds no words"),
        (dialogue(utterance("seeker", "hi", "OTH"), redial_part="dev"), "redial_part is 'dev'"),
        (dialogue(dialogue_info=[]), "dialogue_info is"),
    ],
)
def test_malformed_lines_are_reported_and_the_others_read(record, message, tmp_path):
    good = dialogue(utterance("seeker", "hi", "OTH"), conversation_id="1")
    reading = read(tmp_path, record, good)
    assert len(reading.conversations) == 1
    (bad,) = reading.bad
    assert message in bad.reason and bad.line == 1
