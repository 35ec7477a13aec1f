from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from ecr_jax.data import films
from ecr_jax.data.acts import RECOMMENDER_ACTS, SEEKER_ACTS, Act, ActName, Attribute
from ecr_jax.data.films import dialogue, phrases, recommender, seeker, writing
from ecr_jax.data.films.ground import Ground, Heard
from ecr_jax.data.films.world import World
from ecr_jax.data.films.writing import Style
from ecr_jax.data.schema import EMOTIONS, Feedback, Role, Split, Turn, read_conversations, write_conversations


@pytest.fixture(scope="module")
def generated(film_table):
    return films.generate(film_table, seed=1, dialogues=120, reviews=200)


@pytest.fixture(scope="module")
def real_table(hub_model):
    return hub_model("wikidata-films")


@pytest.fixture(scope="module")
def real_films(real_table):
    return films.read_table(real_table)


@pytest.fixture(scope="module")
def world(real_films):
    return World(real_films)


@pytest.fixture(scope="module")
def real(real_table):
    return films.generate(real_table, dialogues=400, reviews=300)


def _turns(corpus):
    return [turn for conversation in corpus.conversations for turn in conversation.turns]


def test_corpus_is_the_same_in_every_version(film_table):
    """Change the digest only together with `films.VERSION`: with other phrases, published results change."""
    corpus = films.generate(film_table, seed=3, dialogues=40, reviews=30)
    text = "\n".join([*(turn.text for turn in _turns(corpus)), *(review.text for review in corpus.reviews)])
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "f491e5a2b727e9c0aa4d5445f15268e1a595c7cc679e3eb89344057c68f874b6"
    )


# The table.


def test_read_table_takes_the_first_row_of_an_id_and_mends_spaces(film_table):
    table = {film.uri: film for film in films.read_table(film_table)}
    assert len(table) == 301
    film = table["imdb:tt0000007"]
    assert film.name == "Made-up Film 7 (1957)" and film.era == 1950 and film.reviews == 27
    assert film.companies == ("Studio Nine",) and film.directors == ("Maker 7",)
    assert film.cast == ("Player 7", "Player 21", "Player 3")
    assert table["imdb:tt0000901"].name == "Bare" and table["imdb:tt0000901"].cast == ()


def test_what_is_no_film_table_is_refused(tmp_path):
    path = tmp_path / "movies.db"
    path.write_bytes(b"no database at all, whatever its name may say")
    with pytest.raises(ValueError, match="cannot be read as the film table .* tables omdb and tomatoes"):
        films.read_table(path)
    with pytest.raises(ValueError, match="unable to open"):
        films.read_table(tmp_path / "missing.db")


def test_too_few_films_and_bad_numbers_are_refused(film_table, tmp_path):
    path = tmp_path / "few.db"
    path.write_bytes(film_table.read_bytes())
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM omdb WHERE ID >= 40")
    connection.commit()
    connection.close()
    with pytest.raises(ValueError, match="40 well documented films; at least 50"):
        films.generate(path)
    with pytest.raises(ValueError, match="dialogues 9"):
        films.generate(film_table, dialogues=9)
    with pytest.raises(ValueError, match="seed -1"):
        films.generate(film_table, seed=-1)


# The corpus.


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(film_table, generated, tmp_path):
    again = films.generate(film_table, seed=1, dialogues=120, reviews=200)
    assert again == generated
    for name, corpus in (("a", generated), ("b", again)):
        write_conversations(tmp_path / name, corpus.conversations)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_conversations(tmp_path / "a") == list(generated.conversations)
    assert films.generate(film_table, seed=2, dialogues=120, reviews=200).conversations != generated.conversations


def test_more_dialogues_leave_the_first_ones_as_they_are(film_table, generated):
    assert films.generate(film_table, seed=1, dialogues=130, reviews=0).conversations[:120] == generated.conversations


def test_splits_are_eighty_ten_ten_and_disjoint(generated):
    assert Counter(c.split for c in generated.conversations) == {Split.TRAIN: 96, Split.VALID: 12, Split.TEST: 12}
    assert len({c.id for c in generated.conversations}) == 120


