"""Stage `valence`: how each mention of a seeker is felt about, as probabilities of like, dislike and unclear.

Data: the seekers' forms: every film that a seeker names, and with `recommender_films` every film of a recommender with
the seeker's answer. Trains `models.valence.ValenceModel` over the frozen text encoder's token states with their place
relative to the mention (loss: class-weighted cross-entropy), and logistic regressions over hashed n-grams around it.
Training dialogues are split into folds by their ids, and one model a fold is trained on the others, in one training.
Selects by the AUC (liked above disliked) of the seekers' mentions in the training split, each scored by the model that
did not see its dialogue, so that the validation split selects nothing. The same out-of-fold scores decide how both
models are added up and calibrated: their own calibration error is optimistic, that of validation is not.

Writes, besides what every stage writes:

- valence.parquet: for every mention in a seeker's turn, of films, genres, people and whatever else is linked, the
  columns conversation, turn, start, end, entity (id, missing where it is not linked), like, dislike, unclear. Labels of
  training dialogues are out of fold; those of other dialogues come from the mean of all models. A label follows from
  its own turn and the turn before it, so that it is known as soon as the turn is. `ExperimentContext.valence` reads the
  table: `experiment.valence.by_mention[conversation, turn, entity] == (like, dislike, unclear)`.
- ngrams.safetensors: the regressions. params.safetensors holds the parameters of the model over states.
- valence.json: measures on validation and of the out-of-fold scores, TF-IDF baselines on the same mentions, results on
  `emotion/contrasts.jsonl`, and the calibration.

In a running dialogue, `labeller(experiment)` labels the mentions of one turn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from ecr_jax.config.registry import StageSpec
from ecr_jax.data.schema import Role, Split, Turn
from ecr_jax.emotion import contrasts, ngram_valence
from ecr_jax.emotion.ngram_valence import NgramModel
from ecr_jax.features.batch_spec import BatchSpec
from ecr_jax.features.batches import Batches, bucket_shapes
from ecr_jax.features.text_states import TextStates
from ecr_jax.features.tokenizer import with_role
from ecr_jax.features.valence import (
    BARRIERS,
    PLACES,
    VALENCES,
    MentionInContext,
    ValenceExamples,
    hashed,
    mentions_in_turn,
    mentions_of,
    ngrams,
)
from ecr_jax.files import write_json, write_parquet
from ecr_jax.metrics import DISLIKE, LIKE, UNSAID, auc_pooled, calibration_error
from ecr_jax.models.sharding_rules import valence_rules
from ecr_jax.models.valence import ValenceModel
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.training.checkpoint import read_params, write_params
from ecr_jax.training.evaluation import jit_over_rows
from ecr_jax.training.loop import fit
from ecr_jax.training.step import Batch, Loss, Tree

_FEEDBACK = np.array([LIKE, DISLIKE, UNSAID])
"""The code of `metrics` for each class of `VALENCES`."""

_PREDICTION_BATCH = 256
_MODEL_INPUTS = ("states", "state_mask", "place", "barriers")


def valence_model(experiment: ExperimentContext) -> ValenceModel:
    """The stage's model; a run holds `folds` sets of its parameters."""
    settings = experiment.config.valence
    return ValenceModel(
        classes=len(VALENCES),
        places=PLACES,
        barriers=BARRIERS,
        hidden=settings.hidden,
        heads=settings.heads,
        dropout=settings.dropout,
    )


def fold_of(conversation: str, folds: int) -> int:
    """The fold of a training dialogue, in [0, folds): from its id alone, the same on every machine."""
    digest = hashlib.sha256(f"fold\0{conversation}".encode()).digest()
    return int.from_bytes(digest[:6], "big") % folds


def combine(logits: np.ndarray, folds: Sequence[int]) -> np.ndarray:
    """One row of logits a mention: of the model that did not see its dialogue, or the mean of all.

    Args:
      logits: [K, n, C], of each fold's model, which was trained without that fold.
      folds: the fold of each mention's dialogue; -1 where no model saw it.

    Returns:
      [n, C].
    """
    of = np.asarray(folds)
    own = logits[np.maximum(of, 0), np.arange(len(of))]
    return np.where((of >= 0)[:, None], own, logits.mean(axis=0))


