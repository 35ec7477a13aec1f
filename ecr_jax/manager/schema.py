"""The schema of sub-tasks: what a reply can do, with which arguments, and what comes of it (after LLMCRS, Table 1).

A schema is a tuple of `SubTask`s, each with the closed values of its arguments, so that what a manager may choose is a
finite list (`choices`). `film_schema` is the one of this project; other code may extend it or bring its own.

Beside the paper's four there is `chat`, since people do none of the four in a quarter of their turns. The film of
`explain` and `details` is the one under discussion, which the memory of the dialogue knows: it is not chosen.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.llm.structured import MalformedError, object_schema, require_object

ANY = "any"
"""The value of an argument that is left open."""

RECOMMEND, DETAILS, EXPLAIN, ELICIT, CHAT = "recommend", "details", "explain", "elicit", "chat"

_ELICITED = (Attribute.GENRE, Attribute.FILM, Attribute.CAST, Attribute.DIRECTOR, Attribute.YEAR)


@dataclass(frozen=True)
class Argument:
    """An argument of a sub-task.

    Attributes:
      name: what it is called; arguments of one name may have other values in other sub-tasks.
      description: what it means.
      values: all that it can be, beside `ANY`.
    """

    name: str
    description: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        bad = [value for value in self.values if not value or value == ANY or "," in value]
        if bad or len(set(self.values)) != len(self.values):
            raise ValueError(f"argument {self.name!r}: values must differ, be not {ANY!r} and have no comma: {bad}")


@dataclass(frozen=True)
class SubTask:
    """A sub-task.

    Attributes:
      name: by which it is chosen and by which experts name it.
      description: what it does, for prompts.
      arguments: what it needs beside the dialogue.
      output: whether it ends in a "text" or in an "item".
      act: the act of a reply that carries it out.
    """

    name: str
    description: str
    arguments: tuple[Argument, ...]
    output: Literal["text", "item"]
    act: ActName


Schema = Sequence[SubTask]
"""Sub-tasks with different names. Of a turn that does several, the first is its label."""


@dataclass(frozen=True)
class Choice:
    """A sub-task with its arguments, as a manager chooses it.

    Attributes:
      sub_task: its name.
      arguments: (name, value) of each argument of the sub-task, in its order.
    """

    sub_task: str
    arguments: tuple[tuple[str, str], ...] = ()

    def argument(self, name: str) -> str | None:
        """The value of an argument; None where it is open or there is none of this name."""
        value = dict(self.arguments).get(name, ANY)
        return None if value == ANY else value

    def __str__(self) -> str:
        """The text that a language model writes: "recommend: comedy"; without arguments the name alone."""
        values = [value for _, value in self.arguments]
        return self.sub_task if all(value == ANY for value in values) else f"{self.sub_task}: {', '.join(values)}"


@dataclass(frozen=True)
class Chosen:
    """What a manager chose for a reply.

    Attributes:
      choice: the sub-task and its arguments; None where the manager gave none that can be carried out.
      alternatives: (choice, probability) of the most probable ones, the best first, where they are known.
      event: why there is no choice, in words.
    """

    choice: Choice | None
    alternatives: tuple[tuple[Choice, float], ...] = ()
    event: str = ""


def film_schema(categories: Iterable[str]) -> tuple[SubTask, ...]:
    """The sub-tasks of a recommender of films.

    Args:
      categories: the genres that a recommendation can be asked to have.
    """
    known = tuple(attribute.value for attribute in Attribute if attribute != Attribute.FILM)
    asked = tuple(attribute.value for attribute in _ELICITED)
    return (
        SubTask(
            RECOMMEND,
            "recommend a film that the seeker does not know yet",
            (Argument("category", "the genre that the film should have", tuple(categories)),),
            "item",
            ActName.RECOMMEND,
        ),
        SubTask(
            DETAILS,
            "answer a question about a film",
            (Argument("attribute", "what is asked about the film", known),),
            "text",
            ActName.ANSWER,
        ),
        SubTask(EXPLAIN, "say why a film was recommended", (), "text", ActName.EXPLAIN),
        SubTask(
            ELICIT,
            "ask what the seeker likes",
            (Argument("attribute", "what is asked for", asked),),
            "text",
            ActName.ASK,
        ),
        SubTask(CHAT, "greet, react, close or chat, and nothing of the others", (), "text", ActName.CHAT),
    )


def choices(schema: Schema) -> tuple[Choice, ...]:
    """All choices that a schema has, in its order; of each sub-task the open one first."""
    return tuple(
        Choice(task.name, tuple(zip((argument.name for argument in task.arguments), values, strict=True)))
        for task in schema
        for values in itertools.product(*((ANY, *argument.values) for argument in task.arguments))
    )


def choice_of(schema: Schema, acts: Iterable[Act], category: str | None = None) -> Choice:
    """The choice that a turn with these acts carries out: the first sub-task of the schema whose act it performs.

    Args:
      schema: with a sub-task of the act `chat`, which stands for all acts that are no other sub-task's.
      acts: of the turn.
      category: that a recommendation was chosen by, where it is known.

    Returns:
      The choice; an attribute or category that is none of the argument's values is left open.

    Raises:
      ValueError: the schema has no sub-task of the act `chat`.
    """
    acts = tuple(acts)
    task = next((task for task in schema if any(act.name == task.act for act in acts)), None)
    if task is None:
        task = next((task for task in schema if task.act == ActName.CHAT), None)
    if task is None:
        raise ValueError("the schema has no sub-task for a turn that chats")
    attribute = next((act.attribute.value for act in acts if act.name == task.act and act.attribute is not None), None)
    known = {"category": category, "attribute": attribute}
    values = [(argument.name, known.get(argument.name)) for argument in task.arguments]
    return Choice(
        task.name,
        tuple(
            (name, value if value is not None and value in argument.values else ANY)
            for argument, (name, value) in zip(task.arguments, values, strict=True)
        ),
    )


def json_schema(schema: Schema) -> dict[str, Any]:
    """The JSON schema of a choice: the sub-task and one field for each name of an argument, all required."""
    fields: dict[str, Any] = {"sub_task": {"type": "string", "enum": [task.name for task in schema]}}
    for task in schema:
        for argument in task.arguments:
            field = fields.setdefault(argument.name, {"type": "string", "enum": [ANY]})
            field["enum"] += [value for value in argument.values if value not in field["enum"]]
    return object_schema(fields)


def read_json(schema: Schema, value: Any) -> Choice:
    """The choice that a JSON value of `json_schema` is.

    Raises:
      MalformedError: other fields, an unknown sub-task, or a value that its argument cannot have. Fields of arguments
        that the sub-task does not have are not read.
    """
    fields = require_object(value, tuple(json_schema(schema)["properties"]))
    task = next((task for task in schema if task.name == fields["sub_task"]), None)
    if task is None:
        raise MalformedError(f"no sub-task {fields['sub_task']!r}; there are {', '.join(t.name for t in schema)}")
    for argument in task.arguments:
        if fields[argument.name] not in (ANY, *argument.values):
            raise MalformedError(f"{task.name} has no {argument.name} {fields[argument.name]!r}")
    return Choice(task.name, tuple((argument.name, fields[argument.name]) for argument in task.arguments))


def described(schema: Schema) -> str:
    """The schema as text for prompts, a sub-task a line."""
    lines = []
    for task in schema:
        arguments = "; ".join(f"{a.name}: {a.description}, one of {', '.join(a.values)}" for a in task.arguments)
        lines.append(f"{task.name}: {task.description}" + (f" ({arguments}; or {ANY})" if arguments else ""))
    return "\n".join(lines)


def goal(schema: Schema, choice: Choice) -> str:
    """A choice in words, by which experts are chosen: the description of its sub-task, and its arguments."""
    task = next(task for task in schema if task.name == choice.sub_task)
    values = ", ".join(f"{name} {value}" for name, value in choice.arguments if value != ANY)
    return f"{task.description} ({values})" if values else task.description
