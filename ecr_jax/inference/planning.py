"""Planning a reply: what it does, with which films and facts, and in which tone.

`possible_sub_tasks` says what the reply may do: what the seeker asks for explicitly leaves one sub-task. One of these
is chosen, by a manager or by the learned acts (`chosen_by_acts`); `decide` makes the plan that carries it out, with
what an expert found, or by itself where there is none. All are pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import softmax

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.features.plans import Fact, Plan
from ecr_jax.inference.experts import Outcome
from ecr_jax.inference.memory import Memory
from ecr_jax.inference.phrases import MOST_FILMS, asks_about_the_recommender, explicit_acts, insists
from ecr_jax.inference.questions import Question, answer
from ecr_jax.inference.relevance import chosen_facts, shared_facts
from ecr_jax.inference.wishes import Wish, films_that_fit, forms
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.manager.schema import CHAT, DETAILS, ELICIT, EXPLAIN, RECOMMEND, Choice

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


def possible_sub_tasks(memory: Memory, probabilities: np.ndarray, at_least: int = 0) -> tuple[str, ...]:
    """The sub-tasks that a reply may carry out, the one that fits best by rule first.

    Args:
      memory: of the dialogue.
      probabilities: float [I], of each item to be recommended.
      at_least: fewest films to recommend.
    """
    acts, asked_enough = memory.acts, memory.asked >= _MOST_ASKED
    requests = bool(acts & {ActName.REQUEST, ActName.SEEN, ActName.REJECT}) or memory.wanted > 0
    if not memory.intelligible:
        return (ELICIT,)
    if memory.questions:
        return (DETAILS,) if any(question.film is not None for question in memory.questions) else (ELICIT,)
    if ActName.WHY in acts and memory.discussed is not None:
        return (EXPLAIN,)
    if requests:
        knows = memory.known or memory.recommended or memory.wanted or memory.asked or insists(memory.text)
        return (RECOMMEND,) if knows or at_least else (ELICIT,)
    accepts = ActName.ACCEPT in acts and bool(memory.recommended)
    if ActName.THANK in acts or accepts or asks_about_the_recommender(memory.text):
        return (CHAT,)
    if asked_enough or at_least:
        return (RECOMMEND,)
    if not memory.known or (_is_flat(probabilities) and not memory.asked and not memory.recommended):
        return (ELICIT, RECOMMEND)
    if memory.troubled and memory.asked == 0:
        return (ELICIT,)
    possible = [RECOMMEND, ELICIT, CHAT]
    if memory.discussed in memory.recommended:
        possible.append(EXPLAIN)
    if memory.discussed is not None and "?" in memory.text:
        possible.append(DETAILS)
    return tuple(possible)


def chosen_by_acts(possible: Sequence[str], acts: Mapping[Act, float]) -> str:
    """The sub-task of a run without a manager: the first, or asking where that is the more probable act of the reply.

    Args:
      possible: from `possible_sub_tasks`.
      acts: probabilities of the reply's acts; empty where they are not known.
    """
    likely = {act.name: probability for act, probability in acts.items()}
    asks = likely.get(ActName.ASK, 0) > likely.get(ActName.RECOMMEND, 1)
    return ELICIT if asks and possible[0] == RECOMMEND and ELICIT in possible else possible[0]


def decide(
    memory: Memory,
    items: np.ndarray,
    probabilities: np.ndarray,
    acts: Mapping[Act, float],
    graph: KnowledgeGraph,
    *,
    at_least: int = 0,
    top: int = 10,
    choice: Choice | None = None,
    outcome: Outcome | None = None,
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
      choice: the sub-task to carry out, one of `possible_sub_tasks`; None for that of `chosen_by_acts`.
      outcome: what an expert found for it; what is not there, or failed, is planned from graph and memory.
    """
    if choice is None:
        choice = Choice(chosen_by_acts(possible_sub_tasks(memory, probabilities, at_least), acts))
    found = outcome if outcome is not None and outcome.ok else Outcome("failed")
    if found.scores is not None:
        probabilities = softmax(found.scores)
    ranked, unmet = rank_films(memory, items, probabilities, graph)
    answers = _answers(memory, choice, found, graph)
    if choice.sub_task == DETAILS and not answers:
        choice = Choice(ELICIT if memory.discussed is None else EXPLAIN)
    names = _act_names(memory, choice.sub_task, {act.name: p for act, p in acts.items()})
    if at_least and ActName.RECOMMEND not in names:
        names = [name for name in names if name not in (ActName.ASK, ActName.CLOSE)] + [ActName.RECOMMEND]
    if ActName.RECOMMEND in names and not len(ranked):
        names = [ActName.ASK if name == ActName.RECOMMEND else name for name in names]

    count = min(max(memory.wanted, at_least, 1), MOST_FILMS) if ActName.RECOMMEND in names else 0
    recommended = tuple(film for film, _ in ranked[:count])
    if ActName.EXPLAIN in names and found.facts:
        discussed, facts = found.films, list(found.facts)
    else:
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
        tuple(act for name in names for act in _with_attributes(name, memory, answers, found.attribute, graph)),
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
        found.options if found.attribute == Attribute.GENRE and found.options else _options(memory, graph),
        tuple(ranked[:top]),
    )


