"""Writers of the two parts of a reply: the recommendation response u^r and the emotional response u^e.

u^r is written after the dialogue and the plan of the reply, behind the conversation prefix, with `<movie>` slots for
titles (ECR Eq. 1). u^e is written after a prompt that names the first film and facts about it (Eqs. 8-9). Both write
several candidates of a text in one batch: the most probable one and samples. The stages `conversation` and `response`
build these objects from what they trained.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ecr_jax.features.batch_spec import Example
from ecr_jax.features.dialogues import Utterance
from ecr_jax.features.plans import Plan, reply_prompt
from ecr_jax.features.tokenizer import DialogueTokenizer, pad
from ecr_jax.inference.chat_template import chat_ids
from ecr_jax.inference.decoding import Decoding, Slots, generate, pad_left
from ecr_jax.knowledge.reviews import Triple, response_prompt
from ecr_jax.models.lm.language_model import Params, logits
from ecr_jax.models.prompt import Prefix

INSTRUCTION = (
    "You recommend films. Go on after the first sentence with feeling, in one or two sentences, and state no facts "
    "about the film but those given."
)
"""What a chat model is told before the prompt of an emotional response."""

_ROWS = 8
"""Texts of a batch where there are several: programs are compiled for one text and for so many."""

_FLUENCY_ROWS = (1, 2, 4)
"""Texts of a batch whose fluency is measured. It costs as much as a token of a batch, padding included."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class WriteRequest:
    """A recommendation response to be written.

    Attributes:
      arrays: the context's arrays (`ContextFeaturizer.arrays`).
      plan: what the reply is to do.
      turns: the dialogue, for writers that read it as text.
    """

    arrays: Example
    plan: Plan
    turns: tuple[Utterance, ...] = ()


@dataclass(frozen=True)
class EmotionalRequest:
    """An emotional response to be written.

    Attributes:
      title: the film's title with year.
      entities: names that belong to the film.
      triples: facts about it.
      first_sentence: the recommendation response, titles filled in.
      heard: the emotion of the seeker's last turn, or "" where it is not known.
      tone: the emotion that the response shows, or "" where it is not planned.
    """

    title: str
    entities: tuple[str, ...]
    triples: tuple[Triple, ...]
    first_sentence: str
    heard: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Generator:
    """A trained language model with the settings that it decodes with.

    Attributes:
      module: the language model.
      variables: {"params": ...} and, if an adapter is not merged, "lora".
      tokenizer: its tokenizer.
      decoding: how candidates are drawn.
      max_prompt: number of columns that prompts are padded to.
      seed: of the draws.
    """

    module: nn.Module
    variables: Params
    tokenizer: DialogueTokenizer
    decoding: Decoding
    max_prompt: int
    seed: int = 0

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        candidates: int,
        prefix: Prefix | None = None,
        slots: Sequence[tuple[int, int]] | None = None,
    ) -> list[list[str]]:
        """Continuations of each prompt, up to its end token: the most probable one first, then samples.

        The last to end among several is cut where the others have ended, so that one that rambles costs no time. Texts
        depend on their own prompt alone. The program is compiled for each number of prompts and of candidates.

        Args:
          prompts: token ids, at most `max_prompt` each.
          candidates: continuations of each prompt, at least 1.
          prefix: keys and values that every layer puts before the prompts, or None.
          slots: fewest and most `<movie>` slots of the continuations of each prompt; None: any number.
        """
        tokens, mask = pad_left(prompts, self.max_prompt)
        keys = jax.random.split(jax.random.key(self.seed), candidates)
        numbers = np.tile(np.arange(candidates), len(prompts))
        limits = None if slots is None else np.repeat(np.asarray(slots).reshape(-1, 2), candidates, axis=0)
        generated = generate(
            self.module,
            self.variables,
            tokens,
            mask,
            decoding=self.decoding,
            end=self.tokenizer.end,
            keys=keys[numbers],
            prefix=None if prefix is None else (prefix.keys, prefix.values),
            prefix_mask=None if prefix is None else prefix.mask,
            copies=candidates,
            enough=max(1, candidates - 1),
            greedy=numbers == 0,
            slots=None if limits is None else Slots(self.tokenizer.movie, limits[:, 0], limits[:, 1]),
        )
        texts = [self.tokenizer.decode(row) for row in generated.tokens]
        return [texts[start : start + candidates] for start in range(0, len(texts), candidates)]


