"""Which recommended films are liked: cross-fitted over the train and validation splits, with and without feeling.

    python -m benchmarks.liking [--config redial] [--prepared prepared] [--runs runs] [--folds 5]
        [--into FOLDER] [--page FILE]

ReDial's validation split has too few dislikes to tell models apart. Here every answered target of both splits is
scored by a model that was fitted without its dialogue's fold, so that AUCs and their differences have ten times as
many dislikes. No test split is read and no language model is trained.

The model has the parts of the recommender's like-probability head (`models.heads.like_probability`), as one linear
model over features that need no text encoder: the turn (TF-IDF of the seeker's opening and of all the seeker said,
how far the dialogue has come), the item odds (`features.item_odds`; a training dialogue's own answers left out), and
the entities of the context with the item (co-occurrence in the other folds' dialogues, the own one left out). With
feeling, the turn also reads the valence of what the seeker named and answered and, where the run has its stage
`emotion`, the nine emotions; and the entities are weighted by valence as well. Valence is of the regressions over
n-grams (`emotion.ngram_valence`), fitted on the same folds, so that no answer of a dialogue's fold reaches its
features.

It minimises binary cross-entropy plus `pairs` times the pairwise logistic loss over the pairs of a liked and a
disliked target of one dialogue. Intervals are of a bootstrap over dialogues.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tyro
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks.tables import markdown
from ecr_jax import config as configs
from ecr_jax import metrics
from ecr_jax.config import Config
from ecr_jax.data.prepare import PreparedCorpus
from ecr_jax.data.schema import Conversation, Feedback, Role, Split
from ecr_jax.emotion import ngram_valence
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.evaluation import report
from ecr_jax.evaluation.measures import Measures
from ecr_jax.evaluation.predictions import Prediction
from ecr_jax.evaluation.provenance import environment
from ecr_jax.evaluation.report import Report
from ecr_jax.evaluation.rows import ReportRow, measure_models
from ecr_jax.evaluation.significance import Mean, PooledAuc, number_dialogues
from ecr_jax.evaluation.tables import cell_lines
from ecr_jax.features.dialogues import Dialogue, Emotions, Utterance, dialogues_of, seeker_ratings
from ecr_jax.features.instances import recommendation_instances
from ecr_jax.features.item_odds import ItemOdds
from ecr_jax.features.valence import MentionInContext, hashed, mentions_of, ngrams
from ecr_jax.files import replacing
from ecr_jax.models.hyperparameters import LIKE_PARTS
from ecr_jax.runs import machine
from ecr_jax.runs.context import EmotionLabels
from ecr_jax.stages.valence import fold_of

PAIRS = (0.0, 0.3, 1.0)
"""Weights of the pairwise loss, which are all reported."""

_OPENING_TURNS = 2  # of the seeker
_UNIT = 100.0  # as the entities' part of the recommender begins

Valences = Mapping[tuple[str, int, int], float]
"""(conversation id, index of the turn that tells, entity) -> P(like) - P(dislike)."""


@dataclass(frozen=True)
class Answer:
    """An answered target: the dialogue's number, the turn that recommends it, the item, and whether it is liked."""

    dialogue: int
    turn: int
    item: int
    liked: bool
    repeated: bool


