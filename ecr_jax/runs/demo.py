"""`ecr demo`: the whole pipeline on the built-in corpus, end to end."""

from __future__ import annotations

import dataclasses
import time

from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.config import Config, registry
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Role, Split
from ecr_jax.evaluation.run import evaluate
from ecr_jax.evaluation.terminal import print_summary
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages import train

CONTEXT_TURNS = 4
"""Turns of the context that are printed before a reply."""


def shortened(config: Config) -> Config:
    """The config with a few steps of each stage and a small corpus, in a run of its own."""
    for spec in registry.required_stages(config):
        few = dataclasses.replace(
            config.stage_settings(spec).train, epochs=None, steps=2, batch_size=4, eval_every=None
        )
        config = configs.replace(config, f"{spec.section}.train", few)
    for path, value in {
        "name": f"{config.name}-short",
        "conversation.valid_examples": 4,
        "conversation.max_reply": 16,
        "conversation.candidates": 0,  # to compile all that writes and checks candidates takes minutes
        "response.valid_examples": 4,
        "response.max_review": 24,
        "response.candidates": 0,
        "corpus.dialogues": 40,
        "corpus.film_reviews": 60,
        "evaluation.replies": 2,
        "evaluation.whole_replies": 2,
        "evaluation.samples": 1,
    }.items():
        config = configs.replace(config, path, value)
    return config


def run(*, short: bool, console: Console) -> None:
    """Prepares, trains every stage, evaluates on the test split, shows replies; what is complete is not done again.

    Args:
      short: a few steps of each stage.
      console: where progress and results are printed.
    """
    started = time.monotonic()
    config = configs.load("demo")
    if short:
        config = shortened(config)
    console.rule("prepare the built-in corpus")
    prepare(config, console=console)
    experiment = open_experiment(config)
    stages = registry.required_stages(config)
    for number, spec in enumerate(stages, start=1):
        console.rule(f"stage {number} of {len(stages)}: {spec.name}")
        console.print(f"learns {spec.summary}", style="dim")
        train(config, spec.name, experiment=experiment)
    console.rule("evaluate on the test split")
    report = evaluate(config, split=Split.TEST, console=Console(quiet=True), experiment=experiment)
    print_summary(report, console)
    for number, reply in enumerate(report.replies, start=1):
        console.rule(f"reply {number} of {len(report.replies)}")
        for role, text in reply.context[-CONTEXT_TURNS:]:
            speaker = "you" if role == Role.SEEKER else "ecr"
            console.print(f"  {speaker}: {text}", style="dim", highlight=False, markup=False)
        console.print(f"  ecr: {reply.response}", style="bold", highlight=False, markup=False)
        if reply.emotional:
            console.print(f"       {reply.emotional}", highlight=False, markup=False)
    console.rule(f"done in {(time.monotonic() - started) / 60:.1f} minutes")
    console.print(
        f"Talk with it:       .venv/bin/ecr chat {config.folder} --explain\n"
        f"Read the report:    {config.folder / Split.TEST / 'report.html'}\n"
        "Use your own data:  docs/data.md",
        highlight=False,
    )
