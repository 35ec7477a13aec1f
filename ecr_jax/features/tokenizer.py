"""How a dialogue becomes tokens: role words, turn ends, truncation from the left at turn borders, the `<movie>` slot.

Every stage and the chat serialise through here, so what is trained on is what is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from ecr_jax.data.schema import MOVIE, Role

ROLE_WORDS = {Role.SEEKER: "User: ", Role.RECOMMENDER: "System: "}
"""The words before a turn (ECR A.8); they are the only role marks."""


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

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without marks of begin and end."""
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids` up to the first end token; `<movie>` stays visible."""
        kept = []
        for token in ids:
            if token == self.end:
                break
            kept.append(int(token))
        return self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False).strip()

    def turns(self, spoken: Sequence[tuple[Role, str]]) -> list[list[int]]:
        """Token ids of each (role, text): the role's word, the text, the end token."""
        return [ids + [self.end] for ids in self.encode([ROLE_WORDS[role] + text for role, text in spoken])]

    def opening(self, role: Role = Role.RECOMMENDER) -> list[int]:
        """The ids a language model is given to make it speak as `role`."""
        return self.encode([ROLE_WORDS[role].rstrip()])[0]


def last_turns(turns: Sequence[Sequence[int]], limit: int) -> list[int]:
    """Joins the latest whole turns that fit into `limit` tokens.

    A context never starts in the middle of a turn, unless its latest turn alone is too long; then that turn's last
    `limit` tokens are kept.

    Args:
      turns: token ids of each turn, in the order said.
      limit: most tokens of the result.
    """
    kept: list[Sequence[int]] = []
    room = limit
    for turn in reversed(turns):
        if len(turn) > room:
            break
        kept.append(turn)
        room -= len(turn)
    if not kept and turns:
        return list(turns[-1][-limit:])
    return [token for turn in reversed(kept) for token in turn]


def pad(rows: Sequence[Sequence[int]], length: int, value: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pads rows on the right. Returns (ids int32 [B, length], mask bool [B, length])."""
    ids = np.full((len(rows), length), value, np.int32)
    mask = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = True
    return ids, mask
