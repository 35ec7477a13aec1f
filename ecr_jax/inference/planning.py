"""Planning a reply: what it does, with which films and facts, and in which tone.

`decide` is a pure function of the memory, the ranking, the act probabilities and the graph. What the seeker asks for
explicitly is done; where they do not ask, learned probabilities choose between asking, recommending and reacting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.features.plans import Fact, Plan
from ecr_jax.inference.memory import Memory
from ecr_jax.inference.phrases import MOST_FILMS
from ecr_jax.inference.questions import Question, answer
from ecr_jax.inference.relevance import chosen_facts, shared_facts
from ecr_jax.inference.wishes import Wish, films_that_fit, forms
from ecr_jax.knowledge.graph import KnowledgeGraph

TONES: Mapping[str, str] = {
    "like": "happy",
    "curious": "neutral",  # a question is answered to the point
    "happy": "happy",
    "grateful": "happy",
    "negative": "agreement",  # understanding; nothing joyful is said to who feels bad
    "neutral": "like",  # praise of what is recommended
    "nostalgia": "nostalgia",
    "agreement": "like",
    "surprise": "curious",
    "": "like",
}
"""The emotion that a reply shows, by the one that is heard. The paper leaves this open (ECR 3.4); the table is ours."""

_MOST_ASKED = 2
"""Turns in a row that ask before a film is recommended anyway."""
_MOST_ANSWERS = 2
_SOFT_WEIGHT = 2.5
"""What a fulfilled liking adds to a film's log-probability."""
_FLAT = 2.0
"""A ranking is flat where its ten best films have less than this many times their share of a uniform one."""
_OFFERED = ("comedy", "thriller", "drama", "documentary", "western", "musical")


@dataclass(frozen=True)
class Answer:
    """A question with its answer: yes or no where it is such a question, and the names to state (none: not known)."""

    question: Question
    yes: bool | None
    values: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """A plan, and what a sentence or a check needs to know beside it.

    Attributes:
      plan: what the reply does.
      answers: to the questions of the turn.
      unmet: wishes that the recommended films do not fulfil, because no film does.
      comfort: whether the seeker feels bad about something other than films.
      puzzled: whether the turn was not understood at all.
      unclear: whether it is not clear which film a question is about.
      options: genres to offer where one is asked for.
      ranked: (film, probability) of the best films that may be recommended, best first.
    """

    plan: Plan
    answers: tuple[Answer, ...] = ()
    unmet: tuple[Wish, ...] = ()
    comfort: bool = False
    puzzled: bool = False
    unclear: bool = False
    options: tuple[str, ...] = ()
    ranked: tuple[tuple[int, float], ...] = ()


