"""What each choice of a manager comes to in a corpus turn: the rank of the turn's target, and the reply.

The experts are frozen: a recommender's scores are computed once for a dialogue, and a category re-weights them; the
reply is the plain sentence of the plan that carries the choice out (`inference/plain.py`), with its titles masked. So a
table of ranks and replies is all that a policy of choices needs to be rewarded and measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import log_softmax

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import MOVIE, Split
from ecr_jax.features.dialogues import Dialogue, TextContext
from ecr_jax.features.instances import recommendation_instances
from ecr_jax.features.nearest_contexts import NearestContexts
from ecr_jax.features.plans import Fact, Plan
from ecr_jax.inference.plain import plain_reply
from ecr_jax.inference.planning import Answer, Decision
from ecr_jax.inference.questions import Question
from ecr_jax.knowledge.attributes import attribute_values
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.manager.categories import category_table, reweighted
from ecr_jax.manager.labels import ManagedTurn
from ecr_jax.manager.schema import CHAT, DETAILS, ELICIT, EXPLAIN, RECOMMEND, Choice
from ecr_jax.metrics import ranks

_MOST_VALUES = 2
_LISTED = 3
"""Films that an expert lists in words."""
_SIMILARITY_TEMPERATURE = 0.05

ReplyForm = Literal["plan", "bare", "outcome"]

Scores = Callable[[Sequence[ManagedTurn], Split], np.ndarray]
"""Turns of a split -> log-probabilities of the items before each, float [n, I]."""


@dataclass(frozen=True)
class Outcomes:
    """What N choices come to in n turns.

    Attributes:
      rank: float [n, N], rank of the turn's best target in the list that a choice recommends; infinite where it
        recommends none, or where the turn has no target.
      has_target: bool [n], whether the turn recommends an item that was not recommended before.
      replies: of each turn, N texts with `<movie>` for titles.
      references: n turns of the corpus, likewise.
      right: bool [n, N], whether the choice's sub-task is that of the turn.
    """

    rank: np.ndarray
    has_target: np.ndarray
    replies: tuple[tuple[str, ...], ...]
    references: tuple[str, ...]
    right: np.ndarray

    def reward_inputs(self) -> dict[str, Any]:
        """All n N pairs of a turn and a choice, by the names of `losses.rewards.INPUTS`."""
        choices = self.rank.shape[1]
        return {
            "rank": self.rank.ravel(),
            "replies": [reply for row in self.replies for reply in row],
            "references": [reference for reference in self.references for _ in range(choices)],
            "detected": self.right.ravel(),
        }


def nearest_films(dialogues: Sequence[Dialogue], items: np.ndarray, count: int, power: float, tie: float) -> Scores:
    """The frozen recommender that needs no training: films after the nearest contexts (`features.nearest_contexts`).

    Args:
      dialogues: of the train split. A turn of theirs does not see its own dialogue.
      items: int [I], sorted entity ids.
      count, power: how many contexts count, and by which power of their similarity.
      tie: weight of the popularity, which orders films that no near context recommends.
    """
    nearest = NearestContexts.of(dialogues, items, count=count, power=power)
    recommended = [item for each in recommendation_instances(dialogues) for item, _, _ in each.targets]
    counts = np.bincount(np.searchsorted(items, recommended), minlength=len(items)) + 1.0  # none is impossible
    popularity = tie * counts / counts.sum()
    place = {dialogue.id: number for number, dialogue in enumerate(dialogues)}

    def score(turns: Sequence[ManagedTurn], split: Split) -> np.ndarray:
        rows = []
        for turn in turns:
            own = place[turn.dialogue.id] if split == Split.TRAIN else None
            scores = nearest.scores([TextContext.of(turn.before)], own).toarray()[0]
            rows.append(np.log(scores / max(scores.sum(), 1e-30) + popularity).astype(np.float32))
        return np.stack(rows) if rows else np.zeros((0, len(items)), np.float32)

    return score


def similar_films(
    entity_text: np.ndarray, items: np.ndarray, encode: Callable[[Sequence[str]], np.ndarray], turns: int = 4
) -> Scores:
    """A recommender that knows nothing but texts: films by the similarity of their descriptions with a dialogue.

    Args:
      entity_text: float [N, D], states of the entities' descriptions, of unit length.
      items: int [I], sorted entity ids.
      encode: texts with their role words -> states, float [n, D].
      turns: how many of the latest turns are compared.
    """

    def score(managed: Sequence[ManagedTurn], split: Split) -> np.ndarray:
        texts = [[said.text_with_role for said in turn.before[-turns:]] for turn in managed]
        distinct = list(dict.fromkeys(text for each in texts for text in each))
        states = dict(zip(distinct, encode(distinct), strict=True))
        rows = np.stack([np.mean([states[text] for text in each], axis=0) for each in texts])
        cosines = rows @ entity_text[items].T / np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(log_softmax(cosines / _SIMILARITY_TEMPERATURE, axis=1), np.float32)

    return score


def outcomes(
    turns: Sequence[ManagedTurn],
    choices: Sequence[Choice],
    scores: np.ndarray,
    graph: KnowledgeGraph,
    weight: float,
    reply: ReplyForm = "plan",
) -> Outcomes:
    """Carries out every choice in every turn.

    Films that were recommended before are taken out of the lists. The words of a reply vary with its turn's number.

    Args:
      turns: n turns.
      choices: N choices.
      scores: float [n, I], log-probabilities of the graph's items.
      graph: with genres.
      weight: what a category adds to the log-probabilities of its films.
      reply: see `RlpfConfig.reply`.
    """
    items = np.asarray(graph.items)
    categories = [choice.argument("category") for choice in choices if choice.sub_task == RECOMMEND]
    names = [name for name in categories if name is not None]
    members = dict(zip(names, category_table(graph, names), strict=True))
    none = np.zeros(len(items), bool)
    rank = np.full((len(turns), len(choices)), np.inf)
    has_target, replies = np.zeros(len(turns), bool), []
    for row, turn in enumerate(turns):
        before = {
            film for said in turn.before if said.role == turn.dialogue.turns[turn.turn].role for film, _ in said.films
        }
        targets = [film for film, _ in turn.dialogue.turns[turn.turn].films if film not in before]
        possible = np.where(np.isin(items, list(before)), -np.inf, scores[row])
        has_target[row] = bool(targets)
        lists = np.stack([reweighted(possible, members.get(name or "", none), weight) for name in categories])
        if targets:
            columns = np.searchsorted(items, targets)
            best = np.stack([ranks(lists, np.full(len(lists), column)) for column in columns]).min(axis=0)
            rank[row, [place for place, choice in enumerate(choices) if choice.sub_task == RECOMMEND]] = best
        firsts = iter(items[np.argsort(-lists, axis=1, kind="stable")[:, :_LISTED]].tolist())
        known = [film for said in turn.before for film, _ in said.films]
        discussed = known[-1] if known else None
        listed = [next(firsts) if choice.sub_task == RECOMMEND else [] for choice in choices]
        decisions = [
            decision_of(choice, next(iter(films), None), discussed, graph, facts=reply != "bare")
            for choice, films in zip(choices, listed, strict=True)
        ]
        replies.append(
            tuple(
                raw_outcome(decision, films) if reply == "outcome" else masked_reply(decision, graph, row)
                for decision, films in zip(decisions, listed, strict=True)
            )
        )
    right = [[choice.sub_task == turn.label.choice.sub_task for choice in choices] for turn in turns]
    references = tuple(turn.dialogue.turns[turn.turn].masked for turn in turns)
    return Outcomes(
        rank, has_target, tuple(replies), references, np.asarray(right, bool).reshape(len(turns), len(choices))
    )


def decision_of(
    choice: Choice, film: int | None, discussed: int | None, graph: KnowledgeGraph, *, facts: bool = True
) -> Decision:
    """The plan that carries out a choice.

    Args:
      choice: a sub-task with its arguments.
      film: the first film of the recommended list, where the sub-task recommends.
      discussed: the film that was named last; without one, a reply about a film asks which is meant.
      graph: the source of facts.
      facts: whether any is known.

    Raises:
      ValueError: a sub-task that this module cannot carry out, or a recommendation without a film.
    """

    def known(about: int, what: Attribute) -> tuple[Fact, ...]:
        values = attribute_values(graph, about, what)[:_MOST_VALUES] if facts else ()
        return (Fact(0, what, tuple(values)),) if values else ()

    attribute = choice.argument("attribute")
    asked = None if attribute is None else Attribute(attribute)
    if choice.sub_task == RECOMMEND and film is not None:
        return Decision(Plan((Act(ActName.RECOMMEND),), (film,), 1, known(film, Attribute.GENRE)))
    if choice.sub_task == ELICIT:
        return Decision(Plan((Act(ActName.ASK, asked),)))
    if choice.sub_task == CHAT:
        return Decision(Plan((Act(ActName.CHAT),)))
    if choice.sub_task not in (DETAILS, EXPLAIN):
        raise ValueError(f"no plan carries out the choice {choice} of film {film}")
    if discussed is None:
        return Decision(Plan((Act(ActName.ASK, Attribute.FILM),)), unclear=True)
    about = asked or Attribute.GENRE
    found = known(discussed, about)
    if choice.sub_task == EXPLAIN:
        return Decision(Plan((Act(ActName.EXPLAIN),), (discussed,), 0, found))
    answers = (Answer(Question(about, discussed), None, found[0].values if found else ()),)
    return Decision(Plan((Act(ActName.ANSWER, about),), (discussed,), 0, found), answers)


def raw_outcome(decision: Decision, listed: Sequence[int]) -> str:
    """What the expert of a decision found, in its own words, with `<movie>` for titles; no sentence is made of it.

    Args:
      decision: the plan that carries a choice out.
      listed: the films that a recommendation lists.
    """
    plan = decision.plan
    if listed:
        return "; ".join([MOVIE] * len(listed))
    if plan.facts:
        return "; ".join(f"{MOVIE} {fact.attribute.value}: {', '.join(fact.values)}" for fact in plan.facts)
    return "; ".join(
        f"{act.name.value} {act.attribute.value}" if act.attribute else act.name.value for act in plan.acts
    )


def masked_reply(decision: Decision, graph: KnowledgeGraph, seed: int) -> str:
    """The plain reply of a plan with `<movie>` for the titles of its films."""
    text = plain_reply(decision, graph, seed)
    for film in decision.plan.films:
        text = text.replace(graph.title(film), MOVIE).replace(graph.names[film], MOVIE)
    return text


def by_sub_task(choices: Sequence[Choice]) -> Mapping[str, np.ndarray]:
    """Which choices are of each sub-task: bool [N] by its name."""
    names = dict.fromkeys(choice.sub_task for choice in choices)
    return {name: np.asarray([choice.sub_task == name for choice in choices]) for name in names}
