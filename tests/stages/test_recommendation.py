"""The stage `recommendation`: what its loss scores, what its prompt reads, and that each preset trains."""

from __future__ import annotations

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.config import presets, replace
from ecr_jax.config.registry import find
from ecr_jax.data.schema import Role, Split
from ecr_jax.features.batches import Batches
from ecr_jax.features.dialogues import emotion_labelled_mentions
from ecr_jax.features.instances import fusion_instances, recommendation_instances
from ecr_jax.files import link, read_jsonl_rows
from ecr_jax.inference.agent import Agent
from ecr_jax.inference.responses import RecommendationResponder
from ecr_jax.knowledge.cooccurrence import count_cooccurrence
from ecr_jax.models.lm.convert import flatten
from ecr_jax.runs.caches import BoundedCache
from ecr_jax.runs.context import ExperimentContext, InMemoryEmotionLabels, open_experiment
from ecr_jax.stages import fusion, recommendation, recommender, train
from ecr_jax.stages.acts import ActProbabilities
from ecr_jax.training.checkpoint import read_params

pytestmark = pytest.mark.slow

WIDTH = 16
"""Of the tiny language model."""


@pytest.fixture(scope="module")
def base(prepared_config):
    """A prepared corpus with emotions of its turns and co-occurrence counts, without a classifier."""
    experiment = labelled(prepared_config)
    folder, graph = experiment.folder("emotion"), experiment.corpus.graph
    mentions = [emotion_labelled_mentions(dialogue.turns) for dialogue in experiment.dialogues(Split.TRAIN)]
    count_cooccurrence(mentions, len(graph)).save(folder / "emotion_cooccurrence.npz")
    all_pairs = count_cooccurrence(mentions, len(graph), require_emotion=False)
    all_pairs.restricted_to(graph.items).save(folder / "cooccurrence.npz")
    return prepared_config


def labelled(config):
    """The context of a config with emotion labels that are made up."""
    experiment = open_experiment(config)
    turns = [(c.id, i) for c in experiment.corpus.conversations for i in range(len(c.turns))]
    return dataclasses.replace(
        experiment, emotions=InMemoryEmotionLabels({t: ((t[1] % 3, 0.7), (5, 0.2)) for t in turns})
    )


@pytest.fixture(scope="module", autouse=True)
def without_fusion():
    """Stages that start from `fusion` start from random parameters."""
    params = ExperimentContext.params

    def start(self, stage):
        return {"encoder": {}} if getattr(stage, "name", stage) == "fusion" else params(self, stage)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExperimentContext, "params", start)
        yield


@pytest.fixture(scope="module")
def replying(base):
    """The config whose recommender reads responses, with the stage that generates them trained."""
    config = changed(base, use_resp=True)
    train(config, "conversation", experiment=labelled(config))
    return config


def apart(config, folder, *stages):
    """The config in a folder of its own, with links to some of its stages."""
    other = dataclasses.replace(config, runs=folder)
    for stage in stages:
        link(config.stage_folder(stage), other.stage_folder(stage))
    return other


def changed(config, preset="improved", heads=(), prompt=(), **fields):
    """The config with the model of a preset, fields of its heads and prompt, and fields of `recommendation`."""
    model, sizes = getattr(presets, preset)(WIDTH), config.recommender
    widths = {name: getattr(sizes.prompt, name) for name in ("entity_width", "emotion_width", "bases")}
    settings = dataclasses.replace(
        sizes,
        prompt=dataclasses.replace(model.prompt, **widths | dict(prompt)),
        heads=dataclasses.replace(model.heads, **dict(heads)),
        prefix_visibility=model.prefix_visibility,
        entity_text=model.entity_text,
        directional_cooccurrence=model.directional_cooccurrence,
    )
    stage = dataclasses.replace(config.recommendation, **fields)
    return dataclasses.replace(config, recommender=settings, recommendation=stage)


def arguments_of_fit(monkeypatch, module, experiment):
    """The arguments with which a stage calls `fit`."""
    arguments = {}
    monkeypatch.setattr(module, "fit", lambda folder, **named: arguments.update(named))
    module.train(experiment, find(module.__name__.rpartition(".")[2]))
    return arguments


