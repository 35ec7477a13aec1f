from __future__ import annotations

import json

import pytest

from ecr_jax.data import gorecdial, redial
from ecr_jax.data.schema import Feedback, Role, Split

SEEKER, EXPERT = 100, 101


def dialogue(*messages, **changes):
    record = {
        "conversationId": 9,
        "initiatorWorkerId": SEEKER,
        "respondentWorkerId": EXPERT,
        "movieMentions": {"1": "Heat  (1995)", "2": "Up (2009)"},
        "initiatorQuestions": {"1": {"liked": 1}, "2": {"liked": 0}},
        "messages": [{"senderWorkerId": who, "text": text} for who, text in messages],
    }
    return {**record, **changes}


def read(tmp_path, record):
    path = tmp_path / "g.jsonl"
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    return gorecdial.read(path, Split.TEST, {"Heat (1995)": "<u/Heat>"})


def test_acts_become_words(tmp_path):
    reading = read(
        tmp_path,
        dialogue(
            (SEEKER, "I like crime films"),
            (EXPERT, "RECOMMEND @1"),
            (SEEKER, "Why did you recommend this movie?"),
            (EXPERT, "It fits."),
            (SEEKER, "ACCEPT"),
            (EXPERT, "Why did you accept the movie?"),
            (SEEKER, "Great cast"),
            (EXPERT, "RECOMMEND @2"),
            (SEEKER, "REJECT"),
            (EXPERT, "Why did you reject the movie?"),
        ),
    )
    assert reading.bad == []
    (conversation,) = reading.conversations
    assert conversation.id == "9"
    assert [(t.role, t.text) for t in conversation.turns] == [
        (Role.SEEKER, "I like crime films"),
        (Role.RECOMMENDER, "How about Heat (1995)? It fits."),
        (Role.SEEKER, "Yes, please. Great cast"),
        (Role.RECOMMENDER, "How about Up (2009)?"),
        (Role.SEEKER, "No, thanks."),
    ]
    (heat,), (up,) = conversation.turns[1].mentions, conversation.turns[3].mentions
    assert conversation.turns[1].text[heat.start : heat.end] == "Heat (1995)"
    assert (heat.entity, heat.feedback) == ("<u/Heat>", Feedback.LIKE)
    assert (up.entity, up.feedback) == (None, Feedback.DISLIKE)
    acts = {key: reading.counts[key] for key in ("recommended", "accepted", "rejected", "prompts", "messages")}
    assert acts == {"recommended": 2, "accepted": 1, "rejected": 1, "prompts": 3, "messages": 7}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (dialogue((SEEKER, "RECOMMEND @1")), "messages[0] (RECOMMEND) is not by the respondentWorkerId"),
        (dialogue((EXPERT, "ACCEPT")), "messages[0] (ACCEPT) is not by the initiatorWorkerId"),
        (dialogue((EXPERT, "RECOMMEND @5")), "messages[0] recommends @5, which movieMentions does not list"),
        (
            dialogue((EXPERT, "RECOMMEND @5"), movieMentions=[]),
            "messages[0] recommends @5, which movieMentions does not list",
        ),
        (dialogue((EXPERT, 4)), "messages[0].text is 4; expected a text"),
        (
            dialogue((3, "hi")),
            "messages[0].senderWorkerId is 3, which is neither the initiator nor the respondent (100 and 101)",
        ),
        (
            dialogue((SEEKER, "hi"), initiatorQuestions={"1": {"liked": 7}}),
            "initiatorQuestions[1].liked is 7; expected 0 (disliked), 1 (liked) or 2 (did not say)",
        ),
        (dialogue((SEEKER, "Why did you accept the movie?")), "messages hold no words"),
    ],
)
def test_a_malformed_line_is_refused_with_its_reason(tmp_path, record, reason):
    assert [str(b) for b in read(tmp_path, record).bad] == [f"{tmp_path / 'g.jsonl'}:1: {reason}"]


@pytest.mark.parametrize(
    ("name", "repeats", "conversations", "recommended", "accepted", "rejected", "prompts", "liked", "linked"),
    [
        ("train", 9, 7894, 16886, 14833, 2053, 33774, 14821, 13770),
        ("test", 0, 883, 1844, 1604, 240, 3688, 1604, 1515),
    ],
)
def test_the_real_corpus(
    real_data, name, repeats, conversations, recommended, accepted, rejected, prompts, liked, linked
):
    uris = redial.title_uris(redial.read_movies(real_data / "movies.jsonl")[0])
    parsed = gorecdial.read(real_data / "gorecdial" / f"{name}.jsonl", Split.TEST, uris)
    assert len(parsed.bad) == repeats and all("was already used" in line.reason for line in parsed.bad)
    assert {key: parsed.counts[key] for key in ("conversations", "recommended", "accepted", "rejected", "prompts")} == {
        "conversations": conversations,
        "recommended": recommended,
        "accepted": accepted,
        "rejected": rejected,
        "prompts": prompts,
    }
    mentions = [m for c in parsed.conversations for t in c.turns if t.role is Role.RECOMMENDER for m in t.mentions]
    assert len(mentions) == parsed.counts["films"] == recommended
    assert sum(m.feedback is Feedback.LIKE for m in mentions) == liked
    assert sum(m.entity is not None for m in mentions) == linked
