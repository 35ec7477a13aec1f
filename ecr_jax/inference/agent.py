"""A trained run as a conversation agent: perceive → remember → rank → manage → plan → write → check → choose.

`Agent` is loaded once. `Agent.replies` takes dialogues through these steps, many at once; each adds one part to the
`Exchange` of every dialogue. A reply says the best written candidate that passes the checks, or a plain sentence made
from the plan where none does, and keeps what explains it.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from ecr_jax.config import read_run, registry
from ecr_jax.data.acts import Act
from ecr_jax.data.prepare import link_turn
from ecr_jax.data.schema import MOVIE, Role, Split, Turn
from ecr_jax.emotion.labels import EMOTIONS, select
from ecr_jax.features.batch_spec import Example
from ecr_jax.features.dialogues import Context, Correction, Utterance
from ecr_jax.features.instances import evenly_spaced
from ecr_jax.features.plans import Plan, films_named
from ecr_jax.features.text_states import RecentStates, TextStates
from ecr_jax.features.tokenizer import DialogueTokenizer, with_role
from ecr_jax.features.valence import valence_of
from ecr_jax.files import write_json
from ecr_jax.inference import film_experts
from ecr_jax.inference.candidates import (
    Candidate,
    Checker,
    Draft,
    FluencyBound,
    as_fluent,
    best,
    filled,
    first_sentences,
)
from ecr_jax.inference.experts import Answered, Call, Registry, installed
from ecr_jax.inference.memory import Memory, TurnReading, as_corrected, remember
from ecr_jax.inference.phrases import clean_text
from ecr_jax.inference.plain import plain_addition, plain_reply
from ecr_jax.inference.planning import Decision, chosen_by_acts, decide, possible_sub_tasks
from ecr_jax.inference.relevance import stated_entities
from ecr_jax.inference.remote_manager import RemoteManager
from ecr_jax.inference.responses import RecommendationResponder, response_utterance
from ecr_jax.inference.writing import EmotionalRequest, EmotionalWriter, Fluency, WriteRequest
from ecr_jax.knowledge.attributes import RELATIONS, attribute_values, with_genres
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import EntityLinker, Link
from ecr_jax.knowledge.reviews import Knowledge
from ecr_jax.llm.client import Client
from ecr_jax.manager.categories import categories, category_table
from ecr_jax.manager.eliciting import answer_rates
from ecr_jax.manager.prompts import Instructions
from ecr_jax.manager.schema import Choice, Chosen, Schema, goal
from ecr_jax.models.lm.language_model import Params
from ecr_jax.runs.context import ExperimentContext, open_experiment
from ecr_jax.stages import acts, baselines, conversation, emotion_model, manager, recommender, response, rlpf, valence
from ecr_jax.training.evaluation import Ranker

Dialogues = Sequence[Sequence[Utterance]]
"""Dialogues so far, as `Agent.perceive` returns them."""

_HUMAN_TURNS = 48
"""The fluency bound is one that half of so many human turns meet. One that nearly all of them meet lets broken
sentences of a hardly trained writer through ("What Heat sound good?")."""


_WARM_UP_WORDS = 8
"""Step between the lengths of texts that are encoded to compile the text encoder, below that of its length buckets."""

_RECENT_TURNS = 1024
"""Turns whose text encoder states are kept in memory, about 20 KiB each: a dialogue that goes on is read again."""


class Writes(Protocol):
    """Who writes recommendation responses: the trained `ReplyWriter`, or any other, such as a remote model."""

    def write(self, requests: Sequence[WriteRequest], candidates: int) -> list[list[str]]:
        """Candidates of each response, the most probable one first, with open `<movie>` slots."""
        ...


class Manages(Protocol):
    """Who chooses the sub-tasks of replies: the trained manager of a run, or a remote model."""

    @property
    def schema(self) -> Schema:
        """The sub-tasks."""
        ...

    def choose(self, dialogues: Dialogues, allowed: Sequence[Sequence[str]]) -> list[Chosen]:
        """The choice for each dialogue among the allowed sub-tasks."""
        ...


@dataclass(frozen=True)
class Management:
    """How the sub-task of a reply was decided and carried out.

    Attributes:
      by: who chose: the "manager", or the "acts" that the run learned and the rules.
      possible: the sub-tasks that could be carried out.
      choice: the one that was.
      alternatives: (choice, probability) of the manager's most probable ones.
      event: why the manager's choice was not taken; empty where it was, or there is no manager.
      answered: the expert's outcome; None where no expert was asked.
    """

    by: str
    possible: tuple[str, ...]
    choice: Choice
    alternatives: tuple[tuple[Choice, float], ...] = ()
    event: str = ""
    answered: Answered | None = None

    @property
    def failures(self) -> list[str]:
        """What failed, in words: the manager's choice, then the experts that were asked."""
        failed = () if self.answered is None else self.answered.failed
        return [
            *([f"manager: {self.event}"] if self.event else []),
            *(f"{name}: {outcome.reason}" for name, outcome in failed),
        ]


