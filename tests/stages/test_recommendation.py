"""The stage `recommendation`: what its loss scores, what its prompt reads, and that each preset trains."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
from rich.console import Console

from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Role, Split
from ecr_jax.features.examples import emotion_labelled_mentions, fusion_rows, recommendation_rows
from ecr_jax.files import link, read_jsonl_rows
from ecr_jax.inference.agent import Agent
from ecr_jax.knowledge.cooccurrence import count_cooccurrence
from ecr_jax.models.lm.convert import flatten
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import conversation, fusion, recommendation, recommender, train
from ecr_jax.training.checkpoint import read_params

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A prepared corpus whose seekers were heard, without a classifier."""
    from tests.stages.test_stages import tiny_config

    config = tiny_config(tmp_path_factory.mktemp("recommendation"))
    prepare(config, console=Console(quiet=True))
    experiment = hearing(config)
    folder = config.stage_folder("emotion")
    mentions = [emotion_labelled_mentions(dialogue.turns) for dialogue in experiment.dialogues(Split.TRAIN)]
    count_cooccurrence(mentions, len(experiment.prepared.graph)).save(folder / "emotion_cooccurrence.npz")
    together = count_cooccurrence(mentions, len(experiment.prepared.graph), require_emotion=False)
    together.restricted_to(experiment.prepared.graph.items).save(folder / "cooccurrence.npz")
    return config


def hearing(config):
    experiment = ExperimentContext(config)
    places = [(c.id, i) for c in experiment.prepared.conversations for i in range(len(c.turns))]
    experiment.emotions = {place: ((place[1] % 3, 0.7), (5, 0.2)) for place in places}
    return experiment


@pytest.fixture(scope="module", autouse=True)
def unfused():
    """What follows `fusion` begins anew, as if it had learned nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExperimentContext, "fused", {"encoder": {}})
        yield


@pytest.fixture(scope="module")
def replying(base):
    """The config whose recommender reads replies, with the stage that gives them trained."""
    config = changed(base, use_resp=True)
    train(config, "conversation", experiment=hearing(config))
    return config


def apart(config, folder, *stages):
    """The config in a folder of its own, with the stages that it rests on."""
    made = dataclasses.replace(config, runs=folder)
    for stage in stages:
        link(config.stage_folder(stage), made.stage_folder(stage))
    return made


def changed(config, fidelity="improved", heads=(), prompt=(), **fields):
    made = config.recommender
    made = dataclasses.replace(made, fidelity=fidelity, heads=dataclasses.replace(made.heads, **dict(heads)),
                               prompt=dataclasses.replace(made.prompt, **dict(prompt)))  # fmt: skip
    return dataclasses.replace(config, recommender=made, recommendation=dataclasses.replace(
        config.recommendation, **fields))  # fmt: skip


def asked_of(monkeypatch, module, experiment):
    """What a stage asks `fit` for."""
    asked = {}
    monkeypatch.setattr(module, "fit", lambda folder, **named: asked.update(named))
    module.train(experiment)
    return asked


@pytest.mark.parametrize(("fidelity", "extra"), [("paper", 0), ("code", 1)])
def test_the_loss_is_over_all_entities(base, monkeypatch, fidelity, extra):
    """Against the soft-max by hand; the released code's has the padding entity in it, and the items are ranked."""
    still = {"dropout": 0.0}
    experiment = hearing(changed(base, fidelity, prompt=still, candidates="entities", loss="cross_entropy"))
    asked = asked_of(monkeypatch, recommendation, experiment)
    made, batch = recommender.parts(experiment), asked["batches"][0]
    everything = np.arange(len(experiment.prepared.graph) + extra)
    np.testing.assert_array_equal(recommender.all_entities(made), everything)
    total, number, parts = jax.jit(asked["loss"])(asked["params"], asked["frozen"], batch, jax.random.key(0))
    found = recommender.scores(made, asked["params"], made.frozen, batch, everything, "recommendation")
    scores = np.asarray(found.logits)
    scores = scores - scores.max(axis=1, keepdims=True)
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    rows, slots = np.nonzero(batch["target_mask"])
    assert number == len(rows) > 0
    expected = -sum(logs[row, entity] for row, entity in zip(rows, batch["targets"][rows, slots], strict=True))
    np.testing.assert_allclose(float(total), expected, rtol=1e-4)
    assert float(parts["cross_entropy"]) == pytest.approx(float(total), rel=1e-5)
    found = asked["evaluate"](asked["params"], None)
    assert found["recall@10"] == 1  # six items, all among ten