@dataclass(frozen=True)
class Calibration:
    """A linear map from the scores of both models to logits, whose soft-max is calibrated.

    Attributes:
      weights: [scores, C].
      bias: [C]; with the weights it undoes the class weights of the losses.
      prior: [C], the classes' shares among the mentions.
    """

    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    prior: tuple[float, ...]

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """[n, scores] -> calibrated probabilities [n, C]."""
        return softmax(np.asarray(scores, np.float64) @ np.asarray(self.weights) + np.asarray(self.bias), axis=1)

    @property
    def border(self) -> float:
        """The preference that the classes' shares alone give: what is said decides above and below it."""
        return float(preference(np.asarray([self.prior]))[0])


def calibrate(scores: np.ndarray, classes: np.ndarray, count: int = len(VALENCES)) -> Calibration:
    """The map of least cross-entropy, slightly regularised (matrix scaling, Guo et al. 2017; stacking, Wolpert 1992).

    Args:
      scores: [n, scores], of mentions that the models were not trained on.
      classes: int [n].
      count: C.
    """
    prior = (np.bincount(classes, minlength=count) + 1) / (len(classes) + count)
    inputs = np.concatenate([np.asarray(scores, np.float64), np.ones((len(classes), 1))], axis=1)
    truth = np.eye(count)[classes]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(-1, count)
        log_probabilities = log_softmax(inputs @ weights, axis=1)
        gradient = inputs.T @ (np.exp(log_probabilities) - truth) / len(classes)
        value = -np.sum(truth * log_probabilities) / len(classes) + 1e-4 * np.sum(weights**2)
        return float(value), (gradient + 2e-4 * weights).ravel()

    start = np.zeros((inputs.shape[1], count))
    start[-1] = np.log(prior)
    best = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B").x.reshape(-1, count)
    return Calibration(tuple(map(tuple, best[:-1].tolist())), tuple(best[-1].tolist()), tuple(prior.tolist()))


def preference(probabilities: np.ndarray) -> np.ndarray:
    """log P(like) - log P(dislike) of each mention: what the AUC ranks by. [n, 3] -> [n]."""
    log_probabilities = np.log(np.maximum(probabilities, 1e-12))
    return log_probabilities[:, 0] - log_probabilities[:, 1]


def measure(probabilities: np.ndarray, classes: np.ndarray, border: float) -> dict[str, float]:
    """AUC of liked above disliked, accuracies and calibration error of labelled mentions.

    `accuracy` is that of the most probable class; `balanced_accuracy` is the mean over liked and disliked mentions of
    how often the preference is on their side of `border`.
    """
    scores = preference(probabilities)
    likes = scores > border
    shares = [np.mean(likes[classes == value] == (value == 0)) for value in (0, 1) if np.any(classes == value)]
    return {
        "auc": auc_pooled(scores, _FEEDBACK[classes]),
        "accuracy": float(np.mean(probabilities.argmax(axis=1) == classes)),
        "majority_accuracy": float(np.bincount(classes).max() / len(classes)),
        "balanced_accuracy": float(np.mean(shares)) if shares else float("nan"),
        "calibration_error": calibration_error(probabilities, classes),
        "mentions": len(classes),
        **{VALENCES[value]: int(np.sum(classes == value)) for value in range(len(VALENCES))},
    }


class Predictor:
    """Logits of all folds' models for examples, with the same compiled programs for all parameters."""

    def __init__(self, model: ValenceModel):
        self._apply = jit_over_rows(lambda params, batch: apply_folds(model, params, batch))

    def __call__(self, params: Tree, examples: ValenceExamples, batch_size: int = _PREDICTION_BATCH) -> np.ndarray:
        """Logits [K, n, C]."""
        logits = None
        for batch in Batches.in_order(examples, _shapes(examples), batch_size):
            values = np.asarray(self._apply(params, {name: batch[name] for name in _MODEL_INPUTS}))
            if logits is None:
                logits = np.zeros((len(values), len(examples), values.shape[-1]), np.float32)
            real = batch["example_mask"]
            logits[:, batch["example"][real]] = values[:, real]
        assert logits is not None  # Batches refuses an empty sequence
        return logits


def apply_folds(model: ValenceModel, params: Tree, batch: Batch, key: jax.Array | None = None) -> jax.Array:
    """Logits [K, B, C] of the K folds' models; with a key, in training."""
    inputs = [jnp.asarray(batch[name]) for name in _MODEL_INPUTS]

    def of_fold(of_one: Tree) -> jax.Array:
        rngs = None if key is None else {"dropout": key}
        return model.apply({"params": of_one}, *inputs, train=key is not None, rngs=rngs)

    return jax.vmap(of_fold)(params)


