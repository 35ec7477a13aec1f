"""A manager behind an OpenAI-compatible address: it chooses sub-tasks as JSON of their schema."""

from __future__ import annotations

from collections.abc import Sequence

from ecr_jax.features.dialogues import Utterance
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.llm.client import Answer, Client, LlmError, Request
from ecr_jax.llm.structured import MalformedError, json_value
from ecr_jax.manager.prompts import Instructions, messages
from ecr_jax.manager.schema import Chosen, Schema, json_schema, read_json

_MOST_TOKENS = 80


class RemoteManager:
    """Chooses through a client; called as the local manager is."""

    def __init__(self, client: Client, schema: Schema, graph: KnowledgeGraph, instructions: Instructions):
        """Asks nothing yet.

        Args:
          client: the model.
          schema: of the sub-tasks.
          graph: of the dialogues' entities.
          instructions: what prompts hold beside the dialogue.
        """
        self.schema = tuple(schema)
        self._client, self._graph, self._instructions = client, graph, instructions

    def choose(self, dialogues: Sequence[Sequence[Utterance]], allowed: Sequence[Sequence[str]]) -> list[Chosen]:
        """The model's choice for each dialogue; without one where it gave none that can be carried out.

        Args:
          dialogues: in which the seeker spoke last.
          allowed: names of the sub-tasks that each reply may carry out, at least one.

        Raises:
          ValueError: the package `openai` is not installed.
        """
        schemas = [[task for task in self.schema if task.name in names] for names in allowed]
        requests = [
            Request(
                messages(turns, self._graph, schema, self._instructions),
                schema=json_schema(schema),
                max_tokens=_MOST_TOKENS,
            )
            for turns, schema in zip(dialogues, schemas, strict=True)
        ]
        try:
            answers = self._client.answers(requests)
        except LlmError as error:  # the turn goes on without it, and says so
            return [Chosen(None, event=f"the model could not be asked: {error}")] * len(dialogues)
        return [_read(answer, schema) for answer, schema in zip(answers, schemas, strict=True)]


def _read(answer: Answer, schema: Schema) -> Chosen:
    if answer.fault is not None:
        return Chosen(None, event=f"the model gave no answer: {answer.fault}")
    try:
        return Chosen(read_json(schema, json_value(answer.text)))
    except MalformedError as error:
        return Chosen(None, event=f"malformed: {error}")
