"""The emotion classifier of a run, or an annotation of `ecr annotate`, on 200 labelled seeker turns of ReDial.

    python -m benchmarks.emotion runs/redial [runs/other ...] [--annotations prepared/annotations/redial/LABEL ...]

`seeker_emotions.jsonl` beside this file has ids and labels alone: ReDial's `conversationId`, the turn (messages of one
speaker in a row are one turn, counted from 0), one or two of the nine emotions, the more prominent one first, and how
the seeker feels about each film that the turn marks, in order.

Where they come from: 200 of the 1,000 dialogues of ReDial's validation split (UniCRS's), and one seeker turn of each,
drawn with numpy's `default_rng(0)`. One annotator read each turn, with the recommender's turn before it, and labelled
it without seeing a prediction. The annotator is a large language model, not a person, and read every turn by itself
rather than through a prompt of this project; nobody labelled twice, so there is no agreement to report, and other
readers will differ, most of all between like and agreement. Rules: a second label where it is as clear as the first;
"neutral" stands alone, for greetings, goodbyes and statements without a feeling; good wishes are "happy"; accepting a
suggestion is "agreement"; asking for films is "curious"; a film is liked where the seeker enjoyed it, wants to watch it
or wants something of its kind, and "unclear" where the turn does not say. ReDial is CC BY 4.0.

Measures, with 95 % intervals over the 200 dialogues: Recall@2 (labels among the two most probable), macro F1 of the top
label, expected calibration error (ten equal bins of the top label's probability, against how often it is one of the
labels), and for films the accuracy of the valence of an annotation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from sklearn.metrics import f1_score

from ecr_jax.config import read_run, registry
from ecr_jax.data.prepare import PreparedCorpus
from ecr_jax.data.schema import Conversation, Role
from ecr_jax.emotion.annotation import Annotations
from ecr_jax.emotion.labels import EMOTIONS, from_names
from ecr_jax.evaluation.significance import interval, resample
from ecr_jax.features.tokenizer import with_role
from ecr_jax.files import read_jsonl_rows, write_json
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages.emotion_model import classify

LABELLED = Path(__file__).with_name("seeker_emotions.jsonl")
_BINS = 10
_RESAMPLES = 1000


@dataclass(frozen=True)
class LabelledTurn:
    """A seeker turn with its emotions, and the valence of each film that the corpus marks in it."""

    conversation: str
    turn: int
    emotions: tuple[int, ...]
    films: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """One number with its interval, None where it has none; n turns or films."""

    of: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int


def read_labelled(path: Path = LABELLED) -> list[LabelledTurn]:
    """The labelled turns."""
    return [
        LabelledTurn(row["conversation"], row["turn"], from_names(row["emotions"]), tuple(row["films"]))
        for row in read_jsonl_rows(path)
    ]


def measure(of: str, probabilities: np.ndarray, labelled: Sequence[LabelledTurn]) -> list[Figure]:
    """Recall@2, macro F1 and calibration of probabilities [n, 9] for labelled turns, one of each dialogue.

    The interval of a measure that is no mean, macro F1 and calibration, takes it anew in every resample.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    truth = [turn.emotions for turn in labelled]
    recall = np.array([len({*order[i, :2]} & {*labels}) / len(labels) for i, labels in enumerate(truth)])
    hit = np.array([order[i, 0] in labels for i, labels in enumerate(truth)], float)
    first = np.array([max(labels, key=lambda label: probabilities[i, label]) for i, labels in enumerate(truth)])
    confidence = probabilities.max(axis=1)

    def macro_f1(rows: np.ndarray) -> float:
        return float(f1_score(first[rows], order[rows, 0], labels=np.unique(first), average="macro", zero_division=0))

    measures = {
        "recall@2": lambda rows: float(recall[rows].mean()),
        "top label right": lambda rows: float(hit[rows].mean()),
        "macro F1": macro_f1,
        "calibration error": lambda rows: calibration_error(confidence[rows], hit[rows]),
    }
    draws = resample([turn.conversation for turn in labelled], _RESAMPLES)
    samples = [np.repeat(draws.dialogue.argsort(), counts.astype(int)) for counts in draws.draws]
    everything = np.arange(len(labelled))
    figures = []
    for metric, function in measures.items():
        low, high = interval(np.array([function(rows) for rows in samples])) or (None, None)
        figures.append(Figure(of, metric, function(everything), low, high, len(labelled)))
    return figures