def fold_loss(model: ValenceModel, class_weights: np.ndarray, folds: int) -> Loss:
    """Class-weighted cross-entropy of all folds' models; an example of a fold is no loss of that fold's model.

    Args:
      model: the model.
      class_weights: [C].
      folds: K.
    """

    def loss(params, frozen, batch, key):
        logits = apply_folds(model, params, batch, key)  # [K, B, C]
        values = optax.softmax_cross_entropy_with_integer_labels(logits, batch["target"][None])
        learned_from = jnp.arange(folds)[:, None] != batch["fold"][None]
        weight = jnp.asarray(class_weights, jnp.float32)[batch["target"]] * batch["example_mask"] * learned_from
        return jnp.sum(values * weight), jnp.sum(weight), {}

    return loss


def _shapes(*sets: ValenceExamples) -> tuple[dict[str, int], ...]:
    longest = max(int(examples.lengths()["T"].max()) for examples in sets)
    return bucket_shapes(list(sets), {"T": [32 * 2**i for i in range(16) if 16 * 2**i < longest] or [32]})


def valence_examples(
    experiment: ExperimentContext, mentions: Sequence[MentionInContext], states: TextStates, folds: Sequence[int] | None
) -> ValenceExamples:
    """The examples of mentions, see `ValenceExamples`."""
    return ValenceExamples(
        mentions,
        states,
        experiment.encoder.tokenizer,
        limit=experiment.config.encoder.turn_tokens,
        folds=folds,
    )


def train(experiment: ExperimentContext, spec: StageSpec) -> None:
    """Trains a model for each fold, calibrates and measures them, and labels every seeker mention of the corpus."""
    config, folder = experiment.config.valence, experiment.folder(spec)
    mentions, is_seeker, fold, split = _corpus_mentions(experiment)
    classes = np.array([-1 if mention.class_index is None else mention.class_index for mention in mentions], np.int64)
    in_training = (split == Split.TRAIN) & (classes >= 0)
    if not (in_training & (classes == 0)).any() or not (in_training & (classes == 1)).any():
        raise ValueError(
            "no liked or no disliked films in the training dialogues: valence is learned from the seekers' forms "
            "(`feedback` of mentions), which this corpus lacks"
        )
    all_examples = valence_examples(experiment, mentions, experiment.turn_states, fold.tolist())
    training = all_examples.select(np.flatnonzero(in_training))
    held_out_at = np.flatnonzero(in_training & is_seeker)
    held_out = all_examples.select(held_out_at)
    validation_at = np.flatnonzero((split == Split.VALID) & (classes >= 0) & is_seeker)
    counts = np.bincount(classes[in_training], minlength=len(VALENCES))
    weights = (len(training) / np.maximum(counts, 1) / len(VALENCES)) ** config.balance
    model, predict = valence_model(experiment), Predictor(valence_model(experiment))

    def evaluate(params, _) -> dict[str, float]:
        logits = combine(predict(params, held_out), held_out.folds)
        auc = auc_pooled(logits[:, 0] - logits[:, 1], _FEEDBACK[classes[held_out_at]])
        right = np.mean(logits.argmax(axis=1) == classes[held_out_at])
        return {"auc": auc if np.isfinite(auc) else 0.5, "accuracy": float(right)}

    best = fit(
        folder,
        params=init(model, experiment.key(spec), training.spec, config.folds),
        frozen={},
        loss=fold_loss(model, weights, config.folds),
        batches=Batches(training, _shapes(training), config.train.batch_size, seed=config.train.seed),
        evaluate=evaluate,
        select="auc",
        mode="max",
        config=config.train,
        rules=valence_rules(),
        describe=lambda numbers: [
            f"{training.mentions[i].conversation}, turn {training.mentions[i].turn}" for i in numbers
        ],
        record=experiment.record(spec),
    ).params

    regressions = ngram_valence.fit(
        [hashed(ngrams(mention), config.ngram_buckets) for mention in training.mentions],
        classes[in_training],
        fold[in_training],
        count=config.folds,
        buckets=config.ngram_buckets,
        inverse_strength=config.inverse_strength,
    )
    write_params(folder / "ngrams.safetensors", vars(regressions), {})
    seeker_at = np.flatnonzero(is_seeker)
    both = np.zeros((len(mentions), len(VALENCES) + ngram_valence.SCORES))
    seekers = all_examples.select(seeker_at)
    both[seeker_at] = combine(_scores(predict, best, regressions, seekers), seekers.folds)
    calibration = calibrate(both[held_out_at], classes[held_out_at])
    labels = calibration.probabilities(both)
    _write_labels(experiment, spec, [mentions[i] for i in seeker_at], labels[seeker_at])
    label = _labeller(experiment, best, regressions, calibration)
    results: dict[str, Any] = {
        "calibration": asdict(calibration),
        "labels": list(VALENCES),
        "out_of_fold": measure(labels[held_out_at], classes[held_out_at], calibration.border),
        "contrasts": measure_contrasts(label, calibration.border),
    }
    if len(validation_at):
        train_mentions, valid_mentions = held_out.mentions, [mentions[i] for i in validation_at]
        results["valid"] = measure(labels[validation_at], classes[validation_at], calibration.border)
        feedback = _FEEDBACK[classes[validation_at]]
        results["valid_alone"] = {
            "states": auc_pooled(both[validation_at, 0] - both[validation_at, 1], feedback),
            "ngrams": auc_pooled(both[validation_at, len(VALENCES)], feedback),
        }
        results["tfidf"] = {
            name: _tfidf_auc(train_mentions, valid_mentions, window)
            for name, window in (("window", config.baseline_window), ("turn", None))
        }
    write_json(folder / "valence.json", results)


