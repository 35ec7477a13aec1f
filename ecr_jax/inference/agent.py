"""A trained run as a conversation agent: link, feel, recommend, reply with u^r and u^e.

`Agent` is loaded once; `reply` maps a dialogue so far to a `Reply`, which holds everything that explains it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from ecr_jax.config import read_recorded
from ecr_jax.data.prepare import link_turn
from ecr_jax.data.schema import MOVIE, Role, Turn
from ecr_jax.emotion.labels import EMOTIONS, select
from ecr_jax.features.examples import Context, Utterance
from ecr_jax.features.text_states import States
from ecr_jax.inference.decoding import generate, pad_left
from ecr_jax.knowledge.linking import EntityLinker
from ecr_jax.knowledge.reviews import prompt
from ecr_jax.models.lm import lora
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import STAGES, conversation, emotion, recommender, response
from ecr_jax.training.checkpoint import read_params

_BEST = 10


@dataclass(frozen=True)
class Reply:
    """An answer and what it rests on.

    Attributes:
      recommendation: u^r, the recommendation response with titles filled in.
      emotional: u^e, the emotional response; empty where no film is recommended.
      items: recommended entity ids, best first.
      ranked: (entity id, probability) of the best items not heard of before, the recommended first.
      emotions: (emotion, probability) of the seeker's last turn.
      entities: linked entity ids of the context, latest last.
      related: (entity id, weight) of the global entities, strongest first.
      facts: the triples and names that u^e was given.
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
        """What is said: u^r, then u^e."""
        return f"{self.recommendation} {self.emotional}".strip()


