"""Token ids of chat messages, as a chat model was trained on them: through its tokenizer's own template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jinja2 import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Token ids of a dialogue, followed by the tokens that open the model's next turn.

    Args:
      tokenizer: a tokenizer with a chat template.
      messages: {"role": "system", "user" or "assistant", "content": text}, in the order of the dialogue.

    Raises:
      ValueError: the tokenizer has no template, there are no messages, or the template rejects them.
    """
    if not tokenizer.chat_template:
        path = f" of {tokenizer.name_or_path}" if tokenizer.name_or_path else ""
        raise ValueError(
            f"the tokenizer{path} has no chat template: use that of a chat model, or serialise the dialogue yourself"
        )
    if not messages:
        raise ValueError("no messages: a chat needs at least one")
    try:
        return tokenizer.apply_chat_template([dict(m) for m in messages], add_generation_prompt=True, return_dict=False)
    except TemplateError as error:
        roles = ", ".join(str(message.get("role")) for message in messages)
        raise ValueError(f"the tokenizer's chat template rejects the roles {roles}: {error}") from error