def _answers(memory: Memory, choice: Choice, found: Outcome, graph: KnowledgeGraph) -> tuple[Answer, ...]:
    """The answers to the questions of the turn; where none was understood and details are chosen, to the expert's."""
    stated = {(found.films[fact.film], fact.attribute): fact.values for fact in found.facts}
    answers = []
    for question in memory.questions[:_MOST_ANSWERS]:
        if question.film is not None:
            yes, values = answer(question, graph)
            known = None if question.yes_no else stated.get((question.film, question.attribute))
            answers.append(Answer(question, yes, values if known is None else known))
    if not answers and choice.sub_task == DETAILS:
        answers = [Answer(Question(attribute, film), None, values) for (film, attribute), values in stated.items()]
    return tuple(answers[:_MOST_ANSWERS])


def rank_films(
    memory: Memory, items: np.ndarray, probabilities: np.ndarray, graph: KnowledgeGraph
) -> tuple[list[tuple[int, float]], tuple[Wish, ...]]:
    """The films that may be recommended, best first, and the wishes that the first of them does not fulfil.

    Films that were named before and films with something unwanted are left out. Of the others, those that fulfil most
    of the firm wishes come first, of alternatives any one; within these, what fulfils likings gains in log-probability.
    """
    allowed = ~np.isin(items, [*memory.named, *memory.recommended, *memory.seen, *memory.refused])
    fits = {wish: films_that_fit(graph, wish, items) for wish in memory.wishes}
    for wish, fit in fits.items():
        if not wish.wanted:
            allowed &= fit
    firm = [wish for wish in memory.wishes if wish.wanted and wish.firm]
    soft = [wish for wish in memory.wishes if wish.wanted and not wish.firm]
    groups = _alternatives(firm, graph)
    met = [np.logical_or.reduce([fits[wish] for wish in group]) for group in groups]
    # One wish more counts more than any one, and of two that exclude each other the later counts more.
    weights = 1 + np.arange(len(groups)) / (1 + len(groups)) ** 2
    fulfilled = sum((weight * fit for weight, fit in zip(weights, met, strict=True)), np.zeros(len(items)))
    score = np.log(np.maximum(probabilities, 1e-12)) + sum(
        (_SOFT_WEIGHT * fits[wish] for wish in soft), np.zeros(len(items))
    )
    order = np.lexsort((np.arange(len(items)), -score, -fulfilled))
    order = order[allowed[order]]
    best = [(int(items[place]), float(probabilities[place])) for place in order]
    unmet = tuple(group[-1] for group, fit in zip(groups, met, strict=True) if len(order) and not fit[order[0]])
    return best, unmet


def _alternatives(wishes: Sequence[Wish], graph: KnowledgeGraph) -> list[list[Wish]]:
    """The wishes in groups of which one is to be fulfilled."""
    groups: list[list[Wish]] = []
    for wish in wishes:
        before = groups[-1][-1] if groups else None
        if wish.either and before is not None and _kind(wish, graph) == _kind(before, graph):
            groups[-1].append(wish)
        else:
            groups.append([wish])
    return groups


def _kind(wish: Wish, graph: KnowledgeGraph) -> str:
    return "year" if wish.entity is None else str(graph.kinds[wish.entity])


def _act_names(memory: Memory, sub_task: str, likely: Mapping[ActName, float]) -> list[ActName]:
    """The acts that carry out a sub-task, those that open the reply first."""
    acts = memory.acts
    if not memory.intelligible:
        return [ActName.CHAT, ActName.ASK]
    if sub_task == DETAILS:
        return [ActName.ANSWER, *([ActName.RECOMMEND] if acts & {ActName.REQUEST, ActName.SEEN} else [])]
    if sub_task == EXPLAIN:
        return [ActName.EXPLAIN]
    if memory.questions:
        return [ActName.ASK]
    if sub_task == CHAT and (ActName.THANK in acts or ActName.ACCEPT in acts):
        return [ActName.CLOSE]
    if sub_task == CHAT and asks_about_the_recommender(memory.text):
        return [ActName.CHAT, ActName.ASK]
    moved = memory.troubled or (memory.heard == "happy" and ActName.GREET not in explicit_acts(memory.text))
    opening = [ActName.GREET] if memory.turns <= 1 and ActName.GREET in acts and not moved else []
    opening += [ActName.REACT] if (moved or _reacts(memory, likely)) and not opening else []
    if sub_task == CHAT:
        return opening or [ActName.REACT]
    return [*opening, ActName.ASK if sub_task == ELICIT else ActName.RECOMMEND]


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


def _with_attributes(
    name: ActName, memory: Memory, answers: tuple[Answer, ...], wanted: Attribute | None, graph: KnowledgeGraph
) -> list[Act]:
    """An act with what it is about: one for each answer; `wanted`: what an expert would ask for."""
    if name == ActName.ANSWER:
        return [Act(name, answer.question.attribute) for answer in answers]
    return [Act(name, _asked_attribute(memory, answers, wanted, graph) if name == ActName.ASK else None)]


_WISHED = {"genre": Attribute.GENRE, "person": Attribute.CAST, "year": Attribute.YEAR}


def _asked_attribute(
    memory: Memory, answers: tuple[Answer, ...], wanted: Attribute | None, graph: KnowledgeGraph
) -> Attribute | None:
    """What is asked for: the film that a question was about, else what an expert wants to know, else the first thing
    that is not known yet."""
    if memory.questions and not answers:
        return Attribute.FILM
    if memory.troubled:
        return Attribute.GENRE
    if wanted is not None:
        return wanted
    known = {Attribute.FILM} if memory.liked or memory.disliked else set()
    known |= {
        _WISHED[kind] for kind in (_kind(wish, graph) for wish in memory.wishes if wish.wanted) if kind in _WISHED
    }
    order = (Attribute.FILM, Attribute.GENRE, Attribute.CAST, Attribute.YEAR)
    return next(
        (attribute for attribute in order if attribute not in known and attribute not in memory.asked_for), None
    )
