"""Generators of the two parts of a reply: the recommendation response u^r and the emotional response u^e.

u^r is written after the dialogue, behind the conversation prefix, with `<movie>` slots for titles (ECR Eq. 1). u^e is
written after a prompt that names the first film and facts about it (Eqs. 8-9). Both decode with a trained language
model; the stages `conversation` and `response` build these objects from what they trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import flax.linen as nn
from rich.console import Console
from rich.progress import track

from ecr_jax.data.schema import MOVIE, Role, Split
from ecr_jax.features.batch_spec import Example
from ecr_jax.features.dialogues import Dialogue, Utterance
from ecr_jax.features.instances import Instance
from ecr_jax.features.tokenizer import DialogueTokenizer
from ecr_jax.files import read_jsonl_rows, write_jsonl
from ecr_jax.inference.decoding import Decoding, generate, pad_left
from ecr_jax.models.lm.language_model import Params
from ecr_jax.models.prompt import Prefix

Place = tuple[str, int]
"""A turn of a corpus: conversation id and index of the turn."""

_MAX_BATCH = 32
_BATCH_MULTIPLE = 8
_BATCHES_PER_SAVE = 20


@dataclass(frozen=True)
class Generator:
    """A trained language model with the settings that it decodes with.

    Attributes:
      module: the language model.
      variables: {"params": ...} and, if an adapter is not merged, "lora".
      tokenizer: its tokenizer.
      decoding: how tokens are chosen.
      max_prompt: number of columns that prompts are padded to.
    """

    module: nn.Module
    variables: Params
    tokenizer: DialogueTokenizer
    decoding: Decoding
    max_prompt: int

    def __call__(self, prompts: Sequence[Sequence[int]], prefix: Prefix | None = None) -> list[str]:
        """The continuation of each prompt, up to its end token.

        Args:
          prompts: token ids, at most `max_prompt` each. The program is compiled for each number of prompts.
          prefix: keys and values that every layer puts before the prompts, or None.
        """
        tokens, mask = pad_left(prompts, self.max_prompt)
        generated = generate(
            self.module,
            self.variables,
            tokens,
            mask,
            decoding=self.decoding,
            end=self.tokenizer.end,
            prefix=None if prefix is None else (prefix.keys, prefix.values),
            prefix_mask=None if prefix is None else prefix.mask,
        )
        return [self.tokenizer.decode(row) for row in generated.tokens]


@dataclass(frozen=True)
class EmotionalResponder:
    """Writes emotional responses u^e."""

    generator: Generator

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        """The emotional response to each prompt (`knowledge.reviews.response_prompt`), in whole sentences."""
        tokenizer, max_prompt = self.generator.tokenizer, self.generator.max_prompt
        texts = self.generator([prompt_tokens(tokenizer, prompt, max_prompt) for prompt in prompts])
        return [whole_sentences(text) for text in texts]


@dataclass(frozen=True)
class RecommendationModel:
    """The trained model of recommendation responses.

    Attributes:
      generator: the language model.
      prefix: the conversation prefix of a batch of contexts.
    """

    generator: Generator
    prefix: Callable[[Sequence[Example]], Prefix]

    def __call__(self, contexts: Sequence[Example]) -> list[str]:
        """The most probable response to each context; compiled for each number of contexts."""
        opening = self.generator.tokenizer.opening()
        prompts = [[*context["tokens"].tolist(), *opening] for context in contexts]
        return self.generator(prompts, self.prefix(contexts))


class RecommendationResponder:
    """Writes recommendation responses u^r. Those of corpus turns are kept on disk, so that each is generated once."""

    def __init__(
        self,
        load: Callable[[], RecommendationModel],
        contexts: Callable[[DialogueTokenizer, Sequence[Dialogue], Sequence[Instance]], Sequence[Example]],
        folder: Path,
    ):
        """Loads nothing yet.

        Args:
          load: loads the trained model when a response is generated for the first time.
          contexts: (tokenizer, dialogues, instances) -> the context arrays of each instance.
          folder: where responses are kept, in `replies-SPLIT.jsonl`.
        """
        self._load, self._contexts, self._folder = load, contexts, folder

    @cached_property
    def model(self) -> RecommendationModel:
        """The trained model."""
        return self._load()

    def generate(self, contexts: Sequence[Example]) -> list[str]:
        """The response to each context, with open `<movie>` slots.

        Args:
          contexts: the arrays of each, from `ContextFeaturizer.arrays`.
        """
        return self.model(contexts)

    def of_turns(
        self,
        split: Split,
        dialogues: Sequence[Dialogue],
        instances: Sequence[Instance],
        console: Console | None = None,
    ) -> dict[Place, str]:
        """The responses in place of corpus turns, with open `<movie>` slots.

        Args:
          split: the split of the dialogues.
          dialogues: the dialogues.
          instances: the turns to be replaced.
          console: where progress is shown.

        Raises:
          ValueError: the stage `conversation` is not trained, and a response is missing on disk.
        """
        path = self._folder / f"replies-{split.value}.jsonl"
        stored = read_jsonl_rows(path) if path.is_file() else []
        texts: dict[Place, str] = {(row["conversation"], row["turn"]): row["text"] for row in stored}
        places = {(dialogues[instance.dialogue].id, instance.turn): instance for instance in instances}
        missing = [place for place in places if place not in texts]
        if missing:
            tokenizer = self.model.generator.tokenizer
            contexts = self._contexts(tokenizer, dialogues, [places[place] for place in missing])
            size = min(_MAX_BATCH, math.ceil(len(missing) / _BATCH_MULTIPLE) * _BATCH_MULTIPLE)
            starts = range(0, len(missing), size)
            for number, start in enumerate(track(starts, f"reply, {split.value}", console=console), start=1):
                # The last context fills up the last batch, so that all batches run the same program.
                indices = [min(index, len(missing) - 1) for index in range(start, start + size)]
                responses = self.generate([contexts[index] for index in indices])
                texts |= zip(missing[start : start + size], responses, strict=False)
                if number % _BATCHES_PER_SAVE == 0 or number == len(starts):
                    write_jsonl(path, [{"conversation": c, "turn": turn, "text": t} for (c, turn), t in texts.items()])
        return {place: texts[place] for place in places}


def response_utterance(text: str) -> Utterance:
    """A recommendation response as the recommender reads it: empty if it has no `<movie>` slot, as released."""
    text = text if MOVIE in text else ""
    return Utterance(Role.RECOMMENDER, text, text)


def prompt_tokens(tokenizer: DialogueTokenizer, prompt: str, limit: int) -> list[int]:
    """Token ids of a generator prompt; one that is longer than `limit` keeps its beginning and its last token."""
    ids = tokenizer.encode([prompt])[0]
    return ids if len(ids) <= limit else ids[: limit - 1] + ids[-1:]


def whole_sentences(text: str) -> str:
    """The text up to its last complete sentence; all of it if it has none."""
    text = " ".join(text.split())
    end = max(text.rfind(mark) for mark in ".!?")
    return text[: end + 1] if end > 0 else text
