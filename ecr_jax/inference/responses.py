"""The responses of a reply as the recommender and the reports read them: one for each turn of a corpus.

The recommender reads a recommendation response before the film is chosen (`recommendation.use_resp`), so that its plan
is always the same: to recommend one film.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console
from rich.progress import track

from ecr_jax.data.acts import Act, ActName
from ecr_jax.data.schema import MOVIE, Role, Split
from ecr_jax.features.batch_spec import Example
from ecr_jax.features.dialogues import Dialogue, Utterance
from ecr_jax.features.instances import Instance
from ecr_jax.features.plans import Plan
from ecr_jax.features.tokenizer import DialogueTokenizer
from ecr_jax.files import read_jsonl_rows, write_jsonl
from ecr_jax.inference.writing import ReplyWriter, WriteRequest

ONE_FILM = Plan((Act(ActName.RECOMMEND),), films=(0,), recommended=1)
"""The plan of a response that is written before the film is chosen; which film stands in a plan is not read."""

Place = tuple[str, int]
"""A turn of a corpus: conversation id and index of the turn."""

_MAX_BATCH = 32
_BATCH_MULTIPLE = 8
_BATCHES_PER_SAVE = 20


@dataclass(frozen=True)
class RecommendationModel:
    """The trained model of recommendation responses, for replies that recommend one film before it is known which.

    Attributes:
      writer: of recommendation responses.
    """

    writer: ReplyWriter

    def __call__(self, contexts: Sequence[Example]) -> list[str]:
        """The most probable response to each context, with one open `<movie>` slot."""
        return [texts[0] for texts in self.writer.write([WriteRequest(arrays, ONE_FILM) for arrays in contexts], 1)]


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
            tokenizer = self.model.writer.generator.tokenizer
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