@pytest.mark.parametrize(("preset", "extra"), [("paper", 0), ("code", 1)])
def test_the_loss_is_over_all_entities(base, monkeypatch, preset, extra):
    """Against the soft-max by hand; in the released code's is the padding entity, and the items are ranked."""
    config = changed(base, preset, prompt={"dropout": 0.0}, candidates="entities", loss="cross_entropy")
    experiment = labelled(config)
    arguments = arguments_of_fit(monkeypatch, recommendation, experiment)
    setup, batch, params = recommender.build_recommender(experiment), arguments["batches"][0], arguments["params"]
    entities = np.arange(len(experiment.corpus.graph) + extra)
    np.testing.assert_array_equal(setup.all_entities, entities)
    total, count, metrics = jax.jit(arguments["loss"])(params, arguments["frozen"], batch, jax.random.key(0))
    logits = recommender.scores(setup, params, setup.frozen, batch, jnp.asarray(entities), "recommendation").logits
    logits = np.asarray(logits) - np.max(logits, axis=1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows, slots = np.nonzero(batch["target_mask"])
    assert count == len(rows) > 0
    targets = zip(rows, batch["targets"][rows, slots], strict=True)
    np.testing.assert_allclose(float(total), -sum(log_probabilities[row, entity] for row, entity in targets), rtol=1e-4)
    assert float(metrics["cross_entropy"]) == pytest.approx(float(total), rel=1e-5)
    assert arguments["evaluate"](params, None)["recall@10"] == 1  # six items, all among ten


def test_code_with_its_cooccurrence_head_trains_a_step(base, tmp_path):
    parts = {"heads": {"cooccurrence": "published"}, "prompt": {"recommendation_prefix": 4}}
    config = changed(base, "code", **parts)
    with pytest.raises(ValueError, match="'feedback_bce' reads 'like_logits'"):
        train(config, "recommendation", experiment=labelled(config))
    config = apart(changed(base, "code", **parts, loss="feedback_cross_entropy"), tmp_path, "emotion")
    train(config, "recommendation", experiment=labelled(config))
    params = flatten(read_params(config.stage_folder("recommendation") / "params.safetensors"))
    setup = recommender.build_recommender(labelled(config))
    assert setup.model.heads.cooccurrence == "published" and not setup.model.prompt.masked
    assert setup.prefix_visibility == "all" and params["encoder/recommendation/table"].shape[0] == 4
    assert {name for name in params if name.startswith("head")} == {
        f"head/cooccurrence/{part}/{leaf}" for part in ("down", "up", "out") for leaf in ("kernel", "bias")
    }
    assert all(np.isfinite(leaf).all() for leaf in params.values())


def test_fusion_may_read_the_turn_itself(base, monkeypatch):
    including = replace(base, "fusion.include_turn", True)
    experiment = labelled(including)
    plain, other = (arguments_of_fit(monkeypatch, fusion, labelled(config))["batches"] for config in (base, including))
    dialogues = experiment.dialogues(Split.TRAIN)
    instance = fusion_instances(dialogues)[0]
    turn = dialogues[instance.dialogue].turns[instance.turn]
    _, tokenizer = experiment.language_model(base.language_model, 1)
    before, after = plain.examples[0], other.examples[0]
    (ids,) = tokenizer.encode_turns([(turn.role, turn.text)])
    assert after["tokens"].tolist()[-len(ids) :] == ids and before["tokens"].tolist()[-len(ids) :] != ids
    states = experiment.turn_states.rows(turn.text_with_role)
    np.testing.assert_array_equal(after["text_states"][-len(states) :], states)
    for name in ("entities", "emotions", "mentions", "targets"):
        np.testing.assert_array_equal(after[name], before[name])


def test_fusion_has_heads_of_its_own(base, monkeypatch):
    """The recommender's heads do not change what fusion trains."""
    config = changed(base, heads={"two_hop": False, "query": "state"})
    one, other = (arguments_of_fit(monkeypatch, fusion, labelled(c))["params"] for c in (base, config))
    one, other = flatten(one), flatten(other)
    assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_responses_need_the_stage_that_generates_them(base, tmp_path):
    config = apart(changed(base, use_resp=True), tmp_path, "emotion")
    with pytest.raises(ValueError, match="params.safetensors is missing; run `ecr train conversation`"):
        train(config, "recommendation", experiment=labelled(config))


def test_the_response_is_read(base, replying, monkeypatch):
    """It stands after the context, in both texts, and nowhere else; it is generated once and stored."""
    config, experiment = replying, labelled(replying)
    texts = iter(["try <movie> .", "hello"] * 100)
    calls = []

    def generate(responder, contexts):
        calls.append(len(contexts))
        return [next(texts) for _ in contexts]

    with monkeypatch.context() as patch:
        patch.setattr(RecommendationResponder, "generate", generate)
        examples = recommendation.examples(experiment, Split.TRAIN)
    stored = read_jsonl_rows(config.stage_folder("conversation") / "replies-train.jsonl")
    places = [(examples.dialogues[instance.dialogue].id, instance.turn) for instance in examples.instances]
    assert [(row["conversation"], row["turn"]) for row in stored] == places
    assert [row["text"] for row in stored[:2]] == ["try <movie> .", "hello"] and len(calls) == 1

    silent = recommendation.examples(labelled(base), Split.TRAIN)
    _, tokenizer = experiment.language_model(config.language_model, 1)
    for index, text in enumerate(["try <movie> .", ""]):  # without a slot nothing is recommended
        (ids,) = tokenizer.encode_turns([(Role.RECOMMENDER, text)])
        example, plain = examples[index], silent[index]
        assert example["tokens"].tolist()[-len(ids) :] == ids
        whole = (plain["tokens"].tolist() + ids)[-32:]
        assert whole[-len(example["tokens"]) :] == example["tokens"].tolist()
        assert example["text_states"].shape[0] > 0
        for name in ("entities", "emotions", "mentions", "neighbours", "targets"):
            np.testing.assert_array_equal(example[name], plain[name])
    again = recommendation.examples(experiment, Split.TRAIN)  # nothing is generated: no stand-in now
    np.testing.assert_array_equal(again[0]["tokens"], examples[0]["tokens"])
    np.testing.assert_array_equal(again[0]["text_states"], examples[0]["text_states"])


def test_trained_and_ranked_with_responses(replying, tmp_path, monkeypatch):
    """The evaluation ranks as the chat does."""
    config = apart(replying, tmp_path, "emotion", "conversation")
    experiment = labelled(config)
    train(config, "recommendation", experiment=experiment)
    summary = json.loads((config.stage_folder("recommendation") / "summary.json").read_text())
    assert summary["steps"] == 2
    examples, setup = recommendation.examples(experiment, Split.TEST), recommender.build_recommender(experiment)
    batches = Batches.in_order(examples, recommender.recommender_shapes(experiment, examples), 8)
    rank = recommender.scorer(setup, setup.items).with_params(experiment.params("recommendation"))
    batch, scores = next(iter(rank(batches)))
    probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)

    agent = Agent(experiment)
    row = int(np.flatnonzero(batch["example_mask"])[0])
    index = int(batch["example"][row])
    instance, arrays = examples.instances[index], examples[index]
    assert instance in recommendation_instances(examples.dialogues)
    turns = examples.dialogues[instance.dialogue].turns[: instance.turn]
    calls = []

    def item_probabilities(contexts):
        calls.append((contexts[0], Agent.item_probabilities(agent, contexts)))
        return calls[-1][1]

    monkeypatch.setattr(agent, "item_probabilities", item_probabilities)
    writer = types.SimpleNamespace(write=lambda requests, candidates: [["good ."] * candidates] * len(requests))
    monkeypatch.setitem(vars(agent), "emotional_writer", writer)
    monkeypatch.setitem(vars(agent), "_label_acts", lambda dialogues, _: [ActProbabilities({}, {})] * len(dialogues))
    (reply,) = agent.replies([turns], items=1)
    ((context, ranked),) = calls
    assert context["tokens"].tolist() == arrays["tokens"].tolist()
    np.testing.assert_allclose(context["text_states"], arrays["text_states"], atol=2e-2)  # float16
    np.testing.assert_allclose(ranked[0], probabilities[row], atol=2e-3)
    assert len(reply.items) >= 1 and reply.entities == tuple(dict.fromkeys(e for turn in turns for e in turn.entities))


