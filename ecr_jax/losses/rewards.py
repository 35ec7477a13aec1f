"""Rewards of a policy that decides what a reply does: one value an output, chosen by name, and their weighted sum.

A reward is a function of keyword arguments: those without a default are what it reads, by their names in `INPUTS`;
those with a default are its options. An expression such as "0.5*hit(k=10) + 0.5*bleu(order=2)" is their sum, LLMCRS's
Eq. 2 with lambda = 0.5. Each of them is a number from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ecr_jax import metrics
from ecr_jax.losses.expression import parse
from ecr_jax.losses.named import Family

GROUP = "ecr_jax.rewards"
"""Entry points of this group are rewards of other packages."""

INPUTS = {
    "rank": "float [N], rank of the turn's target in the list that was recommended; infinite where none was, or where "
    "the turn has no target",
    "replies": "n replies, `<movie>` in place of titles",
    "references": "the corpus's turns, likewise",
    "detected": "bool [N], whether the sub-task that was chosen is the turn's own",
}
"""What rewards read, by the names of their arguments."""


def hit(*, rank: np.ndarray, k: int = 10) -> np.ndarray:
    """1 where the target is among the first k of the recommended list, else 0 (HIT of LLMCRS Eq. 2)."""
    return metrics.recall_at(rank, k)


def mrr(*, rank: np.ndarray, k: int = 10) -> np.ndarray:
    """1 / rank of a target among the first k, else 0: `hit`, graded."""
    return metrics.mrr_at(rank, k)


def ndcg(*, rank: np.ndarray, k: int = 10) -> np.ndarray:
    """1 / log2(rank + 1) of a target among the first k, else 0: `hit`, graded."""
    return metrics.ndcg_at(rank, k)


def bleu(*, replies: Sequence[str], references: Sequence[str], order: int = 2) -> np.ndarray:
    """Sentence BLEU of each reply, in [0, 1] (BLEU of LLMCRS Eq. 2).

    Cumulative to `order`: the geometric mean of the precisions of the orders 1 to `order`, times the brevity penalty;
    an order without a hit counts as half a hit, the next one as a quarter, and so on (sacrebleu's smoothing "exp"); of
    a reply with fewer words than `order`, the orders that it has (sacrebleu's effective order); 0 of a reply without a
    word of the reference. Tokens are those of "13a", lower-cased. With order 1, frequent words that form no sentence
    score high.

    Reference: Papineni et al. 2002; Chen and Cherry 2014 (smoothing technique 3); Post 2018.

    >>> bleu(replies=["a good film", "film good a"], references=["a good film"] * 2).round(3).tolist()
    [1.0, 0.5]
    """
    from sacrebleu.metrics.bleu import BLEU

    scorer = BLEU(lowercase=True, smooth_method="exp", max_ngram_order=order, effective_order=True)
    pairs = zip(replies, references, strict=True)
    return np.array([scorer.sentence_score(reply, [reference]).score / 100 for reply, reference in pairs])


def detection(*, detected: np.ndarray) -> np.ndarray:
    """1 where the sub-task is the one that the corpus's turn carries out. Without it, recommending costs nothing on
    turns that recommend nothing."""
    return detected.astype(np.float64)


REWARDS: dict[str, Callable[..., np.ndarray]] = {
    reward.__name__: reward for reward in (hit, mrr, ndcg, bleu, detection)
}
"""Rewards by name: keyword arguments of `INPUTS` -> values [N]."""

FAMILY = Family("reward", REWARDS, INPUTS, GROUP)


class Reward:
    """An expression of rewards as a function from what was done to the value of each summand."""

    def __init__(self, text: str):
        """Finds the rewards.

        Raises:
          ValueError: see `Family.bound`.
        """
        self.terms = parse(text)
        self._bound = [FAMILY.bound(term) for term in self.terms]

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The values of each summand before its weight, by its text, [N] each.

        Args:
          inputs: by the names of `INPUTS`.
        """
        return {
            str(term): reward(**{name: inputs[name] for name in names})
            for term, (reward, names) in zip(self.terms, self._bound, strict=True)
        }

    def total(self, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        """The weighted sum of what `__call__` gave, of any shape."""
        return sum((term.weight * parts[str(term)] for term in self.terms), np.zeros(()))
