"""The stage `acts`: its measures, and a training on labelled turns of a small corpus."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.data.acts import Act, ActName
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Split
from ecr_jax.features.acts import REPLY_LABELS, SEEKER_LABELS, read_texts
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages import acts, train
from tests import tiny

LABELS = (Act(ActName.SEEN), Act(ActName.REJECT), Act(ActName.THANK))


def test_measures_by_hand():
    truth = np.asarray([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    probabilities = np.asarray([[0.9, 0.1, 0.2], [0.8, 0.4, 0.1], [0.6, 0.1, 0.0], [0.7, 0.9, 0.6]])
    measured = acts.measure(probabilities, truth, LABELS)
    assert measured["f1"] == {"seen": pytest.approx(6 / 7), "reject": pytest.approx(2 / 3)}  # nobody thanks
    assert measured["macro_f1"] == pytest.approx((6 / 7 + 2 / 3) / 2)
    assert measured["most_frequent_macro_f1"] == pytest.approx(6 / 7 / 2)
    assert measured["count"] == {"seen": 3, "reject": 2}
    assert acts.measure(probabilities[:0], truth[:0], LABELS) == {"turns": 0}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = tiny.tiny_config(tmp_path_factory.mktemp("acts"))
    for path, value in {"steps": 100, "eval_every": 50, "optim.learning_rate": 3e-2}.items():
        config = configs.replace(config, f"acts.train.{path}", value)
    prepare(config, console=Console(quiet=True))
    return config


@pytest.mark.slow
def test_acts_are_learned_and_a_running_dialogue_is_labelled(config):
    train(config, "acts")
    experiment = open_experiment(config)
    label = acts.labeller(experiment)
    assert label([], experiment.turn_states) == []
    instances = acts.instances(experiment, Split.VALID)
    states = experiment.encode_turns([text for instance in instances for text in read_texts(instance.turns)])
    found = label([instance.turns for instance in instances], states)
    for instance, probabilities in zip(instances, found, strict=True):
        assert tuple(probabilities.seeker) == SEEKER_LABELS and tuple(probabilities.reply) == REPLY_LABELS
        assert {act for act, p in probabilities.seeker.items() if p > 0.5} == set(instance.acts)
    assert all(
        abs(alone.reply[act] - probability) < 1e-5
        for instance, together in zip(instances, found, strict=True)
        for alone in label([instance.turns], states)
        for act, probability in together.reply.items()
    )
    measured = json.loads((config.stage_folder("acts") / "acts.json").read_text())
    assert measured["valid"]["seeker"]["macro_f1"] == 1.0


@pytest.mark.slow
def test_a_corpus_without_acts_is_refused(config):
    experiment = open_experiment(config)
    for conversation in experiment.corpus.conversations:
        for turn in conversation.turns:
            object.__setattr__(turn, "acts", ())
    with pytest.raises(ValueError, match="no turns of the train split are labelled with acts: give them `acts`"):
        train(config, "acts", force=True, experiment=experiment)