class Agent:
    """A trained run, its parts loaded when first needed."""

    def __init__(self, experiment: ExperimentContext):
        self.config, self.experiment = experiment.config, experiment

    @classmethod
    def open(cls, run: Path) -> Agent:
        """Opens a run's folder.

        Raises:
          ValueError: a stage is missing there.
        """
        for stage in STAGES:
            if not (run / stage / "params.safetensors").is_file():
                raise ValueError(f"{run} has no trained stage {stage!r}; run `ecr train {stage}` with its config first")
        return cls(ExperimentContext(read_recorded(run, STAGES)))

    def params(self, stage: str) -> dict:
        """What a stage learned."""
        return jax.tree.map(jnp.asarray, read_params(self.config.stage_folder(stage) / "params.safetensors"))

    @cached_property
    def _linker(self) -> EntityLinker:
        return EntityLinker(self.experiment.prepared.graph)

    @cached_property
    def _classifier(self):
        model, params = emotion.classifier(self.experiment), self.params("emotion")
        return jax.jit(lambda state: jax.nn.softmax(model.apply({"params": params}, state)))

    @cached_property
    def ranker(self) -> tuple[recommender.Parts, recommender.Rank]:
        """The recommender, and what scores the items with its trained parameters."""
        made = recommender.parts(self.experiment)
        return made, recommender.Scorer(made, made.items, "recommendation").of(self.params("recommendation"))

    @cached_property
    def _responder(self) -> conversation.Responder:
        return conversation.Responder(self.experiment)

    @cached_property
    def _response(self):
        settings = self.config.response
        model, words = self.experiment.language_model(
            settings.language_model, None, dtype=settings.dtype, quantize=settings.quantize
        )
        variables = lora.for_inference(model.params, self.params("response")["adapter"], settings.adapter)
        return model.module, words, variables

    def hear(self, turns: Sequence[Turn]) -> list[Utterance]:
        """Links new turns and feels the seeker's."""
        graph = self.experiment.prepared.graph
        known: list[int] = []
        said = []
        for turn in turns:
            linked = link_turn(turn, graph, self._linker, known, targets=False)
            turn = Turn(turn.role, turn.text, linked)
            entities = tuple(graph.ids[m.entity] for m in linked if m.entity is not None)
            known += entities
            felt = ()
            if turn.role == Role.SEEKER:
                text = emotion.unit(turn.text)
                pooled = self._encode([text]).mean([text])
                felt = tuple(select(np.asarray(self._classifier(pooled))[0], self.config.emotion.beta))
            said.append(Utterance(turn.role, turn.text, turn.masked(), entities, (), felt))
        return said

    def _encode(self, units: list[str]):
        return self.experiment.encode(units, self.config.encoder.turn_tokens, "encode", keep=False)

    def contexts(
        self, said: Sequence[Sequence[Utterance]], states: States | None = None, replies: Sequence[str] | None = None
    ) -> list[tuple[Context, dict]]:
        """The context of each dialogue so far, and its arrays.

        Args:
          said: the dialogues.
          states: of their turns where they are known already.
          replies: what is read after each.
        """
        words, answers = self._responder.words, [conversation.spoken_reply(reply) for reply in replies or ()]
        states = states or self._encode([turn.unit for turns in said for turn in turns])
        if answers:
            states = dataclasses.replace(states, more=self._encode([turn.unit for turn in answers]))
        featurizer = self.experiment.featurizer(words, states)
        made = []
        for number, turns in enumerate(said):
            context = Context.of(turns, self.config.recommender.max_entities)
            context = context.followed_by(answers[number]) if answers else context
            tokens = words.turns([(turn.role, turn.text) for turn in context.turns])
            made.append((context, featurizer.context(context, tokens)))
        return made

    def rank(self, arrays: list[dict]) -> np.ndarray:
        """How the items share what speaks for them in each context: float32 [B, I], rows sum to 1."""
        _, rank = self.ranker
        ((_, scores),) = rank([recommender.context_batch(self.experiment, arrays)])
        return softmax(scores, axis=1)

    def recommendation_responses(self, arrays: list[dict]) -> list[str]:
        """u^r of each context, `<movie>` slots open."""
        return self._responder(arrays)

    def emotional_responses(self, prompts: list[str]) -> list[str]:
        """u^e of each generator prompt."""
        module, words, variables = self._response
        settings = self.config.response
        rows = [response.prompt_ids(words, text, settings.max_prompt) for text in prompts]
        tokens, mask = pad_left(rows, settings.max_prompt)
        decoding = conversation.decoding(settings.max_review)
        out = generate(module, variables, tokens, mask, decoding=decoding, end=words.end)
        return [whole_sentences(words.decode(row)) for row in out.tokens]

    def replies(self, said: Sequence[Sequence[Utterance]], items: int = 0, states: States | None = None) -> list[Reply]:
        """Answers dialogues that the seeker spoke last in.

        Args:
          said: the dialogues so far, heard.
          items: least films a reply recommends; with 0 it recommends what its words have slots for. A film the seeker
            has already heard of in the dialogue is passed over.
          states: of their turns, where they are known already.
        """
        graph, store = self.experiment.prepared.graph, self.experiment.prepared.reviews
        made, _ = self.ranker
        states = states or self._encode([turn.unit for turns in said for turn in turns])
        contexts = self.contexts(said, states)
        templates = self.recommendation_responses([array for _, array in contexts])
        answered = self.contexts(said, states, templates) if self.config.recommendation.use_resp else contexts
        shares = self.rank([array for _, array in answered])
        firsts, prompts, chosen = [], [], []
        for (context, _), share, template in zip(contexts, shares, templates, strict=True):
            heard = [entity for turn in context.turns for entity in turn.entities]
            new = np.flatnonzero(~np.isin(made.items, heard))
            wanted = max(_BEST, items, template.count(MOVIE))
            best = made.items[new[np.argsort(-share[new], kind="stable")[:wanted]]].tolist()
            picked = best[: max(template.count(MOVIE), items)]
            template = MOVIE.join(template.split(MOVIE)[: len(picked) + 1])  # cut where the films run out
            firsts.append(fill(template, [graph.title(item) for item in picked]))
            chosen.append((picked, best))
            if picked:
                known = store.knowledge(graph.uris[picked[0]], graph)
                settings = self.config.response
                told = (known.entities[: settings.entities], known.triples[: settings.triples])
                prompts.append((prompt(graph.title(picked[0]), *told, firsts[-1]), told))
            else:
                prompts.append(None)
        texts = iter(self.emotional_responses([p[0] for p in prompts if p is not None]) if any(prompts) else ())
        replies = []
        for (context, array), share, first, (picked, best), asked in zip(
            contexts, shares, firsts, chosen, prompts, strict=True
        ):
            column = {int(item): i for i, item in enumerate(made.items)}
            related: dict[int, float] = {}
            for row, weights in zip(array["neighbours"], array["neighbour_weights"], strict=True):
                for entity, weight in zip(row.tolist(), weights.tolist(), strict=True):
                    if weight > 0:
                        related[entity] = related.get(entity, 0.0) + weight
            last = next((turn for turn in reversed(context.turns) if turn.role == Role.SEEKER), None)
            facts = () if asked is None else (*(f"{r}: {n}" for r, n in asked[1][1]), *asked[1][0])
            replies.append(
                Reply(
                    first,
                    "" if asked is None else next(texts),
                    tuple(picked),
                    tuple((item, float(share[column[item]])) for item in best),
                    () if last is None else tuple((EMOTIONS[label], p) for label, p in last.emotions),
                    context.entities,
                    tuple(sorted(related.items(), key=lambda pair: (-pair[1], pair[0]))[:10]),
                    facts,
                )
            )
        return replies


def fill(template: str, titles: Sequence[str]) -> str:
    """Puts titles into `<movie>` slots in order.

    Titles that are left over are named in a sentence of their own.

    Raises:
      ValueError: fewer titles than slots.
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


def whole_sentences(text: str) -> str:
    """The text up to its last full sentence; all of it where it has none."""
    text = " ".join(text.split())
    end = max(text.rfind(mark) for mark in ".!?")
    return text[: end + 1] if end > 0 else text