def _scores(
    predict: Predictor,
    params: Tree,
    regressions: NgramModel,
    examples: ValenceExamples,
    batch_size: int = _PREDICTION_BATCH,
) -> np.ndarray:
    """What both models of each fold say of mentions: float32 [K, n, C + 2]."""
    grams = [hashed(ngrams(mention), len(regressions.idf)) for mention in examples.mentions]
    return np.concatenate([predict(params, examples, batch_size), regressions.scores(grams)], axis=2)


def init(model: ValenceModel, key: jax.Array, spec: BatchSpec, folds: int) -> Tree:
    """Initial parameters of the models of all folds, stacked; of the spec only shapes and dtypes are used."""
    zeros = spec.zeros(1)
    inputs = [jnp.asarray(zeros[name]) for name in _MODEL_INPUTS]
    return jax.vmap(lambda of_fold: model.init(of_fold, *inputs)["params"])(jax.random.split(key, folds))


def _corpus_mentions(
    experiment: ExperimentContext,
) -> tuple[list[MentionInContext], np.ndarray, np.ndarray, np.ndarray]:
    """The mentions that are labelled or trained on, whether a seeker makes them, their dialogue's fold and split."""
    settings, corpus = experiment.config.valence, experiment.corpus
    found: list[tuple[MentionInContext, bool, Split]] = []
    for split in Split:
        conversations = corpus.split(split)
        found += [(mention, True, split) for mention in mentions_of(conversations)]
        if settings.recommender_films and split == Split.TRAIN:
            found += [
                (mention, False, split)
                for mention in mentions_of(conversations, Role.RECOMMENDER)
                if mention.class_index is not None
            ]
    if not found:
        raise ValueError("no mentions in seekers' turns: link the corpus's entities and prepare it again")
    folds = [fold_of(m.conversation, settings.folds) if split == Split.TRAIN else -1 for m, _, split in found]
    return (
        [mention for mention, _, _ in found],
        np.array([seeker for _, seeker, _ in found]),
        np.array(folds),
        np.array([split for _, _, split in found]),
    )


def _write_labels(
    experiment: ExperimentContext, spec: StageSpec, mentions: Sequence[MentionInContext], labels: np.ndarray
) -> None:
    ids = experiment.corpus.graph.ids
    columns: dict[str, Sequence[Any]] = {
        "conversation": [mention.conversation for mention in mentions],
        "turn": [mention.turn for mention in mentions],
        "start": [mention.mention.start for mention in mentions],
        "end": [mention.mention.end for mention in mentions],
        "entity": [None if m.mention.entity is None else ids.get(m.mention.entity) for m in mentions],
        **{name: labels[:, column].tolist() for column, name in enumerate(VALENCES)},
    }
    types = {"conversation": "string", "turn": "int64", "start": "int64", "end": "int64", "entity": "int64"}
    write_parquet(experiment.folder(spec) / "valence.parquet", columns, types | dict.fromkeys(VALENCES, "float64"))


# -------------------------------------------------------------------------------------------------- one turn at a time


Labeller = Callable[[Sequence[Turn], int], np.ndarray]
"""(turns so far with their mentions, index of one) -> like, dislike and unclear of its mentions, float64 [n, 3]."""


