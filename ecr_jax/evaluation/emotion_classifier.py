"""What the stage `emotion` measured of its classifier, as part of a report."""

from __future__ import annotations

import json

from ecr_jax.config import Config
from ecr_jax.data.schema import Split
from ecr_jax.emotion.labels import EMOTIONS
from ecr_jax.evaluation.rows import ReportRow

_METRICS = (
    ("classifier", "emotion_recall@2", "recall@2"),
    ("classifier", "emotion_macro_f1", "macro_f1"),
    ("classifier", "emotion_accuracy", "accuracy"),
    ("majority", "emotion_recall@2", "majority_recall@2"),
)
"""(model, metric in the report, name in classifier.json)."""


def classifier_report(config: Config, split: Split) -> tuple[list[ReportRow], dict[str, list[float]]]:
    """The report rows of the emotion classifier, and its confusion matrix: emotion -> counts of predicted emotions."""
    path = config.stage_folder("emotion") / "classifier.json"
    measured = json.loads(path.read_text(encoding="utf-8"))[split.value]
    own = "goemotions" if config.corpus.goemotions else config.corpus.name
    corpus = own if config.emotion.annotations is None else f"{config.corpus.name} by {config.emotion.annotations}"
    rows = [
        ReportRow(model, corpus, split.value, "all", metric, measured[name], None, None, measured["utterances"])
        for model, metric, name in _METRICS
    ]
    return rows, dict(zip(EMOTIONS, measured["confusion"], strict=True))