def test_contexts_are_encoded_once(base):
    """What is in the cache is used as it is, whatever the model would compute now."""
    experiment = labelled(base)
    setup, training = recommender.build_recommender(experiment), recommendation.examples(experiment, Split.TRAIN)
    shapes = recommender.recommender_shapes(experiment, training)
    zeros = jax.tree.map(np.zeros_like, setup.frozen["language_model"])
    silent = dataclasses.replace(setup, frozen=setup.frozen | {"language_model": zeros})

    def cached(experiment, setup):
        (examples,) = recommender.with_cached_contexts(experiment, setup, [training], shapes, 4)
        return examples

    first, again = cached(experiment, setup), cached(experiment, silent)
    assert len(experiment.context_cache) == len({training[i]["tokens"].tobytes() for i in range(len(training))})
    empty = BoundedCache(experiment.context_cache.limit, experiment.context_cache.size)
    computed = cached(dataclasses.replace(experiment, context_cache=empty), silent)
    for index in range(len(training)):
        assert first[index]["past"].any() and not computed[index]["past"].any()
        np.testing.assert_array_equal(first[index]["past"], again[index]["past"])
    assert "past" in first.spec and first.lengths() is training.lengths()


def test_contexts_are_encoded_beforehand_only_where_they_fit_and_can_be(base):
    experiment = labelled(base)
    setup, training = recommender.build_recommender(experiment), recommendation.examples(experiment, Split.TRAIN)
    shapes = recommender.recommender_shapes(experiment, training)
    small = experiment.with_config(replace(base, "recommendation.context_cache_gib", 1e-6))
    published = dataclasses.replace(setup, prefix_visibility="all")
    for context, kind in ((small, setup), (experiment, published)):
        (examples,) = recommender.with_cached_contexts(context, kind, [training], shapes, 4)
        assert examples is training


def test_repetition_as_a_gate_is_trained_and_selected_by_mrr(base, tmp_path):
    config = apart(changed(base, heads={"repetition": "gate"}, select="mrr@10"), tmp_path, "emotion")
    train(config, "recommendation", experiment=labelled(config))
    folder = config.stage_folder("recommendation")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["select"] == "mrr@10" and 0 < summary["best"]["metrics"]["mrr@10"] <= 1
    gate = {name for name in flatten(read_params(folder / "params.safetensors")) if name.startswith("head/gate")}
    assert gate == {"head/gate/bias", "head/gate/kind", "head/gate/last_turn/kernel"}