def test_turns_alternate_and_show_one_or_two_emotions(generated):
    for conversation in generated.conversations:
        assert 4 <= len(conversation.turns) <= 30
        for one, two in zip(conversation.turns, conversation.turns[1:], strict=False):
            assert one.role != two.role
        for turn in conversation.turns:
            assert turn.text.strip() == turn.text and "  " not in turn.text
            assert not set("<>|") & set(turn.text)
            assert 1 <= len(turn.emotions) <= 2
            assert set(turn.emotions) <= set(EMOTIONS)


def test_spans_are_exact(generated, film_table):
    table = {film.uri: film for film in films.read_table(film_table)}
    for mention, text in [(m, turn.text) for turn in _turns(generated) for m in turn.mentions] + [
        (m, review.text) for review in generated.reviews for m in review.mentions
    ]:
        surface = text[mention.start : mention.end]
        if mention.film:
            film = table[mention.entity]
            assert mention.name == film.name and surface.lower() in (film.name.lower(), film.title.lower())
        else:
            assert surface.lower() == mention.name.lower()
            kind, name = mention.entity.split(":", 1)
            assert name == mention.name if kind != "genre" else name in phrases.nouns.GENRES


def test_feedback_is_of_films_and_the_same_all_through_a_dialogue(generated):
    for conversation in generated.conversations:
        answers = {}
        for mention in (m for turn in conversation.turns for m in turn.mentions):
            assert (mention.feedback is None) != mention.film
            if mention.film:
                assert answers.setdefault(mention.entity, mention.feedback) == mention.feedback


def test_every_mentioned_film_is_an_item(generated):
    assert list(generated.items) == sorted(set(generated.items)) and "imdb:tt0000901" not in generated.items
    assert {m.entity for turn in _turns(generated) for m in turn.mentions if m.film} <= set(generated.items)


def test_reviews_are_of_films_that_train_dialogues_mention(generated):
    train = {
        m.entity
        for c in generated.conversations
        if c.split == Split.TRAIN
        for t in c.turns
        for m in t.mentions
        if m.film
    }
    assert len(generated.reviews) == 200 and {review.film for review in generated.reviews} <= train
    assert all(20 <= len(review.text.split()) <= 110 and review.rating == 10 for review in generated.reviews)
    assert all(2 <= len(re.findall(r"[.!?](?= |$)", review.text)) <= 7 for review in generated.reviews)
    assert all(review.votes > 0 and review.mentions[0].entity == review.film for review in generated.reviews)


def test_a_recommender_acts_only_on_what_was_said_before(film_table):
    class Watched(recommender.Recommender):
        def scores(self):
            said = {m.entity for turn in self.ground.turns if turn.role == Role.SEEKER for m in turn.mentions}
            for kind, value in self.ground.tastes + self.ground.ruled_out:
                # "Anything funnier?" asks for a genre without its name.
                if kind != "era" and value not in phrases.seeker.CRITIQUES:
                    assert films.uri("person" if kind in ("director", "actor") else kind, value) in said
            named = {m.entity for turn in self.ground.turns for m in turn.mentions if m.film}
            assert {self.world.pool[film].uri for film in self.ground.valence} == named
            checked.append(len(said))
            return super().scores()

    checked = []
    world = World(films.read_table(film_table))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialogue, "Recommender", Watched)
        for i in range(60):
            dialogue.converse(world, np.random.default_rng(i))
    assert len(checked) > 100 and max(checked) > 2


# Acts.


def test_every_turn_has_acts_of_its_role(generated):
    for turn in _turns(generated):
        assert turn.acts
        assert {act.name for act in turn.acts} <= set(SEEKER_ACTS if turn.role == Role.SEEKER else RECOMMENDER_ACTS)


def test_every_act_and_attribute_occurs_often(real):
    found = Counter(str(act) for turn in _turns(real) for act in turn.acts)
    unheld = {"answer:film", "question:film"}
    asked = {f"ask:{a}" for a in (Attribute.GENRE, Attribute.CAST, Attribute.DIRECTOR, Attribute.YEAR, Attribute.FILM)}
    about = {f"{name}:{attribute}" for name in ("question", "answer") for attribute in Attribute} - unheld
    plain = {*map(str, SEEKER_ACTS), *map(str, RECOMMENDER_ACTS)}
    assert set(found) == plain | about | asked
    assert min(found.values()) >= 8 and min(found[act] for act in plain) >= 20


