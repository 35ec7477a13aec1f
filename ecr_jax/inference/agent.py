"""A trained run as a conversation agent: it perceives a dialogue, recommends, and replies with u^r and u^e.

`Agent` is loaded once. `Agent.replies` takes dialogues through a few steps, each of which adds one part to the
`Exchange` of every dialogue: context, recommendation response, ranking, items, titles, knowledge, emotional response.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from ecr_jax.config import read_run, registry
from ecr_jax.data.prepare import link_turn
from ecr_jax.data.schema import MOVIE, Role, Turn
from ecr_jax.emotion.labels import EMOTIONS, select
from ecr_jax.features.batch_spec import Example
from ecr_jax.features.dialogues import Context, Utterance
from ecr_jax.features.text_states import TextStates
from ecr_jax.features.tokenizer import DialogueTokenizer, with_role
from ecr_jax.features.valence import valence_of
from ecr_jax.inference.responses import EmotionalResponder, RecommendationResponder, response_utterance
from ecr_jax.inference.writing import EmotionalRequest
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.knowledge.reviews import Knowledge
from ecr_jax.models.lm.language_model import Params
from ecr_jax.runs.context import ExperimentContext, open_experiment
from ecr_jax.stages import conversation, emotion, recommender, response, valence
from ecr_jax.training.evaluation import Ranker

Dialogues = Sequence[Sequence[Utterance]]
"""Dialogues so far, as `Agent.perceive` returns them."""


@dataclass(frozen=True)
class Reply:
    """A reply and what explains it.

    Attributes:
      recommendation: u^r, the recommendation response with titles filled in.
      emotional: u^e, the emotional response; empty if no film is recommended.
      items: recommended entity ids, best first.
      ranked: (entity id, probability) of the best items that were not mentioned before, the recommended ones first.
      emotions: (emotion, probability) of the seeker's last turn.
      entities: linked entity ids of the context, latest last.
      related: (entity id, weight) of the strongest global entities, strongest first.
      facts: the triples and names in the prompt of u^e.
    """

    recommendation: str
    emotional: str
    items: tuple[int, ...]
    ranked: tuple[tuple[int, float], ...]
    emotions: tuple[tuple[str, float], ...]
    entities: tuple[int, ...]
    related: tuple[tuple[int, float], ...]
    facts: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole reply: u^r, then u^e."""
        return f"{self.recommendation} {self.emotional}".strip()


@dataclass(frozen=True)
class Exchange:
    """A dialogue on its way to a reply. Each step of `Agent.replies` adds the part that it is named after.

    Attributes:
      context: what is known before the reply.
      arrays: the context as arrays (`ContextFeaturizer.arrays`).
      response: u^r with open `<movie>` slots.
      probabilities: float32 [I], of each item to be recommended, in the order of the graph's items.
      ranked: the best items that were not mentioned before, best first.
      items: those of them that the reply recommends.
      recommendation: u^r with titles filled in.
      knowledge: the facts in the prompt of u^e; None if no film is recommended.
      emotional: u^e.
    """

    context: Context
    arrays: Example
    response: str = ""
    probabilities: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    ranked: tuple[int, ...] = ()
    items: tuple[int, ...] = ()
    recommendation: str = ""
    knowledge: Knowledge | None = None
    emotional: str = ""