def decide(
    memory: Memory,
    items: np.ndarray,
    probabilities: np.ndarray,
    acts: Mapping[Act, float],
    graph: KnowledgeGraph,
    *,
    at_least: int = 0,
    top: int = 10,
) -> Decision:
    """Plans the reply to a dialogue.

    Args:
      memory: of the dialogue.
      items: int [I], the films that can be recommended.
      probabilities: float [I], of each to be recommended.
      acts: probabilities of the reply's acts; empty where the run has no stage `acts`.
      graph: the graph.
      at_least: fewest films to recommend.
      top: how many films `Decision.ranked` lists.
    """
    ranked, unmet = rank_films(memory, items, probabilities, graph)
    likely = {act.name: probability for act, probability in acts.items()}
    answers = tuple(
        Answer(question, *answer(question, graph))
        for question in memory.questions[:_MOST_ANSWERS]
        if question.film is not None
    )
    names = _act_names(memory, answers, likely, _is_flat(probabilities))
    if at_least and ActName.RECOMMEND not in names:
        names = [name for name in names if name not in (ActName.ASK, ActName.CLOSE)] + [ActName.RECOMMEND]
    if ActName.RECOMMEND in names and not len(ranked):
        names = [ActName.ASK if name == ActName.RECOMMEND else name for name in names]

    count = min(max(memory.wanted, at_least, 1), MOST_FILMS) if ActName.RECOMMEND in names else 0
    recommended = tuple(film for film, _ in ranked[:count])
    discussed, facts = _discussed(memory, names, answers, graph)
    discussed = tuple(film for film in discussed if film not in recommended)[: MOST_FILMS - len(recommended)]
    films = (*discussed, *recommended)
    facts = [fact for fact in facts if fact.film < len(discussed)]
    each = 2 if len(recommended) == 1 else 1
    for place, film in enumerate(recommended, start=len(discussed)):
        facts += [replace(fact, film=place) for fact in chosen_facts(film, memory, graph, each, facts)]
    tone = TONES.get(memory.heard, "like")
    if recommended and any(fact.film >= len(discussed) for fact in facts):
        names = [*names, ActName.EXPLAIN]  # corpora call a fact that goes with a recommendation so
    plan = Plan(
        tuple(act for name in names for act in _with_attributes(name, memory, answers)),
        films,
        len(recommended),
        tuple(facts),
        memory.heard,
        tone,
    )
    return Decision(
        plan,
        answers,
        unmet if recommended else (),
        memory.troubled,
        not memory.intelligible,
        bool(memory.questions) and not answers,
        _options(memory, graph),
        tuple(ranked[:top]),
    )


def rank_films(
    memory: Memory, items: np.ndarray, probabilities: np.ndarray, graph: KnowledgeGraph
) -> tuple[list[tuple[int, float]], tuple[Wish, ...]]:
    """The films that may be recommended, best first, and the wishes that the first of them does not fulfil.

    Films that were named before and films with something unwanted are left out. Of the others, those that fulfil most
    of the firm wishes come first; within these, what fulfils likings gains in log-probability.
    """
    allowed = ~np.isin(items, [*memory.named, *memory.recommended, *memory.seen, *memory.refused])
    fits = {wish: films_that_fit(graph, wish, items) for wish in memory.wishes}
    for wish, fit in fits.items():
        if not wish.wanted:
            allowed &= fit
    firm = [wish for wish in memory.wishes if wish.wanted and wish.firm]
    soft = [wish for wish in memory.wishes if wish.wanted and not wish.firm]
    # One wish more counts more than any one, and of two that exclude each other the later counts more.
    weights = 1 + np.arange(len(firm)) / (1 + len(firm)) ** 2
    fulfilled = sum((weight * fits[wish] for weight, wish in zip(weights, firm, strict=True)), np.zeros(len(items)))
    score = np.log(np.maximum(probabilities, 1e-12)) + sum(
        (_SOFT_WEIGHT * fits[wish] for wish in soft), np.zeros(len(items))
    )
    order = np.lexsort((np.arange(len(items)), -score, -fulfilled))
    order = order[allowed[order]]
    best = [(int(items[place]), float(probabilities[place])) for place in order]
    unmet = tuple(wish for wish in firm if len(order) and not fits[wish][order[0]])
    return best, unmet


