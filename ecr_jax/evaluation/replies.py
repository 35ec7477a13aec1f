"""Text metrics of the recommendation responses of a run, and sample replies to show."""

from __future__ import annotations

from rich.console import Console

from ecr_jax.data.schema import Split
from ecr_jax.evaluation import text_metrics
from ecr_jax.evaluation.report import SampleReply
from ecr_jax.evaluation.rows import ReportRow
from ecr_jax.evaluation.significance import interval, resample
from ecr_jax.features.instances import conversation_instances, evenly_spaced, recommendation_instances
from ecr_jax.inference.agent import Agent

_MIN_CONTEXT_TURNS = 3
"""Turns before a sample reply; after fewer there is hardly a conversation to reply to."""


def response_metrics(agent: Agent, split: Split, console: Console) -> list[ReportRow]:
    """Text metrics of the recommendation responses u^r in place of `evaluation.replies` recommender turns.

    BLEU has intervals, which resample whole dialogues.
    """
    config, dialogues = agent.config, agent.experiment.dialogues(split)
    instances = evenly_spaced(conversation_instances(dialogues), config.evaluation.replies)
    if not instances:
        return []
    by_turn = agent.recommendation_responder.of_turns(split, dialogues, instances, console)
    responses = [by_turn[dialogues[instance.dialogue].id, instance.turn] for instance in instances]
    references = [dialogues[instance.dialogue].turns[instance.turn].masked for instance in instances]
    draws = resample(
        [dialogues[instance.dialogue].id for instance in instances], config.evaluation.resamples, config.seed
    )
    bleu = text_metrics.bleu_scores(responses, references)
    intervals = {
        f"bleu@{order}": interval(samples)
        for order, samples in zip(text_metrics.ORDERS, draws.means(bleu).T, strict=True)
    }
    rows = []
    for metric, value in text_metrics.measure(responses, references).items():
        low, high = intervals.get(metric) or (None, None)
        rows.append(ReportRow("ecr", config.corpus.label, split.value, "all", metric, value, low, high, len(responses)))
    return rows


def sample_replies(agent: Agent, split: Split) -> list[SampleReply]:
    """`evaluation.samples` replies in place of recommender turns that recommend films."""
    experiment = agent.experiment
    dialogues, graph = experiment.dialogues(split), experiment.corpus.graph
    instances = [instance for instance in recommendation_instances(dialogues) if instance.turn >= _MIN_CONTEXT_TURNS]
    instances = evenly_spaced(instances, agent.config.evaluation.samples)
    if not instances:
        return []
    contexts = [dialogues[instance.dialogue].turns[: instance.turn] for instance in instances]
    replies = agent.replies(contexts, states=experiment.turn_states)
    return [
        SampleReply(
            context=tuple((turn.role.value, turn.text) for turn in context),
            items=tuple(graph.title(item) for item in reply.items),
            response=reply.recommendation,
            emotional=reply.emotional,
            reference=dialogues[instance.dialogue].turns[instance.turn].text,
        )
        for instance, context, reply in zip(instances, contexts, replies, strict=True)
    ]