def calibration_error(confidence: np.ndarray, hit: np.ndarray) -> float:
    """Expected calibration error: the mean distance of confidence and hits in ten equal bins, weighted by their size.

    Args:
      confidence: [n] probability of the top label.
      hit: [n] 1 where it is right.

    Reference: Guo et al. 2017, "On Calibration of Modern Neural Networks", Eq. 5.
    """
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, confidence - hit, _BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def classifier_probabilities(run: Path, labelled: Sequence[LabelledTurn], prepared: Path | None) -> np.ndarray:
    """The probabilities [n, 9] that a run's classifier gives to labelled turns."""
    config = read_run(run, [registry.find("emotion")])
    if prepared is not None:
        config = dataclasses.replace(config, prepared=prepared)
    experiment = open_experiment(config)
    texts = [turn.text for turn in seeker_turns(experiment.corpus.conversations, labelled)]
    return classify(experiment, [with_role(Role.SEEKER, text) for text in texts])


def seeker_turns(conversations: Sequence[Conversation], labelled: Sequence[LabelledTurn]) -> list:
    """The turns of a corpus that are labelled. Raises ValueError where the corpus is not the one they are of."""
    by_id: Mapping[str, Conversation] = {conversation.id: conversation for conversation in conversations}
    turns = []
    for turn in labelled:
        conversation = by_id.get(turn.conversation)
        found = None if conversation is None or turn.turn >= len(conversation.turns) else conversation.turns[turn.turn]
        if found is None or found.role != Role.SEEKER:
            raise ValueError(
                f"the corpus has no seeker turn {turn.turn} in dialogue {turn.conversation}: the labels are of "
                "ReDial's validation split as UniCRS has it; prepare it with --config redial"
            )
        turns.append(found)
    return turns


def measure_annotations(folder: Path, labelled: Sequence[LabelledTurn]) -> list[Figure]:
    """What an annotation's labels are worth on the labelled turns that it has; turns it lacks are counted apart."""
    annotations = Annotations.load(folder)
    of = f"{folder.parent.name}/{folder.name}"
    there = [turn for turn in labelled if (turn.conversation, turn.turn) in annotations.by_turn]
    figures = [Figure(of, "turns that are missing", len(labelled) - len(there), None, None, len(labelled))]
    if not there:
        return figures
    made = [annotations.by_turn[turn.conversation, turn.turn] for turn in there]
    figures += measure(of, np.array([annotation.distribution() for annotation in made]), there)
    corpus = PreparedCorpus.open(folder.parent.parent.parent / folder.parent.name)
    right = []
    for turn, annotation, found in zip(there, made, seeker_turns(corpus.conversations, there), strict=True):
        marked = [mention.feedback is not None for mention in found.mentions if mention.film]
        valences = [valence for valence, is_marked in zip(annotation.valences, marked, strict=True) if is_marked]
        right += [truth == valence for truth, valence in zip(turn.films, valences, strict=True)]
    if right:
        figures.append(Figure(of, "valence of films right", float(np.mean(right)), None, None, len(right)))
    return figures


def majority(labelled: Sequence[LabelledTurn]) -> np.ndarray:
    """The label frequencies of the labelled turns themselves for every turn, [n, 9]: what needs no text at all."""
    counts = np.bincount([label for turn in labelled for label in turn.emotions], minlength=len(EMOTIONS))
    return np.tile(counts / counts.sum(), (len(labelled), 1))


def main(
    runs: tyro.conf.Positional[tuple[Path, ...]] = (),
    annotations: tuple[Path, ...] = (),
    prepared: Path | None = None,
    json: Path | None = None,
) -> None:
    """Measures emotion classifiers and annotations on 200 labelled seeker turns of ReDial.

    Args:
      runs: folders of runs on ReDial with a trained stage `emotion`.
      annotations: folders of `ecr annotate`.
      prepared: the folder of prepared corpora, where it is not that of the runs.
      json: file to write the rows to.
    """
    labelled = read_labelled()
    figures = measure("label frequencies", majority(labelled), labelled)
    for run in runs:
        figures += measure(str(run), classifier_probabilities(run, labelled, prepared), labelled)
    for folder in annotations:
        figures += measure_annotations(folder, labelled)
    table = Table("of", "metric", "value", "95 % interval", "n")
    for row in figures:
        bounds = "" if row.low is None else f"[{row.low:.3f}, {row.high:.3f}]"
        table.add_row(row.of, row.metric, f"{row.value:.3f}", bounds, str(row.n))
    Console().print(table)
    if json is not None:
        write_json(json, [dataclasses.asdict(row) for row in figures])


if __name__ == "__main__":
    tyro.cli(main)
