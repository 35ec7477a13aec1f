"""Whether a run's recommendations follow what the seeker feels about films and genres.

    python -m benchmarks.feeling RUN... [--json docs/results/feeling.json] [--page docs/results/feeling.md]

Contrast pairs: a seeker who loved a film, or wants a genre, and one who hated it. A pair is counted as followed if the
share of the ten best new films that resemble it falls by a third or more. A film resembles another if it shares a
director or an actor, if it has at least half of their genres in common, or if it is among the films that training
dialogues name together with it most often.

Counterfactuals: how much of the ten best films of validation contexts is kept where their feelings are replaced, or
the items that co-occur with their mentions are taken away. The test split is not read.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from scipy.stats import binomtest

from benchmarks.tables import markdown
from ecr_jax.config import read_run, registry
from ecr_jax.data.acts import Attribute
from ecr_jax.data.schema import Role, Split, Turn
from ecr_jax.emotion.labels import EMOTIONS, PAD
from ecr_jax.features.batch_spec import Example
from ecr_jax.features.instances import evenly_spaced, recommendation_instances
from ecr_jax.files import replacing, write_json
from ecr_jax.inference.agent import Agent
from ecr_jax.knowledge.attributes import attribute_entities
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.knowledge.naming import genre_name
from ecr_jax.runs import machine
from ecr_jax.runs.context import ExperimentContext, open_experiment

TOP = 10
FALL = 1 / 3
"""The least relative fall of a share that counts as following the feeling."""

FILM_TEXTS = (
    ("I loved {}!", "I hated {}!"),
    ("{} is one of my favorite movies. What else should I see?", "{} was terrible. What else should I see?"),
)
GENRE_TEXTS = (
    ("I love {} movies.", "I hate {} movies."),
    ("I would like to see a {} movie.", "No more {} movies please."),
)
"""What the seeker says, with and against the film or genre."""

_NEIGHBOURS = 20
_BATCH = 64


@dataclass(frozen=True)
class Contrast:
    """Two turns that name the same entity with opposite feelings.

    Attributes:
      entity: its id.
      liked, hated: the seeker's words.
      resembling: by kind, the items that resemble the entity.
    """

    entity: int
    liked: str
    hated: str
    resembling: Mapping[str, frozenset[int]]


@dataclass(frozen=True)
class Row:
    """A measured share with its 95 % interval.

    Attributes:
      run: name of the run.
      case: which pairs, or what was changed.
      metric: what is measured.
      value, low, high: the share and its interval.
      n: number of pairs or contexts.
    """

    run: str
    case: str
    metric: str
    value: float
    low: float
    high: float
    n: int


# ------------------------------------------------------------------------------------------------------ resemblance


@dataclass(frozen=True)
class Resemblance:
    """Which items resemble each other.

    Attributes:
      items: entity ids.
      people, genres: of each item.
      together: by item, the items that training dialogues name together with it most often.
    """

    items: tuple[int, ...]
    people: Mapping[int, frozenset[int]]
    genres: Mapping[int, frozenset[int]]
    together: Callable[[int], frozenset[int]]

    @classmethod
    def of(cls, experiment: ExperimentContext) -> Resemblance:
        """Of the items of a corpus, by its graph and its film table."""
        graph = experiment.corpus.graph
        items = tuple(int(item) for item in graph.items)
        people = {item: frozenset(_attributes(graph, item, Attribute.DIRECTOR, Attribute.CAST)) for item in items}
        genres = {item: set(_attributes(graph, item, Attribute.GENRE)) for item in items}
        for film, genre in experiment.corpus.genres.tolist():
            genres.setdefault(film, set()).add(genre)
        counts = experiment.cooccurrence

        def together(item: int) -> frozenset[int]:
            ids, _ = counts.neighbours([item], _NEIGHBOURS)
            return frozenset(ids[0].tolist()) - {graph.pad}

        return cls(items, people, {item: frozenset(genres[item]) for item in items}, together)

    def to_film(self, film: int) -> dict[str, frozenset[int]]:
        """The items that resemble a film, by kind, other than itself; "any" joins the kinds."""
        others = [item for item in self.items if item != film]
        genres = self.genres[film]
        kinds = {
            "people": frozenset(item for item in others if self.people[item] & self.people[film]),
            "genres": frozenset(item for item in others if _mostly_shared(genres, self.genres[item])),
            "neighbours": self.together(film) - {film},
        }
        return {"any": frozenset().union(*kinds.values())} | kinds

    def of_genre(self, genre: int) -> dict[str, frozenset[int]]:
        """The items of a genre."""
        return {"genre": frozenset(item for item in self.items if genre in self.genres[item])}


def _mostly_shared(first: frozenset[int], second: frozenset[int]) -> bool:
    return 2 * len(first & second) >= max(1, len(first | second))


def _attributes(graph: KnowledgeGraph, item: int, *attributes: Attribute) -> Iterator[int]:
    for attribute in attributes:
        yield from attribute_entities(graph, item, attribute)


def contrasts(experiment: ExperimentContext, films: int, genres: int) -> Iterator[Contrast]:
    """Contrast pairs about the films that training recommends most often and about the genres of most films.

    Args:
      experiment: the run.
      films, genres: how many of each.
    """
    graph, resemblance = experiment.corpus.graph, Resemblance.of(experiment)
    for film, _ in Counter(experiment.recommended).most_common(films):
        resembling = resemblance.to_film(film)
        for liked, hated in FILM_TEXTS:
            title = graph.title(film)
            yield Contrast(film, liked.format(title), hated.format(title), resembling)
    sizes = Counter(genre for of_film in resemblance.genres.values() for genre in of_film)
    named = [genre for genre, _ in sizes.most_common() if genre_name(graph.uris[genre])]
    for genre in named[:genres]:
        name = genre_name(graph.uris[genre])
        for liked, hated in GENRE_TEXTS:
            yield Contrast(genre, liked.format(name), hated.format(name), resemblance.of_genre(genre))


# ------------------------------------------------------------------------------------------------------ measurement


def top_items(agent: Agent, contexts: Sequence[Example], mentioned: Sequence[Sequence[int]]) -> list[frozenset[int]]:
    """The ten best items of each context that were not mentioned there."""
    items, best = np.asarray(agent.experiment.corpus.graph.items), []
    for start in range(0, len(contexts), _BATCH):
        some = slice(start, start + _BATCH)
        probabilities = agent.item_probabilities(contexts[some])
        for row, known in zip(probabilities, mentioned[some], strict=True):
            order = np.argsort(-np.where(np.isin(items, known), -1.0, row), kind="stable")
            best.append(frozenset(items[order[:TOP]].tolist()))
    return best


def measure_contrasts(agent: Agent, pairs: Sequence[Contrast], name: str) -> list[Row]:
    """The shares of the top ten that resemble what is liked and what is hated, and how many pairs follow.

    A pair is left out where the entity is not found in the words, and for a kind where nothing resembling is among the
    ten best of the liked one.
    """
    dialogues = [agent.perceive([Turn(Role.SEEKER, text)]) for pair in pairs for text in (pair.liked, pair.hated)]
    texts = [turn.text_with_role for turns in dialogues for turn in turns]
    exchanges = agent.begin(dialogues, agent.experiment.encode_turns(texts, label="encode", cached=False))
    found = [exchange.context.entities for exchange in exchanges]
    best = top_items(agent, [exchange.arrays for exchange in exchanges], found)
    shares: dict[str, list[tuple[float, float]]] = {}
    for number, pair in enumerate(pairs):
        liked, hated = 2 * number, 2 * number + 1
        if pair.entity not in found[liked] or pair.entity not in found[hated]:
            continue
        for kind, resembling in pair.resembling.items():
            before, after = (len(best[place] & resembling) / TOP for place in (liked, hated))
            if before:
                shares.setdefault(kind, []).append((before, after))
    rows = []
    for kind, measured in shares.items():
        before, after = np.array(measured).T
        case = "genres" if kind == "genre" else f"films, {kind}"
        rows += [
            Row(name, case, "share where liked", *_mean(before)),
            Row(name, case, "share where hated", *_mean(after)),
        ]
        followed = int(np.sum(after <= (1 - FALL) * before + 1e-9))
        interval = binomtest(followed, len(before)).proportion_ci(method="wilson")
        share = followed / len(before)
        rows.append(Row(name, case, "pairs that follow", share, interval.low, interval.high, len(before)))
    return rows


def negative(context: Example) -> Example:
    """The context with "negative" in place of all emotions."""
    emotions = np.full_like(context["emotions"], PAD)
    probabilities = np.zeros_like(context["emotion_probs"])
    emotions[:, :1], probabilities[:, :1] = EMOTIONS.index("negative"), 1
    totals = np.zeros_like(context["emotion_totals"])
    totals[EMOTIONS.index("negative")] = context["emotion_totals"].sum()
    return {**context, "emotions": emotions, "emotion_probs": probabilities, "emotion_totals": totals}


def disliked(context: Example) -> Example:
    """The context with dislike of everything that is mentioned."""
    return {**context, "valence": np.full_like(context["valence"], -1)}


def without_cooccurrence(context: Example) -> Example:
    """The context without the items that co-occur with its mentions."""
    names = ("cooccurrence_weights", "liked_weights", "disliked_weights")
    return {**context, **{name: np.zeros_like(context[name]) for name in names}}


CHANGES: Mapping[str, Callable[[Example], Example]] = {
    "all emotions negative": negative,
    "everything mentioned is disliked": disliked,
    "both": lambda context: disliked(negative(context)),
    "no co-occurring items": without_cooccurrence,
}
"""What is changed in a context."""


def measure_changes(agent: Agent, limit: int, name: str) -> list[Row]:
    """How much of the top ten of validation contexts is kept under each of `CHANGES`; at most `limit` contexts."""
    experiment = agent.experiment
    dialogues = experiment.dialogues_with_valence(Split.VALID)
    instances = evenly_spaced(recommendation_instances(dialogues), limit)
    featurizer = experiment.featurizer(agent.tokenizer, evidence=True)
    contexts = [featurizer.context(dialogues[i.dialogue].turns[: i.turn]) for i in instances]
    mentioned = [context.entities for context in contexts]
    arrays = [featurizer.arrays(context) for context in contexts]
    before = top_items(agent, arrays, mentioned)
    rows = []
    for case, change in CHANGES.items():
        after = top_items(agent, [change(context) for context in arrays], mentioned)
        kept = np.array([len(a & b) / TOP for a, b in zip(before, after, strict=True)])
        rows.append(Row(name, case, "top ten kept", *_mean(kept)))
    return rows


def _mean(values: np.ndarray) -> tuple[float, float, float, int]:
    """The mean with its 95 % bootstrap interval, and the number of values."""
    draws = np.random.default_rng(0).integers(0, len(values), (1000, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), (2.5, 97.5))
    return float(values.mean()), float(low), float(high), len(values)


# ------------------------------------------------------------------------------------------------------------- page


INTRODUCTION = """\
Whether recommendations follow feelings, measured by `benchmarks/feeling.py`, which says how pairs and contexts are
chosen. In a contrast pair a seeker says one sentence: one loved a film or wants a genre, the other hated it. A pair
follows if the share of the ten best new films that resemble it falls by a third or more. Films resemble each other if
they share a director or an actor (people), at least half of their genres, or if training dialogues name them together
(neighbours). The last table changes validation contexts and counts how much of the ten best films is kept. In brackets
are 95 % intervals, over pairs and over contexts."""


def tables(rows: Sequence[Row]) -> str:
    """The rows as Markdown tables: contrast pairs, then changed contexts."""
    cells = {(row.run, row.case, row.metric): row for row in rows}
    cases = dict.fromkeys((row.run, row.case) for row in rows if row.metric == "pairs that follow")
    metrics = ("share where liked", "share where hated", "pairs that follow")
    pairs = [
        (run, case, str(cells[run, case, metrics[-1]].n), *(_cell(cells[run, case, metric]) for metric in metrics))
        for run, case in cases
    ]
    changes = [(row.run, row.case, str(row.n), _cell(row)) for row in rows if row.metric == "top ten kept"]
    return "\n\n".join(
        (
            markdown(("run", "resembling", "pairs", *metrics), pairs),
            markdown(("run", "changed", "contexts", "top ten kept"), changes),
        )
    )


def _cell(row: Row) -> str:
    return f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"


def measure(run: Path, films: int, genres: int, contexts: int) -> list[Row]:
    """All rows of a run whose stages `emotion` and `recommendation`, and `valence` where it is read, are trained."""
    trained = [stage for stage in registry.stages() if (run / stage.folder / "params.safetensors").is_file()]
    agent = Agent(open_experiment(read_run(run, trained)))
    pairs = list(contrasts(agent.experiment, films, genres))
    return measure_contrasts(agent, pairs, run.name) + measure_changes(agent, contexts, run.name)


def main(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    films: int = 60,
    genres: int = 12,
    contexts: int = 400,
    json: Path | None = None,
    page: Path | None = None,
) -> None:
    """Measures whether the recommendations of runs follow feelings.

    Args:
      runs: folders of trained runs.
      films: films in the contrast pairs, those recommended most often in training.
      genres: genres in the contrast pairs, those of most films.
      contexts: most validation contexts that are changed.
      json: where to write the rows.
      page: where to write the Markdown page.
    """
    rows = [row for run in runs for row in measure(run, films, genres, contexts)]
    Console().print(tables(rows))
    if json is not None:
        write_json(json, [dataclasses.asdict(row) for row in rows])
    if page is not None:
        command = f"`python -m benchmarks.feeling {' '.join(f'runs/{run.name}' for run in runs)}`"
        source = f"{command}, commit {machine.commit()}, {machine.hardware()}."
        with replacing(page) as temporary:
            temporary.write_text(f"# Feelings\n\n{INTRODUCTION}\n\n{tables(rows)}\n\n{source}\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
