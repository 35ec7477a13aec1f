"""All five stages, the evaluation and the chat on a small corpus with small random models: end to end."""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import math
import os
import shutil
import signal

import numpy as np
import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.config import TrainConfig, registry
from ecr_jax.data.acts import Act, ActName
from ecr_jax.data.schema import Role, Split, Turn
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.evaluation import system_replies
from ecr_jax.evaluation.predictions import read as read_predictions
from ecr_jax.evaluation.protocol import mention_instances
from ecr_jax.evaluation.run import evaluate
from ecr_jax.features.instances import recommendation_instances
from ecr_jax.features.plans import Plan
from ecr_jax.files import read_jsonl_rows
from ecr_jax.inference import chat
from ecr_jax.inference.agent import Agent
from ecr_jax.models.lm.convert import flatten
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages import train
from ecr_jax.training.checkpoint import read_params
from ecr_jax.training.options import ShardingConfig
from tests import tiny

pytestmark = pytest.mark.slow

STAGES = tuple(spec.name for spec in registry.stages() if not spec.optional)


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_writes_its_run(run, stage):
    folder = run.stage_folder(stage)
    expected = {"config.json", "checkpoints", "metrics.jsonl", "speed.jsonl", "tensorboard", "params.safetensors",
                "summary.json", "cost.json"}  # fmt: skip
    expected |= (
        {"classifier.json", "emotions.parquet", "emotion_cooccurrence.npz", "cooccurrence.npz"}
        if stage == "emotion"
        else set()
    )
    expected |= {"acts.json"} if stage == "acts" else set()
    expected |= {"valence.json", "valence.parquet", "ngrams.safetensors"} if stage == "valence" else set()
    assert {path.name for path in folder.iterdir()} == expected
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 2 and 1 <= summary["best"]["step"] <= 2
    numbers = [value for row in read_jsonl_rows(folder / "metrics.jsonl") for value in row.values()]
    assert all(math.isfinite(value) for value in numbers if not isinstance(value, str))
    params = flatten(read_params(folder / "params.safetensors"))
    assert params and all(np.isfinite(array).all() for array in params.values())
    assert configs.read_run(run.folder, registry.required_stages(run)) == run


def test_stages_read_the_fields_that_they_declare(run, reads, undeclared):
    """Equal records mean equal outcomes: a field that a stage reads and does not declare would break that."""
    assert {stage: undeclared(stage, paths) for stage, paths in reads.items()} == {stage: set() for stage in reads}
    assert "recommender.heads.two_hop" in reads["recommendation"] and "fusion.heads.two_hop" in reads["fusion"]


def test_trained_parameters_are_the_small_ones(run):
    """The language model is frozen: what a stage writes is its prompt, its heads, its adapter."""
    roots = {stage: set(read_params(run.stage_folder(stage) / "params.safetensors")) for stage in STAGES[1:]}
    assert roots == {
        "acts": {"norm", "hidden", "out"},
        "fusion": {"encoder", "head"},
        "conversation": {"encoder", "movie", "adapter"},
        "recommendation": {"encoder", "head"},
        "response": {"adapter"},
    }


def test_recommendation_starts_from_fusion(run):
    """Two steps move little: the recommendation's encoder is near what fusion learned, and is not the same."""
    first, second = (
        flatten(read_params(run.stage_folder(stage) / "params.safetensors")["encoder"])
        for stage in ("fusion", "recommendation")
    )
    distance = {name: float(np.abs(first[name] - second[name]).max()) for name in first if name in second}
    assert max(distance.values()) < 0.02 and any(distance.values())


@pytest.mark.parametrize("stage", ["emotion", "response"])
def test_trained_again_is_nothing_to_do(run, stage, contents):
    before = contents(run.stage_folder(stage))
    train(run, stage, experiment=open_experiment(run))
    after = contents(run.stage_folder(stage))
    assert {str(path) for path in after if after[path] != before.get(path)} <= {"cost.json"}
    assert after.keys() == before.keys()


def test_other_settings_are_refused(run):
    longer = dataclasses.replace(run.response, train=TrainConfig(steps=3, batch_size=8))
    other = dataclasses.replace(run, response=longer)
    with pytest.raises(ValueError, match="other settings .*steps: 2 → 3.*--force"):
        train(other, "response")


