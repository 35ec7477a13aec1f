"""The stage `manager`: it learns when to ask and when to recommend, and its choices are those that are scored."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.config import LoraConfig
from ecr_jax.data.acts import ActName
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Split
from ecr_jax.files import read_jsonl_rows
from ecr_jax.manager.schema import film_schema
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages import manager, train
from tests import gguf_files, tiny

SCHEMA = film_schema(["mystery"])


def test_measures_by_hand():
    measured = manager.measure(
        ["recommend", "recommend", "elicit", "chat"], ["recommend", "elicit", "elicit", "elicit"]
    )
    assert measured["accuracy"] == 0.5 and measured["turns"] == 4
    assert measured["f1"] == {"chat": 0.0, "elicit": 0.5, "recommend": pytest.approx(2 / 3)}
    assert measured["macro_f1"] == pytest.approx((0.5 + 2 / 3) / 3)


def test_what_the_stage_acts_foretells():
    likely = {ActName.RECOMMEND: 0.2, ActName.ASK: 0.4, ActName.CHAT: 0.1}
    assert manager.first_probable(likely, SCHEMA) == "elicit"
    assert manager.first_probable(likely | {ActName.RECOMMEND: 0.6, ActName.ASK: 0.9}, SCHEMA) == "recommend"
    assert manager.first_probable({}, SCHEMA) == "recommend"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manager")
    sizes = tiny.llama(280, layers=2)
    path = str(gguf_files.write(folder / "model.gguf", sizes, tiny.random_model(sizes, scale=0.2).params))
    config = dataclasses.replace(tiny.tiny_config(folder), language_model=path)
    for path, value in {
        "manager.adapter": LoraConfig(rank=4, patterns=("layers/.*",), dropout=0.1),
        "manager.train.steps": 50,
        "manager.train.eval_every": 25,
        "manager.train.optim.learning_rate": 3e-3,
        "manager.categories": 2,
    }.items():
        config = configs.replace(config, path, value)
    for split, count in {"train": 16, "valid": 4, "test": 4}.items():
        tiny.write_lines(folder / "data" / f"{split}.jsonl", tiny.managed_rows(split, count))
    prepare(config, console=Console(quiet=True))
    return config


@pytest.mark.slow
def test_it_is_trained_and_chooses_among_what_is_allowed(config):
    train(config, "acts")
    train(config, "manager")
    folder = config.stage_folder("manager")
    measured = json.loads((folder / "manager.json").read_text())
    assert measured["valid"]["majority"]["accuracy"] == 0.5 and measured["test"]["manager"]["turns"] == 8
    assert measured["valid"]["sources"] == {"acts": 8}
    losses = [row["loss"] for row in read_jsonl_rows(folder / "metrics.jsonl") if row["split"] == "train"]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])  # of 1.6 nats for five sub-tasks and their arguments

    experiment = open_experiment(config)
    chooser, turns = manager.Chooser(*manager.trained(experiment)), manager.turns_of(experiment, Split.VALID)
    dialogues, everything = [turn.before for turn in turns], [task.name for task in chooser.schema]
    chosen = chooser.choose(dialogues, [everything] * len(dialogues))
    assert all(0 < p <= 1 + 1e-5 for c in chosen for _, p in c.alternatives)
    assert [c.choice for c in chosen] == [c.alternatives[0][0] for c in chosen]
    some = chooser.choose(dialogues, [["elicit", "chat"]] * len(dialogues))
    assert {c.choice.sub_task for c in some} <= {"elicit", "chat"}
    forced = chooser.choose(dialogues, [["explain"]] * len(dialogues))
    assert {str(c.choice) for c in forced} == {"explain"} and not any(c.alternatives for c in forced)


@pytest.mark.slow
def test_the_policy_samples_what_it_scores(config):
    experiment = open_experiment(config)
    policy = manager.policy(experiment)
    params = manager.tuning.initial(jax.random.key(0), experiment.language_model(config.language_model, None)[0],
                                    "adapter", policy.adapter)  # fmt: skip
    noise = iter(jax.random.split(jax.random.key(1), 100))
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(next(noise), leaf.shape), params)
    turns = manager.turns_of(experiment, Split.VALID)
    prompts = policy.prompts([turn.before for turn in turns])
    drawn = policy.sample(params, policy.frozen, prompts, jax.random.key(2), copies=3)
    repeated = type(prompts)(*(np.repeat(part, 3, axis=0) for part in prompts))
    scored = jax.jit(policy.log_prob)(params, policy.frozen, repeated, drawn.outputs)
    np.testing.assert_allclose(scored, drawn.log_probs, atol=1e-5)
    (examples,) = (manager.examples(policy, turns),)
    assert [policy.choices[int(examples[i]["output"])] for i in range(len(turns))] == [t.label.choice for t in turns]
    assert np.mean([examples[i]["weight"] for i in range(len(turns))]) == pytest.approx(1)


@pytest.mark.slow
def test_a_split_without_replies_is_refused(config):
    experiment = open_experiment(config)
    for conversation in experiment.corpus.split(Split.VALID):
        object.__setattr__(conversation, "turns", conversation.turns[:1])
    with pytest.raises(ValueError, match="no recommender's turn of the valid split replies to a seeker"):
        train(config, "manager", force=True, experiment=experiment)
