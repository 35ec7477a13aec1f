"""How a dialogue becomes tokens: role words, turn ends, truncation from the left at turn borders, the `<movie>` slot.

Every stage and the chat serialise dialogues here, so that inference reads the same format as training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from ecr_jax.data.schema import MOVIE, Role

ROLE_WORDS = {Role.SEEKER: "User: ", Role.RECOMMENDER: "System: ", Role.UNKNOWN: ""}
"""The words before a turn, as in ECR's released code; nothing else marks the roles. A turn of unknown role has none."""


def with_role(role: Role, text: str) -> str:
    """A turn's text with its role word, as the language models and the text encoder read it."""
    return ROLE_WORDS[role] + text


@dataclass(frozen=True)
class DialogueTokenizer:
    """A tokenizer with the `<movie>` slot and the ids that serialisation needs.

    Attributes:
      tokenizer: of the language model, with `MOVIE` among its special tokens.
      end: id of the token that ends a turn.
      movie: id of `MOVIE`.
    """

    tokenizer: PreTrainedTokenizerBase
    end: int
    movie: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> DialogueTokenizer:
        """Adds `MOVIE` to the tokenizer where it is missing. Raises ValueError where it has no end token."""
        if tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer names no end-of-sequence token; give its folder one (eos_token)")
        tokenizer.add_tokens([AddedToken(MOVIE, special=True, normalized=False)], special_tokens=True)
        return cls(tokenizer, tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(MOVIE))

    @property
    def vocabulary(self) -> int:
        """Number of token ids, `MOVIE` included."""
        return len(self.tokenizer)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without begin and end tokens."""
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids` up to the first end token; `<movie>` stays visible."""
        until_end = []
        for token in ids:
            if token == self.end:
                break
            until_end.append(int(token))
        return self.tokenizer.decode(until_end, skip_special_tokens=False, clean_up_tokenization_spaces=False).strip()

    def encode_turns(self, turns: Sequence[tuple[Role, str]]) -> list[list[int]]:
        """Token ids of each (role, text): the role word, the text, the end token."""
        return [ids + [self.end] for ids in self.encode([with_role(role, text) for role, text in turns])]

    def opening(self, role: Role = Role.RECOMMENDER) -> list[int]:
        """The ids after which a language model continues as `role`."""
        return self.encode([ROLE_WORDS[role].rstrip()])[0]


def last_turns(turns: Sequence[Sequence[int]], limit: int) -> list[int]:
    """Joins the latest whole turns that fit into `limit` tokens.

    A context never starts in the middle of a turn, unless its latest turn alone is too long; then the last `limit`
    tokens of that turn are used.

    Args:
      turns: token ids of each turn, in dialogue order.
      limit: most tokens of the result.
    """
    length = last_turns_length([len(turn) for turn in turns], limit)
    tokens: list[int] = []
    for turn in reversed(turns):
        if len(tokens) >= length:
            break
        tokens = [*turn[-(length - len(tokens)) :], *tokens]
    return tokens


def last_turns_length(lengths: Sequence[int], limit: int) -> int:
    """The length of the latest whole pieces that fit into `limit`; `limit` if the last piece alone is longer."""
    total = 0
    for count, length in enumerate(reversed(lengths)):
        if total + length > limit:
            return total if count else limit
        total += length
    return total


def pad(rows: Sequence[Sequence[int]], length: int, value: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pads rows on the right. Returns (ids int32 [B, length], mask bool [B, length])."""
    ids = np.full((len(rows), length), value, np.int32)
    mask = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = True
    return ids, mask
