"""`benchmarks/feeling`: resemblance and shares by hand, and a whole measurement of a small trained run."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from benchmarks import feeling
from benchmarks.feeling import Contrast, Resemblance
from ecr_jax.config import replace
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Split
from ecr_jax.emotion.labels import PAD
from ecr_jax.features.dialogues import Context, Utterance
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages import train
from tests import tiny

# 1 and 2 share a person; 1, 3 and 4 share genres, 4 too few of them; 5 is named together with 1
PEOPLE = {1: {20, 21}, 2: {21}, 3: set(), 4: set(), 5: set()}
GENRES = {1: {30, 31}, 2: set(), 3: {30}, 4: {31, 32, 33}, 5: set()}


def resemblance():
    people, genres = ({item: frozenset(of) for item, of in table.items()} for table in (PEOPLE, GENRES))
    return Resemblance(tuple(PEOPLE), people, genres, lambda item: frozenset({1: {5, 1}}.get(item, ())))


def test_resemblance():
    assert resemblance().to_film(1) == {"any": {2, 3, 5}, "people": {2}, "genres": {3}, "neighbours": {5}}
    assert not any(
        resemblance().to_film(2)[kind] for kind in ("genres", "neighbours")
    )  # no genre is no genre in common
    assert resemblance().of_genre(31) == {"genre": {1, 4}}


class Agent:
    """An agent that finds an entity in a text by its number, and ranks items as a table of texts says."""

    def __init__(self, rankings):
        self.rankings = rankings
        graph = SimpleNamespace(items=np.arange(100, 130))
        corpus = SimpleNamespace(graph=graph)
        self.experiment = SimpleNamespace(corpus=corpus, encode_turns=lambda *_, **__: None)

    def perceive(self, turns):
        (turn,) = turns
        return [Utterance(turn.role, turn.text, turn.text, tuple(int(w) for w in turn.text.split() if w.isdigit()))]

    def begin(self, dialogues, states):
        return [SimpleNamespace(context=Context(tuple(t), 9), arrays=t[0].text) for t in dialogues]

    def item_probabilities(self, texts):
        scores = np.zeros((len(texts), 30))
        for row, text in enumerate(texts):
            for place, item in enumerate(self.rankings[text]):
                scores[row, item - 100] = 1 - place / 100
        return scores


def test_shares_and_pairs_that_follow():
    kin = frozenset(range(100, 106))
    best = {
        "loved 120": [120, *range(100, 106), *range(110, 114)],  # the named film is not recommended: six of ten
        "hated 120": [*range(100, 104), *range(110, 116)],  # four of ten: a third less
        "loved 121": [*range(100, 105), *range(110, 115)],
        "hated 121": [*range(100, 104), *range(110, 116)],  # from five to four: not enough
        "loved 122": range(110, 120),  # nothing alike: no pair
        "hated 122": range(110, 120),
        "loved it": range(100, 110),  # not found in the words
        "hated it": range(110, 120),
    }
    pairs = [Contrast(e, f"loved {e}", f"hated {e}", {"any": kin}) for e in (120, 121, 122)]
    pairs.append(Contrast(123, "loved it", "hated it", {"any": kin}))
    rows = {row.metric: row for row in feeling.measure_contrasts(Agent(best), pairs, "run")}  # type: ignore[arg-type]
    assert rows["share where liked"].value == pytest.approx(0.55) and rows["share where hated"].value == pytest.approx(
        0.4
    )
    followed = rows["pairs that follow"]
    assert (followed.case, followed.value, followed.n) == ("films, any", 0.5, 2) and followed.low < 0.5 < followed.high


def test_changes():
    context = {
        "emotions": np.array([[2, 3], [8, PAD]]),
        "emotion_probs": np.array([[0.5, 0.25], [1.0, 0.0]]),
        "emotion_totals": np.array([0, 0, 0.5, 0.25, 0, 0, 0, 0, 1.0]),
        "valence": np.array([0.5, -0.25]),
        **{f"{name}_weights": np.ones((2, 3)) for name in ("cooccurrence", "liked", "disliked", "nearest")},
    }
    changed = feeling.CHANGES["both"](context)
    assert changed["emotions"].tolist() == [[4, PAD], [4, PAD]] and changed["emotion_probs"].tolist() == [
        [1, 0],
        [1, 0],
    ]
    assert changed["emotion_totals"].tolist() == [0, 0, 0, 0, 1.75, 0, 0, 0, 0]
    assert changed["valence"].tolist() == [-1, -1] and changed["nearest_weights"].all()
    removed = feeling.without_cooccurrence(context)
    assert not removed["cooccurrence_weights"].any() and removed["nearest_weights"].all()
    assert context["valence"].tolist() == [0.5, -0.25]  # as it was


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run that reads valences."""
    config = replace(tiny.tiny_config(tmp_path_factory.mktemp("run")), "recommender.valence", True)
    config = replace(config, "valence", dataclasses.replace(config.valence, folds=2, train=config.fusion.train))
    prepare(config, console=Console(quiet=True))
    for stage in ("emotion", "valence", "fusion", "recommendation"):
        train(config, stage)
    return config


@pytest.mark.slow
def test_valences_of_a_corpus(run):
    experiment = open_experiment(run)
    dialogues = experiment.dialogues_with_valence(Split.TRAIN)
    signed = experiment.valence.signed
    for dialogue in dialogues:
        first, *others = dialogue.turns
        assert first.valences == tuple((entity, signed[dialogue.id, 0, entity]) for entity in first.entities)
        assert not others[0].valences  # the recommender's
        (mentioned,) = Context(dialogue.turns[:1], 9).mentioned
        assert mentioned.valence == first.valences[0][1] and -1 <= mentioned.valence <= 1


@pytest.mark.slow
def test_the_measurement(run, tmp_path):
    page = tmp_path / "feeling.md"
    feeling.main((run.folder,), films=2, genres=1, contexts=3, json=tmp_path / "rows.json", page=page)
    rows = feeling.measure(run.folder, films=2, genres=1, contexts=3)
    kept = {row.case: row.value for row in rows if row.metric == "top ten kept"}
    assert kept.keys() == feeling.CHANGES.keys() and all(0 <= value <= 1 for value in kept.values())
    assert "films, any" in {row.case for row in rows}
    text = page.read_text()
    assert all(f"| {run.name} | {case} |" in text for case in kept) and f"runs/{run.name}" in text