def _act_names(
    memory: Memory, answers: tuple[Answer, ...], likely: Mapping[ActName, float], flat: bool
) -> list[ActName]:
    acts = memory.acts
    requests = bool(acts & {ActName.REQUEST, ActName.SEEN, ActName.REJECT}) or memory.wanted > 0
    if not memory.intelligible:
        return [ActName.CHAT, ActName.ASK]
    if memory.questions:
        if not answers:
            return [ActName.ASK]
        return [ActName.ANSWER, *([ActName.RECOMMEND] if acts & {ActName.REQUEST, ActName.SEEN} else [])]
    if ActName.WHY in acts and memory.discussed is not None:
        return [ActName.EXPLAIN]
    opening = [ActName.GREET] if memory.turns <= 1 and ActName.GREET in acts else []
    reacts = memory.troubled or _reacts(memory, likely)
    opening += [ActName.REACT] if reacts and not opening else []
    if requests:
        knows = memory.known or memory.recommended or memory.wanted or memory.asked
        return [*opening, ActName.RECOMMEND if knows else ActName.ASK]
    if ActName.THANK in acts:
        return [ActName.CLOSE]
    if ActName.ACCEPT in acts and memory.recommended:
        return [ActName.CLOSE]
    if not memory.known or (flat and not memory.asked and not memory.recommended):
        return [*opening, ActName.RECOMMEND if memory.asked >= _MOST_ASKED else ActName.ASK]
    if memory.troubled and memory.asked == 0:
        return [*opening, ActName.ASK]
    if memory.asked < _MOST_ASKED and likely.get(ActName.ASK, 0) > likely.get(ActName.RECOMMEND, 1):
        return [*opening, ActName.ASK]
    return [*opening, ActName.RECOMMEND]


def _reacts(memory: Memory, likely: Mapping[ActName, float]) -> bool:
    if likely:
        return likely.get(ActName.REACT, 0) >= 0.5
    felt = memory.heard in ("negative", "happy", "nostalgia", "surprise", "like")
    return felt and bool(memory.acts & {ActName.PREFER, ActName.SEEN, ActName.REJECT} or memory.liked)


def _options(memory: Memory, graph: KnowledgeGraph) -> tuple[str, ...]:
    """Three genres to offer, none that the seeker does not want."""
    unwanted = {
        form
        for wish in memory.wishes
        if not wish.wanted and wish.entity is not None
        for form in forms(graph, wish.entity)
    }
    return tuple(genre for genre in _OFFERED if genre not in unwanted)[:3]


def _is_flat(probabilities: np.ndarray) -> bool:
    ten = min(10, len(probabilities))
    return len(probabilities) > 20 and float(np.sort(probabilities)[-ten:].sum()) < _FLAT * ten / len(probabilities)


def _discussed(
    memory: Memory, names: list[ActName], answers: tuple[Answer, ...], graph: KnowledgeGraph
) -> tuple[tuple[int, ...], list[Fact]]:
    """The films that are talked about without being recommended, and what is stated about them."""
    if ActName.ANSWER in names:
        films = tuple(dict.fromkeys(a.question.film for a in answers if a.question.film is not None))
        facts = [
            Fact(films.index(a.question.film), a.question.attribute, a.values)
            for a in answers
            if a.question.film is not None
        ]
        asked = {(fact.film, fact.attribute) for fact in facts}
        for fact in [fact for fact in facts if not fact.values][:1]:
            known = [
                f for f in chosen_facts(films[fact.film], memory, graph, 4) if (fact.film, f.attribute) not in asked
            ]
            facts += [replace(f, film=fact.film) for f in known[:2]]
        return films, facts
    if ActName.EXPLAIN in names and memory.discussed is not None:
        return shared_facts(memory.discussed, memory, graph)
    return (), []


def _with_attributes(name: ActName, memory: Memory, answers: tuple[Answer, ...]) -> list[Act]:
    """An act with what it is about: one for each answer."""
    if name == ActName.ANSWER:
        return [Act(name, answer.question.attribute) for answer in answers]
    return [Act(name, _asked_attribute(memory, answers) if name == ActName.ASK else None)]


def _asked_attribute(memory: Memory, answers: tuple[Answer, ...]) -> Attribute | None:
    """What is asked for: the film that a question was about, else the first thing that is not known yet."""
    if memory.questions and not answers:
        return Attribute.FILM
    if memory.troubled:
        return Attribute.GENRE
    known = {Attribute.FILM} if memory.liked or memory.disliked else set()
    order = (Attribute.FILM, Attribute.GENRE, Attribute.CAST, Attribute.YEAR)
    return next(
        (attribute for attribute in order if attribute not in known and attribute not in memory.asked_for), None
    )