def test_stages_need_what_comes_before(run, tmp_path):
    fresh = dataclasses.replace(run, runs=tmp_path)
    for stage in ("fusion", "recommendation", "conversation"):
        with pytest.raises(ValueError, match="run `ecr train emotion` with this config first"):
            train(fresh, stage)
    with pytest.raises(ValueError, match="no stage 'cooking'; choose one of emotion, valence, acts, fusion"):
        train(fresh, "cooking")
    with pytest.raises(ValueError, match="run `ecr prepare`"):
        train(dataclasses.replace(fresh, prepared=tmp_path), "emotion")
    with pytest.raises(ValueError, match="tiny is not the folder of a run"):
        Agent.open(str(tmp_path / "tiny"))


def test_seeker_turns_have_emotions(run):
    experiment = open_experiment(run)
    turns = {(d.id, i): t for split in Split for d in experiment.dialogues(split) for i, t in enumerate(d.turns)}
    for turn in turns.values():
        if turn.role == Role.RECOMMENDER:
            assert turn.emotions == ()
            continue
        assert 1 <= len(turn.emotions) <= len(EMOTIONS)
        probabilities = [p for _, p in turn.emotions]
        assert probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) <= 1 + 1e-5
        assert all(p > run.emotion.beta for p in probabilities[1:])


