"""The stage `emotion`: its measures by hand; a classifier that is trained alone, and one with a tuned encoder."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.config import LoraConfig
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Role, Split
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.features.tokenizer import with_role
from ecr_jax.files import read_jsonl_rows
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages import emotion, emotion_model, train
from tests import tiny


def test_an_utterance_with_two_labels_counts_half_for_each():
    probabilities = np.zeros((3, len(EMOTIONS)))
    probabilities[0, [0, 1]] = 0.6, 0.4  # right
    probabilities[1, [1, 2]] = 0.7, 0.3  # one of two labels
    probabilities[2, [2, 0]] = 0.8, 0.2  # wrong, the second is right
    measured = emotion.measure(probabilities, [(0,), (1, 3), (0,)])
    assert measured["accuracy"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert measured["recall@2"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert np.sum(measured["confusion"]) == pytest.approx(3)
    assert measured["confusion"][0][:3] == [1, 0, 1] and measured["confusion"][3][1] == 0.5
    f1 = {0: 2 * 1 / (2 + 1), 1: 2 * 0.5 / (0.5 + 1)}  # 2 TP / (truths + predictions)
    assert measured["macro_f1"] == pytest.approx(sum(f1.values()) / len(EMOTIONS))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = tiny.tiny_config(tmp_path_factory.mktemp("emotion"))
    prepare(config, console=Console(quiet=True))
    return configs.replace(config, "emotion.adapter", LoraConfig(patterns=("layers/attention/[qv]",), rank=2, alpha=4))


def test_padding_and_batching_change_nothing_with_a_tuned_encoder(config):
    experiment = open_experiment(config)
    model, frozen = emotion_model.emotion_model(experiment), emotion_model.frozen_arrays(experiment)
    params = model.init(jax.random.key(0), experiment.encoder.width, frozen)
    params["adapter"] = jax.tree.map(lambda leaf: leaf + 0.1, params["adapter"])  # a new one changes nothing
    predict = emotion_model.Predictor(model, emotion_model.shapes(experiment))
    texts = [
        "User: hello",
        "User: hello i liked that a lot tonight . what else is there for you ? maybe more of that .",
    ]
    together = predict(params, frozen, emotion_model.examples(experiment, texts))
    for text, of_text in zip(texts, together, strict=True):
        alone = predict(params, frozen, emotion_model.examples(experiment, [text]), batch_size=1)
        assert np.allclose(alone[0], of_text, atol=1e-6)
    flat = configs.replace(config, "emotion.adapter", None)
    states = experiment.encode_turns(texts, cached=False).mean(texts)  # the untuned encoder's
    untuned = emotion_model.emotion_model(open_experiment(flat)).logits(params, {}, {"state": states})
    assert not np.allclose(jax.nn.softmax(untuned), together, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("tuned", [False, True])
def test_emotions_are_learned(config, tuned, tmp_path):
    config = configs.replace(config, "runs", tmp_path)
    config = config if tuned else configs.replace(config, "emotion.adapter", None)
    for path, value in {"steps": 150, "eval_every": 50, "optim.learning_rate": 3e-2}.items():
        config = configs.replace(config, f"emotion.train.{path}", value)
    train(config, "emotion")
    experiment = open_experiment(config)
    losses = [row["loss"] for row in read_jsonl_rows(experiment.folder("emotion") / "metrics.jsonl") if "loss" in row]
    assert losses[-1] < 0.7 * np.log(len(EMOTIONS))  # where knowing nothing begins
    texts = [with_role(Role.SEEKER, text) for text, _ in experiment.utterances(Split.VALID)]
    labelled = emotion_model.labeller(experiment)(texts)
    assert np.allclose(labelled, emotion_model.classify(experiment, texts), atol=1e-5)
    assert set(experiment.params("emotion")) == ({"classifier", "adapter"} if tuned else {"classifier"})
