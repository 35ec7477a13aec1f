"""A writer of replies behind an OpenAI-compatible address."""

from __future__ import annotations

from collections.abc import Sequence

from ecr_jax.llm.client import Client, LlmError, Messages, Request


class RemoteWriter:
    """Writes candidates through a client; called as the local writer is.

    Args:
      client: the model.
      max_tokens: longest candidate.
      temperature: of sampling. With 0 the candidates of a prompt are likely to be equal.
    """

    def __init__(self, client: Client, *, max_tokens: int = 160, temperature: float = 0.8):
        self._client, self._max_tokens, self._temperature = client, max_tokens, temperature

    def write(self, prompts: Sequence[Messages], candidates: int) -> list[list[str]]:
        """Writes candidates to prompts: one request each, which differ in their seed, so that any server can be asked.

        Args:
          prompts: P chats.
          candidates: n, how many to write to each.

        Returns:
          [P][n] texts. One that is cut off at `max_tokens` is as far as it goes; one that is refused is empty.

        Raises:
          LlmError: as of `Client.answers`, or the server refuses all.
        """
        requests = [
            Request(prompt, max_tokens=self._max_tokens, temperature=self._temperature, seed=seed)
            for prompt in prompts
            for seed in range(candidates)
        ]
        answers = self._client.answers(requests)
        if answers and not any(answer.text for answer in answers):
            raise LlmError(f"{self._client.address.model} wrote nothing at all: {answers[0].fault}")
        texts = [answer.text.strip() for answer in answers]
        return [texts[start : start + candidates] for start in range(0, len(texts), candidates)]