@dataclass(frozen=True)
class Reply:
    """A reply and what explains it.

    Attributes:
      recommendation: u^r, the part that carries out the plan.
      emotional: u^e, the emotional response about the first recommended film; empty if none is recommended.
      decision: the plan and what belongs to it.
      memory: what the dialogue so far has come to.
      writer: who said u^r: the "model", or "plain" sentences where no candidate passed or none was written.
      management: how its sub-task was decided.
      candidates: of u^r and of u^e, with the reasons for which they were refused.
      emotions: (emotion, probability) of the seeker's last turn.
      entities: linked entity ids of the context, latest last.
      related: (entity id, weight) of the strongest global entities, strongest first.
      facts: the triples and names in the prompt of u^e.
    """

    recommendation: str
    emotional: str
    decision: Decision
    memory: Memory
    writer: str
    management: Management | None = None
    candidates: tuple[Candidate, ...] = ()
    emotions: tuple[tuple[str, float], ...] = ()
    entities: tuple[int, ...] = ()
    related: tuple[tuple[int, float], ...] = ()
    facts: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The whole reply: u^r, then u^e."""
        return f"{self.recommendation} {self.emotional}".strip()

    @property
    def plan(self) -> Plan:
        """What the reply does."""
        return self.decision.plan

    @property
    def items(self) -> tuple[int, ...]:
        """Recommended entity ids, best first."""
        return self.plan.films[len(self.plan.films) - self.plan.recommended :]

    @property
    def ranked(self) -> tuple[tuple[int, float], ...]:
        """(entity id, probability) of the best films that may be recommended, in the order of recommendation."""
        return self.decision.ranked


@dataclass(frozen=True)
class Exchange:
    """A dialogue on its way to a reply. Each step of `Agent.replies` adds the parts that it is named after.

    Attributes:
      context: what is known before the reply.
      arrays: the context as arrays (`ContextFeaturizer.arrays`).
      memory: what it has come to.
      acts: probabilities of the reply's acts.
      probabilities: float32 [I], of each item to be recommended, in the order of the graph's items.
      management: the sub-task, and what an expert found for it.
      decision: the plan.
      recommendation: u^r.
      writer: who said it.
      candidates: of u^r and u^e.
      knowledge: the facts in the prompt of u^e; None if no film is recommended.
      emotional: u^e.
    """

    context: Context
    arrays: Example
    memory: Memory = field(default_factory=Memory)
    acts: Mapping[Act, float] = field(default_factory=dict)
    probabilities: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    management: Management | None = None
    decision: Decision = Decision(Plan(()))
    recommendation: str = ""
    writer: str = ""
    candidates: tuple[Candidate, ...] = ()
    knowledge: Knowledge | None = None
    emotional: str = ""

    @property
    def seed(self) -> int:
        """A number that follows from what was said, for the choice of plain words."""
        return zlib.crc32("\n".join(turn.text for turn in self.context.turns).encode())

    @property
    def said(self) -> frozenset[str]:
        """The recommender's earlier turns."""
        return frozenset(turn.text for turn in self.context.turns if turn.role == Role.RECOMMENDER)

    @property
    def spoken_of(self) -> frozenset[int]:
        """The entities that the seeker named or wishes."""
        named = (e for turn in self.context.turns if turn.role == Role.SEEKER for e in turn.entities)
        return frozenset((*named, *(wish.entity for wish in self.memory.wishes if wish.entity is not None)))


