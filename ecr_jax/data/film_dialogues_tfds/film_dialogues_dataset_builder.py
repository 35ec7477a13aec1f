"""The built-in corpus as a `tensorflow_datasets` builder that needs no TensorFlow (extra `tfds`).

    builder = FilmDialogues(table=hub.resolve("wikidata-films"), data_dir=...)
    builder.download_and_prepare(file_format="array_record")
    turns = builder.as_data_source("train")

An example is one turn; nested ragged features would need TensorFlow. `conversations` joins the turns again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ecr_jax.data import films
from ecr_jax.data.acts import Act
from ecr_jax.data.schema import EMOTIONS, Conversation, Feedback, Mention, Role, Split, Turn

_SPLITS = {"train": Split.TRAIN, "validation": Split.VALID, "test": Split.TEST}
_FEEDBACK = ["", *Feedback]
"""Labels of a mention's feedback; the empty one is for mentions that are not films."""


class FilmDialogues(tfds.core.GeneratorBasedBuilder):
    """Dialogues about real films with mentions, feedback, emotions and dialogue acts, generated from a seed."""

    VERSION = tfds.core.Version(films.VERSION)
    RELEASE_NOTES = {"1.0.0": "First release.", "2.0.0": "Dialogue acts, and emotions of both speakers."}

    def __init__(self, *, table: Path, seed: int = 0, dialogues: int = 1000, **kwargs: Any):
        """Creates a builder.

        Args:
          table: `movies.db`.
          seed: seed of the corpus.
          dialogues: number of dialogues.
          **kwargs: what `tfds.core.DatasetBuilder` takes, e.g. `data_dir`.
        """
        self._table, self._seed, self._dialogues = table, seed, dialogues
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        def many(feature: Any) -> tfds.features.Sequence:
            return tfds.features.Sequence(feature)

        return tfds.core.DatasetInfo(
            builder=self,
            description="Conversations in which a recommender finds films for a seeker; one example per turn.",
            features=tfds.features.FeaturesDict(
                {
                    "conversation": tfds.features.Text(),
                    "turn": tfds.features.Scalar(np.int32),
                    "role": tfds.features.ClassLabel(names=list(Role)),
                    "text": tfds.features.Text(),
                    "emotions": many(tfds.features.ClassLabel(names=list(EMOTIONS))),
                    "acts": many(tfds.features.Text()),
                    "mention_start": many(np.int32),
                    "mention_end": many(np.int32),
                    "mention_name": many(tfds.features.Text()),
                    "mention_film": many(np.bool_),
                    "mention_entity": many(tfds.features.Text()),
                    "mention_feedback": many(tfds.features.ClassLabel(names=_FEEDBACK)),
                }
            ),
            homepage="https://www.wikidata.org/",
            license="Films: CC0 (Wikidata). Dialogues: the licence of ecr-jax.",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded: the table is given
        corpus = films.generate(self._table, seed=self._seed, dialogues=self._dialogues, reviews=0)
        return {
            name: self._generate_examples([c for c in corpus.conversations if c.split == split])
            for name, split in _SPLITS.items()
        }

    def _generate_examples(self, conversations: Iterable[Conversation]) -> Iterator[tuple[str, dict[str, Any]]]:
        for conversation in conversations:
            for i, turn in enumerate(conversation.turns):
                yield (
                    f"{conversation.id}/{i:03d}",
                    {
                        "conversation": conversation.id,
                        "turn": i,
                        "role": turn.role.value,
                        "text": turn.text,
                        "emotions": list(turn.emotions),
                        "acts": list(map(str, turn.acts)),
                        "mention_start": [m.start for m in turn.mentions],
                        "mention_end": [m.end for m in turn.mentions],
                        "mention_name": [m.name for m in turn.mentions],
                        "mention_film": [m.film for m in turn.mentions],
                        "mention_entity": [m.entity for m in turn.mentions],
                        "mention_feedback": [m.feedback.value if m.feedback else "" for m in turn.mentions],
                    },
                )


def conversations(turns: Iterable[Mapping[str, Any]], split: str) -> list[Conversation]:
    """Joins the examples of a split (in any order) into conversations, sorted by id.

    Args:
      turns: what `as_data_source(split)` yields.
      split: "train", "validation" or "test".
    """
    turns_of: dict[str, dict[int, Turn]] = {}
    for example in turns:
        mentions = tuple(
            Mention(
                int(start), int(end), name.decode(), bool(film), entity.decode(),
                Feedback(_FEEDBACK[feedback]) if feedback else None,
            )
            for start, end, name, film, entity, feedback in zip(
                *(example[f"mention_{key}"] for key in ("start", "end", "name", "film", "entity", "feedback")),
                strict=True,
            )
        )  # fmt: skip
        turns_of.setdefault(example["conversation"].decode(), {})[int(example["turn"])] = Turn(
            tuple(Role)[example["role"]],
            example["text"].decode(),
            mentions,
            tuple(EMOTIONS[emotion] for emotion in example["emotions"]),
            tuple(Act.parse(act.decode()) for act in example["acts"]),
        )
    return [
        Conversation(name, _SPLITS[split], tuple(by_index[i] for i in sorted(by_index)))
        for name, by_index in sorted(turns_of.items())
    ]