@dataclass(frozen=True)
class Answers:
    """The answered targets of some dialogues.

    Attributes:
      dialogues: those of the train and validation splits.
      fold: int [D], of each dialogue.
      targets: the n answered targets, in order.
      entities: N.
    """

    dialogues: Sequence[Dialogue]
    fold: np.ndarray
    targets: Sequence[Answer]
    entities: int

    @classmethod
    def of(cls, dialogues: Sequence[Dialogue], folds: int, entities: int) -> Answers:
        """Finds the answered targets of the recommender's turns."""
        targets = [
            Answer(instance.dialogue, instance.turn, item, feedback == Feedback.LIKE, repeated)
            for instance in recommendation_instances(dialogues)
            for item, feedback, repeated in instance.targets
            if feedback != Feedback.UNSAID
        ]
        return cls(dialogues, np.array([fold_of(dialogue.id, folds) for dialogue in dialogues]), targets, entities)

    @cached_property
    def dialogue(self) -> np.ndarray:
        """int [n], of each target."""
        return np.array([target.dialogue for target in self.targets])

    @cached_property
    def liked(self) -> np.ndarray:
        """bool [n]."""
        return np.array([target.liked for target in self.targets])

    @cached_property
    def ratings(self) -> list[dict[int, int]]:
        """The answers of each dialogue, to films whoever named them."""
        return [seeker_ratings(dialogue) for dialogue in self.dialogues]

    def context(self, target: Answer) -> Sequence[Utterance]:
        """The turns before a target's."""
        return self.dialogues[target.dialogue].turns[: target.turn]

    def pairs(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pairs of a liked and a disliked target of one dialogue among `chosen`, bool [n]: int [p] each."""
        indices = np.flatnonzero(chosen)
        codes = np.where(self.liked[indices], metrics.LIKE, metrics.DISLIKE)
        liked, disliked, _ = metrics.like_dislike_pairs(np.zeros(len(indices)), codes, self.dialogue[indices])
        return indices[liked], indices[disliked]


# ----------------------------------------------------------------------------------------------------------- features


def ngram_valences(
    conversations: Sequence[Conversation], ids: Mapping[str, int], folds: int, config: Config
) -> Valences:
    """How what a seeker names, and what a recommender names and the seeker answers to, is felt about; out of fold."""
    mentions = [*mentions_of(conversations), *mentions_of(conversations, Role.RECOMMENDER)]
    mentions = [m for m in mentions if m.own.role == Role.SEEKER or m.answer is not None]
    grams = [hashed(ngrams(mention), config.valence.ngram_buckets) for mention in mentions]
    fold = np.array([fold_of(mention.conversation, folds) for mention in mentions])
    classes = np.array([-1 if m.class_index is None else m.class_index for m in mentions])
    asked = np.flatnonzero(classes >= 0)
    model = ngram_valence.fit(
        [grams[index] for index in asked],
        classes[asked],
        fold[asked],
        count=folds,
        buckets=config.valence.ngram_buckets,
        inverse_strength=config.valence.inverse_strength,
    )
    scores = model.scores(grams)[fold, np.arange(len(mentions))]  # [n, 2]
    told = expit(-scores[:, 1]) * np.tanh(scores[:, 0] / 2)  # P(not unclear) * (P(like) - P(dislike))
    return {
        (mention.conversation, _told_in(mention), ids[mention.mention.entity]): float(value)
        for mention, value in zip(mentions, told, strict=True)
        if mention.mention.entity in ids
    }


def _told_in(mention: MentionInContext) -> int:
    """The index of the turn after which the valence of a mention is known."""
    return mention.turn + (mention.own.role != Role.SEEKER)


def texts(answers: Answers, opening: bool) -> list[str]:
    """What the seeker said before each target, or the first turns of it."""
    spoken = [[turn.masked for turn in answers.context(t) if turn.role == Role.SEEKER] for t in answers.targets]
    return [" ".join(turns[:_OPENING_TURNS] if opening else turns) for turns in spoken]


def position(answers: Answers) -> np.ndarray:
    """How far the dialogue has come: logarithms of the turn and of the films that either has named. [n, 3]."""
    rows = []
    for target in answers.targets:
        named = {role: sum(len(t.films) for t in answers.context(target) if t.role == role) for role in Role}
        rows.append((np.log(target.turn), np.log1p(named[Role.SEEKER]), np.log1p(named[Role.RECOMMENDER])))
    return np.array(rows)


def feeling(answers: Answers, valences: Valences) -> np.ndarray:
    """What the seeker felt before each target: valence of what they named and answered to, and emotions. [n, 17]."""
    rows = []
    for target in answers.targets:
        dialogue, context = answers.dialogues[target.dialogue], answers.context(target)
        told = {role: [valence for at, valence in _told(dialogue, context, valences) if at == role] for role in Role}
        row: list[float] = []
        for values in (told[Role.SEEKER], told[Role.RECOMMENDER]):
            row += [float(np.mean(values)), min(values), values[-1], 0.0] if values else [0.0, 0.0, 0.0, 1.0]
        totals = np.zeros(len(EMOTIONS))
        for label, probability in (emotion for turn in context for emotion in turn.emotions):
            totals[label] += probability
        rows.append([*row, *np.log1p(totals)])
    return np.array(rows)


def _told(dialogue: Dialogue, context: Sequence[Utterance], valences: Valences) -> Iterator[tuple[Role, float]]:
    """The known valences of a context's mentions, with who named them, in the order in which they are told."""
    for index, turn in enumerate(context):
        before = context[index - 1].entities if index else ()
        for role, entities in ((Role.RECOMMENDER, before), (Role.SEEKER, turn.entities)):
            for entity in entities if turn.role == Role.SEEKER else ():
                if (value := valences.get((dialogue.id, index, entity))) is not None:
                    yield role, value


def item_odds(answers: Answers, training: np.ndarray, shrinkage: float) -> np.ndarray:
    """The shrunk log odds of each target's item from the training dialogues, the own one left out. [n].

    Args:
      answers: the targets.
      training: bool [D], the dialogues whose answers are counted.
      shrinkage: see `ItemOdds`.
    """
    counted = ItemOdds.of((answers.ratings[index] for index in np.flatnonzero(training)), answers.entities, shrinkage)
    odds = counted.log_odds()
    shifts = {
        index: dict(zip(answers.ratings[index], counted.own_shift(answers.ratings[index]).tolist(), strict=True))
        for index in np.flatnonzero(training)
    }
    return np.array([odds[t.item] + shifts.get(t.dialogue, {}).get(t.item, 0.0) for t in answers.targets])


def entity_mass(answers: Answers, training: np.ndarray, valences: Valences) -> np.ndarray:
    """What co-occurs with the context's entities, at each target's item: all, and weighted by valence. [n, 2].

    As the entities' part of the like-probability head, with the counts of the training dialogues, the own one left out.
    """
    width = answers.entities
    mentioned = [sorted({e for turn in dialogue.turns for e in turn.entities}) for dialogue in answers.dialogues]
    rows = np.repeat(np.arange(len(mentioned)), [len(entities) for entities in mentioned])
    columns = np.array([entity for entities in mentioned for entity in entities], np.int64)
    shape = (len(mentioned), width)
    all_mentions = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape)
    counted = sparse.csr_array(all_mentions.multiply(training[:, None].astype(float)))
    pairs = sparse.csr_array(counted.T @ counted)
    alone = np.asarray(counted.sum(axis=0)).ravel()  # dialogues that mention each entity
    totals = np.asarray(pairs.sum(axis=1)).ravel() - alone  # pairs with another entity
    masses = np.zeros((len(answers.targets), 2))
    for row, target in enumerate(answers.targets):
        dialogue, context = answers.dialogues[target.dialogue], answers.context(target)
        felt = {entity: 0.0 for turn in context for entity in turn.entities if entity != target.item}
        for index, turn in enumerate(context):
            named = (*turn.entities, *(context[index - 1].entities if index else ()))
            felt |= {
                e: valences[dialogue.id, index, e] for e in named if e in felt and (dialogue.id, index, e) in valences
            }
        if not felt:
            continue
        own = int(training[target.dialogue])
        start, end = pairs.indptr[target.item], pairs.indptr[target.item + 1]
        with_item = dict(zip(pairs.indices[start:end].tolist(), pairs.data[start:end].tolist(), strict=True))
        own_pairs = own * (len(mentioned[target.dialogue]) - 1)
        shares = np.array([
            max(with_item.get(entity, 0.0) - own, 0.0) / max(totals[entity] - own_pairs, 1.0) for entity in felt
        ])  # fmt: skip
        weights = np.array([[1.0, valence] for valence in felt.values()])
        masses[row] = shares @ weights / np.sqrt(len(felt) * max(alone[target.item] - own, 0.5))
    return np.arcsinh(_UNIT * masses)


