"""Text metrics of generated replies against the corpus's: BLEU by order, distinct n-grams, items per reply.

Words are separated by white space. Special tokens other than `<movie>` must have been removed before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ecr_jax.data.schema import MOVIE

ORDERS = (1, 2, 3, 4)


def bleu(prediction: str, reference: str, order: int) -> float:
    """Clipped precision of one order's n-grams times the brevity penalty, not smoothed and not cumulative.

    It is NLTK's `sentence_bleu` with all weight on `order`: what the CRS literature calls BLEU-k.
    """
    words, reference_words = prediction.split(), reference.split()
    if not words:
        return 0.0
    ours, theirs = _ngrams(words, order), _ngrams(reference_words, order)
    precision = sum((ours & theirs).values()) / max(sum(ours.values()), 1)
    return precision * min(1.0, float(np.exp(1 - len(reference_words) / len(words))))


def bleu_scores(predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """`bleu` of every reply and order: float [n, 4]. An empty reply scores 0."""
    pairs = zip(predictions, references, strict=True)
    return np.array([[bleu(p, r, k) for k in ORDERS] for p, r in pairs]).reshape(-1, len(ORDERS))


def distinct(predictions: Sequence[str], order: int) -> float:
    """Distinct n-grams as a share of all n-grams of the replies, in [0, 1]; 0 if there are none."""
    grams = sum((_ngrams(p.split(), order) for p in predictions), Counter())
    return len(grams) / max(sum(grams.values()), 1)


def sacrebleu_counts(predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """What corpus BLEU is made of, for each reply: float [n, 10]; sums over replies are those of a set of them.

    Columns: n-grams in common with the reference of orders 1 to 4, n-grams of the reply of orders 1 to 4, length of the
    reply and of the reference, by the tokenisation "13a".
    """
    scorer = _sacrebleu().BLEU()  # cased, 13a
    rows = []
    for prediction, reference in zip(predictions, references, strict=True):
        score = scorer.corpus_score([prediction], [[reference]])
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return np.array(rows, float).reshape(-1, 2 * len(ORDERS) + 2)


def sacrebleu_score(counts: np.ndarray) -> float:
    """Corpus BLEU in [0, 100] from summed counts [10] of `sacrebleu_counts`, with sacrebleu's smoothing.

    Signature: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp. Reference: Post 2018, "A Call for Clarity in Reporting BLEU
    Scores".
    """
    orders = len(ORDERS)
    values = [int(value) for value in np.rint(counts)]
    bleu = _sacrebleu().BLEU.compute_bleu(values[:orders], values[orders : 2 * orders], values[-2], values[-1])
    return float(bleu.score)


def _sacrebleu() -> Any:
    from sacrebleu import metrics

    return metrics


def item_ratio(predictions: Sequence[str]) -> float:
    """`<movie>` slots per reply."""
    return sum(p.count(MOVIE) for p in predictions) / max(len(predictions), 1)


def measure(predictions: Sequence[str], references: Sequence[str], *, published: bool = False) -> dict[str, float]:
    """All text metrics of a set of replies.

    In the published code empty replies are left out of every denominator, so a model gains by an empty reply where it
    is unsure, and distinct-k is divided by the number of replies, so it can exceed 1 and grows with their length.

    Args:
      predictions: n replies without special tokens other than `<movie>`.
      references: the turns of the corpus.
      published: measure as the published code does; only to compare with published tables.

    Returns:
      bleu@1..4, dist@1..4, item_ratio.

    Reference: ECR 5.2 and its released evaluator.
    """
    pairs = list(zip(predictions, references, strict=True))
    if published:
        pairs = [(p, r) for p, r in pairs if p]
    replies = [p for p, _ in pairs]
    scores = bleu_scores(replies, [r for _, r in pairs])
    measures = {f"bleu@{k}": float(scores[:, i].sum() / max(len(replies), 1)) for i, k in enumerate(ORDERS)}
    for k in ORDERS:
        if published:
            measures[f"dist@{k}"] = len(set().union(*(_ngrams(p.split(), k) for p in replies))) / max(len(replies), 1)
        else:
            measures[f"dist@{k}"] = distinct(replies, k)
    return measures | {"item_ratio": item_ratio(replies)}


def _ngrams(words: Sequence[str], order: int) -> Counter:
    return Counter(zip(*(words[i:] for i in range(order)), strict=False))
