"""The experts of sub-tasks against what knows nothing: who is chosen by description, explanations, and questions.

    python -m benchmarks.experts [--config gorecdial:llmcrs] [--prepared prepared] [--runs runs] [--split test]
        [--json FILE] [--page FILE]

Nothing is trained. Intervals are 95 %, by a bootstrap over dialogues.

- **matching**: the expert whose description fits each choice of the schema best, among all experts, those of other
  sub-tasks too. No expert was trained for, so each is chosen by its description alone.
- **explanation**: of a turn that recommends a film and says why, the share of the facts that the expert gives (what
  the film has in common with films that the seeker liked, else what fits the wishes) that the human's reason names;
  beside it the share of all facts of the film, which is what a random fact earns.
- **elicitation**: where a human asks for a preference, what the expert's question is expected to tell about the film
  to recommend, in nats, beside asking for the genre always and for a random attribute; and what it tells about the
  film that is recommended next, if the seeker answers with one of its values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from benchmarks import common
from benchmarks.common import Row
from ecr_jax import config as configs
from ecr_jax.data.acts import ActName
from ecr_jax.data.schema import Conversation, Role, Split
from ecr_jax.evaluation import significance
from ecr_jax.features.dialogues import Utterance
from ecr_jax.inference.agent import Agent
from ecr_jax.inference.experts import Registry
from ecr_jax.inference.memory import Memory, TurnReading, remember
from ecr_jax.inference.relevance import shared_facts
from ecr_jax.knowledge.attributes import RELATIONS, attribute_values, spoken_name
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.linking import Link
from ecr_jax.manager.eliciting import ASKED, answer_rates, gains, values_of
from ecr_jax.manager.labels import ManagedTurn
from ecr_jax.manager.schema import CHAT, ELICIT, Schema, choices, goal
from ecr_jax.runs.context import InMemoryEmotionLabels, open_experiment
from ecr_jax.stages import manager, rlpf

INTRODUCTION = str(__doc__).split("Nothing is trained. ")[1]
_CANDIDATES = 200
"""Films over which answers are weighed, as the expert does."""


def matching(experts: Registry, schema: Schema) -> list[Row]:
    """How often the best description is that of an expert that serves the sub-task."""
    descriptions = [expert.description for expert in experts.experts]
    found: dict[str, list[bool]] = {}
    for choice in choices(schema):
        if choice.sub_task != CHAT:  # which nobody serves
            best = int(np.argmax(experts.similarity(goal(schema, choice), descriptions)))
            found.setdefault(choice.sub_task, []).append(choice.sub_task in experts.experts[best].sub_tasks)
    rows = [
        Row("matching", f"{name}: right, of {len(right)} goals", float(np.mean(right)), "")
        for name, right in found.items()
    ]
    return [
        *rows,
        Row("matching", "right, mean over sub-tasks", float(np.mean([np.mean(r) for r in found.values()])), ""),
    ]


def memory_of(conversation: Conversation, turns: Sequence[Utterance], graph: KnowledgeGraph) -> Memory:
    """The memory of the first turns of a corpus dialogue, from its own links."""
    readings = [
        TurnReading(
            tuple(Link(m.start, m.end, graph.ids[m.entity], 1.0) for m in turn.mentions if m.entity is not None)
            if turn.role == Role.SEEKER
            else ()
        )
        for turn in conversation.turns[: len(turns)]
    ]
    return remember(turns, readings, graph)


def explained(conversations: Sequence[Conversation], turns: Sequence[ManagedTurn], graph: KnowledgeGraph) -> list[Row]:
    """The facts of the expert and of chance that reasons name, where a reason names any entity beside films."""
    by_id = {conversation.id: conversation for conversation in conversations}
    shares, dialogues = [], []
    for turn in turns:
        conversation, said = by_id[turn.dialogue.id], turn.dialogue.turns[turn.turn]
        if not {ActName.RECOMMEND, ActName.EXPLAIN} <= {act.name for act in conversation.turns[turn.turn].acts}:
            continue
        named = {spoken_name(graph, entity) for entity in said.entities if graph.kinds[entity] != "film"}
        film = next((film for film, _ in said.films), None)
        if film is None or not named:
            continue
        _, facts = shared_facts(film, memory_of(conversation, turn.before, graph), graph)
        given = {value for fact in facts if fact.film == 0 for value in fact.values}
        every = {value for attribute in RELATIONS for value in attribute_values(graph, film, attribute)}
        if given and every:
            shares.append((len(given & named) / len(given), len(every & named) / len(every)))
            dialogues.append(turn.dialogue.id)
    ours, chance = np.asarray(shares).T
    draws = significance.resample(dialogues)
    means = draws.means(np.asarray(shares))
    low, high = significance.interval(means[:, 0] / means[:, 1]) or (np.nan, np.nan)
    return [
        Row(
            "explanation", f"facts that the reason names, of {len(shares)} reasons", ours.mean(), "share", chance.mean()
        ),
        Row("explanation", f"ratio to a random fact [{low:.2f}, {high:.2f}]", ours.mean() / chance.mean(), ""),
    ]


def told(probabilities: np.ndarray, values: Sequence[Sequence[str]], target: int) -> float:
    """By how many nats the target's log-probability rises where the seeker answers with one of its values.

    Args:
      probabilities: float [I], of each film; they sum to 1.
      values: of each film.
      target: the place of the film that the seeker has in mind.
    """
    rises = []
    for value in values[target] or ("",):
        fits = np.asarray([(1 / max(len(own), 1)) if value in (own or ("",)) else 0.0 for own in values])
        rises.append(np.log(fits[target]) - np.log(probabilities @ fits))
    return float(np.mean(rises))


def elicited(
    conversations: Sequence[Conversation],
    turns: Sequence[ManagedTurn],
    scores: np.ndarray,
    graph: KnowledgeGraph,
    training: Sequence[Conversation],
    seed: int = 0,
) -> list[Row]:
    """What the expert's questions tell, beside those for genres and random ones.

    Args:
      conversations: of the split.
      turns: that ask for a preference.
      scores: float [n, I], log-probabilities of the items before each.
      graph: with genres.
      training: conversations from which follows how often an attribute is answered.
      seed: of the random attribute.
    """
    by_id = {conversation.id: conversation for conversation in conversations}
    rates, rng, items = answer_rates(training, graph), np.random.default_rng(seed), np.asarray(graph.items)
    expected, realised, dialogues, of_realised = [], [], [], []
    for turn, row in zip(turns, scores, strict=True):
        asked = memory_of(by_id[turn.dialogue.id], turn.before, graph).asked_for
        left = [attribute for attribute in ASKED if attribute not in asked] or list(ASKED)
        probabilities = np.exp(row - row.max())
        every = {gain.attribute: gain for gain in gains(graph, items, probabilities, ASKED, rates)}
        best = max(left, key=lambda attribute: every[attribute].nats)
        chosen = (best, ASKED[0], left[rng.integers(len(left))])
        expected.append([every[attribute].nats for attribute in chosen])
        dialogues.append(turn.dialogue.id)
        following = [film for said in turn.dialogue.turns[turn.turn :] if said.role == Role.RECOMMENDER
                     for film, _ in said.films]  # fmt: skip
        order = np.argsort(-probabilities, kind="stable")[:_CANDIDATES]
        place = np.flatnonzero(items[order] == following[0]) if following else np.zeros(0, int)
        if len(place):
            likely = probabilities[order] / probabilities[order].sum()
            of_each = {a: [values_of(graph, int(item), a) for item in items[order]] for a in set(chosen)}
            realised.append([rates[a] * told(likely, of_each[a], int(place[0])) for a in chosen])
            of_realised.append(turn.dialogue.id)
    rows = []
    for name, values, ids in (
        ("expected", expected, dialogues),
        ("of the film recommended next", realised, of_realised),
    ):
        table = np.asarray(values)
        ours, genre, other = table.T
        draws = significance.resample(ids)
        for peer, theirs in (("genre always", genre), ("a random attribute", other)):
            low, high = significance.interval(draws.means((ours - theirs)[:, None])[:, 0]) or (np.nan, np.nan)
            metric = f"{name}, {len(ids)} questions; peer: {peer}; difference [{low:.3f}, {high:.3f}]"
            rows.append(Row("elicitation", metric, ours.mean(), "nats", theirs.mean()))
    return rows


def main(
    config: str = "gorecdial:llmcrs",
    prepared: Path = Path("prepared"),
    runs: Path = Path("runs"),
    split: Literal["valid", "test"] = "test",
    json: Path | None = None,
    page: Path | None = None,
) -> None:
    """Measures the experts.

    Args:
      config: an experiment whose corpus `ecr prepare` prepared.
      prepared: the folder of prepared corpora.
      runs: the folder of runs; trained baselines that read no texts are experts too.
      split: what is measured.
      json: file to write the rows to.
      page: Markdown page to write.
    """
    settings = dataclasses.replace(configs.load(config), prepared=prepared, runs=runs)
    experiment = dataclasses.replace(open_experiment(settings), emotions=InMemoryEmotionLabels({}))
    graph, conversations = manager.graph_of(experiment), experiment.corpus.split(Split(split))
    turns = manager.turns_of(experiment, Split(split))
    asking = [turn for turn in turns if turn.label.choice.sub_task == ELICIT]
    scores = rlpf.recommender(experiment)(asking, Split(split))
    rows = [
        *matching(Agent(experiment).experts, manager.schema_of(experiment)),
        *explained(conversations, turns, graph),
        *elicited(conversations, asking, scores, graph, experiment.corpus.split(Split.TRAIN)),
    ]
    common.report(rows, f"experts, {settings.corpus.label}, {split}", json)
    if page is not None:
        command = f"python -m benchmarks.experts --config {config} --split {split}"
        common.page(rows, "Experts", INTRODUCTION, command, page)


if __name__ == "__main__":
    tyro.cli(main)