class Agent:
    """A trained run; each model is loaded when it is first needed."""

    def __init__(self, experiment: ExperimentContext, reply_writer: Writes | None = None, client: Client | None = None):
        """Loads nothing yet.

        Args:
          experiment: with the trained stages.
          reply_writer: writes u^r; None for the stage `conversation`.
          client: of a remote model that manages; None for the stage `manager`, where the run has it.
        """
        self.config, self.experiment, self._reply_writer = experiment.config, experiment, reply_writer
        self._client = client

    @classmethod
    def open(cls, run: Path | str, reply_writer: Writes | None = None, client: Client | None = None) -> Agent:
        """Opens a run's folder.

        Args:
          run: the folder.
          reply_writer, client: as of the class.

        Raises:
          ValueError: it is not the folder of a run, or a stage is missing there.
        """
        run = Path(run)
        if not (run / "config.json").is_file():
            raise ValueError(f"{run} is not the folder of a run, such as runs/demo; `ecr train` makes one")
        trained = [stage for stage in registry.stages() if (run / stage.folder / "params.safetensors").is_file()]

        def require(stages: Iterable[registry.StageSpec]) -> None:
            for stage in stages:
                if stage not in trained:
                    raise ValueError(
                        f"{run} has no trained stage {stage.name!r}; run `ecr train {stage.name}` with its config first"
                    )

        require(stage for stage in registry.stages() if not stage.optional)
        config = read_run(run, trained)
        require(registry.required_stages(config))
        return cls(open_experiment(config), reply_writer, client)

    # ------------------------------------------------------------------------------------------------------- models

    def params(self, stage: str) -> Params:
        """The parameters that a stage trained, on the device."""
        return jax.tree.map(jnp.asarray, self.experiment.params(stage))

    def has(self, stage: str) -> bool:
        """Whether the run has a trained stage."""
        return (self.experiment.folder(stage) / "params.safetensors").is_file()

    @cached_property
    def graph(self) -> KnowledgeGraph:
        """What replies know: the corpus's graph and the genres of its film table, with the same entity ids."""
        return with_genres(self.experiment.corpus.graph, self.experiment.corpus.genres)

    @cached_property
    def tokenizer(self) -> DialogueTokenizer:
        """The tokenizer of the recommender's and the conversation's language model."""
        model, _ = self.ranker
        return model.tokenizer

    @cached_property
    def ranker(self) -> tuple[recommender.RecommenderSetup, Ranker]:
        """The recommender, and the function that scores the items with its trained parameters."""
        setup = recommender.build_recommender(self.experiment)
        return setup, recommender.scorer(setup, setup.items).with_params(self.params("recommendation"))

    @cached_property
    def recommendation_responder(self) -> RecommendationResponder:
        """The generator of u^r in place of corpus turns."""
        return conversation.responder(self.experiment)

    @cached_property
    def reply_writer(self) -> Writes:
        """The writer of u^r."""
        return self._reply_writer or conversation.writer(self.experiment)

    @cached_property
    def manager(self) -> Manages | None:
        """Who chooses sub-tasks: a remote model, else the manager of the run, refined if it is; None without one."""
        if self._client is not None:
            schema = manager.schema_of(self.experiment)
            shown = manager.demonstrations(self.experiment, len(schema))
            return RemoteManager(self._client, schema, self.graph, Instructions(True, shown, True))
        if not self.has("manager"):
            return None
        return manager.Chooser(*(rlpf if self.has("rlpf") else manager).trained(self.experiment))

    @cached_property
    def experts(self) -> Registry:
        """The experts of the run, and those of other packages."""
        config, corpus, graph = self.config, self.experiment.corpus, self.graph
        names = categories(graph, config.manager.categories)
        table, weight = category_table(graph, names), config.manager.category_weight
        rankings = [
            film_experts.ranking(
                "ranking:run",
                "recommends a film that fits the whole dialogue: its words, entities and emotions",
                names,
                table,
                weight,
            )
        ]
        for spec in registry.baselines():
            ranker = baselines.dialogue_ranker(self.experiment, spec) if self.has(spec.name) else None
            if ranker is not None:
                rankings.append(
                    film_experts.ranking(f"ranking:{spec.name}", spec.summary, names, table, weight, ranker)
                )
        return Registry(
            [
                *rankings,
                film_experts.details(),
                film_experts.explanation(),
                film_experts.reviewed(corpus.reviews),
                film_experts.elicitation(answer_rates(corpus.split(Split.TRAIN), graph)),
                *installed(),
            ],
            self._similarity,
        )

    def _similarity(self, goal: str, descriptions: Sequence[str]) -> np.ndarray:
        """Cosines of the text encoder's mean states of a goal and of descriptions."""
        states = self.encode([goal, *descriptions])
        rows = np.concatenate([states.mean([text]) for text in (goal, *descriptions)])
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return rows[1:] @ rows[0]

    @cached_property
    def emotional_writer(self) -> EmotionalWriter:
        """The writer of u^e."""
        return response.writer(self.experiment)

    @cached_property
    def checker(self) -> Checker:
        """The checks of what was written."""
        bound = self._fluency_bound
        return Checker(self.graph, self._linker, self.emotion_probabilities, self._fluency, bound)

    @cached_property
    def _fluency(self) -> Fluency:
        return conversation.fluency(self.experiment)

    @property
    def _fluency_bound(self) -> FluencyBound:
        """What human turns of the validation split meet; measured once, and kept with the stage."""
        path = self.experiment.folder("conversation") / "fluency-bound.json"
        if not path.is_file():
            turns = [
                t.text for c in self.experiment.corpus.split(Split.VALID) for t in c.turns if t.role == Role.RECOMMENDER
            ]
            texts = evenly_spaced([text for text in turns if text.split()], _HUMAN_TURNS)
            write_json(path, {**dataclasses.asdict(FluencyBound.of(*self._fluency(texts))), "turns": len(texts)})
        kept = json.loads(path.read_text(encoding="utf-8"))
        return FluencyBound(kept["long"], kept["opening"])

    @cached_property
    def _linker(self) -> EntityLinker:
        return self.experiment.corpus.linker

    @cached_property
    def _classify_emotions(self) -> emotion_model.Labeller:
        return emotion_model.labeller(self.experiment, self.encode)

    @cached_property
    def _label_acts(self) -> acts.ActLabeller:
        return acts.labeller(self.experiment)

    @cached_property
    def _label_valence(self) -> valence.Labeller | None:
        return valence.labeller(self.experiment) if self.has("valence") else None

    def emotion_probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """The probabilities of the nine emotions of each text: float32 [n, 9]."""
        return self._classify_emotions([with_role(Role.SEEKER, text) for text in texts])

    @cached_property
    def encode(self) -> RecentStates:
        """Text encoder states of turns with their role words; those of recent turns are not computed again."""
        return RecentStates(
            lambda texts: self.experiment.encode_turns(texts, label="encode", cached=False), _RECENT_TURNS
        )

    def warm_up(self) -> None:
        """Loads every model and compiles every program of a reply, so that no later one waits for it."""
        limit = self.config.encoder.turn_tokens
        texts = ["a " * words for words in range(1, limit + 1, _WARM_UP_WORDS)]  # of every length bucket
        self.experiment.encode_turns(texts, label="encode", cached=False)
        if self.config.conversation.candidates or self.config.response.candidates:
            self._fluency.warm_up()
        self.replies([self.perceive([Turn(Role.SEEKER, "Hello")])], items=1)

    # ------------------------------------------------------------------------------------------------------ perceive

    def perceive(
        self,
        turns: Sequence[Turn],
        plans: Mapping[int, Plan] | None = None,
        corrections: Mapping[int, Correction] | None = None,
    ) -> list[Utterance]:
        """Links the entities of a dialogue's turns and labels the seeker's turns with emotions.

        Args:
          turns: the dialogue. Control characters of new text are removed, and overlong text is cut.
          plans: index of a turn -> the plan that it carried out, where it is a reply of our own. Such a turn puts its
            films and facts into the dialogue, and nothing else that its words may name.
          corrections: index of a turn of the seeker -> what they changed by hand before it.
        """
        plans, corrections, graph = plans or {}, corrections or {}, self.graph
        turns = [turn if turn.mentions else dataclasses.replace(turn, text=clean_text(turn.text)) for turn in turns]
        felt = iter(self._emotions([turn.text for turn in turns if turn.role == Role.SEEKER]))
        mentioned: list[int] = []
        utterances: list[Utterance] = []
        linked_turns: list[Turn] = []
        for index, turn in enumerate(turns):
            plan = plans.get(index)
            mentions = link_turn(turn, graph, self._linker, mentioned, films_are_targets=False)
            if plan is None:
                entities = tuple(graph.ids[m.entity] for m in mentions if m.entity is not None)
            else:
                mentions = tuple(m for m in mentions if m.entity is not None and graph.ids[m.entity] in plan.films)
                entities = stated_entities(plan, graph)
            linked = Turn(turn.role, turn.text, mentions)
            linked_turns.append(linked)
            mentioned += entities
            emotions = next(felt) if turn.role == Role.SEEKER else ()
            valences = self._valences(linked_turns) if turn.role == Role.SEEKER else ()
            utterances.append(
                Utterance(
                    turn.role,
                    turn.text,
                    linked.masked(),
                    entities,
                    (),
                    emotions,
                    valences,
                    plan,
                    corrections.get(index),
                )
            )
        return utterances

    def _valences(self, turns: Sequence[Turn]) -> tuple[tuple[int, float], ...]:
        """How the last turn feels about each entity it names; nothing where the run has no stage `valence`."""
        if self._label_valence is None:
            return ()
        ids, last, prior = self.experiment.corpus.graph.ids, turns[-1], self.experiment.valence.prior
        labels = self._label_valence(turns, len(turns) - 1)
        return tuple(
            (ids[mention.entity], valence_of((like, dislike, unclear), prior))
            for mention, (like, dislike, unclear) in zip(last.mentions, labels.tolist(), strict=True)
            if mention.entity is not None
        )

    def _emotions(self, texts: Sequence[str]) -> list[tuple[tuple[int, float], ...]]:
        rows = self.emotion_probabilities(texts) if texts else []
        return [tuple(select(row, self.config.emotion.beta)) for row in rows]

    def _links(self, turns: Sequence[Utterance]) -> list[tuple[Link, ...]]:
        """The linked entities of each seeker turn with their places, and nothing of the others."""
        known: list[int] = []
        links = []
        for turn in turns:
            links.append(tuple(self._linker.link(turn.text, known)) if turn.role == Role.SEEKER else ())
            known += turn.entities
        return links

    # --------------------------------------------------------------------------------------------------------- reply

    def begin(self, dialogues: Dialogues, states: TextStates) -> list[Exchange]:
        """An exchange of each dialogue so far, with its context and arrays.

        Args:
          dialogues: the dialogues.
          states: text encoder states of their turns.
        """
        featurizer = self.experiment.featurizer(self.tokenizer, states, evidence=True)
        return [
            Exchange(featurizer.context(turns), featurizer.arrays(featurizer.context(as_corrected(turns, self.graph))))
            for turns in dialogues
        ]

    def replies(
        self, dialogues: Dialogues, items: int = 0, states: TextStates | None = None, top: int = 10
    ) -> list[Reply]:
        """Replies to dialogues in which the seeker spoke last.

        Args:
          dialogues: the perceived dialogues so far.
          items: fewest films that a reply recommends, at most 3; with 0 the plan decides. Films that were named before
            are not recommended.
          states: text encoder states of the turns, if they are known already.
          top: number of items and of global entities that explain a reply.
        """
        states = states or self.encode([turn.text_with_role for turns in dialogues for turn in turns])
        exchanges = self.begin(dialogues, states)
        exchanges = self.remember(exchanges, states)
        exchanges = self.rank(exchanges, states)
        exchanges = self.manage(exchanges, items)
        exchanges = [self.plan(exchange, items, top) for exchange in exchanges]
        exchanges = self.write(exchanges)
        exchanges = [self.add_knowledge(exchange) for exchange in exchanges]
        exchanges = self.write_emotional(exchanges)
        return [reply_of(exchange, top) for exchange in exchanges]

    def remember(self, exchanges: Sequence[Exchange], states: TextStates) -> list[Exchange]:
        """Step: what each seeker turn does, the memory of the dialogues, and which acts the replies may perform."""
        graph, done = self.graph, []
        places = [
            (row, index)
            for row, exchange in enumerate(exchanges)
            for index, turn in enumerate(exchange.context.turns)
            if turn.role == Role.SEEKER
        ]
        heads = [exchanges[row].context.turns[: index + 1] for row, index in places]
        labelled = dict(zip(places, self._label_acts(heads, states), strict=True))
        for row, exchange in enumerate(exchanges):
            turns = exchange.context.turns
            readings = [
                TurnReading(links, labelled[row, index].seeker if (row, index) in labelled else {})
                for index, links in enumerate(self._links(turns))
            ]
            last = labelled.get((row, len(turns) - 1))
            likely = {} if last is None else last.reply
            done.append(dataclasses.replace(exchange, memory=remember(turns, readings, graph), acts=likely))
        return done

    def rank(self, exchanges: Sequence[Exchange], states: TextStates) -> list[Exchange]:
        """Step: the items' probabilities; with `recommendation.use_resp` the recommender also reads a first u^r."""
        arrays = [exchange.arrays for exchange in exchanges]
        if self.config.recommendation.use_resp:
            responses = [response_utterance(text) for text in self.recommendation_responder.generate(arrays)]
            response_states = self.encode([turn.text_with_role for turn in responses])
            featurizer = self.experiment.featurizer(
                self.tokenizer, states.with_fallback(response_states), evidence=True
            )
            arrays = [
                featurizer.arrays(featurizer.context(as_corrected(exchange.context.turns, self.graph), turn))
                for exchange, turn in zip(exchanges, responses, strict=True)
            ]
        rows = self.item_probabilities(arrays)
        return [dataclasses.replace(e, probabilities=row) for e, row in zip(exchanges, rows, strict=True)]

    def item_probabilities(self, contexts: Sequence[Example]) -> np.ndarray:
        """The probability of each item to be recommended in each context: float32 [B, I], rows sum to 1."""
        _, rank = self.ranker
        ((_, scores),) = rank([recommender.context_batch(self.experiment, contexts)])
        return softmax(scores, axis=1)

    def manage(self, exchanges: Sequence[Exchange], at_least: int = 0) -> list[Exchange]:
        """Step: the sub-task of each reply, and what an expert found for it.

        The manager chooses among what is possible. In a run without one, and where it gave no choice that can be
        carried out, the learned acts do; without a manager no expert is asked, and the plan finds its facts itself.

        Args:
          exchanges: with memory, acts and probabilities.
          at_least: fewest films that a reply recommends.
        """
        possible = [possible_sub_tasks(e.memory, e.probabilities, at_least) for e in exchanges]
        by_acts = [Choice(chosen_by_acts(names, e.acts)) for names, e in zip(possible, exchanges, strict=True)]
        if self.manager is None:
            managed = [Management("acts", names, choice) for names, choice in zip(possible, by_acts, strict=True)]
            return [dataclasses.replace(e, management=m) for e, m in zip(exchanges, managed, strict=True)]
        done = []
        chosen = self.manager.choose([e.context.turns for e in exchanges], possible)
        for exchange, names, made, fallback in zip(exchanges, possible, chosen, by_acts, strict=True):
            choice = made.choice or fallback
            call = Call(choice, exchange.memory, exchange.context.turns, self.graph, exchange.probabilities)
            served = self.experts.serves(choice.sub_task)
            answered = self.experts.ask(call, goal(self.manager.schema, choice)) if served else None
            by = "acts" if made.choice is None else "manager"
            management = Management(by, names, choice, made.alternatives, made.event, answered)
            done.append(dataclasses.replace(exchange, management=management))
        return done

    def plan(self, exchange: Exchange, at_least: int = 0, top: int = 10) -> Exchange:
        """Step: the plan that carries out the sub-task, see `planning.decide`."""
        management = exchange.management
        answered = None if management is None else management.answered
        decision = decide(
            exchange.memory,
            self.graph.items,
            exchange.probabilities,
            exchange.acts,
            self.graph,
            at_least=at_least,
            top=top,
            choice=None if management is None else management.choice,
            outcome=None if answered is None else answered.outcome,
        )
        return dataclasses.replace(exchange, decision=decision)

    def write(self, exchanges: Sequence[Exchange]) -> list[Exchange]:
        """Step: u^r, the best candidate, or a plain reply where none passes and none is as fluent as that."""
        graph = self.graph
        requests = [WriteRequest(e.arrays, e.decision.plan, tuple(e.context.turns)) for e in exchanges]
        count, drafts = self.config.conversation.candidates, []
        written = self.reply_writer.write(requests, count) if count else [[] for _ in requests]
        for exchange, texts in zip(exchanges, written, strict=True):
            plan = exchange.decision.plan
            named = (films_named(plan, text.count(MOVIE)) or () for text in texts)
            titled = [filled(text, [graph.title(f) for f in films]) for text, films in zip(texts, named, strict=True)]
            drafts.append(Draft(exchange.decision, titled, exchange.spoken_of))
        done = []
        for exchange, candidates in zip(exchanges, self.checker(drafts), strict=True):
            plain = plain_reply(exchange.decision, graph, exchange.seed, exchange.said)
            chosen = best(candidates, said=exchange.said)
            if chosen is None and any(all(f.kind == "fluency" for f in c.faults) for c in candidates):
                (loss,), _ = self._fluency([plain])
                chosen = as_fluent(candidates, float(loss), said=exchange.said)
            done.append(
                dataclasses.replace(
                    exchange,
                    recommendation=plain if chosen is None else chosen.text,
                    writer="plain" if chosen is None else "model",
                    candidates=tuple(candidates),
                )
            )
        return done

    def add_knowledge(self, exchange: Exchange) -> Exchange:
        """Step: the facts about the first recommended film that u^e may use: what the graph says, the planned first."""
        plan = exchange.decision.plan
        if not plan.recommended:
            return exchange
        graph, settings = self.graph, self.config.response
        film = plan.films[len(plan.films) - plan.recommended]
        known = self.experiment.corpus.reviews.knowledge(graph.uris[film], graph)
        planned = {value for fact in plan.facts if plan.films[fact.film] == film for value in fact.values}
        true = {value for attribute in RELATIONS for value in attribute_values(graph, film, attribute)}
        triples = sorted(known.triples, key=lambda triple: triple[1] not in planned)
        entities = [name for name in known.entities if name in true]
        knowledge = Knowledge(tuple(entities[: settings.entities]), tuple(triples[: settings.triples]))
        return dataclasses.replace(exchange, knowledge=knowledge)

    def write_emotional(self, exchanges: Sequence[Exchange]) -> list[Exchange]:
        """Step: u^e where a film is recommended; where no candidate passes, the planned facts if u^r has none."""
        graph = self.graph
        rows = [row for row, exchange in enumerate(exchanges) if exchange.knowledge is not None]
        if not rows:
            return list(exchanges)
        requests = []
        for exchange in (exchanges[row] for row in rows):
            plan, knowledge = exchange.decision.plan, exchange.knowledge or Knowledge((), ())
            title = graph.title(plan.films[len(plan.films) - plan.recommended])
            requests.append(
                EmotionalRequest(
                    title, knowledge.entities, knowledge.triples, exchange.recommendation, plan.heard, plan.tone
                )
            )
        count = self.config.response.candidates
        written = self.emotional_writer.write(requests, count) if count else [[] for _ in requests]
        drafts = [
            Draft(
                exchanges[row].decision, [first_sentences(t) for t in texts], exchanges[row].spoken_of, emotional=True
            )
            for row, texts in zip(rows, written, strict=True)
        ]
        done = list(exchanges)
        for row, candidates in zip(rows, self.checker(drafts), strict=True):
            exchange = exchanges[row]
            values = [value for fact in exchange.decision.plan.facts for value in fact.values]
            unsaid = [value for value in values if value not in exchange.recommendation]
            chosen = best(candidates, said=exchange.said, values=unsaid)
            stated = len(unsaid) < len(values)
            plain = "" if stated else plain_addition(exchange.decision)
            done[row] = dataclasses.replace(
                exchange,
                emotional=plain if chosen is None else chosen.text,
                candidates=(*exchange.candidates, *candidates),
            )
        return done


def reply_of(exchange: Exchange, top: int) -> Reply:
    """The reply of a finished exchange, with what explains it.

    Args:
      exchange: after all steps.
      top: most global entities to list.
    """
    related: dict[int, float] = {}
    neighbours, weights = exchange.arrays["neighbours"], exchange.arrays["neighbour_weights"]
    for entity, weight in zip(neighbours.ravel().tolist(), weights.ravel().tolist(), strict=True):
        if weight > 0:
            related[entity] = related.get(entity, 0.0) + weight
    last = next((turn for turn in reversed(exchange.context.turns) if turn.role == Role.SEEKER), None)
    knowledge = exchange.knowledge or Knowledge((), ())
    return Reply(
        recommendation=exchange.recommendation,
        emotional=exchange.emotional,
        decision=exchange.decision,
        memory=exchange.memory,
        writer=exchange.writer,
        management=exchange.management,
        candidates=exchange.candidates,
        emotions=() if last is None else tuple((EMOTIONS[label], p) for label, p in last.emotions),
        entities=exchange.context.entities,
        related=tuple(sorted(related.items(), key=lambda pair: (-pair[1], pair[0]))[:top]),
        facts=(*(f"{relation}: {name}" for relation, name in knowledge.triples), *knowledge.entities),
    )
