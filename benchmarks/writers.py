"""What training brought to the writers of a run, on its validation split: perplexities, and the use of the prefix.

    python -m benchmarks.writers [--config demo] [--prepared prepared] [--runs runs] [--limit 200] [--json FILE]

Perplexity per token of the replies after their plans, and of the reviews of films that training did not see, by the
language model as it was and by the tuned one; the former ones have no adapter, and no knowledge prefix. Where the
conversation has a prefix, its replies are also measured without it and with that of another context; and the root mean
square of the kernel that makes its keys and values stands beside that of a new one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.common import Row, report
from ecr_jax import config as configs
from ecr_jax.data.schema import Split
from ecr_jax.features.batches import Batches, Examples, bucket_shapes
from ecr_jax.models.lm.language_model import Params
from ecr_jax.models.prompt import Prefix
from ecr_jax.runs.context import ExperimentContext, open_experiment
from ecr_jax.stages import conversation, response, tuning
from ecr_jax.stages.recommender import graph_arrays
from ecr_jax.training.evaluation import language_model_loss, mean_loss
from ecr_jax.training.step import Loss

_BATCH = 8


def perplexity(loss: Loss, params: Params, frozen: Mapping, examples: Examples) -> float:
    """e to the mean loss of the marked tokens."""
    (longest,) = bucket_shapes([examples], {"T": (int(examples.lengths()["T"].max()),)})
    batches = Batches.in_order(examples, (longest,), _BATCH)
    return math.exp(mean_loss(loss, batches)(params, frozen)["loss"])


def replies(experiment: ExperimentContext, limit: int) -> list[Row]:
    """Perplexities of recommendation responses."""
    settings = experiment.config.conversation
    model, tokenizer = conversation.language_model(experiment)
    params = jax.tree.map(jnp.asarray, experiment.params("conversation"))
    examples = conversation.examples(experiment, tokenizer, Split.VALID, limit)
    base = {"language_model": model.params}
    frozen = base | (graph_arrays(experiment) if settings.prefix else {})
    bare = dataclasses.replace(experiment.config, conversation=dataclasses.replace(settings, prefix=False))
    without = conversation.reply_loss(experiment.with_config(bare), model)
    tuned = perplexity(conversation.reply_loss(experiment, model), params, frozen, examples)
    rows = [Row("replies", "perplexity", tuned, "", *_beside(perplexity(without, {}, base, examples), tuned))]
    if not settings.prefix:
        return rows

    def of_another(prefix: Prefix) -> Prefix:
        return Prefix(*(jnp.roll(part, 1, axis=axis) for part, axis in zip(prefix, (1, 1, 0), strict=True)))

    others = conversation.reply_loss(experiment, model, of_another)
    for name, loss in {"without the prefix": without, "with another context's prefix": others}.items():
        other = perplexity(loss, params, frozen, examples)
        rows.append(Row(f"replies, {name}", "perplexity", other, "", *_beside(tuned, other)))
    kernel = np.asarray(params["encoder"]["key_values"]["kernel"])
    new = experiment.config.recommender.prompt.prefix_scale / math.sqrt(3 * kernel.shape[0])
    rms = float(np.sqrt(np.mean(kernel**2)))
    return [*rows, Row("kernel of the prefix's keys and values", "root mean square", rms, "", new, rms / new)]


def reviews(experiment: ExperimentContext, limit: int) -> list[Row]:
    """Perplexity of the reviews of films that training did not see."""
    settings = experiment.config.response
    model, tokenizer = response.language_model(experiment)
    params = jax.tree.map(jnp.asarray, experiment.params("response"))
    held_out = experiment.corpus.reviews.of_split(Split.VALID)[:limit]
    examples = response.examples(experiment, tokenizer, held_out)

    def loss(params, frozen, batch, key):
        return language_model_loss(model.module, tuning.variables(params, frozen, settings.adapter), batch, key)

    base = {"language_model": model.params}
    tuned = perplexity(loss, params, base, examples)
    return [
        Row("reviews of unseen films", "perplexity", tuned, "", *_beside(perplexity(loss, {}, base, examples), tuned))
    ]


def _beside(other: float, ours: float) -> tuple[float, float]:
    return other, other / ours


def main(
    config: str = "demo",
    prepared: Path = Path("prepared"),
    runs: Path = Path("runs"),
    limit: int = 200,
    json: Path | None = None,
) -> None:
    """Measures the writers of a trained run on its validation split.

    Args:
      config: name of the config whose run is trained.
      prepared: the folder of prepared corpora.
      runs: the folder of runs.
      limit: most replies, and most reviews.
      json: file to write the rows to.
    """
    experiment = open_experiment(dataclasses.replace(configs.load(config), prepared=prepared, runs=runs))
    rows = replies(experiment, limit) + reviews(experiment, limit)
    report(rows, "what training brought to the writers", json)


if __name__ == "__main__":
    tyro.cli(main)
