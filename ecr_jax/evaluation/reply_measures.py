"""Automatic measures of replies: films, knowledge, facts, emotions, repetition, length, likeness to the corpus.

Every measure has a value for one reply, or is made of counts of one reply, so that intervals resample whole dialogues.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import entropy

from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.evaluation import text_metrics
from ecr_jax.evaluation.reply_facts import (
    contradicts,
    films_discussed,
    films_named,
    named_entities,
    statements,
    unsupported,
)
from ecr_jax.evaluation.rows import ReportRow
from ecr_jax.evaluation.significance import Mean, Resamples, interval, resample
from ecr_jax.evaluation.system_replies import Place, SystemReply, by_system
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.knowledge.naming import normalise

REPETITION_ORDER = 3


@dataclass(frozen=True)
class Judged:
    """What the models of a run say about replies.

    Attributes:
      emotions: probabilities of the nine emotions of each reply, float [n, 9].
      losses, tokens: `perplexity.reply_losses` of each reply, [n] each.
    """

    emotions: np.ndarray
    losses: np.ndarray
    tokens: np.ndarray


def repetition(text: str, order: int = REPETITION_ORDER) -> float:
    """Share of a text's n-grams of words that occurred before in it; 0 for one that has none."""
    words = normalise(text).split()
    grams = Counter(zip(*(words[i:] for i in range(order)), strict=False))
    total = sum(grams.values())
    return (total - len(grams)) / total if total else 0.0


def equal_replies(texts: Sequence[str]) -> np.ndarray:
    """1 for each text that another one equals but for capitals and marks, else 0: float [n]."""
    folded = [normalise(text) for text in texts]
    counts = Counter(folded)
    return np.array([float(counts[text] > 1) for text in folded])


def knowledge_used(text: str, facts: Sequence[str]) -> float:
    """Share of the given facts whose value stands in the text; NaN where none are given.

    A fact is "relation: value" or a value alone, as the prompt of the emotional response lists them.
    """
    if not facts:
        return float("nan")
    padded = f" {normalise(text)} "
    return float(np.mean([f" {normalise(fact.rpartition(': ')[2])} " in padded for fact in facts]))


