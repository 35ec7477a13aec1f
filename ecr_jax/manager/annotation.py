"""Sub-tasks of recommenders' turns, labelled by a language model, and how far labels agree with those of people.

What is written holds ids and labels, no text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import accuracy_score, cohen_kappa_score, precision_recall_fscore_support

from ecr_jax.data.acts import Act, Attribute
from ecr_jax.data.schema import Conversation, Split, Turn
from ecr_jax.features.instances import evenly_spaced
from ecr_jax.features.plans import acts_by_rule
from ecr_jax.features.tokenizer import with_role
from ecr_jax.files import read_parquet, replacing, write_json, write_parquet
from ecr_jax.llm.cache import content_hash
from ecr_jax.llm.client import Client, Messages, Request
from ecr_jax.llm.structured import Answered, MalformedError, ask, object_schema, require_object
from ecr_jax.manager.labels import names_new_film, replies
from ecr_jax.manager.schema import ANY, choice_of, film_schema

SCHEMA = film_schema(())
"""What a turn does can be read off it without categories; a label's category is found in the dialogue before."""

_TASKS = {task.name: task for task in SCHEMA}
_ATTRIBUTES = (ANY, *(attribute.value for attribute in Attribute))
_BEFORE = 3
_INSTRUCTION = (
    "You label what the recommender does in a conversation about films. You get the turns before as JSON and the "
    "recommender's turn. Choose the first of these that the turn does:\n"
    + "\n".join(f"{task.name}: {task.description}" for task in SCHEMA)
    + "\n\nFor `details` and `elicit` say also which attribute of a film it is about: "
    + ", ".join(_ATTRIBUTES)
    + '. Answer with JSON alone: {"sub_task": "...", "attribute": "..."}'
)
_SCHEMA = object_schema(
    {
        "sub_task": {"type": "string", "enum": list(_TASKS)},
        "attribute": {"type": "string", "enum": list(_ATTRIBUTES)},
    }
)
PROMPT_HASH = content_hash([_INSTRUCTION, _SCHEMA])
"""Identifies the prompt in records."""
_COLUMNS = {"conversation": "string", "split": "string", "turn": "int64", "act": "string"}


@dataclass(frozen=True)
class Reply:
    """A recommender's turn to label.

    Attributes:
      conversation: with it.
      turn: its index.
    """

    conversation: Conversation
    turn: int

    @property
    def said(self) -> Turn:
        """The turn."""
        return self.conversation.turns[self.turn]

    @property
    def before(self) -> tuple[Turn, ...]:
        """The turns before it."""
        return self.conversation.turns[: self.turn]


def folder_of(corpus: Path, label: str) -> Path:
    """Where `ecr label` puts the labels of a prepared corpus: beside it, so that preparing again keeps them."""
    return corpus.parent / "labels" / corpus.name / label


def replies_of(conversations: Iterable[Conversation], splits: Sequence[Split], limit: int | None = None) -> list[Reply]:
    """The recommenders' replies of some splits, in order; `limit` takes so many of each split, evenly spaced."""
    of_split: dict[Split, list[Reply]] = {split: [] for split in splits}
    for conversation in conversations:
        if conversation.split in of_split:
            of_split[conversation.split] += [Reply(conversation, turn) for turn in replies(conversation.turns)]
    return [reply for found in of_split.values() for reply in (found if limit is None else evenly_spaced(found, limit))]


def prompt(reply: Reply) -> Messages:
    """The messages that ask for a turn's label."""
    before = [with_role(turn.role, turn.text) for turn in reply.before[-_BEFORE:]]
    return [
        {"role": "system", "content": _INSTRUCTION},
        {
            "role": "user",
            "content": f"Before: {json.dumps(before, ensure_ascii=False)}\n"
            f"The recommender says: {json.dumps(reply.said.text, ensure_ascii=False)}",
        },
    ]


def read_answer(value: Any) -> Act:
    """The act in a JSON answer. Raises MalformedError where it is not as asked for; nothing is guessed."""
    fields = require_object(value, ("sub_task", "attribute"))
    task = _TASKS.get(fields["sub_task"]) if isinstance(fields["sub_task"], str) else None
    if task is None:
        raise MalformedError(f"no sub-task {fields['sub_task']!r}; asked for: {', '.join(_TASKS)}")
    if fields["attribute"] not in _ATTRIBUTES:
        raise MalformedError(f"no attribute {fields['attribute']!r}; asked for: {', '.join(_ATTRIBUTES)}")
    known = any(argument.name == "attribute" and fields["attribute"] in argument.values for argument in task.arguments)
    return Act(task.act, Attribute(fields["attribute"]) if known else None)


def ask_labels(replies: Sequence[Reply], client: Client, rejected: Path, console: Console) -> Answered[Act]:
    """A language model's acts of turns, None where its answer is missing or malformed.

    Args:
      replies: what to label.
      client: the model.
      rejected: file for malformed answers.
      console: where the progress is shown.

    Raises:
      LlmError: as of `Client.answers`.
    """
    return ask(
        client,
        [Request(prompt(reply), schema=_SCHEMA, max_tokens=60) for reply in replies],
        lambda value, answer, number: read_answer(value),
        names=[{"conversation": reply.conversation.id, "turn": reply.turn} for reply in replies],
        rejected=rejected,
        label="label",
        console=console,
    )