def labeller(experiment: ExperimentContext) -> Labeller:
    """A function that labels the mentions of one turn of a running dialogue, with the mean of all folds' models.

    Raises:
      ValueError: the stage is not trained.
    """
    record = json.loads((experiment.folder("valence") / "valence.json").read_text(encoding="utf-8"))["calibration"]
    calibration = Calibration(tuple(map(tuple, record["weights"])), tuple(record["bias"]), tuple(record["prior"]))
    regressions = NgramModel(**read_params(experiment.folder("valence") / "ngrams.safetensors"))
    return _labeller(experiment, experiment.params("valence"), regressions, calibration)


def _labeller(
    experiment: ExperimentContext, params: Tree, regressions: NgramModel, calibration: Calibration
) -> Labeller:
    params = jax.tree.map(jnp.asarray, params)
    predict = Predictor(valence_model(experiment))

    def label(turns: Sequence[Turn], index: int) -> np.ndarray:
        mentions = mentions_in_turn("", turns, index)
        if not mentions:
            return np.zeros((0, len(VALENCES)))
        texts = [with_role(turn.role, turn.text) for turn in mentions[0].turns]
        states = experiment.encode_turns(texts, label="encode", cached=False)
        examples = valence_examples(experiment, mentions, states, None)
        scores = _scores(predict, params, regressions, examples, batch_size=8)
        return calibration.probabilities(scores.mean(axis=0))

    return label


def measure_contrasts(label: Labeller, border: float) -> dict[str, Any]:
    """How well things that are liked and disliked in one sentence are told apart, on `emotion/contrasts.jsonl`.

    `pairs` is the share of (liked, disliked) pairs of a sentence with the liked one preferred; `mentions` the share of
    mentions whose preference is on the right side of `border`; `sentences` the share of sentences with all mentions on
    the right side; `wrong` lists the others, with the distance from the border.
    """
    pairs, sides, wrong = [], [], []
    sentences = contrasts.read()
    for contrast in sentences:
        mentions = contrast.turn.mentions
        scores = preference(label([contrast.turn], 0))
        codes = _FEEDBACK[[m.class_index for m in mentions_in_turn("", [contrast.turn], 0)]]  # type: ignore[index]
        liked, disliked = scores[codes == LIKE], scores[codes == DISLIKE]
        pairs += (liked[:, None] > disliked[None]).ravel().tolist()
        right = (scores > border) == (codes == LIKE)
        sides.append(right.tolist())
        if not right.all():
            names = [f"{mention.name} {score - border:+.2f}" for mention, score in zip(mentions, scores, strict=True)]
            wrong.append({"text": contrast.turn.text, "preference": names})
    return {
        "pairs": float(np.mean(pairs)),
        "mentions": float(np.mean([side for of_sentence in sides for side in of_sentence])),
        "sentences": float(np.mean([all(of_sentence) for of_sentence in sides])),
        "count": len(sentences),
        "wrong": wrong,
    }


# ------------------------------------------------------------------------------------------------------------ baseline


def window_text(mention: MentionInContext, characters: int | None) -> str:
    """The words around a mention, which itself is left out; those of the whole turn where `characters` is None."""
    text, span = mention.own.text, mention.mention
    start = 0 if characters is None else max(0, span.start - characters)
    end = len(text) if characters is None else span.end + characters
    return f"{text[start : span.start]} xmentionx {text[span.end : end]}"


def _tfidf_auc(
    training: Sequence[MentionInContext], validation: Sequence[MentionInContext], characters: int | None
) -> float:
    """AUC on validation of a class-weighted logistic regression over TF-IDF of words and word pairs, the bar to beat.

    Args:
      training: seeker mentions with feedback; unclear ones are left out.
      validation: the same of the validation split.
      characters: on each side of the mention; None reads the whole turn, without knowing which mention is meant.
    """
    answered = [mention for mention in training if mention.class_index in (0, 1)]
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    inputs = vectors.fit_transform([window_text(mention, characters) for mention in answered])
    classes = [mention.class_index for mention in answered]
    if len(set(classes)) < 2:
        return float("nan")
    regression = LogisticRegression(C=0.3, class_weight="balanced", solver="liblinear").fit(inputs, classes)
    scores = -regression.decision_function(vectors.transform([window_text(m, characters) for m in validation]))
    return auc_pooled(scores, _FEEDBACK[[mention.class_index for mention in validation]])  # type: ignore[index]
