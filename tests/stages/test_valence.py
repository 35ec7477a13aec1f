"""The stage `valence`: folds, calibration, and a training on a small corpus with a small random text encoder."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.config import registry
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Feedback, Mention, Role, Split, Turn
from ecr_jax.features.valence import VALENCES, valence_spec
from ecr_jax.files import read_parquet, write_parquet
from ecr_jax.metrics import calibration_error
from ecr_jax.models.valence import ValenceModel
from ecr_jax.runs.context import ValenceLabels, open_experiment
from ecr_jax.stages import train, valence
from ecr_jax.stages.valence import calibrate, combine, fold_loss, fold_of
from tests import tiny

FOLDS = 3
MODEL = ValenceModel(classes=3, places=16, barriers=9, hidden=4, heads=2, dropout=0.1)


def batch_and_params(seed=0):
    spec = valence_spec(6)
    batch = spec.toy(8, {"T": 5}, seed=seed)
    inputs = [batch[name] for name in valence._MODEL_INPUTS]
    keys = jax.random.split(jax.random.key(seed), FOLDS)
    return batch, jax.vmap(lambda key: MODEL.init(key, *inputs)["params"])(keys)


@pytest.mark.slow
def test_a_model_learns_nothing_from_its_own_fold():
    batch, params = batch_and_params()
    batch["fold"][:] = 1
    loss = fold_loss(MODEL, np.ones(3), FOLDS)
    gradient = jax.grad(lambda p: loss(p, {}, batch, jax.random.key(1))[0])(params)
    of_fold = [sum(float(abs(leaf[fold]).sum()) for leaf in jax.tree.leaves(gradient)) for fold in range(FOLDS)]
    assert of_fold[1] == 0 and of_fold[0] > 0 and of_fold[2] > 0


def test_the_label_of_a_training_dialogue_comes_from_the_model_of_its_fold():
    logits = np.arange(FOLDS * 2 * 3, dtype=np.float32).reshape(FOLDS, 2, 3)
    assert np.array_equal(combine(logits, [2, -1]), [logits[2, 0], logits[:, 1].mean(axis=0)])


def test_folds_follow_from_the_ids_alone_and_are_of_one_size():
    of = [fold_of(str(i), 5) for i in range(2000)]
    assert of == [fold_of(str(i), 5) for i in range(2000)]
    assert np.bincount(of, minlength=5).min() > 340


@pytest.mark.slow
def test_padding_changes_no_logits():
    batch, params = batch_and_params()
    longer = valence_spec(6).zeros(8, {"T": 9})
    for name in valence._MODEL_INPUTS:
        axes = tuple(slice(size) for size in batch[name].shape)
        longer[name][axes] = batch[name]
    assert np.allclose(valence.apply_folds(MODEL, params, batch), valence.apply_folds(MODEL, params, longer), atol=1e-5)


def test_calibration_undoes_sharpness_and_class_weights():
    """Logits three times too large, shifted by class weights: after calibration the true probabilities are back."""
    rng = np.random.default_rng(0)
    truth = rng.dirichlet([8, 1, 2], size=20_000)
    classes = np.array([rng.choice(3, p=row) for row in truth])
    logits = 3 * np.log(truth + 1e-3) + np.array([-2.0, 1.0, 0.5])
    calibration = calibrate(logits, classes)
    assert np.abs(calibration.probabilities(logits) - truth).mean() < 0.03
    assert calibration_error(calibration.probabilities(logits), classes) < 0.02
    assert np.allclose(calibration.prior, [8 / 11, 1 / 11, 2 / 11], atol=0.01)
    assert calibration.border == pytest.approx(np.log(8), abs=0.1)


def test_calibration_without_examples_of_a_class_is_finite():
    calibration = calibrate(np.zeros((4, 2)), np.zeros(4, np.int64))
    assert np.isfinite(calibration.probabilities(np.ones((2, 2)))).all()


def test_measures_by_hand():
    probabilities = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.7, 0.3, 0.0], [0.2, 0.2, 0.6]])
    measured = valence.measure(probabilities, np.array([0, 0, 1, 2]), border=np.log(2))
    assert measured["auc"] == 0.5 and measured["accuracy"] == 0.75 and measured["mentions"] == 4
    assert measured["balanced_accuracy"] == 0.25  # one of two likes, none of one dislike
    assert (measured["like"], measured["dislike"], measured["unclear"]) == (2, 1, 1)


def test_labels_are_read_by_mention(tmp_path):
    with pytest.raises(ValueError, match="valence.parquet is missing; run `ecr train valence`"):
        _ = ValenceLabels(tmp_path / "valence.parquet").by_mention
    columns = {"conversation": ["a", "a", "a"], "turn": [0, 0, 0], "entity": [7, None, 7], "like": [0.1, 0.2, 0.3],
               "dislike": [0.5, 0.5, 0.5], "unclear": [0.4, 0.3, 0.2]}  # fmt: skip
    types = {"conversation": "string", "turn": "int64", "entity": "int64"} | dict.fromkeys(VALENCES, "float64")
    write_parquet(tmp_path / "valence.parquet", columns, types)
    labels = ValenceLabels(tmp_path / "valence.parquet").by_mention
    assert labels == {("a", 0, 7): (0.3, 0.5, 0.2)}  # what is not linked is left out; the last mention counts


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = tiny.tiny_config(tmp_path_factory.mktemp("valence"))
    for path, value in {"valence.train": config.emotion.train, "valence.folds": 2, "valence.hidden": 4,
                        "valence.ngram_buckets": 64}.items():  # fmt: skip
        config = configs.replace(config, path, value)
    prepare(config, console=Console(quiet=True))
    return config


@pytest.mark.slow
def test_every_seeker_mention_gets_a_label_and_the_chat_gives_the_same(config):
    train(config, "valence")
    experiment = open_experiment(config)
    corpus = experiment.corpus
    table = read_parquet(config.stage_folder("valence") / "valence.parquet")
    expected = [
        (c.id, index, mention.start, mention.end)
        for split in Split
        for c in corpus.split(split)
        for index, turn in enumerate(c.turns)
        if turn.role == Role.SEEKER
        for mention in turn.mentions
    ]
    assert list(zip(*(table[name] for name in ("conversation", "turn", "start", "end")), strict=True)) == expected
    assert np.allclose(np.sum([table[name] for name in VALENCES], axis=0), 1)
    assert any(not mention.film for c in corpus.conversations for turn in c.turns for mention in turn.mentions)

    label = valence.labeller(experiment)
    conversation = corpus.split(Split.VALID)[0]
    for index, turn in enumerate(conversation.turns):
        if turn.role == Role.SEEKER and turn.mentions:
            entity = corpus.graph.ids[turn.mentions[-1].entity]
            stored = experiment.valence.by_mention[conversation.id, index, entity]
            assert np.allclose(label(conversation.turns[: index + 1], index)[-1], stored, atol=2e-3)
    assert label([Turn(Role.SEEKER, "hello")], 0).shape == (0, 3)

    measured = json.loads((config.stage_folder("valence") / "valence.json").read_text())
    assert {"valid", "tfidf", "contrasts", "calibration", "out_of_fold"} <= set(measured)
    assert measured["contrasts"]["count"] >= 40
    assert experiment.record("valence")["valence"]["folds"] == 2
    assert registry.find("valence").section == "valence"


@pytest.mark.slow
def test_a_corpus_without_forms_is_refused(config):
    experiment = open_experiment(config)
    for conversation in experiment.corpus.conversations:
        for turn in conversation.turns:
            for mention in turn.mentions:
                object.__setattr__(mention, "feedback", Feedback.UNSAID if mention.film else None)
    assert isinstance(experiment.corpus.conversations[0].turns[0].mentions[0], Mention)
    with pytest.raises(ValueError, match="no liked or no disliked films in the training dialogues"):
        train(config, "valence", force=True, experiment=experiment)