# -------------------------------------------------------------------------------------------------------------- model


def design(
    answers: Answers, training: np.ndarray, valences: Valences, shrinkage: float
) -> dict[bool, dict[str, sparse.csr_array]]:
    """The features of all targets for the models that are fitted on the dialogues `training`, bool [D].

    Returns:
      Whether with feeling -> part -> its columns; the parts of `LIKE_PARTS` but the total.
    """
    fitted = training[answers.dialogue]
    blocks = []
    for opening in (True, False):
        said = texts(answers, opening)
        vectorizer = TfidfVectorizer(min_df=3, ngram_range=(1, 2), sublinear_tf=True)
        vectorizer.fit([text for text, chosen in zip(said, fitted, strict=True) if chosen])
        blocks.append(sparse.csr_array(vectorizer.transform(said)))
    repeated = np.array([[float(target.repeated)] for target in answers.targets])
    blocks += [_standardised(block, fitted) for block in (position(answers), repeated)]
    felt = _standardised(feeling(answers, valences), fitted)
    mass = _standardised(entity_mass(answers, training, valences), fitted)
    odds = _standardised(item_odds(answers, training, shrinkage)[:, None], fitted)
    return {
        with_feeling: {
            "turn": sparse.csr_array(sparse.hstack([*blocks, felt] if with_feeling else blocks)),
            "item": odds,
            "entities": mass if with_feeling else sparse.csr_array(mass[:, :1]),
        }
        for with_feeling in (True, False)
    }