def test_acts_agree_with_their_turns(real):
    """Five dialogues whose acts were checked by hand."""
    turns = {(c.id, i): turn for c in real.conversations for i, turn in enumerate(c.turns)}
    rows = [json.loads(line) for line in (Path(__file__).parent / "film_acts.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) > 40
    for row in rows:
        turn = turns[row["id"], row["turn"]]
        assert (turn.text, " ".join(map(str, turn.acts))) == (row["text"], row["acts"])


def test_a_question_is_answered_in_the_next_turn(real):
    for conversation in real.conversations:
        for one, two in zip(conversation.turns, conversation.turns[1:], strict=False):
            asked = [act.attribute for act in one.acts if act.name == ActName.QUESTION and act.attribute]
            assert set(asked) <= {act.attribute for act in two.acts if act.name == ActName.ANSWER}
            if Act(ActName.WHY) in one.acts:
                assert Act(ActName.EXPLAIN) in two.acts


def test_recommended_films_are_new_and_come_last(real):
    """A film named before comes back only in answers, reasons and goodbyes."""
    for conversation in real.conversations:
        named = set()
        for turn in conversation.turns:
            entities = [m.entity for m in turn.mentions if m.film]
            if turn.role == Role.RECOMMENDER:
                new = [entity not in named for entity in entities]
                assert new == sorted(new) and any(new) == (Act(ActName.RECOMMEND) in turn.acts)
                if not {ActName.ANSWER, ActName.EXPLAIN, ActName.CLOSE} & {act.name for act in turn.acts}:
                    assert all(new)
                assert sum(new) <= 3 and len(entities) == len(set(entities)) <= 4
            named.update(entities)


def test_what_is_ruled_out_is_not_recommended(film_table):
    class Watched(recommender.Recommender):
        def _recommend(self, writer, heard):
            super()._recommend(writer, heard)
            for film in self.ground.recent:
                ruled_out = [taste for taste in self.ground.ruled_out if self.world.fits(taste)[film]]
                assert not ruled_out
            checked.append(len(self.ground.ruled_out))

    checked = []
    world = World(films.read_table(film_table))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialogue, "Recommender", Watched)
        for i in range(120):
            dialogue.converse(world, np.random.default_rng(i))
    assert sum(map(bool, checked)) > 30


COLUMNS = {
    Attribute.DIRECTOR: "Director", Attribute.CAST: "Cast", Attribute.WRITER: "Writer", Attribute.GENRE: "Genre",
    Attribute.COUNTRY: "Country", Attribute.LANGUAGE: "Language", Attribute.COMPANY: "Production",
}  # fmt: skip


def test_answers_are_true(world, real_table):
    """2,000 answers against the table, those to yes-or-no questions by their first words."""
    table = _facts(real_table)
    rng = np.random.default_rng(0)
    checked = Counter()
    for number in range(2000):
        if number % 200 == 0:
            speakers = seeker.Seeker(world, rng, Style())
        ground = speakers.ground = Ground(world, rng, lambda film: Feedback.UNSAID)
        film = int(rng.integers(len(world.pool)))
        item = world.pool[film]
        row = table[item.uri.removeprefix("imdb:")]
        question, _, _ = speakers._draw_question(film, False, set())
        ground.turns.append(Turn(Role.SEEKER, "", acts=(seeker.question_act(question.kind),)))
        turn = recommender.Recommender(ground, Style()).reply(Heard(questions=[question]), None)
        stated = {Attribute(act.attribute) for act in turn.acts if act.name == ActName.ANSWER and act.attribute}
        values = {value for a in stated & set(COLUMNS) for value in (row[COLUMNS[a]] or "").split(", ")}
        for mention in turn.mentions:
            if mention.film:
                assert mention.entity == item.uri
                continue
            name = mention.entity.split(":", 1)[1]
            if name == question.value:
                said_yes = not re.match(r"No|Nope|Not|I don't see", turn.text)
                assert said_yes == (name in values), turn.text
                checked["yes" if said_yes else "no"] += 1
            else:
                assert name in values, turn.text
                checked["fact"] += 1
        rest = "".join(turn.text[a:b] for a, b in _between(turn))
        for year in re.findall(r"\d{4}", rest):
            assert int(year) == row["Year"]
            checked["year"] += 1
        if question.kind in ("old", "new") and (
            verdict := re.match(r"(Yes|Yep|Pretty old|Fairly new)|(No)", turn.text)
        ):
            expected = row["Year"] < 1980 if question.kind == "old" else row["Year"] >= 2008
            assert bool(verdict[1]) == expected, turn.text
    assert min(checked[name] for name in ("yes", "no", "fact", "year")) > 60


def test_what_the_graph_does_not_hold_is_not_known(real):
    unknown = (Attribute.RUNTIME, Attribute.PLOT, Attribute.COMPOSER)
    admits = re.compile(r"not sure|don't know|can't|couldn't|no idea|don't want to guess", re.IGNORECASE)
    turns = [t for t in _turns(real) if any(a.name == ActName.ANSWER and a.attribute in unknown for a in t.acts)]
    assert len(turns) > 40
    assert sum(bool(admits.search(turn.text)) for turn in turns) > 0.97 * len(turns)  # some are misspelt


# The language.

MISTAKES = {
    "two articles": r"\b(a|an|the) (a|an|the)\b",
    "a before a vowel": r"\ba (?!one\b|u|eu)[aeiou]",
    "an before a consonant": r"\ban (?!hour|\d|x)[^aeiou]",
    "a slot": r"[<>|_()]",
    "spaces": r"  | [.,!?;]|^ | $",
    "full stops": r"(?<!\.)\.\.(?!\.)|[!?]\.|,\.|\.,",
    "a word twice": r"\b(?!ha\b|blah\b|banana\b|hello\b)([a-z]+) \1\b",
    "an odd pronoun": r"\b(it it|not it|up it|yes it it)\b",
    "a question without its mark": r"\b(how about|what about|have you (seen|heard))\b[^.?!]*\.",
    "a plural and a singular": r"\b(movies|films|comedies|thrillers|dramas) (is|was|has)\b|\ban? \w+ (movies|films)\b",
    "a preposition before a decade": r"\bwith the \d0s|\ban? the\b",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_no_turn_has_a_known_mistake(mistake, real):
    """2,000 turns and all reviews; titles and names are not ours."""
    texts = [(turn.text, turn.mentions) for turn in _turns(real)][:2000] + [(r.text, r.mentions) for r in real.reviews]
    assert len(texts) > 2000
    for text, mentions in texts:
        for mention in reversed(mentions):
            if mention.film or mention.entity.startswith(("person", "company")):
                text = f"{text[: mention.start]}Xx{text[mention.end :]}"
        found = re.search(MISTAKES[mistake], re.sub(r"\.\.\.|\?\?\?", "x", text), re.IGNORECASE)
        assert not found, text


def _branches(phrase):
    """Every text that a phrase can become."""
    match = writing._BRANCHES.search(phrase)
    if not match:
        return [phrase]
    before, after = phrase[: match.start()], phrase[match.end() :]
    return [text for branch in match[1].split("|") for text in _branches(before + branch + after)]


def _banks():
    for module in (phrases.moods, phrases.seeker, phrases.recommender, phrases.reviews):
        pending = [value for name, value in vars(module).items() if name.isupper()]
        while pending:
            value = pending.pop()
            if isinstance(value, dict):
                pending += value.values()
            elif isinstance(value, phrases.moods.Mood):
                pending += [value.says, value.answers, value.why]
            elif len(value) > 1 and isinstance(value[1], tuple):  # (tone, bank)
                pending.append(value[1])
            else:
                yield value


def test_every_bank_is_of_whole_phrases():
    banks = list(_banks())
    assert len(banks) > 200
    for bank in banks:
        assert isinstance(bank, tuple) and bank
        for phrase in bank:
            assert len(phrase) > 1 and phrase.count("(") == phrase.count(")") and phrase == phrase.strip()
            assert all("()" not in text and "|" not in text for text in _branches(phrase)), phrase
        assert len(set(bank)) == len(bank)


@pytest.mark.parametrize("bank", [phrases.seeker.TASTES, phrases.seeker.SEEN, phrases.seeker.ACCEPT])
def test_every_emotion_has_phrases_that_no_other_emotion_shares(bank):
    texts_of = {emotion: {text for phrase in bank[emotion] for text in _branches(phrase)} for emotion in bank}
    assert set(texts_of) >= {"like", "happy", "surprise", "neutral", "agreement"}
    for one, two in product(texts_of, texts_of):
        assert one == two or not texts_of[one] & texts_of[two]


def test_a_phrase_chooses_its_branches_and_mends_its_spaces():
    texts = {writing.choose(np.random.default_rng(i), "I (really|) like (it (a lot|)|that) .") for i in range(60)}
    assert texts == {
        "I really like it a lot.", "I really like it.", "I really like that.",
        "I like it a lot.", "I like it.", "I like that.",
    }  # fmt: skip


def test_a_phrase_without_its_slot_is_refused():
    with pytest.raises(KeyError, match="needs the slot <film>"):
        writing.Writer(np.random.default_rng(0)).say(("I saw <film>.",))


def test_a_turn_is_neutral_only_where_it_shows_nothing_else():
    writer = writing.Writer(np.random.default_rng(0))
    assert writer.turn(Role.SEEKER).emotions == ("neutral",)
    for emotion in ("neutral", "happy", "like", "curious"):
        writer.say(("Hm.",), Act(ActName.CHAT), emotion=emotion)
    turn = writer.turn(Role.SEEKER)
    assert turn.emotions == ("happy", "like") and turn.acts == (Act(ActName.CHAT),)


# On the real table.


def _facts(table):
    connection = sqlite3.connect(table)
    connection.row_factory = sqlite3.Row
    rows = connection.execute("SELECT * FROM omdb JOIN tomatoes USING (ID) ORDER BY ID DESC").fetchall()
    connection.close()
    return {row["imdbID"]: row for row in rows}


def test_reviews_say_what_is_true(real, real_table):
    table = _facts(real_table)
    checked = Counter()
    for review in real.reviews:
        row = table[review.film.removeprefix("imdb:")]
        assert review.title == f"{row['Title']} ({row['Year']})"

        def listed(column, row=row):
            return (row[column] or "").split(", ")

        for mention in review.mentions[1:]:
            kind, name = mention.entity.split(":", 1)
            columns = {
                "person": ("Director", "Writer", "Cast"), "genre": ("Genre",), "country": ("Country",),
                "language": ("Language",), "company": ("Production",),
            }[kind]  # fmt: skip
            assert any(name in listed(column) for column in columns), (review.title, name)
            checked[kind] += 1
        rest = "".join(review.text[a:b] for a, b in _between(review))
        for number in re.findall(r"\d+", rest):
            years = {f"{row['Year']}", f"{row['Year'] // 10 * 10}", f"{row['Year'] % 100 // 10 * 10}"}
            assert number in years, review.text
            checked["number"] += 1
    assert {"person", "genre", "country", "company", "number"} <= set(checked), checked


def _between(review):
    edges = [0, *(edge for m in review.mentions for edge in (m.start, m.end)), len(review.text)]
    return list(zip(edges[::2], edges[1::2], strict=True))


def test_every_review_has_one_feeling_and_all_feelings_occur(real):
    found = Counter(review.emotion for review in real.reviews)
    assert set(found) == set(EMOTIONS) and found["neutral"] < 0.1 * found.total()
    for review in real.reviews:
        others = {e: bank for e, bank in phrases.reviews.FEELINGS.items() if e != review.emotion}
        assert not any(text in review.text for bank in others.values() for phrase in bank for text in _branches(phrase))


def test_proportions_are_about_those_of_redial(real):
    answers, again, openers = Counter(), [], Counter()
    emotions = Counter(e for turn in _turns(real) if turn.role == Role.SEEKER for e in turn.emotions)
    for conversation in real.conversations:
        openers[conversation.turns[0].role] += 1
        seen = set()
        for turn in conversation.turns:
            named = [m for m in turn.mentions if m.film]
            if turn.role == Role.RECOMMENDER:
                answers.update(m.feedback for m in named)
                again += [m.entity in seen for m in named]
            seen |= {m.entity for m in named}
    share = {answer: answers[answer] / answers.total() for answer in Feedback}
    assert share[Feedback.LIKE] == pytest.approx(0.76, abs=0.04)
    assert share[Feedback.DISLIKE] == pytest.approx(0.06, abs=0.025)
    assert share[Feedback.UNSAID] == pytest.approx(0.185, abs=0.03)
    assert np.mean(again) == pytest.approx(0.13, abs=0.035)
    assert openers[Role.RECOMMENDER] / 400 == pytest.approx(2 / 3, abs=0.07)
    assert set(emotions) == set(EMOTIONS)
    assert min(emotions.values()) / emotions.total() > 0.025
    seeker = [turn.text for turn in _turns(real) if turn.role == Role.SEEKER]
    assert len(set(seeker)) > 0.65 * len(seeker)


def test_the_expressed_emotion_predicts_the_feedback(real):
    answers = {"negative": Counter(), "happy": Counter()}
    for turn in _turns(real):
        if turn.role == Role.SEEKER and len(turn.emotions) == 1 and turn.emotions[0] in answers:
            answers[turn.emotions[0]].update(m.feedback for m in turn.mentions if m.film)
    assert answers["negative"][Feedback.DISLIKE] > 0.8 * answers["negative"].total() > 5
    assert answers["happy"][Feedback.LIKE] > 0.8 * answers["happy"].total() > 5


def test_tastes_beat_popularity_copying_and_cooccurrence_on_new_items(real, real_films):
    recall = recall_at_ten(real, real_films)
    assert recall["tastes"] > recall["co-occurrence"] + 0.15
    assert recall["co-occurrence"] > recall["popularity"]
    assert recall["tastes"] > recall["copy-last"] + 0.2


def test_the_next_recommendation_depends_on_what_was_felt(real, world):
    """Films like those that were liked follow, and older ones after nostalgia."""
    similar, old = {True: [], False: []}, {True: [], False: []}
    for conversation in real.conversations:
        named = set()
        for i, turn in enumerate(conversation.turns):
            before = conversation.turns[i - 1] if i else None
            new = [world.by_uri[m.entity] for m in turn.mentions if m.film and m.entity not in named]
            if turn.role == Role.RECOMMENDER and new and before:
                old["nostalgia" in before.emotions] += [world.years[film] < 1990 for film in new]
                last = [world.by_uri[m.entity] for m in before.mentions if m.film]
                if len(last) == 1 and before.emotions[0] in ("like", "happy", "negative"):
                    similar[before.emotions[0] != "negative"] += [world.similar[last[0], film] for film in new]
            named.update(m.entity for m in turn.mentions if m.film)
    assert np.mean(similar[True]) > 1.5 * np.mean(similar[False]) and len(similar[False]) > 20
    assert np.mean(old[True]) > 1.3 * np.mean(old[False])


def recall_at_ten(corpus, table):
    """R@10 over the new recommended films of held-out dialogues, for three baselines' kinds of knowledge."""
    place = {item: i for i, item in enumerate(corpus.items)}
    attributes = {film.uri: _attributes(film) for film in table if film.uri in place}
    having = {}
    for item, names in attributes.items():
        for name in names:
            having.setdefault(name, np.zeros(len(place)))[place[item]] = 1
    having = {name: has * np.log(len(place) / (has.sum() + 1)) for name, has in having.items()}
    count, together = np.zeros(len(place)), np.zeros((len(place), len(place)))
    for conversation in (c for c in corpus.conversations if c.split == Split.TRAIN):
        mentioned_items = {m.entity: place[m.entity] for t in conversation.turns for m in t.mentions if m.film}
        for turn in conversation.turns:
            for mention in turn.mentions:
                if mention.film and turn.role == Role.RECOMMENDER:
                    count[place[mention.entity]] += 1
        together[np.ix_(list(mentioned_items.values()), list(mentioned_items.values()))] += 1
    hits = {}
    for conversation in (c for c in corpus.conversations if c.split != Split.TRAIN):
        scores = {name: 1e-3 * count for name in ("tastes", "co-occurrence")}
        seen = np.zeros(len(place), bool)
        for turn in conversation.turns:
            targets = [place[m.entity] for m in turn.mentions if m.film and turn.role == Role.RECOMMENDER]
            everything = scores | {"popularity": count, "copy-last": np.where(seen, 1e6, count)}
            for name, score in everything.items():
                score = score if name == "copy-last" else np.where(seen, -1e6, score)
                hits.setdefault(name, []).extend(
                    (score > score[t]).sum() + ((score == score[t]).sum() - 1) / 2 < 10 for t in targets if not seen[t]
                )
            for mention in turn.mentions:
                names = attributes.get(mention.entity, (mention.entity,))
                weight = sum(having[name] for name in names if name in having) * (0.15 if mention.film else 1.0)
                scores["tastes"] = scores["tastes"] + weight
                if mention.film:
                    scores["co-occurrence"] = scores["co-occurrence"] + together[place[mention.entity]]
                    seen[place[mention.entity]] = True
    return {name: float(np.mean(hit)) for name, hit in hits.items()}


def _attributes(film):
    people = dict.fromkeys((*film.directors, *film.cast))
    return [*(films.uri("genre", g) for g in film.genres), *(films.uri("person", p) for p in people), f"era:{film.era}"]