class Agent:
    """A trained run; each model is loaded when it is first needed."""

    def __init__(self, experiment: ExperimentContext):
        self.config, self.experiment = experiment.config, experiment

    @classmethod
    def open(cls, run: Path | str) -> Agent:
        """Opens a run's folder.

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
        return cls(open_experiment(config))

    def params(self, stage: str) -> Params:
        """The parameters that a stage trained, on the device."""
        return jax.tree.map(jnp.asarray, self.experiment.params(stage))

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
        """The generator of u^r."""
        return conversation.responder(self.experiment)

    @cached_property
    def emotional_responder(self) -> EmotionalResponder:
        """The generator of u^e."""
        return response.responder(self.experiment)

    @cached_property
    def _linker(self) -> EntityLinker:
        return self.experiment.corpus.linker

    @cached_property
    def _emotion_probabilities(self) -> Callable[[np.ndarray], jax.Array]:
        model, params = emotion.classifier(self.experiment), self.params("emotion")
        return jax.jit(lambda state: jax.nn.softmax(model.apply({"params": params}, state)))

    @cached_property
    def _label_valence(self) -> valence.Labeller | None:
        return valence.labeller(self.experiment) if self.config.recommender.valence else None

    def perceive(self, turns: Sequence[Turn]) -> list[Utterance]:
        """Links the entities of a dialogue's turns and labels the seeker's turns with emotions and valences."""
        graph = self.experiment.corpus.graph
        mentioned: list[int] = []
        utterances, linked_turns = [], []
        for turn in turns:
            mentions = link_turn(turn, graph, self._linker, mentioned, films_are_targets=False)
            linked = Turn(turn.role, turn.text, mentions)
            linked_turns.append(linked)
            entities = tuple(graph.ids[m.entity] for m in mentions if m.entity is not None)
            mentioned += entities
            emotions = self._emotions(turn.text) if turn.role == Role.SEEKER else ()
            valences = self._valences(linked_turns) if turn.role == Role.SEEKER else ()
            utterances.append(Utterance(turn.role, turn.text, linked.masked(), entities, (), emotions, valences))
        return utterances

    def _valences(self, turns: Sequence[Turn]) -> tuple[tuple[int, float], ...]:
        """How the last turn feels about each entity it names; nothing where the recommender does not read it."""
        if self._label_valence is None:
            return ()
        ids, last, prior = self.experiment.corpus.graph.ids, turns[-1], self.experiment.valence.prior
        labels = self._label_valence(turns, len(turns) - 1)
        return tuple(
            (ids[mention.entity], valence_of((like, dislike, unclear), prior))
            for mention, (like, dislike, unclear) in zip(last.mentions, labels.tolist(), strict=True)
            if mention.entity is not None
        )

    def _emotions(self, text: str) -> tuple[tuple[int, float], ...]:
        text = with_role(Role.SEEKER, text)
        probabilities = self._emotion_probabilities(self._encode([text]).mean([text]))
        return tuple(select(np.asarray(probabilities)[0], self.config.emotion.beta))

    def _encode(self, texts: list[str]) -> TextStates:
        return self.experiment.encode_turns(texts, label="encode", cached=False)

    def begin(self, dialogues: Dialogues, states: TextStates) -> list[Exchange]:
        """An exchange of each dialogue so far, with its context and arrays.

        Args:
          dialogues: the dialogues.
          states: text encoder states of their turns.
        """
        featurizer = self.experiment.featurizer(self.tokenizer, states, evidence=True)
        contexts = [featurizer.context(turns) for turns in dialogues]
        return [Exchange(context, featurizer.arrays(context)) for context in contexts]

    def replies(
        self, dialogues: Dialogues, items: int = 0, states: TextStates | None = None, top: int = 10
    ) -> list[Reply]:
        """Replies to dialogues in which the seeker spoke last.

        Args:
          dialogues: the perceived dialogues so far.
          items: fewest films that a reply recommends; with 0 it recommends as many as its text has slots for. Films
            that were mentioned before are not recommended.
          states: text encoder states of the turns, if they are known already.
          top: number of items and of global entities that explain a reply.
        """
        graph = self.experiment.corpus.graph
        states = states or self._encode([turn.text_with_role for turns in dialogues for turn in turns])
        exchanges = self.begin(dialogues, states)
        exchanges = self.write_recommendation_responses(exchanges)
        exchanges = self.rank(exchanges, states)
        exchanges = [choose_items(exchange, graph.items, items, top) for exchange in exchanges]
        exchanges = [fill_titles(exchange, graph) for exchange in exchanges]
        exchanges = [self.add_knowledge(exchange) for exchange in exchanges]
        exchanges = self.write_emotional_responses(exchanges)
        return [reply_of(exchange, graph.items, top) for exchange in exchanges]

    def write_recommendation_responses(self, exchanges: Sequence[Exchange]) -> list[Exchange]:
        """Step: u^r with open `<movie>` slots."""
        responses = self.recommendation_responder.generate([exchange.arrays for exchange in exchanges])
        return [dataclasses.replace(e, response=text) for e, text in zip(exchanges, responses, strict=True)]

    def rank(self, exchanges: Sequence[Exchange], states: TextStates) -> list[Exchange]:
        """Step: the items' probabilities; with `recommendation.use_resp` the recommender also reads u^r."""
        arrays = [exchange.arrays for exchange in exchanges]
        if self.config.recommendation.use_resp:
            responses = [response_utterance(exchange.response) for exchange in exchanges]
            response_states = self._encode([turn.text_with_role for turn in responses])
            states = states.with_fallback(response_states)
            featurizer = self.experiment.featurizer(self.tokenizer, states, evidence=True)
            arrays = [
                featurizer.arrays(dataclasses.replace(exchange.context, reply=turn))
                for exchange, turn in zip(exchanges, responses, strict=True)
            ]
        rows = self.item_probabilities(arrays)
        return [dataclasses.replace(e, probabilities=row) for e, row in zip(exchanges, rows, strict=True)]

    def item_probabilities(self, contexts: Sequence[Example]) -> np.ndarray:
        """The probability of each item to be recommended in each context: float32 [B, I], rows sum to 1."""
        _, rank = self.ranker
        ((_, scores),) = rank([recommender.context_batch(self.experiment, contexts)])
        return softmax(scores, axis=1)

    def add_knowledge(self, exchange: Exchange) -> Exchange:
        """Step: the facts about the first recommended film that u^e may use."""
        if not exchange.items:
            return exchange
        graph, settings = self.experiment.corpus.graph, self.config.response
        known = self.experiment.corpus.reviews.knowledge(graph.uris[exchange.items[0]], graph)
        knowledge = Knowledge(known.entities[: settings.entities], known.triples[: settings.triples])
        return dataclasses.replace(exchange, knowledge=knowledge)

    def write_emotional_responses(self, exchanges: Sequence[Exchange]) -> list[Exchange]:
        """Step: u^e where a film is recommended."""
        graph = self.experiment.corpus.graph
        requests = [
            EmotionalRequest(
                graph.title(exchange.items[0]),
                exchange.knowledge.entities,
                exchange.knowledge.triples,
                exchange.recommendation,
            )
            for exchange in exchanges
            if exchange.knowledge is not None
        ]
        responses = iter(self.emotional_responder(requests) if requests else ())
        return [
            exchange if exchange.knowledge is None else dataclasses.replace(exchange, emotional=next(responses))
            for exchange in exchanges
        ]


