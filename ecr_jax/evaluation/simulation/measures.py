"""What is measured of simulated dialogues, with intervals that resample whole dialogues."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ecr_jax.data.acts import Attribute
from ecr_jax.evaluation.reply_facts import contradicts, statements
from ecr_jax.evaluation.rows import ReportRow
from ecr_jax.evaluation.significance import Mean, holm, interval, randomisation, resample, resampled, swaps
from ecr_jax.evaluation.simulation.dialogue import Simulated
from ecr_jax.inference.questions import Question, answer
from ecr_jax.inference.wishes import Wish, films_that_fit
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.knowledge.naming import normalise

_UNKNOWN = re.compile(r"\b(?:don't|do not|dont) know\b|\bnot sure\b|\bno idea\b|\bcan't say\b", re.IGNORECASE)

_ANSWERED = {"answers_right"}
"""Measures of systems that answer questions alone."""

_PAIRED = ("later_success", "turns", "constraints_kept")
"""Measures whose differences to the baselines are tested, beside the success by the last turn."""

STRATA: Mapping[str, Callable[[Simulated], bool]] = {"all": lambda dialogue: True, "cold": lambda d: d.goal.cold}
"""All dialogues, and those about films that the train split never recommends."""


def answer_is_right(text: str, question: Question, graph: KnowledgeGraph, linker: EntityLinker) -> bool:
    """Whether a reply answers a question about a film as the graph does.

    A right answer names a value of the attribute, and states nothing about the film that the graph contradicts; to a
    question for yes or no it begins with the right one. Where the graph knows no value, "I don't know" is right. The
    film's title, with its year, answers nothing.

    Args:
      text: the reply.
      question: of a film.
      graph: what is true.
      linker: of the graph.
    """
    film = question.film
    if film is None:
        raise ValueError(f"it is not clear which film {question} is about")
    yes, values = answer(question, graph, most=10**6)
    if not values:
        return bool(_UNKNOWN.search(text.replace("’", "'")))
    said = normalise(text.replace(graph.title(film), " "))
    if question.yes_no:
        return said.split()[:1] == ["yes" if yes else "no"]
    links = linker.link(text)
    if any(s.film == film and contradicts(s, graph) for s in statements(text, links, graph, [film])):
        return False
    named = [value for value in values if f" {normalise(value)} " in f" {said} "]
    years = re.findall(r"\b(?:18|19|20)\d\d\b", said)
    return bool(named) and (question.attribute != Attribute.YEAR or set(years) == set(named))


def measured(
    dialogue: Simulated, rounds: int, graph: KnowledgeGraph, linker: EntityLinker
) -> dict[str, tuple[float, int]]:
    """What a dialogue adds to each measure: the sum of the measure's units, and their number.

    Args:
      dialogue: at its end.
      rounds: most rounds until the film is recommended, which a dialogue without it counts as its turns.
      graph: what is true.
      linker: of the graph.
    """
    found = dialogue.found
    wishes: list[Wish] = []
    refused: set[int] = set()
    said: list[str] = []
    films = kept = again = repeated = right = asked = plain = written = 0
    for each in dialogue.rounds:
        wishes += each.seeker.wishes
        recommended = each.reply.films
        kept += sum(all(films_that_fit(graph, wish, np.asarray([f]))[0] for wish in wishes) for f in recommended)
        films += len(recommended)
        again += sum(film in refused for film in recommended)
        refused |= {film for film in recommended if film != dialogue.goal.film}
        repeated += each.reply.text in said
        said.append(each.reply.text)
        if each.seeker.question is not None:
            asked += 1
            right += answer_is_right(each.reply.text, each.seeker.question, graph, linker)
        if each.reply.plain is not None:
            written, plain = written + 1, plain + each.reply.plain
    replies = len(dialogue.rounds)
    success = {f"success@{turn}": (float(found is not None and found <= turn), 1) for turn in range(1, rounds + 1)}
    return success | {
        "later_success": (float(found is not None), 1) if found != 1 else (0.0, 0),
        "turns": (float(found or rounds), 1),
        "answers_right": (float(right), asked),
        "constraints_kept": (float(kept), films),
        "refused_again": (float(again), films),
        "repeated_replies": (float(repeated), replies),
        "films_a_reply": (float(films), replies),
        "plain_replies": (float(plain), written),
    }


def simulation_rows(
    systems: Mapping[str, Sequence[Simulated]],
    rounds: int,
    graph: KnowledgeGraph,
    linker: EntityLinker,
    *,
    answering: Sequence[str],
    corpus: str,
    split: str,
    resamples: int = 1000,
    seed: int = 0,
) -> list[ReportRow]:
    """Measures of each system, and differences of the first system to the others, the main ones tested.

    All systems are measured on the goals whose dialogues none of them broke off.

    Args:
      systems: name -> its dialogues.
      rounds: most rounds until the film is recommended.
      graph, linker: what is true.
      answering: the systems that answer questions.
      corpus, split: names.
      resamples: of the bootstrap over dialogues, and permutations of the tests.
      seed: of both.
    """
    whole = [{d.goal.id: d for d in dialogues if not d.fault} for dialogues in systems.values()]
    goals = sorted(set.intersection(*map(set, whole))) if whole else []
    if not goals:
        return []
    draws = resample(goals, resamples, seed).draws
    exchanged = swaps(len(goals), resamples, seed)
    rows: list[ReportRow] = []
    differences: list[ReportRow] = []
    tested = (f"success@{rounds}", *_PAIRED)
    for stratum, belongs in STRATA.items():
        inside = np.asarray([belongs(whole[0][goal]) for goal in goals])
        if not inside.any() or (stratum != "all" and inside.all()):
            continue
        of_system: dict[str, dict[str, Mean]] = {}
        for name, dialogues in zip(systems, whole, strict=True):
            each = [measured(dialogues[goal], rounds, graph, linker) for goal in goals]
            of_system[name] = {
                metric: Mean(
                    np.asarray([row[metric][0] for row in each]) * inside,
                    np.asarray([float(row[metric][1]) for row in each]) * inside,
                )
                for metric in each[0]
                if name in answering or metric not in _ANSWERED
            }
        samples = {name: resampled(measures, draws) for name, measures in of_system.items()}
        for name, measures in of_system.items():
            for metric, mean in measures.items():
                if mean.n and (stratum == "all" or metric in tested):
                    low, high = interval(samples[name][metric]) or (None, None)
                    rows.append(ReportRow(name, corpus, split, stratum, metric, mean.value, low, high, mean.n))
        first, *others = of_system
        for other in others:
            for metric, ours in of_system[first].items():
                theirs = of_system[other].get(metric)
                if theirs is None or not (ours.n and theirs.n) or (stratum != "all" and metric not in tested):
                    continue
                low, high = interval(samples[first][metric] - samples[other][metric]) or (None, None)
                same_units = bool((ours.counts == theirs.counts).all())
                tests = same_units and metric in tested and stratum == "all"
                p = randomisation(ours, theirs, exchanged) if tests else None
                value = ours.value - theirs.value
                differences.append(
                    ReportRow(f"{first} - {other}", corpus, split, stratum, metric, value, low, high, ours.n, p)
                )
    adjusted = iter(holm([row.p for row in differences if row.p is not None]).tolist())
    return rows + [row if row.p is None else dataclasses.replace(row, p_holm=next(adjusted)) for row in differences]
