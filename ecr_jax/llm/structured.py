"""Answers that must be JSON of a given form: asked for, checked, and kept apart where they are malformed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ecr_jax.files import write_jsonl
from ecr_jax.llm.client import Answer, Client, Request, Usage

Value = TypeVar("Value")

_FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)


class MalformedError(ValueError):
    """Raised by a parser for an answer that is not of the form that was asked for; the message names the fault."""


@dataclass(frozen=True)
class Answered(Generic[Value]):
    """The values of a set of requests, None where the answer is missing or malformed, and what they cost."""

    values: list[Value | None]
    usage: Usage

    @property
    def malformed(self) -> int:
        """How many answers are missing or malformed."""
        return sum(value is None for value in self.values)


def ask(
    client: Client,
    requests: Sequence[Request],
    parse: Callable[[Any, Answer, int], Value],
    *,
    names: Sequence[Any],
    rejected: Path,
    label: str,
    console: Console,
) -> Answered[Value]:
    """Asks requests with a progress bar and reads their answers.

    An answer is never repaired or guessed: what is not as asked for is None here and a line of the file `rejected`.

    Args:
      client: the model.
      requests: R questions.
      parse: (JSON value, answer, number of the request) -> value; raises MalformedError.
      names: what each request is about, for the file of rejected answers, [R].
      rejected: JSON lines {"about", "fault", "answer"}; removed where there is none.
      label: of the progress bar.
      console: where it is shown.

    Raises:
      LlmError: as of `Client.answers`.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=len(requests))
        answers = client.answers(requests, lambda: progress.advance(task))
    values: list[Value | None] = []
    faults = []
    for number, (name, answer) in enumerate(zip(names, answers, strict=True)):
        try:
            if answer.fault is not None:
                raise MalformedError(answer.fault)
            values.append(parse(json_value(answer.text), answer, number))
        except MalformedError as error:
            values.append(None)
            faults.append({"about": name, "fault": str(error), "answer": answer.text})
    if faults:
        write_jsonl(rejected, faults)
    else:
        rejected.unlink(missing_ok=True)
    return Answered(values, Usage.of(answers, client.address))


def json_value(text: str) -> Any:
    """The JSON value that an answer is; it may stand in one fenced code block, and nothing else beside it.

    Raises:
      MalformedError: it is not JSON.
    """
    fenced = _FENCED.fullmatch(text.strip())
    try:
        return json.loads(fenced[1] if fenced else text)
    except json.JSONDecodeError as error:
        raise MalformedError(f"not JSON: {error}") from error


def require_object(value: Any, fields: Sequence[str]) -> dict[str, Any]:
    """The value as an object with exactly these fields. Raises MalformedError."""
    if not isinstance(value, dict):
        raise MalformedError(f"a JSON object was asked for, not {type(value).__name__}")
    if set(value) != set(fields):
        raise MalformedError(f"the fields are {', '.join(sorted(map(str, value)))}; asked for: {', '.join(fields)}")
    return value


def object_schema(properties: dict[str, Any]) -> dict[str, Any]:
    """JSON schema of an object with exactly these properties, all required, as strict servers want it."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