def emotion_alignment(reply: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The overlap of two distributions over emotions, sum of min(p, q), in [0, 1]: [n, 9] and [n, 9] -> [n].

    It is 1 less their total variation distance: 1 where the reply shows just the emotions that the target has.
    """
    return np.minimum(reply, target).sum(axis=1)


def flatness(counts: np.ndarray) -> np.ndarray:
    """How little the emotions of a set of replies vary: 1 less the normalised entropy of their most probable ones.

    1 where all replies show the same emotion, 0 where all nine are equally frequent. Few replies cannot show many
    emotions, so compare sets of one size.

    Args:
      counts: replies of each emotion, [..., 9].
    """
    return 1 - entropy(counts, axis=-1) / math.log(counts.shape[-1])


def measure_replies(
    replies: Sequence[SystemReply],
    graph: KnowledgeGraph,
    linker: EntityLinker,
    judged: Judged,
    *,
    targets: Mapping[Place, np.ndarray],
    corpus: str,
    split: str,
    resamples: int = 1000,
    seed: int = 0,
) -> list[ReportRow]:
    """The automatic measures of each system's replies, each with an interval over dialogues where it has one.

    Metrics of report rows, model = system:
      reply_words: words a reply.
      reply_films: distinct films a reply names.
      reply_films_planned: share of replies that name just the films they recommend, of those that recommend any.
      knowledge_used: share of the given facts that are told.
      unsupported_entities: share of all named entities that nothing supports (`reply_facts.unsupported`).
      contradicted_facts: share of replies with a statement that the graph contradicts.
      repetition@3, equal_replies: see the functions.
      perplexity: per token, under the frozen language model.
      sacrebleu: against the reference. reply_dist@1..4: distinct n-grams as a share of all n-grams of the set.
      emotion_alignment, emotion_flatness: see the functions.
      reply_f1_LABEL, reply_f1: F1 of the most probable emotion against the target's; the mean over labels that occur.

    Args:
      replies: of one or several systems.
      graph, linker: of the corpus.
      judged: of the replies, in their order.
      targets: the emotions [9] that a reply should show: those of the person's turn in its place.
      corpus, split: names for the rows.
      resamples, seed: of the bootstrap.
    """
    number = {id(reply): index for index, reply in enumerate(replies)}
    rows: list[ReportRow] = []
    for system, own in by_system(replies).items():
        at = [number[id(reply)] for reply in own]
        draws = resample([reply.conversation for reply in own], resamples, seed)
        of_system = _Rows(system, corpus, split, draws)
        of_system.means(_text_values(own))
        of_system.means(_fact_values(own, graph, linker))
        of_system.set_measures(own)
        loss = of_system.mean(judged.losses[at], judged.tokens[at])
        of_system.add("perplexity", loss, np.exp)
        aligned = [i for i, reply in enumerate(own) if reply.place in targets]
        if aligned:
            target = np.array([targets[own[i].place] for i in aligned])
            of_system.emotions(judged.emotions[np.array(at)[aligned]], target, np.array(aligned))
        rows += of_system.rows
    return rows


def _text_values(replies: Sequence[SystemReply]) -> dict[str, np.ndarray]:
    texts = [reply.reply for reply in replies]
    return {
        "reply_words": np.array([float(len(text.split())) for text in texts]),
        f"repetition@{REPETITION_ORDER}": np.array([repetition(text) for text in texts]),
        "equal_replies": equal_replies(texts),
        "knowledge_used": np.array([knowledge_used(reply.reply, reply.facts) for reply in replies]),
    }


def _fact_values(
    replies: Sequence[SystemReply], graph: KnowledgeGraph, linker: EntityLinker
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Measures that need the graph: (sums, numbers of units) of each reply."""
    films, planned, foreign, wrong = [], [], [], []
    for reply in replies:
        turns: list[list[int]] = []
        for _, text in reply.context:
            before = [entity for turn in turns for entity in turn]
            turns.append([link.entity for link in named_entities(text, linker, before)])
        context = [entity for turn in turns for entity in turn]
        recommended = [graph.ids[uri] for uri in reply.film_uris if uri in graph.ids]
        links = named_entities(reply.reply, linker, [*context, *recommended])
        named = films_named(links, graph)
        films.append((len(named), 1))
        planned.append((set(named) == set(recommended), bool(recommended)))
        about = (*recommended, *films_discussed(turns, graph))
        foreign.append((len(unsupported(reply.reply, links, graph, about, context)), len(links)))
        said = statements(reply.reply, links, graph, recommended)
        wrong.append((any(contradicts(statement, graph) for statement in said), 1))
    values = {
        "reply_films": films,
        "reply_films_planned": planned,
        "unsupported_entities": foreign,
        "contradicted_facts": wrong,
    }
    arrays = {name: np.array(pairs, float).reshape(-1, 2) for name, pairs in values.items()}
    return {name: (array[:, 0] * (array[:, 1] > 0), array[:, 1]) for name, array in arrays.items()}


class _Rows:
    """Report rows of one system, with intervals over its dialogues."""

    def __init__(self, system: str, corpus: str, split: str, draws: Resamples):
        self.rows: list[ReportRow] = []
        self._names, self._draws = (system, corpus, split), draws

    def mean(self, sums: np.ndarray, counts: np.ndarray) -> Mean:
        """sum of sums / sum of counts, of each reply [n]."""
        index, size = self._draws.dialogue, self._draws.draws.shape[1]
        return Mean(np.bincount(index, sums, size), np.bincount(index, counts, size).astype(float))

    def means(self, values: Mapping[str, np.ndarray | tuple[np.ndarray, np.ndarray]]) -> None:
        """Means of values [n], NaN where a reply has none, or ratios of sums and counts [n]."""
        for metric, value in values.items():
            if isinstance(value, tuple):
                sums, counts = value
            else:
                counts = (~np.isnan(value)).astype(float)
                sums = np.nan_to_num(value)
            self.add(metric, self.mean(sums, counts))

    def add(self, metric: str, mean: Mean, transform: Callable = lambda value: value) -> None:
        """A row of a mean, or of a monotone function of one; none where there is nothing to take the mean of."""
        if mean.n:
            self.row(metric, float(transform(mean.value)), transform(mean.resampled(self._draws.draws)), mean.n)

    def row(self, metric: str, value: float, samples: np.ndarray | None, n: int) -> None:
        """A row with the interval of bootstrap samples [R], or without one."""
        system, corpus, split = self._names
        low, high = (None, None) if samples is None else interval(samples) or (None, None)
        self.rows.append(ReportRow(system, corpus, split, "all", metric, value, low, high, n))

    def set_measures(self, replies: Sequence[SystemReply]) -> None:
        """sacrebleu where there are references, and distinct n-grams."""
        with_reference = [i for i, reply in enumerate(replies) if reply.reference is not None]
        if with_reference:
            texts = [replies[i].reply for i in with_reference]
            counts = text_metrics.sacrebleu_counts(texts, [str(replies[i].reference) for i in with_reference])
            index, size = self._draws.dialogue[with_reference], self._draws.draws.shape[1]
            by_dialogue = np.zeros((size, counts.shape[1]))
            np.add.at(by_dialogue, index, counts)
            samples = np.array([text_metrics.sacrebleu_score(row) for row in self._draws.draws @ by_dialogue])
            self.row("sacrebleu", text_metrics.sacrebleu_score(counts.sum(axis=0)), samples, len(texts))
        texts = [reply.reply for reply in replies]
        for order in text_metrics.ORDERS:
            self.row(f"reply_dist@{order}", text_metrics.distinct(texts, order), None, len(texts))

    def emotions(self, shown: np.ndarray, target: np.ndarray, replies: np.ndarray) -> None:
        """Alignment, flatness and F1 of emotions shown [m, 9] against target ones [m, 9], of some replies, int [m]."""
        draws, n = self._draws.draws, len(replies)
        index, size = self._draws.dialogue[replies], draws.shape[1]
        self.add("emotion_alignment", Mean.of(emotion_alignment(shown, target), index, size))
        top, truth = shown.argmax(axis=1), target.argmax(axis=1)
        counts = np.zeros((size, len(EMOTIONS)))
        np.add.at(counts, (index, top), 1)
        self.row("emotion_flatness", float(flatness(counts.sum(axis=0))), flatness(draws @ counts), n)
        scores, samples = [], []
        for label, name in enumerate(EMOTIONS):
            twice_right = 2.0 * ((top == label) & (truth == label))
            either = (top == label) * 1.0 + (truth == label)
            f1 = Mean(np.bincount(index, twice_right, size), np.bincount(index, either, size))
            if f1.counts.any():
                self.add(f"reply_f1_{name}", f1)
                scores.append(f1.value)
                samples.append(f1.resampled(draws))
        # a label that does not occur in a resample is left out of its mean
        defined = ~np.isnan(np.array(samples))
        macro = np.where(defined, samples, 0).sum(axis=0) / np.maximum(defined.sum(axis=0), 1)
        self.row("reply_f1", float(np.mean(scores)), macro, n)