def _standardised(block: np.ndarray, fitted: np.ndarray) -> sparse.csr_array:
    """Columns of mean 0 and standard deviation 1 over the rows that the model is fitted on."""
    mean, deviation = block[fitted].mean(axis=0), block[fitted].std(axis=0)
    return sparse.csr_array((block - mean) / np.where(deviation > 0, deviation, 1.0))


def fit(
    features: sparse.csr_array,
    liked: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    *,
    pair_weight: float,
    l2: float,
) -> np.ndarray:
    r"""The weights of least loss, without the intercept, which changes no order. float [F].

    .. math:: \frac{1}{n} \sum_i \log(1 + e^{-y_i (w x_i + b)}) + \frac{\lambda}{p} \sum_{(l, d)}
       \log(1 + e^{-w (x_l - x_d)}) + \frac{\alpha}{2} |w|^2

    Args:
      features: [n, F].
      liked: bool [n].
      pairs: indices of the liked and of the disliked target of each pair, int [p] each.
      pair_weight: lambda.
      l2: alpha.
    """
    signs = np.where(liked, 1.0, -1.0)
    differences = sparse.csr_array(features[pairs[0]] - features[pairs[1]])
    weight_of_pair = pair_weight / max(len(pairs[0]), 1)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, margins = flat[1:], signs * (features @ flat[1:] + flat[0])
        ahead = differences @ weights
        value = np.logaddexp(0, -margins).mean() + weight_of_pair * np.logaddexp(0, -ahead).sum()
        to_margins = -signs * expit(-margins) / len(signs)
        gradient = features.T @ to_margins - differences.T @ (weight_of_pair * expit(-ahead)) + l2 * weights
        return float(value + l2 / 2 * weights @ weights), np.concatenate([[to_margins.sum()], gradient])

    return minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B").x[1:]


