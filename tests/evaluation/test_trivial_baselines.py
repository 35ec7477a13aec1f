"""The untrained baselines on a hand-made corpus; prediction rows."""

import numpy as np
import pytest

from ecr_jax.config import ConfigError, EvaluationConfig, HybridConfig, NearestContextsConfig
from ecr_jax.data.schema import Feedback, Role, Split
from ecr_jax.evaluation import predictions, rankings, trivial_baselines
from ecr_jax.evaluation.predictions import Target
from ecr_jax.evaluation.protocol import PROTOCOLS
from ecr_jax.evaluation.trivial_baselines import Ties
from ecr_jax.features.dialogues import Dialogue, TextContext, Utterance
from ecr_jax.features.film_text import FilmText
from ecr_jax.features.nearest_contexts import NearestContexts

ITEMS = np.array([2, 3, 5, 7, 11])
TIE_BREAK = 1e-6


def contexts(*entities):
    """Contexts of which only the entities are known."""
    return [TextContext(each) for each in entities]


def order(scores):
    """Entity ids, best first."""
    return [ITEMS[np.argsort(-row, kind="stable")].tolist() for row in scores]


@pytest.fixture
def popular():
    return trivial_baselines.popularity([7, 7, 7, 3, 3, 11], ITEMS)


@pytest.fixture
def ties(popular):
    return Ties(popular, TIE_BREAK)


def test_popularity(popular):
    scores = popular(contexts((), (2, 3)))
    np.testing.assert_allclose(scores, [[0, 2 / 6, 0, 3 / 6, 1 / 6]] * 2)


def test_copy_last(popular, ties):
    scores = ties(trivial_baselines.last_films(ITEMS))(contexts((2, 4, 5, 2, 99), ()))
    assert order(scores)[0] == [2, 5, 7, 3, 11]  # 4 and 99 are no items; 2 was mentioned again
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    np.testing.assert_allclose(scores[1], popular([()])[0])


def test_cooccurrence(popular, ties):
    dialogues = [(2, 3, 3, 3), (2, 3, 8), (2, 5), (7, 11)]
    scores = ties(trivial_baselines.cooccurrence(dialogues, ITEMS))(contexts((2,), (2, 7), (9,)))
    # P(3|2) = 2/3, P(5|2) = 1/3; the rest by popularity: 7, 11, then none of 2
    assert order(scores)[0] == [3, 5, 7, 11, 2]
    np.testing.assert_allclose(scores[0, 1], 2 / 3, atol=1e-5)
    assert order(scores)[1][:3] == [11, 3, 5]
    np.testing.assert_allclose(scores[1, [1, 2, 4]], [1 / 3, 1 / 6, 1 / 2], atol=1e-5)
    np.testing.assert_allclose(scores[2], popular([()])[0])


def test_normalised_cooccurrence():
    dialogues = [(2, 3, 3, 3), (2, 3, 8), (2, 5), (7, 11)]
    scores = trivial_baselines.normalised_cooccurrence(dialogues, ITEMS)(contexts((2, 2), (2, 7), (8,)))
    # three dialogues have 2, and of these two have 3 and one has 5; one has 7, and with it 11
    np.testing.assert_allclose(scores[0], [0, 2 / 3**0.5, 1 / 3**0.5, 0, 0])
    np.testing.assert_allclose(scores[1], [0, 2 / 3**0.5, 1 / 3**0.5, 0, 1])
    assert not scores[2].any()


TRAINING = [TextContext((), "space battles"), TextContext((), "space robots"), TextContext((9,), "romance")]


def nearest(count, power=2.0, training=TRAINING, targets=((2, 3), (5,), (7,))):
    known = NearestContexts(training, targets, range(len(training)), ITEMS, count=count, power=power)
    return trivial_baselines.nearest_contexts(known)


