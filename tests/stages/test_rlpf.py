"""The stage `rlpf` and what choices come to: ranks, replies and rewards by hand, and a policy that learns from them."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from benchmarks import llmcrs
from ecr_jax.config import LoraConfig, ManagerConfig, OptimConfig, PolicyConfig, RlpfConfig, TrainConfig
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Feedback, Role, Split
from ecr_jax.features.dialogues import Dialogue, Utterance
from ecr_jax.files import read_jsonl_rows
from ecr_jax.knowledge.attributes import RELATIONS, attribute_values
from ecr_jax.losses.rewards import Reward
from ecr_jax.manager.labels import Label, ManagedTurn
from ecr_jax.manager.schema import Choice, choices
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages import manager, rlpf, train
from ecr_jax.stages.outcomes import decision_of, masked_reply, outcomes, similar_films
from tests import gguf_files, tiny


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A prepared corpus, a tiny language model whose tokens are bytes, and a refinement that can learn."""
    folder = tmp_path_factory.mktemp("rlpf")
    sizes = tiny.llama(280)
    path = str(gguf_files.write(folder / "model.gguf", sizes, tiny.random_model(sizes, scale=0.2).params))
    config = dataclasses.replace(
        tiny.tiny_config(folder),
        language_model=path,
        manager=ManagerConfig(
            train=TrainConfig(steps=2, batch_size=4),
            adapter=LoraConfig(rank=4, patterns=("layers/.*",)),
            max_tokens=24,
            categories=2,
            valid_examples=8,
        ),
        rlpf=RlpfConfig(
            train=TrainConfig(steps=40, batch_size=8, eval_every=10, optim=OptimConfig(learning_rate=0.02)),
            policy=PolicyConfig(samples=8, advantage="leave_one_out", loss="reinforce + 0.01*kl_k3"),
            reward="detection",
            train_examples=32,
            valid_examples=8,
        ),
    )
    for split, count in {"train": 16, "valid": 4, "test": 4}.items():
        tiny.write_lines(folder / "data" / f"{split}.jsonl", tiny.managed_rows(split, count))
    prepare(config, console=Console(quiet=True))
    return config


@pytest.fixture(scope="module")
def config(prepared):
    """With a manager of two steps."""
    train(prepared, "manager")
    return prepared


@pytest.fixture(scope="module")
def experiment(prepared):
    """Without a trained stage."""
    return open_experiment(prepared)


@pytest.fixture(scope="module")
def managed(config):
    """With a trained manager."""
    return open_experiment(config)


@pytest.fixture(scope="module")
def refined(config):
    train(config, "rlpf")
    return config.stage_folder("rlpf")


@pytest.mark.slow
def test_a_policy_learns_what_is_rewarded(refined):
    """Rewarded for the sub-task of the corpus's turns alone: the first asks, the second recommends."""
    measured = json.loads((refined / "rlpf.json").read_text())
    before, after = measured["warm start"], measured["rlpf"]
    assert after["reward"] > max(before["reward"], 0.9) and after["recommends"] == pytest.approx(0.5, abs=0.1)
    training = [row for row in read_jsonl_rows(refined / "metrics.jsonl") if row["split"] == "train"]
    earned = [row["reward"] for row in training]  # of samples, which vary more than the greedy choices
    assert np.mean(earned[-10:]) > np.mean(earned[:10]) + 0.05
    assert training[-1]["kl_k3"] > training[0]["kl_k3"] == 0
    for row in training:
        assert row["sampler_difference"] < 1e-4 and abs(row["ratio"] - 1) < 1e-4 and row["clipped"] == 0
        assert 0 <= row["zero_variance"] <= 1 and "reward/detection" in row


