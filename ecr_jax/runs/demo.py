"""`ecr demo`: the main job on the embedded default, end to end."""

from __future__ import annotations

import dataclasses
import time

from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.config import Config
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Split
from ecr_jax.evaluation import run as evaluation
from ecr_jax.inference.agent import Agent
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import STAGES, train


def shortened(config: Config) -> Config:
    """The config with a few steps of each stage and a small corpus, in a run of its own."""
    changes: dict = {"name": f"{config.name}-short"}
    for stage in STAGES:
        settings = getattr(config, stage)
        few = dataclasses.replace(settings.train, epochs=None, steps=2, batch_size=4, eval_every=None)
        changes[stage] = dataclasses.replace(settings, train=few)
    for stage in ("conversation", "response"):
        changes[stage] = dataclasses.replace(changes[stage], valid_examples=4)
    changes["response"] = dataclasses.replace(changes["response"], max_review=24)
    changes["conversation"] = dataclasses.replace(changes["conversation"], max_reply=16)
    changes["corpus"] = dataclasses.replace(config.corpus, dialogues=40, film_reviews=60)
    changes["evaluation"] = dataclasses.replace(config.evaluation, replies=2, shown=1)
    return dataclasses.replace(config, **changes)


def run(*, short: bool, console: Console) -> None:
    """Prepares, trains every stage, evaluates on the test split, shows replies; what is trained is not trained again.

    Args:
      short: a few steps of each stage.
      console: where it is told.
    """
    started = time.monotonic()
    config = configs.load("demo")
    if short:
        config = shortened(config)
    console.rule("prepare")
    prepare(config, console=console)
    experiment = ExperimentContext(config)
    for stage in STAGES:
        console.rule(stage)
        train(config, stage, experiment=experiment)
    console.rule("report")
    report = evaluation.evaluate(config, split=Split.TEST, console=console, agent=Agent(experiment))
    for number, reply in enumerate(report.replies, start=1):
        console.rule(f"reply {number}")
        console.print(evaluation.turns_of(reply.context), style="dim", highlight=False, markup=False)
        console.print(f"  ecr: {reply.response}", style="bold", highlight=False, markup=False)
        console.print(f"       {reply.emotional}", highlight=False, markup=False)
    minutes = (time.monotonic() - started) / 60
    console.rule()
    console.print(f"done in {minutes:.1f} minutes. Talk with it:  .venv/bin/ecr chat {config.runs / config.name}")