def cross_fit(
    answers: Answers, valences: Valences, folds: int, shrinkage: float, l2: float = 3e-3
) -> dict[tuple[bool, float], dict[str, np.ndarray]]:
    """Out-of-fold log odds of all targets.

    Returns:
      (whether with feeling, weight of the pairwise loss) -> part of `LIKE_PARTS` -> float [n].
    """
    models = [(with_feeling, weight) for with_feeling in (True, False) for weight in PAIRS]
    scores = {model: {part: np.zeros(len(answers.targets)) for part in LIKE_PARTS} for model in models}
    for fold in range(folds):
        training = answers.fold != fold
        fitted = training[answers.dialogue]
        number = np.cumsum(fitted) - 1  # of each target among the fitted ones
        liked, disliked = (number[of_pair] for of_pair in answers.pairs(fitted))
        designs = design(answers, training, valences, shrinkage)
        for (with_feeling, weight), of_parts in scores.items():
            parts = designs[with_feeling]
            features = sparse.csr_array(sparse.hstack([*parts.values()]))[fitted]
            learned = fit(features, answers.liked[fitted], (liked, disliked), pair_weight=weight, l2=l2)
            start = 0
            for name, block in parts.items():
                values = block[~fitted] @ learned[start : start + block.shape[1]]
                of_parts[name][~fitted] = values
                of_parts["total"][~fitted] += values
                start += block.shape[1]
    return scores


# ------------------------------------------------------------------------------------------------------------ measure


def auc_measures(rows: Sequence[Prediction], catalogue: object = None, auc_batch: int = 32) -> Measures:
    """auc_pooled and auc_dialogue of rows by their scores; the other arguments are those of a `MeasureFunction`."""
    score = np.array([row.score for row in rows])
    codes = np.array([metrics.LIKE if row.feedback == Feedback.LIKE else metrics.DISLIKE for row in rows])
    dialogue, dialogues = number_dialogues([row.conversation for row in rows])
    liked, _, wins = metrics.like_dislike_pairs(score, codes, dialogue)
    return {
        ("all", "auc_pooled"): PooledAuc(score, codes, dialogue, dialogues),
        ("all", "auc_dialogue"): Mean.of(wins, dialogue[liked], dialogues),
    }


def predictions(answers: Answers, model: str, scores: np.ndarray) -> list[Prediction]:
    """Prediction rows of out-of-fold scores; nothing is ranked, so that ranks are 0."""
    return [
        Prediction(
            model,
            answers.dialogues[target.dialogue].id,
            target.turn,
            target.item,
            Feedback.LIKE if target.liked else Feedback.DISLIKE,
            target.repeated,
            0.0,
            float(score),
        )
        for target, score in zip(answers.targets, scores, strict=True)
    ]


def measure(config: Config, folds: int, resamples: int) -> tuple[list[ReportRow], str]:
    """Cross-fits with and without feeling.

    Returns:
      AUCs of every part and model, with the paired differences of the totals; and what was read, in a sentence.
    """
    corpus = PreparedCorpus.open(config.prepared_folder)
    emotions, has_emotions = _emotions(config)
    conversations = [c for split in (Split.TRAIN, Split.VALID) for c in corpus.split(split)]
    dialogues = dialogues_of(conversations, corpus.graph.ids, corpus.graph.items, emotions)
    answers = Answers.of(dialogues, folds, len(corpus.graph))
    valences = ngram_valences(conversations, corpus.graph.ids, folds, config)
    shrinkage = config.recommender.heads.odds_shrinkage
    models = {}
    for (with_feeling, weight), parts in cross_fit(answers, valences, folds, shrinkage).items():
        for part, scores in parts.items():
            name = model_name(part, weight, with_feeling)
            models[name] = [predictions(answers, name, scores)]
    pairs = [(model_name("total", w, True), model_name("total", w, False)) for w in PAIRS]
    rows = measure_models(
        models, config.corpus.label, "train+valid", pairs=pairs, measure=auc_measures, resamples=resamples,
        seed=config.seed,
    )  # fmt: skip
    dislikes = int((~answers.liked).sum())
    dialogues_answered = len(set(answers.dialogue.tolist()))
    pairs_within = len(answers.pairs(np.ones(len(answers.targets), bool))[0])
    felt = "valence and the nine emotions" if has_emotions else "valence alone, without the nine emotions"
    read = (
        f"{len(answers.targets)} answered targets of {dialogues_answered} dialogues, {dislikes} of them disliked; "
        f"{pairs_within} pairs within dialogues; {folds} folds; feeling is {felt}"
    )
    return rows, read


