"""A trained run as the engine of the server: plain values in, replies with what explains them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecr_jax.data.acts import Act, Attribute
from ecr_jax.data.schema import Role, Turn
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.features.dialogues import Correction, Utterance
from ecr_jax.features.plans import Fact, Plan
from ecr_jax.inference.agent import Agent, Exchange, Management, Reply
from ecr_jax.inference.loaded_run import LoadedRun
from ecr_jax.inference.memory import Memory, beliefs
from ecr_jax.inference.plain import predicate, wish_words
from ecr_jax.inference.planning import rank_films
from ecr_jax.inference.relevance import shared_facts
from ecr_jax.inference.wishes import films_that_fit
from ecr_jax.knowledge.attributes import attribute_values
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.llm.client import Client
from ecr_jax.serving.engine import EngineReply, RecommendQuery, ReplyQuery, Said
from ecr_jax.serving.schemas import (
    Belief,
    Emotion,
    Entity,
    Film,
    FilmCard,
    ManagedSubTask,
    ReplyExplanation,
    ScoredFilm,
    Why,
)

_DIRECTORS, _CAST, _GENRES, _OTHERS = 2, 3, 4, 5


class RunEngine:
    """A run that replies. It is called from one thread, as `engine.Engine` says."""

    def __init__(self, agent: Agent, name: str):
        self._agent, self.name = agent, name
        self._rows: tuple[int, ...] = (1,)

    @classmethod
    def open(cls, run: Path, client: Client | None = None) -> RunEngine:
        """Opens a run's folder, by whose name clients call it.

        Args:
          run: the folder.
          client: as of `Agent`.

        Raises:
          ValueError: it is not the folder of a run, or a stage is missing there.
        """
        return cls(Agent.open(run, client=client), Path(run).resolve().name)

    def warm_up(self, batch: int) -> None:
        """Loads the models and compiles the programs for one dialogue, for `batch`, and for a quarter of it, and so on.

        More sizes would waste fewer rows of a batch that is not full, and each takes seconds to compile.
        """
        sizes = {1}
        while batch > 1:
            sizes.add(batch)
            batch //= 4
        self._rows = tuple(sorted(sizes))
        LoadedRun(self._agent).warm_up()
        hello = (Said("seeker", "Hello"),)
        for rows in self._rows:
            self.replies([ReplyQuery(hello, 1)] * rows)
            self.recommend([RecommendQuery(hello, 1)] * rows)

    def replies(self, queries: Sequence[ReplyQuery]) -> list[EngineReply]:
        """See `engine.Engine`."""
        done: dict[int, EngineReply] = {}
        for items in sorted({query.items for query in queries}):
            places = [place for place, query in enumerate(queries) if query.items == items]
            dialogues = [self._perceive(queries[place].turns) for place in places]
            replies = self._agent.replies(self._filled(dialogues), items)[: len(places)]
            done |= {
                place: self._told(dialogue, reply)
                for place, dialogue, reply in zip(places, dialogues, replies, strict=True)
            }
        return [done[place] for place in range(len(queries))]

    def recommend(self, queries: Sequence[RecommendQuery]) -> list[list[Film]]:
        """See `engine.Engine`: in the order in which replies would recommend them."""
        agent, graph = self._agent, self._agent.graph
        dialogues = self._filled([self._perceive(query.turns) for query in queries])
        states = agent.encode([turn.text_with_role for turns in dialogues for turn in turns])
        exchanges = agent.rank(agent.remember(agent.begin(dialogues, states), states), states)
        answers = []
        for query, exchange in zip(queries, exchanges, strict=False):  # the last dialogue fills the batch up
            ranked, _ = rank_films(exchange.memory, graph.items, exchange.probabilities, graph)
            feelings = _feelings(_emotions(exchange))
            answers.append(
                [
                    Film(
                        **_scored(graph, film, probability).model_dump(),
                        why=_why(film, exchange.memory, graph, (), feelings),
                    )
                    for film, probability in ranked[: query.k]
                ]
            )
        return answers

    def _perceive(self, turns: Sequence[Said]) -> list[Utterance]:
        graph = self._agent.graph
        plans = {place: plan_of(turn.plan, graph) for place, turn in enumerate(turns) if turn.plan is not None}
        corrections = {place: _correction(turn, graph) for place, turn in enumerate(turns)}
        return self._agent.perceive(
            [Turn(Role(turn.role), turn.text) for turn in turns],
            {place: plan for place, plan in plans.items() if plan is not None},
            {place: correction for place, correction in corrections.items() if correction != Correction()},
        )

    def _filled(self, dialogues: list[list[Utterance]]) -> list[list[Utterance]]:
        """The dialogues, with the last one again until there are as many as a compiled program takes."""
        rows = next((rows for rows in self._rows if rows >= len(dialogues)), len(dialogues))
        return dialogues + dialogues[-1:] * (rows - len(dialogues))

    def _told(self, dialogue: Sequence[Utterance], reply: Reply) -> EngineReply:
        graph, plan = self._agent.graph, reply.plan
        probabilities = dict(reply.ranked)
        feelings = _feelings(reply.emotions)
        cards = []
        for film in reply.items:
            facts = [fact for fact in plan.facts if plan.films[fact.film] == film and fact.values]
            people = [
                *attribute_values(graph, film, Attribute.DIRECTOR)[:_DIRECTORS],
                *attribute_values(graph, film, Attribute.CAST)[:_CAST],
            ]
            cards.append(
                FilmCard(
                    **_scored(graph, film, probabilities.get(film)).model_dump(),
                    why=_why(film, reply.memory, graph, facts, feelings),
                    people=list(dict.fromkeys(people)),
                    genres=list(attribute_values(graph, film, Attribute.GENRE)[:_GENRES]),
                )
            )
        others = [(film, probability) for film, probability in reply.ranked if film not in reply.items]
        explanation = ReplyExplanation(
            managed=None if reply.management is None else managed_sub_task(reply.management),
            sub_acts=list(map(str, plan.acts)),
            writer=reply.writer,
            films=cards,
            others=[_scored(graph, film, probability) for film, probability in others[:_OTHERS]],
            emotions=[Emotion(name=name, probability=float(p)) for name, p in reply.emotions],
            entities=[Entity(uri=graph.uris[e], name=graph.title(e)) for e in reply.entities],
            beliefs=_beliefs(reply.memory, graph),
        )
        *said, words = self._agent.tokenizer.encode([*(turn.text for turn in dialogue), reply.text])
        return EngineReply(reply.text, explanation, plan_json(plan, graph), sum(map(len, said)), len(words))


def managed_sub_task(management: Management) -> ManagedSubTask:
    """How the sub-task of a reply was decided and carried out, in words. Arguments that were left open are left out."""
    choice, answered = management.choice, management.answered
    return ManagedSubTask(
        sub_task=choice.sub_task,
        arguments={name: value for name, _ in choice.arguments if (value := choice.argument(name)) is not None},
        by=management.by,
        expert=None if answered is None else answered.expert or None,
        outcome="" if answered is None else answered.outcome.text,
        failures=management.failures,
    )


def plan_json(plan: Plan, graph: KnowledgeGraph) -> dict[str, Any]:
    """A plan as JSON, its films by URI, so that it means the same to a run with another graph."""
    return {
        "acts": list(map(str, plan.acts)),
        "films": [graph.uris[film] for film in plan.films],
        "recommended": plan.recommended,
        "facts": [{"film": f.film, "attribute": f.attribute.value, "values": list(f.values)} for f in plan.facts],
        "heard": plan.heard,
        "tone": plan.tone,
    }


def plan_of(content: Mapping[str, Any], graph: KnowledgeGraph) -> Plan | None:
    """The plan that `plan_json` wrote; None where the graph does not know one of its films."""
    if not all(uri in graph.ids for uri in content["films"]):
        return None
    return Plan(
        acts=tuple(map(Act.parse, content["acts"])),
        films=tuple(graph.ids[uri] for uri in content["films"]),
        recommended=content["recommended"],
        facts=tuple(Fact(f["film"], Attribute(f["attribute"]), tuple(f["values"])) for f in content["facts"]),
        heard=content["heard"],
        tone=content["tone"],
    )


def _correction(turn: Said, graph: KnowledgeGraph) -> Correction:
    def films(uris: Iterable[str]) -> tuple[int, ...]:
        return tuple(graph.ids[uri] for uri in uris if uri in graph.ids)

    marks = {mark: films(uri for uri, given in turn.marks if given == mark) for mark in ("like", "dislike", "seen")}
    return Correction(frozenset(turn.forgotten), marks["like"], marks["dislike"], marks["seen"], films(turn.passed))


def _scored(graph: KnowledgeGraph, film: int, probability: float | None) -> ScoredFilm:
    return ScoredFilm(
        uri=graph.uris[film],
        title=graph.title(film),
        year=int(graph.years[film]) or None,
        probability=None if probability is None else float(probability),
    )


def _why(film: int, memory: Memory, graph: KnowledgeGraph, stated: Sequence[Fact], feelings: list[str]) -> Why:
    """Why a film: what the reply states or the film shares with a liked one, what was asked for, what was felt."""
    (_, *others), shared = shared_facts(film, memory, graph)
    facts = [predicate(fact) for fact in (*stated, *(fact for fact in shared if fact.film == 0)) if fact.values]
    mentions = [f"you liked {graph.title(other)}" for other in others]
    for wish in memory.wishes:
        if wish.wanted and films_that_fit(graph, wish, np.asarray([film]))[0]:
            mentions.append(f"you wished for {wish_words(wish, graph)}")
    return Why(facts=list(dict.fromkeys(facts)), mentions=mentions, feelings=feelings)


def _emotions(exchange: Exchange) -> list[tuple[str, float]]:
    return [(EMOTIONS[label], probability) for label, probability in exchange.context.turns[-1].emotions]


def _feelings(emotions: Iterable[tuple[str, float]]) -> list[str]:
    return [f"{name} ({probability:.0%})" for name, probability in emotions]


def _beliefs(memory: Memory, graph: KnowledgeGraph) -> list[Belief]:
    told = []
    for belief in beliefs(memory, graph):
        text = wish_words(belief.wish, graph) if belief.wish is not None else graph.title(belief.entity or 0)
        told.append(Belief(id=belief.id, kind=belief.kind, text=text))
    return told