def test_killed_and_resumed_is_the_same(run, tmp_path, monkeypatch):
    """After SIGTERM in the middle of a stage the same command resumes and ends where an undisturbed run does."""
    settings = TrainConfig(steps=4, batch_size=8, eval_every=2)
    changed = dataclasses.replace(run, emotion=dataclasses.replace(run.emotion, train=settings))
    whole, cut = (dataclasses.replace(changed, runs=tmp_path / name) for name in ("whole", "cut"))
    train(whole, "emotion")
    module = importlib.import_module("ecr_jax.stages.emotion")
    measure = module.measure

    def kill(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return measure(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module, "measure", kill)
        with pytest.raises(SystemExit):
            train(cut, "emotion")
    assert not (cut.stage_folder("emotion") / "summary.json").exists()
    train(cut, "emotion")
    assert json.loads((cut.stage_folder("emotion") / "summary.json").read_text())["steps"] == 4
    one, other = (flatten(read_params(c.stage_folder("emotion") / "params.safetensors")) for c in (whole, cut))
    assert one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("stage", ["conversation", "response"])
def test_language_models_train_split_over_devices(run, tmp_path, stage, capsys):
    """The same command with a strategy: equal up to rounding, each device with a part of the frozen model."""
    settings = getattr(run, stage)
    split = dataclasses.replace(settings.train, sharding=ShardingConfig("fsdp_tensor", 2))
    other = dataclasses.replace(run, runs=tmp_path, **{stage: dataclasses.replace(settings, train=split)})
    for before in ("emotion", "fusion"):
        shutil.copytree(run.stage_folder(before), other.stage_folder(before))
    train(other, stage)
    assert "fsdp_tensor over 4 data x 2 model devices" in capsys.readouterr().out
    sharded, expected = (json.loads((c.stage_folder(stage) / "summary.json").read_text()) for c in (other, run))
    for name, value in expected["best"]["metrics"].items():
        np.testing.assert_allclose(sharded["best"]["metrics"][name], value, rtol=1e-4)


@pytest.fixture(scope="module")
def agent(run):
    return Agent.open(run.folder)


def test_agent_opens_what_was_trained(run, agent):
    assert agent.config == run


def item_probabilities(agent, dialogues):
    states = agent.experiment.encode_turns([turn.text_with_role for turns in dialogues for turn in turns], cached=False)
    return agent.item_probabilities([exchange.arrays for exchange in agent.begin(dialogues, states)])


def test_replies(run, agent):
    ronin = Turn(Role.SEEKER, "hello i liked Ronin (1998) a lot")
    mann = Turn(Role.SEEKER, "what of Michael Mann ?")
    dialogues = [agent.perceive([ronin]), agent.perceive([ronin, Turn(Role.RECOMMENDER, "maybe Thief (1981)"), mann])]
    first = dialogues[0][0]
    graph = agent.experiment.corpus.graph
    ids = {name: graph.id(tiny.uri(name)) for name in (*tiny.FILMS, "Michael_Mann")}
    assert first.entities == (ids["Ronin_(film)"],) and first.masked == "hello i liked <movie> a lot"
    assert first.emotions and dialogues[1][1].emotions == ()
    replies = agent.replies(dialogues, items=2)
    assert replies[1].entities == (ids["Ronin_(film)"], ids["Thief_(film)"], ids["Michael_Mann"])
    probabilities = item_probabilities(agent, dialogues)
    assert probabilities.shape == (2, 6) and np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    for reply in replies:
        assert len(reply.items) >= 2 and not set(reply.items[:2]) & set(reply.entities)
        assert all(graph.title(item) in reply.recommendation for item in reply.items)
        assert reply.writer in ("model", "plain") and reply.candidates
        assert "<movie>" not in reply.text and "<end>" not in reply.text
        assert reply.ranked and not {item for item, _ in reply.ranked} & set(reply.entities)
        assert all(0 <= p <= 1 for _, p in reply.ranked)
        assert {name for name, _ in reply.emotions} <= set(EMOTIONS) and reply.emotions


def test_only_the_plan_of_our_own_turn_counts(agent):
    """Prose of ours that names an entity puts nothing into the dialogue."""
    graph = agent.experiment.corpus.graph
    thief, ronin = (graph.id(tiny.uri(name)) for name in ("Thief_(film)", "Ronin_(film)"))
    turns = [
        Turn(Role.SEEKER, "hello"),
        Turn(Role.RECOMMENDER, "Thief (1981), or Ronin (1998)? Robert De Niro is good"),
    ]
    plan = Plan((Act(ActName.RECOMMEND),), (thief,), 1)
    _, ours = agent.perceive(turns, {1: plan})
    _, theirs = agent.perceive(turns)
    assert ours.entities == (thief,) and ours.plan == plan and ours.masked.startswith("<movie>, or Ronin (1998)?")
    assert ronin in theirs.entities and theirs.plan is None


@pytest.mark.parametrize("text", ["", "😀😀", "\x00\x1b[31m\ud800", "x" * 50_000, "¿Qué película me recomiendas?"])
def test_any_input_is_replied_to(agent, text):
    chat_ = chat.Chat(agent)
    first, second = chat_.say(text), chat_.say("hello i liked Ronin (1998) a lot")
    assert first.text and second.text and [turn.role for turn in chat_.turns] == [Role.SEEKER, Role.RECOMMENDER] * 2
    assert chat_.plans == {1: first.plan, 3: second.plan}


def test_a_reply_does_not_depend_on_the_other_dialogues(agent):
    one = agent.perceive([Turn(Role.SEEKER, "hello i liked Ronin (1998) a lot")])
    other = agent.perceive([Turn(Role.SEEKER, "what else")])
    (alone,), (together, _) = agent.replies([one]), agent.replies([one, other])
    assert (alone.items, alone.entities, alone.facts) == (together.items, together.entities, together.facts)
    np.testing.assert_allclose([p for _, p in alone.ranked], [p for _, p in together.ranked], atol=1e-5)


def quiet():
    return Console(file=io.StringIO(), width=200)


def test_evaluation(run, agent, contents):
    dialogues = agent.experiment.dialogues(Split.TEST)
    targets = sum(len(instance.targets) for instance in recommendation_instances(dialogues))
    report = evaluate(run, split=Split.TEST, console=quiet())
    folder = run.folder / "test"
    written = {path.name for path in folder.iterdir()}
    assert written == {
        "predictions.jsonl", "catalogue.json", "reads.jsonl", "replies.jsonl", "report.html", "report.json"
    }  # fmt: skip
    predictions = read_jsonl_rows(folder / "predictions.jsonl")
    models = {"ecr", "popularity", "copy-last", "co-occurrence", "nearest contexts", "hybrid", "ease"}
    for model in models:
        rows = [row for row in predictions if row["model"] == model]
        assert len(rows) == targets
        assert all(1 <= row["rank"] <= 6 and 0 <= row["score"] <= 1 and len(row["top"]) == 6 for row in rows)
    written = json.loads((folder / "report.json").read_text())["rows"]
    assert len(written) == len(report.rows) and models <= {row["model"] for row in written}
    assert all(math.isfinite(row["value"]) for row in written)
    recall = {row["model"]: row for row in written if row["metric"] == "recall@10" and row["stratum"] == "all"}
    assert recall["ecr"]["value"] == 1 and recall["ecr"]["n"] == targets  # six items, all among ten
    assert {"classifier", "majority"} <= {row["model"] for row in written}
    assert report.value("ecr", "coverage@10").value == 1 and report.value("ecr", "hit@10", "head") is not None
    assert len(report.replies) == 1 and "left out" not in report.provenance
    judged = system_replies.read(folder / "replies.jsonl")
    assert {reply.system for reply in judged} >= {"ecr", "ecr u^r", "human"} and len({r.place for r in judged}) == 2
    assert report.value("human", "perplexity").value > 1 and report.value("ecr", "emotion_alignment") is not None
    # the recommender's ranks in the report are those of the chat
    first = next(row for row in predictions if row["model"] == "ecr")
    dialogue = next(d for d in dialogues if d.id == first["conversation"])
    (probabilities,) = item_probabilities(agent, [dialogue.turns[: first["turn"]]])
    items = agent.experiment.corpus.graph.items.tolist()
    np.testing.assert_allclose(probabilities[items.index(first["target"])], first["score"], atol=2e-3)
    before = contents(folder)
    again = evaluate(run, split=Split.TEST, console=quiet())
    assert contents(folder) == before and (again.rows, again.replies) == (report.rows, report.replies)


def test_published_protocol(run, agent):
    report = evaluate(run, split=Split.VALID, protocol="published", console=quiet(), experiment=agent.experiment)
    folder = (run.folder / "valid") / "published"
    assert {path.name for path in folder.iterdir()} == {
        "predictions.jsonl", "catalogue.json", "report.html", "report.json"
    }  # fmt: skip
    assert [row["protocol"] for row in read_jsonl_rows((run.folder / "valid") / "reads.jsonl")] == ["published"]
    assert {row.stratum for row in report.rows} == {"all"}
    assert all(row.metric.startswith("published/") for row in report.rows) and report.replies == ()
    instances = mention_instances(agent.experiment.dialogues(Split.VALID))
    assert report.value("ecr", "published/recall@10").n == sum(len(instance.targets) for instance in instances)
    # over all entities a target's score is a probability, and the items' order is the same
    default = evaluate(run, split=Split.VALID, console=quiet(), experiment=agent.experiment)
    ours, theirs = (read_predictions(path / "predictions.jsonl")["ecr"] for path in (folder.parent, folder))
    assert [row.key for row in ours] == [row.key for row in theirs] and all(0 < row.score < 1 for row in theirs)
    assert [row.top for row in ours] == [row.top for row in theirs]
    assert default.value("ecr", "recall@1").value == report.value("ecr", "published/recall@1").value


def test_ranking_needs_no_replies(run, tmp_path):
    """Who trains the recommender alone gets its report, which says what is left out; without it there is an error."""
    alone = dataclasses.replace(run, runs=tmp_path)
    for stage in ("emotion", "fusion", "recommendation"):
        shutil.copytree(run.stage_folder(stage), alone.stage_folder(stage))
    shutil.copy(run.folder / "config.json", alone.folder)
    console = quiet()
    report = evaluate(alone, split=Split.VALID, console=console)
    why = "not trained: conversation, response"
    assert report.provenance["left out"] == dict.fromkeys(
        ("text metrics of u^r", "measures of whole replies", "sample replies"), why
    )
    assert f"left out: sample replies ({why})" in console.file.getvalue()
    assert set(report.provenance["stages"]) == {"prepare", "emotion", "fusion", "recommendation"}
    assert report.value("ecr", "recall@10").value == 1 and report.value("ecr", "bleu@1") is None
    (alone.stage_folder("recommendation") / "summary.json").unlink()
    with pytest.raises(ValueError, match="recommendation is not trained to its end; run `ecr train recommendation`"):
        evaluate(alone, split=Split.VALID, console=console)


def test_a_run_with_a_base(run, contents):
    """One stage of its own, the others linked: measured and talked with as any other run."""
    seeded = dataclasses.replace(run.recommendation.train, seed=1)
    other = dataclasses.replace(
        run, name="other", base="tiny", recommendation=dataclasses.replace(run.recommendation, train=seeded)
    )
    before = contents(run.folder)
    for stage in ("acts", "recommendation", "ease", "conversation", "response"):
        train(other, stage)
    stages = [other.stage_folder(stage) for stage in (*STAGES, "ease")]
    assert [path.name for path in stages if not path.is_symlink()] == ["recommendation"]
    assert contents(run.folder) == before  # nothing is written through a link
    opened = Agent.open(other.folder)
    assert opened.config == other
    report = evaluate(other, split=Split.VALID, console=quiet())
    assert {"ecr", "ease"} <= {row.model for row in report.rows} and "left out" not in report.provenance
    assert report.provenance["fingerprint"]["parameters"].keys() == {*STAGES, "baselines/ease"}
    (reply,) = opened.replies([opened.perceive([Turn(Role.SEEKER, "hello i liked Ronin (1998) a lot")])], items=1)
    assert reply.items


def test_chat(run, agent, monkeypatch):
    monkeypatch.setattr(Agent, "open", classmethod(lambda cls, path, **_: agent))
    lines = iter(["", "/help", "/items 2", "/explain", "hello i liked Ronin (1998) a lot", "/new", "/quit"])
    console = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(console, "input", lambda *args: next(lines))
    chat.talk(run.folder, explain=False, items=1, console=console)
    text = console.file.getvalue()
    assert "explanations are on" in text and "ecr:" in text and "Ronin (1998)" in text