def batches(items: Sequence[_T], sizes: Sequence[int] = (1, _ROWS)) -> Iterator[tuple[list[_T], int]]:
    """The items in batches of a few sizes: the largest, and for the rest the smallest that it fits into.

    Args:
      items: in order.
      sizes: increasing; a program is compiled for each.

    Yields:
      The batch, filled up with its last item, and how many of it are no repetition.
    """
    for start in range(0, len(items), sizes[-1]):
        batch = list(items[start : start + sizes[-1]])
        size = next(size for size in sizes if size >= len(batch))
        yield batch + batch[-1:] * (size - len(batch)), len(batch)


@dataclass(frozen=True)
class ReplyWriter:
    """Writes recommendation responses u^r.

    Attributes:
      generator: the language model; it has room for the context, the plan and the opening of the reply.
      prefix: the conversation prefix of a batch of contexts; None without one.
      max_plan: most tokens of a plan.
    """

    generator: Generator
    prefix: Callable[[Sequence[Example]], Prefix] | None
    max_plan: int

    def write(self, requests: Sequence[WriteRequest], candidates: int) -> list[list[str]]:
        """Candidates of each response, the most probable one first, with open `<movie>` slots.

        They have at least as many slots as the plan recommends films, unless they end at the longest length, and at
        most as many as it has films. Where a plan does not fit into the prompt there are none.

        Args:
          requests: contexts and plans.
          candidates: of each response.
        """
        tokenizer = self.generator.tokenizer
        prompts = [reply_prompt(tokenizer, r.arrays["tokens"].tolist(), r.plan, self.max_plan) for r in requests]
        fitting = [(request, prompt) for request, prompt in zip(requests, prompts, strict=True) if prompt is not None]
        written: list[list[str]] = []
        for batch, count in batches(fitting):
            prefix = None if self.prefix is None else self.prefix([request.arrays for request, _ in batch])
            slots = [(request.plan.recommended, len(request.plan.films)) for request, _ in batch]
            written += self.generator([prompt for _, prompt in batch], candidates, prefix, slots)[:count]
        texts = iter(written)
        return [[] if prompt is None else next(texts) for prompt in prompts]


@dataclass(frozen=True)
class EmotionalWriter:
    """Writes emotional responses u^e.

    Attributes:
      generator: the language model.
      chat: whether prompts are put into its chat template.
    """

    generator: Generator
    chat: bool

    def write(self, requests: Sequence[EmotionalRequest], candidates: int) -> list[list[str]]:
        """Candidates of each response in whole sentences, the most probable one first.

        Args:
          requests: films, facts, the sentence before and the feeling.
          candidates: of each response.
        """
        generator, written = self.generator, []
        for batch, count in batches(requests):
            prompts = [emotional_prompt(generator.tokenizer, r, generator.max_prompt, self.chat) for r in batch]
            written += generator(prompts, candidates)[:count]
        return [[whole_sentences(text) for text in texts] for texts in written]