def label(
    replies: Sequence[Reply], client: Client, folder: Path, *, corpus: Mapping[str, Any], console: Console
) -> None:
    """Labels turns and writes `labels.parquet`, `malformed.jsonl` and, last, `manifest.json`.

    Ctrl-C or a kill at any moment loses nothing that was answered: the same command goes on from there.

    Args:
      replies: what to label.
      client: the model.
      folder: where the result goes.
      corpus: `inputs` and `corpus` of the prepared corpus, to recognise it by.
      console: where the progress is shown.

    Raises:
      LlmError: as of `Client.answers`.
    """
    with replacing(folder) as temporary:
        temporary.mkdir()
        answered = ask_labels(replies, client, temporary / "malformed.jsonl", console)
        rows = [(reply, act) for reply, act in zip(replies, answered.values, strict=True) if act is not None]
        columns = {
            "conversation": [reply.conversation.id for reply, _ in rows],
            "split": [reply.conversation.split.value for reply, _ in rows],
            "turn": [reply.turn for reply, _ in rows],
            "act": [str(act) for _, act in rows],
        }
        write_parquet(temporary / "labels.parquet", columns, _COLUMNS)
        manifest = {
            **corpus,
            "model": client.address.public,
            "prompt": PROMPT_HASH,
            "turns": len(replies),
            "labelled": len(rows),
            "malformed": answered.malformed,
        }
        write_json(temporary / "manifest.json", manifest)
    console.print(f"labelled {len(rows)} of {len(replies)} turns: {folder}; {answered.usage}")
    if answered.malformed:
        console.print(f"{answered.malformed} answers are missing or malformed: {folder / 'malformed.jsonl'}")


def load(folder: Path, corpus: Mapping[str, Any]) -> dict[tuple[str, int], Act]:
    """The labels that `label` wrote: (conversation id, turn) -> act.

    Args:
      folder: where they are.
      corpus: the manifest of the prepared corpus.

    Raises:
      ValueError: they are not there, not complete, or of another preparation of the corpus.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no labels; run `ecr label` for this corpus first")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if any(manifest[part] != corpus[part] for part in ("corpus", "inputs")):
        raise ValueError(f"{folder} was labelled for another preparation of the corpus; run `ecr label` again")
    table = read_parquet(folder / "labels.parquet")
    rows = zip(*(table[name] for name in ("conversation", "turn", "act")), strict=True)
    return {(conversation, turn): Act.parse(act) for conversation, turn, act in rows}


# ------------------------------------------------------------------------------------------------------ agreement


def sub_task(acts: Iterable[Act]) -> str:
    """The sub-task that acts carry out."""
    return choice_of(SCHEMA, acts).sub_task


def by_rule(reply: Reply) -> str:
    """The sub-task of a turn by rule, whatever acts the corpus gives it."""
    return sub_task(acts_by_rule(reply.said, reply.before, new=names_new_film(reply.said, reply.before)))


def agreement(found: Sequence[str], gold: Sequence[str]) -> dict[str, Any]:
    """How far labels agree: accuracy, Cohen's kappa, macro F1 over the sub-tasks of `gold`, and each sub-task's.

    Args:
      found, gold: sub-tasks of the same turns, at least one.
    """
    names = [name for name in _TASKS if name in gold]
    precision, recall, f1, count = precision_recall_fscore_support(gold, found, labels=names, zero_division=0)
    return {
        "turns": len(gold),
        "accuracy": float(accuracy_score(gold, found)),
        "kappa": float(cohen_kappa_score(gold, found)) if len({*gold, *found}) > 1 else float("nan"),
        "macro_f1": float(np.mean(f1)),
        "majority": max(gold.count(name) for name in names) / len(gold),
        "sub_tasks": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f), "count": int(c)}
            for name, p, r, f, c in zip(names, precision, recall, f1, count, strict=True)
        },
    }


def compare(
    conversations: Sequence[Conversation], splits: Sequence[Split], client: Client | None, into: Path, console: Console
) -> dict[str, Any]:
    """Compares labels by rule, and of a language model, with the acts that people gave; prints and writes a report.

    Args:
      conversations: whose recommenders' turns have acts, such as IARD's.
      splits: that are compared.
      client: of the language model; None compares the rules alone.
      into: the JSON file to write.
      console: where the tables are printed.

    Returns:
      {"rules": `agreement`, and "llm" where there is a client}.

    Raises:
      ValueError: no turn of these splits has acts.
      LlmError: as of `Client.answers`.
    """
    compared = [reply for reply in replies_of(conversations, splits) if reply.said.acts]
    if not compared:
        raise ValueError(f"no reply of the splits {', '.join(splits)} is labelled with acts")
    gold = [sub_task(reply.said.acts) for reply in compared]
    report = {"rules": agreement([by_rule(reply) for reply in compared], gold)}
    if client is not None:
        answered = ask_labels(compared, client, into.with_suffix(".malformed.jsonl"), console)
        known = [(act, name) for act, name in zip(answered.values, gold, strict=True) if act is not None]
        if known:
            report["llm"] = agreement([sub_task([act]) for act, _ in known], [name for _, name in known])
        console.print(f"{answered.usage}; {answered.malformed} answers are missing or malformed")
    for name, measured in report.items():
        console.print(_table(name, measured))
    write_json(into, report)
    console.print(f"written: {into}")
    return report


def _table(name: str, measured: Mapping[str, Any]) -> Table:
    table = Table(
        title=f"{name}: {measured['turns']} turns, accuracy {measured['accuracy']:.3f} (majority "
        f"{measured['majority']:.3f}), macro F1 {measured['macro_f1']:.3f}, kappa {measured['kappa']:.3f}"
    )
    for column in ("sub-task", "precision", "recall", "F1", "turns"):
        table.add_column(column, justify="left" if column == "sub-task" else "right")
    for task, row in measured["sub_tasks"].items():
        table.add_row(task, *(f"{row[part]:.2f}" for part in ("precision", "recall", "f1")), str(row["count"]))
    return table