def test_code_with_its_copy_head_trains_a_step(base, tmp_path):
    parts = {"heads": {"copy": "published"}, "prompt": {"recommendation_prefix": 4}}
    with pytest.raises(ValueError, match="'feedback_bce' reads 'like_logits'.* not given: take it out of the loss"):
        train(changed(base, "code", **parts), "recommendation", experiment=hearing(changed(base, "code", **parts)))
    config = changed(base, "code", **parts, loss="feedback_cross_entropy")
    config = apart(config, tmp_path, "emotion")
    train(config, "recommendation", experiment=hearing(config))
    params = flatten(read_params(config.stage_folder("recommendation") / "params.safetensors"))
    made = recommender.parts(hearing(config))
    assert made.model.heads.cooccurrence == "published" and not made.model.prompt.masked and made.prefix_visibility == "all"
    assert params["encoder/recommendation/table"].shape[0] == 4
    assert {name for name in params if name.startswith("head")} == {
        f"head/cooccurrence/{part}/{leaf}" for part in ("down", "up", "out") for leaf in ("kernel", "bias")
    }
    assert all(np.isfinite(leaf).all() for leaf in params.values())


def test_fusion_may_read_the_turn_itself(base, monkeypatch):
    reads = dataclasses.replace(base, fusion=dataclasses.replace(base.fusion, reads_turn=True))
    experiment = hearing(reads)
    plain, other = (asked_of(monkeypatch, fusion, hearing(config))["batches"] for config in (base, reads))
    spoken = experiment.dialogues(Split.TRAIN)
    row = fusion_rows(spoken)[0]
    turn = spoken[row.dialogue].turns[row.turn]
    _, words = experiment.language_model(base.recommender.language_model, 1)
    before, after = plain.examples[0], other.examples[0]
    (said,) = words.turns([(turn.role, turn.text)])
    assert after["tokens"].tolist()[-len(said) :] == said and before["tokens"].tolist()[-len(said) :] != said
    np.testing.assert_array_equal(after["text_states"][-len(experiment.turn_states.rows(turn.unit)) :],
                                  experiment.turn_states.rows(turn.unit))  # fmt: skip
    for name in ("entities", "emotions", "mentions", "targets"):
        np.testing.assert_array_equal(after[name], before[name])


def test_replies_need_the_stage_that_gives_them(base, tmp_path):
    config = apart(changed(base, use_resp=True), tmp_path, "emotion")
    with pytest.raises(ValueError, match="params.safetensors is missing; run `ecr train conversation`"):
        train(config, "recommendation", experiment=hearing(config))