@dataclass(frozen=True)
class ChatWriter:
    """Writes a language model's turns of chats through its template; called as `llm.writer.RemoteWriter` is.

    Attributes:
      generator: the language model.
    """

    generator: Generator

    def write(self, prompts: Sequence[Sequence[Mapping[str, str]]], candidates: int) -> list[list[str]]:
        """Candidates of each chat's next turn, the most probable one first.

        Args:
          prompts: chats, the instruction first; the turns after it are left out, the earliest first, where a chat is
            longer than the prompt.
          candidates: of each turn.

        Raises:
          ValueError: the tokenizer has no template, or an instruction with the last turn is too long.
        """
        generator, written = self.generator, []
        for batch, count in batches([self._ids(prompt) for prompt in prompts]):
            written += generator(batch, candidates)[:count]
        return written

    def _ids(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        tokenizer, most = self.generator.tokenizer.tokenizer, self.generator.max_prompt
        for first in range(1, max(len(messages), 2)):
            ids = chat_ids(tokenizer, [messages[0], *messages[first:]])
            if len(ids) <= most:
                return ids
        raise ValueError(f"the instruction and the last turn have {len(ids)} tokens, and there is room for {most}")


def emotional_prompt(tokenizer: DialogueTokenizer, request: EmotionalRequest, limit: int, chat: bool) -> list[int]:
    """The prompt that an emotional response is written after, in training and in inference.

    Where it is longer than `limit`, the last entities are left out, then the last facts. If that is not enough, it
    keeps its beginning and its last token.

    Args:
      tokenizer: of the writer.
      request: what it is to be written from.
      limit: most tokens.
      chat: put it into the tokenizer's chat template.

    Raises:
      ValueError: `chat`, and the tokenizer has no template.
    """
    facts = len(request.entities) + len(request.triples)
    ids: list[int] = []
    for kept in range(facts, -1, -1):
        triples = request.triples[:kept]
        entities = request.entities[: kept - len(triples)]
        text = response_prompt(
            request.title, entities, triples, request.first_sentence, heard=request.heard, tone=request.tone
        )
        if chat:
            messages = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": text.strip()}]
            ids = chat_ids(tokenizer.tokenizer, messages)
        else:
            ids = tokenizer.encode([text])[0]
        if len(ids) <= limit:
            return ids
    return [*ids[: limit - 1], ids[-1]]


def whole_sentences(text: str) -> str:
    """The text up to its last complete sentence; all of it if it has none."""
    text = " ".join(text.split())
    end = max(text.rfind(mark) for mark in ".!?")
    return text[: end + 1] if end > 0 else text


@dataclass(frozen=True)
class Fluency:
    """How probable texts are under a language model that was not trained on replies.

    Attributes:
      module: the language model.
      params: its parameters, without an adapter.
      tokenizer: its tokenizer.
      max_tokens: longer texts are cut; batches of texts of half this length are half as wide.
    """

    module: nn.Module
    params: Params
    tokenizer: DialogueTokenizer
    max_tokens: int = 64

    @property
    def _lengths(self) -> tuple[int, int]:
        return self.max_tokens // 2, self.max_tokens

    def warm_up(self) -> None:
        """Compiles the program of every shape of a batch."""
        for rows in _FLUENCY_ROWS:
            for length in self._lengths:
                tokens = np.zeros((rows, length), np.int32)
                _token_losses(self.module, self.params, tokens, np.ones_like(tokens, bool))

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Mean loss per token of each text after an end token, in nats, float32 [n], and numbers of tokens, int [n].

        An empty text has infinite loss.

        Args:
          texts: with titles filled in: `<movie>` means nothing to this model.
        """
        losses: list[float] = []
        encoded = self.tokenizer.encode(texts)
        for batch, count in batches(encoded, _FLUENCY_ROWS):
            rows = [[self.tokenizer.end, *ids][: self.max_tokens] for ids in batch]
            longest = max(map(len, rows))
            tokens, mask = pad(rows, next(length for length in self._lengths if length >= longest))
            losses += np.asarray(_token_losses(self.module, self.params, tokens, mask))[:count].tolist()
        lengths = np.asarray([min(len(ids), self.max_tokens - 1) for ids in encoded], np.int64)
        return np.asarray(losses, np.float32), lengths


@functools.partial(jax.jit, static_argnames="module")
def _token_losses(module: nn.Module, params: Params, tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean loss of the tokens after the first of each row [B]."""

    def row_loss(row):
        hidden, tokens, mask = row
        scores = logits(params, hidden[:-1])  # [T - 1, V], of one row at a time
        chosen = jnp.take_along_axis(scores, tokens[1:, None], axis=-1)[:, 0]
        losses = jax.nn.logsumexp(scores, axis=-1) - chosen
        count = jnp.sum(mask[1:])
        return jnp.where(count > 0, jnp.sum(losses * mask[1:]) / jnp.maximum(count, 1), jnp.inf)

    hidden = module.apply({"params": params}, tokens, mask).hidden
    return jax.lax.map(row_loss, (hidden, tokens, mask))