def choose_items(exchange: Exchange, candidates: np.ndarray, least: int, top: int) -> Exchange:
    """Step: the best items that were not mentioned before, and those of them that the reply recommends.

    Args:
      exchange: with `response` and `probabilities`.
      candidates: int [I], the item of each probability.
      least: fewest items to recommend; more if the response has more slots.
      top: fewest items to rank.
    """
    wanted = max(least, exchange.response.count(MOVIE))
    mentioned = [entity for turn in exchange.context.turns for entity in turn.entities]
    new = np.flatnonzero(~np.isin(candidates, mentioned))
    order = new[np.argsort(-exchange.probabilities[new], kind="stable")]
    ranked = tuple(candidates[order[: max(top, wanted)]].tolist())
    return dataclasses.replace(exchange, ranked=ranked, items=ranked[:wanted])


def fill_titles(exchange: Exchange, graph: KnowledgeGraph) -> Exchange:
    """Step: titles in the slots of the response, which is cut off at the first slot that has no item."""
    pieces = exchange.response.split(MOVIE)[: len(exchange.items) + 1]
    recommendation = fill(MOVIE.join(pieces), [graph.title(item) for item in exchange.items])
    return dataclasses.replace(exchange, recommendation=recommendation)


def reply_of(exchange: Exchange, candidates: np.ndarray, top: int) -> Reply:
    """The reply of a finished exchange, with what explains it.

    Args:
      exchange: after all steps.
      candidates: int [I], the item of each probability.
      top: most global entities to list.
    """
    probabilities = dict(zip(candidates.tolist(), exchange.probabilities.tolist(), strict=True))
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
        items=exchange.items,
        ranked=tuple((item, probabilities[item]) for item in exchange.ranked),
        emotions=() if last is None else tuple((EMOTIONS[label], p) for label, p in last.emotions),
        entities=exchange.context.entities,
        related=tuple(sorted(related.items(), key=lambda pair: (-pair[1], pair[0]))[:top]),
        facts=(*(f"{relation}: {name}" for relation, name in knowledge.triples), *knowledge.entities),
    )


def fill(template: str, titles: Sequence[str]) -> str:
    """Puts titles into the `<movie>` slots of a text, in order; titles without a slot get a sentence of their own.

    Raises:
      ValueError: there are fewer titles than slots.
    """
    if template.count(MOVIE) > len(titles):
        raise ValueError(f"{template.count(MOVIE)} slots in {template!r}, but {len(titles)} titles")
    pieces = template.split(MOVIE)
    text = pieces[0]
    for title, piece in zip(titles, pieces[1:], strict=False):
        text = f"{text.rstrip()} {title}{piece}"
    more = titles[len(pieces) - 1 :]
    if more:
        text = f"{text} You could also watch {', '.join(more[:-1])}{' or ' if more[1:] else ''}{more[-1]}."
    return re.sub(r" ([.,!?])", r"\1", " ".join(text.split()))