def model_name(part: str, pair_weight: float, with_feeling: bool) -> str:
    """What rows and tables call a part of a model."""
    return f"{part}, {'with' if with_feeling else 'without'} feeling, pairs {pair_weight:g}"


def _emotions(config: Config) -> tuple[Mapping[tuple[str, int], Emotions], bool]:
    """The run's emotion labels, and whether it has any."""
    path = config.stage_folder("emotion") / "emotions.parquet"
    return (EmotionLabels(path).by_turn, True) if path.is_file() else ({}, False)


_INTRODUCTION = """\
# Liked and disliked films, cross-fitted

How well recommended films that the seeker likes are told from those that they dislike. All scores are out of fold:
every answered target of ReDial's train and validation splits is scored by a model that was fitted without its
dialogue's fold. `auc_pooled` compares films of all seekers, `auc_dialogue` those of one seeker. *turn*, *item* and
*entities* are the parts that *total* is a sum of, as in the recommender's like-probability head; "pairs" is the
weight of the pairwise loss beside the binary cross-entropy. `benchmarks/liking.py` says what each part reads. The
recommender itself is not measured here.
"""


def markdown_page(rows: Sequence[ReportRow], read: str, command: str) -> str:
    """The Markdown page: AUCs of all parts, then the differences that feeling makes."""
    cells = {(row.model, row.metric): row for row in rows}
    kinds = ("auc_pooled", "auc_dialogue")

    def table(models: Sequence[str]) -> str:
        body = [[model, *(" ".join(cell_lines(cells.get((model, kind)))) for kind in kinds)] for model in models]
        return markdown(["model", *kinds], body)

    names = list(dict.fromkeys(row.model for row in rows))
    source = f"`{command}`, commit {machine.commit()}, {machine.hardware()}."
    return "\n".join([
        _INTRODUCTION,
        f"{read[0].upper()}{read[1:]}. 95 % intervals over dialogues.",
        "",
        table([name for name in names if " - " not in name]),
        "",
        "**With feeling less without: paired differences**",
        "",
        table([name for name in names if " - " in name]),
        "",
        source,
        "",
    ])  # fmt: skip


def main(
    config: str = "redial",
    prepared: Path = Path("prepared"),
    runs: Path = Path("runs"),
    folds: int = 5,
    resamples: int = 1000,
    into: Path | None = None,
    page: Path | None = None,
) -> None:
    """Cross-fits which recommended films are liked, with and without feeling, and prints the page.

    Args:
      config: name of the config whose corpus `ecr prepare` prepared.
      prepared: the folder of prepared corpora.
      runs: the folder of runs; where the config's run has the stage `emotion`, its labels are read.
      folds: into how many parts the dialogues are split.
      resamples: of the bootstrap over dialogues.
      into: folder to write report.json and report.html to.
      page: the Markdown file to write.
    """
    settings = dataclasses.replace(configs.load(config), prepared=prepared, runs=runs)
    rows, read = measure(settings, folds, resamples)
    command = f"python -m benchmarks.liking --config {config} --folds {folds}"
    text = markdown_page(rows, read, command)
    print(text)
    if into is not None:
        report.write(Report(tuple(rows), environment() | {"command": command}), into)
    if page is not None:
        with replacing(page) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m benchmarks.liking")
