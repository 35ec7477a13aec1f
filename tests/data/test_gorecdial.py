from __future__ import annotations

import json

import pytest

from ecr_jax.data import gorecdial, redial
from ecr_jax.data.acts import Act, ActName
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


def read(tmp_path, *records):
    path = tmp_path / "g.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return gorecdial.read(path, Split.TEST, {"1": "imdb:tt0113277"})


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
    assert (heat.entity, heat.feedback) == ("imdb:tt0113277", Feedback.LIKE)
    assert (up.entity, up.feedback) == (None, Feedback.DISLIKE)
    acts = {key: reading.counts[key] for key in ("recommended", "accepted", "rejected", "prompts", "messages")}
    assert acts == {"recommended": 2, "accepted": 1, "rejected": 1, "prompts": 3, "messages": 7}
    recommend, explain = Act(ActName.RECOMMEND), Act(ActName.EXPLAIN)
    of_turns = [(), (recommend, explain), (Act(ActName.ACCEPT),), (recommend,), (Act(ActName.REJECT),)]
    assert [turn.acts for turn in conversation.turns] == of_turns


def test_only_the_reply_to_the_interface_explains(tmp_path):
    turns = [(EXPERT, "RECOMMEND @1"), (EXPERT, "It fits."), (SEEKER, "Why did you recommend this movie?")]
    turns += [(SEEKER, "ACCEPT"), (EXPERT, "Great!")]
    (conversation,) = read(tmp_path, dialogue(*turns)).conversations
    assert [turn.acts for turn in conversation.turns] == [(Act(ActName.RECOMMEND),), (Act(ActName.ACCEPT),), ()]


def test_identical_repeats_are_left_out_and_counted(tmp_path):
    first, other = dialogue((SEEKER, "hi")), dialogue((SEEKER, "hello"), conversationId=10)
    reading = read(tmp_path, first, other, first, first)
    assert [c.id for c in reading.conversations] == ["9", "10"]
    assert (reading.bad, reading.counts["repeated"], reading.counts["messages"]) == ([], 2, 2)


def test_another_dialogue_with_a_used_id_is_refused(tmp_path):
    reading = read(tmp_path, dialogue((SEEKER, "hi")), dialogue((SEEKER, "hello")))
    assert [str(line) for line in reading.bad] == [f"{tmp_path / 'g.jsonl'}:2: id '9' was already used in line 1"]
    assert reading.counts["repeated"] == 0


def film_table(tmp_path, *rows, head="movie_id,ml_title,ml_year,plot,imdb_id"):
    path = tmp_path / "films.csv"
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def test_the_film_table_links_by_imdb_id(tmp_path):
    path = film_table(
        tmp_path, '1,Heat,1995,"A thief, and a\nman who hunts him.",0113277', "7,Up &amp; Away,2009,,1049413"
    )
    movies, bad = gorecdial.read_movies(path)
    assert bad == []
    assert movies == {
        "1": redial.Movie("1", "Heat (1995)", "imdb:tt0113277", plot="A thief, and a man who hunts him."),
        "7": redial.Movie("7", "Up & Away (2009)", "imdb:tt1049413"),
    }


def test_malformed_films_are_refused_with_their_line(tmp_path):
    rows = ["1,Heat,1995,,0113277", "2,,1995,,1", "3,Up,soon,,1", "4,It,1990,,tt12", "1,Heat,1995,,0113277", "5,Ran"]
    path = film_table(tmp_path, *rows)
    movies, bad = gorecdial.read_movies(path)
    assert [*movies] == ["1"]
    assert [str(line).removeprefix(f"{path}:") for line in bad] == [
        "3: ml_title is empty",
        "4: ml_year is 'soon'; expected digits",
        "5: imdb_id is 'tt12'; expected digits",
        "6: movie_id '1' occurs twice",
        "7: ml_year is ''; expected digits",
    ]


def test_a_film_table_without_a_column_is_refused(tmp_path):
    movies, bad = gorecdial.read_movies(film_table(tmp_path, "1,Heat,1995", head="movie_id,ml_title,ml_year"))
    assert movies == {} and [line.reason for line in bad] == ["no column imdb_id, plot"]


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
    ("name", "repeats", "conversations", "recommended", "accepted", "rejected", "prompts", "liked", "explained"),
    [
        ("train", 9, 7894, 16886, 14833, 2053, 33774, 14821, 16886),
        ("test", 0, 883, 1844, 1604, 240, 3688, 1604, 1843),
    ],
)
def test_the_real_corpus(
    real_data, name, repeats, conversations, recommended, accepted, rejected, prompts, liked, explained
):
    movies, bad = gorecdial.read_movies(real_data / "gorecdial" / "movie_plot.csv")
    assert (len(movies), bad) == (2065, [])
    parsed = gorecdial.read(real_data / "gorecdial" / f"{name}.jsonl", Split.TEST, redial.movie_uris(movies))
    assert (parsed.bad, parsed.counts["repeated"]) == ([], repeats)
    assert {key: parsed.counts[key] for key in ("conversations", "recommended", "accepted", "rejected", "prompts")} == {
        "conversations": conversations,
        "recommended": recommended,
        "accepted": accepted,
        "rejected": rejected,
        "prompts": prompts,
    }
    mentions = [m for c in parsed.conversations for t in c.turns if t.role is Role.RECOMMENDER for m in t.mentions]
    assert len(mentions) == parsed.counts["films"] == parsed.counts["linked"] == recommended
    assert sum(m.feedback is Feedback.LIKE for m in mentions) == liked
    explanations = [a for c in parsed.conversations for t in c.turns for a in t.acts if a.name is ActName.EXPLAIN]
    assert len(explanations) == explained