def test_the_reply_is_read(base, replying, monkeypatch):
    """It stands after the context, in both texts, and nowhere else; it is generated once and kept."""
    config, experiment = replying, hearing(replying)
    texts = iter(["try <movie> .", "hello"] * 100)
    asked = []

    def reply(responder, contexts):
        asked.append(len(contexts))
        return [next(texts) for _ in contexts]

    with monkeypatch.context() as patch:
        patch.setattr(conversation.Responder, "__call__", reply)
        made = recommendation.examples(experiment, Split.TRAIN)
    kept = read_jsonl_rows(config.stage_folder("conversation") / "replies-train.jsonl")
    places = [(made.spoken[row.dialogue].id, row.turn) for row in made.rows]
    assert [(row["conversation"], row["turn"]) for row in kept] == places
    assert [row["text"] for row in kept[:2]] == ["try <movie> .", "hello"] and len(asked) == 1

    silent = recommendation.examples(hearing(base), Split.TRAIN)
    _, words = experiment.language_model(config.recommender.language_model, 1)
    for index, text in enumerate(["try <movie> .", ""]):  # without a slot nothing is recommended
        (said,) = words.turns([(Role.RECOMMENDER, text)])
        assert made[index]["tokens"].tolist()[-len(said) :] == said
        plain = silent[index]["tokens"].tolist()
        assert (plain + said)[-32:][-len(made[index]["tokens"]) :] == made[index]["tokens"].tolist()
        assert made[index]["text_states"].shape[0] > 0
        for name in ("entities", "emotions", "mentions", "neighbours", "targets"):
            np.testing.assert_array_equal(made[index][name], silent[index][name])
    again = recommendation.examples(experiment, Split.TRAIN)  # nothing is generated: no stand-in now
    np.testing.assert_array_equal(again[0]["tokens"], made[0]["tokens"])
    np.testing.assert_array_equal(again[0]["text_states"], made[0]["text_states"])


def test_trained_and_ranked_with_replies(replying, tmp_path, monkeypatch):
    """What the evaluation ranks with is what the chat ranks with."""
    config = apart(replying, tmp_path, "emotion", "conversation")
    experiment = hearing(config)
    train(config, "recommendation", experiment=experiment)
    summary = json.loads((config.stage_folder("recommendation") / "summary.json").read_text())
    assert summary["steps"] == 2
    made = recommendation.examples(experiment, Split.TEST)
    parts, params = (
        recommender.parts(experiment),
        read_params(config.stage_folder("recommendation") / "params.safetensors"),
    )
    over = recommender.batches(experiment, made, recommender.shapes(experiment, made), 8, seed=None)
    batch, scores = next(iter(recommender.Scorer(parts, parts.items, "recommendation").of(params)(over)))
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)

    agent = Agent(experiment)
    place = int(np.flatnonzero(batch["example_mask"])[0])
    example = int(batch["example"][place])
    row, arrays = made.rows[example], made[example]
    assert row in recommendation_rows(made.spoken)
    turns = made.spoken[row.dialogue].turns[: row.turn]
    found = []

    def rank(asked):
        found.append((asked[0], Agent.rank(agent, asked)))
        return found[-1][1]

    monkeypatch.setattr(agent, "rank", rank)
    monkeypatch.setattr(agent, "emotional_responses", lambda prompts: ["good ."] * len(prompts))
    (reply,) = agent.replies([turns], items=1)
    ((asked, ranked),) = found
    assert asked["tokens"].tolist() == arrays["tokens"].tolist()
    np.testing.assert_allclose(asked["text_states"], arrays["text_states"], atol=2e-2)  # float16
    np.testing.assert_allclose(ranked[0], shares[place], atol=2e-3)
    assert len(reply.items) >= 1 and reply.entities == tuple(dict.fromkeys(e for turn in turns for e in turn.entities))


def test_contexts_are_read_once(base):
    """What is known is taken as it is, whatever the model would make of it now."""
    experiment = hearing(base)
    made, training = recommender.parts(experiment), recommendation.examples(experiment, Split.TRAIN)
    over = recommender.batches(experiment, training, recommender.shapes(experiment, training), 4, seed=None)
    nothing = jax.tree.map(np.zeros_like, made.frozen["language_model"])
    silent = dataclasses.replace(made, frozen=made.frozen | {"language_model": nothing})
    known = {}
    first = recommender.CachedContexts(training, over, made, known)
    again = recommender.CachedContexts(training, over, silent, known)
    anew = recommender.CachedContexts(training, over, silent, {})
    assert known.keys() == {training[index]["tokens"].tobytes() for index in range(len(training))}
    for index in range(len(training)):
        assert first[index]["past"].any() and not anew[index]["past"].any()
        np.testing.assert_array_equal(first[index]["past"], again[index]["past"])
