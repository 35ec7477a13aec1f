"""Candidates of a reply: titles filled in, faults found, and the best one chosen."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ecr_jax.data.schema import MOVIE
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.inference.checks import Fault, find_faults, fluency_faults, tone_faults
from ecr_jax.inference.planning import Decision
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import EntityLinker


@dataclass(frozen=True)
class Candidate:
    """A written text with what was found wrong with it.

    Attributes:
      text: titles filled in.
      faults: empty where it may be said.
      loss: mean loss per token under the frozen base model; NaN where it was not needed.
    """

    text: str
    faults: tuple[Fault, ...] = ()
    loss: float = float("nan")


@dataclass(frozen=True)
class Draft:
    """The candidates of one text of one reply.

    Attributes:
      decision: what the reply is to do.
      texts: the candidates, titles filled in.
      context: entities that the seeker named.
      emotional: whether it is the emotional response.
    """

    decision: Decision
    texts: Sequence[str]
    context: frozenset[int] = frozenset()
    emotional: bool = False


@dataclass(frozen=True)
class FluencyBound:
    """The highest loss per token of a fluent text. That of a short one is higher: its beginning is hard to foresee.

    Attributes:
      long: of a text without end.
      opening: what a beginning costs in all, in nats.
    """

    long: float = float("inf")
    opening: float = 0.0

    @classmethod
    def of(cls, losses: np.ndarray, tokens: np.ndarray) -> FluencyBound:
        """The bound that half of some texts meet, whatever their length: a line over 1 / tokens by least squares.

        Args:
          losses: per token, of each text, [n].
          tokens: of each text, [n].
        """
        if len(losses) < 2:
            return cls()
        opening = max(float(np.polyfit(1 / tokens, losses, 1)[0]), 0.0) if len(set(tokens.tolist())) > 1 else 0.0
        return cls(float(np.median(losses - opening / tokens)), opening)

    def __call__(self, tokens: int) -> float:
        """The bound for a text of so many tokens."""
        return self.long + self.opening / max(tokens, 1)


@dataclass(frozen=True)
class Checker:
    """Checks the candidates of many drafts together.

    Attributes:
      graph, linker: what is true, and what finds names.
      emotions: texts -> probabilities of the nine emotions [n, 9].
      fluency: texts -> mean loss per token under the frozen base model, and number of tokens, [n] each; None leaves
        this check out.
      bound: the highest loss of a fluent text.
    """

    graph: KnowledgeGraph
    linker: EntityLinker
    emotions: Callable[[Sequence[str]], np.ndarray]
    fluency: Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]] | None = None
    bound: FluencyBound = FluencyBound()

    def __call__(self, drafts: Sequence[Draft]) -> list[list[Candidate]]:
        """The candidates of each draft with their faults; models are asked only about texts without other faults."""
        found = [
            [
                Candidate(
                    text,
                    find_faults(text, d.decision, self.graph, self.linker, context=d.context, emotional=d.emotional),
                )
                for text in dict.fromkeys(d.texts)
            ]
            for d in drafts
        ]
        sound = [(row, place) for row, of_draft in enumerate(found) for place, c in enumerate(of_draft) if not c.faults]
        texts = [found[row][place].text for row, place in sound]
        if not texts:
            return found
        unknown = np.full(len(texts), np.nan), np.zeros(len(texts), int)
        losses, tokens = unknown if self.fluency is None else self.fluency(texts)
        of_texts = zip(sound, losses.tolist(), tokens.tolist(), self.emotions(texts), strict=True)
        for (row, place), loss, length, felt in of_texts:
            candidate = found[row][place]
            faults = () if self.fluency is None else fluency_faults(loss, self.bound(length))
            of_emotion: Mapping[str, float] = dict(zip(EMOTIONS, felt.tolist(), strict=True))
            tone = drafts[row].decision.plan.tone
            # What is said with feeling about a film that is recommended is never sad about it.
            faults += tone_faults("like" if drafts[row].emotional and tone == "neutral" else tone, of_emotion)
            found[row][place] = replace(candidate, faults=faults, loss=loss)
        return found


def best(
    candidates: Sequence[Candidate], *, said: Collection[str] = (), values: Sequence[str] = ()
) -> Candidate | None:
    """The candidate that is said, None if none can be.

    Of those without faults that no earlier turn contains, it is the one that names most of `values`, and of these the
    most fluent one (the first where fluency is not known).

    Args:
      candidates: of one text.
      said: the recommender's earlier turns.
      values: of the facts that the text should state.
    """

    def order(candidate: Candidate) -> tuple[int, float]:
        fluency = candidate.loss if candidate.loss == candidate.loss else 0.0
        return -sum(value in candidate.text for value in values), fluency

    sound = [c for c in candidates if not c.faults and not any(c.text in turn for turn in said)]
    return min(sound, key=order, default=None)


def as_fluent(candidates: Sequence[Candidate], loss: float, *, said: Collection[str] = ()) -> Candidate | None:
    """The most fluent candidate that is no less fluent than what would be said in its place, None if there is none.

    Args:
      candidates: of one text; those with faults other than of fluency cannot be said.
      loss: per token, of the text in its place.
      said: the recommender's earlier turns.
    """
    close = [c for c in candidates if all(fault.kind == "fluency" for fault in c.faults) and c.loss <= loss]
    return best([replace(candidate, faults=()) for candidate in close], said=said)


_GAP = re.compile(r"(?<=[a-z,]) {2}(?=[a-z])")


def filled(template: str, titles: Sequence[str]) -> str:
    """Puts titles into the `<movie>` slots of a text, in order; a slot without a title stays open.

    A title without a slot is not added: a candidate that leaves a film out is faulty. Where decoding allowed no more
    slots, a language model that would have opened one leaves a gap of two spaces ("between <movie> and  movie"), which
    is an open slot.
    """
    pieces = _GAP.sub(f" {MOVIE} ", template).split(MOVIE)
    text = pieces[0]
    for number, piece in enumerate(pieces[1:]):
        title = titles[number] if number < len(titles) else MOVIE
        text = f"{text.rstrip()} {title}{piece}"
    return re.sub(r" ([.,!?;:])", r"\1", " ".join(text.split()))


def first_sentences(text: str, most: int = 2) -> str:
    """The first sentences of a text."""
    ends = [m.end() for m in re.finditer(r"(?<!\b[A-Z])[.!?]+[\"'”’)]*(?=\s|$)", text)]
    return text[: ends[most - 1]].strip() if len(ends) >= most else text.strip()
