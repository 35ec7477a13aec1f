"""What BLEU pays for as a reward: replies that say the same in every turn, and which of them a policy learns to say.

    python -m benchmarks.rewards [--config gorecdial] [--prepared prepared] [--split valid] [--json FILE] [--page FILE]

Every reply is compared with every recommender's turn of a split, titles as `<movie>`. The policy is a softmax over the
replies, trained by REINFORCE (`losses.policy`) on the train split with BLEU of one order as its only reward.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import common
from benchmarks.common import Row
from ecr_jax import config as configs
from ecr_jax.data.prepare import PreparedCorpus
from ecr_jax.data.schema import Role, Split
from ecr_jax.features.batch_spec import BatchSpec, Field
from ecr_jax.features.batches import Batches, InMemoryExamples
from ecr_jax.features.instances import evenly_spaced
from ecr_jax.losses.policy import ESTIMATORS
from ecr_jax.losses.rewards import bleu
from ecr_jax.training.loop import fit
from ecr_jax.training.options import OptimConfig, PolicyConfig, TrainConfig
from ecr_jax.training.rollouts import Rollouts, Sampled, TokenLogProbs, policy_loss

ORDERS = (1, 2, 4)
SENTENCE = "How about <movie>? I think you would like it because it is a good movie."
INTRODUCTION = """Sentence BLEU (cumulative, smoothed, see `losses.rewards.bleu`) of replies that are the same in every
turn, against the recommender's turns of a split, and the probability with which a policy that is trained on this reward
alone ends up saying each of them. "Frequent words" are the most frequent words of the train split in their order of
frequency, as many as a turn has on average: no sentence. An order above 1 pays less for them than for a sentence;
order 1 pays them best, and the policy finds it."""


def turns(corpus: PreparedCorpus, split: Split, limit: int) -> list[str]:
    """The recommender's turns of a split, at most so many, evenly spaced; titles are `<movie>`."""
    texts = [t.masked() for c in corpus.split(split) for t in c.turns if t.role == Role.RECOMMENDER and t.text]
    return evenly_spaced(texts, limit)


def constant_replies(training: Sequence[str]) -> dict[str, str]:
    """Replies that do not depend on the turn, by name."""
    words = [text.lower().split() for text in training]
    length = round(sum(map(len, words)) / len(words))
    frequent = [word for word, _ in Counter(word for each in words for word in each).most_common(length)]
    return {
        "frequent words": " ".join(frequent),
        "most frequent turn": Counter(training).most_common(1)[0][0],
        "a sentence": SENTENCE,
    }


def earned(replies: Sequence[Sequence[str]], references: Sequence[str], order: int) -> np.ndarray:
    """BLEU of each turn's replies, [n, replies]; `replies` has one sequence of n for each."""
    return np.stack([bleu(replies=texts, references=references, order=order) for texts in replies], axis=1)


def learned(rewards: np.ndarray, folder: Path, seed: int) -> np.ndarray:
    """The probabilities of the replies under a policy that is trained on rewards [n, replies]."""
    arms = rewards.shape[1]
    examples = InMemoryExamples(
        BatchSpec("rewards", (Field("earned", np.float32, (arms,)),)),
        [{"earned": row} for row in rewards.astype(np.float32)],
    )

    def sample(params, frozen, batch, key, samples):
        drawn = jax.random.categorical(key, params["logits"], shape=(len(batch["earned"]), samples))
        return Sampled({"reply": drawn}, jax.nn.log_softmax(params["logits"])[drawn])

    def log_probs(params, frozen, batch):
        logits = jnp.zeros(arms) if params is None else params["logits"]
        chosen = jax.nn.log_softmax(logits)[batch["reply"]][..., None]
        return TokenLogProbs(chosen, jnp.ones(chosen.shape, bool))

    def reward(batch, actions):
        return np.take_along_axis(batch["earned"], actions["reply"], axis=1), {}

    policy = PolicyConfig(**ESTIMATORS["reinforce"]._asdict())
    optim = OptimConfig(learning_rate=0.05, schedule="constant", clip=None)
    params = fit(
        folder,
        params={"logits": jnp.zeros(arms)},
        frozen={},
        loss=policy_loss(log_probs, policy),
        batches=Batches(examples, ({},), 64, seed=seed),
        evaluate=lambda params, _: {"reward": float(jax.nn.softmax(params["logits"]) @ rewards.mean(axis=0))},
        select="reward",
        mode="max",
        config=TrainConfig(steps=400, batch_size=64, eval_every=100, seed=seed, optim=optim),
        act=Rollouts(sample, log_probs, reward, policy),
    ).params
    return np.asarray(jax.nn.softmax(params["logits"]))


def measure(corpus: PreparedCorpus, split: Split, limit: int, seed: int) -> list[Row]:
    """Rewards of the replies on a split, and what is learned from them."""
    training, references = turns(corpus, Split.TRAIN, limit), turns(corpus, split, limit)
    constant, rng = constant_replies(training), np.random.default_rng(seed)

    def replies_to(references: Sequence[str]) -> list[list[str]]:
        return [[text] * len(references) for text in constant.values()] + [list(rng.choice(training, len(references)))]

    names, rows = [*constant, "a random turn of the train split"], []
    for order in ORDERS:
        measured = earned(replies_to(references), references, order).mean(axis=0)
        with tempfile.TemporaryDirectory() as folder:
            chosen = learned(earned(replies_to(training), training, order), Path(folder) / f"bleu-{order}", seed)
        for name, value, probability in zip(names, measured, chosen, strict=True):
            rows.append(Row(name, f"BLEU-{order}", float(value), ""))
            rows.append(Row(name, f"learned from BLEU-{order}", float(probability), "probability"))
    return rows


def main(
    config: str = "gorecdial",
    prepared: Path = Path("prepared"),
    split: Literal["valid", "test"] = "valid",
    limit: int = 4000,
    seed: int = 0,
    json: Path | None = None,
    page: Path | None = None,
) -> None:
    """Measures BLEU as a reward.

    Args:
      config: name of the config whose corpus `ecr prepare` prepared.
      prepared: the folder of prepared corpora.
      split: what the rewards are measured on.
      limit: most turns of each split, evenly spaced.
      seed: of the drawn replies and the policy.
      json: file to write the rows to.
      page: Markdown page to write.
    """
    settings = dataclasses.replace(configs.load(config), prepared=prepared)
    corpus = PreparedCorpus.open(settings.prepared_folder)
    rows = measure(corpus, Split(split), limit, seed)
    common.report(rows, f"BLEU as a reward, {settings.corpus.label}, {split}", json)
    if page is not None:
        constant = "\n".join(
            f"- {name}: `{text}`" for name, text in constant_replies(turns(corpus, Split.TRAIN, limit)).items()
        )
        command = f"python -m benchmarks.rewards --config {config} --split {split} --limit {limit} --seed {seed}"
        common.page(
            rows,
            "BLEU as a reward",
            f"{INTRODUCTION}\n\n{settings.corpus.label}, {split} split:\n\n{constant}",
            command,
            page,
        )


if __name__ == "__main__":
    tyro.cli(main)