def test_nearest_contexts():
    seen = [
        TextContext((), "I want some Space battles"),
        TextContext((9,), ""),
        TextContext((), "the and of"),
        TextContext((), "unheard"),
    ]
    scores = nearest(3)(seen)
    # ln(4/3) + 1 and ln(4/2) + 1 are the weights of a word that one and two of the three contexts have
    rare, common = np.log(4 / 2) + 1, np.log(4 / 3) + 1
    similarity = common**2 / (rare**2 + common**2)  # "space battles" with "space robots", which share "space"
    np.testing.assert_allclose(scores[0], [1, 1, similarity**2, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(scores[1], [0, 0, 0, 0.5, 0], rtol=1e-5)  # an entity is a word: cosine 1 / sqrt(2)
    assert not scores[2:].any()  # function words and unknown words
    np.testing.assert_allclose(nearest(1)(seen)[0], [1, 1, 0, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(nearest(3, 1.0)(seen)[0, 2], similarity, rtol=1e-5)


def test_nearest_contexts_do_not_depend_on_the_batch(monkeypatch):
    seen = [TextContext((), text) for text in ("space", "robots in love", "romance", "battles")]
    together = nearest(2)(seen)
    monkeypatch.setattr(trivial_baselines, "_ROWS", 1)
    np.testing.assert_allclose(nearest(2)(seen), together)
    np.testing.assert_allclose(nearest(2)(seen[2:3]), together[2:3])


@pytest.mark.parametrize("training", [[], [TextContext(()), TextContext((), "of the")]])
def test_nothing_to_be_near_to(training):
    assert not nearest(3, training=training, targets=[(2,)] * len(training))([TextContext((2,), "space")]).any()


def test_similar_films():
    features = np.zeros((12, 2))
    features[[2, 3, 5, 7]] = [[1, 0], [1, 0], [0, 1], [0, -1]]  # their mean is (1/2, 0)
    scores = trivial_baselines.similar_films(FilmText(features, ITEMS, 2.0))(contexts((2,), (2, 5), (11,), ()))
    # less the mean: (1/2, 0) twice, (-1/2, 1), (-1/2, -1); 2 and 3 are alike, and unlike the others
    np.testing.assert_allclose(scores[0], [0, 1, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(scores[1], [0, 1, 0, 0, 0], atol=1e-6)
    assert not scores[2:].any()  # 11 has no description
    nothing = FilmText(np.zeros((12, 3)), ITEMS, 2.0)
    np.testing.assert_allclose(trivial_baselines.similar_films(nothing)(contexts((2,))), np.zeros((1, 5)))


def test_a_mixture_is_of_shares():
    first = lambda contexts: np.array([[2.0, 2, 0], [0, 0, 0]])  # noqa: E731
    second = lambda contexts: np.array([[0.0, 0, 9], [0, 3, 1]])  # noqa: E731
    mixed = trivial_baselines.mixture([(0.6, first), (0.4, second)])(contexts((), ()))
    np.testing.assert_allclose(mixed, [[0.3, 0.3, 0.4], [0, 0.3, 0.1]])


def training_dialogue(number, *turns):
    return Dialogue(str(number), Split.TRAIN, turns)


def test_all_of_them():
    seeker, recommender, unknown = Role.SEEKER, Role.RECOMMENDER, Role.UNKNOWN
    dialogues = [
        training_dialogue(
            0,
            Utterance(seeker, "space battles", "", (2,), ((2, Feedback.LIKE),)),
            Utterance(recommender, "", "", (3,), ((3, Feedback.LIKE),)),
        ),
        training_dialogue(1, *(Utterance(unknown, "", "", (item,), ((item, Feedback.LIKE),)) for item in (2, 5))),
    ]
    seen = [TextContext((2,), "space"), TextContext((), "")]

    def baselines(**weights):
        hybrid = HybridConfig(**{**dict.fromkeys(PARTS, 0.0), **weights})
        return trivial_baselines.trivial_baselines(
            dialogues, [3], ITEMS, lambda: np.eye(12), EvaluationConfig(hybrid=hybrid)
        )

    alone = {"cooccurrence": "co-occurrence", "nearest_contexts": "nearest contexts", "copy_last": "copy-last"}
    for part, name in alone.items():
        scorers = baselines(**{part: 0.1})
        assert list(scorers) == ["popularity", "copy-last", "co-occurrence", "nearest contexts", "hybrid"]
        np.testing.assert_allclose(scorers["hybrid"](seen), scorers[name](seen))
    near, *rest = baselines(nearest_contexts=1.0)["nearest contexts"](seen)
    assert near[1] > near[2] > 0.1  # 3 after the words and the film, 5 after the film alone, in a dialogue without text
    np.testing.assert_allclose(rest, [[0, 1, 0, 0, 0]])  # nothing is known: what recommenders recommend
    scores = baselines(cooccurrence=0.5, film_text=0.3, copy_last=0.2)["hybrid"](seen)
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    assert order(scores)[0][:3] == [3, 5, 2]


PARTS = ("cooccurrence", "nearest_contexts", "film_text", "copy_last")


def test_descriptions_are_read_only_where_they_count():
    def refuse():
        raise AssertionError("nothing reads descriptions here")

    hybrid = HybridConfig(film_text=0.0)
    trivial_baselines.trivial_baselines([], [], ITEMS, refuse, EvaluationConfig(hybrid=hybrid))


@pytest.mark.parametrize(
    ("settings", "values", "message"),
    [
        (HybridConfig, dict.fromkeys(PARTS, 0.0), "all parts have weight 0"),
        (HybridConfig, {"copy_last": -0.1}, "copy_last"),
        (HybridConfig, {"film_text_power": 0.0}, "film_text_power"),
        (NearestContextsConfig, {"contexts": 0}, "contexts"),
        (NearestContextsConfig, {"power": 0.0}, "power"),
    ],
)
def test_settings_that_cannot_be(settings, values, message):
    with pytest.raises(ConfigError, match=message):
        settings(**values)


def test_rows(popular, tmp_path):
    targets = [
        Target("a", 1, 3, Feedback.LIKE, False),
        Target("a", 3, 5, Feedback.DISLIKE, True),
        Target("b", 1, 2, Feedback.UNSAID, False),
    ]
    rows = predictions.rank_targets("popularity", targets, popular([()] * 3), ITEMS)
    assert [(r.rank, r.score) for r in rows] == [(2.0, 2 / 6), (4.5, 0.0), (4.5, 0.0)]
    assert rows[0].top == (7, 3, 11, 2, 5)
    assert [(r.conversation, r.turn, r.repeated) for r in rows] == [("a", 1, False), ("a", 3, True), ("b", 1, False)]
    predictions.write(tmp_path / "predictions.jsonl", rows)
    assert predictions.read(tmp_path / "predictions.jsonl") == {"popularity": rows}
    assert predictions.rank_targets("popularity", [], np.zeros((0, 5)), ITEMS) == []


def test_stray_target_is_refused(popular):
    with pytest.raises(ValueError, match="target 4 of a:1 is not among the 5 items"):
        predictions.rank_targets("popularity", [Target("a", 1, 4, Feedback.LIKE, False)], popular([()]), ITEMS)


def test_bad_row_is_named(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"model": "ecr", "feedback": "maybe"}\n')
    with pytest.raises(ValueError, match="p.jsonl:1 is no prediction row"):
        predictions.read(tmp_path / "p.jsonl")


@pytest.mark.parametrize("protocol", ["default", "published"])
def test_contexts_are_scored_in_batches(monkeypatch, protocol):
    """Whatever the batches, each target has its own context, and a protocol's ties and repeated mentions."""
    monkeypatch.setattr(rankings, "_TRIVIAL_BATCH", 1)
    turns = (
        Utterance(Role.SEEKER, "", "", (5,)),
        Utterance(Role.RECOMMENDER, "", "", (5,), ((5, Feedback.LIKE),)),
        Utterance(Role.RECOMMENDER, "", "", (7, 7), ((7, Feedback.LIKE), (5, Feedback.LIKE), (7, Feedback.LIKE))),
    )
    dialogues, chosen = [Dialogue("a", Split.TEST, turns)], PROTOCOLS[protocol]
    targets = rankings.RankedTargets(dialogues, chosen.instances(dialogues), ITEMS, chosen, top_items=2)
    scorer = Ties(trivial_baselines.popularity([], ITEMS), TIE_BREAK)(trivial_baselines.last_films(ITEMS))
    rows = targets.predictions("copy-last", rankings.score_contexts(targets, scorer))
    assert {row.turn for row in rows} == {1, 2}
    assert all(len(row.top) == 2 and row.model == "copy-last" for row in rows)
    by_target = [(row.turn, row.target, row.rank) for row in rows]
    tied = 3.5 if protocol == "default" else 4.0  # four items are not mentioned: ranks 2 to 5, in order 2, 3, 7, 11
    repeated = [(2, 7, tied)] if protocol == "published" else []
    assert by_target == [(1, 5, 1.0), (2, 7, tied), (2, 5, 1.0), *repeated]