@pytest.mark.slow
def test_the_reference_is_the_warm_started_manager(managed):
    """Its adapter merged into the base: the same distribution, with the new adapter on or off."""
    policy, warm = manager.policy(managed), rlpf.warm_started(managed)
    learned = jax.tree.map(jnp.asarray, managed.params("manager"))
    turns = [turn.before for turn in manager.turns_of(managed, Split.VALID)[:3]]
    prompts = policy.prompts(turns)
    outputs = np.array([0, 5, len(policy.choices) - 1])
    expected = policy.log_prob(learned, policy.frozen, prompts, outputs)
    batch = {"tokens": prompts.tokens, "token_mask": prompts.mask, "output": jnp.asarray(outputs)[:, None]}
    scored = rlpf.scorer(warm)(None, warm.frozen, batch)
    np.testing.assert_allclose(scored.log_probs.sum(axis=-1)[:, 0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_several_outputs_of_a_prompt_are_scored_as_each_alone(managed):
    policy = rlpf.warm_started(managed)
    turns = [turn.before for turn in manager.turns_of(managed, Split.VALID)[:2]]
    prompts = policy.prompts(turns)
    batch = {"tokens": prompts.tokens, "token_mask": prompts.mask}
    together = np.array([[0, 3, 8], [1, 8, 8]])
    scored = rlpf.scorer(policy)(None, policy.frozen, batch | {"output": together})
    for column in range(3):
        alone = rlpf.scorer(policy)(None, policy.frozen, batch | {"output": together[:, column : column + 1]})
        np.testing.assert_allclose(scored.log_probs[:, column], alone.log_probs[:, 0], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(scored.where[:, column], alone.where[:, 0])


# ------------------------------------------------------------------------------------------------------------ outcomes


def film(graph, title):
    return next(int(item) for item in graph.items if graph.title(int(item)).startswith(title))


@pytest.fixture(scope="module")
def graph(experiment):
    return manager.graph_of(experiment)


@pytest.fixture(scope="module")
def turn(graph):
    """The seeker likes Thief; Ronin was recommended and refused; the turn recommends Zodiac."""
    names = {name: film(graph, name) for name in ("Thief", "Ronin", "Zodiac")}

    def said(role, masked, name):
        return Utterance(
            role, masked.replace("<movie>", name), masked, (names[name],), ((names[name], Feedback.UNSAID),)
        )

    turns = (
        said(Role.SEEKER, "i liked <movie>", "Thief"),
        said(Role.RECOMMENDER, "see <movie> .", "Ronin"),
        Utterance(Role.SEEKER, "no", "no"),
        said(Role.RECOMMENDER, "How about <movie>?", "Zodiac"),
    )
    return ManagedTurn(
        Dialogue("one", Split.VALID, turns), 3, Label(Choice("recommend", (("category", "any"),)), "rule")
    )


def test_outcomes_by_hand(turn, graph, experiment):
    """Zodiac is third of the scores; without the refused Ronin second; with its genre first."""
    found = outcomes([turn], choices(manager.schema_of(experiment)), scores(graph), graph, weight=2.0)
    every = choices(manager.schema_of(experiment))
    places = {str(choice): place for place, choice in enumerate(every)}
    (mystery,) = (name for name in places if name.startswith("recommend: ") and "mystery" in name.lower())
    assert found.rank[0, places["recommend"]] == 2 and found.rank[0, places[mystery]] == 1
    assert np.isinf(found.rank[0, places["chat"]]) and found.has_target.tolist() == [True]
    assert found.references == ("How about <movie>?",)
    assert found.right[0].tolist() == [choice.sub_task == "recommend" for choice in every]
    earned = Reward("hit(k=1) + detection")(found.reward_inputs())
    assert earned["hit(k=1)"].sum() == 1 and earned["hit(k=1)"][places[mystery]] == 1
    assert all("<movie>" in found.replies[0][place] for name, place in places.items() if name.startswith("recommend"))


def scores(graph):
    order = ["Ronin", "Brazil", "Zodiac", "Sleuth", "Thief", "Collateral"]
    place = {film(graph, name): rank for rank, name in enumerate(order)}
    return np.asarray([[-float(place[int(item)]) for item in graph.items]])


def test_ablations_of_what_carries_choices_out(turn, graph, experiment):
    """Without a summary the outcome is said as it is; without experts nothing of the film, Ronin, is stated."""
    every = choices(manager.schema_of(experiment))
    places = {str(choice): place for place, choice in enumerate(every)}
    plan, bare, raw = (
        outcomes([turn], every, scores(graph), graph, 2.0, reply) for reply in ("plan", "bare", "outcome")
    )
    for other in (bare, raw):
        np.testing.assert_array_equal(other.rank, plan.rank)
    assert raw.replies[0][places["recommend"]] == "<movie>; <movie>; <movie>"
    assert raw.replies[0][places["elicit: genre"]] == "ask genre" and raw.replies[0][places["chat"]] == "chat"
    ronin = film(graph, "Ronin")
    attribute = next(a for a in RELATIONS if f"details: {a}" in places and attribute_values(graph, ronin, a))
    asked, (value, *_) = places[f"details: {attribute}"], attribute_values(graph, ronin, attribute)
    assert raw.replies[0][asked].startswith(f"<movie> {attribute}: {value}")
    assert value in plan.replies[0][asked] and value not in bare.replies[0][asked]


def test_films_by_the_similarity_of_texts(turn, graph):
    """The dialogue's last two turns have the states of Brazil and of nothing: Brazil is first."""
    items = np.asarray(graph.items)
    texts = np.eye(len(graph) + 1, dtype=np.float32)
    brazil = film(graph, "Brazil")
    states = {turn.before[-1].text_with_role: 2 * texts[brazil], turn.before[-2].text_with_role: 0 * texts[0]}
    rank = similar_films(texts, items, lambda asked: np.stack([states[text] for text in asked]), turns=2)
    (found,) = rank([turn], Split.VALID)
    assert items[found.argmax()] == brazil and np.exp(found).sum() == pytest.approx(1, rel=1e-5)


def test_a_turn_without_a_new_film_has_no_target(turn, graph, experiment):
    again = dataclasses.replace(turn.dialogue, turns=(*turn.dialogue.turns[:3], turn.dialogue.turns[1]))
    found = outcomes(
        [dataclasses.replace(turn, dialogue=again)], choices(manager.schema_of(experiment)), scores(graph), graph, 1.0
    )
    assert np.isinf(found.rank).all() and not found.has_target.any()


def test_every_choice_is_said_in_a_sentence(graph, experiment):
    """Also where no film is under discussion, and what is asked is not known."""
    recommended, discussed = film(graph, "Zodiac"), film(graph, "Thief")
    for choice in choices(manager.schema_of(experiment)):
        for about in (None, discussed):
            text = masked_reply(decision_of(choice, recommended, about, graph), graph, 0)
            assert text and "Thief" not in text and "Zodiac" not in text
    with pytest.raises(ValueError, match="no plan carries out the choice recommend"):
        decision_of(Choice("recommend", (("category", "any"),)), None, None, graph)


# ------------------------------------------------------------------------------------------------------- measurement


def test_both_protocols_by_hand(turn, graph, experiment):
    """Two turns: one whose film is second without its genre and first with it, and one that recommends nothing."""
    policy = manager.policy(experiment)
    closing = Dialogue("two", Split.VALID, (*turn.dialogue.turns[:3], Utterance(Role.RECOMMENDER, "bye", "bye")))
    turns = [turn, ManagedTurn(closing, 3, Label(Choice("chat"), "rule"))]
    found = outcomes(turns, policy.choices, np.concatenate([scores(graph)] * 2), graph, 2.0)
    places = {str(choice): place for place, choice in enumerate(policy.choices)}
    alone = llmcrs.measure(llmcrs.constant(policy, [None, None]), turns, found, policy)
    assert alone.per_target["hit@1 given"].tolist() == [0] and alone.per_target["mrr@10 given"].tolist() == [0.5]
    assert alone.per_turn["accuracy"].tolist() == [1, 0] and alone.per_turn["recommends"].tolist() == [1, 1]
    best = llmcrs.measure(llmcrs.oracle(policy, found), turns, found, policy)
    assert best.per_target["hit@1 given"].tolist() == [1] == best.per_target["hit@1 end_to_end"].tolist()
    silent = llmcrs.System(np.array([places["recommend"]] * 2), np.array([places["chat"]] * 2))
    missed = llmcrs.measure(silent, turns, found, policy)
    assert missed.per_target["hit@50 end_to_end"].tolist() == [0] and missed.per_target["hit@10 given"].tolist() == [1]
    rows = llmcrs.rows_of({"a": alone, "b": llmcrs.averaged([best, missed])}, turns, found, 20, "a")
    values = {(row["model"], row["metric"]): row["value"] for row in rows}
    assert values["b", "hit@1 given"] == 0.5 == values["b - a", "hit@1 given"]
    assert values["b", "accuracy"] == 0.5 and values["a", "macro_f1"] == pytest.approx(1 / 3)
    assert "| b - a |" in llmcrs.tables(rows, ["a", "b"])


@pytest.mark.slow
def test_the_manager_is_asked_within_the_given_sub_task(managed, turn, graph):
    policy = rlpf.warm_started(managed)
    params = {"adapter": jax.tree.map(jnp.zeros_like, managed.params("manager")["adapter"])}
    found = outcomes([turn], policy.choices, scores(graph), graph, 2.0)
    system = llmcrs.managed(policy, params, [turn], found)
    assert policy.choices[system.given[0]].sub_task == "recommend"
