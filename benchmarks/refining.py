"""A trained recommender refined by the policy losses of RLPF: a recommended film earns a hit or nothing.

    python -m benchmarks.refining [--config demo] [--model recommendation] [--prepared prepared] [--runs runs]
        [--split test] [--seeds 0 1 2] [--steps 60] [--json FILE] [--page FILE]

The policy is the softmax over the items, given a context of the train split; of each context some items are drawn, and
one earns 1 where the turn recommends it. `recommendation` is ECR's recommender: its soft prompt and scoring heads are
refined, the language model is frozen. Any trained baseline that is trained by gradients can be named instead. The
best of three evaluations by HIT@10 on validation is kept; then the split is ranked before and after.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import common
from benchmarks.common import Row
from ecr_jax import config as configs
from ecr_jax.config import registry
from ecr_jax.data.schema import Split
from ecr_jax.evaluation import significance
from ecr_jax.features.batches import Batches, Examples
from ecr_jax.features.instances import TargetExamples
from ecr_jax.metrics import mrr_at, ranks, recall_at
from ecr_jax.runs.context import ExperimentContext, InMemoryEmotionLabels, open_experiment
from ecr_jax.stages import baselines, recommendation, recommender
from ecr_jax.training.evaluation import Scorer, ranking_metrics
from ecr_jax.training.loop import fit
from ecr_jax.training.options import OptimConfig, PolicyConfig, TrainConfig
from ecr_jax.training.rollouts import Rollouts, Sampled, TokenLogProbs, policy_loss
from ecr_jax.training.step import Batch, Tree

INTRODUCTION = str(__doc__).split("\n\n")[2]

Logits = Callable[[Tree, Tree, Batch], jax.Array]
"""(params, frozen, batch) -> scores of the items, [B, I]."""

_ROWS = 64


@dataclass(frozen=True)
class Recommender:
    """A trained recommender as a policy over items.

    Attributes:
      logits: of the items.
      frozen: what is not trained.
      scorer: ranks.
      examples: a split -> its examples; those of training leave their own dialogue out.
      shapes: examples -> length buckets.
      extend: adds arrays that are computed for all examples beforehand.
    """

    logits: Logits
    frozen: Tree
    scorer: Scorer
    examples: Callable[[Split], TargetExamples]
    shapes: Callable[[TargetExamples], tuple[dict[str, int], ...]]
    extend: Callable[[TargetExamples], Examples] = lambda examples: examples

    def batches(self, examples: TargetExamples) -> Batches:
        """All examples in their order."""
        return Batches.in_order(self.extend(examples), self.shapes(examples), _ROWS)


def recommender_of(experiment: ExperimentContext, model: str) -> Recommender:
    """The trained recommender of an experiment, or a baseline."""
    if model != "recommendation":
        baseline = baselines.build(experiment, registry.find(model))

        def baseline_logits(params: Tree, frozen: Tree, batch: Batch) -> jax.Array:
            return cast(jax.Array, baseline.module.apply({"params": params}, batch, frozen))

        return Recommender(
            baseline_logits,
            baseline.frozen,
            baselines.scorer(baseline),
            lambda split: baselines.examples(experiment, baseline, split),
            lambda examples: baselines.shapes(baseline, examples),
            baseline.extend,
        )
    setup = recommender.build_recommender(experiment)

    def logits(params: Tree, frozen: Tree, batch: Batch) -> jax.Array:
        return recommender.scores(setup, params, frozen, batch, jnp.asarray(setup.items), "recommendation").logits

    return Recommender(
        logits,
        setup.frozen,
        recommender.scorer(setup, setup.items),
        lambda split: recommendation.examples(experiment, split),
        lambda examples: recommender.recommender_shapes(experiment, examples),
    )


def item_rollouts(logits: Logits, items: np.ndarray, policy: PolicyConfig) -> tuple[Rollouts, Any]:
    """The rollouts and the loss of a policy that recommends one item; frozen["initial"] is the reference.

    Args:
      logits: of the items.
      items: int [I], sorted entity ids.
      policy: the estimator.
    """

    @jax.jit
    def scored(params: Tree, frozen: Tree, batch: Batch) -> jax.Array:
        return jax.nn.log_softmax(logits(params, frozen, batch))

    def sample(params: Tree, frozen: Tree, batch: Batch, key: jax.Array, samples: int) -> Sampled:
        log_probs = scored(params, frozen, batch)
        drawn = jax.random.categorical(key, log_probs[:, None], shape=(len(log_probs), samples))
        return Sampled({"item": drawn}, jnp.take_along_axis(log_probs, drawn, axis=1))

    def log_probs(params: Tree | None, frozen: Tree, batch: Batch) -> TokenLogProbs:
        of_items = scored(frozen["initial"] if params is None else params, frozen, batch)
        chosen = jnp.take_along_axis(of_items, batch["item"], axis=1)[..., None]
        return TokenLogProbs(chosen, jnp.ones(chosen.shape, bool))

    def reward(batch: Batch, actions: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        targets = np.where(batch["target_mask"], batch["targets"], -1)
        hits = (items[actions["item"]][:, :, None] == targets[:, None]).any(axis=-1).astype(float)
        return hits, {"hit": hits}

    return Rollouts(sample, log_probs, reward, policy), policy_loss(log_probs, policy)


def ranked(model: Recommender, params: Tree, items: np.ndarray, split: Split) -> tuple[np.ndarray, list[str]]:
    """The rank of each target of a split, and its dialogue."""
    examples = model.examples(split)
    found, dialogues = [], []
    for batch, scores in model.scorer.with_params(params)(model.batches(examples)):
        rows, slots = np.nonzero(batch["target_mask"])
        found.append(ranks(scores[rows], np.searchsorted(items, batch["targets"][rows, slots])))
        dialogues += [examples.dialogues[examples.instances[n].dialogue].id for n in batch["example"][rows]]
    return np.concatenate(found), dialogues


def refined(
    model: Recommender,
    params: Tree,
    items: np.ndarray,
    folder: Path,
    *,
    seed: int,
    steps: int,
    samples: int,
    learning_rate: float,
) -> Tree:
    """The parameters after training on what recommended items earn."""
    policy = PolicyConfig(advantage="leave_one_out", loss="reinforce + 0.05*kl_k3", samples=samples)
    act, loss = item_rollouts(model.logits, items, policy)
    training, validation = (model.examples(split) for split in (Split.TRAIN, Split.VALID))
    batches_of_valid = model.batches(validation)
    return fit(
        folder,
        params=params,
        frozen=model.frozen | {"initial": params},
        loss=loss,
        batches=Batches(model.extend(training), model.shapes(training), _ROWS, seed=seed),
        evaluate=lambda params, _: ranking_metrics(model.scorer.with_params(params), batches_of_valid, items),
        select="recall@10",
        mode="max",
        config=TrainConfig(
            steps=steps,
            batch_size=_ROWS,
            eval_every=max(steps // 3, 1),
            seed=seed,
            optim=OptimConfig(learning_rate=learning_rate, warmup=0.1),
        ),
        act=act,
    ).params


def measure(before: np.ndarray, after: Sequence[np.ndarray], dialogues: Sequence[str], case: str) -> list[Row]:
    """Metrics of ranks before and after, the mean of several runs, with paired intervals."""
    rows, draws = [], significance.resample(list(dialogues))
    for name, metric in (("HIT@1", lambda r: recall_at(r, 1)), ("HIT@10", lambda r: recall_at(r, 10)),
                         ("HIT@50", lambda r: recall_at(r, 50)), ("MRR@10", lambda r: mrr_at(r, 10))):  # fmt: skip
        ours, theirs = np.mean([metric(each) for each in after], axis=0), metric(before)
        low, high = significance.interval(draws.means((ours - theirs)[:, None])[:, 0]) or (np.nan, np.nan)
        title = f"{name}, refined, of {len(before)} targets; peer: before; difference [{low:+.4f}, {high:+.4f}]"
        rows.append(Row(case, title, float(ours.mean()), "", float(theirs.mean())))
    return rows


def main(
    config: str = "demo",
    model: str = "recommendation",
    prepared: Path = Path("prepared"),
    runs: Path = Path("runs"),
    split: Literal["valid", "test"] = "test",
    seeds: tuple[int, ...] = (0, 1, 2),
    steps: int = 60,
    samples: int = 16,
    learning_rate: float = 1e-4,
    json: Path | None = None,
    page: Path | None = None,
) -> None:
    """Refines a trained recommender and measures it before and after.

    Args:
      config: an experiment whose stage or baseline is trained.
      model: `recommendation`, or a baseline.
      prepared: the folder of prepared corpora.
      runs: the folder of runs; what is refined is written to NAME_refined/MODEL_SEED.
      split: what is measured.
      seeds: of the refinement.
      steps: of 64 contexts.
      samples: items drawn for each context.
      learning_rate: the highest one.
      json: file to write the rows to.
      page: Markdown page to write.
    """
    settings = dataclasses.replace(configs.load(config), prepared=prepared, runs=runs)
    experiment = open_experiment(settings)
    if model != "recommendation":  # baselines read no emotions
        experiment = dataclasses.replace(experiment, emotions=InMemoryEmotionLabels({}))
    items, params = np.asarray(experiment.corpus.graph.items), jax.device_put(experiment.params(model))
    chosen = recommender_of(experiment, model)
    before, dialogues = ranked(chosen, params, items, Split(split))
    after = []
    for seed in seeds:
        folder = runs / f"{settings.name}_refined" / f"{model}_{seed}"
        found = refined(
            chosen, params, items, folder, seed=seed, steps=steps, samples=samples, learning_rate=learning_rate
        )
        after.append(ranked(chosen, found, items, Split(split))[0])
    rows = measure(before, after, dialogues, f"{model} of {settings.corpus.label}, {split}, {len(seeds)} seeds")
    common.report(rows, "recommender refined by policy losses", json)
    if page is not None:
        command = f"python -m benchmarks.refining --config {config} --model {model} --split {split} --steps {steps}"
        command += f" --learning-rate {learning_rate:g}"
        common.page(rows, "A recommender refined by policy losses", INTRODUCTION, command, page)


if __name__ == "__main__":
    tyro.cli(main)
