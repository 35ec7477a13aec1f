"""Stage `rlpf`: the manager learns from what its choices earn (RLPF, LLMCRS 4; Eqs. 1-5).

Data: the turns of the stage `manager`, and what every choice comes to in them (`outcomes.py`): experts are frozen, so
that rewards are looked up in a table. Trains a new LoRA adapter over the warm-started manager, whose own adapter is
merged into the base; the reference of the KL is then the adapter switched off, and there is no second copy of the
weights. Each step samples choices from the present policy inside the trie of the schema (`training/rollouts.py`).
Loss, advantage and average: `rlpf.policy`, see `losses.policy`. Selects by the greedy choices' reward on validation.

Written: params.safetensors (the adapter), rlpf.json (what greedy choices earn on validation, before and after).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.config.registry import StageSpec
from ecr_jax.data.schema import Split
from ecr_jax.features.batch_spec import Batch, BatchSpec, Field
from ecr_jax.features.batches import Batches, InMemoryExamples, bucket_shapes
from ecr_jax.features.dialogues import dialogues_of
from ecr_jax.features.instances import evenly_spaced
from ecr_jax.files import write_json
from ecr_jax.inference import trie
from ecr_jax.losses.rewards import Reward
from ecr_jax.manager.labels import ManagedTurn
from ecr_jax.manager.schema import RECOMMEND
from ecr_jax.models.lm import lora
from ecr_jax.models.lm.language_model import Params
from ecr_jax.models.sharding_rules import generator_rules
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import manager, tuning
from ecr_jax.stages.manager import Policy
from ecr_jax.stages.outcomes import Outcomes, Scores, by_sub_task, nearest_films, outcomes, similar_films
from ecr_jax.training import processes
from ecr_jax.training.loop import fit
from ecr_jax.training.rollouts import LogProbs, Rollouts, Sample, Sampled, TokenLogProbs, policy_loss
from ecr_jax.training.step import Tree


def warm_started(experiment: ExperimentContext) -> Policy:
    """The manager's policy with what it learned merged into its base.

    Raises:
      ValueError: the stage `manager` is not trained.
    """
    policy, learned = manager.trained(experiment)
    base = lora.merge(policy.frozen["language_model"], learned["adapter"], policy.adapter)
    return dataclasses.replace(policy, frozen={"language_model": base})


def trained(experiment: ExperimentContext) -> tuple[Policy, Params]:
    """The warm-started policy and the adapter that this stage trained.

    Raises:
      ValueError: a stage is not trained.
    """
    return warm_started(experiment), jax.tree.map(jnp.asarray, experiment.params("rlpf"))


def recommender(experiment: ExperimentContext) -> Scores:
    """The frozen recommender whose lists the choices re-weight."""
    graph, settings = manager.graph_of(experiment), experiment.config.evaluation
    if experiment.config.rlpf.recommender == "similarity":
        encode = experiment.encode_turns
        return similar_films(
            experiment.entity_text, np.asarray(graph.items), lambda texts: encode(list(texts), cached=False).mean(texts)
        )
    training = dialogues_of(experiment.corpus.split(Split.TRAIN), graph.ids, graph.items, {})
    near = settings.nearest_contexts
    return nearest_films(training, np.asarray(graph.items), near.contexts, near.power, settings.tie_break)


def outcomes_of(
    experiment: ExperimentContext, policy: Policy, turns: Sequence[ManagedTurn], split: Split, scores: Scores
) -> Outcomes:
    """What each choice comes to in turns of a split."""
    weight, reply = experiment.config.manager.category_weight, experiment.config.rlpf.reply
    return outcomes(turns, policy.choices, scores(turns, split), policy.graph, weight, reply)


def spec_of(rewards: Sequence[str], count: int) -> BatchSpec:
    """Examples of the stage: prompts, and what each of `count` choices earns by each of the rewards."""
    return BatchSpec(
        "rlpf",
        (
            Field("tokens", np.int32, ("T",), 0, "token_mask", "token ids of the prompt"),
            Field("earned", np.float32, (len(rewards), count), meaning="each reward of each choice"),
            Field("has_target", bool, meaning="whether the turn recommends a film"),
        ),
    )


def examples(policy: Policy, turns: Sequence[ManagedTurn], found: Outcomes, reward: Reward) -> InMemoryExamples:
    """One example for each turn, in their order."""
    count = len(policy.choices)
    parts = {name: values.reshape(-1, count) for name, values in reward(found.reward_inputs()).items()}
    earned = np.stack(list(parts.values()), axis=1).astype(np.float32)  # [n, rewards, N]
    rows = [
        {
            "tokens": np.asarray(policy.prompt(turn.before), np.int32),
            "earned": earned[row],
            "has_target": found.has_target[row],
        }
        for row, turn in enumerate(turns)
    ]
    return InMemoryExamples(spec_of(list(parts), count), rows)


def sampler(policy: Policy) -> Sample:
    """Draws choices by the decoder, inside the trie."""

    def sample(params: Tree, frozen: Tree, batch: Batch, key: jax.Array, samples: int) -> Sampled:
        prompts = manager.prompts_of(policy, batch)
        drawn = policy.sample(params, frozen, prompts, key, copies=samples)
        shape = (len(batch["tokens"]), samples)
        return Sampled({"output": drawn.outputs.reshape(shape)}, drawn.log_probs.reshape(shape))

    return sample


def scorer(policy: Policy) -> LogProbs:
    """Scores choices in one pass behind their prompt, which is read once; without params, with the adapter off."""

    def log_probs(params: Tree | None, frozen: Tree, batch: Batch) -> TokenLogProbs:
        variables = {"params": frozen["language_model"]} if params is None else policy.variables(params, frozen)
        outputs = batch["output"]
        scored = trie.token_log_probs(
            policy.module,
            variables,
            policy.trie,
            manager.prompts_of(policy, batch),
            outputs.reshape(-1),
            copies=outputs.shape[1],
        )
        shape = (*outputs.shape, scored.where.shape[-1])
        return TokenLogProbs(scored.log_probs.reshape(shape), scored.where.reshape(shape))

    return log_probs


def train(experiment: ExperimentContext, spec: StageSpec) -> None:
    """Refines the manager.

    Raises:
      ValueError: the stage `manager` is not trained, or a split has no turn to learn from.
    """
    config, settings = experiment.config.rlpf, experiment.config.rlpf.policy
    policy, scores, reward = warm_started(experiment), recommender(experiment), Reward(config.reward)
    limits = {Split.TRAIN: config.train_examples, Split.VALID: config.valid_examples}
    data: dict[Split, InMemoryExamples] = {}
    turns: dict[Split, list[ManagedTurn]] = {}
    for split, limit in limits.items():
        turns[split] = evenly_spaced(manager.turns_of(experiment, split), limit)
        if not turns[split]:
            raise ValueError(f"no recommender's turn of the {split.value} split replies to a seeker: nothing to learn")
        found = outcomes_of(experiment, policy, turns[split], split, scores)
        data[split] = examples(policy, turns[split], found, reward)
    longest = max(int(each.lengths()["T"].max()) for each in data.values())
    shapes = bucket_shapes(list(data.values()), {"T": [manager.padded_width(longest)]})
    weights = np.asarray([term.weight for term in reward.terms], np.float32)
    names = [str(term) for term in reward.terms]

    def earn(batch: Batch, actions: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        places = np.broadcast_to(actions["output"][:, None], (*batch["earned"].shape[:2], actions["output"].shape[1]))
        parts = np.take_along_axis(batch["earned"], places, axis=2)  # [B, rewards, S]
        return np.einsum("r,brs->bs", weights, parts), {name: parts[:, i] for i, name in enumerate(names)}

    log_probs, recommends = scorer(policy), by_sub_task(policy.choices)[RECOMMEND]
    batches_of_valid = Batches.in_order(data[Split.VALID], shapes, config.train.batch_size)

    def evaluate(params: Tree, frozen: Tree) -> dict[str, float]:
        sums: dict[str, float] = {}
        for batch in batches_of_valid:
            drawn = policy.sample(params, frozen, manager.prompts_of(policy, batch), None)
            outputs, real = np.asarray(processes.fetch(drawn.outputs)), batch["example_mask"]
            total, parts = earn(batch, {"output": outputs[:, None]})
            found = {"reward": total[:, 0], "recommends": recommends[outputs]}
            found |= {f"reward/{name}": part[:, 0] for name, part in parts.items()}
            for name, values in found.items():
                sums[name] = sums.get(name, 0.0) + float(values[real].sum())
        return {name: value / len(data[Split.VALID]) for name, value in sums.items()}

    model, _ = manager.language_model(experiment)
    merged = model._replace(params=policy.frozen["language_model"])
    params = tuning.initial(experiment.key(spec), merged, "adapter", policy.adapter)
    before = evaluate(params, policy.frozen)
    batches = Batches(data[Split.TRAIN], shapes, config.train.batch_size, seed=config.train.seed)
    kinds = (lambda batch: batch["has_target"].astype(int)) if config.baselines == "by_kind" else None
    best = fit(
        experiment.folder(spec),
        params=params,
        frozen=policy.frozen,
        loss=policy_loss(log_probs, settings),
        batches=batches.repeated(settings.reuse),
        evaluate=evaluate,
        select="reward",
        mode="max",
        config=config.train,
        rules=generator_rules(model.config),
        describe=lambda numbers: [f"{turns[Split.TRAIN][n].dialogue.id}:{turns[Split.TRAIN][n].turn}" for n in numbers],
        record=experiment.record(spec),
        act=Rollouts(sampler(policy), jax.jit(log_probs), earn, settings, kinds),
    )
    write_json(experiment.folder(spec) / "rlpf.json", {"warm start": before, "rlpf": best.metrics})
